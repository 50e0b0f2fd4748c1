"""What a score says of its source beside its distribution: equal images, and images made again."""

from __future__ import annotations

from shapeshd.benchmark.statistics.record import Count, Flag, Number, Record, Share, Text


class ReproducibilityRecord(Record):
    """Whether a source makes the same image of the same seed and number again.

    Differences are means over an image, levels of 256, of the sample that differs most; None where
    it was not looked at.
    """

    same: Flag
    again: Number | None
    other_batch: Number | None = None
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
