"""Commands that are killed while they write, and run again; as a program of one thread.

``python -m tests.support.killed_commands FOLDER`` runs each of `commands` in a forked child: once
whole, then killed at its first, a middle and its last change of a file system, and at random ones,
each time run again afterwards. It writes what it found to standard output, a JSON object by name.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from shapeshd.benchmark.recognizer.recognizer import Recognizer
from shapeshd.benchmark.result.files import REPORT
from shapeshd.benchmark.scoring import counting
from shapeshd.benchmark.scoring import score as scoring
from shapeshd.cli.main import main as shapeshd
from shapeshd.factors import BIN_SHAPE, NAMES, SHAPE, FloatArray, from_unit
from shapeshd.models import Generator, read_generator, save_generator
from shapeshd.models.training.trainer import Trainer
from tests import ROOT
from tests.support.projections import save_small
from tests.support.tiny_models import TABLES

EVENTS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")
RANDOM_NAME = re.compile(r"[0-9a-f]{32}")
LOADED = (
    "matplotlib.backends.backend_svg", "scipy.stats", "shapeshd.benchmark.report.html",
    "shapeshd.cli.score_run", "shapeshd.models.projection.run",
)  # fmt: skip
"""What every child would load anew, for seconds."""

RANDOM = 2
"""Kills at random places, beside those at the first, a middle and the last one."""


class Command(NamedTuple):
    """A command line.

    Attributes:
        words: after ``shapeshd``; the output is below the folder "out", where it runs.
        timed: suffixes of files whose bytes hold a time, or follow from one.
        slow: whether it is killed once alone, in the middle.
        plain: whether a score has no report and no look at its images, which another one has, and
            takes a pixel for the shape and nothing else.
    """

    words: tuple[str, ...]
    timed: tuple[str, ...] = ()
    slow: bool = False
    plain: bool = False


DATA = "render:3:16,size=16"
ENTRIES = tuple(
    str(ROOT / "benchmark" / "results" / "foreign" / f"{name}.json") for name in ("dcgan", "ddpm")
)
COMMANDS = {
    "render": Command(
        ("render", "out/set", *["--count", "12", "--size", "16", "--shard-size", "4"],
         *["--jobs", "1", "--engine", "torch", "--backend", "threading"]), (".h5", "manifest.json"),
    ),
    "export folder": Command(("export", DATA, "out/images", "--format", "folder")),
    "export zip": Command(("export", DATA, "out/set.zip", "--format", "stylegan-zip")),
    "export tars": Command(
        ("export", DATA, "out/tars", "--format", "webdataset", "--per-file", "8")
    ),
    "export parquet": Command(
        ("export", DATA, "out/set", "--format", "parquet", "--per-file", "8")
    ),
    "export h5": Command(("export", DATA, "out/set.h5", "--format", "h5"), (".h5",)),
    "preview": Command(("preview", DATA, "out/sheet.png", "--count", "8")),
    "sample a sheet": Command(("sample", "small.safetensors", "out/sheet.png", "--count", "4")),
    "sample a folder": Command(("sample", "small.safetensors", "out/images", "--count", "4")),
    "sample a zip": Command(("sample", "small.safetensors", "out/images.zip", "--count", "4")),
    "score": Command(
        ("score", "few", "--distribution", "few.toml",
         "--out", "out/score"), (".json", ".html", ".npz", "lock"), slow=True,
    ),
    "score with a cache": Command(
        ("score", "averaged.safetensors", "--distribution", "few.toml", "--samples", "128",
         "--fidelity", "100", "--out", "out/score"), (".json", ".html", ".npz", "lock"),
        slow=True, plain=True,
    ),
    "score a sweep": Command(
        ("score", "averaged.safetensors", "--sweep", "truncation=0.5,1", "--samples", "64",
         "--distribution", "few.toml",
         "--out", "out/sweep"), (".json", ".html", ".npz", "lock"), slow=True, plain=True,
    ),
    "project": Command(
        ("project", "small.safetensors", "render:5:8,size=32", "--count", "2", "--steps", "3",
         "--pool", "16", "--reference", "2", "--recognizer", "none", "--out", "out/project"),
        (".json", ".html"), slow=True,
    ),
    "compare": Command(("compare", *ENTRIES, "--out", "out/page.html"), (".html",), slow=True),
    "compare markdown": Command(("compare", *ENTRIES, "--out", "out/page.md")),
    "compare entries": Command(("compare", *ENTRIES, "--entry", "out")),
    "train vae": Command(
        ("train", "vae", "render:5:96,size=16", "--config", "tiny.toml", "--workers", "0",
         "--out", "out/run"), (".json", ".jsonl", ".safetensors", ".log"), slow=True,
    ),
}  # fmt: skip


def prepare(folder: Path) -> None:
    """Write what the commands read."""
    save_small(folder / "small.safetensors")
    generator = read_generator(folder / "small.safetensors")
    assert isinstance(generator, Generator)
    generator.mapping.average.fill_(0.1)  # without one it cannot be truncated
    save_generator(folder / "averaged.safetensors", generator, {})
    one = {name: [1.0] + [0.0] * (bins - 1) for name, bins in zip(NAMES, BIN_SHAPE, strict=True)}
    few = {name: {"weights": weights} for name, weights in one.items() if name != "shape"}
    (folder / "few.toml").write_text(toml(few))
    render = "render few --count 64 --size 64 --jobs 1 --backend threading --engine torch"
    assert run((*render.split(), "--distribution", "few.toml"), folder) == 0
    tiny = {**TABLES["images"], "checks": {**TABLES["images"]["checks"], "held_out": 24}}
    (folder / "tiny.toml").write_text(toml(tiny))


def toml(table: dict[str, Any], name: str = "") -> str:
    """Return a table as TOML."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{name}]"] * bool(name) + [f"{k} = {json.dumps(v)}" for k, v in plain.items()]
    inner = [toml(value, key) for key, value in table.items() if isinstance(value, dict)]
    return "\n".join([*lines, *inner]) + "\n"


def in_child(work: Callable[[], None]) -> int:
    """Return the status with which a forked child ends, negative for a signal."""
    child = os.fork()
    if not child:
        try:
            work()
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(
    words: tuple[str, ...], folder: Path, kill_at: int | None = None, *, plain: bool = False
) -> int:
    """Run a command in a child, and kill it at its `kill_at`-th change of the file system.

    Args:
        words: after ``shapeshd``.
        folder: where it runs.
        kill_at: the place of the change, from 1; None for a whole run.
        plain: see `Command`.

    Returns:
        Its status; without `kill_at` the number of changes is in "changes" below `folder`.
    """
    seen = 0

    def changes(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            name, _, flags = arguments
            if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return
        elif event in EVENTS:
            name = arguments[0]
        else:
            return
        if isinstance(name, int):  # a descriptor: what it is of was opened by name before
            return
        if not str(name).startswith("/dev") and "/out" in str(Path(name).absolute()):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        os.chdir(folder)
        os.environ["SHAPESHD_CACHE"] = "out/cache"
        if plain:
            for owner, name, other in PLAIN:
                setattr(owner, name, other)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(os.open("words", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.addaudithook(changes)
        try:
            shapeshd(words)
        finally:
            if kill_at is None:
                Path("changes").write_text(str(seen))

    return in_child(work)


def write_nothing(_: Any, folder: Path) -> None:
    """Write an empty page in place of a report."""
    (folder / REPORT).write_text("")


def by_a_pixel(_: Recognizer, images: torch.Tensor) -> FloatArray:
    """Return factors (n, 6) of which a pixel of the images (n, 3, H, W) decides the shape."""
    unit = np.zeros((len(images), len(NAMES)))
    unit[:, SHAPE] = images[:, 0, 0, 0].double().numpy() / 256
    return from_unit(unit)


PLAIN: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (scoring, "write_report", write_nothing),
    (scoring, "check_images", lambda *_: None),
    (Recognizer, "__call__", by_a_pixel),
    (Recognizer, "features", by_a_pixel),
)  # fmt: skip


def left(folder: Path, timed: tuple[str, ...]) -> dict[str, str]:
    """Return digests of all files below a folder, hidden ones too; of timed ones the names."""
    return {
        RANDOM_NAME.sub("", str(path.relative_to(folder))): "timed"
        if path.name.endswith(timed or ("\0",))
        else hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


def problems(name: str, command: Command, folder: Path) -> list[str]:
    """Return what is wrong after kills of a command."""
    out, found = folder / "out", []

    def fresh() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()

    fresh()
    status = run(command.words, folder, plain=command.plain)
    if status:
        return [f"ends with {status}: {(folder / 'words').read_text()[-400:]}"]
    whole, total = left(out, command.timed), int((folder / "changes").read_text())
    if not total:
        return ["changes nothing"]
    places = {1, (total + 1) // 2, total}
    places.update(random.Random(name).choices(range(1, total + 1), k=RANDOM))
    if command.slow:
        places = {(total + 1) // 2}
    for place in sorted(places):
        fresh()
        if (status := run(command.words, folder, place, plain=command.plain)) != -signal.SIGKILL:
            found.append(f"killed at {place} of {total}: ends with {status}")
        status = run(command.words, folder, plain=command.plain)
        words = (folder / "words").read_text()
        done = status == 0 or (status == 2 and "exists already" in words)
        now = left(out, command.timed)
        if not done or now != whole:
            differ = sorted(set(now.items()) ^ set(whole.items()))[:4]
            found.append(f"killed at {place} of {total}, then {status}: {differ} {words[-300:]}")
    return found


def main() -> None:
    """Run all commands, or those that are named."""
    torch.set_num_threads(1)  # a forked child has no other thread
    for module in LOADED:
        importlib.import_module(module)
    counting._SAVE_SECONDS = Trainer.save_seconds = 0.0
    folder = Path(sys.argv[1]).resolve()
    prepare(folder)
    names = sys.argv[2:] or list(COMMANDS)
    found = {}
    for name in names:
        started = time.monotonic()
        found[name] = problems(name, COMMANDS[name], folder)
        print(f"{name}: {time.monotonic() - started:.1f} s", file=sys.stderr)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
