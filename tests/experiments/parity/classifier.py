"""Can a trained network tell the ray tracer's images from POV-Ray's?

    python -m tests.experiments.parity.classifier [--count 20000] [--epochs 6] [--json FILE]
        [--control RAYS]

Renders `count` scenes at 64 pixels with both, trains a network on four fifths of the scenes and
asks it about the rest: half right is guessing, more than 52% would be a difference. As
a control, ``--control 2`` gives the ray tracer 2 x 2 rays for a pixel on an edge where POV-Ray has
3 x 3: the same network must then find out.
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
_PAIRS = 128
_LIMIT = 0.52


class Network(nn.Module):
    """Looks at full resolution first, and both for one telling pixel and for many."""

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (3, 24, 32, 64, 96), (1, 1, 2, 2)
        layers: list[nn.Module] = []
        for inputs, outputs, stride in zip(widths[:-1], widths[1:], strides, strict=True):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Float (n, 3, H, W) in [-1, 1] -> logits (n,): above 0 for the ray tracer."""
        features = self.features(images)
        return self.head(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)).squeeze(1)


def prepare(images: Tensor) -> Tensor:
    """uint8 (n, 3, H, W) -> float in [-1, 1]."""
    return images.to(memory_format=torch.channels_last).float() / 127.5 - 1


def train(rendered: Tensor, traced: Tensor, epochs: int) -> nn.Module:
    """Train on images, uint8 (n, 3, H, W), of the same scenes by both."""
    torch.manual_seed(0)
    model = Network().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps = epochs * math.ceil(len(rendered) / _PAIRS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for epoch in range(epochs):
        began, losses = time.monotonic(), []
        for rows in torch.randperm(len(rendered)).split(_PAIRS):
            # Both images of a scene in one batch: what differs is then all that counts.
            scores = model(prepare(torch.cat([rendered[rows], traced[rows]])))
            loss = nn.functional.binary_cross_entropy_with_logits(scores, truth(len(rows)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        rate = 2 * len(rendered) / (time.monotonic() - began)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {rate:.0f} img/s", flush=True)
    return model.eval()


def truth(pairs: int) -> Tensor:
    """Labels of a batch: 0 for POV-Ray's images, which come first, and 1 for the ray tracer's."""
    return torch.arange(2 * pairs).ge(pairs).float()


def accuracy(model: nn.Module, rendered: Tensor, traced: Tensor) -> float:
    """Return the share of images that the network gets right."""
    right = 0
    with torch.no_grad():
        for rows in torch.arange(len(rendered)).split(_PAIRS):
            scores = model(prepare(torch.cat([rendered[rows], traced[rows]])))
            right += int(((scores > 0) == truth(len(rows)).bool()).sum())
    return right / (2 * len(rendered))


def main() -> None:
    """Render, train, and say how often the network is right on scenes that it never saw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="scenes, rendered by both")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--control", type=int, help="rays along a side in the ray tracer, not 3")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    factors = uniform_factors(_SEED, 0, options.count)
    depth = options.control or 3
    rendered = torch.from_numpy(render_images(factors, _SIZE)).permute(0, 3, 1, 2)
    traced = trace_images(factors, _SIZE, antialias_depth=depth)
    split = options.count * 4 // 5
    model = train(rendered[:split], traced[:split], options.epochs)
    found = accuracy(model, rendered[split:], traced[split:])
    tested = 2 * (options.count - split)
    error = 1.96 * math.sqrt(0.25 / tested)
    print(
        f"right on {found:.2%} of {tested:,} images of scenes it never saw "
        f"(guessing: 50% +- {error:.2%}); the ray tracer had {depth} x {depth} rays"
    )
    if options.json:
        result = {
            "scenes": options.count,
            "twin_antialias_depth": depth,
            "tested": tested,
            "accuracy": found,
            "limit": _LIMIT,
            "epochs": options.epochs,
        }
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
