"""The images that a recognizer is trained on, and where they come from."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from shapeshd.dataset.manifest import provenance_of
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import ShapesHD, open_dataset
from shapeshd.engines.engine import engine_named
from shapeshd.errors import ShapesHDError, UsageError, named, one_line
from shapeshd.factors import FloatArray, uniform_factors_at
from shapeshd.support.random_numbers import mixed_seed, shuffled_batches

from .card import Origin, RecognizerCard

EVALUATION_BATCH = 500

_NO_SHARED_MEMORY = ("Bus error", "shared memory", "torch_shm_manager")
"""What PyTorch says where /dev/shm has no room for a batch, or cannot be written."""


def origin_of(dataset: ShapesHD, source: Path | RenderSpec) -> Origin:
    """Return where the images come from."""
    renderer, seed, start, scene = None, None, 0, None
    if isinstance(source, RenderSpec):
        engine = engine_named("torch")
        renderer, scene = engine.renderer(), engine.scene_sha256()
        seed, start = source.seed, source.start
    elif (provenance := provenance_of(Path(source).expanduser())) is not None:
        renderer, start = provenance.renderer, dataset.spans[0].start
        scene = provenance.scene_sha256
        if provenance.sampling == "uniform":
            seed = provenance.seed
    # A path of this machine says nothing elsewhere.
    name = str(source) if isinstance(source, RenderSpec) else Path(source).name
    return Origin(
        dataset=name,
        images=len(dataset),
        size=dataset.image_shape[1],
        renderer=renderer,
        seed=seed,
        start=start,
        scene_sha256=scene,
    )


def open_images(source: Path | RenderSpec, size: int) -> ShapesHD:
    """Open a dataset whose images must be of a size.

    Raises:
        UsageError: if they are not.
    """
    dataset = open_dataset(source)
    shape = dataset.image_shape
    if shape != (3, size, size):
        raise UsageError(
            f"{dataset.name}: its images are of {shape[2]}x{shape[1]} pixels, but the recognizer "
            f"reads {size}x{size}"
        )
    return dataset


def images_in_common(card: RecognizerCard, dataset: ShapesHD) -> int:
    """Count the images of `dataset` whose factors a recognizer was trained on.

    Whatever rendered them, and at what size: what counts is that seed and index agree.
    """
    data = card.trained_on
    if data is None or data.seed is None:
        return 0
    first, common = data.start, 0
    last = first + data.images
    position = 0
    for span in dataset.spans:
        inside = range(max(span.start, first), min(span.stop, last))
        if inside:
            row = position + inside.start - span.start
            expected = uniform_factors_at(data.seed, [inside.start])
            if (dataset.labels_of([row]) == expected).all():
                common += len(inside)
        position += len(span)
    return common


def training_batches(
    dataset: ShapesHD, images: int, batch: int, seed: int, first: int, last: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of the steps `first` .. `last` - 1: a function of (seed, step) alone.

    Args:
        dataset: where the images are.
        images: only the first so many of them are used.
        batch: images in a batch.
        seed: decides the order.
        first: the first step.
        last: one past the last step.
        workers: processes that read; 0 for none.

    Yields:
        images uint8 (batch, 3, H, W), and their factors float64 (batch, 6).
    """
    yield from prefetched(dataset, _Order(images, batch, seed, first, last), workers)


def prefetched(
    dataset: Dataset[Any],
    order: Iterable[list[int]],
    workers: int,
    collate: Callable[[Any], Any] = default_collate,
) -> Iterator[Any]:
    """Yield the items of a dataset, a batch at a time, read by processes ahead of their use.

    PyTorch's global random numbers are left as they are.

    Args:
        dataset: is asked for the items of one batch at a time.
        order: the items of each batch; may go on without an end.
        workers: processes that read; with 0 the calling thread does.
        collate: makes a batch of what the dataset returned for it.

    Raises:
        ShapesHDError: of a worker, in one line; or if a worker was ended, or cannot be started.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_Shared(collate),
        persistent_workers=False,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # else it draws the workers' seeds from the global one
    )
    try:
        if workers:
            _check_shared_memory()
        yield from loader
    except ShapesHDError as error:
        if "Original Traceback" not in str(error):
            raise
        # That of a worker brings its traceback; its last line names the class and says it all.
        message = str(error).rstrip().splitlines()[-1].partition(": ")[2]
        _let_go(error)
        raise type(error)(message) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        shared = any(words in str(error) for words in _NO_SHARED_MEMORY)
        _let_go(error)
        if shared:
            raise ShapesHDError(
                "a process that reads images cannot hand them over: /dev/shm is full, too small or "
                f"read-only; make it larger, or use {named('workers', 0)}"
            ) from error
        raise ShapesHDError(
            f"a process that reads images was ended; go on with fewer {named('workers')}"
        ) from error


def _leave_signals(worker: int) -> None:
    """Ignore what ends a run in a process that reads: the one that it reads for ends it.

    Ctrl-C, `timeout`, torchrun and systemd signal all of them at once, and PyTorch's loader raises
    an error wherever its own process is just then if one of the others ends by a signal.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Shared:
    """Collates a batch and, in a process that reads ahead, moves it into shared memory.

    PyTorch would do so in a thread of that process, whose failure the reader waits for forever.
    """

    def __init__(self, collate: Callable[[Any], Any]) -> None:
        self._collate = collate

    def __call__(self, items: Any) -> Any:
        batch = self._collate(items)
        if get_worker_info() is not None:
            for part in batch if isinstance(batch, (list, tuple)) else [batch]:
                if isinstance(part, Tensor) and part.device.type == "cpu":
                    part.share_memory_()
        return batch


def _check_shared_memory() -> None:
    """Make one of the semaphores that processes need; PyTorch's loader fails in pieces."""
    try:
        multiprocessing.Lock()
    except OSError as error:
        raise ShapesHDError(
            f"no process can be started that reads images ({one_line(error)}; is /dev/shm "
            f"writable?): use {named('workers', 0)}"
        ) from error


def _let_go(error: Exception) -> None:
    """Drop the tracebacks: what they hold would keep the workers for as long as the error lives."""
    error.__traceback__ = error.__cause__ = error.__context__ = None


def ordered_batches(
    dataset: ShapesHD, first: int, last: int
) -> Iterator[tuple[Tensor, FloatArray]]:
    """Yield the images `first` .. `last` - 1 in order, and their factors, float64 (n, 6)."""
    for start in range(first, last, EVALUATION_BATCH):
        items = dataset.__getitems__(range(start, min(last, start + EVALUATION_BATCH)))
        images, labels = zip(*items, strict=True)
        yield torch.stack(images), torch.stack(labels).numpy()


class _Order(Sampler[list[int]]):
    """The rows of each batch: a permutation of all images per epoch, cut into batches."""

    def __init__(self, images: int, batch: int, seed: int, first: int, last: int) -> None:
        self._images, self._batch, self._seed = images, batch, seed
        self._first, self._last = first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __iter__(self) -> Iterator[list[int]]:
        def generator(epoch: int) -> torch.Generator:
            return torch.Generator().manual_seed(mixed_seed(self._seed, epoch))

        for rows in shuffled_batches(self._images, self._batch, self._first, self._last, generator):
            yield rows.tolist()


def check_split(images: int, held_out: int, batch: int) -> int:
    """Return how many images are left to train on.

    Raises:
        UsageError: if they do not fill a batch.
    """
    left = images - held_out
    if left < batch:
        raise UsageError(
            f"{images:,} images are too few: {held_out:,} are held out for the evaluation, and "
            f"a batch takes {batch:,}"
        )
    return left
