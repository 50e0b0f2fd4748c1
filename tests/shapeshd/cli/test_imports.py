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


def run_and_list(arguments: Sequence[str], folder: Path) -> tuple[int, str, list[str]]:
    """Run a command in a process of its own; return status, stderr, and what it imported."""
    script = (
        "import json, sys\nfrom shapeshd.cli.main import main\nstatus = 0\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    status = stop.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('\\n' + json.dumps([status, found]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    status, found = json.loads(done.stdout.splitlines()[-1])
    return status, done.stderr, found


def test_compare_imports_neither_figures_nor_torch(tmp_path: Path) -> None:
    status, _, found = run_and_list(["compare", str(LEADERBOARD)], tmp_path)
    assert status == 0
    assert found == []


def test_scoring_does_not_import_torchvision() -> None:
    code = (
        "import sys, shapeshd.cli.score_run\n"
        "assert not {'torchvision', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
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
        ("sample net.pt out.png --device foo", "--device foo"),
        ("disentangle none.pt pictures.parquet", "none.pt: no such file"),
        ("disentangle pictures.parquet pictures.parquet", "is no encoder"),
    ],
)
def test_a_refusal_does_not_wait_for_torch(line: str, message: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("net/constants.pkl", b"")
        archive.writestr("net/code/__torch__/net.py", "class Net(Module):\n  weight : Tensor\n")
    (tmp_path / "pictures.parquet").write_bytes(b"PAR1")
    status, stderr, found = run_and_list(line.split(), tmp_path)
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
    for line in ("score model:mini/vae", "train vae --config factors --out run"):
        status, stderr, found = run_and_list(line.split(), tmp_path)
        assert (status, found) == (2, []), stderr
        assert "MASTER_ADDR" in stderr and "unset WORLD_SIZE" in stderr


@pytest.mark.parametrize(
    ("line", "message", "needed"),
    [
        ("score two.h5", "--key a or --key b", ["h5py"]),
        ("score two.h5 --key c", "no array 'c'", ["h5py"]),
        ("score two.npz", "--key a or --key b", []),
        ("score one.npy", "one.npy: holds uint8 (8, 8, 3)", []),
    ],
)
def test_arrays_are_chosen_before_torch_is_imported(
    line: str, message: str, needed: list[str], tmp_path: Path
) -> None:
    images = np.zeros((10, 8, 8, 3), np.uint8)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b"] = images, images
    np.savez(tmp_path / "two.npz", a=images, b=images)
    np.save(tmp_path / "one.npy", images[0])
    status, stderr, found = run_and_list(line.split(), tmp_path)
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
