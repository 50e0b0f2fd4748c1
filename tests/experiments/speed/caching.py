"""What stored features of the trunk save in phase 2: python -m tests.experiments.speed.caching

The update of the adversarial autoencoder (equations 4-6) with the trunk's features of all images
at hand, as the project trains it, beside the same update where the trunk sees the large batch's
images, and the small one's, at each step; all else, random numbers included, is the same. The
images stand decoded in memory, so that reading them costs the second way nothing. Both take turns
in one process, and the one that begins changes; a ratio is that of a round, of --steps updates
each. The first round, which warms up, does not count; the work of its steps is counted in place
of their time.

On a CPU that others use, --clock cpu takes the processor's time in place of the wall's.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.models.config import RunConfig
from shapeshd.models.config_file import load_config
from shapeshd.models.data.images import to_float, to_uint8
from shapeshd.models.training.aae import AAEPhase
from shapeshd.models.training.distributed import Group
from shapeshd.models.training.domains.images import ImageDomain
from shapeshd.models.training.dry_run import WorkCounter
from shapeshd.support.distributed import core_count


class Recomputed:
    """Stands where `AAEPhase` has features: computes those that are asked for.

    Args:
        domain: for the precision of the trunk.
        trunk: of the encoder.
        images: uint8 (n, 3, size, size).
    """

    def __init__(self, domain: ImageDomain, trunk: nn.Module, images: Tensor) -> None:
        self._domain, self._trunk, self._images = domain, trunk, images
        self.device = images.device

    def __len__(self) -> int:
        return len(self._images)

    @torch.no_grad()
    def __getitem__(self, rows: Tensor) -> Tensor:
        x = to_float(self._images[rows]).contiguous(memory_format=torch.channels_last)
        with self._domain.autocast():
            return self._trunk(x).float()


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def measure(
    config: RunConfig, images: Tensor, domain: ImageDomain, options: argparse.Namespace
) -> dict[str, Any]:
    """Let both take turns with so many codes a step."""
    torch.manual_seed(0)
    encoder, generator = domain.encoder(), domain.generator()
    features = domain.features(encoder.trunk, None, "")[: domain.count]
    phases: dict[str, AAEPhase] = {}
    for name in ("stored", "recomputed"):
        torch.manual_seed(0)  # the discriminators' first weights
        own = copy.deepcopy(encoder)
        phase = AAEPhase(
            config,
            domain,
            Group(),
            torch.device(options.device),
            own,
            copy.deepcopy(generator),
            features,
        )
        if name == "recomputed":
            phase.features = Recomputed(domain, own.trunk, images)  # type: ignore[assignment]
        phases[name] = phase
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    work, apart = dict.fromkeys(phases, 0), 0.0
    rounds: list[dict[str, float]] = []
    for turn in range(options.rounds + 1):
        first = turn * options.steps
        rows = [torch.randint(domain.count, (config.aae.batch,)) for _ in range(options.steps)]
        small = [to_float(images[some.to(images.device)]) for some in rows]
        took: dict[str, float] = {}
        losses: dict[str, float] = {}
        for name in phases if turn % 2 else reversed(phases):
            with WorkCounter() if turn == 0 else torch.enable_grad() as counter:
                synchronize(options.device)
                began = clock()
                for step in range(options.steps):
                    log = phases[name].update(first + step, small[step], rows[step])
                synchronize(options.device)
                took[name] = clock() - began
            losses[name] = float(log["loss"])
            if counter is not None:
                work[name] = counter.flops
        if turn == 0:
            apart = abs(losses["stored"] / losses["recomputed"] - 1)
        else:
            rounds.append({name: options.steps / took[name] for name in phases})
            print(f"{config.aae.codes} codes: round {turn}", file=sys.stderr, flush=True)
    ratios = [turn["stored"] / turn["recomputed"] for turn in rounds]
    return {
        "codes": config.aae.codes,
        "load_average": os.getloadavg()[0],  # what else the machine was doing
        "steps_per_s": {name: statistics.median(turn[name] for turn in rounds) for name in phases},
        "ratio": {"median": statistics.median(ratios), "range": [min(ratios), max(ratios)]},
        "flops": {name: total / options.steps for name, total in work.items()},
        "losses_apart": apart,
        "rounds": rounds,
    }


def report(found: dict[str, Any]) -> str:
    """Return a line of one number of codes."""
    stored, recomputed = (found["steps_per_s"][name] for name in ("stored", "recomputed"))
    low, high = found["ratio"]["range"]
    work = found["flops"]
    return (
        f"{found['codes']:>6} codes: {stored:.3f} steps/s stored, {recomputed:.3f} recomputed: "
        f"{found['ratio']['median']:.2f} [{low:.2f}, {high:.2f}] times as fast; "
        f"{work['stored'] / 1e9:.1f} GFLOP a step for {work['recomputed'] / 1e9:.1f}; "
        f"losses apart by {found['losses_apart']:.1e}; load {found['load_average']:.1f}"
    )


def main() -> None:
    """Measure all numbers of codes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="smoke")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--codes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--images", type=int, default=2048, help="rendered and kept in memory")
    parser.add_argument("--steps", type=int, default=4, help="of a round; C1's penalty at each 4th")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.clock == "cpu" and torch.device(options.device).type != "cpu":
        parser.error("--clock cpu does not see what a GPU does")
    changes = [f"images.size={options.size}", "images.compile=false", "checks.held_out=2"]
    config = load_config(options.config, changes)
    source = RenderSpec(0, options.images + 2, options.size)
    domain = ImageDomain(config, source, torch.device(options.device), 0)
    rows = torch.arange(domain.count).split(256)
    images = torch.cat([to_uint8(x) for x in domain.batches(rows)])
    result: dict[str, Any] = {
        **{key: value for key, value in vars(options).items() if key != "json"},
        "batch": config.aae.batch,
        "cores": core_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "codes": [],
    }
    print(f"{options.device}, {result['threads']} threads, {options.clock} clock")
    for codes in options.codes:
        of_step = replace(config, aae=replace(config.aae, codes=codes))
        result["codes"].append(measure(of_step, images, domain, options))
        print(report(result["codes"][-1]), flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
