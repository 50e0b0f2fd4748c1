"""The images of an export one by one, with their names and factors."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import PIL.Image

from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.factors import NAMES, SHAPE, FloatArray
from shapeshd.scene.render_options import Image

_PNG_LEVEL = 4
_BLOCK = 1000


@dataclass(frozen=True)
class Sample:
    """One image to be exported: its index, its PNG file and its factors, float64 (6,)."""

    index: int
    png: bytes
    factors: FloatArray

    @property
    def block_name(self) -> str:
        """The name in StyleGAN's style, such as ``00001/img00001234.png``."""
        return block_name(self.index)


@dataclass(frozen=True)
class Task:
    """What a writer writes: a dataset or one of its splits, and the options.

    Attributes:
        dataset: the images.
        items: which of them.
        split: the name of the split; "" without splits.
        per_file: images in each file.
        labels: of `LABELS`.
    """

    dataset: ShapesHD
    items: range
    split: str = ""
    per_file: int = 10_000
    labels: str = "none"

    def __len__(self) -> int:
        return len(self.items)

    def rows(self) -> Iterator[tuple[int, list[float]]]:
        """Yield the index and the factors of each image, without those of all in memory."""
        indices = indices_of(self.dataset, self.items)
        for items in blocks(self.items, _BLOCK):
            rows = self.dataset.labels_of(items).tolist()
            yield from zip(islice(indices, len(rows)), rows, strict=True)

    def spans(self) -> list[range]:
        """Return the indices of the images as intervals."""
        found: list[range] = []
        first = 0
        for span in self.dataset.spans:
            start, stop = self.items.start - first, self.items.stop - first
            part = span[max(0, start) : max(0, stop)]
            first += len(span)
            if part and found and found[-1].stop == part.start:
                found[-1] = range(found[-1].start, part.stop)
            elif part:
                found.append(part)
        return found


def indices_of(dataset: ShapesHD, items: range) -> Iterator[int]:
    """Yield the index of each of the `items` in its dataset."""
    return islice(chain.from_iterable(dataset.spans), items.start, items.stop)


def blocks(items: range, size: int) -> Iterator[range]:
    """Cut `items` into intervals of `size`."""
    return (items[first : first + size] for first in range(0, len(items), size))


def encode_png(image: Image) -> bytes:
    """Return the PNG file of an image, uint8 (H, W, 3)."""
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "PNG", compress_level=_PNG_LEVEL)
    return file.getvalue()


def block_name(index: int) -> str:
    """Return an image's path, such as ``00001/img00001234.png``; sorting keeps the order."""
    return f"{index // _BLOCK:05d}/img{index:08d}.png"


def table_lines(task: Task) -> Iterator[str]:
    """Yield the lines of ``labels.csv``: index, file and the six factors, digit for digit."""
    yield f"index,file,{','.join(NAMES)}\n"
    for index, row in task.rows():
        yield f"{index},{block_name(index)},{','.join(map(repr, row))}\n"


def metadata_lines(task: Task) -> Iterator[str]:
    """Yield the lines of ``metadata.csv``, from which Hugging Face's imagefolder takes labels."""
    yield f"file_name,{','.join(NAMES)}\n"
    for index, row in task.rows():
        yield f"{block_name(index)},{','.join(map(repr, typed(row).values()))}\n"


def typed(row: list[float]) -> dict[str, float | int]:
    """Return factors by name, the shape as a whole number."""
    return {
        name: int(value) if column == SHAPE else value
        for column, (name, value) in enumerate(zip(NAMES, row, strict=True))
    }


def groups(samples: Iterable[Sample], size: int) -> Iterator[Iterator[Sample]]:
    """Cut the samples into groups; each must be used up before the next is taken."""
    remaining = iter(samples)
    for first in remaining:
        yield chain([first], islice(remaining, size - 1))
