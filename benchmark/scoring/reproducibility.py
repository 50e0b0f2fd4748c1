"""Whether a source makes the same image of the same seed and number again.

Three looks before anything is counted: the first samples are made again after others; sample 1 is
asked for alone; and some samples are made in a batch of another length. A network traced in
training mode, or with dropout, noise drawn inside, or a generator of random numbers of its own fail
them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from shapeshd.benchmark.result.source_checks import ReproducibilityRecord
from shapeshd.benchmark.sources.base import Source
from shapeshd.errors import ShapesHDError, UsageError, named
from shapeshd.support.distributed import Ranks
from shapeshd.support.progress import warn

from .image_hashes import BLOCK
from .witnesses import MOST_APART

_LOOKED_AT = 8


def look_again(source: Source) -> ReproducibilityRecord | None:
    """Make some samples of a source again; None of one whose images exist.

    Raises:
        ShapesHDError: if the source fails.
    """
    if source.count is not None:
        return None
    before = source.images(0, _LOOKED_AT).clone()
    other_batch = max(BLOCK, source.describe().get("batch") or 0)  # a source may keep its last one
    source.images(other_batch, other_batch + 1)
    alone = source.images(1, 2)
    again = max(_apart(source.images(0, _LOOKED_AT), before), _apart(alone, before[1:2]))
    other = _in_other_batch(source, before)
    if again > MOST_APART:
        text = (
            f"no: an image that is made again is another one ({again:.1f} levels apart): it "
            "depends on more than seed and number, such as noise, dropout or a generator of random "
            "numbers inside"
        )
    elif other is not None and other > MOST_APART:
        text = (
            f"no: an image depends on those beside it in its batch ({other:.1f} levels apart in "
            "another batch): batch normalization in training mode, dropout or noise drawn inside "
            "do that"
        )
    else:
        text = "yes: made again and in another batch, images are the same"
        if other is None:
            text = "yes: made again, images are the same"
    return ReproducibilityRecord(
        same=text.startswith("yes"), again=again, other_batch=other, text=text
    )


def require_reproducible(
    found: ReproducibilityRecord | None,
    source: Source,
    *,
    counted: int,
    ranks: Ranks,
    allowed: bool,
) -> None:
    """Refuse to go on with, or to share out, a source that does not give the same images again.

    Args:
        found: what `look_again` gave.
        source: of which it is.
        counted: samples that were counted before.
        ranks: the processes that share the work.
        allowed: whether it is wanted all the same; a note is then all that is said.

    Raises:
        UsageError: saying why.
    """
    if found is None or found.same:
        return
    why = found.text.partition(": ")[2]
    what = "resumed or extended" if counted else "shared out among processes"
    refused = counted or ranks.count > 1
    if refused and not allowed:
        raise UsageError(
            f"{source.name}: cannot be {what}: {why}; {named('allow_irreproducible')} does it all "
            f"the same, {named('again')} begins anew"
        )
    warn(f"{source.name}: is {what} all the same" if refused else f"{source.name}: {why}")


def _in_other_batch(source: Source, images: Tensor) -> float | None:
    """Return by how much some of the first images differ in a batch of another length.

    Args:
        source: one that makes batches has ``in_own_batch``; None of another.
        images: the first ones, (8, 3, H, W).
    """
    make: Any = getattr(source, "in_own_batch", None)
    # Neither as long as the source's own batches, nor beginning where one of them does.
    start = 4 if source.describe().get("batch") in (3, 5) else 5
    found: Tensor | None = None if make is None else make(start, _LOOKED_AT)
    return None if found is None else _apart(found, images[start:])


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest mean absolute difference of an image, levels."""
    if one.shape != other.shape:
        raise ShapesHDError(f"images of {tuple(one.shape)} and then of {tuple(other.shape)}")
    return float((one.short() - other.short()).abs().float().mean(dim=(1, 2, 3)).max())
