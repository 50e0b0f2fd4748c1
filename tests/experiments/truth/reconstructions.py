"""How much of D comes from the generator itself: D of reconstructions of true images.

    python -m tests.experiments.truth.reconstructions [NAME...] [--images 50000]

An image's code, drawn by the encoder, goes through G and is read as a sample is. The factors that
went in are uniform, and whatever the codes' distribution is, it is that of data: no matching of
codes with a prior can do better. What D is left comes from images that G cannot draw, or that are
not read as what they show. Also told is the share of reconstructions that are read in the joint bin
of their image, and of its factors. Results are in benchmark/results/mini-reconstructions.json.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch

from shapeshd.benchmark.recognizer.reader import count_bins, read_factors
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.statistics.chi_square import goodness_of_fit
from shapeshd.benchmark.statistics.decomposition import decompose
from shapeshd.factors import BIN_SHAPE, NAMES, FloatArray, joint_bins, uniform_factors
from shapeshd.models.data.images import to_float, to_uint8
from shapeshd.models.networks.checkpoints import load_generator
from shapeshd.models.projection.encoder_file import read_encoder
from shapeshd.models.training.files import ENCODER, GENERATOR
from shapeshd.raytracer.tracer import trace_images
from shapeshd.support.progress import note
from tests import ROOT

RESULTS = ROOT / "benchmark" / "results" / "mini-reconstructions.json"
WEIGHTS = ROOT / "models" / "weights" / "mini"
SIDE, SEED, PIECE = 32, 43, 1000


@torch.inference_mode()
def reconstructed_factors(
    name: str, reader: Recognizer, images: int
) -> tuple[FloatArray, FloatArray]:
    """Return the factors (n, 6) of images, and those read from their reconstructions."""
    encoder = read_encoder(WEIGHTS / name / ENCODER).eval()
    generator, latent_dim = load_generator(WEIGHTS / name / GENERATOR)
    rng = torch.Generator().manual_seed(SEED)
    true, read = [], []
    for first in range(0, images, PIECE):
        factors = uniform_factors(SEED, first, first + PIECE)
        features = encoder.trunk(to_float(trace_images(factors, SIDE)))
        noise = torch.randn(len(features), encoder.head.noise_dim, generator=rng)
        normal = torch.randn(len(features), latent_dim, generator=rng)
        codes, _, _ = encoder.head.sample(features, noise, normal)
        true.append(factors)
        read.append(read_factors(to_uint8(generator(codes)), reader))
    return np.concatenate(true), np.concatenate(read)


def summary(true: FloatArray, read: FloatArray) -> dict[str, Any]:
    """Return D of the readings, its parts, and how often they are right.

    Args:
        true: factors (n, 6) that went in.
        read: those of the reconstructions.
    """
    counts = count_bins([joint_bins(read)])
    fit = goodness_of_fit(counts)
    parts = decompose(counts).parts
    bins = [np.stack(np.unravel_index(joint_bins(one), BIN_SHAPE)) for one in (true, read)]
    return {
        "images": len(true),
        "divergence": fit.divergence.to_json(),
        "reduced_chi_square": fit.prediction.reduced_chi_square.value,
        "parts": {part.name: part.delta.value for part in parts if part.significant},
        "right_joint_bin": float((joint_bins(true) == joint_bins(read)).mean()),
        "right_bin": dict(zip(NAMES, (bins[0] == bins[1]).mean(1).tolist(), strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["vae", "contrast/aae", "aae/aae"])
    parser.add_argument("--images", type=int, default=50_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    reader = load_recognizer("lite", precision="auto")
    for name in options.names:
        found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        found[name] = summary(*reconstructed_factors(name, reader, options.images))
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        note(f"{name}: D = {found[name]['divergence']['value']:.4f}")


if __name__ == "__main__":
    main()
