"""How fast a recognizer reads, in both precisions, and beside an earlier checkout of this project:
python -m tests.experiments.speed.precision [CHECKOUT] [--name lite] [--rounds 9]

Three processes with one thread each hold the same images: the other checkout (in fp32, all it may
know), and this one in fp32 and bf16. They read in turns, each turn in another order, so that other
work on the machine slows all alike; what counts is the median of the ratios within a turn, of the
processes' own CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[3]
WORKER = """
import inspect, sys, time, torch
torch.set_num_threads(1)
from shapeshd.benchmark.recognizer.reader import piece_length
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import trace_images
name, precision, pieces = sys.argv[1], sys.argv[2], int(sys.argv[3])
known = "precision" in inspect.signature(load_recognizer).parameters
reader = load_recognizer(name, **({"precision": precision} if known else {}))
length = piece_length(reader.size)
traced = trace_images(uniform_factors(5, 0, 16), reader.size)
images = traced.repeat(length // 16, 1, 1, 1)
reader(images)
print("ready", flush=True)
for _ in sys.stdin:
    began = time.process_time()
    for _ in range(pieces):
        reader(images)
    print(pieces * length / (time.process_time() - began), flush=True)
"""


class Worker:
    """A process that reads images whenever it is asked."""

    def __init__(self, checkout: Path, name: str, precision: str, pieces: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "ignore", "-c", WORKER, name, precision, str(pieces)]
        self._process = subprocess.Popen(
            command, cwd=checkout, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def rate(self) -> float:
        """Return images per second of CPU time."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    """Let all take turns, and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, nargs="?", help="of an earlier commit")
    parser.add_argument("--name", default="lite", help="of the recognizer")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pieces", type=int, default=1, help="of images in a turn")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sides = {"fp32": (HERE, "fp32"), "bf16": (HERE, "bf16")}
    if options.checkout is not None:
        sides = {"before": (options.checkout.resolve(), "fp32"), **sides}
    workers = {
        side: Worker(path, options.name, precision, options.pieces)
        for side, (path, precision) in sides.items()
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(options.rounds):
        first = turn % len(sides)
        order = list(sides)[first:] + list(sides)[:first]
        for side in order:
            rates[side].append(workers[side].rate())
    for worker in workers.values():
        worker.close()
    found = {"recognizer": options.name, "rounds": options.rounds}
    for side, values in rates.items():
        ratios = [
            mine / other for mine, other in zip(values, rates[next(iter(sides))], strict=True)
        ]
        found[side] = {"images_per_s": statistics.median(values), "ratios": ratios}
        print(
            f"{options.name} {side:7} {statistics.median(values):7,.0f} img/s, "
            f"{statistics.median(ratios):.2f} times [{min(ratios):.2f}, {max(ratios):.2f}]"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
