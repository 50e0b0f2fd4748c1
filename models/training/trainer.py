"""Trains one phase in its folder: data in order, checks, and the networks that it leaves."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd import __version__
from shapeshd.models.networks.encoder import Encoder
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.checkpoint import Checkpoint, save_checkpoint
from shapeshd.support.random_numbers import shuffled_batches
from shapeshd.support.training.loop import ResumableTraining
from shapeshd.support.training.tracker import Tracker

from .distributed import Draws
from .evaluator import Evaluator, brief
from .files import ENCODER, ENCODER_KIND, GENERATOR, RESULT, SHEETS, renamed, write_json
from .phase import Phase


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "shapeshd": __version__}


class Trainer(ResumableTraining):
    """Trains one phase in its folder.

    Args:
        phase: what is trained.
        folder: of the phase; it is made.
        origin: what the phase begins with (digests of earlier checkpoints), fit for JSON.
        trackers: what else shows the log; see `ResumableTraining.resume`.

    Raises:
        UsageError: if the folder holds another training.
        ShapesHDError: if the state in it is damaged.
    """

    def __init__(
        self,
        phase: Phase,
        folder: Path,
        origin: dict[str, Any],
        *,
        trackers: Sequence[str | Tracker] = (),
    ) -> None:
        config = phase.config.to_json()
        settings = {
            "phase": phase.name,
            "seed": config["seed"],
            "data": phase.domain.describe(),
            "held_out": config["checks"]["held_out"],
            "origin": origin,
            **{key: config[key] for key in ("domain", *phase.tables, config["domain"], phase.name)},
        }
        schedule, group = phase.schedule, phase.group
        super().__init__(
            folder, settings, name=phase.name, steps=schedule.steps, batch=schedule.batch,
            mean=group.mean, first=group.first,
        )  # fmt: skip
        self.phase, self.group = phase, group
        self.check_steps = phase.config.checks.every
        self.rate_name = f"{phase.name}.learning_rate"
        self.memory_names = f"{phase.name}.batch ({schedule.batch})"
        if phase.name == "aae":
            self.memory_names += f" or aae.codes ({phase.config.aae.codes})"
        self.memory_names += " with --set"
        self._evaluator = Evaluator(phase, folder / SHEETS)
        self.resume(trackers=trackers)

    def run(self, *, progress: bool = False) -> dict[str, Any]:
        """Train to the end, save the networks, evaluate them, and save the result.

        Args:
            progress: show a bar on stderr.

        Returns:
            What ``result.json`` holds; {} in all processes but the first.

        Raises:
            InterruptedRunError: if SIGINT or SIGTERM came; the state is saved.
            ShapesHDError: if a loss is no longer a number, or memory is out.
        """
        try:
            return self._finish(progress)
        finally:
            self.close()

    def _finish(self, progress: bool) -> dict[str, Any]:
        known = result = self.known_result()
        if not self.finished:
            self.phase.prepare()
        self.take_steps(progress=progress)
        if self.group.first:
            if result is None:
                result = self.save_networks()
                result |= self._evaluator.finish(self.step)
                replace_file(self.folder / RESULT, write_json(result))
            if "score" in result:
                self.log_once("score", brief(result["score"]), anew=known is None)
        self.group.wait()  # the next phase begins with what has just been written
        return result or {}

    def known_result(self) -> dict[str, Any] | None:
        """Return what ``result.json`` holds, if there is nothing to train, save or measure."""
        if not (self.group.first and self.finished):
            return None
        names = (RESULT, GENERATOR) if self._encoder is None else (RESULT, GENERATOR, ENCODER)
        if not all((self.folder / name).exists() for name in names):
            return None
        try:
            result: dict[str, Any] = json.loads((self.folder / RESULT).read_bytes())
            now = {**self.settings, "steps": self.step, "seconds": round(self.seconds, 1)}
            now["versions"] = _versions()  # another one may score otherwise
            same = all(result[key] == value for key, value in now.items())
            return result if same and self._evaluator.knows(result) else None
        except (ValueError, KeyError, TypeError):  # of another version
            return None

    @property
    def _encoder(self) -> Encoder | None:
        """The encoder that the phase has trained."""
        return None if self.phase.name == "gan" else self.phase.encoder

    def save_networks(self) -> dict[str, Any]:
        """Save the generator and, where one was trained, the encoder; return their cards."""
        phase = self.phase
        card = {
            **self.settings,
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "versions": _versions(),
            "device": phase.device.type,
        }
        phase.domain.save_generator(self.folder / GENERATOR, phase.generator, card)
        if self._encoder is not None:
            save_checkpoint(self.folder / ENCODER, ENCODER_KIND, self._encoder.state_dict(), card)
        return card

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield this process's part of each batch: its rows, and the data."""
        phase = self.phase
        part = phase.group.part(self.batch)
        order = epochs(phase.draws, phase.domain.count, self.batch, self.step, self.steps)
        rows, read_ahead = itertools.tee(some[part] for some in order)
        return zip(rows, phase.domain.batches(read_ahead), strict=True)

    def take_step(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Update the phase's networks."""
        rows, x = batch
        return self.phase.update(self.step, x, rows)

    def trained(self) -> Mapping[str, nn.Module]:
        """Return the phase's networks."""
        return self.phase.networks

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the phase's tensors and numbers."""
        return self.phase.tensors(), {"numbers": self.phase.numbers, "extra": self.phase.extra()}

    def restore(self, state: Checkpoint) -> None:
        """Take over the phase's tensors and numbers."""
        self.phase.restore(state.tensors, state.card["numbers"], state.path)
        self.phase.restore_extra(state.card["extra"])

    def saved_settings(self, card: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the settings in a state's card, but for what may change.

        A phase may be trained longer: what follows a cosine over all steps then goes on along the
        longer one.
        """
        data = renamed(card["data"])
        return {**card, "data": data, self.phase.name: self._lengthened(card[self.phase.name])}

    def _lengthened(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a phase's table with the steps it shall have now, if these are more."""
        steps = self.settings[self.phase.name]["steps"]
        return {**table, "steps": steps} if table["steps"] < steps else table

    def pictures(self) -> dict[str, Path]:
        """Return the sheets of images of this step, by what they show."""
        return self._evaluator.sheets(self.step)

    def check(self, *, last: bool) -> dict[str, Any]:
        """Evaluate the phase as it is now."""
        return self._evaluator.check(self.step, last=last)


def epochs(draws: Draws, count: int, batch: int, first: int, last: int) -> Iterator[Tensor]:
    """Return the rows of the steps `first` .. `last` - 1 of a run; see `shuffled_batches`."""
    return shuffled_batches(
        count, batch, first, last, lambda epoch: draws.generator(epoch, "epoch", "cpu")
    )
