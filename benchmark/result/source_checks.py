"""What a score says of its source beside its distribution: equal images, and images made again."""

from __future__ import annotations

from shapeshd.benchmark.statistics.record import (
    AtLeastOne,
    Count,
    Flag,
    Positive,
    Record,
    Share,
    Text,
)


class ReproducibilityRecord(Record):
    """Whether a source makes the same image of the same seed and number again.

    Differences are means over an image, levels of 256, of the sample that differs most; None where
    it was not looked at.
    """

    same: Flag
    again: Positive | None
    other_batch: Positive | None = None
    text: Text


class RepeatsRecord(Record):
    """Images that equal an earlier one of the same score, pixel by pixel.

    `compared` images were compared with each other (all, or of many those of some hashes), of which
    `copies` equal one with a lower number; `share` is their share. `example` are the numbers of
    two equal images. `set_size` is the number of images from which a source that draws at random
    would draw so many equal ones; None where the copies are not random.
    """

    compared: Count
    copies: Count
    share: Share
    example: tuple[Count, Count] | None = None
    set_size: Count | None = None
    text: Text


class NearCopiesRecord(Record):
    """Images that nearly equal another one of the same score, told by their recognised factors.

    Of `compared` images, `copies` have a near copy that is not equal pixel by pixel; `share` is
    their share. In `pairs` pairs all factors differ by at most `width` bins, where `expected` would
    by chance; `p_value` is that of so many or more at 20 times chance; `example` are the numbers of
    two such images. `set_size` is the number of images from which a source that draws at random,
    with small changes, would give so many pairs.
    """

    compared: Count
    copies: Count
    share: Share
    pairs: Count | None = None
    expected: Positive | None = None
    width: Positive | None = None
    p_value: Share | None = None
    example: tuple[Count, Count] | None = None
    set_size: AtLeastOne | None = None
    text: Text
