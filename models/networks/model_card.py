"""The card of a trained generator that comes with the program: how it was made, and its score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shapeshd.support.checkpoint import read_card
from shapeshd.support.schema import validated

from .checkpoints import KIND, GeneratorCard
from .shipped import ShippedModel, shipped_models


class PhaseTraining(BaseModel):
    """Describes the training of one phase.

    Attributes:
        phase: "vae", "aae", "gan" or "flow".
        command: that trained it.
        commit: of the program, of which the command was run.
        images: real images shown, each counted as often as it was shown.
        seconds: that the training took.
        torch: version of PyTorch.
        device: where it was trained.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    phase: str
    command: str
    commit: str = Field(pattern="^[0-9a-f]{7,40}$")
    images: int = Field(ge=1)
    seconds: float = Field(gt=0)
    torch: str
    device: str


class ModelScore(BaseModel):
    """What `shapeshd score` gave.

    Attributes:
        command: that scored it.
        samples: that were counted.
        seed: of the samples.
        recognizer: its name.
        divergence: D.
        low: lower end of its 95% interval.
        high: upper end.
        mainly_wrong: the largest significant part of D, None if there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    samples: int = Field(ge=1)
    seed: int
    recognizer: str
    divergence: float
    low: float
    high: float
    mainly_wrong: str | None


class TrainingData(BaseModel):
    """What the images were that it was trained on.

    Attributes:
        images: how many there were.
        size: of a side, pixels.
        renderer: that made them.
        seed: of their factors.
        command: that rendered them.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    images: int
    size: int
    renderer: str | None
    seed: int | None
    command: str


class ModelCard(GeneratorCard):
    """The card of a generator that comes with the program.

    Attributes:
        phase: the last that was trained.
        seed: of weights, batches and noise.
        data: what it was trained on.
        held_out: the last images of the data, which were not trained on.
        training: each phase in order, the one of `phase` last.
        score: None until it is scored.
    """

    phase: str
    seed: int
    data: TrainingData
    held_out: int
    training: tuple[PhaseTraining, ...] = Field(min_length=1)
    score: ModelScore | None = None

    @property
    def images(self) -> int:
        """Real images shown in all phases."""
        return sum(phase.images for phase in self.training)

    @property
    def seconds(self) -> float:
        """Time of all phases."""
        return sum(phase.seconds for phase in self.training)


def read_model_card(path: Path) -> ModelCard:
    """Read the card of a trained generator; its tensors are not read.

    Raises:
        UsageError: if it is no checkpoint of a generator, or its card lacks a field.
        ShapesHDError: if it is damaged.
    """
    return validated(ModelCard, read_card(path, KIND), f"{path}: its card: ")


def describe_model(model: ShippedModel) -> dict[str, Any]:
    """Return what the card of a generator says, as JSON values."""
    card = read_model_card(model.path)
    kept = card.model_dump(include={"architecture", "phase", "seed", "data", "held_out", "training",
                                    "score", "sha256"})  # fmt: skip
    return {
        "kind": "model",
        "name": model.text,
        "path": str(model.path),
        "bytes": model.path.stat().st_size,
        "size": card.config["size"],
        "images": card.images,
        "seconds": card.seconds,
        **kept,
    }


def describe_models() -> list[dict[str, Any]]:
    """Return `describe_model` of each generator that comes with the program."""
    return [describe_model(model) for model in shipped_models()]
