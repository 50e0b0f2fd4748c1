"""Programs of torch.export as sources: the network's own images, and nothing read without trust."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.errors import ShapesHDError, UsageError

DIM, SIZE, BATCH = 5, 4, 4


class Net(torch.nn.Module):
    """Images in [-1, 1] of latents."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense = torch.nn.Linear(DIM, channels * SIZE * SIZE)
        torch.nn.init.normal_(self.dense.weight)
        self.channels = channels

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dense(z.flatten(1))).reshape(-1, self.channels, SIZE, SIZE)


class Two(Net):
    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(z + c)


class Flat(Net):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return super().forward(z).flatten(1)


class Pair(Net):
    def forward(self, z: torch.Tensor) -> Any:
        image = super().forward(z)
        return image, image + 1


class Table(Net):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.nn.functional.one_hot(z, DIM).float())


def export(
    path: Path,
    network: torch.nn.Module,
    *inputs: torch.Tensor,
    lengths: tuple[int, int] | None = None,
) -> Path:
    dynamic = None
    if lengths is not None:
        dynamic = ({0: torch.export.Dim("n", min=lengths[0], max=lengths[1])},)
    torch.export.save(torch.export.export(network, inputs, dynamic_shapes=dynamic), path)
    return path


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    latents = torch.zeros(BATCH, DIM)
    export(folder / "dynamic.pt2", Net(), latents, lengths=(2, 16))
    export(folder / "fixed.pt2", Net(), latents)
    export(folder / "square.pt2", Net(), latents[:, :, None, None])
    export(folder / "double.pt2", Net().double(), latents.double())
    return folder


def opened(path: Path, trust: bool = True, **options: Any) -> Any:
    return open_source(str(path), seed=3, trust=trust, options=SourceOptions(**options))


def expected(stop: int) -> torch.Tensor:
    with torch.inference_mode():
        images = Net()(normal_latents(3, 0, stop, DIM))
    return torch.floor(images.double() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("file", "batch", "used"),
    [
        ("dynamic.pt2", 3, 3),
        ("dynamic.pt2", 64, 16),
        ("fixed.pt2", 4, 4),
        ("fixed.pt2", 64, 4),
        ("square.pt2", 64, 4),
        ("double.pt2", 64, 4),
    ],
)
def test_images_are_those_of_the_network(file: str, batch: int, used: int, programs: Path) -> None:
    with opened(programs / file, batch=batch) as source:
        assert (source.kind, source.count) == ("torch-export", None)
        whole = source.images(0, 20)
        for start, stop in ((0, 1), (7, 13), (15, 20)):
            assert torch.equal(source.images(start, stop), whole[start:stop])
        alone = source.in_own_batch(5, 8)
        said = source.describe()
    assert (alone is None) == (file != "dynamic.pt2")
    assert alone is None or (alone.int() - whole[5:8].int()).abs().sum() <= 2
    difference = (whole.int() - expected(20).int()).abs()
    assert difference.max() <= 1 and difference.sum() <= 5
    assert said["batch"] == used and said["latent_dim"] == DIM and said["range"] == "[-1, 1]"
    json.dumps(said)


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("fixed.pt2", {"batch": 5}, "batches of 4: batch=5"),
        ("dynamic.pt2", {"batch": 17}, "2 to 16: batch=17"),
        ("dynamic.pt2", {"batch": 1}, r"2 to 16: batch=1\b"),
        ("fixed.pt2", {"latent_dim": 6}, "5 values, not of 6"),
        ("fixed.pt2", {"key": "x"}, "leave out key"),
        ("fixed.pt2", {"steps": 5}, "leave out steps"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(
    file: str, options: dict[str, Any], message: str, programs: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        opened(programs / file, **options)


def test_it_needs_trust(programs: Path) -> None:
    with pytest.raises(UsageError, match=r"fixed\.pt2: .*Python.*add trust"):
        opened(programs / "fixed.pt2", trust=False)


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


Z = torch.zeros(BATCH, DIM)
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no archive": (lambda path: path.write_bytes(b"hello"), "is no torch.export file"),
    "another archive": (lambda path: zipped(path, a__b=b"x"), "zip archive, but none"),
    "compiled": (
        lambda path: zipped(path, a__data__aotinductor__model__x=b"x"),
        "holds compiled code",
    ),
    "no graph": (lambda path: zipped(path, a__models__model__x=b"{"), "none of torch.export"),
    "weights alone": (lambda path: torch.save({"w": Z}, path), "none of torch.export"),
    "two inputs": (lambda path: export(path, Two(), Z, Z), r"2 inputs \(z, c\)"),
    "whole numbers": (
        lambda path: export(path, Table(), torch.zeros(BATCH, dtype=torch.int64)),
        r"int64 \(4\) .*floats",
    ),
    "three axes": (
        lambda path: export(path, Net(), Z[:, :, None]),
        r"float32 \(4, 5, 1\) .*latents",
    ),
    "flat": (lambda path: export(path, Flat(), Z), r"gives float32 \(4, 48\)"),
    "two outputs": (lambda path: export(path, Pair(), Z), "one tensor of images"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_programs_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    BAD[case][0](path)
    with pytest.raises(UsageError, match=BAD[case][1]) as caught:
        opened(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def rewrite(source: Path, path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Copy an archive with its members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, change(entry, old.read(entry)))
    return path


def test_damaged_graph(programs: Path, tmp_path: Path) -> None:
    path = rewrite(
        programs / "fixed.pt2",
        tmp_path / "x.pt2",
        lambda entry, data: b"{}" if entry.endswith("model.json") else data,
    )
    with pytest.raises(ShapesHDError, match=r"x\.pt2: cannot be loaded") as caught:
        opened(path)
    assert "\n" not in str(caught.value)


def test_nothing_is_logged_of_an_archive_that_is_half_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/models/model.json", "{}")
    with pytest.raises(ShapesHDError, match="cannot be loaded") as caught:
        opened(path)
    assert "above" not in str(caught.value)  # it refers to what was logged, which is told instead
    assert not caplog.records


def test_grey_images(tmp_path: Path) -> None:
    with (
        opened(export(tmp_path / "x.pt2", Net(1), Z)) as source,
        pytest.raises(UsageError, match="1 channel, grey"),
    ):
        source.images(0, 1)


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def code_in_a_size(programs: Path, path: Path, marker: Path) -> None:
    code = f"__import__('pathlib').Path({str(marker)!r}).touch() or 4"

    def change(entry: str, data: bytes) -> bytes:
        if not entry.endswith("model.json"):
            return data
        text = data.decode()
        start = text.index('"expr_str": "') + len('"expr_str": "')
        return (text[:start] + code + text[text.index('"', start) :]).encode()

    rewrite(programs / "dynamic.pt2", path, change)


def pickled_inputs(programs: Path, path: Path, marker: Path) -> None:
    torch.save(Trap(marker), path.with_suffix(".trap"))
    trap = path.with_suffix(".trap").read_bytes()
    rewrite(programs / "fixed.pt2", path, lambda e, d: trap if "sample_inputs" in e else d)


UNSAFE = {"code in a size": code_in_a_size, "pickled inputs": pickled_inputs}


@pytest.mark.parametrize("case", UNSAFE)
def test_nothing_is_read_without_trust(case: str, programs: Path, tmp_path: Path) -> None:
    """And with it, PyTorch's loader does run what is in the file: that is why."""
    path, marker = tmp_path / "x.pt2", tmp_path / "marker"
    UNSAFE[case](programs, path, marker)
    with pytest.raises(UsageError, match="add trust"):
        opened(path, trust=False)
    assert not marker.exists()
    with suppress(ShapesHDError):
        opened(path, trust=True)
    assert marker.exists()


def test_a_copy_of_another_name_is_no_pt2(programs: Path, tmp_path: Path) -> None:
    shutil.copy(programs / "fixed.pt2", tmp_path / "x.pt")
    with pytest.raises(UsageError, match=r"x\.pt: .*no TorchScript"):
        opened(tmp_path / "x.pt")
