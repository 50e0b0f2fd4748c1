"""The rows of Table 1 that are ours to train, one more, and the ablations: one command each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A row: what of the configuration it changes stands in ``configs/rows/NAME.toml``.

    Attributes:
        title: as a table calls it.
        phases: that it trains, in order.
    """

    title: str
    phases: tuple[str, ...]


_ALL = ("vae", "aae", "gan")
ROWS = {
    "ours": Row("ours + StyleGAN2", _ALL),
    "odd": Row("ours, C2 odd", _ALL),
    "aae": Row("AAE + StyleGAN2", _ALL),
    "stylegan2": Row("StyleGAN2", ("gan",)),
    "vae": Row("VAE", ("vae",)),
    "no-difference": Row("ours, C1 sees codes", _ALL),
    "no-c2": Row("ours without C2", _ALL),
    "small-batch": Row("ours, adversarial batch as small as the reconstruction's", _ALL),
    "unpaired": Row("ours, D sees single images", _ALL),
    "from-scratch": Row("ours, G' not started from G", _ALL),
}
"""In the order of a table."""
