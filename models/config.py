"""The configuration of a run of the reference models: one class for each table of its TOML file.

These classes are the only home of the defaults and of the limits. A file or ``--set`` changes some
values; a key that no class has, a value of another type or an impossible one is refused. The
configuration is written into the run's folder before work starts.
"""

from __future__ import annotations

from dataclasses import asdict, field
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from shapeshd.benchmark.statistics.histogram import min_samples
from shapeshd.models.networks.config import (
    Depth,
    PyramidConfig,
    Solver,
    SolverSteps,
    UNetConfig,
    Width,
)
from shapeshd.support.schema import PowerOfTwo, configuration

IMAGES: Final = "images"
FACTORS: Final = "factors"
UNET: Final = "unet"

RING = 16
"""Number of codes in a ring, in which each code is compared with those before it."""


def _enough(samples: int) -> int:
    if 0 < samples < min_samples():
        raise ValueError(f"must be 0 or at least {min_samples():,}, not {samples:,}")
    return samples


Steps = Annotated[int, Field(ge=1, le=2**40)]
Batch = Annotated[int, Field(ge=1, le=2**20)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Rate = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Signed = Annotated[float, Field(ge=-1, le=1)]
Samples = Annotated[int, Field(ge=0, le=2**31), AfterValidator(_enough)]


@configuration
class Codes:
    """Sizes of codes and of the networks whose inputs are codes or features.

    Attributes:
        latent_dim: components of a code z.
        noise_dim: components of the noise that enters between the encoder's trunk and head.
        head_width: width of the head's hidden layers.
        head_layers: how many of them there are.
        width: width of the hidden layers of the code discriminator C1 (C, in a plain AAE).
        layers: how many of them there are.
    """

    latent_dim: Width = 64
    noise_dim: Width = 64
    head_width: Width = 512
    head_layers: Depth = 4
    width: Width = 512
    layers: Depth = 4


@configuration
class Images(PyramidConfig):
    """Sizes of the networks whose inputs or outputs are images; see `GeneratorConfig` and others.

    Attributes:
        size: width and height, pixels: a power of two, 8 .. 1024.
        feature_dim: components of the trunk's features.
        style_dim: components of the generator's w.
        mapping_layers: layers from z to w.
        mapping_rate: how fast they learn, relative to the other layers.
        group: samples that the discriminator's minibatch standard deviation looks at together.
        precision: "bf16" or "fp32", of the convolutions.
        compile: whether the networks are compiled (torch.compile).
    """

    size: Annotated[int, Field(ge=8, le=1024), PowerOfTwo] = 64
    channel_base: Annotated[int, Field(ge=8, le=2**24)] = 16384
    feature_dim: Width = 512
    style_dim: Width = 512
    mapping_layers: Depth = 4
    mapping_rate: Annotated[float, Field(ge=1e-6, le=1)] = 0.01
    group: Width = 4
    precision: Literal["bf16", "fp32"] = "fp32"
    compile: bool = False


@configuration
class Factors:
    """The factor-space tier: its data, and its perceptrons on embeddings of 12 numbers.

    Attributes:
        images: how many there are to train on; drawn from the run's seed.
        width: width of the hidden layers of G, G', D and the flow's velocity.
        layers: how many of them there are.
    """

    images: Annotated[int, Field(ge=1, le=2**31)] = 500_000
    width: Width = 160
    layers: Depth = 3


@configuration
class Schedule:
    """The settings that all phases share.

    Attributes:
        steps: updates of the networks in all.
        batch: images in one.
        learning_rate: of Adam, at its highest.
        warm_up: steps over which the rate rises.
        final_rate: share of it that is left at the end; it falls along a cosine.
        half_life: steps after which the moving average of the weights has forgotten half.
    """

    steps: Steps = 10_000
    batch: Batch = 64
    learning_rate: Annotated[float, Field(ge=1e-9, le=1)] = 1e-3
    warm_up: Annotated[int, Field(ge=0, le=2**40)] = 100
    final_rate: Share = 0.0
    half_life: Annotated[float, Field(ge=0, le=2**40)] = 500.0


@configuration
class VAE(Schedule):
    """Settings of phase 1: encoder and generator as a variational autoencoder.

    Attributes:
        sigma: standard deviation of the likelihood of a value around its reconstruction; as
            long as reconstructions are off by more (root mean square), that stands in its place.
        divergence: weight of the Kullback-Leibler term; 1 is the evidence lower bound.
        head_rate: the learning rate of the encoder's head, as a share of `learning_rate`. Its
            layers are plain ones, the convolutions' rates are equalised: at one rate the head
            would move the codes of all images faster than G can follow.
    """

    sigma: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.1
    divergence: Weight = 1.0
    head_rate: Rate = 0.1


@configuration
class AAE(Schedule):
    """Settings of phase 2: the encoder's head and the generator, against code discriminators.

    Attributes:
        codes: codes in the adversarial part of a step; `batch` is that of the reconstruction.
        discriminator: "difference" for equations 4-6 (C1 sees differences of codes),
            "plain" for equations 2-3 (C sees codes).
        others: codes whose mean is taken from a code in a difference: 1 for equation 4, up to 15;
            see `aae.differences`.
        second: C2, the second discriminator of codes: "affine" or "none".
        lambda_1: weight of C1's (C's) part in the loss, at first.
        lambda_2: weight of C2's.
        control: how fast the weights are adjusted: the share by which they change in a step
            for an advantage that is 1 above the target; 0 leaves them as they are.
        target: the advantage over chance at which a weight stays; see
            `losses.discriminator_advantage`.
        lambda_min: a weight never falls below it, ...
        lambda_max: ... nor rises above it.
        penalty: gamma of the zero-centred gradient penalty on C1 (C), at what it sees of images'
            codes; as in R1, the loss has gamma / 2 of the squared gradient.
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

    codes: Annotated[int, Field(ge=2, le=2**20)] = 4096
    discriminator: Literal["difference", "plain"] = "difference"
    others: Annotated[int, Field(ge=1, le=RING - 1)] = 1
    second: Literal["affine", "none"] = "affine"
    lambda_1: Weight = 10.0
    lambda_2: Weight = 5.0
    control: Rate = 0.0
    target: Signed = 0.01
    lambda_min: Weight = 0.1
    lambda_max: Weight = 50.0
    penalty: Weight = 0.1
    penalty_every: Batch = 4
    divergence: Weight = 0.0
    deviation: Share = 0.2
    final_deviation: Share = 0.1
    encoder_rate: Rate = 0.3
    generator_rate: Rate = 0.5
    second_rate: Rate = 5.0

    @field_validator("lambda_min")
    @classmethod
    def _not_above_the_first(cls, least: float, info: ValidationInfo) -> float:
        """Refuse a limit that the first step would raise a weight to."""
        for name, weight in cls._moved(info).items():
            if weight < least:
                raise ValueError(f"must be at most {name}, {weight:g}, not {least:g}")
        return least

    @field_validator("lambda_max")
    @classmethod
    def _not_below_the_first(cls, largest: float, info: ValidationInfo) -> float:
        """Refuse a limit that the first step would lower a weight to, or below the other limit."""
        lower = {"lambda_min": info.data.get("lambda_min", largest), **cls._moved(info)}
        for name, value in lower.items():
            if largest < value:
                raise ValueError(f"must be at least {name}, {value:g}, not {largest:g}")
        return largest

    @staticmethod
    def _moved(info: ValidationInfo) -> dict[str, float]:
        """Return the first weights of C1 and C2, if training moves them."""
        data = info.data
        names = ["lambda_1"] + ["lambda_2"] * (data.get("second") != "none")
        return {name: data[name] for name in names if name in data and data.get("control")}


@configuration
class GAN(Schedule):
    """Settings of phase 3: the generator G' against D.

    Attributes:
        paired: whether D sees pairs, equations 7-8; otherwise single images, as in a plain GAN.
        from_autoencoder: whether G' starts as G.
        head_start: steps in which D alone is trained: what a D that knows nothing says would
            only lead a G' that starts as G astray; fewer than `steps`.
        generator_rate: the generator's learning rate, as a share of `learning_rate`: one that
            starts as G has less to learn than D, which starts from nothing. One that does not
            (`from_autoencoder` is false) wants 1.
        penalty: gamma of R1; the loss has gamma / 2 of the squared gradient.
        penalty_every: steps from one R1 to the next, which then counts for all of them.
        path: weight of the path-length penalty.
        path_every: steps from one to the next, likewise.
        path_decay: share of the moving average of path lengths that goes at each.
        augment: which transforms D's samples go through: "none", "safe" (that move no factor),
            "paper" (pixel, geometric and colour ones, which Karras et al. 2020 found best) or "all"
            (corruptions, too); see `augment`.
        target: the share of real images rightly told, less that of the others, at which p stays.
        augment_kimg: thousands of real images in which p can go from 0 to 1.
    """

    paired: bool = True
    from_autoencoder: bool = True
    head_start: Annotated[int, Field(ge=0, le=2**40)] = 0
    generator_rate: Rate = 0.1
    penalty: Weight = 1.0
    penalty_every: Batch = 16
    path: Weight = 2.0
    path_every: Batch = 4
    path_decay: Share = 0.01
    augment: Literal["none", "safe", "paper", "all"] = "safe"
    target: Signed = 0.6
    augment_kimg: Annotated[float, Field(ge=1e-6, le=1e9)] = 500.0

    @field_validator("head_start")
    @classmethod
    def _shorter(cls, head_start: int, info: ValidationInfo) -> int:
        """Refuse a head start that leaves no step to the generator."""
        steps = info.data.get("steps", head_start + 1)
        if head_start >= steps:
            raise ValueError(f"must be below gan.steps, {steps:,}, not {head_start:,}")
        return head_start


@configuration
class Flow(Schedule):
    """Settings of rectified flow matching; its network of images is the table `unet`.

    Attributes:
        solver: "euler", "heun" or "midpoint": makes samples, here and where the saved flow is
            used and nothing else is said.
        solver_steps: that it takes from noise to data.
    """

    solver: Solver = "midpoint"
    solver_steps: SolverSteps = 16


@configuration
class Checks:
    """Settings of what is measured during a phase and at its end.

    Attributes:
        every: steps from one check to the next.
        samples: of the generator, for the score in a check; 0 for none, or at least 5,761.
        final_samples: for the score at the end; likewise.
        codes: of held-out images, whose distance to N(0, I) is measured.
        held_out: images at the end of the data that no network is trained on.
    """

    every: Steps = 1000
    samples: Samples = 20_000
    final_samples: Samples = 100_000
    codes: Annotated[int, Field(ge=2, le=2**31)] = 10_000
    held_out: Annotated[int, Field(ge=2, le=2**31)] = 10_000


@configuration
class RunConfig:
    """The configuration of a run; each table is a class.

    Attributes:
        domain: "images", or "factors" for the factor-space tier.
        seed: decides the first weights and all that is drawn.
    """

    domain: Literal["images", "factors"] = IMAGES
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    codes: Codes = field(default_factory=Codes)
    images: Images = field(default_factory=Images)
    factors: Factors = field(default_factory=Factors)
    vae: VAE = field(default_factory=VAE)
    aae: AAE = field(default_factory=AAE)
    gan: GAN = field(default_factory=GAN)
    flow: Flow = field(default_factory=Flow)
    unet: UNetConfig = field(default_factory=UNetConfig)
    checks: Checks = field(default_factory=Checks)

    def to_json(self) -> dict[str, Any]:
        """Return all tables but that of the other domain, ready for JSON and TOML."""
        values = {**asdict(self), UNET: self.unet.to_json()}
        for table in (FACTORS,) if self.domain == IMAGES else (IMAGES, UNET):
            del values[table]
        return values
