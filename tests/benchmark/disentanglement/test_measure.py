"""Measuring encoders on images: what is drawn, what they are given, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from shapeshd import ShapesHD
from shapeshd.benchmark.disentanglement import measure_disentanglement
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models.projection.any_encoder import open_encoder

Run = Callable[..., tuple[int, str, str]]
IMAGES = "render:3:1000,size=32"


@pytest.fixture(scope="module")
def dataset() -> ShapesHD:
    return open_dataset(IMAGES)


def colours(images: Tensor) -> Tensor:
    """Encode three pixels: one of the sky, one of the floor, one of the wall."""
    assert images.dtype == torch.float32
    return torch.cat((images[:, :, 1, 16], images[:, :, 30, 2], images[:, :, 12, 2]), 1)


def test_a_floor_that_is_looked_at_is_informed_of(dataset: ShapesHD) -> None:
    found = measure_disentanglement(colours, dataset, name="pixels")
    assert (found.images, found.components) == (1000, 9)
    assert found.dci.informativenesses[0] > 0.95  # the floor's hue
    assert found.dci.informativenesses[2] < 0.3  # the object's, which none of the pixels shows
    assert found.dci.importance[3:6, 0].sum() > 0.9
    told = json.loads(json.dumps(found.to_json()))
    assert np.shape(told["dci"]["importance"]) == (9, 6)
    assert told["mig"]["mean"] == found.mig.mean
    assert found.describe().count("\n") == 11


@pytest.mark.parametrize(
    ("name", "low", "high"), [("-1,1", -1, 1), ("0,1", 0, 1), ("0,255", 0, 255)]
)
def test_ranges_and_sizes(dataset: ShapesHD, name: str, low: int, high: int) -> None:
    seen = []

    def encode(images: Tensor) -> np.ndarray:
        seen.append(images)
        return images[:, :, 15, 3].numpy() / (high - low) * 4

    measure_disentanglement(encode, dataset, value_range=name, size=16, batch=300, device="cpu")
    assert [tuple(images.shape) for images in seen] == [(300, 3, 16, 16)] * 3 + [(100, 3, 16, 16)]
    given = torch.cat(seen)
    assert low <= given.min() < low + 0.1 * (high - low)
    assert high >= given.max() > high - 0.1 * (high - low)


def test_images_are_drawn_from_all_over_a_grid(tmp_path: Path) -> None:
    """The first images of 3dshapes.h5 have one floor hue, one wall hue ... alone."""
    path = tmp_path / "3dshapes.h5"
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (5, 5, 5, 4, 4, 5)], indexing="ij"), -1)
    labels = grid.reshape(-1, 6) / [10, 10, 10, 14 / 3, 1, 4 / 60] - [0, 0, 0, -0.75, 0, 30]
    with h5py.File(path, "w") as file:
        file["images"] = (
            np.repeat(labels[:, :3, None] * 255, 16, 2).reshape(-1, 4, 4, 3).astype("u1")
        )
        file["labels"] = labels
    dataset = ShapesHD(path)
    found = measure_disentanglement(lambda x: x[:, :, 0, :2].flatten(1), dataset, images=1200)
    again = measure_disentanglement(lambda x: x[:, :, 0, :2].flatten(1), dataset, images=1200)
    assert found.images == 1200
    assert found.to_json() == again.to_json()


@pytest.mark.parametrize(
    ("encode", "told"),
    [
        (lambda x: x[:, 0, 0, 0], "shape"),
        (lambda x: x[:1, :, 0, 0], "shape"),
        (lambda x: x[:, :, 0, 0] / 0, "finite"),
        (lambda x: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_an_encoder_that_fails(dataset: ShapesHD, encode: object, told: str) -> None:
    with pytest.raises(ShapesHDError, match=told):
        measure_disentanglement(encode, dataset, name="mine")  # type: ignore[arg-type]


@pytest.mark.parametrize("channels", [0, 1])
def test_codes_that_cannot_be_measured_name_their_encoder(dataset: ShapesHD, channels: int) -> None:
    """Of one component, or all the same."""
    with pytest.raises(UsageError, match=r"^mine: .*codes"):
        measure_disentanglement(
            lambda x: x[:, :1, 0, 0] if channels else 0 * x[:, :2, 0, 0],
            dataset,
            name="mine",
            images=1000,
        )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"value_range": "0,2"}, "0,255"), ({"images": 999}, "images"), ({"batch": 0}, "batch")],
)
def test_refused(dataset: ShapesHD, wrong: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        measure_disentanglement(colours, dataset, **wrong)  # type: ignore[arg-type]


def test_few_images_are_refused() -> None:
    with pytest.raises(UsageError, match="999 images"):
        measure_disentanglement(colours, open_dataset("render:3:999,size=32"))


def test_the_command_takes_functions_and_torchscript(run: Run, tmp_path: Path) -> None:
    code = "import torch\ndef encode(x):\n    return x[:, :, 30, 2]\nclass Two:\n    pass\n"
    (tmp_path / "mine.py").write_text(code)
    given = (IMAGES, "--range", "0,1", "--trust", "--json")
    status, out, err = run("disentangle", f"{tmp_path / 'mine.py'}:encode", *given)
    assert (status, "encode" in err) == (0, True)
    function = json.loads(out)

    class Floor(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, 30, 2]

    torch.jit.script(Floor()).save(str(tmp_path / "floor.pt"))
    status, out, _ = run("disentangle", str(tmp_path / "floor.pt"), *given)
    assert status == 0
    assert json.loads(out) == {**function, "encoder": str(tmp_path / "floor.pt")}


def test_code_runs_only_with_trust(run: Run, tmp_path: Path) -> None:
    """Refused in the words of `score`."""
    ran = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(ran)!r}, 'w')\ndef encode(x): ...\n")
    module = torch.jit.script(torch.nn.Identity())
    module.save(str(tmp_path / "net.pt"))
    for source in (tmp_path / "net.pt", f"{tmp_path / 'mine.py'}:encode"):
        status, out, err = run("disentangle", source, IMAGES)
        assert (status, out) == (2, "")
        line = err.splitlines()[-1]
        _, _, of_score = run("score", source, "--latent-dim", 4)
        assert "--trust" in line and of_score.splitlines()[-1].startswith(line)
        with pytest.raises(UsageError, match="add trust"):
            open_encoder(str(source), torch.device("cpu"))
    assert not ran.exists()


def test_the_command_takes_an_encoder_of_ours(run: Run) -> None:
    folder = Path(__file__).parents[3] / "models" / "weights" / "mini" / "vae"
    status, out, _ = run("disentangle", str(folder), "render:3:1000,size=64", "--json")
    told = json.loads(out)
    assert (status, told["components"]) == (0, 16)
    assert min(told["factor_vae"]["accuracies"][:3]) > 0.9  # hues
    assert min(told["dci"]["informativenesses"]) > 0.6


@pytest.mark.parametrize(
    ("encoder", "named"),
    [
        ("none.pt", "none.pt"),
        ("none.py:encode", "none.py"),
        ("{}/mine.py:lost", "lost"),
        ("{}/mine.py:word", "str"),
        ("{}/notes.txt", "notes.txt"),
        ("{}/broken.py:encode", "line 1"),
    ],
)
def test_the_command_refuses(run: Run, tmp_path: Path, encoder: str, named: str) -> None:
    (tmp_path / "mine.py").write_text("word = 'no'\n")
    (tmp_path / "notes.txt").write_text("no")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    status, out, err = run("disentangle", encoder.format(tmp_path), IMAGES, "--trust")
    assert status in (1, 2)
    assert out == ""
    assert named in err.splitlines()[-1]
