"""Takes steps in order under one budget of time; a later run keeps what is done."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from shapeshd.errors import explain
from tests import ROOT

from .process import Ended, last_error, run_limited
from .step import (
    DONE,
    FAILED,
    JSON,
    KEPT,
    LEFT,
    SKIPPED,
    UNFINISHED,
    Outcome,
    Step,
    read_record,
    write_record,
)

GRACE = 20.0
"""Seconds that a step has to save its state when it is told to end."""

_OVER, _MORE = 3.0, 30.0  # a step may take so many times its cost, and so many seconds more
_INTERRUPTED = 130


class Budget:
    """The time of a run.

    Args:
        seconds: in all.
        clock: gives the time in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._began = clock()

    def spent(self) -> float:
        """Return the seconds that are over."""
        return self._clock() - self._began

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.seconds - self.spent()


class Runner:
    """Takes steps, each as a process of its own, and writes a file as each ends.

    Args:
        out: folder; ``results/NAME.json`` and ``logs/NAME.log`` are written into it.
        budget: of all steps.
        stop: ends the run when it is set.
        common: what each result file says beside its own: commit, machine and the like.
        tell: takes a line for the user.
        only: names of the steps that are taken, if not all; of others, what is done is kept.
        grace: seconds that a step has to end when it is told to.
    """

    def __init__(
        self,
        out: Path,
        budget: Budget,
        stop: threading.Event,
        common: Mapping[str, Any],
        tell: Callable[[str], object] = print,
        only: Collection[str] = (),
        grace: float = GRACE,
    ) -> None:
        self._only = only
        self._out, self._budget, self._stop = out, budget, stop
        self._common, self._tell, self._grace = common, tell, grace
        self._results: dict[str, Any] = {}

    def run(
        self, steps: Sequence[Step], after: Callable[[list[Outcome]], object] = lambda _: None
    ) -> list[Outcome]:
        """Take steps in order, and return what became of each.

        Args:
            steps: all that there are.
            after: takes what became of all so far, each time that there is something new.
        """
        found: list[Outcome] = []
        for number, step in enumerate(steps):
            try:
                outcome = self._take(step, steps[number + 1 :])
            except Exception as error:  # a file that is not as it should be: the others go on
                outcome = Outcome(step.name, FAILED, explain(error))
            if outcome.status in (DONE, KEPT):
                self._results[step.name] = outcome.record["result"]
            if self._asked(step):
                self._tell(f"{self._time()} {step.name}: {outcome.status}: {outcome.said}")
            if self._asked(step) or outcome.status == KEPT:
                found.append(outcome)
                after(found)
        return found

    def _asked(self, step: Step) -> bool:
        return not self._only or step.name in self._only

    def _take(self, step: Step, later: Sequence[Step]) -> Outcome:
        if step.missing:
            return Outcome(step.name, SKIPPED, step.missing)
        if step.prepare is not None:
            prepared = step.prepare(step, self._results)
            if isinstance(prepared, str):
                return Outcome(step.name, SKIPPED, prepared)
            step = prepared
        record = read_record(self._file(step))
        if self._is_kept(step, record):
            said = step.headline(record["result"])
            if record.get("sources_sha256") != self._common.get("sources_sha256"):
                said += f" (of other sources: commit {record.get('commit', 'unknown')[:12]})"
            return Outcome(step.name, KEPT, said, record["seconds"], record)
        if not self._asked(step):
            return Outcome(step.name, SKIPPED, "not asked for")
        if self._stop.is_set():
            return Outcome(step.name, SKIPPED, "the run was interrupted")
        if isinstance(limit := self._limit(step, later), str):
            return Outcome(step.name, SKIPPED, limit)
        return self._run(step, limit)

    @staticmethod
    def _is_kept(step: Step, record: Any) -> bool:
        """Tell whether a step was finished with its settings."""
        return is_done(record) and record.get("settings") == _plain(step.settings)

    def _seems_kept(self, step: Step) -> bool:
        """Tell whether a later step will be kept, whose settings may follow from other results."""
        record = read_record(self._file(step))
        return self._is_kept(step, record) or (step.prepare is not None and is_done(record))

    def _limit(self, step: Step, later: Sequence[Step]) -> float | str:
        """Return the seconds that a step may take, or why it is not begun."""
        left = self._budget.left() - self._grace
        kept = 0.0
        if step.optional:
            kept = sum(
                one.seconds
                for one in later
                if self._asked(one)
                and not (one.optional or one.missing)
                and not self._seems_kept(one)
            )
        wanted = step.seconds if step.resumes is None else min(step.seconds, step.resumes)
        if left - kept < max(wanted, step.begins_with):
            said = f"takes about {wanted:.0f} s"
            if step.begins_with > wanted:
                said += f" and what follows it {step.begins_with - wanted:.0f} s"
            said += f"; {max(0.0, left):.0f} s are left"
            return said + (f", of which later steps take {kept:.0f} s" if kept else "")
        return min(left - kept, _OVER * step.seconds + _MORE)

    def _run(self, step: Step, limit: float) -> Outcome:
        log, made = self._out / "logs" / f"{step.name}.log", self._out / f".{step.name}.json"
        log.parent.mkdir(parents=True, exist_ok=True)
        made.unlink(missing_ok=True)
        self._tell(f"{self._time()} {step.name}: about {step.seconds:.0f} s")
        left = max(0.0, self._budget.left() - self._grace)
        words = {JSON: str(made), LEFT: f"{left:.0f}"}
        command = [words.get(word, word) for word in step.command]
        began = datetime.now(timezone.utc)
        ended = run_limited(command, log, limit, self._stop, cwd=ROOT, grace=self._grace)
        result = read_record(made)
        made.unlink(missing_ok=True)
        status, said = judge(step, ended, result, log)
        record = {
            "step": step.name,
            "status": status,
            "said": said,
            "settings": _plain(step.settings),
            **self._common,
            "began": began.isoformat(timespec="seconds"),
            "seconds": round(ended.seconds, 1),
            "result": result,
        }
        write_record(self._file(step), record)
        return Outcome(step.name, status, said, record["seconds"], record)

    def _file(self, step: Step) -> Path:
        return self._out / "results" / f"{step.name}.json"

    def _time(self) -> str:
        spent, total = self._budget.spent(), self._budget.seconds
        return f"[{int(spent) // 60}:{int(spent) % 60:02} of {total / 60:.3g} min]"


def is_done(record: Any) -> bool:
    """Tell whether a result file is that of a step that was done."""
    return isinstance(record, dict) and record.get("status") == DONE


def judge(step: Step, ended: Ended, result: Any, log: Path) -> tuple[str, str]:
    """Return the status of a step that has ended, and a line for people."""
    cut = ended.stopped or ended.at_limit
    if ended.status == 0 and result is not None:
        return DONE, step.headline(result)
    if step.resumes is not None and (cut or ended.status == _INTERRUPTED):
        return UNFINISHED, f"stopped after {ended.seconds:.0f} s; the next run goes on from there"
    if ended.stopped:
        return UNFINISHED, "interrupted; the next run begins it anew"
    if ended.at_limit:
        said = f"ended after {ended.seconds:.0f} s, more than it may take"
        return FAILED, said if result is None else f"{said}; until then {step.headline(result)}"
    if ended.status == 0:
        return FAILED, "wrote no result"
    if result is not None:
        return FAILED, step.headline(result)
    return FAILED, f"exit status {ended.status}: {last_error(log)}"


def _plain(settings: Mapping[str, Any]) -> Any:
    """Return settings as they come out of a JSON file."""
    return json.loads(json.dumps(settings))
