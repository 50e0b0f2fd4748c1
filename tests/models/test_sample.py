"""`sample`: the images that `score` counts, whole or not at all, and what is refused."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.errors import ShapesHDError
from shapeshd.models import Generator, GeneratorConfig, load_generator, save_generator
from shapeshd.models.data.images import to_uint8
from shapeshd.models.sample import SampleRange, draw_samples, open_generator
from shapeshd.support.atomic_files import publish
from tests.support.projections import save_small_flow
from tests.support.refusals import check_refusal

SIZE, DIM, BATCH = 16, 5, 8
CONFIG = GeneratorConfig(
    size=SIZE, latent_dim=DIM, style_dim=7, mapping_layers=2, mapping_rate=1.0,
    channel_base=64, channel_max=8,
)  # fmt: skip

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A generator whose average of w is known."""
    torch.manual_seed(0)
    network = Generator(CONFIG)
    network.mapping.average.copy_(torch.linspace(-1, 1, 7))
    path = tmp_path / "generator.safetensors"
    save_generator(path, network, {})
    return path


def counted(source: Path, start: int, stop: int, seed: int = 0) -> Any:
    """The images that `score` would count."""
    options = SourceOptions(batch=BATCH)
    with open_source(str(source), seed=seed, options=options) as opened:
        return opened.images(start, stop).numpy()


def stored(source: Path) -> Any:
    """The images of a folder or a zip file, as `score` reads them."""
    with open_source(str(source)) as opened:
        assert opened.count is not None
        return opened.images(0, opened.count).numpy()


@pytest.mark.parametrize("name", ["samples", "samples.zip"])
def test_the_images_are_those_that_score_counts(
    checkpoint: Path, tmp_path: Path, run: Run, name: str
) -> None:
    out = tmp_path / name
    status, output, _ = run(
        "sample", checkpoint, out, "--count", 21, "--seed", 7, "--batch", BATCH, "--json"
    )
    result = json.loads(output)
    assert status == 0
    assert result["form"] == ("zip" if out.suffix else "folder")
    assert (result["images"], result["start"], result["seed"]) == (21, 0, 7)
    assert (result["height"], result["width"]) == (SIZE, SIZE)
    images = stored(out)
    np.testing.assert_array_equal(images, counted(checkpoint, 0, 21, seed=7))
    assert len({image.tobytes() for image in images}) == 21


def test_an_image_depends_on_seed_and_number_alone(
    checkpoint: Path, tmp_path: Path, run: Run
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    run("sample", checkpoint, whole, "--count", 30, "--batch", BATCH)
    run("sample", checkpoint, part, "--start", 13, "--count", 6, "--batch", BATCH)
    names = sorted(path.name for path in part.rglob("*.png"))
    assert names == [f"img{index:08d}.png" for index in range(13, 19)]
    np.testing.assert_array_equal(stored(part), stored(whole)[13:19])
    network, dim = load_generator(checkpoint)
    alone = to_uint8(network(normal_latents(0, 13, 14, dim))).int()
    assert (alone - torch.from_numpy(stored(whole)[13:14]).int()).abs().max() <= 1


def test_folders_hold_a_thousand(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    run("sample", checkpoint, tmp_path / "out", "--start", 998, "--count", 4)
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("*.png"))
    assert files == [
        "00000/img00000998.png", "00000/img00000999.png",
        "00001/img00001000.png", "00001/img00001001.png",
    ]  # fmt: skip


def test_sheet(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "sheet.png"
    status, output, _ = run(
        "sample", checkpoint, out, "--count", 7, "--columns", 3, "--batch", BATCH
    )
    assert status == 0
    assert "7 images of 16x16 pixels, samples 0 to 6 of seed 0" in output
    with PILImage.open(out) as picture:
        sheet = np.asarray(picture.convert("RGB"))
    images = counted(checkpoint, 0, 7).transpose(0, 2, 3, 1)
    assert sheet.shape == (2 * 16 + 3 * (SIZE + 8) - 8, 2 * 16 + 3 * (SIZE + 8) - 8, 3)
    for place in range(7):
        top, left = (16 + at * (SIZE + 8) for at in divmod(place, 3))
        np.testing.assert_array_equal(sheet[top : top + SIZE, left : left + SIZE], images[place])
    assert run("sample", checkpoint, out, "--count", 1)[0] == 0  # a picture is replaced


@pytest.mark.parametrize("truncation", [0.0, 0.4])
def test_truncation(checkpoint: Path, tmp_path: Path, truncation: float, run: Run) -> None:
    out = tmp_path / "out"
    run("sample", checkpoint, out, "--count", 5, "--batch", BATCH, "--truncation", truncation)
    network = load_generator(checkpoint)[0].network
    w, mean = network.mapping(normal_latents(0, 0, BATCH, DIM)), network.mapping.average
    wanted = to_uint8(network.synthesize(mean + truncation * (w - mean)))[:5]
    found = torch.from_numpy(stored(out))
    assert (found.int() - wanted.int()).abs().max() <= 1
    if truncation == 0:
        assert (found == found[:1]).all()
    else:
        assert not np.array_equal(found, counted(checkpoint, 0, 5))


def test_an_average_that_training_left_out_is_measured(tmp_path: Path, run: Run) -> None:
    """A VAE's generator has none; 10,000 other latents give the same to a hundredth or two."""
    path, out = tmp_path / "generator.safetensors", tmp_path / "out"
    generator = Generator(CONFIG)
    save_generator(path, generator, {})
    status, _, _ = run("sample", path, out, "--count", 5, "--batch", BATCH, "--truncation", 0)
    assert status == 0
    w = generator.mapping(torch.randn(10_000, DIM, generator=torch.Generator().manual_seed(7)))
    wanted = to_uint8(generator.synthesize(w.mean(0, keepdim=True)))
    found = torch.from_numpy(stored(out))
    assert (found == found[:1]).all()
    assert (found.int() - wanted.int()).abs().max() <= 4


class Scripted(torch.nn.Module):
    """A generator of someone else's."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = DIM
        torch.manual_seed(2)
        self.dense = torch.nn.Linear(DIM, 3 * SIZE * SIZE)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(z)).reshape(-1, 3, 16, 16)


def test_torchscript_needs_trust(tmp_path: Path, run: Run) -> None:
    path, out = tmp_path / "model.pt", tmp_path / "out"
    network = Scripted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and still what people have
        torch.jit.script(network).save(str(path))
    check_refusal(run("sample", path, out), 2, "add --trust", out)
    check_refusal(run("sample", path, out, "--trust", "--truncation", 0.5), 2, "leave out", out)
    assert run("sample", path, out, "--trust", "--count", 3, "--seed", 4)[0] == 0
    wanted = to_uint8(network(normal_latents(4, 0, 3, DIM)))
    assert (torch.from_numpy(stored(out)).int() - wanted.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", 0], "--count must be"),
        (["--start", -1], "--start must be"),
        (["--batch", 0], "--batch must be"),
        (["--seed", -1], "seed must be"),
        (["--truncation", 1.5], "--truncation must be between"),
        (["--truncation", "nan"], "--truncation must be between"),
        (["--columns", 4], "--columns is for"),
        (["--latent-dim", 6], "latents of 5 values"),
        (["--range", "unit"], "images are in [-1, 1]"),
        (["--device", "tpu"], "cannot be used"),
    ],
)
def test_refused_options(
    checkpoint: Path, tmp_path: Path, run: Run, arguments: list[Any], message: str
) -> None:
    check_refusal(run("sample", checkpoint, tmp_path / "out", *arguments), 2, message)
    assert not (tmp_path / "out").exists()


def test_refused_outputs(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there.zip").touch()
    for name, message in {
        "there": "exists already",
        "there.zip": "exists already",
        "a.npz": "a .zip of PNG files",
        "none/a.png": "there is no folder",
    }.items():
        check_refusal(run("sample", checkpoint, tmp_path / name), 2, message)
    result = run("sample", checkpoint, tmp_path / "a.png", "--count", 10**7)
    check_refusal(result, 2, "too many for a picture", tmp_path / "a.png")
    result = run("sample", checkpoint, tmp_path / "a.png", "--count", 10**6)
    check_refusal(result, 2, "draw fewer", tmp_path / "a.png")


def test_refused_sources(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    check_refusal(run("sample", tmp_path / "none.safetensors", out), 2, "no such file", out)
    result = run("sample", tmp_path / "none.safetensors", out, "--truncation", 0.5)
    check_refusal(result, 2, "no such file", out)
    check_refusal(run("sample", "render:0:10,size=32", out), 2, "is no generator", out)
    made = tmp_path / "made"
    assert run("sample", checkpoint, made, "--count", 2)[0] == 0
    check_refusal(run("sample", made, out), 2, "holds 2 images and is no generator", out)
    checkpoint.write_bytes(b"damaged" + checkpoint.read_bytes())
    check_refusal(run("sample", checkpoint, out), 1, "no safetensors file", out)


@pytest.mark.parametrize("name", ["out", "out.zip", "out.png"])
@pytest.mark.parametrize("failure", [ShapesHDError("broke"), KeyboardInterrupt()])
def test_whole_or_not_at_all(
    checkpoint: Path, tmp_path: Path, name: str, failure: BaseException
) -> None:
    class Breaks:
        """Fails after some images."""

        def __init__(self, source: Any) -> None:
            self.source = source

        def images(self, start: int, stop: int) -> torch.Tensor:
            if start >= 2 * BATCH:
                raise failure
            return self.source.images(start, stop)

    before = sorted(path.name for path in tmp_path.iterdir())
    with (
        open_generator(str(checkpoint), options=SourceOptions(batch=BATCH)) as source,
        pytest.raises(type(failure)),
    ):
        draw_samples(Breaks(source), tmp_path / name, SampleRange(3 * BATCH), batch=BATCH)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_publish_never_overwrites(tmp_path: Path) -> None:
    """Something that came to stand there meanwhile stays, too."""
    out = tmp_path / "a" / "out"

    def write(path: Path) -> None:
        path.write_text("new")
        out.write_text("meanwhile")

    with pytest.raises(ShapesHDError, match="exists already"):
        publish(out, write)
    assert out.read_text() == "meanwhile"
    assert list(out.parent.iterdir()) == [out]
    publish(tmp_path / "b", lambda path: path.write_text("x"))
    assert (tmp_path / "b").read_text() == "x"


def test_zip_bytes_are_reproducible(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    for name in ("a.zip", "b.zip"):
        run("sample", checkpoint, tmp_path / name, "--count", 3)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"00000/img0000000{i}.png" for i in range(3)]


def test_a_flow_is_sampled_by_the_solver_that_is_asked_for(tmp_path: Path, run: Run) -> None:
    path = save_small_flow(tmp_path / "flow.safetensors")
    names = {"stored": (), "same": ("--steps", 2, "--solver", "heun"), "other": ("--steps", 1)}
    for name, options in names.items():
        status, words, errors = run(
            "sample", path, tmp_path / name, "--count", 5, "--batch", BATCH, "--json", *options
        )
        assert status == 0, errors
        said = json.loads(words)
        assert said["latent_dim"] == 3 * 8 * 8
        assert (said["solver"], said["steps"]) == ("heun", 1 if name == "other" else 2)
    np.testing.assert_array_equal(stored(tmp_path / "stored"), counted(path, 0, 5))
    np.testing.assert_array_equal(stored(tmp_path / "stored"), stored(tmp_path / "same"))
    assert not np.array_equal(stored(tmp_path / "stored"), stored(tmp_path / "other"))
    result = run("sample", path, tmp_path / "out", "--truncation", 0.5)
    check_refusal(result, 2, "leave out --truncation", tmp_path / "out")


def test_project_says_why_it_takes_no_flow(tmp_path: Path, run: Run) -> None:
    path = save_small_flow(tmp_path / "flow.safetensors")
    result = run("project", path, "render:0:8", "--count", 2, "--out", tmp_path / "out")
    check_refusal(result, 2, "flow.safetensors: is a flow", tmp_path / "out")
