"""Trackers: where a training's numbers and pictures can be watched while it runs.

`Tracker` is all that a training knows of one, so a program can lend its own. Two come along:
TensorBoard, and Weights & Biases, whose run stays on this machine where no account is signed in.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from shapeshd.errors import MissingPackageError, UsageError, named
from shapeshd.support.progress import note

_PROJECT = "shapeshd"
_RUN_ID = "wandb-id.txt"


class Tracker(Protocol):
    """Shows a training's numbers and pictures."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers of a step by their names, such as "score/divergence"."""
        ...

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        """Show pictures of a step, PNG files by what they show."""
        ...

    def close(self) -> None:
        """Write what is left, and end; of a program's own tracker, the program calls it."""
        ...


class TensorBoard:
    """Writes TensorBoard's file into the folder of a training.

    Args:
        folder: of the training.
        step: steps taken; what was written of later ones is dropped.
        settings: of the training, which TensorBoard does not show.

    Raises:
        MissingPackageError: if it is not installed.
    """

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers of a step by their names."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        """Show pictures of a step."""
        import numpy as np
        import PIL.Image

        for name, path in files.items():
            with PIL.Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image(name, pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """Sends a training to Weights & Biases, or keeps it in its folder for ``wandb sync``.

    A training that goes on, goes on in the same run: its name there is kept in the folder. The
    variables of wandb, such as ``WANDB_MODE`` and ``WANDB_PROJECT``, are heard. Numbers stand over
    ``step``.

    Args:
        folder: of the training.
        step: steps taken.
        settings: of the training, shown as its configuration.

    Raises:
        MissingPackageError: if wandb is not installed.
    """

    def __init__(self, folder: Path, step: int, settings: Mapping[str, Any]) -> None:
        try:
            import wandb as library
        except ImportError:
            raise _missing("wandb") from None
        wandb: Any = library  # whose types change from version to version
        mode = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
        if mode == "offline":
            note(f"{folder}: wandb keeps the run there; `wandb sync` sends it")
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / _RUN_ID
        if not step or not kept.exists():
            kept.write_text(f"{uuid.uuid4().hex[:12]}\n", encoding="utf-8")
        self._wandb = wandb
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=f"{folder.resolve().parent.name}/{folder.name}",
            id=kept.read_text(encoding="utf-8").strip(),
            resume="allow",
            dir=str(folder),
            mode=mode,
            config=dict(settings),
            reinit="create_new",
            # The program's code, the machine's state and what is printed are not the training's.
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True
            ),
        )
        self._run.define_metric("*", step_metric="step")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers of a step by their names."""
        self._run.log({**values, "step": step})

    def pictures(self, step: int, files: Mapping[str, Path]) -> None:
        """Show pictures of a step."""
        shown = {name: self._wandb.Image(str(path)) for name, path in files.items()}
        self._run.log({**shown, "step": step})

    def close(self) -> None:
        """End the run."""
        self._run.finish()


TRACKERS: dict[str, Callable[[Path, int, Mapping[str, Any]], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
}


def open_trackers(
    names: Sequence[str], folder: Path, step: int, settings: Mapping[str, Any]
) -> list[Tracker]:
    """Open the trackers of a training.

    Args:
        names: of `TRACKERS`.
        folder: of the training.
        step: steps taken.
        settings: of the training, ready for JSON.

    Raises:
        UsageError: if there is none of a name.
        MissingPackageError: if one is not installed.
    """
    opened: list[Tracker] = []
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"no tracker {name!r} is known: say {' or '.join(TRACKERS)}")
        opened.append(TRACKERS[name](folder, step, settings))
    return opened


def scalars(values: Mapping[str, Any], where: str = "") -> Iterable[tuple[str, float]]:
    """Yield the numbers of nested tables with their names, such as "score/divergence"."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from scalars(value, f"{where}{name}/")
        elif isinstance(value, (int, float)):
            yield f"{where}{name}", value


def _missing(name: str) -> MissingPackageError:
    """Return the error of a tracker whose package, and extra, are called as it is."""
    return MissingPackageError.of(name, name, named("tracker", name))
