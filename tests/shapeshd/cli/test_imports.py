"""What commands do not import: a refusal needs no network library, a table no figures."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from shapeshd.benchmark.sources.open import check_source
from shapeshd.errors import UsageError

LEADERBOARD = Path(__file__).parents[3] / "benchmark" / "results" / "leaderboard"
HEAVY = ("torch", "torchvision", "scipy.stats", "matplotlib", "pandas", "h5py", "jinja2")


Found = tuple[int, str, list[str]]
"""Status of a command, what it said on stderr, and which of `HEAVY` are imported since."""


def run_and_list(lines: Sequence[str], folder: Path) -> list[Found]:
    """Run commands one after the other in one new process."""
    script = (
        "import contextlib, io, json, sys\nfrom shapeshd.cli.main import main\nfound = []\n"
        "for line in sys.argv[1:]:\n"
        "    said, status = io.StringIO(), 0\n"
        "    with contextlib.redirect_stderr(said):\n"
        "        try:\n            main(line.split())\n"
        "        except SystemExit as stop:\n            status = stop.code\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    found.append([status, said.getvalue(), heavy])\n"
        "print('\\n' + json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *lines],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [tuple(each) for each in json.loads(done.stdout.splitlines()[-1])]


def test_compare_imports_neither_figures_nor_torch(tmp_path: Path) -> None:
    ((status, _, found),) = run_and_list([f"compare {LEADERBOARD}"], tmp_path)
    assert status == 0
    assert found == []


def test_scoring_does_not_import_torchvision() -> None:
    code = (
        "import sys, shapeshd.cli.score_run\n"
        "assert not {'torchvision', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


REFUSED = [
    ("score nosuch.pt", "nosuch.pt: no such file"),
    ("score net.pt", "--trust"),
    ("score net.pt --trust", "--latent-dim"),
    ("score net.pt --trust --latent-dim 8 --steps 3", "leave out --steps"),
    ("score net.pt --trust --latent-dim 8 --recognizer none.safetensors", "none.safetensors"),
    ("score net.pt --trust --latent-dim 8 --distribution none.toml", "none.toml"),
    ("score net.pt --trust --latent-dim 8 --features vgg", "--fidelity"),
    ("score net.pt --trust --latent-dim 8 --fidelity 100 --features no", "no features 'no'"),
    ("score net.pt --trust --latent-dim 8 --samples 10", "5,761"),
    ("score net.pt --trust --latent-dim 8 --samples 6000 --protocol chi2-20k", "--protocol"),
    ("score file.py:function", "there is no file file.py"),
    ("score cmd:program", "--frame-size"),
    ("score pictures.parquet", "Parquet"),
    ("sample nosuch.pt out.png", "nosuch.pt: no such file"),
    ("sample net.pt out.png", "--trust"),
    ("compare nosuch", "nosuch"),
    ("score net.pt --trust --latent-dim 8 --device foo", "--device foo"),
    ("score net.pt --trust --latent-dim 8 --truncation 0.5", "leave out --truncation"),
    ("train vae nosuch --config smoke --out run", "nosuch: no such file"),
    ("train vae --config smoke --out run", "DATASET"),
    ("train vae pictures.parquet --config nosuch --out run", "nosuch"),
    ("train vae pictures.parquet --config smoke --out run --set vae.nosuch=1", "vae.nosuch"),
    ("train baseline ours --config factors", "--out"),
    ("train recognizer nosuch run", "nosuch: no such file"),
    ("train recognizer pictures.parquet run --start-from absent", "absent"),
    ("recognizer evaluate none", "none: no such recognizer"),
    ("project none.safetensors pictures.parquet", "none.safetensors"),
    ("project net.pt pictures.parquet", "net.pt"),
    ("project file.safetensors pictures.parquet --encoder empty", "encoder.safetensors"),
    ("project file.safetensors pictures.parquet --encoder net.pt", "net.pt"),
    ("sample net.pt out.png --device foo", "--device foo"),
    ("disentangle none.pt pictures.parquet", "none.pt: no such file"),
    ("disentangle pictures.parquet pictures.parquet", "is no encoder"),
    ("disentangle net.pt pictures.parquet", "--trust"),
    ("disentangle code.py:encode pictures.parquet", "--trust"),
    ("disentangle empty pictures.parquet", "encoder.safetensors"),
]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """What the commands of `REFUSED` did, in one process: none may import what all are without."""
    folder = tmp_path_factory.mktemp("refused")
    with zipfile.ZipFile(folder / "net.pt", "w") as archive:
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/code/__torch__/net.py", "class Net(Module):\n  weight : Tensor\n")
    (folder / "pictures.parquet").write_bytes(b"PAR1")
    (folder / "file.safetensors").write_bytes(b"")
    (folder / "empty").mkdir()
    (folder / "code.py").write_text("raise SystemExit('this ran')\n")
    lines = [line for line, _ in REFUSED]
    return dict(zip(lines, run_and_list(lines, folder), strict=True))


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_a_refusal_does_not_wait_for_torch(
    line: str, message: str, refusals: dict[str, Found]
) -> None:
    status, stderr, found = refusals[line]
    assert status == 2, stderr
    assert message in stderr
    assert found == []


def test_leftover_variables_of_a_launcher_are_told_before_torch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    lines = ("score model:mini/vae", "train vae --config factors --out run")
    for status, stderr, found in run_and_list(lines, tmp_path):
        assert (status, found) == (2, []), stderr
        assert "MASTER_ADDR" in stderr and "unset WORLD_SIZE" in stderr


def test_arrays_are_chosen_before_torch_is_imported(tmp_path: Path) -> None:
    images = np.zeros((10, 8, 8, 3), np.uint8)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b"] = images, images
    np.savez(tmp_path / "two.npz", a=images, b=images)
    np.save(tmp_path / "one.npy", images[0])
    cases = (  # each needs what those before it do
        ("score two.npz", "--key a or --key b", []),
        ("score one.npy", "one.npy: holds uint8 (8, 8, 3)", []),
        ("score two.h5", "--key a or --key b", ["h5py"]),
        ("score two.h5 --key c", "no array 'c'", ["h5py"]),
    )
    done = run_and_list([line for line, *_ in cases], tmp_path)
    for (_, message, needed), (status, stderr, found) in zip(cases, done, strict=True):
        assert status == 2, stderr
        assert message in stderr
        assert found == needed


def test_all_that_is_missing_is_asked_for_at_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/code/__torch__/net.py", "class Net(Module):\n  weight : Tensor\n")
    (tmp_path / "said.pt").write_bytes((tmp_path / "net.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "said.pt", "a") as archive:
        archive.writestr(
            "net/code/__torch__/own.py", "class Own(Module):\n  z_dim : Final[int] = 8"
        )
    code = {
        "latents.py": ("def f(z, size=3): ...", True),
        "seeds.py": ("def f(seeds): ...", False),
        "states.py": ("def f(z): ...\nf.latent_dim = 8", False),
        "star.py": ("from settings import *\ndef f(z): ...", False),
        "module.py": ("f = make()", False),
        "broken.py": ("def f(z) ...", False),
    }
    for name, (text, _) in code.items():
        (tmp_path / name).write_text(text)
    functions = {f"{name}:f": asked for name, (_, asked) in code.items()}
    for name, asked in {"net.pt": True, "said.pt": False, **functions}.items():
        with pytest.raises(UsageError, match="trust") as refused:
            check_source(str(tmp_path / name))
        assert ("latent_dim" in str(refused.value)) == asked
        assert ("range" in str(refused.value)) == asked
