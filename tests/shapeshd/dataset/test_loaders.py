"""The images in other libraries' hands: webdataset, torchvision's transforms v2, disent."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from shapeshd import ShapesHD, trace_images
from shapeshd.dataset import image_and_label, open_webdataset
from shapeshd.dataset.export import export_dataset
from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError
from shapeshd.factors import FACTORS, NAMES
from shapeshd.scene.sampling import GRID_STEPS, GridSampling
from tests.support.image_files import write_hdf5
from tests.support.noise_dataset import write_noise_dataset

COUNT = 23
STEPS = (3, 2, 2, 2, 4, 3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShapesHD:
    folder = tmp_path_factory.mktemp("data") / "set"
    write_noise_dataset(folder, COUNT)
    return ShapesHD(folder)


@pytest.fixture(scope="module")
def tars(dataset: ShapesHD, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tars") / "out"
    splits = {"train": 0.8, "test": 0.2}
    export_dataset(dataset, out, "webdataset", per_file=10, splits=splits)
    return out


# webdataset


def test_webdataset_gives_what_the_dataset_gives(dataset: ShapesHD, tars: Path) -> None:
    pytest.importorskip("webdataset")
    pairs = [*open_webdataset(tars, split="train"), *open_webdataset(tars, split="test")]
    assert len(pairs) == COUNT
    for (image, label), (expected, factors) in zip(pairs, dataset, strict=True):
        assert image.dtype == torch.uint8 and label.dtype == torch.float64
        assert torch.equal(image, expected) and torch.equal(label, factors)


def test_webdataset_with_transforms_batches_and_a_loader(tars: Path) -> None:
    pytest.importorskip("webdataset")
    found = open_webdataset(
        tars, lambda image: image.float() / 255, lambda label: int(label[4]), shardshuffle=10
    )
    images, shapes = next(iter(DataLoader(found.shuffle(5), batch_size=8)))
    assert images.shape == (8, 3, 16, 16) and 0 <= images.min() <= images.max() <= 1
    assert shapes.dtype == torch.int64 and set(shapes.tolist()) <= {0, 1, 2, 3}
    one = open_webdataset(sorted(tars.glob("*.tar"))[0])
    assert len(list(one)) == 5


def test_webdataset_refusals(tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("webdataset")
    with pytest.raises(UsageError, match="of the split val"):
        open_webdataset(tars, split="val")
    with pytest.raises(UsageError, match="no tar file"):
        open_webdataset(tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        open_webdataset("pipe:touch ran")  # which webdataset itself would run
    with pytest.raises(UsageError, match="split"):
        open_webdataset([tars / "test-000000.tar"], split="test")
    whole = (tars / "test-000000.tar").read_bytes()
    for content in (b"", b"no tar file", whole[:600]):
        (tmp_path / "y.tar").write_bytes(content)
        with pytest.raises(ShapesHDError, match=r"y\.tar: is no tar file, or is cut off") as caught:
            list(open_webdataset(tmp_path / "y.tar"))
        assert "\n" not in str(caught.value)
    with pytest.raises(ShapesHDError, match=r"x\.tar: 7"):
        image_and_label({"__url__": "x.tar", "__key__": "7", "png": b"", "json": b"{}"})
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(MissingPackageError, match=r"shapeshd\[webdataset\]"):
        open_webdataset(tars)


# torchvision.transforms.v2


def test_transforms_v2_know_the_image(dataset: ShapesHD) -> None:
    scaled = v2.Compose([v2.Resize(8), v2.ToDtype(torch.float32, scale=True)])
    found = ShapesHD(dataset.name, scaled, decode="tv_tensor")
    image, label = found[3]
    expected = v2.functional.resize(dataset[3][0], [8]).float() / 255
    torch.testing.assert_close(image.as_subclass(Tensor), expected)
    assert isinstance(image, tv_tensors.Image)
    # Called with the pair, they change the image alone, whatever stands first.
    given = ShapesHD(dataset.name, decode="tv_tensor")[3]
    flip = v2.RandomHorizontalFlip(1)
    for pair in (given, given[::-1]):
        flipped = dict(zip(map(type, pair), flip(*pair), strict=True))
        assert torch.equal(flipped[tv_tensors.Image].as_subclass(Tensor), dataset[3][0].flip(2))
        assert torch.equal(flipped[Tensor], dataset[3][1])
    images, labels = next(iter(DataLoader(found, batch_size=4)))
    assert images.shape == (4, 3, 8, 8) and labels.shape == (4, 6)
    assert torch.equal(label, dataset[3][1])


# disent


@pytest.fixture
def seeded() -> Iterator[None]:
    """Seed NumPy's global generator, from which disent draws."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.fixture(scope="module")
def grid() -> Any:
    pytest.importorskip("disent")
    from shapeshd.dataset import ShapesHDData

    return ShapesHDData(16, STEPS)


def test_disent_draws_images_of_factors(grid: Any, seeded: None) -> None:
    from disent.dataset.data import GroundTruthData

    assert isinstance(grid, GroundTruthData)
    assert (len(grid), grid.factor_names) == (3 * 2 * 2 * 2 * 4 * 3, NAMES)
    assert (grid.img_shape, grid.x_shape, grid.name) == ((16, 16, 3), (3, 16, 16), "shapeshd")
    positions = grid.sample_factors(5)
    indices = grid.pos_to_idx(positions)
    factors = grid.factors(positions)
    expected = [
        [f.low + f.period * p / (n if f.topology == "circle" else n - 1)
         for f, n, p in zip(FACTORS, STEPS, row, strict=True)]
        for row in positions
    ]  # fmt: skip
    np.testing.assert_allclose(factors, expected, rtol=0, atol=1e-12)
    traced = trace_images(factors, 16).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(grid.observations(indices), traced)
    np.testing.assert_array_equal(grid[indices[2]], traced[2])
    with pytest.raises(IndexError):
        grid.observations([len(grid)])


def test_disent_fixes_factors_and_goes_along_one(grid: Any, seeded: None) -> None:
    same = grid.sample_missing_factors([[2, 1]] * 6, [0, 4])
    assert {tuple(row) for row in same[:, [0, 4]]} == {(2, 1)}
    assert len({tuple(row) for row in same}) > 1
    again = grid.resample_other_factors(same, f_idxs=["wall_hue"])
    np.testing.assert_array_equal(again[:, 1], same[:, 1])
    positions, indices, images = grid.sample_random_obs_traversal(f_idx=5, mode="interval")
    assert positions[:, 5].tolist() == [0, 1, 2]
    assert (positions[:, :5] == positions[0, :5]).all()
    angles = grid.factors(positions)[:, 5].tolist()
    assert angles == [-30, 0, 30]
    np.testing.assert_array_equal(np.stack(images), grid.observations(indices))


def test_disents_own_dataset_and_sampler(grid: Any, seeded: None) -> None:
    from disent.dataset import DisentDataset
    from disent.dataset.sampling import GroundTruthPairSampler

    def transform(image: np.ndarray) -> Tensor:  # ToImgTensorF32 loads for 7 s
        return torch.from_numpy(image).permute(2, 0, 1).float() / 255

    pairs = DisentDataset(
        grid,
        sampler=GroundTruthPairSampler(p_k_range=1),
        transform=transform,
        return_factors=True,
    )
    first, second = pairs[7]["x_targ"]
    assert first.shape == (3, 16, 16) and first.dtype == torch.float32
    expected = torch.from_numpy(grid[7]).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(first, expected)
    one, other = (np.asarray(factors) for factors in pairs[7]["factors"])
    assert (one != other).sum() <= 1
    assert second.shape == first.shape


def test_disent_loads_batches_and_travels(grid: Any) -> None:
    batch = next(iter(DataLoader(grid, batch_size=4)))
    np.testing.assert_array_equal(batch.numpy(), grid.observations(range(4)))
    again = pickle.loads(pickle.dumps(grid))
    np.testing.assert_array_equal(again[5], grid[5])


def test_disent_reads_a_grid_that_is_stored(grid: Any, tmp_path: Path) -> None:
    from shapeshd.dataset import ShapesHDData

    images = np.random.default_rng(0).integers(0, 256, (len(grid), 8, 8, 3), np.uint8)
    labels = GridSampling(STEPS).factors(0, len(grid))
    path = write_hdf5(tmp_path / "grid.h5", images=images, labels=labels)
    stored = ShapesHDData(steps=STEPS, images=ShapesHD(path))
    assert stored.img_shape == (8, 8, 3)
    np.testing.assert_array_equal(stored.observations([5, 2]), images[[5, 2]])
    other = write_hdf5(tmp_path / "other.h5", images=images, labels=labels[::-1])
    with pytest.raises(UsageError, match=r"other\.h5.*--sampling grid"):
        ShapesHDData(steps=STEPS, images=ShapesHD(other))


def test_the_grid_is_that_of_3dshapes_unless_told_otherwise() -> None:
    assert GridSampling().length == 480_000 and GridSampling().steps == GRID_STEPS
    for steps in ((10,) * 6, (10, 10, 10, 8, 4), (0, 1, 1, 1, 4, 1)):
        with pytest.raises(UsageError, match="steps"):
            GridSampling(steps)
