"""Results as `shapeshd score` writes them, of sources that are simulated as histograms."""

from __future__ import annotations

import functools
import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.fidelity.compare_features import compare_features, theoretical
from shapeshd.benchmark.fidelity.residual import summarize
from shapeshd.benchmark.recognizer.evaluate import accuracy as measure_accuracy
from shapeshd.benchmark.result.read import parse_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring.examples import choose_examples
from shapeshd.benchmark.statistics.bin_counts import bin_counts
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.benchmark.statistics.references import detection_limit, ideal_sampler, memorizer
from shapeshd.factors import BIN_SHAPE, NAMES, NUM_BINS, from_unit, uniform_factors
from shapeshd.raytracer.tracer import trace_images

PROTOCOL = 20 * NUM_BINS
DEVIATIONS = (0.0004, 0.0004, 0.0006, 0.003, 0, 0.09)


def on_axes(values: object, *axes: int) -> np.ndarray:
    table = np.asarray(values, dtype=float)
    shape = [1] * 6
    for axis in axes:
        shape[axis] = BIN_SHAPE[axis]
    return table.reshape(shape)


def coupled() -> np.ndarray:
    """Wall and object share their colour more often than they should."""
    return on_axes(1 + 0.9 * (np.eye(12) - 1 / 12) * 12 / 11, 1, 2)


def dropped() -> np.ndarray:
    """No blue capsules, nor those of the next colour."""
    density = np.ones((12, 4))
    density[8:10, 3] = 0
    return on_axes(density, 2, 4)


DENSITIES: dict[str, tuple[np.ndarray, int]] = {
    "unbiased": (np.ones([1] * 6), 20_000),
    "tilted": (on_axes([1.3, 1.1, 0.9, 0.7], 3), 20_000),
    "coupled": (coupled(), 20_000),
    "dropped": (dropped(), 100_000),
    "everything": (dropped() * coupled() * on_axes([1.3, 1.1, 0.9, 0.7], 3), 100_000),
    "full": (on_axes([1.03, 1.01, 0.99, 0.97], 3), PROTOCOL),
}


@functools.cache
def histogram(kind: str) -> np.ndarray:
    if kind == "constant":
        counts = np.zeros(NUM_BINS, np.int64)
        counts[NUM_BINS // 3] = 20_000
        return counts
    density, n = DENSITIES[kind]
    p = np.broadcast_to(density, BIN_SHAPE).ravel()
    return np.random.default_rng(len(kind)).multinomial(n, p / p.sum())


@functools.cache
def accuracy() -> dict[str, Any]:
    """What a good recognizer's card says: normal errors, which matter at the bins' borders."""
    truth = uniform_factors(1, 0, 12_000)
    found = truth + np.random.default_rng(1).normal(size=truth.shape) * DEVIATIONS
    return measure_accuracy(truth, found).to_json()


@functools.cache
def noise_floor() -> dict[str, Any]:
    fit = goodness_of_fit(np.random.default_rng(7).multinomial(100_000, [1 / NUM_BINS] * NUM_BINS))
    return {
        "images": 100_000,
        "divergence": fit.divergence.to_json(),
        "reduced_chi_square": fit.prediction.reduced_chi_square.to_json(),
    }


@functools.cache
def _measured(kind: str) -> dict[str, Any]:
    counts = histogram(kind)
    table, n = counts.reshape(BIN_SHAPE), int(counts.sum())
    fit, parts = goodness_of_fit(counts), decompose(counts)
    floor = noise_floor()
    passed = fit.divergence.low == 0
    real = {
        "name": "real images through the recognizer",
        "divergence": floor["divergence"]["reported"],
        "reduced_chi_square": floor["reduced_chi_square"]["reported"],
        "deviation": floor["reduced_chi_square"]["standard_error"],
    }

    def marginal(*axes: int) -> list[Any]:
        return table.sum(axis=tuple(a for a in range(6) if a not in axes)).tolist()

    return {
        "format": "shapeshd-result",
        "format_version": 2,
        "created": "2026-01-02T03:04:05+00:00",
        "versions": {
            "shapeshd": "0.1.0",
            "python": "3.12.1",
            "numpy": "2.1.0",
            "scipy": "1.14.0",
            "torch": "2.6.0",
        },
        "source": {
            "name": f"{kind}.pt",
            "kind": "torchscript",
            "count": None,
            "latent_dim": 128,
            "range": "symmetric",
            "layout": "nchw",
            "clamped": 0.0001,
        },
        "images": {"height": 256, "width": 256, "resized_to": 64, "resized_by": "antialias"},
        "recognizer": {
            "name": "lite",
            "digest": "0f" * 32,
            "size": 64,
            "accuracy": accuracy(),
            "noise_floor": floor,
        },
        "protocol": "chi2-20k" if n == PROTOCOL else None,
        "samples": n,
        "seed": 0,
        "fit": fit.to_json(),
        "decomposition": parts.to_json(),
        "bin_counts": asdict(bin_counts(counts)),
        "references": [asdict(ideal_sampler()), real, asdict(memorizer(500_000))],
        "detection_limit": asdict(detection_limit(n)),
        "attenuation": {
            "factors": dict.fromkeys(NAMES, 0.99),
            "joint": 0.96,
            "of_this_source": 0.985,
            "meaning": "The share of a divergence that is left after the recognizer's errors.",
        },
        "marginals": {name: marginal(axis) for axis, name in enumerate(NAMES)},
        "pairs": [
            {"factors": [NAMES[a], NAMES[b]], "counts": marginal(a, b)}
            for a, b in itertools.combinations(range(6), 2)
        ],
        "histogram": {"file": "histogram.npy", "sha256": "ab" * 32},
        "examples": {"file": "examples.npz"},
        "verdict": {
            "passed": passed,
            "text": "The samples agree with the uniform distribution as far as 20,000 can tell."
            if passed
            else f"The distribution is wrong. {parts.summary()}",
        },
        "run": {
            "seconds": 61.5,
            "images_per_second": n / 61.5,
            "device": "cpu",
            "world_size": 1,
            "resumed": False,
        },
    }


def simulated(kind: str, **changes: Any) -> dict[str, Any]:
    """What result.json holds of a kind of source, a copy that may be changed."""
    result: dict[str, Any] = json.loads(json.dumps(_measured(kind)))
    return {**result, **changes}


def simulated_result(kind: str, **changes: Any) -> Result:
    """The same as a result."""
    result = parse_result(simulated(kind, **changes))
    assert isinstance(result, Result)
    return result


@functools.cache
def _fidelity() -> str:
    rng = np.random.default_rng(0)
    residuals = rng.normal((4, 31, 0.97, 0.4), (0.5, 2, 0.005, 0.05), (500, 4))
    real = rng.normal((1, 44, 0.99, 0.05), (0.1, 1, 0.001, 0.01), (1000, 4))
    features = rng.normal(size=(400, 3))
    measured = {
        "settings": {
            "images": 500,
            "seed": 1_000_002,
            "side": 64,
            "features": {"name": "recognizer lite", "digest": "ab" * 32, "dimension": 3},
            "engine": {"name": "shapeshd ray tracer 1", "scene_sha256": "cd" * 32},
            "distribution": None,
            "version": 1,
        },
        "residual": summarize(residuals, real),
        "statistics": compare_features(features[:200] + 0.5, features[200:]),
        "theoretical": theoretical(features),
        "verdict": {
            "distribution": False,
            "fidelity": False,
            "name": "bad and wrong",
            "text": "Neither is right.",
        },
        "command": None,
        "examples": {"file": None},
    }
    return json.dumps(measured)


def fidelity(**settings: Any) -> dict[str, Any]:
    """What result.json holds of image fidelity, of 500 images, or with other settings."""
    found: dict[str, Any] = json.loads(_fidelity())
    found["settings"] |= settings
    return found


class Sampled:
    """A source whose sample i lies in the bin that the histogram says, in the bins' order."""

    name, kind, count = "sampled", "test", None

    def __init__(self, counts: np.ndarray, size: int = 32) -> None:
        self.counts, self.size = counts, size
        self.bins = np.repeat(np.arange(NUM_BINS), counts)
        self.asked: list[tuple[int, int]] = []

    def images(self, start: int, stop: int) -> Tensor:
        self.asked.append((start, stop))
        rows = np.stack(np.unravel_index(self.bins[start:stop], BIN_SHAPE), axis=1)
        return trace_images(from_unit((rows + 0.5) / np.array(BIN_SHAPE)), self.size)

    def describe(self) -> dict[str, Any]:
        return {}

    @property
    def first_seen(self) -> np.ndarray:
        start = np.cumsum(self.counts) - self.counts
        numbers = start[:, None] + np.arange(4)
        return np.where(np.arange(4) < self.counts[:, None], numbers, -1)


class FakeRecognizer:
    name, size, digest, device = "fake", 64, "00" * 32, torch.device("cpu")


def examples(kind: str, size: int = 32) -> dict[str, np.ndarray]:
    counts = histogram(kind)
    source = Sampled(counts, size)
    return choose_examples(counts, source.first_seen, decompose(counts), source, FakeRecognizer())  # type: ignore[arg-type]


def write_result(folder: Path, kind: str, *, images: bool = True, **changes: Any) -> Path:
    """Write a result folder as `shapeshd score --out` does, without its report."""
    folder.mkdir(parents=True, exist_ok=True)
    result = simulated(kind, **changes)
    if images:
        np.savez_compressed(folder / "examples.npz", **examples(kind))  # type: ignore[arg-type]
    else:
        result["examples"] = {"file": None}
    (folder / "result.json").write_text(json.dumps(result))
    return folder
