"""Bad input to `render`: one clear line, the right status, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from shapeshd.dataset.shards import list_shards
from shapeshd.factors import NAMES
from tests.support.refusals import check_refusal
from tests.support.render_runs import files, flip_byte

Run = Callable[..., tuple[int, str, str]]
HEADER = ",".join(NAMES)
GOOD_ROW = "0.1,0.2,0.3,1.5,cube,-7"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "0"], "--count"),
        (["--count", "-5"], "--count"),
        (["--count", "10000000000"], "--count"),
        (["--count", "many"], "'many' is not"),
        (["--size", "0"], "--size must"),
        (["--size", "-64"], "size"),
        (["--size", "100000"], "size"),
        (["--size", "64.5"], "not a valid integer"),
        (["--seed", "-1"], "seed"),
        (["--seed", str(2**63)], "seed"),
        (["--seed", "abc"], "not a valid integer"),
        (["--shard-size", "0"], "--shard-size"),
        (["--shard-size", "1000000"], "--shard-size"),
        (["--jobs", "two"], "a number of workers"),
        (["--jobs", "0"], "a number of workers"),
        (["--jobs", "-3"], "a number of workers"),
        (["--antialias", "smooth"], "a number nor none"),
        (["--antialias", "0"], "--antialias must"),
        (["--antialias", "nan"], "--antialias must"),
        (["--antialias-depth", "0"], "--antialias-depth"),
        (["--compression", "rar"], "'rar' is not"),
        (["--backend", "mpi"], "'mpi' is not"),
        (["--sampling", "sobol"], "'sobol' is not"),
        (["--sampling", "table"], "--sampling table and --factors"),
        (["--sampling", "grid", "--seed", "3"], "--seed has no meaning"),
        (["--sampling", "grid", "--count", "480001"], "more than the 480,000"),
        (["--shards", "3"], "form A:B"),
        (["--shards", "a:b"], "form A:B"),
        (["--shards", "²:3"], "form A:B"),
        (["--shards", "2:1"], "0 <= A < B <= 3"),
        (["--shards", "0:9"], "0 <= A < B <= 3"),
        (["--colour"], "No such option"),
        (["extra"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    out = tmp_path / "out"
    base = ["--count", "50", "--shard-size", "20"]
    check_refusal(run("render", out, *base, *arguments), 2, message, out)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "CSV file"),
        (HEADER, "no rows"),
        ("a,b\n1,2\n", "lacks the column floor_hue"),
        (f"{HEADER.replace('shape,', '')}\n0,0,0,1,0\n", "lacks the column shape"),
        (f"{HEADER},weight\n{GOOD_ROW},1\n", "a column 'weight'"),
        (f"{HEADER}\n{GOOD_ROW}\n0.1,0.2,x,1,0,0\n", "row 3, column object_hue: 'x'"),
        (f"{HEADER}\n{GOOD_ROW}\n0.1,0.2,,1,0,0\n", "row 3, column object_hue: ''"),
        (f"{HEADER}\n1.5,0,0,1,0,0\n", "row 2, column floor_hue: '1.5'"),
        (f"{HEADER}\n0,0,0,nan,0,0\n", "row 2, column scale: 'nan'"),
        (f"{HEADER}\n0,0,0,1,pyramid,0\n", "row 2, column shape: 'pyramid'"),
        (f"{HEADER}\n0,0,0,1,1.5,0\n", "row 2, column shape: '1.5'"),
        (f"{HEADER}\n0,0,0,1,1,inf\n", "row 2, column orientation: 'inf'"),
        (f"{HEADER}\n0,0,0,1,1,2,9,9\n", "more cells than"),
        ("\x00\xff\xfe binary", "CSV"),
    ],
)
def test_wrong_tables(run: Run, tmp_path: Path, text: str, message: str) -> None:
    table, out = tmp_path / "factors.csv", tmp_path / "out"
    table.write_bytes(text.encode("latin-1"))
    result = run("render", out, "--sampling", "table", "--factors", table)
    check_refusal(result, 2, message, out)


def test_a_missing_table(run: Run, tmp_path: Path) -> None:
    result = run("render", tmp_path / "o", "--sampling", "table", "--factors", tmp_path / "no.csv")
    check_refusal(result, 2, "no such file", tmp_path / "o")


def test_a_good_table_in_any_order(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "factors.csv"
    table.write_text(
        "shape, scale,orientation,floor_hue,wall_hue,object_hue\ncapsule,2,30,0,0.5,0.25\n"
        "0,1,-30,0,0,1\n"
    )
    status, _, _ = run(
        "render", tmp_path / "out", "--sampling", "table", "--factors", table, "--size", "8"
    )
    assert status == 0
    with h5py.File(tmp_path / "out" / "dataset.h5") as file:
        assert file["labels"][()].tolist() == [[0, 0.5, 0.25, 2, 3, 30], [0, 0, 1, 1, 0, -30]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "64"], "size is 32, not 64"),
        (["--seed", "1"], "seed is 0, not 1"),
        (["--antialias", "none"], "antialias is 0.3, not None"),
        (["--antialias-depth", "2"], "antialias_depth is 3, not 2"),
        (["--shard-size", "25"], "shard_size is 20, not 25"),
        (["--compression", "none"], "compression is 'gzip', not 'none'"),
        (["--sampling", "grid"], "sampling is 'uniform', not 'grid'"),
        (["--count", "30"], "50 images, more than --count"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_another_dataset_is_not_touched(
    run: Run, rendered: Path, arguments: list[str], message: str
) -> None:
    before = files(rendered)
    base = ["--count", "50", "--size", "32", "--shard-size", "20"]
    check_refusal(run("render", rendered, *base, *arguments), 2, message)
    assert files(rendered) == before


def test_another_table_is_not_mixed_in(run: Run, tmp_path: Path) -> None:
    table, out = tmp_path / "factors.csv", tmp_path / "out"
    base = ["render", out, "--sampling", "table", "--factors", table, "--size", "8"]
    table.write_text(f"{HEADER}\n{GOOD_ROW}\n{GOOD_ROW}\n")
    assert run(*base)[0] == 0
    before = files(out)
    table.write_text(f"{HEADER}\n{GOOD_ROW}\n{GOOD_ROW.replace('cube', 'sphere')}\n{GOOD_ROW}\n")
    check_refusal(run(*base), 2, "the factors of image 1 differ")
    assert files(out) == before


def test_out_is_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    check_refusal(run("render", tmp_path / "out", "--count", "1"), 2, "is a file")
    assert (tmp_path / "out").read_text() == "mine"


def test_out_holds_other_things(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    check_refusal(run("render", tmp_path, "--count", "1"), 2, "is no dataset and not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_out_cannot_be_made(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("render", tmp_path / "file" / "out", "--count", "1", "--size", "8")
    check_refusal(result, 1, "cannot be written")


def test_a_foreign_file_among_the_shards(run: Run, rendered: Path, tmp_path: Path) -> None:
    """A foreign HDF5 file under a shard's name is no shard: it is made anew, and it is said."""
    out = tmp_path / "out"
    shutil.copytree(rendered, out)
    list_shards(out)[2].unlink()
    with h5py.File(out / "shards" / "shard-000002.h5", "w") as file:
        file["images"] = [1, 2, 3]
    status, stdout, _ = run("render", out, "--count", 50, "--size", 32, "--shard-size", 20)
    assert status == 0
    assert "damaged shards anew (2)" in stdout
    assert files(out) == files(rendered)


@pytest.mark.parametrize("command", ["info", "verify"])
def test_flipped_bits_are_named(run: Run, rendered: Path, tmp_path: Path, command: str) -> None:
    out = tmp_path / "out"
    shutil.copytree(rendered, out)
    victim = list_shards(out)[1]
    flip_byte(victim, victim.stat().st_size // 2)
    status, stdout, stderr = run(command, out)
    assert "Traceback" not in stderr
    if command == "verify":
        assert status == 1
        assert "shard-000001.h5" in stdout + stderr


def test_no_povray(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAPESHD_POVRAY", "no-such-povray")
    out = tmp_path / "out"
    check_refusal(run("render", out, "--count", "1"), 1, "apt-get install povray", out)


def test_old_povray(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "old-povray"
    program.write_text("#!/bin/sh\necho 'POV-Ray 3.6.2'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("SHAPESHD_POVRAY", str(program))
    out = tmp_path / "out"
    check_refusal(run("render", out, "--count", "1"), 1, "3.7 or newer is needed", out)


def test_too_little_space_is_said_before_work_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))
    out = tmp_path / "out"
    check_refusal(run("render", out, "--count", "900", "--size", "8"), 1, "are needed", out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_a_full_disk(run: Run, small_disk: Path, backend: str) -> None:
    """The disk fills on the way: one line, finished shards stay, and the run goes on later."""
    ballast = small_disk / "ballast"
    out = small_disk / "out"
    arguments = "--count 60 --size 64 --shard-size 10 --compression none --jobs 2".split()  # noqa: SIM905
    # The estimate is taken while there is room; the ballast then takes the room away.
    script = (
        "import shapeshd.render.run as r, pathlib\n"
        "plain = r.run_render\n"
        f"def late(*a, **k):\n    pathlib.Path({str(ballast)!r}).write_bytes(bytes(3_650_000))\n"
        "    return plain(*a, **k)\n"
        "r.run_render = late\n"
        "from shapeshd.cli.main import main\n"
        f"main(['render', {str(out)!r}, *{arguments!r}, '--backend', {backend!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("shapeshd: error:") == 1
    assert "no space left" in done.stderr
    assert not (out / ".work").exists()
    ballast.unlink()
    status, _, stderr = run("render", out, *arguments)
    assert status == 0, stderr
    assert run("verify", out)[0] == 0
