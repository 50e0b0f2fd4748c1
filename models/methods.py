"""The rows of Table 1 that are ours to train, one more, and the ablations: one command each."""

from __future__ import annotations

from dataclasses import dataclass

from .training.run_files import PHASES


@dataclass(frozen=True)
class Row:
    """A row: what of the configuration it changes stands in ``configs/methods/NAME.toml``.

    Attributes:
        title: as a table calls it.
        phases: that it trains, in order.
    """

    title: str
    phases: tuple[str, ...]


ROWS = {
    "ours": Row("ours + StyleGAN2", PHASES),
    "contrast": Row("ours, C1 sees a code less the mean of 15", PHASES),
    "aae": Row("AAE + StyleGAN2", PHASES),
    "stylegan2": Row("StyleGAN2", ("gan",)),
    "vae": Row("VAE", ("vae",)),
    "no-difference": Row("ours, C1 sees codes", PHASES),
    "no-c2": Row("ours without C2", PHASES),
    "small-batch": Row("ours, adversarial batch as small as the reconstruction's", PHASES),
    "unpaired": Row("ours, D sees single images", PHASES),
    "from-scratch": Row("ours, G' not started from G", PHASES),
}
"""In the order of a table."""
