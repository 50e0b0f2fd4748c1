"""Adaptive discriminator augmentation, after Karras et al. 2020 (arXiv:2006.06676), appendix B.

Whatever a discriminator sees, real or made, is transformed at random first, each transform with
probability p, and p follows how far the discriminator overfits. Order, distributions and strengths
are the paper's. As there, all that moves pixels is one matrix per image and one resampling, and
all that changes colours is one matrix per image; `operations` carries them out.

**Which transforms.** A transform that moves a factor of 3DShapesHD hides from the discriminator
what the score measures, and teaches it to the generator where it leaks. So the default, `SAFE`
(brightness, contrast, saturation), holds what satisfies two conditions, at every strength:

- Every factor can be read afterwards as it could before. These three act on each pixel alone,
  as x -> s x + t or as x -> g + s (x - g) with g its grey and s > 0, and nothing is clipped. So
  each pixel's hue stays, as an angle about the grey axis and as HSV's; no edge moves; and of two
  walls of one hue the brighter stays so. The others fail: "hue" turns three factors; "flip" is
  the orientation's sign, with the light on the wrong side; "rotate90", "translate" and the
  geometric ones move the edges that scale and orientation are read from (an eighth of the width
  is some 8 degrees, a bin 10); "luma_flip" swaps light and shadow; "filter" makes edges ring;
  "cutout" hides the object from time to time.
- It cannot leak, at any p (section 2.2 of the paper). Each shifts the image along a line of its
  own (brightness, log of contrast, log of saturation) by a number drawn from (1 - p) delta + p N.
  The characteristic function of that has no zero, so that distributions of images that differ
  before differ after, even at p = 1. A uniform angle, a coin, a quarter turn wipe out at p = 1 what
  they act on, and leak near it.

"noise" satisfies both, but the paper found little use in it. `PAPER` (pixel blitting, geometric,
colour) is what the paper found best, for images whose distribution nobody knows. Most of its gain
comes from what `SAFE` leaves out: the default protects what is measured, and helps less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor

from shapeshd.errors import UsageError
from shapeshd.models.networks.layers import full_precision
from shapeshd.support.device import moved

from .operations import REACH, amplify, inside, recolour, resample

GROUPS: Mapping[str, tuple[str, ...]] = {
    "pixel": ("flip", "rotate90", "translate"),
    "geometric": ("scale", "rotate", "anisotropic", "shift"),
    "colour": ("brightness", "contrast", "luma_flip", "hue", "saturation"),
    "corruption": ("filter", "noise", "cutout"),
}
TRANSFORMS = tuple(chain.from_iterable(GROUPS.values()))
"""All transforms, in the order in which they are applied."""
PAPER = GROUPS["pixel"] + GROUPS["geometric"] + GROUPS["colour"]
SAFE = ("brightness", "contrast", "saturation")

STRENGTHS: Mapping[str, float] = {
    "translate": 0.125,  # largest shift along each axis, share of the size
    "scale": 0.2,  # standard deviation of the factor's log2
    "rotate": 1.0,  # largest angle, half turns
    "anisotropic": 0.2,  # standard deviation of the log2 of the width's factor, 1 / the height's
    "shift": 0.125,  # standard deviation along each axis, share of the size
    "brightness": 0.2,  # standard deviation of what is added; images are in [-1, 1]
    "contrast": 0.5,  # standard deviation of the factor's log2
    "hue": 1.0,  # largest angle about the grey axis, half turns
    "saturation": 1.0,  # standard deviation of the factor's log2
    "filter": 1.0,  # standard deviation of the log2 of an octave's gain
    "noise": 0.1,  # the noise's standard deviation is |N(0, this^2)|
    "cutout": 0.5,  # the rectangle's sides, share of the size
}
"""The paper's strengths. A transform that is not named here has none."""

_BOUNDED = ("translate", "rotate", "hue", "cutout")


@dataclass(frozen=True)
class AugmentConfig:
    """The transforms of an augmentation, how often they are applied and how strong they are.

    Attributes:
        transforms: names out of `TRANSFORMS`; the order does not matter.
        rates: by name, in (0, 1]: the transform's probability is p times this; 1 if not named.
        strengths: by name, above 0, in the units of `STRENGTHS`, whose value stands if not named.
    """

    transforms: tuple[str, ...] = SAFE
    rates: Mapping[str, float] = field(default_factory=dict)
    strengths: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.transforms:
            if name not in TRANSFORMS:
                raise UsageError(
                    f"there is no transform {name!r}; there are {', '.join(TRANSFORMS)}"
                )
        for what, values in (("rate", self.rates), ("strength", self.strengths)):
            for name, value in values.items():
                if name not in self.transforms:
                    raise UsageError(f"a {what} of {name!r}, which is not among the transforms")
                if what == "strength" and name not in STRENGTHS:
                    raise UsageError(f"{name} has no strength; these have: {', '.join(STRENGTHS)}")
                highest = 1.0 if what == "rate" or name in _BOUNDED else math.inf
                if not 0 < value <= highest or math.isinf(value):
                    bound = "" if math.isinf(highest) else " and at most 1"
                    raise UsageError(f"the {what} of {name} must be above 0{bound}, not {value!r}")

    def check_size(self, size: Sequence[int]) -> None:
        """Raise `UsageError` if images of a height and width, pixels, are too small for these."""
        if "filter" in self.transforms and min(size) <= REACH:
            raise UsageError(
                f"the transform filter needs images of more than {REACH} pixels, not {min(size)}: "
                "leave it out"
            )

    def rate(self, name: str) -> float:
        """Return how often a transform is applied, as a share of p."""
        return self.rates.get(name, 1.0) if name in self.transforms else 0.0

    def strength(self, name: str) -> float:
        """Return how strong a transform is."""
        return self.strengths.get(name, STRENGTHS[name])


@dataclass(frozen=True)
class Parameters:
    """The transforms drawn for n samples; on the CPU. ``parameters[part]`` are those of a part.

    Attributes:
        active: (n, len(TRANSFORMS)) bool, which transforms were drawn. One that was drawn may
            still do nothing: half of all flips.
        lookup: (n, 3, 3) float64, from the pixel (x, y, 1) of the result to that of the image.
        colour: (n, 4, 4) float64, from (r, g, b, 1) to (r, g, b, 1).
        gains: (n, 4) float64, of the octaves of spatial frequency, the lowest first.
        cut: (n, 4) int64, columns from .. to, rows from .. to (not included), of what is made grey.
        noise: (n, 3, h, w) float32, what is added; None if "noise" is not among the transforms.
    """

    active: Tensor
    lookup: Tensor
    colour: Tensor
    gains: Tensor
    cut: Tensor
    noise: Tensor | None

    def __len__(self) -> int:
        return len(self.active)

    def __getitem__(self, part: slice) -> Parameters:
        return Parameters(
            self.active[part],
            self.lookup[part],
            self.colour[part],
            self.gains[part],
            self.cut[part],
            None if self.noise is None else self.noise[part],
        )


def augment(
    images: Tensor,
    p: float | Tensor,
    config: AugmentConfig,
    rng: torch.Generator,
    *,
    batch: int | None = None,
    part: slice | None = None,
) -> Tensor:
    """Transform images at random; see `draw` and `apply`.

    Args:
        images: (n, 3 m, h, w).
        p: see `draw`.
        config: see `draw`.
        rng: see `draw`.
        batch: samples of the whole batch, if other processes have the rest; all of them draw for
            all, with equal generators, and so do together what one alone would.
        part: which of them these images are.

    Returns:
        As `images`.
    """
    count = len(images) if batch is None else batch
    parameters = draw(count, (images.shape[2], images.shape[3]), p, config, rng)
    return apply(images, parameters if part is None else parameters[part])


def draw(
    count: int,
    size: tuple[int, int],
    p: float | Tensor,
    config: AugmentConfig,
    rng: torch.Generator,
) -> Parameters:
    """Draw what happens to the samples of a batch.

    How many random numbers are taken does not depend on p.

    Args:
        count: samples.
        size: height and width of the images, pixels; at least 2.
        p: the probability of each transform, in [0, 1]. If it is a tensor, then better on the
            CPU: one elsewhere is waited for.
        config: the transforms.
        rng: a generator on the CPU.

    Raises:
        UsageError: if p is out of range, or the images are too small for "filter".
    """
    p = float(p)
    if not 0 <= p <= 1:
        raise UsageError(f"the probability of augmentation must be in [0, 1], not {p}")
    config.check_size(size)
    draws = _Draws(count, p, config, rng)
    noise = None
    if "noise" in config.transforms:
        sigma = torch.where(draws.gate("noise"), draws.normal("noise").abs(), 0.0).float()
        noise = torch.randn(count, 3, *size, generator=rng) * sigma[:, None, None, None]
    return Parameters(
        draws.gates.any(2), _lookup(draws, size), _colour(draws), _gains(draws),
        _cut(draws, size), noise,
    )  # fmt: skip


class _Draws:
    """The random numbers of a batch: of each transform 4 gates, 4 uniform and 4 normal ones."""

    def __init__(self, count: int, p: float, config: AugmentConfig, rng: torch.Generator) -> None:
        shape = (count, len(TRANSFORMS), 4)
        chances = torch.zeros(shape[1:], dtype=torch.float64)
        for index, name in enumerate(TRANSFORMS):
            chance = p * config.rate(name)
            if name == "rotate":  # in two places, so that P(either) is the chance
                chances[index, :2] = 1 - math.sqrt(1 - chance)
            else:
                chances[index, : 4 if name == "filter" else 1] = chance
        self.count = count
        self.gates = torch.rand(shape, generator=rng, dtype=torch.float64) < chances
        self._uniform = torch.rand(shape, generator=rng, dtype=torch.float64)
        self._normal = torch.randn(shape, generator=rng, dtype=torch.float64)
        self.config = config

    def gate(self, name: str, which: int = 0) -> Tensor:
        """Return (count,) bool, whether the transform is applied."""
        return self.gates[:, TRANSFORMS.index(name), which]

    def uniform(self, name: str, which: int = 0) -> Tensor:
        """Return (count,), uniform in [0, 1)."""
        return self._uniform[:, TRANSFORMS.index(name), which]

    def whole(self, name: str, highest: int) -> Tensor:
        """Return (count,), whole numbers 0 .. highest, uniform."""
        return (self.uniform(name) * (highest + 1)).long()

    def within(self, name: str, which: int = 0) -> Tensor:
        """Return (count,), uniform between -strength and strength."""
        return (2 * self.uniform(name, which) - 1) * self.config.strength(name)

    def normal(self, name: str, which: int = 0) -> Tensor:
        """Return (count,), normal with the strength as standard deviation."""
        return self._normal[:, TRANSFORMS.index(name), which] * self.config.strength(name)


def _then(
    total: Tensor, gate: Tensor, linear: Tensor | None = None, offset: Sequence[Tensor] = ()
) -> Tensor:
    """Return homogeneous matrices (n, d + 1, d + 1) followed by another map where it is gated."""
    d = total.shape[-1] - 1
    step = torch.eye(d + 1, dtype=total.dtype).repeat(len(total), 1, 1)
    if linear is not None:
        step[:, :d, :d] = linear
    if offset:
        step[:, :d, d] = torch.stack(tuple(offset), 1)
    return torch.where(gate[:, None, None], step @ total, total)


def _turn(cosine: Tensor, sine: Tensor) -> Tensor:
    return torch.stack((cosine, -sine, sine, cosine), 1).unflatten(1, (2, 2))


def _stretch(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack((x, y), 1))


def _lookup(draws: _Draws, size: tuple[int, int]) -> Tensor:
    """Return pixel blitting and geometry, inverted, in pixels; (count, 3, 3)."""
    height, width = size
    g = torch.eye(3, dtype=torch.float64).repeat(draws.count, 1, 1)
    mirror = 1.0 - 2.0 * draws.whole("flip", 1)
    g = _then(g, draws.gate("flip"), _stretch(mirror, torch.ones_like(mirror)))
    quarters = draws.whole("rotate90", 3)
    cosine, sine = torch.tensor([[1.0, 0, -1, 0], [0, -1, 0, 1]], dtype=g.dtype)[:, quarters]
    g = _then(g, draws.gate("rotate90"), _turn(cosine, sine))
    whole = [(draws.within("translate", i) * (width, height)[i]).round() for i in (0, 1)]
    g = _then(g, draws.gate("translate"), offset=whole)

    factor = torch.exp2(draws.normal("scale"))
    g = _then(g, draws.gate("scale"), _stretch(factor, factor))
    angles = [draws.within("rotate", i) * math.pi for i in (0, 1)]
    g = _then(g, draws.gate("rotate", 0), _turn(angles[0].cos(), angles[0].sin()))
    factor = torch.exp2(draws.normal("anisotropic"))
    g = _then(g, draws.gate("anisotropic"), _stretch(factor, 1 / factor))
    g = _then(g, draws.gate("rotate", 1), _turn(angles[1].cos(), angles[1].sin()))
    part = [draws.normal("shift", i) * (width, height)[i] for i in (0, 1)]
    g = _then(g, draws.gate("shift"), offset=part)

    # So far about the origin; that is the middle of the image. Identities stay exact.
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=g.dtype)
    inverse = torch.linalg.inv(g)
    inverse[:, :2, 2] += middle - (inverse[:, :2, :2] * middle).sum(2)
    return inverse


def _colour(draws: _Draws) -> Tensor:
    """Return the colour transforms, (count, 4, 4)."""
    c = torch.eye(4, dtype=torch.float64).repeat(draws.count, 1, 1)
    unit = torch.eye(3, dtype=c.dtype)
    grey = torch.full((3, 3), 1 / 3, dtype=c.dtype)  # v v^T of the grey axis v = (1, 1, 1) / sqrt 3
    c = _then(c, draws.gate("brightness"), offset=[draws.normal("brightness")] * 3)
    factor = torch.exp2(draws.normal("contrast"))[:, None, None]
    c = _then(c, draws.gate("contrast"), factor * unit)
    turned = draws.whole("luma_flip", 1)[:, None, None]
    c = _then(c, draws.gate("luma_flip"), unit - 2 * turned * grey)
    angle = draws.within("hue")[:, None, None] * math.pi
    across = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=c.dtype) / math.sqrt(3)
    turn = grey + angle.cos() * (unit - grey) + angle.sin() * across  # Rodrigues' formula
    c = _then(c, draws.gate("hue"), turn)
    factor = torch.exp2(draws.normal("saturation"))[:, None, None]
    return _then(c, draws.gate("saturation"), grey + factor * (unit - grey))


def _gains(draws: _Draws) -> Tensor:
    """Return the gains of the octaves; each change of one keeps a 1/f spectrum's power."""
    power = torch.tensor([10.0, 1, 1, 1], dtype=torch.float64) / 13
    gains = torch.ones(draws.count, 4, dtype=torch.float64)
    for i in range(4):
        change = torch.ones_like(gains)
        change[:, i] = torch.exp2(draws.normal("filter", i))
        change = change / (power * change.square()).sum(1, keepdim=True).sqrt()
        gains = torch.where(draws.gate("filter", i)[:, None], gains * change, gains)
    return gains


def _cut(draws: _Draws, size: tuple[int, int]) -> Tensor:
    """Return the rectangles, (count, 4), empty where there is none."""
    half, edges = draws.config.strength("cutout") / 2, []
    for i, pixels in enumerate((size[1], size[0])):
        centre = draws.uniform("cutout", i)
        edges += [((centre + reach) * pixels).round().long() for reach in (-half, half)]
    return torch.stack(edges, 1) * draws.gate("cutout")[:, None]


def apply(images: Tensor, parameters: Parameters) -> Tensor:
    """Transform images as was drawn; computed in float32 (float64, of such images).

    A sample on which nothing acts comes back exactly as it was. But for what is added, the result
    is linear in the images, and can be differentiated as often as one likes. Whether a kind of
    transform is needed at all is read from the CPU: nothing waits for the images' device.

    Args:
        images: (n, 3 m, h, w), in about [-1, 1]; m images side by side, such as the two of a
            pair, get the same transforms and the same noise. Not clipped.
        parameters: of n samples, drawn for this size.

    Returns:
        As `images`: of their shape, format, memory format and device.
    """
    made = full_precision(images)
    identity = torch.eye(4, dtype=torch.float64)
    with torch.autocast(images.device.type, enabled=False):
        geometric = (parameters.lookup != identity[:3, :3]).flatten(1).any(1)
        if geometric.any():
            made = _choose(geometric, resample(made, parameters.lookup), made)
        coloured = (parameters.colour != identity).flatten(1).any(1)
        if coloured.any():
            made = _choose(coloured, recolour(made, parameters.colour), made)
        filtered = (parameters.gains != 1).any(1)
        if filtered.any():
            made = _choose(filtered, amplify(made, parameters.gains), made)
        if parameters.noise is not None:
            noise = moved(parameters.noise, made.device, made.dtype)
            noise = noise.repeat(1, made.shape[1] // 3, 1, 1)
            made = made + noise
        if parameters.cut.any():
            made = made.masked_fill(inside(made, parameters.cut), 0.0)
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    return made.to(images.dtype).contiguous(memory_format=layout)


def _choose(where: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return `new` for the samples (n,) bool on the CPU, else `old`."""
    return torch.where(moved(where, new.device)[:, None, None, None], new, old)
