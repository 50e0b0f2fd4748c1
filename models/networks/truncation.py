"""Truncation of styles: what images gain in quality they lose in variety.

Karras et al. 2019 (arXiv:1812.04948), equation of appendix B.
"""

from __future__ import annotations

import torch
from torch import Tensor


def truncate(w: Tensor, average: Tensor, psi: float, cutoff: int | None, layers: int) -> Tensor:
    """Return average + psi (w - average): 1 leaves w as it is, 0 replaces it by its average.

    Args:
        w: (n, style_dim).
        average: (style_dim,), the mean of w.
        psi: in [0, 1].
        cutoff: how many styles, from the coarsest on, are truncated; None for all.
        layers: how many styles an image has.

    Returns:
        (n, style_dim), or (n, layers, style_dim) where some styles are not truncated.
    """
    if psi == 1.0:
        return w
    drawn = torch.lerp(average.to(w.dtype), w, psi)
    if cutoff is None or cutoff >= layers:
        return drawn
    return torch.stack([drawn] * cutoff + [w] * (layers - cutoff), 1)
