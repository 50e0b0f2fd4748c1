"""Measures the statistics of real images that come with the program.

    python -m tests.experiments.real_statistics

writes mean and covariance of 10,000 real images' features, for each recognizer and size of
`SHIPPED`, and the FID of 10,000 other ones against them into the card: about 5 minutes on one core.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import torch

from shapeshd.benchmark.fidelity.features import RecognizerFeatures
from shapeshd.benchmark.fidelity.frechet import frechet_distance
from shapeshd.benchmark.fidelity.measure import REAL_SEED
from shapeshd.benchmark.fidelity.real_statistics import FOLDER, SHIPPED, save_real_statistics
from shapeshd.benchmark.fidelity.rerender import DEFAULT_ENGINE, Renderer
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.factors import uniform_factors
from shapeshd.scene.version import scene_version
from tests import ROOT

IMAGES = 10_000
_PIECE = 64


def write_real_statistics(
    path: Path, recognizer: Recognizer, side: int, images: int, commit: str
) -> float:
    """Measure real images and as many others, and write the file.

    Returns:
        FID of the others.
    """
    renderer = Renderer(DEFAULT_ENGINE, side, recognizer.device)
    features = RecognizerFeatures(recognizer)
    found = np.empty((2 * images, features.dimension))
    for start in range(0, 2 * images, _PIECE):
        factors = uniform_factors(REAL_SEED, start, min(start + _PIECE, 2 * images))
        found[start : start + len(factors)] = features(renderer(factors))
    fid = frechet_distance(found[images:], found[:images]).distance
    card = {
        "recognizer": recognizer.name,
        "recognizer_sha256": recognizer.digest,
        "size": side,
        "images": images,
        "seed": REAL_SEED,
        "renderer": renderer.name,
        "scene_sha256": renderer.digest,
        "scene_version": scene_version(renderer.digest),
        "fid_of_real_images": fid.to_json(),
        "torch": torch.__version__,
        "commit": commit,
    }
    save_real_statistics(path, found[:images], features.scale(), card)
    return fid.value


def main() -> None:
    """Write all files."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    for name, side in SHIPPED:
        path = FOLDER / f"{name}-{side}.safetensors"
        fid = write_real_statistics(path, load_recognizer(name), side, IMAGES, commit)
        print(f"{path.name}: FID of {IMAGES:,} other real images {fid:.4f}")


if __name__ == "__main__":
    main()
