"""Finds the trained generators that come with the program, by names such as ``mini/contrast``.

A generator lies in ``models/weights/TIER/METHOD/PHASE``; phase 1, which several methods share, in
``TIER/vae``. Nothing here imports PyTorch, so that a wrong name is refused at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from shapeshd.errors import UsageError

from .run_folder import FLOW, GENERATOR, PHASES

PREFIX = "model:"
WEIGHTS = Path(__file__).parents[1] / "weights"
_ORDER = (*PHASES, FLOW)  # a method's last phase is the one that is meant


@dataclass(frozen=True)
class ShippedModel:
    """A trained generator that comes with the program.

    Attributes:
        name: such as "mini/vae" or "mini/contrast/aae".
        path: its checkpoint.
    """

    name: str
    path: Path

    @property
    def text(self) -> str:
        """What a command takes: ``model:mini/contrast/aae``."""
        return f"{PREFIX}{self.name}"


def shipped_models(folder: Path = WEIGHTS) -> list[ShippedModel]:
    """Return all of them: by tier and method, the phases of a method in their order."""
    found = [path.parent for path in folder.rglob(GENERATOR) if path.parent.name in _ORDER]
    found.sort(key=lambda at: (at.parent.parts, _ORDER.index(at.name)))
    return [ShippedModel(at.relative_to(folder).as_posix(), at / GENERATOR) for at in found]


def find_shipped(name: str, folder: Path = WEIGHTS) -> ShippedModel:
    """Return the generator of this name.

    Args:
        name: with or without ``model:``; ``TIER/METHOD/PHASE``, ``TIER/vae``, or ``TIER/METHOD``
            for the last phase of the method that is there.
        folder: where the weights lie.

    Raises:
        UsageError: naming those that there are, and those of a like name first.
    """
    wanted = name.removeprefix(PREFIX).strip("/")
    models = shipped_models(folder)
    for model in reversed(models):  # the last phase first
        method, _, _ = model.name.rpartition("/")
        if model.name == wanted or (method == wanted and method.count("/") == 1):
            return model
    if not models:
        raise UsageError(f"{PREFIX}{wanted}: this installation holds no trained generators")
    methods = {model.name.rpartition("/")[0] for model in models if model.name.count("/") == 2}
    like = get_close_matches(wanted, sorted({*methods, *(model.name for model in models)}))
    meant = f"did you mean {' or '.join(PREFIX + one for one in like)}? " if like else ""
    raise UsageError(
        f"{PREFIX}{wanted}: there is no such trained generator; {meant}there are "
        f"{', '.join(model.text for model in models)}"
    )
