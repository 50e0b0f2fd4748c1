"""Bad input to `score`, `compare`, `train` and `recognizer`: one clear line, the right status."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shapeshd.cli.main import main

MARKER = "this ran"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources of every kind, none of which can be scored as it is asked for."""
    home = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6000, 32, 32, 3), dtype=np.uint8)
    np.save(home / "good.npy", images)
    np.save(home / "few.npy", images[:100])
    np.save(home / "grey.npy", images[..., :1])
    np.save(home / "alpha.npy", np.concatenate([images, images[..., :1]], 3))
    np.save(home / "wide.npy", images[:, :, :16])
    np.save(home / "tiny.npy", images[:, :16, :16])
    np.save(home / "guess.npy", (images / 255).astype(np.float32) * 0.3)
    broken = (images / 255).astype(np.float32)
    broken[0, 0, 0, 0] = np.nan
    np.save(home / "nan.npy", broken)
    np.save(home / "objects.npy", np.array([{"a": 1}] * 6000), allow_pickle=True)
    np.savez(home / "two.npz", a=images[:10], b=images[:10])
    (home / "cut.npy").write_bytes((home / "good.npy").read_bytes()[:5000])
    (home / "empty.npy").touch()
    (home / "none").mkdir()
    (home / "pictures").mkdir()
    Image.new("RGB", (64, 64)).save(home / "pictures" / "one.png")
    (home / "broken").mkdir()
    (home / "broken" / "one.png").write_bytes(b"no image")
    with zipfile.ZipFile(home / "up.zip", "w") as archive:
        archive.write(home / "pictures" / "one.png", "../one.png")
    (home / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"a": torch.zeros(1)}, home / "weights.pt")
    (home / "text.onnx").write_text("no model")
    (home / "entry.py").write_text(
        f"from pathlib import Path\nPath({str(home / 'ran')!r}).write_text({MARKER!r})\n"
        "def generate(z):\n    return z\n"
    )
    (home / "result.json").write_text("{}")
    (home / "other").mkdir()
    (home / "other" / "mine.txt").touch()
    return home


CASES = [
    ("score nothing.npy", 2, "nothing.npy"),
    ("score few.npy", 2, "at least 5,761"),
    ("score good.npy --samples 100", 2, "at least 5,761"),
    ("score good.npy --samples 7000", 2, "6,000 images, fewer than 7,000"),
    ("score good.npy --samples 6000 --protocol chi2-20k", 2, "not both"),
    ("score good.npy --protocol chi2-20k", 2, "fewer than 3,317,760"),
    ("score good.npy --protocol other", 2, "'other' is not"),
    ("score good.npy --seed -1", 2, "seed must be"),
    ("score good.npy --batch 0", 2, "--batch must be"),
    ("score good.npy --timeout 0", 2, "--timeout must be"),
    ("score good.npy --timeout 5", 2, "leave out --timeout"),
    ("score good.npy --latent-dim 5", 2, "leave out --latent-dim"),
    ("score good.npy --range unit", 2, "range"),
    ("score good.npy --layout nchw", 2, "(n, 3, H, W)"),
    ("score good.npy --key a", 2, "leave out --key"),
    ("score good.npy --device gpu", 2, "--device gpu"),
    ("score good.npy --device cuda:77", 2, "--device cuda:77"),
    ("score good.npy --recognizer huge", 2, "no such recognizer"),
    ("score good.npy --recognizer hd", 2, "too few to read"),
    ("score good.npy --fidelity 100 --features nofile", 2, "no features 'nofile'"),
    ("score good.npy --fidelity 100 --features clip:none.pt", 2, "none.pt: no such file"),
    ("score good.npy --recognizer good.npy", 2, "good"),
    ("score good.npy --recognizer none", 2, "training has not ended"),
    ("score good.npy --out good.npy", 2, "is a file"),
    ("score good.npy --out other", 2, "such as mine.txt"),
    ("score grey.npy", 2, "channel"),
    ("score alpha.npy", 2, "alpha"),
    ("score wide.npy", 2, "must be square"),
    ("score tiny.npy", 2, "too few to read"),
    ("score guess.npy", 2, "--range"),
    ("score nan.npy", 1, "NaN"),
    ("score objects.npy", 2, "object"),
    ("score two.npz", 2, "--key"),
    ("score cut.npy", 1, "cut.npy"),
    ("score empty.npy", None, "empty.npy"),
    ("score none", 2, "none"),
    ("score broken --samples 6000", 2, "broken"),
    ("score up.zip", None, "../one.png"),
    ("score model.pkl", 2, "a pickle"),
    ("score weights.pt --trust", 2, "weights.pt"),
    ("score text.onnx --samples 6000", None, "text.onnx"),
    ("score entry.py", 2, "file.py:function"),
    ("score entry.py:generate", 2, "--trust"),
    ("score entry.py:nothing --trust --latent-dim 4", None, "nothing"),
    ("score no_such_package:generate --trust --latent-dim 4", None, "no_such_package"),
    ("score render:5", 2, "render:"),
    ("score render:5:100,size=64", 2, "at least 5,761"),
    ("score render:5:6000,size=3", 2, "size must be"),
    ("compare nowhere", None, "nowhere"),
    ("compare result.json", None, "result.json"),
    ("compare good.npy", None, "good.npy"),
    ("recognizer evaluate nobody", 2, "no such recognizer"),
    ("recognizer evaluate lite render:1:10,size=256", 2, "reads 64x64"),
    ("recognizer evaluate lite render:6401:10,size=64", 2, "was trained on 10"),
    ("recognizer evaluate lite --write-card --count 1", 2, "shipped"),
    ("train recognizer render:1:50,size=32 new", 2, "reads 64x64"),
    ("train recognizer render:1:50,size=64 new --held-out 49", 2, "too few"),
    ("train recognizer render:1:500,size=64 new --learning-rate 7", 2, "must be below 1"),
]


@pytest.mark.parametrize(("line", "status", "message"), CASES, ids=[case[0] for case in CASES])
def test_one_clear_line(
    line: str,
    status: int | None,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    out, err = capsys.readouterr()
    errors = [text for text in err.splitlines() if "error:" in text.lower()]
    assert ended.value.code in ((1, 2) if status is None else (status,)), err
    assert len(errors) == 1, err
    assert message in errors[0]
    assert "internal error" not in err
    assert "Traceback" not in err
    assert not out
    left = {path.name for path in folder.iterdir()} - before
    assert left <= {"ran", "__pycache__"}, f"left behind: {left}"
    assert not (folder / "ran").exists() or "--trust" in line
    (folder / "ran").unlink(missing_ok=True)


def test_a_result_of_a_newer_program(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "newer.json"
    path.write_text(json.dumps({"format": "shapeshd-result", "format_version": 99}))
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(path)])
    assert ended.value.code in (1, 2)
    assert "version 99" in capsys.readouterr().err
    path.unlink()
