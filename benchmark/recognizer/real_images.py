"""Real images through a recognizer: how well it reads a fresh render, and its noise floor.

The noise floor is what images of the true process score: a recognizer that misreads would make
them look wrong. Its interval must contain a divergence of 0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.histogram import require_samples
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import ShapesHD, open_dataset
from shapeshd.errors import UsageError
from shapeshd.factors import NUM_BINS, FloatArray, joint_bins
from shapeshd.render.plan import plan_render
from shapeshd.render.run import run_render
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import UniformSampling
from shapeshd.support.progress import progress_bar

from .data import images_in_common, ordered_batches
from .evaluate import Accuracy, evaluate
from .reader import count_bins
from .recognizer import Recognizer

NOISE_FLOOR_SEED = 1_000_001
EVALUATION_SEED = 1_000_000


def evaluate_on(recognizer: Recognizer, dataset: ShapesHD, *, progress: bool = False) -> Accuracy:
    """Let a recognizer read a dataset whose images it was not trained on.

    Raises:
        UsageError: if their size is another, or it was trained on some of them.
    """
    shape = dataset.image_shape
    if shape != (3, recognizer.size, recognizer.size):
        raise UsageError(
            f"{dataset.name}: its images are of {shape[2]}x{shape[1]} pixels, but the recognizer "
            f"{recognizer.name} reads {recognizer.size}x{recognizer.size}"
        )
    if known := images_in_common(recognizer.card, dataset):
        raise UsageError(
            f"{dataset.name}: {recognizer.name} was trained on {known:,} of its images; take "
            "another seed"
        )
    batches = _counted(dataset, f"read by {recognizer.name}", progress)
    return evaluate(recognizer, batches)


def evaluate_fresh(
    recognizer: Recognizer,
    count: int,
    seed: int = EVALUATION_SEED,
    engine: str = "povray",
    *,
    progress: bool = False,
) -> Accuracy:
    """Render images and let a recognizer read them.

    Args:
        recognizer: what reads.
        count: images.
        seed: of their factors.
        engine: "povray" or "torch".
        progress: show bars on stderr.

    Raises:
        UsageError: if it was trained on them.
        RendererError: if POV-Ray is missing.
    """
    spec = RenderSpec(seed, count, recognizer.size)
    if known := images_in_common(recognizer.card, open_dataset(spec)):
        raise UsageError(
            f"{recognizer.name} was trained on {known:,} of these images; take another --seed"
        )
    with tempfile.TemporaryDirectory(prefix="shapeshd-") as folder:
        plan = plan_render(
            Path(folder) / "images",
            UniformSampling(seed),
            count,
            RenderOptions(recognizer.size),
            engine=engine,
        )
        run_render(plan, progress=progress)
        return evaluate_on(recognizer, ShapesHD(plan.dataset), progress=progress)


def noise_floor(
    recognizer: Recognizer, images: int, seed: int = NOISE_FLOOR_SEED, *, progress: bool = False
) -> dict[str, Any]:
    """Score images of the true process, traced by POV-Ray's twin.

    Args:
        recognizer: what reads.
        images: how many, enough for a test.
        seed: of their factors.
        progress: show a bar on stderr.

    Returns:
        Ready for JSON: ``images``, ``seed``, and the ``divergence``, ``reduced_chi_square``
        at 20 per bin (each an `Estimate`) and ``p_value`` of the histogram.

    Raises:
        UsageError: if there are too few, or it was trained on some.
    """
    require_samples(images, NUM_BINS)
    spec = RenderSpec(seed, images, recognizer.size, device=str(recognizer.device))
    dataset = open_dataset(spec)
    if images_in_common(recognizer.card, dataset):
        raise UsageError(f"{recognizer.name} was trained on images of seed {seed}")
    batches = _counted(dataset, "noise floor", progress)
    fit = goodness_of_fit(count_bins(joint_bins(recognizer(batch)) for batch, _ in batches))
    return {
        "images": images,
        "seed": seed,
        "divergence": fit.divergence.to_json(),
        "reduced_chi_square": fit.prediction.reduced_chi_square.to_json(),
        "p_value": fit.p_value,
    }


def _counted(
    dataset: ShapesHD, description: str, progress: bool
) -> Iterator[tuple[Tensor, FloatArray]]:
    with progress_bar(len(dataset), description, shown=progress) as bar:
        for images, factors in ordered_batches(dataset, 0, len(dataset)):
            yield images, factors
            bar.update(len(images))
