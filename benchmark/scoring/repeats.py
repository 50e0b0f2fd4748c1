"""Says what equal images in a score are."""

from __future__ import annotations

import numpy as np

from shapeshd.benchmark.result.formatting import percent
from shapeshd.benchmark.result.source_checks import RepeatsRecord
from shapeshd.benchmark.sources.base import Source

from .image_hashes import BLOCK, SeenImages

_NEARLY_ALL = 0.9
_FEW = 3  # copies that say nothing of where copies stand


def describe_repeats(source: Source, seen: SeenImages) -> RepeatsRecord | None:
    """Return what equal images there are and what they come from; None if none were compared.

    Two images of a generator whose latents are continuous are never equal by chance.

    Args:
        source: of the images.
        seen: hashes of all of them, or of all with some hashes.
    """
    seen.settle()
    compared, distinct = int(seen.counts.sum()), len(seen.hashes)
    if not compared:
        return None
    copies = compared - distinct
    if not copies:
        text = f"none among {compared:,}"
        return RepeatsRecord(compared=compared, copies=0, share=0.0, text=text)
    twice = np.flatnonzero(seen.second >= 0)
    worst = twice[np.lexsort((seen.second[twice], -seen.counts[twice]))[0]]
    example = (int(seen.first[worst]), int(seen.second[worst]))
    set_size, why = _cause(source, seen, compared)
    share = copies / compared
    of = f"{copies:,} of {compared:,} images"
    if seen.zeros:
        of = f"{percent(share)} of the images ({compared:,} were compared)"
    text = (
        f"{of} are copies of an earlier one, such as image {example[1]:,} of image "
        f"{example[0]:,}: {why}"
    )
    return RepeatsRecord(
        compared=compared, copies=copies, share=share, example=example, set_size=set_size, text=text
    )


def _cause(source: Source, seen: SeenImages, compared: int) -> tuple[int | None, str]:
    """Return the size of the set that the images seem to be drawn from, and a sentence."""
    distinct = len(seen.hashes)
    if distinct == 1:
        return 1, "the source gives one image alone"
    if source.count is not None:
        return None, f"the {source.kind} holds {distinct:,} different ones of them"
    apart = (seen.second - seen.first)[seen.second >= 0]
    batch = source.describe().get("batch")
    length = batch if isinstance(batch, int) else 1
    if length > 1 and len(apart) >= _FEW and (apart % length == 0).mean() >= _NEARLY_ALL:
        who = "processes" if (apart >= BLOCK).all() else "batches"
        return None, (
            f"{who} repeat each other, as they do where a generator of random numbers is "
            "seeded anew in each, or at import: draw from the latents or seeds that are given"
        )
    pairs = float((seen.counts * (seen.counts - 1) // 2).sum())
    size = round(2**seen.zeros * compared * (compared - 1) / 2 / pairs) or 1
    return size, (
        f"as of a source that repeats about {size:,} images at random, a finite training set "
        "for instance"
    )
