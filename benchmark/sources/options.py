"""What a user can say about a source that it does not say itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from shapeshd.checks import whole_number
from shapeshd.errors import UsageError

from .label_text import LABEL_FORMS, LabelForm, parse_labels

Range = Literal["auto", "uint8", "unit", "symmetric"]
Layout = Literal["auto", "nchw", "nhwc"]

RANGES: tuple[Range, ...] = get_args(Range)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

ENTRY_HINT = "write a function that loads it and makes images, and give file.py:function"
"""What to do with a network that is not read."""

_DEFAULT_BATCH = 64
_MOST_PIXELS = 2**24  # that of `images_form`, which imports this module


@dataclass(frozen=True)
class SourceOptions:
    """How to read a source.

    Args:
        range: where the values of its images lie: "uint8" 0 to 255, "unit" [0, 1],
            "symmetric" [-1, 1]; "auto" infers it, or refuses where that is a guess.
        layout: the order of the axes: "nchw" or "nhwc"; "auto" looks for the axis of 3.
        latent_dim: components of a latent; None takes what the model says.
        batch: latents that go through a network at a time, >= 1.
        key: name of the array in an npz or HDF5 file that holds several; of a tar file whose
            samples have several images, what follows the first dot of their names.
        timeout: seconds that a Python entry may take to load, or for a batch; a command, for an
            image.
        frame_size: of the images that a command writes, pixels, such as "64x48": width, height.
        steps: of denoising, for a diffusers pipeline; None takes the pipeline's own number.
        architecture: whose tensors a .safetensors file without a card holds, such as "dcgan".
        labels: classes that are drawn for a conditional generator, each as likely as any other:
            "uniform", "3", "3,5,9" or "0-9"; None for "uniform" where it takes labels.
        classes: that a conditional generator has; None takes what the model says.
        label_form: how a TorchScript module takes its labels: "onehot", float32 (n, classes), or
            "index", int64 (n,).
        code_dir: the repository whose code a network pickle is loaded and run with.

    Raises:
        UsageError: if a value is impossible.
    """

    range: Range = "auto"
    layout: Layout = "auto"
    latent_dim: int | None = None
    batch: int = _DEFAULT_BATCH
    key: str | None = None
    timeout: float = 600.0
    frame_size: str | None = None
    steps: int | None = None
    architecture: str | None = None
    labels: str | None = None
    classes: int | None = None
    label_form: LabelForm | None = None
    code_dir: str | None = None

    def __post_init__(self) -> None:
        for name, choices in (("range", RANGES), ("layout", LAYOUTS)):
            if getattr(self, name) not in choices:
                raise UsageError(
                    f"--{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
                )
        whole_number("--batch", self.batch, 1)
        if self.latent_dim is not None:
            whole_number("--latent-dim", self.latent_dim, 1)
        if self.steps is not None:
            whole_number("--steps", self.steps, 1)
        if not 0 < self.timeout < float("inf"):
            raise UsageError(f"--timeout must be above 0 seconds, not {self.timeout}")
        if self.frame_size is not None:
            parse_frame_size(self.frame_size)
        if self.labels is not None:
            parse_labels(self.labels)
        if self.classes is not None:
            whole_number("--classes", self.classes, 1)
        if self.label_form not in (None, *LABEL_FORMS):
            raise UsageError(
                f"--label-form must be {' or '.join(LABEL_FORMS)}, not {self.label_form!r}"
            )

    @classmethod
    def given(cls, options: Mapping[str, Any]) -> SourceOptions:
        """Return those that a command has, by their names here; it may have others, too."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in options.items() if name in names})

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
        for field in fields(self):
            value: Any = getattr(self, field.name)
            if field.name in (*names, "batch") or value == field.default:
                continue
            if (field.name, value) == ("range", "uint8"):
                continue
            option = field.name.replace("_", "-")
            reason = {
                "range": "whose values are 0 to 255",
                "layout": "whose layout is known",
                "latent_dim": "which takes no latents",
                "key": "which has no named arrays",
                "timeout": "which has no process of its own",
                "frame_size": "which knows its images' size",
                "labels": "which takes no class labels",
                "classes": "which takes no class labels",
                "label_form": "which leaves no choice of how labels go in",
                "code_dir": "which needs no code of its authors",
                "steps": "which takes no steps of denoising",
                "architecture": "which says itself what it is",
            }[field.name]
            raise UsageError(f"{source}: is {what}, {reason}: leave out --{option}")


def parse_frame_size(text: str) -> tuple[int, int]:
    """Return (width, height) in pixels of a text such as "64x48".

    Raises:
        UsageError: if it is no size, or one too large.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,7})x([1-9][0-9]{0,7})", text)
    if match is None:
        raise UsageError(f"--frame-size must be WIDTHxHEIGHT, such as 64x64, not {text!r}")
    width, height = int(match[1]), int(match[2])
    if width * height > _MOST_PIXELS:
        raise UsageError(f"--frame-size {text} is too large: at most {_MOST_PIXELS:,} pixels")
    return width, height
