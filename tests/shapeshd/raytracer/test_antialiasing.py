"""POV-Ray's walk over the pixels: all at once against one after the other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shapeshd.raytracer.antialiasing import offsets, supersample


def walk_serially(first: np.ndarray, more: np.ndarray, threshold: float) -> np.ndarray:
    """Antialias an image, (3, H, W), pixel by pixel; `more`: (d^2, 3, H, W), what rays see."""
    sharp = (more.sum(0) + first) / (len(more) + 1)
    seen = first.copy()
    _, height, width = first.shape
    for y in range(height):
        for x in range(width):
            for before in ((y, x - 1), (y - 1, x)):
                if min(before) < 0:
                    continue
                own, other = first[:, y, x] ** 0.4, seen[(slice(None), *before)] ** 0.4
                contrast = np.abs(own - other).sum()
                if contrast >= threshold:
                    for row, column in (before, (y, x)):
                        seen[:, row, column] = sharp[:, row, column]
    return seen


# Few levels, so that contrasts often meet at the threshold, and marks are handed on and held back.
levels = st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.6, 1.0])


@settings(max_examples=150)
@given(data=st.data(), threshold=st.sampled_from([0.05, 0.31, 0.6, 1.2, 2.9]))
def test_all_at_once_is_one_after_the_other(data: st.DataObject, threshold: float) -> None:
    count, height, width = data.draw(st.tuples(*[st.integers(1, n) for n in (3, 7, 7)]))
    shape = (3, count, height, width)
    first = data.draw(hnp.arrays(np.float64, shape, elements=levels))
    more = data.draw(hnp.arrays(np.float64, (2, 2, *shape), elements=levels))
    images = torch.from_numpy(first.copy())

    def rays(image: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        picked = more[:, :, :, image.numpy(), row.numpy(), column.numpy()]
        return torch.from_numpy(np.moveaxis(picked, 2, 0).copy())

    supersample(images, threshold, rays)
    for number in range(count):
        wanted = walk_serially(
            first[:, number], more[:, :, :, number].reshape(4, 3, height, width), threshold
        )
        np.testing.assert_allclose(images[:, number].numpy(), wanted, rtol=0, atol=1e-12)


def test_a_pixel_is_traced_again_at_most_once() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 4, 20, 20, generator=generator)
    seen: list[tuple[int, ...]] = []

    def rays(*places: torch.Tensor) -> torch.Tensor:
        seen.extend(zip(*(place.tolist() for place in places), strict=True))
        return torch.rand(3, 3, 3, len(places[0]), generator=generator)

    supersample(images, 0.5, rays)
    assert len(seen) == len(set(seen)) > 0


def test_even_images_are_left_alone() -> None:
    images = torch.full((3, 2, 9, 9), 0.4)

    def rays(*places: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing to trace again")

    supersample(images, 0.3, rays)
    assert torch.equal(images, torch.full((3, 2, 9, 9), 0.4))


@pytest.mark.parametrize(
    ("depth", "wanted"),
    [(1, [0]), (2, [-0.25, 0.25]), (3, [-1 / 3, 0, 1 / 3]), (4, [-0.375, -0.125, 0.125, 0.375])],
)
def test_rays_lie_evenly_in_the_pixel(depth: int, wanted: list[float]) -> None:
    np.testing.assert_allclose(offsets(depth).numpy(), wanted, atol=1e-15)
