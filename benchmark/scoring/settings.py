"""What a score is asked to do, and the checks before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from shapeshd.benchmark.fidelity.measure import FidelitySettings
from shapeshd.benchmark.recognizer.reader import LARGEST_PIECE, Reader, card_of
from shapeshd.benchmark.sources.base import Source
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.statistics.histogram import MAX_SAMPLES, min_samples_under
from shapeshd.benchmark.statistics.measurement_error import check_testable
from shapeshd.checks import whole_number
from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError, named
from shapeshd.factors import check_seed
from shapeshd.images.drawn import DrawnImages
from shapeshd.images.numbered import NumberedImages
from shapeshd.images.resize import check_image_size

from .asked import bins_and_probabilities, refuse_too_few, samples_asked

DEFAULT_SAMPLES = 100_000

ReaderChoice = Callable[[int], Reader]
"""Gives a recognizer for images of so many pixels a side."""


@dataclass(frozen=True)
class ScoreSettings:
    """What is measured of a source.

    Attributes:
        samples: how many; by default all images that the source has, or 100,000.
        protocol: "chi2-20k" for 20 samples per bin, in place of `samples`.
        seed: with which the source was opened.
        distribution: that the samples should follow; by default the uniform one.
        options: with which the source was opened.
        fidelity: what is measured of single images, if anything.
        again: whether a score that lies in the folder is deleted and begun anew.
        allow_irreproducible: whether a source that does not give the same images again may be gone
            on with, or shared out.
        check_images: look at a few hundred samples beside their re-renders; see `check_images`.
    """

    samples: int | None = None
    protocol: str | None = None
    seed: int = 0
    distribution: Distribution | None = None
    options: SourceOptions = field(default_factory=SourceOptions)
    fidelity: FidelitySettings | None = None
    again: bool = False
    allow_irreproducible: bool = False
    check_images: bool = True


@dataclass(frozen=True)
class Task:
    """What a score has to do, and that it can be done.

    Attributes:
        source: what is scored.
        reader: reads its images.
        samples: how many.
        seed: of the samples.
        distribution: that they should follow; None for the uniform one.
        side: width and height of the source's images, pixels.
        resized: how they are brought to the reader's size; None if they have it.
        check_images: whether a few hundred of them are looked at.
        fidelity_source: gives the images whose fidelity is measured: `source`, or the same images
            in an order that the seed decides, where theirs may mean something.
    """

    source: Source
    reader: Reader
    samples: int
    seed: int
    distribution: Distribution | None
    side: int
    resized: str | None
    check_images: bool
    fidelity_source: Source

    def gather(self, *, progress: bool = False) -> None:
        """Make ready to read the samples, where single images take long; see `DrawnImages`."""
        _gather(self.source, self.samples, progress)

    def gather_fidelity(self, images: int, *, progress: bool = False) -> None:
        """Make ready to read the `images` whose fidelity is measured, as `gather` does."""
        _gather(self.fidelity_source, images, progress)

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *_: object) -> None:
        """Give back the disk that a drawn part took; the source is closed by who opened it."""
        for source in (self.source, self.fidelity_source):
            if isinstance(source, DrawnImages):
                source.close()

    @property
    def first_alone(self) -> bool:
        """Whether only the first of images would be read whose order may mean something."""
        source = self.source
        ordered = isinstance(source, NumberedImages) and source.ordered
        return ordered and self.drawn_from is None and self.samples < (source.count or 0)

    @property
    def drawn_from(self) -> int | None:
        """How many images there are of which the samples were drawn by the seed; else None."""
        return self.source.count if isinstance(self.source, DrawnImages) else None


def _gather(source: Source, count: int, progress: bool) -> None:
    if isinstance(source, DrawnImages):
        # Pieces are read whole, beyond the last image.
        source.gather(count + LARGEST_PIECE, progress=progress)


def prepare(
    source: Source,
    reader: Reader | ReaderChoice,
    settings: ScoreSettings,
    *,
    drawn: bool | None = None,
) -> Task:
    """Choose the reader and the number of samples, and look at the first image.

    Where fewer images are wanted than there are, and their order may mean something, they are
    drawn by the seed: see `DrawnImages`. So are those whose fidelity is measured, of all that are
    scored in their order.

    Args:
        source: what is scored.
        reader: reads it, or is chosen by the size of its images.
        settings: what is measured.
        drawn: whether they are drawn, as the score began that is gone on with; None for where
            fewer are wanted than there are.

    Raises:
        UsageError: if a setting is impossible, there are too few samples, or the images cannot
            be read by the recognizer.
        ShapesHDError: if the source does not give its first image.
    """
    check_seed(settings.seed)
    distribution = settings.distribution
    if distribution is not None and distribution.uniform:
        distribution = None
    if distribution is not None:
        check_testable(distribution)
    samples = choose_samples(source, settings.samples, settings.protocol, distribution)
    fidelity_source = source
    if isinstance(source, NumberedImages) and source.count is not None:
        drawn = samples < source.count if drawn is None else drawn
        if source.ordered and drawn:
            fidelity_source = source = DrawnImages(source, settings.seed)
        else:
            _refuse_seed(source, settings.seed)
            if source.ordered and settings.fidelity is not None:
                fidelity_source = DrawnImages(source, settings.seed)
    height, side = source.images(0, 1).shape[-2:]
    chosen = cast(Reader, reader if hasattr(reader, "size") else reader(side))
    resized = check_image_size(height, side, chosen.size, source.name)
    card_of(chosen)  # a damaged card is refused before anything is counted
    return Task(
        source, chosen, samples, settings.seed, distribution, side, resized, settings.check_images,
        fidelity_source,
    )  # fmt: skip


def _refuse_seed(source: NumberedImages, seed: int) -> None:
    """Raise `UsageError` if a seed is given to images that exist, and all or any are as good."""
    if seed > 0:
        why = "all are wanted" if source.ordered else "it has a seed of its own"
        raise UsageError(
            f"{source.name}: its images are there already, and {why}, so no seed changes them: "
            f"leave out {named('seed')}"
        )


def choose_samples(
    source: Source,
    samples: int | None,
    protocol: str | None,
    distribution: Distribution | None = None,
) -> int:
    """Return how many samples to take, or raise `UsageError` if that is impossible."""
    bins, probabilities = bins_and_probabilities(distribution)
    asked = samples_asked(samples, protocol, distribution)
    if asked is None:
        asked = DEFAULT_SAMPLES if source.count is None else source.count
    whole_number("samples", asked, 1, MAX_SAMPLES)
    if source.count is not None and asked > source.count:
        raise UsageError(f"{source.name}: has {source.count:,} images, fewer than {asked:,}")
    needed = min_samples_under(probabilities)
    if source.count is not None and source.count < needed:
        raise UsageError(
            f"{source.name}: has {source.count:,} images, too few to test {bins:,} bins: at "
            f"least {needed:,} are needed"
        )
    refuse_too_few(asked, distribution)
    return asked


def distribution_remark(source: Source, distribution: Distribution | None) -> str | None:
    """Return a remark if a dataset records another distribution than the tested one."""
    recorded: Distribution | None = getattr(source, "distribution", None)
    if recorded is None or recorded == (distribution or Distribution.from_text("")):
        return None
    tested = (
        "the uniform distribution" if distribution is None else f"the distribution {distribution}"
    )
    made = "uniform factors" if recorded.uniform else f"another distribution, {recorded}"
    hint = f"; give it as {named('distribution')} to test against it"
    return (
        f"{source.name}: is tested against {tested}, but was rendered with {made}"
        f"{hint if distribution is None else ''}"
    )
