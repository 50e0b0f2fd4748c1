"""What a user can say about a source that it does not say itself.

`SourceOptions` is the one table of these options: the commands' options, the refusals of those
that mean nothing to a source, and the table in the documentation are made from its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError, named

from .option_values import parse_frame_size, parse_labels, parse_shape

Range = Literal["auto", "uint8", "unit", "symmetric"]
Layout = Literal["auto", "nchw", "nhwc"]
LabelForm = Literal["onehot", "index"]
Noise = Literal["const", "random", "none"]
Section = Literal["images", "generator", "process"]
SolverName = Literal["euler", "heun", "midpoint"]

DEFAULT_BATCH = 64
"""Images that a generator makes at a time, unless the user says another number."""

RANGES: tuple[Range, ...] = get_args(Range)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SOLVERS: tuple[SolverName, ...] = get_args(SolverName)
LABEL_FORMS: tuple[LabelForm, ...] = get_args(LabelForm)
NOISES: tuple[Noise, ...] = get_args(Noise)

ENTRY_HINT = "write a function that loads it and makes images, and give file.py:function"
"""What to do with a network that is not read."""

HANDED_ON: dict[str, tuple[str, ...]] = {
    "steps": ("steps",),
    "truncation": ("truncation", "truncation_psi"),
    "truncation_cutoff": ("truncation_cutoff",),
    "noise": ("noise", "noise_mode"),
}
"""Options that a function of the user's gets, if it has a parameter of one of these names."""


@dataclass(frozen=True)
class Option:
    """What is known of a field of `SourceOptions`.

    Attributes:
        name: of the field.
        type: of its values, other than None.
        default: where the user says nothing.
        help: one sentence or two.
        shown: what stands for a value in the command's help; "" for the type's name.
        choices: the values that there are; empty where any is possible.
        lacking: what a source is that the option means nothing to, "which takes no latents".
        section: where it stands in the command's help: it is about how images are read, what a
            generator draws, or how foreign code runs.
        draws: whether it decides what a generator draws, so that several values can be compared.
    """

    name: str
    type: type
    default: Any
    help: str
    shown: str
    choices: tuple[str, ...]
    lacking: str
    section: Section
    draws: bool


def _about(
    section: Section,
    of: type,
    text: str,
    *,
    lacking: str = "",
    shown: str = "",
    choices: tuple[str, ...] = (),
    draws: bool = False,
) -> dict[str, Any]:
    """Return what a field of `SourceOptions` carries with it; see `Option`."""
    return {
        "section": section,
        "type": of,
        "help": text,
        "lacking": lacking,
        "shown": shown,
        "choices": choices,
        "draws": draws,
    }


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source; `OPTIONS` says of each field what it means, and to which values.

    Raises:
        UsageError: if a value is impossible.
    """

    range: Range = field(
        default="auto",
        metadata=_about(
            "images",
            str,
            "Say where the images' values lie: uint8 is 0 to 255, unit [0, 1], symmetric [-1, 1]. "
            "auto infers it, or refuses where that is a guess.",
            choices=RANGES,
            lacking="whose values are 0 to 255",
        ),
    )
    layout: Layout = field(
        default="auto",
        metadata=_about(
            "images",
            str,
            "Say the order of the images' axes. auto looks for the axis of 3.",
            choices=LAYOUTS,
            lacking="whose layout is known",
        ),
    )
    latent_dim: int | None = field(
        default=None,
        metadata=_about(
            "generator",
            int,
            "Give latents N components, where the model does not say how many.",
            shown="N",
            lacking="which takes no latents",
        ),
    )
    latent_shape: tuple[int, ...] | None = field(
        default=None,
        metadata=_about(
            "generator",
            str,
            "Give latents several axes, such as 100,1,1. What fails on (n, 100) is tried with that "
            "one by itself.",
            shown="C,H,W",
            lacking="which takes no latents of a shape",
        ),
    )
    batch: int = field(
        default=DEFAULT_BATCH,
        metadata=_about("process", int, "Let a generator make N images at a time.", shown="N"),
    )
    key: str | None = field(
        default=None,
        metadata=_about(
            "images",
            str,
            "Take the array of this name from an npz or HDF5 file, or the image of this name from "
            "each sample of a tar file (what follows the first dot), where there are several.",
            shown="NAME",
            lacking="which has no named arrays",
        ),
    )
    timeout: float = field(
        default=600.0,
        metadata=_about(
            "process",
            float,
            "Wait so long for code in a process of its own to load or to make a batch, and for "
            "each image of a command.",
            shown="SECONDS",
            lacking="which has no process of its own",
        ),
    )
    frame_size: str | None = field(
        default=None,
        metadata=_about(
            "images",
            str,
            "Say how wide and high the images are that a command writes, in pixels.",
            shown="WxH",
            lacking="which knows its images' size",
        ),
    )
    steps: int | None = field(
        default=None,
        metadata=_about(
            "generator",
            int,
            "Go from noise to image in N steps.  [default: the pipeline's or the flow's own]",
            shown="N",
            draws=True,
            lacking="which takes no steps from noise to image",
        ),
    )
    solver: SolverName | None = field(
        default=None,
        metadata=_about(
            "generator",
            str,
            "Solve a flow's equation by this method.  [default: the checkpoint's own]",
            choices=SOLVERS,
            draws=True,
            lacking="which solves no equation",
        ),
    )
    truncation: float | None = field(
        default=None,
        metadata=_about(
            "generator",
            float,
            "Draw each style w towards the average: mean + PSI (w - mean), PSI from 0 to 1. Below "
            "1, images are better and vary less.  [default: 1]",
            shown="PSI",
            draws=True,
            lacking="which has no styles to truncate",
        ),
    )
    truncation_cutoff: int | None = field(
        default=None,
        metadata=_about(
            "generator",
            int,
            "Truncate the first N styles alone, those of the coarse layers.  [default: all]",
            shown="N",
            draws=True,
            lacking="which has no styles to truncate",
        ),
    )
    noise: Noise | None = field(
        default=None,
        metadata=_about(
            "generator",
            str,
            "Give a StyleGAN's layers their fixed noise (const), new noise for each sample "
            "(random), or none.  [default: const]",
            choices=NOISES,
            draws=True,
            lacking="which has no noise in its layers",
        ),
    )
    architecture: str | None = field(
        default=None,
        metadata=_about(
            "generator",
            str,
            "Say whose tensors a file of another project holds, .safetensors or a state_dict.",
            shown="stylegan2|dcgan",
            lacking="which says itself what it is",
        ),
    )
    labels: str | None = field(
        default=None,
        metadata=_about(
            "generator",
            str,
            "Draw these classes of a conditional generator, each as likely as any other.  "
            "[default: uniform]",
            shown="uniform|3|3,5,9|0-9",
            draws=True,
            lacking="which takes no class labels",
        ),
    )
    classes: int | None = field(
        default=None,
        metadata=_about(
            "generator",
            int,
            "Say that a conditional generator has N classes, where the model does not say it.",
            shown="N",
            lacking="which takes no class labels",
        ),
    )
    label_form: LabelForm | None = field(
        default=None,
        metadata=_about(
            "generator",
            str,
            "Give TorchScript its labels in this form: onehot is float32 (n, classes), index is "
            "int64 (n,).",
            choices=LABEL_FORMS,
            lacking="which leaves no choice of how labels go in",
        ),
    )
    code_dir: str | None = field(
        default=None,
        metadata=_about(
            "process",
            str,
            "Load and run a network pickle by its authors' code, which lies in this folder.",
            shown="FOLDER",
            lacking="which needs no code of its authors",
        ),
    )
    depends: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "process",
            tuple,
            "Name a file or folder that the code loads, such as its weights: a result of others is "
            "not taken for its own. May be given several times.",
            shown="FILE",
            lacking="whose own files are all that it is made of",
        ),
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "depends", tuple(self.depends))  # JSON gives a list
        if self.latent_shape is not None:
            object.__setattr__(self, "latent_shape", parse_shape(self.latent_shape))
        for option in OPTIONS.values():
            value = getattr(self, option.name)
            if value is None and option.default is None:
                continue
            if option.choices and value not in option.choices:
                raise UsageError(
                    f"{named(option.name)} must be one of {', '.join(option.choices)}, not "
                    f"{value!r}"
                )
            if option.type is int:
                whole_number(named(option.name), value, 1)
        if not 0 < self.timeout < float("inf"):
            raise UsageError(f"{named('timeout')} must be above 0 seconds, not {self.timeout}")
        if self.truncation is not None and not 0 <= self.truncation <= 1:  # NaN is not, either
            raise UsageError(
                f"{named('truncation')} must be between 0 and 1, not {self.truncation:g}"
            )
        if self.truncation_cutoff is not None and self.truncation is None:
            raise UsageError(f"{named('truncation_cutoff')} goes with {named('truncation')}")
        if self.frame_size is not None:
            parse_frame_size(self.frame_size)
        if self.labels is not None:
            parse_labels(self.labels)

    @classmethod
    def given(cls, options: Mapping[str, Any]) -> SourceOptions:
        """Return those that a command has, by their names here; it may have others, too."""
        return cls(**{name: value for name, value in options.items() if name in OPTIONS})

    def allow(self, *names: str, source: str, what: str) -> None:
        """Refuse options that mean nothing to a source, so that none is silently ignored.

        `batch` always passes, and ``range="uint8"`` where the images are that anyway.

        Args:
            names: the fields that mean something.
            source: what the user called the source.
            what: what it is, such as "an image folder".

        Raises:
            UsageError: naming the first option that is set and means nothing.
        """
        for option in OPTIONS.values():
            value: Any = getattr(self, option.name)
            if option.name in (*names, "batch") or value == option.default:
                continue
            if (option.name, value) == ("range", "uint8"):
                continue
            raise UsageError(
                f"{source}: is {what}, {option.lacking}: leave out {named(option.name)}"
            )


OPTIONS: dict[str, Option] = {
    one.name: Option(one.name, default=one.default, **one.metadata) for one in fields(SourceOptions)
}
"""All options by their names, in the order of the commands' help."""
