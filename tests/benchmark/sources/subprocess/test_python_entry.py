"""Functions of Python files as sources: their images, their process, and how they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from shapeshd.benchmark.sources.examine import examine_entry
from shapeshd.benchmark.sources.latents import normal_latents, sample_seeds
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.benchmark.sources.subprocess import code_process
from shapeshd.benchmark.sources.subprocess.code_process import UserTraceback
from shapeshd.benchmark.sources.subprocess.user_function import load_function
from shapeshd.errors import ShapesHDError, UsageError
from tests.support.same_process import SameProcess, own_children
from tests.support.tanh_generator import (
    DIM,
    LAST,
    check_cuts,
    opened,
    rounded,
)

OpenEntry = Callable[..., GeneratorSource]


@pytest.fixture
def entry(tmp_path: Path) -> Iterator[OpenEntry]:
    """Write a Python file and open a function in it, in a process of its own."""
    made: list[GeneratorSource] = []
    others = own_children()  # of other tests: loky's workers, trackers

    def call(code: str, function: str = "make", *, trust: bool = True, **options: Any) -> Any:
        device = options.pop("device", "cpu")
        path = tmp_path / "gen.py"
        path.write_text(textwrap.dedent(code))
        made.append(
            opened(
                f"{path}:{function}",
                f"gen.py:{function}",
                trust=trust,
                device=device,
                **{"timeout": 60, **options},
            )
        )
        return made[-1]

    yield call
    for source in made:
        source.close()
    assert not own_children() - others


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python entries run in this process; see `SameProcess`."""
    monkeypatch.setattr(code_process, "_Child", SameProcess)


@pytest.fixture
def entry_here(here: None, entry: OpenEntry) -> OpenEntry:
    """Like `entry`, but in this process."""
    return entry


HEAD = """
import os, sys, time
import numpy as np
import torch
latent_dim = 5
"""


def test_function_of_latents_in_a_process_of_its_own(
    entry: OpenEntry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its folder comes first on the path, it may print, and it gives its own images."""
    for package in ("models", "benchmark"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("MINE = 1\n")
    source = entry(
        HEAD
        + """
import benchmark, models
print("loading", flush=True)
os.write(1, b"raw\\n")

def make(z):
    print("called", z.dtype, tuple(z.shape))
    assert not torch.is_grad_enabled() and not torch.is_inference(z)
    ramp = torch.linspace(-1, 1, 48).reshape(3, 4, 4) * models.MINE * benchmark.MINE
    return torch.tanh(z.sum(1))[:, None, None, None] * ramp
"""
    )
    z = normal_latents(3, 0, 30, DIM)
    images = torch.tanh(z.sum(1))[:, None, None, None] * torch.linspace(-1, 1, 48).reshape(3, 4, 4)
    check_cuts(source, rounded(images), close=True)
    said = source.describe()
    assert (said["takes"], said["latent_dim"], said["range"]) == ("latents", DIM, "[-1, 1]")
    assert said["clamped_share"] == 0
    source.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "loading" in err and "raw" in err and "called torch.float32 (7, 5)" in err


def test_function_of_seeds(entry_here: OpenEntry) -> None:
    source = entry_here(
        """
        import numpy as np

        def make(seeds):
            assert seeds.dtype == np.int64
            images = np.empty((len(seeds), 6, 6, 3), np.uint8)
            for image, seed in zip(images, seeds):
                image[:] = np.random.RandomState(seed).randint(40, 200, (6, 6, 3))
            return images
        """
    )
    expected = [
        np.random.RandomState(seed).randint(40, 200, (6, 6, 3)) for seed in sample_seeds(3, 0, 30)
    ]
    check_cuts(source, torch.from_numpy(np.stack(expected).astype(np.uint8)).permute(0, 3, 1, 2))
    assert source.describe()["takes"] == "seeds"
    assert source.describe()["latent_dim"] is None


def test_network_as_an_attribute_is_put_in_eval_mode(entry_here: OpenEntry) -> None:
    source = entry_here(
        """
        import torch

        class Net(torch.nn.Module):
            z_dim = 5
            def __init__(self):
                super().__init__()
                self.dropout = torch.nn.Dropout()
            def forward(self, z):
                assert torch.is_inference_mode_enabled()
                return torch.tanh(self.dropout(z)[:, :3, None, None].repeat(1, 1, 4, 4))

        class holder:
            net = Net()
        """,
        "holder.net",
    )
    z = normal_latents(3, 0, 30, DIM)
    check_cuts(source, rounded(torch.tanh(z[:, :3, None, None].repeat(1, 1, 4, 4))), close=True)


def test_module_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.py").write_text(
        "import numpy as np\n"
        "def g(seeds):\n"
        "    return np.full((len(seeds), 3, 5, 4), 9, np.uint8)\n"
    )
    monkeypatch.chdir(tmp_path)

    with opened("work.mine:g", trust=True) as source:
        assert torch.equal(source.images(0, 3), torch.full((3, 3, 5, 4), 9, dtype=torch.uint8))
    with pytest.raises(UsageError, match=r"^work\.absent:g: .*no module work\.absent"):
        opened("work.absent:g", trust=True)


def test_nothing_runs_without_trust(entry_here: OpenEntry, tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'marker')!r}, 'w')\ndef make(seeds): pass\n"
    with pytest.raises(UsageError, match=r"^gen\.py:make: .*Python file .*trust"):
        entry_here(code, trust=False)
    assert not (tmp_path / "marker").exists()
    entry_here(code)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def other(z): pass\ndef more(z): pass", ".*no make in it; .*other, more"),
        ("make = 3", "is an int; .*function"),
        ("class make: pass", r"is a class; .*make\(\.\.\.\)"),
        ("def make(): pass", "takes no argument .*makes a generator"),
        ("def make(z, c, w): pass", r"needs more arguments .*\(w\)"),
        ("def make(z, *, psi): pass", r"needs more arguments .*\(psi\)"),
        ("def make(z): pass", r".*give latent_dim"),
        ("def make(*, z): pass", "takes no argument"),
    ],
)
def test_what_is_no_function_of_latents(tmp_path: Path, code: str, message: str) -> None:
    path = tmp_path / "generator_of_test.py"
    path.write_text(code)
    with pytest.raises(UsageError, match=f"^G: {message}") as caught:
        load_function(
            str(path), "make", name="G", device=torch.device("cpu"), options=SourceOptions()
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\nimport no_such_thing", r" raised ModuleNotFoundError: .* \(line 2\)$"),
        ("x = 1\nx = = 2", r" raised SyntaxError: .*\(line 2\)$"),
        ("import sys\n\nsys.exit(3)", r" raised SystemExit: 3 \(line 3\)$"),
        ("make = 3", ": is an int"),
    ],
    ids=lambda value: value.splitlines()[-1][:24],
)
def test_entries_that_cannot_be_loaded(entry_here: OpenEntry, code: str, message: str) -> None:
    with pytest.raises(ShapesHDError, match=rf"^gen\.py:make{message}") as caught:
        entry_here(code)
    assert "\n" not in str(caught.value)


def test_entry_that_ends_its_process_while_it_loads(entry: OpenEntry) -> None:
    with pytest.raises(
        ShapesHDError,
        match=r"^gen\.py:make: .*exit status 4",
    ):
        entry("import os; os._exit(4)")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0, "its process ended by itself (exit status 0)"),
        (5, "its process ended by itself (exit status 5)"),
        (-9, "its process was killed (signal 9; out of memory?)"),
        (-11, "its process crashed (SIGSEGV)"),
        (-99, "its process crashed (signal 99)"),
    ],
)
def test_how_a_process_ended_is_told(status: int, message: str) -> None:
    assert code_process.describe_end(status) == message


FAILING = (
    HEAD
    + """calls = []
def make(z):
    calls.append(1); black = lambda: torch.zeros(7, 3, 4, 4)
"""
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no\\nway')", r" raised ValueError: no way \(line 9\)$"),
        (
            "if len(calls) < 3: return black()\n    raise OSError('third')",
            r" raised OSError: third \(line 10\)$",
        ),
        ("sys.exit('enough')", r" raised SystemExit: enough \(line 9\)$"),
        ("return torch.zeros(3, 3, 4, 4)", r": .*3 images for 7 samples$"),
        ("return None", r": returned None"),
        ("return black() * float('nan')", r": .* NaN"),
        ("raise MemoryError", r" raised MemoryError: .* smaller batch \(line 9\)$"),
    ],
    ids=lambda value: value[:24],
)
def test_functions_that_fail(entry_here: OpenEntry, body: str, message: str) -> None:
    late = "calls" in body
    source = entry_here(f"{FAILING}    {body}\n", range="unit" if late else "auto")
    if late:
        assert source.images(0, LAST).shape == (LAST, 3, 4, 4)
    check_failure(source, message)


def check_failure(source: GeneratorSource, message: str) -> None:
    """One line, with the user's traceback as the cause; and the source is closed."""
    with pytest.raises(ShapesHDError, match=rf"^gen\.py:make{message}") as caught:
        source.images(0, 5 * LAST)
    assert "\n" not in str(caught.value)
    if " raised " in str(caught.value):
        assert isinstance(caught.value.__cause__, UserTraceback)
        assert "Traceback (most recent call last)" in str(caught.value.__cause__)
    with pytest.raises(ShapesHDError, match="the source is closed"):
        source.images(LAST, LAST + 1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no way')", r" raised ValueError: no way \(line 9\)$"),
        ("os.kill(os.getpid(), 11)", r": .*crashed \(SIGSEGV\)"),
    ],
    ids=["raises", "dies"],
)
def test_process_that_fails(entry: OpenEntry, body: str, message: str) -> None:
    check_failure(entry(f"{FAILING}    {body}\n"), message)


def test_code_that_hangs_is_ended(entry: OpenEntry) -> None:
    """Ctrl-C reaches us and not it; then its time is up.

    It is ended also with a process of its own, that would hold the pipes open.
    """
    others = own_children()
    source = entry(HEAD + "if os.fork() == 0: time.sleep(600)\ndef make(z): time.sleep(600)\n")
    source._batches._timeout = 60.0
    child = own_children() - others
    assert len(child) == 2
    # What a shell starts in the background is deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            source.images(0, 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert all(process.is_running() for process in child)
    source._batches._timeout = 1.0
    with pytest.raises(ShapesHDError, match=r" 1 s .*0 \.\. 6"):
        source.images(20, 30)
    psutil.wait_procs(child, timeout=5)
    assert not any(process.is_running() for process in child)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gen.py", "name a function"),
        ("gen.py:", "name a function"),
        (":make", "name a function"),
        ("gen.py:make()", "name a function"),
        ("absent.py:make", r"no file absent\.py"),
        ("some-thing:make", r"neither a \.py file nor"),
    ],
)
def test_texts_that_name_no_function(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        examine_entry(OpenRequest(text))


PARENT = """
import sys
from shapeshd.benchmark.sources import SourceOptions, open_source
with open_source(sys.argv[1], trust=True, options=SourceOptions(batch=2)) as source:
    print("ready", flush=True)
    source.images(0, 4)
"""


def test_no_process_outlives_its_parent(tmp_path: Path) -> None:
    (tmp_path / "gen.py").write_text(
        "import os, time\n"
        "def make(seeds):\n"
        "    open('pid', 'w').write(str(os.getpid()))\n"
        "    while True: pass\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "gen.py:make"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    pid = tmp_path / "pid"
    latest = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < latest and parent.poll() is None
        time.sleep(0.05)
    child = psutil.Process(int(pid.read_text()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=20)
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE  # init's to reap
