"""The loop of every phase: data in order, steps, logs, checks, and a state to go on from.

A phase has a folder. Its state is saved every so often and when the run is stopped, and the same
command goes on from there; on a CPU with as many threads it ends as an uninterrupted one does, bit
for bit, because what is drawn depends on the seed and the step alone.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shapeshd.errors import InterruptedRunError, ShapesHDError, one_line
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.batching import NO_MEMORY, says_no_memory
from shapeshd.support.checkpoint import load_checkpoint, read_card, save_checkpoint
from shapeshd.support.interrupts import stop_requested
from shapeshd.support.progress import progress_bar
from shapeshd.support.random_numbers import shuffled_batches
from shapeshd.support.run_log import RunLog
from shapeshd.support.run_state import require_same_settings

from .distributed import Draws
from .evaluator import Judge
from .phase import Phase
from .run_files import LOG, RESULT, STATE, STATE_KIND, write_json

_SAVE_SECONDS = 300.0
_LOG_STEPS = 50


class Trainer:
    """Trains one phase in its folder.

    Args:
        phase: what is trained.
        folder: of the phase; it is made.
        origin: what the phase begins with (digests of earlier checkpoints), fit for JSON.
        tensorboard: whether the log is written for TensorBoard, too.

    Raises:
        UsageError: if the folder holds another training.
        ShapesHDError: if the state in it is damaged.
    """

    def __init__(
        self, phase: Phase, folder: Path, origin: dict[str, Any], *, tensorboard: bool = False
    ) -> None:
        self.phase, self.folder, self.group = phase, folder, phase.group
        config = phase.config.to_json()
        self._settings: dict[str, Any] = {
            "phase": phase.name,
            "seed": config["seed"],
            "data": phase.domain.describe(),
            "held_out": config["checks"]["held_out"],
            "origin": origin,
            **{key: config[key] for key in ("domain", "codes", config["domain"], phase.name)},
        }
        self.step, self.seconds = 0, 0.0
        self._resume()
        self._log = _Log(folder, self.step, tensorboard) if self.group.first else None
        self._judge = Judge(phase, folder)

    @property
    def finished(self) -> bool:
        """Whether all steps have been taken."""
        return self.step >= self.phase.schedule.steps

    def run(self, *, progress: bool = False) -> dict[str, Any]:
        """Train to the end, judge the result, and save it.

        Args:
            progress: show a bar on stderr.

        Returns:
            What ``result.json`` holds.

        Raises:
            InterruptedRunError: if SIGINT or SIGTERM came; the state is saved.
            ShapesHDError: if a loss is no longer a number, or memory is out.
        """
        steps, batch = self.phase.schedule.steps, self.phase.schedule.batch
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        shown = progress and self.group.first
        with (
            stop_requested() as stop,
            progress_bar(steps * batch, self.phase.name, shown=shown) as bar,
        ):
            bar.n = bar.initial = self.step * batch  # so that the rate is this run's
            for rows, x in self._batches():
                values = self._update(x, rows)
                self.seconds = time.monotonic() - started
                bar.update(batch)
                due = self.step % self.phase.config.checks.every == 0 or self.step == steps
                stopped, overdue = self._any(
                    stop.is_set(), time.monotonic() - saved > _SAVE_SECONDS
                )
                save = due or stopped or overdue
                logged = due or self.step % _LOG_STEPS == 0
                if save or logged:
                    numbers = self._numbers(values)
                    if "loss" in numbers:
                        bar.set_postfix_str(f"loss {numbers['loss']:.3f}", refresh=False)
                if save:
                    self._require_finite()
                if logged:  # not at a stop: the log does not depend on where a run was stopped
                    self._write(numbers)
                if due:
                    self._write(self._judge.check(self.step, last=self.step == steps))
                if save:
                    self.save()
                    saved = time.monotonic()
                if stopped and not self.finished:
                    raise InterruptedRunError(
                        f"interrupted after {self.step:,} of {steps:,} steps; the same command "
                        "goes on from there"
                    )
        return self._finish()

    def _update(self, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        phase = self.phase
        try:
            values = phase.update(self.step, x, rows)
        except NO_MEMORY as error:
            if not says_no_memory(error):
                raise
            lower = f"{phase.name}.batch ({phase.schedule.batch})"
            if phase.name == "aae":
                lower += f" or aae.codes ({phase.config.aae.codes})"
            raise ShapesHDError(
                f"out of memory at step {self.step:,} ({one_line(error)[:80]}): lower {lower} "
                "with --set"
            ) from None
        self.step += 1
        return values

    def _numbers(self, values: dict[str, Tensor]) -> dict[str, float]:
        numbers = {name: float(self.group.mean(value.float())) for name, value in values.items()}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise self._diverged(f"{name} is {number}")
        return numbers

    def _require_finite(self) -> None:
        """Raise `ShapesHDError` if a weight is no number: the loss knows those before the step."""
        for name, network in self.phase.networks.items():
            for key, value in network.state_dict().items():
                if not bool(torch.isfinite(value).all()):
                    raise self._diverged(f"{name}.{key} is no longer finite")

    def _diverged(self, what: str) -> ShapesHDError:
        return ShapesHDError(
            f"{what} at step {self.step:,} of phase {self.phase.name}: the training has diverged; "
            f"{self._kept()}, but begin again with a lower {self.phase.name}.learning_rate"
        )

    def _kept(self) -> str:
        path = self.folder / STATE
        if not path.exists():
            return "nothing had been saved"
        step = read_card(path)["step"]
        return f"what was saved after step {step:,} stays in {self.folder}"

    def _any(self, *flags: bool) -> list[bool]:
        """Return which flags are set in any process; all must take the same turn."""
        if self.group.count == 1:
            return list(flags)
        return (self.group.mean(torch.tensor(flags, dtype=torch.float32)) > 0).tolist()

    def _write(self, values: dict[str, Any]) -> None:
        if self._log is not None and values:
            self._log.write(self.step, round(self.seconds, 2), values)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        phase = self.phase
        batch, steps = phase.schedule.batch, phase.schedule.steps
        part = phase.group.part(batch)
        order = epochs(phase.draws, phase.domain.count, batch, self.step, steps)
        rows, read_ahead = itertools.tee(some[part] for some in order)
        return zip(rows, phase.domain.batches(read_ahead), strict=True)

    def save(self) -> None:
        """Save all that is needed to go on."""
        if self.group.first:
            card = {
                **self._settings,
                "step": self.step,
                "seconds": self.seconds,
                "numbers": self.phase.numbers,
                "extra": self.phase.extra(),
            }
            save_checkpoint(self.folder / STATE, STATE_KIND, self.phase.tensors(), card)

    def _resume(self) -> None:
        path = self.folder / STATE
        if not path.exists():
            return
        state = load_checkpoint(path, STATE_KIND)
        require_same_settings(self.folder, state.card, self._settings)
        self.phase.restore(state.tensors, state.card["numbers"], path)
        self.phase.restore_extra(state.card["extra"])
        self.step, self.seconds = state.card["step"], state.card["seconds"]

    def _finish(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if self.group.first:
            result = self._judge.finish(self.step, self.seconds, self._settings)
            replace_file(self.folder / RESULT, write_json(result))
        self.group.wait()  # the next phase begins with what has just been written
        return result


def epochs(draws: Draws, count: int, batch: int, first: int, last: int) -> Iterator[Tensor]:
    """Return the rows of the steps `first` .. `last` - 1 of a run; see `shuffled_batches`."""
    return shuffled_batches(
        count, batch, first, last, lambda epoch: draws.generator(epoch, "epoch", "cpu")
    )


class _Log:
    """The log of a phase: a line of JSON each time, and TensorBoard's if that is wanted."""

    def __init__(self, folder: Path, step: int, tensorboard: bool) -> None:
        self._lines = RunLog(folder / LOG, step)
        self._board: Any = None
        if tensorboard:
            from .tensorboard import open_writer

            self._board = open_writer(folder, step)

    def write(self, step: int, seconds: float, values: dict[str, Any]) -> None:
        """Append values, scalars or tables of them."""
        self._lines.write(step=step, seconds=seconds, **values)
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(name, value, step)
            self._board.flush()
