"""The folder of a score: settings, tallies of what has been counted, the result.

``OUT/.work`` holds tallies. A process that begins takes up what all earlier ones have counted
and names them as *absorbed* in its own tally before it deletes theirs; so nothing is lost or
counted twice, whenever a run is killed. The tallies stay when a run has ended, since more
samples can be added later.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

from shapeshd.benchmark.result.files import EXAMPLES, FIDELITY, HISTOGRAM, REPORT, RESULT
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.errors import ShapesHDError, UsageError, named
from shapeshd.support.atomic_files import remove_hidden_files
from shapeshd.support.distributed import Ranks
from shapeshd.support.file_system import FileLock

from .identity import difference
from .tally import Tally

_WORK = ".work"
_OURS = {_WORK, RESULT, HISTOGRAM, EXAMPLES, FIDELITY, REPORT}


class RunFolder:
    """The folder of a run, held by one run at a time.

    Args:
        out: the folder; it is made.
        settings: what decides the samples, fit for JSON: a run with others is refused.
        ranks: the processes of this run.
        again: whether a score that lies there is deleted and begun anew, whatever it is of.

    Attributes:
        done: what earlier runs have counted.
        own: what this process has counted, in the first one with all of `done`.
        found: what a run has found out about the source and later ones need, fit for JSON.

    Raises:
        UsageError: if the folder holds something else, or a run with other settings.
        ShapesHDError: if another run is at work in it, or a tally is damaged.
        OSError: if it cannot be written.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], ranks: Ranks, *, again: bool = False
    ) -> None:
        self.out, self._settings, self.ranks, self._again = out, settings, ranks, again
        self.found: dict[str, Any] = {}
        self._work = out / _WORK
        self._lock = FileLock(self._work / "lock")
        try:
            self._take()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        out, ranks = self.out, self.ranks
        if ranks.first:
            self._begin()
        ranks.wait()
        if not self._work.is_dir():
            raise ShapesHDError(
                f"{out}: not seen by all processes: choose a folder on a shared disk"
            )
        earlier = self._read()
        self.done = Tally()
        for tally in earlier.values():
            self.done.merge(tally)
        self.own = Tally()
        self._own_path = self._work / f"tally-{uuid.uuid4().hex}.npz"
        self._absorbed: list[str] = []
        self._saved = -1  # samples in the file
        ranks.wait()
        if ranks.first:
            self.own.merge(self.done)
            # With those that an earlier tally has absorbed: it may be deleted before them.
            old = sorted(self._work.glob("tally-*.npz"))
            self._absorbed = [path.name for path in old]
            self.save()
            for path in old:
                path.unlink()
        ranks.wait()

    def _begin(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"{self.out}: is a file; {named('out')} takes a folder")
        if self.out.is_dir():
            foreign = sorted(path.name for path in self.out.iterdir() if path.name not in _OURS)
            if foreign and not self._work.is_dir():
                raise UsageError(
                    f"{self.out}: holds other files, such as {foreign[0]}; choose another "
                    f"{named('out')}"
                )
        self._work.mkdir(parents=True, exist_ok=True)
        if not self._lock.acquire():
            raise ShapesHDError(f"{self.out}: another score is at work in this folder")
        remove_hidden_files(self._work, ".tally-*")
        if self._again:
            self._delete_all()

    def _delete_all(self) -> None:
        """Delete an earlier score; the tallies last, so that a run that is killed can go on."""
        for name in _OURS - {_WORK}:
            (self.out / name).unlink(missing_ok=True)
        for folder in self._work.iterdir():  # of fidelity, and of the look at images
            if folder.is_dir():
                shutil.rmtree(folder)
        for path in self._work.glob("tally-*.npz"):
            path.unlink()

    def _read(self) -> dict[str, Tally]:
        """Return the tallies by file name, without those that others have absorbed."""
        tallies, absorbed = {}, set()
        for path in sorted(self._work.glob("tally-*.npz")):
            tally, card = Tally.load(path)
            self._check(card.get("settings", {}))
            self.found.update(card.get("found", {}))
            tallies[path.name] = tally
            absorbed.update(card.get("absorbed", []))
        return {name: tally for name, tally in tallies.items() if name not in absorbed}

    def _check(self, before: dict[str, Any]) -> None:
        if differs := difference(before, self._settings):
            raise UsageError(f"{self.out}: {differs}")

    @property
    def work(self) -> Path:
        """Where a run keeps what it needs to go on."""
        return self._work

    def save(self) -> None:
        """Write what this process has counted."""
        card = {"settings": self._settings, "absorbed": self._absorbed, "found": self.found}
        self.own.save(self._own_path, card)
        self._saved = self.own.samples

    def total(self) -> Tally:
        """Return what all processes have counted; all must call it."""
        if self._saved != self.own.samples:
            self.save()
        self.ranks.wait()
        total = Tally()
        if self.ranks.first:
            for tally in self._read().values():
                total.merge(tally)
        return total

    def finished(self, samples: int) -> Result | None:
        """Return the result that lies there, if it is of these settings and so many samples."""
        result = self.earlier()
        if result is None or self.done.samples != samples or result.samples != samples:
            return None
        return result

    def earlier(self) -> Result | None:
        """Return the result that lies there, of these settings and as many samples or fewer.

        A damaged one counts for none: it is written anew.
        """
        path = self.out / RESULT
        if not path.exists() or not self.done.samples:
            return None
        try:
            result = read_result(path)
        except ShapesHDError:
            return None
        return result if isinstance(result, Result) else None

    def close(self) -> None:
        """Let others into the folder."""
        self._lock.release()


def precision_of(out: Path, asked: str, *, again: bool = False) -> str:
    """Return the precision in which a score reads: that of the run that lies in its folder.

    Another one that is asked for is refused when the folder is opened, as any other setting is.

    Args:
        out: the folder, which need not be there.
        asked: one of `PRECISIONS`.
        again: whether a run that lies there is deleted.
    """
    before = None if asked != "auto" or again else recorded_settings(out)
    if before is None:
        return asked
    return before.get("precision") or "fp32"  # in which earlier versions read


def recorded_settings(out: Path) -> dict[str, Any] | None:
    """Return the settings of the run that lies in a folder; None if there is none, or damaged."""
    for path in sorted((out / _WORK).glob("tally-*.npz")):
        try:
            return dict(Tally.load(path)[1].get("settings", {}))
        except (ShapesHDError, OSError):  # which opening the folder will say
            continue
    return None
