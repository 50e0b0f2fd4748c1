"""The methods that the program trains: those of Table 1, one more, and ablations."""

from __future__ import annotations

from dataclasses import dataclass

from .training.files import PHASES


@dataclass(frozen=True)
class Method:
    """A method; what it changes of a configuration stands in ``configs/methods/NAME.toml``.

    Attributes:
        title: as a table calls it.
        phases: that it trains, in order.
    """

    title: str
    phases: tuple[str, ...]


METHODS = {
    "ours": Method("ours + StyleGAN2", PHASES),
    "contrast": Method("ours, C1 sees a code less the mean of 15", PHASES),
    "aae": Method("AAE + StyleGAN2", PHASES),
    "stylegan2": Method("StyleGAN2", ("gan",)),
    "vae": Method("VAE", ("vae",)),
    "no-difference": Method("ours, C1 sees codes", PHASES),
    "no-c2": Method("ours without C2", PHASES),
    "small-batch": Method("ours, adversarial batch as small as the reconstruction's", PHASES),
    "unpaired": Method("ours, D sees single images", PHASES),
    "from-scratch": Method("ours, G' not started from G", PHASES),
}
"""By name, in the order of a table."""
