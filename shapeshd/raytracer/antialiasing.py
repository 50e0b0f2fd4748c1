"""POV-Ray's adaptive supersampling (method 1, no jitter, one block an image), on tensors.

POV-Ray walks over the pixels row by row and compares each with its left and its upper
neighbour. Where the colours differ by the threshold or more, both pixels are traced again
with depth x depth rays, and their colour becomes the mean of those and the first one. The
comparison takes a pixel as its first ray saw it, but a neighbour as it is by then: a
supersampled neighbour can hand the mark on, or hold it back. A row above the image and a column
left of it are looked at too.

The walk looks serial, but what a pixel decides depends only on pixels before it, and only next
to supersampled pixels on more than first rays. So all pixels decide at once from first rays;
the few whose neighbour has meanwhile been supersampled decide again, until nothing changes.
Whatever the order, there is one solution, which is that of the walk.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shapeshd.scene.render_options import CONTRAST_GAMMA

_RAYS_AT_MOST = 81  # through a pixel
_MIN_PIXELS = 4096

Rays = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Image, row and column of m pixels, int64 (m,), to what d x d rays see in each: (3, d, d, m)."""


def offsets(depth: int) -> Tensor:
    """Return where the rays of a supersampled pixel lie along its side, in pixels: (depth,)."""
    return (torch.arange(depth, dtype=torch.float64, device="cpu") + 0.5) / depth - 0.5


def supersample(linear: Tensor, threshold: float, rays: Rays) -> None:
    """Antialias images in place.

    Args:
        linear: (3, n, H + 1, W + 1), linear RGB at the pixels' centres. The first row and the
            first column lie outside of the image.
        threshold: contrast from which on two neighbours are supersampled: the sum over
            channels of the differences of value^(1/2.5).
        rays: traces more of them through given pixels; see `offsets` for where.
    """
    walk = _Walk(linear, threshold)
    flat = linear.view(3, -1)
    done: list[tuple[Tensor, Tensor]] = []
    # A share of the pixels at a time, so that all rays together, however many go through a
    # pixel, need no more memory than the first ones.
    share = max(_MIN_PIXELS, flat.shape[1] // _RAYS_AT_MOST)
    while len(pixels := walk.missing()):
        parts = []
        for part in pixels.split(share):
            more = rays(*walk.places(part))
            means = more.sum((1, 2)).add_(flat.index_select(1, part))
            parts.append(means.div_(more.shape[1] * more.shape[2] + 1))
        colours = torch.cat(parts, 1)
        walk.learn(pixels, colours)
        done.append((pixels, colours))
    for pixels, colours in done:
        # A pixel can lose its mark to a neighbour that was supersampled later.
        kept = walk.marked[pixels]
        flat[:, pixels[kept]] = colours[:, kept]


class _Walk:
    """Which pixels are supersampled, as far as their neighbours' colours are known.

    All pixels stand in one line; `_width` steps back is the pixel above. Bool tensors (p,):
    ``left`` whether a pixel differs from the one to its left, ``up`` from the one above,
    ``sharp_left`` and ``sharp_up`` the same if that one is supersampled, ``marked`` whether a
    pixel is to be supersampled.
    """

    def __init__(self, linear: Tensor, threshold: float) -> None:
        self._threshold = threshold
        self._shape = linear.shape[1:]
        self._width = linear.shape[-1]
        colours = linear.pow(1 / CONTRAST_GAMMA)
        left = torch.zeros(self._shape, dtype=torch.bool, device=linear.device)
        up = torch.zeros_like(left)
        left[..., 1:] = self._differ(colours[..., 1:], colours[..., :-1])
        up[:, 1:] = self._differ(colours[:, :, 1:], colours[:, :, :-1])
        self._colours = colours.view(3, -1)
        self._left, self._up = left.view(-1), up.view(-1)
        self._sharp_left, self._sharp_up = self._left.clone(), self._up.clone()
        self._by_left, self._by_up = self._left.clone(), self._up.clone()
        self._known = torch.zeros_like(self._left)
        self.marked = self._marks()

    def _differ(self, one: Tensor, other: Tensor) -> Tensor:
        return (one - other).abs_().sum(0) >= self._threshold

    def _marks(self) -> Tensor:
        marked = self._by_left | self._by_up
        marked[:-1] |= self._by_left[1:]
        marked[: -self._width] |= self._by_up[self._width :]
        return marked

    def missing(self) -> Tensor:
        """Return the marked pixels whose supersampled colours are not known: int64 (m,)."""
        return (self.marked & ~self._known).nonzero().squeeze(1)

    def places(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, row and column of `pixels`."""
        height, width = self._shape[1:]
        return pixels // (height * width), pixels // width % height, pixels % width

    def learn(self, pixels: Tensor, colours: Tensor) -> None:
        """Take note of supersampled colours (3, m) and let their neighbours decide again."""
        self._known[pixels] = True
        sharp = colours.pow(1 / CONTRAST_GAMMA)
        _, row, column = self.places(pixels)
        for step, inside, after in (
            (1, column + 1 < self._width, self._sharp_left),
            (self._width, row + 1 < self._shape[1], self._sharp_up),
        ):
            neighbours = pixels[inside] + step
            after[neighbours] = self._differ(
                self._colours.index_select(1, neighbours), sharp[:, inside]
            )
        self._settle()
        self.marked = self._marks()

    def _settle(self) -> None:
        open_to_change = (self._sharp_left != self._left) | (self._sharp_up != self._up)
        pixels = open_to_change.nonzero().squeeze(1)
        left, sharp_left = self._left[pixels], self._sharp_left[pixels]
        up, sharp_up = self._up[pixels], self._sharp_up[pixels]
        # From the first column a step back leads out of the row, from the first row out of the
        # image; but there both answers are no, whatever is found.
        before, above = pixels - 1, pixels - self._width
        by_left, by_up = self._by_left[pixels], self._by_up[pixels]
        changed = len(pixels) > 0
        while changed:
            was_left, was_up = by_left, by_up
            sampled = self._by_left[before] | self._by_up[before]
            by_left = torch.where(sampled, sharp_left, left)
            self._by_left[pixels] = by_left
            # By now the one above may have been supersampled by its right neighbour, too.
            sampled = self._by_left[above] | self._by_up[above] | self._by_left[above + 1]
            by_up = torch.where(sampled, sharp_up, up)
            self._by_up[pixels] = by_up
            changed = not (torch.equal(by_left, was_left) and torch.equal(by_up, was_up))
