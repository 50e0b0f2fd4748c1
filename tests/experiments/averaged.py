"""Fits `lite-256`, which reads images of 256 pixels by their averages over squares of 4 x 4:
python -m tests.experiments.averaged OUT.safetensors [--count 2000] [--seed 25602]

An average of 256 pixels is not the render of 64: its edges are smoother, and `lite` reads scale
0.007 too large from it. All layers of `lite` stay as they are but the last one, whose rows for
scale and orientation are fitted by ridge regression to traced images, towards what they were. The
penalty is the one with the smallest error in five folds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from shapeshd.benchmark.recognizer.find import find_recognizer
from shapeshd.benchmark.recognizer.network import NetworkConfig, RecognitionNetwork
from shapeshd.benchmark.recognizer.recognizer import KIND, encode_factors
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.engines.engine import engine_named
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import trace_images
from shapeshd.support.checkpoint import load_checkpoint, load_weights, save_checkpoint

SIZE, BATCH, FOLDS = 256, 32, 5
LAST = "geometry.head.4."
PENALTIES = tuple(10.0**power for power in range(-6, 3))


def averaging(path: Path) -> RecognitionNetwork:
    """Return `lite` as a network that averages images of 256 pixels first."""
    checkpoint = load_checkpoint(path, KIND)
    tensors, config = checkpoint.tensors, NetworkConfig.from_json(checkpoint.card["network"])
    network = RecognitionNetwork(replace(config, size=SIZE, stem=0)).eval()
    load_weights(network, {name: stored(name, one).float() for name, one in tensors.items()}, path)
    return network


def stored(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor as it is written: of 16 bits, but for the last layer."""
    return tensor if name.startswith(LAST) else tensor.half()


def hidden_of(network: RecognitionNetwork, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Return what the last layer takes, with a column of 1 (n, h + 1), and should say (n, 2)."""
    factors, rows = uniform_factors(seed, 0, count), []
    with torch.inference_mode():
        for first in range(0, count, BATCH):
            images = trace_images(factors[first : first + BATCH], SIZE)
            pooled = network.features(images)[:, -network.geometry.features :]
            rows.append(network.geometry.head[:-1](pooled))
    hidden = torch.cat(rows).double()
    _, scale, orientation, _ = encode_factors(factors)
    ones = torch.ones(count, 1, dtype=torch.float64)
    return torch.cat((hidden, ones), 1), torch.stack((scale, orientation), 1).double()


def fitted(hidden: Tensor, missing: Tensor, penalty: float) -> Tensor:
    """Return the change of the weights (h + 1, 2) that explains what is missing (n, 2)."""
    size = hidden.square().mean(0).clamp_min(1e-9)
    size[-1] = 0  # a shift is free
    normal = hidden.T @ hidden / len(hidden) + penalty * torch.diag(size)
    return torch.linalg.solve(normal, hidden.T @ missing / len(hidden))


def fold_error(hidden: Tensor, missing: Tensor, penalty: float) -> float:
    """Return the mean square of what is left in folds that were not fitted, of both outputs."""
    fold, errors = torch.arange(len(hidden)) % FOLDS, []
    for out in range(FOLDS):
        change = fitted(hidden[fold != out], missing[fold != out], penalty)
        left = missing[fold == out] - hidden[fold == out] @ change
        errors.append((left.square().mean(0) / missing.square().mean(0)).sum())
    return float(torch.stack(errors).mean())


def main() -> None:
    """Fit, and write the recognizer with a card that has no figures yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=25_602)
    options = parser.parse_args()
    lite = find_recognizer("lite")
    network = averaging(lite)
    hidden, wanted = hidden_of(network, options.seed, options.count)
    last = network.geometry.head[-1]
    assert isinstance(last, nn.Linear)
    weights = torch.cat((last.weight[:2], last.bias[:2, None]), 1).detach().double()
    missing = wanted - hidden @ weights.T
    errors = {penalty: fold_error(hidden, missing, penalty) for penalty in PENALTIES}
    penalty = min(errors, key=lambda one: errors[one])
    change = fitted(hidden, missing, penalty).T
    with torch.no_grad():
        last.weight[:2] += change[:, :-1].float()
        last.bias[:2] += change[:, -1].float()
    left = missing - hidden @ change.T
    for name, rows in (("before", missing), ("after", left)):
        bias, deviation = rows.mean(0).tolist(), rows.std(0).tolist()
        print(f"{name:7} bias {bias}, deviation {deviation} (of scale - 1, and orientation / 30)")
    engine, spec = engine_named("torch"), RenderSpec(options.seed, options.count, SIZE)
    data = {
        "dataset": str(spec), "images": options.count, "size": SIZE,
        "renderer": engine.renderer(), "seed": options.seed, "start": 0,
        "scene_sha256": engine.scene_sha256(),
    }  # fmt: skip
    training = {
        "data": data, "start_from": load_checkpoint(lite, KIND).digest,
        "fitted": "the last layer's rows for scale and orientation", "penalty": penalty,
    }  # fmt: skip
    card = {"network": network.config.to_json(), "training": training}
    tensors = {name: stored(name, tensor) for name, tensor in network.state_dict().items()}
    print(save_checkpoint(options.out, KIND, tensors, card))


if __name__ == "__main__":
    main()
