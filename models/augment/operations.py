"""The operations of augmentation: resampling, colours, octaves of frequency, rectangles.

After Karras et al. 2020 (arXiv:2006.06676), appendix B. All is linear in the images and can be
differentiated as often as one likes, on any PyTorch that this package takes.

Pixels are moved as there: the image is enlarged twofold, looked up bilinearly at steps of half a
pixel, and reduced twofold; its edges reflect. The filters of both are those of an orthogonal
wavelet there (sym6), here of the biorthogonal 9/7 (Cohen, Daubechies and Feauveau 1992), the
shorter to enlarge. Either pair gives back what is merely enlarged and reduced. But sym6 is not
symmetric and the 9/7 are, about a pixel. So a flip, a quarter turn and whole numbers of pixels
come out as the copies that they are, up to rounding; and the enlarged image reflects as the image
does, so that edges need no padding whose width depends on the matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shapeshd.models.networks.layers import upfirdn
from shapeshd.support.device import moved

# Halves, from the centre out, of the 9/7 pair, with sums of 2 and 1.
_ENLARGE = (1.115087052456994, 0.5912717631142470, -0.0575435262284996, -0.0912717631142495)
_REDUCE = (
    *(0.6029490182363579, 0.2668641184428723, -0.0782232665289878),
    *(-0.0168641184428750, 0.0267487574108097),
)
_MARGIN = 2 * (len(_REDUCE) - 1)
_BILINEAR, _REFLECTION = 0, 2  # as PyTorch's operator numbers them


def _octaves() -> Tensor:
    """Return the filters of appendix B's four octaves, (4, 43), which sum to the identity.

    Low pass and high pass are H(z) H(1/z) / 2 and H(-z) H(-1/z) / 2 of the wavelet sym2.
    """
    low = np.array([-1.0, 0, 9, 16, 9, 0, -1]) / 32
    high = -low
    high[3] += 1
    filters, below = [], np.ones(1)
    for spacing in (1, 2, 4):
        wide = np.zeros((2, 6 * spacing + 1))
        wide[:, ::spacing] = low, high
        filters.append(np.convolve(below, wide[1]))
        below = np.convolve(below, wide[0])
    filters.append(below)
    reach = len(below) // 2
    rows = [np.pad(line, reach - len(line) // 2) for line in reversed(filters)]
    return torch.from_numpy(np.stack(rows))


_OCTAVES = _octaves()
REACH = _OCTAVES.shape[1] // 2


def resample(x: Tensor, lookup: Tensor) -> Tensor:
    """Return the images (n, c, h, w) looked up bilinearly at twice the size."""
    height, width = x.shape[2:]
    # Of 2 w - 1 pixels from the first pixel's centre to the last one's: it reflects as x does.
    large = upfirdn(F.pad(x, (1, 1, 1, 1), mode="reflect"), _kernel(_ENLARGE, x), 2, 1, (1, 0))
    # What `grid_sample` takes for the first and last pixel is -1 and 1.
    places = [[2 / (width - 1), 0, -1], [0, 2 / (height - 1), -1], [0, 0, 1]]
    unit = torch.tensor(places, dtype=lookup.dtype)
    m = moved((unit @ lookup)[:, :2, :, None, None], x.device, x.dtype)  # (n, 2, 3, 1, 1)
    across, down = (
        (torch.arange(2 * pixels - 1 + _MARGIN, device=x.device) - _MARGIN // 2).to(x.dtype) / 2
        for pixels in (width, height)
    )
    # Not a product of matrices, which a GPU may do in fewer digits than a place needs.
    grid = m[:, :, 0] * across + m[:, :, 1] * down[:, None] + m[:, :, 2]  # (n, 2, rows, columns)
    found = _Lookup.apply(large, grid.movedim(1, 3))
    return upfirdn(found, _kernel(_REDUCE, x), 1, 2)


def _kernel(half: Sequence[float], x: Tensor) -> Tensor:
    line = torch.tensor([*half[:0:-1], *half], dtype=torch.float64)
    return moved(torch.outer(line, line), x.device, x.dtype)


class _Lookup(torch.autograd.Function):
    """`grid_sample`, as a linear map of the images alone.

    PyTorch before 2.6, at least, has no second derivative of its own.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        return _Spread.apply(gradient, grid, ctx.shape), None


class _Spread(torch.autograd.Function):
    """The transpose of `_Lookup`."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        images = gradient.new_zeros(shape)  # only their shape matters
        both = torch.ops.aten.grid_sampler_2d_backward(
            gradient, images, grid, _BILINEAR, _REFLECTION, True, [True, False]
        )
        return both[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = ctx.saved_tensors
        return _Lookup.apply(gradient, grid), None, None


def recolour(x: Tensor, colour: Tensor) -> Tensor:
    """Return the images (n, 3 m, h, w) whose colours are mapped by (n, 4, 4)."""
    planes = x.unflatten(1, (-1, 3))  # (n, m, 3, h, w)
    m = moved(colour[:, None, :3, :, None, None], x.device, x.dtype)  # (n, 1, 3, 4, 1, 1)
    made = m[:, :, :, 3]
    for i in range(3):
        made = made + m[:, :, :, i] * planes[:, :, i : i + 1]
    return made.flatten(1, 2)


def amplify(x: Tensor, gains: Tensor) -> Tensor:
    """Return the images (n, c, h, w) whose octaves are amplified by (n, 4), along each axis."""
    count, channels, height, width = x.shape
    lines = moved(gains @ _OCTAVES, x.device, x.dtype)
    taps = lines.repeat_interleave(channels, 0)[:, None]  # (n c, 1, 43)
    wide = F.pad(x, (REACH,) * 4, mode="reflect").reshape(
        1, -1, *(2 * REACH + s for s in (height, width))
    )
    made = F.conv2d(wide, taps[:, :, None], groups=count * channels)
    return F.conv2d(made, taps[..., None], groups=count * channels).view_as(x)


def inside(x: Tensor, cut: Tensor) -> Tensor:
    """Return (n, 1, h, w) bool, which pixels are in the rectangles (n, 4)."""
    left, right, top, bottom = moved(cut, x.device).T[:, :, None]
    columns, rows = (torch.arange(pixels, device=x.device) for pixels in (x.shape[3], x.shape[2]))
    across, down = (columns >= left) & (columns < right), (rows >= top) & (rows < bottom)
    return (down[:, :, None] & across[:, None, :])[:, None]
