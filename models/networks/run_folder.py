"""The folder of a training run: names of its phases' folders, and the generator it ends with."""

from __future__ import annotations

from pathlib import Path

from shapeshd.errors import UsageError

PHASES = ("vae", "aae", "gan")
"""The phases of the paper's method, in their order; each begins with what the former left."""

FLOW = "flow"
"""The phase that needs no other."""

GENERATOR = "generator.safetensors"
"""The generator in the folder of a phase that is finished."""

CONFIG = "config.toml"
"""The configuration in the folder of a run."""


def is_run_folder(path: Path) -> bool:
    """Tell whether a folder is that of a run, or of one of its phases.

    A run that has not come to its first phase holds its configuration alone.
    """
    if (path / GENERATOR).is_file():
        return True
    phases = {*PHASES, FLOW}
    if path.name in phases and (path.parent / CONFIG).is_file():
        return True
    if not (path / CONFIG).is_file():
        return False
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    return bool(names & phases) or names == {CONFIG}


def last_generator(path: Path) -> Path:
    """Return the file of the generator of a run's last finished phase.

    Args:
        path: folder of a run, or of one of its phases.

    Raises:
        UsageError: if no phase is finished, or there is a flow beside other phases.
    """
    if (path / GENERATOR).is_file():
        return path / GENERATOR
    finished = [name for name in (*PHASES, FLOW) if (path / name / GENERATOR).is_file()]
    if not finished:
        raise UsageError(
            f"{path}: is the folder of a training, none of whose phases is finished: train on, by "
            "the same command"
        )
    if finished[-1] == FLOW and len(finished) > 1:
        raise UsageError(
            f"{path}: holds {finished[-2]} and {FLOW}: give {path / finished[-2]} or {path / FLOW}"
        )
    return path / finished[-1] / GENERATOR
