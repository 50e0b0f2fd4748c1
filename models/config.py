"""What a run of the reference models is made of: one frozen dataclass a table of its TOML file.

These classes are the only home of the defaults. A file or ``--set`` changes some of them; a key
that no class has, a value of another type or an impossible one is refused. What a run was made of
is written into its folder before work starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from shapeshd.benchmark.statistics.histogram import min_samples
from shapeshd.checks import whole_number
from shapeshd.errors import UsageError

IMAGES, FACTORS = "images", "factors"
_LARGEST, _WIDEST, _DEEPEST = 2**40, 2**14, 64

RING = 16
"""Codes that stand in a ring: each gives its difference to those before it."""


@dataclass(frozen=True)
class Codes:
    """Codes, and the networks that see nothing but codes and features.

    Attributes:
        latent_dim: components of a code z.
        noise_dim: components of the noise that enters between the encoder's trunk and head.
        head_width: width of the head's hidden layers.
        head_layers: how many of them there are.
        width: width of the hidden layers of the code discriminator C1 (C, in a plain AAE).
        layers: how many of them there are.
    """

    latent_dim: int = 64
    noise_dim: int = 64
    head_width: int = 512
    head_layers: int = 4
    width: int = 512
    layers: int = 4

    def __post_init__(self) -> None:
        for name in ("latent_dim", "noise_dim", "head_width", "width"):
            whole_number(name, getattr(self, name), 1, _WIDEST)
        for name in ("head_layers", "layers"):
            whole_number(name, getattr(self, name), 1, _DEEPEST)


@dataclass(frozen=True)
class Images:
    """The networks whose data are images; see `GeneratorConfig`, `EncoderConfig` and others.

    Attributes:
        size: width and height, pixels: a power of two, 8 .. 1024.
        channel_base: channels at a size of r pixels are channel_base // r, ...
        channel_max: ... but at most so many.
        feature_dim: components of the trunk's features.
        style_dim: components of the generator's w.
        mapping_layers: layers from z to w.
        mapping_rate: how fast they learn, relative to the other layers.
        group: samples that the discriminator's minibatch standard deviation looks at together.
        precision: "bf16" or "fp32", of the convolutions.
        compile: whether the networks are compiled (torch.compile).
    """

    size: int = 64
    channel_base: int = 16384
    channel_max: int = 512
    feature_dim: int = 512
    style_dim: int = 512
    mapping_layers: int = 4
    mapping_rate: float = 0.01
    group: int = 4
    precision: str = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        size = whole_number("size", self.size, 8, 1024)
        if size & (size - 1):
            raise UsageError(f"size must be a power of two, not {size}")
        whole_number("channel_base", self.channel_base, size, 2**24)
        for name in ("channel_max", "feature_dim", "style_dim", "group"):
            whole_number(name, getattr(self, name), 1, _WIDEST)
        whole_number("mapping_layers", self.mapping_layers, 1, _DEEPEST)
        _between("mapping_rate", self.mapping_rate, 1e-6, 1)
        _one_of("precision", self.precision, ("bf16", "fp32"))


@dataclass(frozen=True)
class Factors:
    """The networks of the factor-space tier, perceptrons on embeddings of 12 numbers.

    Attributes:
        images: how many there are to train on; drawn from the run's seed.
        width: width of the hidden layers of G, G' and D.
        layers: how many of them there are.
    """

    images: int = 500_000
    width: int = 160
    layers: int = 3

    def __post_init__(self) -> None:
        whole_number("images", self.images, 1, 2**31)
        whole_number("width", self.width, 1, _WIDEST)
        whole_number("layers", self.layers, 1, _DEEPEST)


@dataclass(frozen=True)
class Schedule:
    """What every phase has.

    Attributes:
        steps: updates of the networks in all.
        batch: images in one.
        learning_rate: of Adam, at its highest.
        warm_up: steps over which the rate rises.
        final_rate: share of it that is left at the end; it falls along a cosine.
        half_life: steps after which the moving average of the weights has forgotten half.
    """

    steps: int = 10_000
    batch: int = 64
    learning_rate: float = 1e-3
    warm_up: int = 100
    final_rate: float = 0.0
    half_life: float = 500.0

    def __post_init__(self) -> None:
        whole_number("steps", self.steps, 1, _LARGEST)
        whole_number("batch", self.batch, 1, 2**20)
        whole_number("warm_up", self.warm_up, 0, _LARGEST)
        _between("learning_rate", self.learning_rate, 1e-9, 1)
        _between("final_rate", self.final_rate, 0, 1)
        _between("half_life", self.half_life, 0, _LARGEST)


@dataclass(frozen=True)
class VAE(Schedule):
    """Phase 1: encoder and generator as a variational autoencoder.

    Attributes:
        sigma: standard deviation of the likelihood of a value around its reconstruction; as
            long as reconstructions are off by more (root mean square), that stands in its place.
        divergence: weight of the Kullback-Leibler term; 1 is the evidence lower bound.
        head_rate: the learning rate of the encoder's head, as a share of `learning_rate`. Its
            layers are plain ones, the convolutions' rates are equalised: at one rate the head
            would move the codes of all images faster than G can follow.
    """

    sigma: float = 0.1
    divergence: float = 1.0
    head_rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _between("sigma", self.sigma, 1e-6, 1e6)
        _between("divergence", self.divergence, 0, 1e6)
        _between("head_rate", self.head_rate, 0, 100)


@dataclass(frozen=True)
class AAE(Schedule):
    """Phase 2: the head of the encoder and the generator, against the code discriminators.

    Attributes:
        codes: codes in the adversarial part of a step; `batch` is that of the reconstruction.
        discriminator: "difference" for equations 4-6 (C1 sees differences of codes),
            "plain" for equations 2-3 (C sees codes).
        others: codes whose mean is taken from a code in a difference: 1 for equation 4, up to 15;
            see `phases.differences`.
        second: C2, the second discriminator of codes: "affine" or "none".
        lambda_1: weight of C1's (C's) part in the loss, at first.
        lambda_2: weight of C2's.
        control: how fast the weights are adjusted: the share by which they change in a step
            for an advantage that is 1 above the target; 0 leaves them as they are.
        target: the advantage over chance at which a weight stays; see
            `losses.discriminator_advantage`.
        lambda_min: a weight never falls below it, ...
        lambda_max: ... nor rises above it.
        penalty: gamma of the zero-centred gradient penalty on C1 (C), at the codes of images; as in
            R1, the loss has gamma / 2 of the squared gradient.
        penalty_every: steps from one penalty to the next, which then counts for all of them.
        divergence: weight of the Kullback-Leibler term of phase 1 that is kept, which keeps the
            encoder's noise alive.
        deviation: standard deviation below which no component of a code is drawn, at first: the
            norm alone would let the encoder's noise, and with it the codes' dimension, vanish.
        final_deviation: the same at the end; in between it goes along a cosine. The less there
            is, the better are reconstructions, and the sharper the borders between codes that
            mean different things.
        encoder_rate: the encoder's learning rate, as a share of `learning_rate`.
        generator_rate: the generator's, likewise.
        second_rate: C2's, likewise. A C2 that lags behind lets the codes' mean swing; one that
            follows at once damps it.
    """

    codes: int = 4096
    discriminator: str = "difference"
    others: int = 1
    second: str = "affine"
    lambda_1: float = 10.0
    lambda_2: float = 5.0
    control: float = 0.0
    target: float = 0.01
    lambda_min: float = 0.1
    lambda_max: float = 50.0
    penalty: float = 0.1
    penalty_every: int = 4
    divergence: float = 0.0
    deviation: float = 0.2
    final_deviation: float = 0.1
    encoder_rate: float = 0.3
    generator_rate: float = 0.5
    second_rate: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("codes", self.codes, 2, 2**20)
        whole_number("penalty_every", self.penalty_every, 1, 2**20)
        _one_of("discriminator", self.discriminator, ("difference", "plain"))
        whole_number("others", self.others, 1, RING - 1)
        _one_of("second", self.second, ("affine", "none"))
        for name in ("lambda_1", "lambda_2", "penalty", "divergence"):
            _between(name, getattr(self, name), 0, 1e6)
        _between("control", self.control, 0, 100)  # its exponential is taken
        for name in ("deviation", "final_deviation"):
            _between(name, getattr(self, name), 0, 1)
        for name in ("encoder_rate", "generator_rate", "second_rate"):
            _between(name, getattr(self, name), 0, 100)
        _between("target", self.target, -1, 1)
        _between("lambda_min", self.lambda_min, 0, 1e6)
        _between("lambda_max", self.lambda_max, self.lambda_min, 1e6)


@dataclass(frozen=True)
class GAN(Schedule):
    """Phase 3: the generator G' against D.

    Attributes:
        paired: whether D sees pairs, equations 7-8; otherwise single images, as in a plain GAN.
        from_autoencoder: whether G' starts as G.
        head_start: steps in which D alone is trained: what a D that knows nothing says would
            only lead a G' that starts as G astray.
        generator_rate: the generator's learning rate, as a share of `learning_rate`: one that
            starts as G has less to learn than D, which starts from nothing.
        penalty: gamma of R1; the loss has gamma / 2 of the squared gradient.
        penalty_every: steps from one R1 to the next, which then counts for all of them.
        path: weight of the path-length penalty.
        path_every: steps from one to the next, likewise.
        path_decay: share of the moving average of path lengths that goes at each.
        augment: "none", "safe" or "paper": which transforms; see `augment`.
        target: the share of real images rightly told, less that of the others, at which p stays.
        augment_kimg: thousands of real images in which p can go from 0 to 1.
    """

    paired: bool = True
    from_autoencoder: bool = True
    head_start: int = 0
    generator_rate: float = 1.0
    penalty: float = 1.0
    penalty_every: int = 16
    path: float = 2.0
    path_every: int = 4
    path_decay: float = 0.01
    augment: str = "safe"
    target: float = 0.6
    augment_kimg: float = 500.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("augment", self.augment, ("none", "safe", "paper"))
        whole_number("head_start", self.head_start, 0, _LARGEST)
        for name in ("penalty_every", "path_every"):
            whole_number(name, getattr(self, name), 1, 2**20)
        for name in ("penalty", "path"):
            _between(name, getattr(self, name), 0, 1e6)
        _between("generator_rate", self.generator_rate, 0, 100)
        _between("path_decay", self.path_decay, 0, 1)
        _between("target", self.target, -1, 1)
        _between("augment_kimg", self.augment_kimg, 1e-6, 1e9)


@dataclass(frozen=True)
class Checks:
    """What is measured during a phase, and at its end.

    Attributes:
        every: steps from one check to the next.
        samples: of the generator, for the score in a check; 0 for none, or at least 5,761.
        final_samples: for the score at the end; likewise.
        codes: of held-out images, whose distance to N(0, I) is measured.
        held_out: images at the end of the data that no network is trained on.
    """

    every: int = 1000
    samples: int = 20_000
    final_samples: int = 100_000
    codes: int = 10_000
    held_out: int = 10_000

    def __post_init__(self) -> None:
        whole_number("every", self.every, 1, _LARGEST)
        for name in ("samples", "final_samples"):
            samples = whole_number(name, getattr(self, name), 0, 2**31)
            if 0 < samples < min_samples():
                raise UsageError(f"{name} must be 0 or at least {min_samples()}, not {samples}")
        whole_number("codes", self.codes, 2, 2**31)
        whole_number("held_out", self.held_out, 2, 2**31)


@dataclass(frozen=True)
class RunConfig:
    """A run: see the classes of its tables.

    Attributes:
        domain: "images", or "factors" for the factor-space tier.
        seed: decides the first weights and all that is drawn.
    """

    domain: str = IMAGES
    seed: int = 0
    codes: Codes = field(default_factory=Codes)
    images: Images = field(default_factory=Images)
    factors: Factors = field(default_factory=Factors)
    vae: VAE = field(default_factory=VAE)
    aae: AAE = field(default_factory=AAE)
    gan: GAN = field(default_factory=GAN)
    checks: Checks = field(default_factory=Checks)

    def __post_init__(self) -> None:
        _one_of("domain", self.domain, (IMAGES, FACTORS))
        whole_number("seed", self.seed, 0, 2**63 - 1)

    def to_json(self) -> dict[str, Any]:
        """Return all tables but that of the other domain, ready for JSON and TOML."""
        values = asdict(self)
        del values[FACTORS if self.domain == IMAGES else IMAGES]
        return values


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is in no interval
        raise UsageError(f"{name} must be between {low:g} and {high:g}, not {value:g}")


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")
