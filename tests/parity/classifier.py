"""Can a trained network tell the twin's images from POV-Ray's?

    python tests/parity/classifier.py [--count 20000] [--epochs 6] [--json FILE]
        [--control THRESHOLD]

Renders `count` scenes at 64 pixels with both, trains a network on four fifths of the scenes and
asks it about the rest: half right is guessing, more than 52% would be a difference. As
a control, ``--control 0.25`` gives the twin another antialiasing threshold than POV-Ray's,
which changes a few pixels of an edge: the same network must then find out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shapeshd import render_images, trace_images, uniform_factors

_SEED = 64
_SIZE = 64
_BATCH = 256
_LIMIT = 0.52


def network() -> nn.Module:
    """Look at full resolution first, and at differences of neighbours: where a twin could fail."""

    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    return nn.Sequential(
        *block(3, 24, 1),
        *block(24, 48, 2),
        *block(48, 96, 2),
        *block(96, 128, 2),
        nn.AdaptiveMaxPool2d(1),  # one telling pixel is enough
        nn.Flatten(),
        nn.Linear(128, 1),
    )


def prepare(images: Tensor) -> Tensor:
    """uint8 (n, 3, H, W) -> float in [-1, 1]."""
    return images.to(memory_format=torch.channels_last).float() / 127.5 - 1


def train(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """Train on images, uint8 (n, 3, H, W), and labels, float (n,), 1 for the twin."""
    torch.manual_seed(0)
    model = network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = epochs * math.ceil(len(images) / _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for epoch in range(epochs):
        began, losses = time.monotonic(), []
        for rows in torch.randperm(len(images)).split(_BATCH):
            loss = nn.functional.binary_cross_entropy_with_logits(
                model(prepare(images[rows])).squeeze(1), labels[rows]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        rate = len(images) / (time.monotonic() - began)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {rate:.0f} img/s", flush=True)
    return model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that the network gets right."""
    with torch.no_grad():
        right = [
            ((model(prepare(part)).squeeze(1) > 0) == (truth > 0.5)).sum().item()
            for part, truth in zip(images.split(_BATCH), labels.split(_BATCH), strict=True)
        ]
    return sum(right) / len(images)


def main() -> None:
    """Render, train, and say how often the network is right on scenes that it never saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="scenes, rendered by both")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--control", type=float, help="the twin's antialiasing threshold")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    factors = uniform_factors(_SEED, 0, options.count)
    threshold = 0.3 if options.control is None else options.control
    rendered = torch.from_numpy(render_images(factors, _SIZE)).permute(0, 3, 1, 2)
    traced = trace_images(factors, _SIZE, antialias=threshold)
    split = options.count * 4 // 5
    images = [
        torch.cat([rendered[part], traced[part]]) for part in (slice(split), slice(split, None))
    ]
    labels = [torch.arange(len(part)).ge(len(part) // 2).float() for part in images]
    model = train(images[0], labels[0], options.epochs)
    found = accuracy(model, images[1], labels[1])
    error = 1.96 * math.sqrt(0.25 / len(images[1]))
    print(
        f"right on {found:.2%} of {len(images[1]):,} images of scenes it never saw "
        f"(guessing: 50% +- {error:.2%}); the twin's threshold was {threshold}"
    )
    if options.json:
        result = {
            "scenes": options.count,
            "threshold": threshold,
            "tested": len(images[1]),
            "accuracy": found,
            "limit": _LIMIT,
            "epochs": options.epochs,
        }
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
