"""Commands as sources: their frames by number, one line for what is wrong, no process left."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from shapeshd.benchmark.scoring import score as scoring
from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.cli import score_run
from shapeshd.errors import ShapesHDError
from shapeshd.factors import BIN_SHAPE, NUM_BINS
from tests.support.fake_scores import ReadsWritten

Run = Callable[..., tuple[int, str, str]]
WIDTH, HEIGHT = 5, 3

# It knows nothing of torch; its arguments say in which way it goes wrong.
PROGRAM = """
import os, random, subprocess, sys, time
seed, start, count = (int(os.environ["SHAPESHD_" + name]) for name in ("SEED", "START", "COUNT"))
how = sys.argv[1] if len(sys.argv) > 1 else "well"
place = sys.argv[2] if len(sys.argv) > 2 else "-1"
size = [int(side) for side in os.environ.get("SIZE", "5x3").split("x")]
with open("log", "a") as log:
    print(start, count, os.environ["SHAPESHD_DEVICE"], file=log)

def frame(seed, i):
    dice = random.Random(f"{seed} {i}")
    left, right = ([20 * dice.randrange(n) for n in bins] for bins in ((12, 12, 4), (12, 4, 6)))
    left, right = bytes(left), bytes(right)
    return (left * (size[0] // 2) + right * (size[0] - size[0] // 2)) * size[1]

sample = start
for sample in range(start, start + count):
    if sample == int(place):
        if how == "dies": sys.exit("no\\nway\\x07")
        if how == "crashes": os.kill(os.getpid(), 11)
        if how == "stops": sys.exit()
        if how == "closes": os.close(1); time.sleep(60)
        if how == "hangs":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            with open("both", "w") as pids: pids.write(f"{os.getpid()} {child.pid}")
            os.rename("both", "pids")
            time.sleep(600)
        if how == "prints": sys.stdout.write("loading the model\\n")
        if how == "floods": sys.stderr.write("a warning\\n" * 200_000)
    sys.stdout.buffer.write(frame(seed, sample - start if how == "forgets" else sample))
    sys.stdout.flush()
if how == "more": sys.stdout.buffer.write(b"!")
if how == "leaves": subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if how == "fails": sys.stdout.flush(); sys.exit(7)
if how == "lingers": sys.stdout.flush(); time.sleep(600)
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sampler.py").write_text(PROGRAM)


def command(*arguments: object) -> str:
    return "cmd:" + shlex.join([sys.executable, "-I", "-S", "sampler.py", *map(str, arguments)])


def opened(text: str, seed: int = 4, **options: Any) -> Any:
    given = {"frame_size": f"{WIDTH}x{HEIGHT}", "timeout": 60.0, "batch": 8, **options}
    return open_source(text, seed=seed, trust=True, options=SourceOptions(**given))


def expected(start: int, stop: int, seed: int = 4) -> Tensor:
    images = np.empty((stop - start, HEIGHT, WIDTH, 3), np.uint8)
    for image, number in zip(images, range(start, stop), strict=True):
        left, right = halves(number, seed)
        image[:, : WIDTH // 2], image[:, WIDTH // 2 :] = left, right
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def halves(number: int, seed: int) -> tuple[list[int], list[int]]:
    """Return the colours of a frame's halves: the bins of six factors, as `ReadsWritten` does."""
    dice = random.Random(f"{seed} {number}")
    left, right = ([20 * dice.randrange(n) for n in bins] for bins in ((12, 12, 4), (12, 4, 6)))
    return left, right


def runs() -> list[tuple[int, int]]:
    """Return (start, count) of the runs since the last call."""
    lines = Path("log").read_text().split("\n")[:-1]
    Path("log").unlink()
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def own_children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def test_frames_by_number_however_they_are_asked_for() -> None:
    with opened(command()) as source:
        assert (source.kind, source.count) == ("command", None)
        whole = source.images(0, 20)
        assert whole.dtype == torch.uint8
        assert torch.equal(whole, expected(0, 20))
        assert runs() == [(0, 2), (1, 1), (0, 20)]  # the first two: does it keep to the contract?
        assert torch.equal(source.images(20, 21), expected(20, 21))
        assert torch.equal(source.images(21, 43), expected(21, 43))
        assert torch.equal(source.images(2**40, 2**40 + 2), expected(2**40, 2**40 + 2))
        assert source.images(4, 4).shape == (0, 3, HEIGHT, WIDTH)
        # The run that followed was asked for whole batches ahead, and went on; the last was not.
        assert runs() == [(20, 4), (24, 24), (2**40, 2)]
        said = source.describe()
        assert json.loads(json.dumps(said))["frame_size"] == "5x3"
    with opened(command(), seed=0) as source:  # begun elsewhere, as a run is that goes on
        assert torch.equal(source.images(7, 19), expected(7, 19, seed=0))
    with pytest.raises(ShapesHDError, match="the source is closed"):
        source.images(0, 1)


def test_placeholders_and_no_shell() -> None:
    program = "import sys; print(sys.argv[1:], file=open('arguments', 'w'))\n"
    program += "sys.stdout.buffer.write(bytes(45) * int(sys.argv[3]))"
    Path("argued.py").write_text(program)
    text = f"cmd:{sys.executable} -I -S argued.py {{seed}} --from={{start}} {{count}} {{other}} "
    with opened(text + "'two words' $HOME `id` *.py ; touch ran > ran") as source:
        source.images(6, 9)
    told = ["4", "--from=6", "3", "{other}", "two words", "$HOME", "`id`", "*.py", ";", "touch"]
    assert Path("arguments").read_text() == f"{[*told, 'ran', '>', 'ran']}\n"
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "words", ["${HOME}", "{} {a,b} {0..3}", "'f() { {first}; }'", "{seed} {start} {count} {first}"]
)
def test_braces_that_are_no_mistyped_placeholder(words: str) -> None:
    opened(f"cmd:{sys.executable} {words}").close()


def test_sample_draws_them_too(run: Run) -> None:
    given = ["--count", 2, "--device", "cpu", "--trust", "--frame-size", "5x3"]
    status, out, err = run("sample", command(), "sheet.png", *given)
    assert status == 0, err
    assert "2 images of 5x3" in out and Path("sheet.png").exists()


@pytest.mark.parametrize("how", ["floods", "leaves"])
def test_what_does_no_harm(how: str) -> None:
    """Much on stderr; a process in the background that holds the pipe open."""
    others = own_children()
    with opened(command(how, 0)) as source:
        assert torch.equal(source.images(0, 3), expected(0, 3))
    psutil.wait_procs(own_children() - others, timeout=5)
    assert not own_children() - others


FAILURES = [
    (
        "dies 0",
        r"exit status 1\) .*0 of 2 images .*no / way\?",
    ),
    ("dies 13", r"exit status 1\) .*13 of 20 images"),
    ("crashes 13", r"\(SIGSEGV\) .*13 of 20 images"),
    ("stops 13", r"exit status 0\) .*13 of 20 images .*check frame_size"),
    ("closes 0", r"closed its output .*0 of 2"),
    ("prints 0", r"more than the 2 images .*check frame_size"),
    ("more", r"more than the 2 images of 5x3 \(from sample 0\)"),
    ("fails", r"\(exit status 7\) .*written all"),
    ("lingers", r"written all, .*within 5 s"),
    ("hangs 0", r"within 1 s, .*sample 0, .*raise"),
    ("hangs 13", r"within 1 s, .*sample \d+"),
    ("forgets", r"sample 1 .*after sample 0 .*alone"),
]


@pytest.mark.parametrize(("how", "message"), FAILURES, ids=[case[0] for case in FAILURES])
def test_failures_are_told_in_one_line_and_leave_nothing(how: str, message: str) -> None:
    others = own_children()
    timeout = {"lingers": 5.0, "hangs": 1.0}.get(how.split()[0], 60.0)
    with opened(command(*how.split()), timeout=timeout) as source:
        with pytest.raises(ShapesHDError, match=message) as caught:
            source.images(0, 20)
        assert str(caught.value).startswith("cmd:") and str(caught.value).isprintable()
        assert not own_children() - others
        source._timeout = 60.0
        if how.endswith("13"):  # it may be asked again
            assert torch.equal(source.images(14, 16), expected(14, 16))
    if Path("pids").exists():
        until_gone(waited(Path("pids")))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until_gone(pids: list[int], seconds: float = 20) -> None:
    latest = time.monotonic() + seconds
    while any(map(alive, pids)):
        assert time.monotonic() < latest
        time.sleep(0.02)


def waited(path: Path, seconds: float = 120) -> list[int]:
    """Return the processes that the program names once it hangs."""
    latest = time.monotonic() + seconds
    while not (path.exists() and len(path.read_text().split()) == 2):
        assert time.monotonic() < latest
        time.sleep(0.02)
    return [int(pid) for pid in path.read_text().split()]


def test_ctrl_c_ends_it() -> None:
    others = own_children()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press() -> None:
        waited(Path("pids"))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        with opened(command("hangs", 9)) as source, pytest.raises(KeyboardInterrupt):
            source.images(0, 20)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    assert not own_children() - others
    until_gone(waited(Path("pids")))


PARENT = """
import sys
from shapeshd.benchmark.sources import SourceOptions, open_source
with open_source(sys.argv[1], trust=True, options=SourceOptions(frame_size="5x3")) as source:
    source.images(0, 20)
"""


def test_no_process_outlives_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, command("hangs", 9)])
    pids = waited(Path("pids"))
    assert all(map(alive, pids))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(20)
    until_gone(pids)


def refused(run: Run, status: int, source: str, *options: object) -> str:
    """Return the one line in which `shapeshd score` refuses a source."""
    base = ["score", source, "--samples", 6000, "--device", "cpu", "--out", "out"]
    found, out, err = run(*base, *options)
    lines = [line for line in err.splitlines() if "rror: " in line]
    assert (found, out, len(lines)) == (status, "", 1), err
    assert "internal error" not in err and "Traceback" not in err
    assert not Path("log").exists() and not Path("out").exists()
    return lines[0]


SIZE = ["--frame-size", "64x64"]
BAD: list[tuple[str, list[object], str]] = [
    ("cmd:", ["--trust", *SIZE], "no command; give cmd:"),
    ("cmd:  ", ["--trust", *SIZE], "no command"),
    ("cmd:./x 'open", ["--trust", *SIZE], "no closing quotation"),
    ("cmd:./x \0", ["--trust", *SIZE], "no command"),
    ("cmd:no-such-program", ["--trust", *SIZE], "no program 'no-such-program'"),
    ("cmd:./sampler.py", ["--trust", *SIZE], "no program './sampler.py'"),
    ("cmd:.", ["--trust", *SIZE], "no program '.'"),
    ("cmd:./odd", ["--trust", *SIZE], "Exec format error"),
    ("cmd:sh x {first} {count}", ["--trust", *SIZE], "unknown placeholder {first}"),
    ("cmd:sh x --at={START}", ["--trust", *SIZE], "unknown placeholder {START}"),
    ("SAMPLER", SIZE, "add --trust"),
    ("SAMPLER", ["--trust"], "give --frame-size WIDTHxHEIGHT"),
    ("SAMPLER", ["--trust", "--frame-size", "64"], "such as 64x64, not '64'"),
    ("SAMPLER", ["--trust", "--frame-size", "64x"], "not '64x'"),
    ("SAMPLER", ["--trust", "--frame-size", "0x64"], "not '0x64'"),
    ("SAMPLER", ["--trust", "--frame-size", "-1x64"], "not '-1x64'"),
    ("SAMPLER", ["--trust", "--frame-size", "64 x 64"], "not '64 x 64'"),
    ("SAMPLER", ["--trust", "--frame-size", "9999x9999"], "at most 16,777,216"),
    ("SAMPLER", ["--trust", *SIZE, "--range", "unit"], "leave out --range"),
    ("SAMPLER", ["--trust", *SIZE, "--layout", "nhwc"], "leave out --layout"),
    ("SAMPLER", ["--trust", *SIZE, "--latent-dim", 5], "leave out --latent-dim"),
    ("SAMPLER", ["--trust", *SIZE, "--key", "a"], "leave out --key"),
    ("SAMPLER", ["--trust", *SIZE, "--seed", -1], "seed must be"),
    ("SAMPLER", ["--trust", *SIZE, "--timeout", 0], "--timeout must be above"),
    ("SAMPLER", ["--trust", *SIZE, "--batch", 0], "--batch must be at least"),
    ("./cmd:some.npy", SIZE, "leave out --frame-size"),
]


@pytest.mark.parametrize(("source", "options", "message"), BAD, ids=[case[2] for case in BAD])
def test_bad_input(run: Run, source: str, options: list[object], message: str) -> None:
    Path("odd").write_bytes(b"\0\1no program")
    Path("odd").chmod(0o755)
    np.save("cmd:some.npy", np.zeros((6000, 2, 2, 3), np.uint8))
    assert message in refused(run, 2, command() if source == "SAMPLER" else source, *options)


@pytest.mark.parametrize(
    ("how", "message"),
    [("dies 0", "no / way"), ("hangs 0", "within 1 s"), ("prints 0", "--frame-size")],
    ids=lambda text: text.split()[0],
)
def test_failures_on_the_command_line(run: Run, how: str, message: str) -> None:
    given = ["--trust", "--frame-size", "5x3", "--out", "out", "--device", "cpu"]
    given += ["--timeout", 1 if "hangs" in how else 60]
    status, out, err = run("score", command(*how.split()), "--samples", 6000, *given)
    assert (status, out, len(err.splitlines())) == (1, "", 1), err
    assert message in err


@pytest.mark.usefixtures("no_page")
def test_a_score_keeps_what_was_counted_and_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that dies on the way; then the whole. The histogram is that of the images."""
    monkeypatch.setattr(scoring, "choose_examples", lambda *_, **__: {})
    monkeypatch.setenv("SIZE", "32x32")
    monkeypatch.setattr(score_run, "load_recognizer", lambda *_: ReadsWritten(32))
    # The same text both times: what changes is what the program finds.
    source = (
        (tmp_path / "sampler.py").read_text().replace("int(place)", "int(open('where').read())")
    )
    (tmp_path / "sampler.py").write_text(source)
    Path("where").write_text("4500")
    base = ["score", command("dies"), "--trust", "--frame-size", "32x32", "--samples", 5800]
    base += ["--device", "cpu", "--batch", 2048]
    status, _, err = run(*base)
    assert status == 1
    counted = "4,096 of 5,800 samples are counted and kept, and the same command goes on"
    assert counted in err and "no / way" in err
    runs()
    Path("where").write_text("-1")
    status, _, err = run(*base, "--json")
    assert status == 0, err
    assert {start for start, _ in runs()} == {0, 1, 4096, 4608}
    (folder,) = tmp_path.glob("score-*")
    pairs = np.array([halves(number, 0) for number in range(5800)])  # (n, 2, 3)
    rows = pairs.transpose(0, 2, 1).reshape(-1, 6) // 20
    whole = np.bincount(np.ravel_multi_index(tuple(rows.T), BIN_SHAPE), minlength=NUM_BINS)
    np.testing.assert_array_equal(np.load(folder / "histogram.npy"), whole)
    result = json.loads((folder / "result.json").read_text())
    assert result["samples"] == 5800
