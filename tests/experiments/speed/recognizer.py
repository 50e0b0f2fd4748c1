"""The recognition network beside ResNet-18.

    python -m tests.experiments.speed.recognizer [--images 60000]

Both see the same batches of the same images in the same order, undegraded, with the optimizer,
schedule, loss and average of weights that `shapeshd train recognizer` has. ResNet-18 is
torchvision's, from random weights, its last layer giving the 12 numbers of a `Reading`. They
take turns batch by batch, so that neither has the quieter minutes; only the steps are timed, not
the reading of images. Accuracy is that of the averaged weights on images that neither has seen.

--stem small gives ResNet-18 what is usual for small images: a first convolution of 3x3 pixels
that keeps their size, and no pooling after it. It costs about 16 times as much.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from shapeshd.benchmark.recognizer.data import check_split, ordered_batches, training_batches
from shapeshd.benchmark.recognizer.evaluate import accuracy
from shapeshd.benchmark.recognizer.network import NetworkConfig, Reading, RecognitionNetwork
from shapeshd.benchmark.recognizer.precision import default_precision
from shapeshd.benchmark.recognizer.recognizer import decode_reading
from shapeshd.benchmark.recognizer.train import (
    TrainingConfig,
    reading_loss,
    total_loss,
)
from shapeshd.dataset.shapes_hd import ShapesHD, open_dataset
from shapeshd.factors import NAMES, FloatArray
from shapeshd.support.distributed import core_count

OUTPUTS = 12
_READ = 64  # images at a time
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ResNet18(nn.Module):
    """torchvision's network, with our outputs.

    Args:
        stem: "imagenet" as it is, or "small".
    """

    def __init__(self, stem: str) -> None:
        super().__init__()
        self.body = torchvision.models.resnet18(weights=None, num_classes=OUTPUTS)
        if stem == "small":
            self.body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
            self.body.maxpool = nn.Identity()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None])

    def forward(self, images: Tensor) -> Reading:
        """Read images as `RecognitionNetwork` does."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        pixels = ((images - self.mean) / self.deviation).contiguous(
            memory_format=torch.channels_last
        )
        out = self.body(pixels).float()
        return Reading(out[:, :6].unflatten(1, (3, 2)), out[:, 6], out[:, 7], out[:, 8:])


class Contestant:
    """A network in training: its optimizer, the average of its weights, its time."""

    def __init__(
        self, name: str, network: nn.Module, config: TrainingConfig, device: torch.device
    ) -> None:
        self.name, self.config, self.device = name, config, device
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network)
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
        )
        self.step, self.loss = 0, 0.0
        self.seconds: list[float] = []

    def take_step(self, images: Tensor, factors: Tensor) -> None:
        """Take one step, as `RecognizerTraining` does, and time it."""
        config = self.config
        synchronize(self.device)
        began = time.perf_counter()
        for group in self._optimizer.param_groups:
            group["lr"] = config.rate_at(self.step)
        coarse = config.precision == "bf16" and self.step < config.steps * (1 - config.exact)
        pixels = images.to(self.device).float() / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=coarse):
            reading = self.network(pixels)
        loss = total_loss(reading_loss(reading, factors.to(self.device)))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        self._keep_average(1 - min(config.average, (1 + self.step) / (10 + self.step)))
        synchronize(self.device)
        self.seconds.append(time.perf_counter() - began)
        self.loss = float(loss.detach())

    @torch.no_grad()
    def _keep_average(self, weight: float) -> None:
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.network.parameters()), weight
        )
        # What batch normalization has counted is averaged along.
        for kept, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now, weight)

    def read(self, images: Tensor) -> FloatArray:
        """Return the factors (n, 6) of images, by the averaged weights."""
        self.average.eval()
        found = []
        with torch.inference_mode():
            for part in images.split(_READ):
                found.append(decode_reading(self.average(part.to(self.device))).cpu())
        return torch.cat(found).numpy()


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train(
    contestants: list[Contestant], dataset: ShapesHD, left: int, options: argparse.Namespace
) -> None:
    """Train all on the same batches by turns."""
    config = contestants[0].config
    batches = training_batches(
        dataset, left, config.batch, config.seed, 0, config.steps, options.workers
    )
    for number, (images, factors) in enumerate(batches):
        for contestant in contestants if number % 2 else reversed(contestants):
            contestant.take_step(images, factors)
        if (number + 1) % options.every == 0:
            losses = ", ".join(f"{one.name} {one.loss:.3f}" for one in contestants)
            print(f"step {number + 1:,} of {config.steps:,}: loss {losses}", flush=True)


def test(contestants: list[Contestant], dataset: ShapesHD, left: int) -> list[dict[str, Any]]:
    """Return the accuracy of each on the images that were held out."""
    truth: list[Tensor] = []
    found: list[list[Tensor]] = [[] for _ in contestants]
    for images, factors in ordered_batches(dataset, left, len(dataset)):
        truth.append(torch.from_numpy(factors))
        for one, mine in zip(contestants, found, strict=True):
            mine.append(torch.from_numpy(one.read(images)))
    true = torch.cat(truth).numpy()
    return [accuracy(true, torch.cat(mine).numpy()).to_json() for mine in found]


def inference_rates(
    contestants: list[Contestant], images: Tensor, rounds: int
) -> list[list[float]]:
    """Return the images per second of each in every round; they take turns."""
    rates: list[list[float]] = [[] for _ in contestants]
    works = [functools.partial(one.read, images) for one in contestants]
    for turn in range(rounds + 1):
        for work, mine, one in zip(works, rates, contestants, strict=True):
            synchronize(one.device)
            began = time.perf_counter()
            work()
            if turn:  # the first warms up
                mine.append(len(images) / (time.perf_counter() - began))
    return rates


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Train, test and time both."""
    device = torch.device(options.device)
    dataset = open_dataset(options.dataset)
    size = dataset.image_shape[1]
    left = check_split(len(dataset), options.held_out, options.batch)
    settings = {
        "images": options.images,
        "batch": options.batch,
        "warm_up": min(TrainingConfig.warm_up, options.images // options.batch // 10),
        "degraded": 0.0,
        "precision": options.precision or default_precision(device),
        "held_out": options.held_out,
        "seed": options.seed,
    }
    ours = TrainingConfig(learning_rate=options.learning_rate, **settings)
    rate = options.resnet_learning_rate or options.learning_rate
    theirs = TrainingConfig(learning_rate=rate, **settings)
    torch.manual_seed(options.seed)
    contestants = [
        Contestant("ours", RecognitionNetwork(NetworkConfig(size=size)), ours, device),
        Contestant(f"ResNet-18 ({options.stem})", ResNet18(options.stem), theirs, device),
    ]
    train(contestants, dataset, left, options)
    accuracies = test(contestants, dataset, left)
    some = min(options.held_out, options.timed)
    images = next(iter(ordered_batches(dataset, left, left + min(some, 500))))[0]
    images = images.repeat(-(-some // len(images)), 1, 1, 1)[:some]
    speeds = inference_rates(contestants, images, options.rounds)
    rows = []
    for one, reached, rates in zip(contestants, accuracies, speeds, strict=True):
        for factor in reached["factors"].values():
            del factor["confusion"]
        rows.append(
            {
                "name": one.name,
                "parameters": sum(values.numel() for values in one.network.parameters()),
                "config": one.config.to_json(),
                "loss": one.loss,
                "accuracy": {**reached, "gross_errors": reached["gross_errors"]["count"]},
                "training_images_per_s": options.batch / statistics.median(one.seconds),
                "training_seconds": round(sum(one.seconds), 1),
                "inference_images_per_s": statistics.median(rates),
                "inference_rounds": rates,
            }
        )
    return {
        "dataset": Path(str(options.dataset)).name,
        "size": size,
        "distinct_images": left,
        "device": str(device),
        "cores": core_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],  # what else the machine was doing
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "rows": rows,
    }


def report(found: dict[str, Any]) -> str:
    rows = found["rows"]
    names = "".join(f" {row['name']} |" for row in rows)
    lines = [
        f"| {found['size']} px, {found['device']}, {found['threads']} threads |{names}",
        "|---" * (len(rows) + 1) + "|",
    ]

    def line(what: str, values: list[str]) -> None:
        lines.append(f"| {what} | " + " | ".join(values) + " |")

    line("parameters", [f"{row['parameters']:,}" for row in rows])
    line("all six bins right", [f"{row['accuracy']['joint_accuracy']:.2%}" for row in rows])
    for name in NAMES:
        cells = []
        for row in rows:
            factor = row["accuracy"]["factors"][name]
            error = factor["mean_absolute_error"]
            off = "" if error is None else f", off by {error:.3g}"
            cells.append(f"{factor['accuracy']:.2%}{off}")
        unit = rows[0]["accuracy"]["factors"][name]["unit"]
        line(name.replace("_", " ") + (f" ({unit})" if unit else ""), cells)
    line("gross_errors", [f"{row['accuracy']['gross_errors']:,}" for row in rows])
    for key, what in (("training", "training, img/s"), ("inference", "inference, img/s")):
        line(what, [f"{row[f'{key}_images_per_s']:,.0f}" for row in rows])
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dataset", default="render:31:70000,size=64", help="render:... or a stored dataset"
    )
    parser.add_argument("--images", type=int, default=60_000, help="shown to each network")
    parser.add_argument("--held-out", type=int, default=10_000, help="images to test on")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=TrainingConfig.learning_rate)
    parser.add_argument("--resnet-learning-rate", type=float, help="if another one")
    parser.add_argument("--precision", choices=["bf16", "fp32"], help="by default the device's")
    parser.add_argument("--stem", choices=["imagenet", "small"], default="imagenet")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that read images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5, help="of the timing of inference")
    parser.add_argument("--timed", type=int, default=2000, help="images in a round")
    parser.add_argument("--every", type=int, default=100, help="steps between two lines")
    parser.add_argument("--out", type=Path, help="JSON")
    options = parser.parse_args()
    found = compare(options)
    print(report(found))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
