"""What the registry knows of a kind of source, and what a source is opened from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shapeshd.errors import UsageError, named

from .options import SourceOptions
from .trust import require_trust

if TYPE_CHECKING:
    from .base import Source


Place = Literal["file", "folder", "nothing"]


@dataclass(frozen=True)
class OpenRequest:
    """What a source is opened from.

    Attributes:
        text: what the user named, without the kind's prefix.
        name: what the user called it, for messages and results.
        seed: of the latents of a generator; images that exist have none.
        trust: whether code that comes with the source may run.
        device: where a network runs.
        options: what the source does not say itself.
    """

    text: str
    name: str = ""
    seed: int = 0
    trust: bool = False
    device: str = "cpu"
    options: SourceOptions = field(default_factory=SourceOptions)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.text)

    @property
    def path(self) -> Path:
        """The text as a path, ``~`` replaced."""
        return Path(self.text).expanduser()


@dataclass(frozen=True)
class Candidate:
    """What the user named, and what lies there, for a kind to say whether it is its own.

    Attributes:
        text: what the user named.
        path: the text as a path.
        place: what is there: a "file", a "folder", or "nothing".
        head: the first 8 bytes of a file.
        options: what the user said of it.
    """

    text: str
    path: Path
    place: Place
    head: bytes
    options: SourceOptions

    def ends_with(self, suffixes: tuple[str, ...]) -> bool:
        """Tell whether the name ends with one of these, in any case."""
        name = self.path.name.lower()
        return any(name.endswith(suffix) and name != suffix for suffix in suffixes)


Opener = Callable[[OpenRequest], "Source"]
Examiner = Callable[[OpenRequest], object]


@dataclass(frozen=True, kw_only=True)
class SourceKind:
    """A kind of source: how it is recognized, what may be said about it, what opens it.

    A source is of this kind if the text begins with `prefix`. Else something of `places` must be
    there; a file must end with one of `suffixes` or begin with one of `magic`, where there are
    any; and `matches` must say so. What opens it is loaded only then.

    Attributes:
        name: short, such as "onnx".
        what: in messages, with its article: "an ONNX model".
        shown: how it is named in lists: ".onnx".
        summary: one line for the tables of the help and the documentation.
        opener: makes the source of a request; within this project "module:function".
        prefix: such as "cmd:".
        suffixes: of files, with the dot, in small letters.
        magic: first bytes of files, at most 8.
        places: what may lie there: a "file", a "folder", or "nothing", for texts that are no path.
        matches: further condition, if there is one.
        options: the fields of `SourceOptions` that mean something to it, beside `batch`.
        generates: whether it makes images without end from a seed; else it holds some.
        trust: whether code in it runs, so that the user must trust it: "never", "always", or
            "sometimes", where the opener asks by `require_trust`.
        danger: why trust is needed: "a TorchScript file holds code that runs when it is used".
        examine: raises if the source is not what it seems, before trust is asked for; it must run
            nothing of it.
        lacks: names the options that it surely needs and that are not given, each with what it
            says, so that they are asked for together with trust; it must run nothing.
        whole_name: whether what follows the prefix is no path, of which the last component would
            name a result's folder.
    """

    name: str
    what: str
    shown: str
    summary: str
    opener: str | Opener
    prefix: str = ""
    suffixes: tuple[str, ...] = ()
    magic: tuple[bytes, ...] = ()
    places: tuple[Place, ...] = ("file",)
    matches: Callable[[Candidate], bool] | None = None
    options: tuple[str, ...] = ()
    generates: bool = False
    trust: Literal["never", "sometimes", "always"] = "never"
    danger: str = ""
    examine: str | Examiner | None = None
    lacks: str | Callable[[OpenRequest], Sequence[str]] | None = None
    whole_name: bool = False

    def fits(self, candidate: Candidate) -> bool:
        """Tell whether a candidate, which has no prefix, is of this kind."""
        named = self.knows_content(candidate) or candidate.ends_with(self.suffixes)
        if candidate.place not in self.places or not (named or self.matches is not None):
            return False
        if candidate.place == "file" and (self.suffixes or self.magic) and not named:
            return False
        return self.matches is None or self.matches(candidate)

    def knows_content(self, candidate: Candidate) -> bool:
        """Tell whether a file begins as those of this kind do."""
        return bool(self.magic) and candidate.head.startswith(self.magic)

    def check(self, request: OpenRequest) -> OpenRequest:
        """Refuse what can be refused before what opens a source of this kind is loaded.

        Returns:
            The request without the kind's prefix.

        Raises:
            UsageError: if it is not what it seems, is not trusted, or an option means nothing or
                is missing; all that is missing is named at once.
        """
        if self.prefix and request.text.startswith(self.prefix):
            request = replace(request, text=request.text.removeprefix(self.prefix))
        if self.examine is not None:
            _loaded(self.examine)(request)
        missing = () if self.lacks is None else _loaded(self.lacks)(request)
        asked = " and ".join(missing)
        if asked and "range" in self.options and request.options.range == "auto":
            asked += f"; {named('range')}, too, if the images' values leave it open"
        if self.trust == "always":
            require_trust(request.trust, request.name, self.danger, asked)
        request.options.allow(*self.options, source=request.name, what=self.what)
        for file in request.options.depends:
            if not Path(file).expanduser().exists():
                raise UsageError(f"{named('depends', file)}: there is no such file or folder")
        if asked:
            raise UsageError(f"{request.name}: does not say all that is needed: give {asked}")
        return request

    def open(self, request: OpenRequest) -> Source:
        """Open a source of this kind.

        Raises:
            UsageError: as of `check`, or if what opens it finds that it must be told more.
            ShapesHDError: if it is damaged.
        """
        source: Source = _loaded(self.opener)(self.check(request))
        return source


def _loaded(function: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, loading the project's own, "module:function" below this package."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(import_module(f".{module}", __package__), name)
    return found
