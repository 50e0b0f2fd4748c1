"""The methods that the program trains: those of Table 1, two more, and ablations."""

from __future__ import annotations

from dataclasses import dataclass

from .training.files import PHASES


@dataclass(frozen=True)
class Method:
    """A method; what it changes of a configuration stands in ``configs/methods/NAME.toml``.

    Attributes:
        summary: what it is, in a sentence for the command's help.
        phases: that it trains, in order.
    """

    summary: str
    phases: tuple[str, ...]


METHODS = {
    "ours": Method(
        "The paper's: a VAE, the adversarial autoencoder of equations 4 to 6, a GAN coupled to it.",
        PHASES,
    ),
    "contrast": Method(
        "As ours, but the code discriminator C1 sees a code less the mean of 15 others.", PHASES
    ),
    "aae": Method("A plain adversarial autoencoder (equations 2 and 3) in phase 2.", PHASES),
    "stylegan2": Method("A plain StyleGAN2: phase 3 alone, without an autoencoder.", ("gan",)),
    "vae": Method("A variational autoencoder: phase 1 alone.", ("vae",)),
    "flow": Method(
        "A rectified flow: one network learns the velocity from noise to images.", ("flow",)
    ),
    "no-difference": Method(
        "As ours, but C1 sees single codes instead of differences of two.", PHASES
    ),
    "no-c2": Method(
        "As ours, without C2, the affine discriminator that holds the codes' mean.", PHASES
    ),
    "small-batch": Method("As ours, but phase 2 takes 64 codes a step.", PHASES),
    "unpaired": Method(
        "As ours, but the image discriminator D sees single images instead of pairs.", PHASES
    ),
    "from-scratch": Method(
        "As ours, but the coupled generator G' does not start from the autoencoder's G.", PHASES
    ),
}
"""By name, in the order of a table."""
