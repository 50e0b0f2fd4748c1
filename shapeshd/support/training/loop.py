"""The loop of every training: steps, a log, checks, and a state to go on from.

A training has a folder. Its state is saved every so often and when it is stopped, and the same
command goes on from there. On a CPU with as many threads it ends as an uninterrupted one does, bit
for bit, if what is drawn in a step depends on the seed and the step alone.
"""

from __future__ import annotations

import json
import math
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from shapeshd.errors import (
    InterruptedRunError,
    ShapesHDError,
    UsageError,
    one_line,
)
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.batching import NO_MEMORY, says_no_memory
from shapeshd.support.checkpoint import Checkpoint, load_checkpoint, read_card, save_checkpoint
from shapeshd.support.file_system import FileLock
from shapeshd.support.interrupts import stop_requested
from shapeshd.support.progress import progress_bar

from .tracker import Tracker, open_trackers, scalars

STATE_KIND = "training-state"
LOG = "log.jsonl"
_LOCK = ".lock"


class ResumableTraining(ABC):
    """A training in a folder, which can be stopped at any time and taken up again.

    A subclass says what a step is and what a state holds. Its constructor calls this one, makes
    its networks, and then calls `resume`.

    Args:
        folder: of the training; it is made with the first thing that is written.
        settings: what the training is made of, fit for JSON; one that goes on must have the same.
        name: what the bar and messages call it.
        steps: in all.
        batch: samples of a step.
        mean: returns the mean of a tensor over the processes that train together.
        first: whether this process is the one that writes.

    Attributes:
        step: steps taken.
        seconds: that they took, those of earlier processes included.
        state_file: name of the state in the folder.
        save_seconds: time after which the state is saved.
        log_steps: steps from one line of the log to the next.
        check_steps: steps from one check to the next; 0 for one at the end alone.
        rate_name: what to lower if a training diverges.
        memory_names: what to lower if memory is out.
    """

    state_file: ClassVar[str] = "state.safetensors"
    save_seconds: ClassVar[float] = 300.0
    log_steps: ClassVar[int] = 50
    check_steps: int = 0
    rate_name: str = "learning rate"
    memory_names: str = "batch"

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        *,
        name: str,
        steps: int,
        batch: int,
        mean: Callable[[Tensor], Tensor] = lambda value: value,
        first: bool = True,
    ) -> None:
        self.folder, self.settings, self.name = folder, settings, name
        self.steps, self.batch = steps, batch
        self._mean, self._first = mean, first
        self._log: RunLog | None = None
        self._lock = FileLock(folder / _LOCK)
        self.step, self.seconds = 0, 0.0

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Yield the batches of the steps from `step` on."""

    @abstractmethod
    def take_step(self, batch: Any) -> dict[str, Tensor]:
        """Take step number `step`, counted from 0, and return scalars to log."""

    @abstractmethod
    def trained(self) -> Mapping[str, nn.Module]:
        """Return the networks whose weights must stay finite, by name."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that a later process needs to go on: tensors, and values fit for JSON."""

    @abstractmethod
    def restore(self, state: Checkpoint) -> None:
        """Take over what `state` gave; the values stand in the checkpoint's card."""

    def saved_settings(self, card: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the settings in a state's card, in the words of this version."""
        return card

    def check(self, *, last: bool) -> dict[str, Any]:
        """Return what is measured every `check_steps` steps and at the end, for the log."""
        return {}

    def pictures(self) -> Mapping[str, Path]:
        """Return pictures that `check` has made, by name, for trackers."""
        return {}

    @property
    def finished(self) -> bool:
        """Whether all steps have been taken."""
        return self.step >= self.steps

    def resume(self, *, trackers: Sequence[str | Tracker] = ()) -> None:
        """Take over the state in the folder, if there is one, and open the log.

        Other trainings are then kept out of the folder until this one is closed, or dropped.

        Args:
            trackers: what else shows the log: names of `TRACKERS`, or trackers of a program's
                own, which it closes itself, as other trainings may use them, too.

        Raises:
            UsageError: if the folder holds another training, or there is no such tracker.
            MissingPackageError: if a tracker is not installed.
            ShapesHDError: if the state in it is damaged, or another training is at work there.
        """
        try:
            self._resume(trackers)
        except BaseException:
            self.close()
            raise

    def _resume(self, trackers: Sequence[str | Tracker]) -> None:
        if self._first:
            self.folder.mkdir(parents=True, exist_ok=True)
            weakref.finalize(self, self._lock.release)
            if not self._lock.acquire():
                raise ShapesHDError(
                    f"{self.folder}: another training is at work in this folder (or one of this "
                    "program's own, which was not closed)"
                )
        path = self.folder / self.state_file
        if path.exists():
            try:
                state = load_checkpoint(path, STATE_KIND)
            except ShapesHDError as error:
                mend = "or remove it to begin this training again"
                raise type(error)(f"{error}; {mend}") from None
            require_same_settings(self.folder, self.saved_settings(state.card), self.settings)
            self.restore(state)
            self.step, self.seconds = state.card["step"], state.card["seconds"]
        if self._first:
            names = [one for one in trackers if isinstance(one, str)]
            lent = [one for one in trackers if not isinstance(one, str)]
            opened = open_trackers(names, self.folder, self.step, self.settings)
            self._log = RunLog(self.folder / LOG, self.step, opened, lent)

    def close(self) -> None:
        """Close the trackers that are this training's own, and let others into the folder."""
        if self._log is not None:
            self._log.close()
        self._lock.release()

    def save(self) -> None:
        """Save all that is needed to go on."""
        if not self._first:
            return
        tensors, values = self.state()
        card = {**self.settings, "step": self.step, "seconds": self.seconds, **values}
        save_checkpoint(self.folder / self.state_file, STATE_KIND, tensors, card)

    def take_steps(self, *, progress: bool = False) -> None:
        """Take all steps that are left.

        Args:
            progress: show a bar on stderr.

        Raises:
            InterruptedRunError: if SIGINT or SIGTERM came; the state is saved.
            ShapesHDError: if a loss or a weight is no longer a number, or memory is out.
        """
        if self.finished:
            return
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        shown = progress and self._first
        total = self.steps * self.batch
        with stop_requested() as stop, progress_bar(total, self.name, shown=shown) as bar:
            bar.n = bar.initial = self.step * self.batch  # so that the rate is this run's
            for batch in self.batches():
                values = self._take_step(batch)
                self.step += 1
                self.seconds = time.monotonic() - started
                bar.update(self.batch)
                regular = self.check_steps and self.step % self.check_steps == 0
                due = self.finished or bool(regular)
                stopped, overdue = self._any(
                    stop.is_set(), time.monotonic() - saved > self.save_seconds
                )
                save = due or stopped or overdue
                logged = due or self.step % self.log_steps == 0
                if save or logged:
                    numbers = self._numbers(values)
                    if "loss" in numbers:
                        bar.set_postfix_str(f"loss {numbers['loss']:.3f}", refresh=False)
                if save:
                    self._require_finite()
                if logged:  # not at a stop: the log does not depend on where a run was stopped
                    self._write(numbers)
                if due:
                    self._write(self.check(last=self.finished))
                    self._show(self.pictures())
                if save:
                    self.save()
                    saved = time.monotonic()
                    (stopped,) = self._any(stop.is_set())  # a check takes its time
                if stopped:
                    going = "evaluates" if self.finished else "goes on from there"
                    raise InterruptedRunError(
                        f"interrupted after {self.step:,} of {self.steps:,} steps; the same "
                        f"command {going}"
                    )

    def _take_step(self, batch: Any) -> dict[str, Tensor]:
        try:
            return self.take_step(batch)
        except NO_MEMORY as error:
            if not says_no_memory(error):
                raise
            raise ShapesHDError(
                f"out of memory at step {self.step:,} ({one_line(error)[:80]}): lower "
                f"{self.memory_names}"
            ) from None

    def _any(self, *flags: bool) -> list[bool]:
        """Return which flags are set in any process; all must take the same turn."""
        return [bool(mean > 0) for mean in self._mean(torch.tensor(flags, dtype=torch.float32))]

    def _numbers(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        numbers = {name: float(self._mean(value.float())) for name, value in values.items()}
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise self._diverged(f"{name} is {number}")
        return numbers

    def _require_finite(self) -> None:
        """Raise `ShapesHDError` if a weight is no number: the loss knows those before the step."""
        for name, network in self.trained().items():
            for key, value in network.state_dict().items():
                if not bool(torch.isfinite(value).all()):
                    raise self._diverged(f"{name}.{key} is no longer finite")

    def _diverged(self, what: str) -> ShapesHDError:
        path, kept = self.folder / self.state_file, "nothing had been saved"
        if path.exists():
            step = read_card(path)["step"]
            kept = f"what was saved after step {step:,} stays in {self.folder}"
        return ShapesHDError(
            f"{what} at step {self.step:,} of {self.name}: the training has diverged; {kept}, but "
            f"begin again with a lower {self.rate_name}"
        )

    def _write(self, values: dict[str, Any]) -> None:
        if self._log is not None and values:
            self._log.write(self.step, round(self.seconds, 2), values)

    def _show(self, pictures: Mapping[str, Path]) -> None:
        if self._log is not None:
            self._log.show(self.step, pictures)

    def log_once(self, name: str, value: Any, *, anew: bool = False) -> None:
        """Write a value of the last step; if it was not made anew, only if the log has none."""
        if self._log is not None and (anew or not self._log.holds(self.step, name)):
            self._write({name: value})


class RunLog:
    """The log of a training: a line of JSON each time, and trackers that show it.

    Of a training that goes on, what was written after its saved state is dropped.

    Args:
        path: the file; its folder must exist.
        step: the step at which the training goes on.
        trackers: what else shows the numbers, and pictures; they end with the log.
        lent: more of them, which go on.
    """

    def __init__(
        self,
        path: Path,
        step: int,
        trackers: Sequence[Tracker] = (),
        lent: Sequence[Tracker] = (),
    ) -> None:
        self._path, self._trackers, self._own = path, [*trackers, *lent], trackers
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        lines = text.splitlines()
        kept = [line for line in lines if _step_of(line) <= step] if step else []
        text = "".join(f"{line}\n" for line in kept)
        replace_file(path, lambda new: new.write_text(text, encoding="utf-8"))

    def write(self, step: int, seconds: float, values: Mapping[str, Any]) -> None:
        """Append values, scalars or tables of them."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "seconds": seconds, **values}) + "\n")
        for tracker in self._trackers:
            tracker.numbers(step, dict(scalars(values)))

    def show(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Show pictures, PNG files by name, in the trackers; the log has only numbers."""
        for tracker in self._trackers if pictures else ():
            tracker.pictures(step, pictures)

    def close(self) -> None:
        """Close the trackers, but for those that are lent."""
        for tracker in self._own:
            tracker.close()

    def holds(self, step: int, name: str) -> bool:
        """Tell whether a value has been written for a step."""
        lines = self._path.read_text(encoding="utf-8").splitlines()
        return any(name in row for row in map(json.loads, lines) if row["step"] == step)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a line that a kill cut short
        return float("inf")


def require_same_settings(
    folder: Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    mend: str = "go on with that, or choose another folder",
) -> None:
    """Raise `UsageError`, naming the first difference, unless `old` has the settings of `new`.

    Args:
        folder: of the training, for the message.
        old: what the training in it was begun with; may hold more.
        new: what it shall go on with; tables may be nested.
        mend: what can be done, for the message.
    """
    difference = first_difference(old, new)
    if difference is not None:
        name, before, now = difference
        raise UsageError(
            f"{folder}: holds another training, with {name} = {before}, not {now}; {mend}"
        )


def first_difference(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str = ""
) -> tuple[str, Any, Any] | None:
    """Return the name of the first setting that differs, and its values in `old` and `new`.

    Args:
        old: may hold more than `new`.
        new: tables may be nested; the names in the result are then joined by points.
        where: what the name begins with.
    """
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            found = first_difference(before, value, f"{where}{name}.")
            if found is not None:
                return found
        elif before != value:
            return f"{where}{name}", before, value
    return None
