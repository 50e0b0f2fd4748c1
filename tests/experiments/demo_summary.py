"""Says in a few lines what the scores of ``make demo`` found.

    python -m tests.experiments.demo_summary TRUE BIASED GENERATOR

Exits with 1 if real images did not pass, or one of the others did.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from shapeshd.benchmark.result.formatting import part_name, percent, with_interval
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result

NAMES = ("images of the true process", "images with a fault put in", "a trained generator")
SHOWN = 3  # significant parts of D
WIDTH = 100


def summary(name: str, result: Result) -> str:
    """Return the name, the verdict, D, and the largest parts of it."""
    mark = "PASSES" if result.verdict.passed else "FAILS"
    lines = [f"{name} ({result.source.name}): {mark}, D = {with_interval(result.fit.divergence)}"]
    if not result.verdict.passed:
        parts = [
            f"{part_name(part.factors)} ({percent(part.share, 0)} of D)"
            for part in result.decomposition.significant[:SHOWN]
        ]
        lines += textwrap.wrap(f"what is wrong: {', '.join(parts)}", WIDTH - 2)
    if result.fidelity:
        lines += textwrap.wrap(result.fidelity.verdict.text, WIDTH - 2)
    return "\n  ".join(lines)


def main() -> int:
    """Print the three summaries."""
    results = [read_result(Path(folder)) for folder in sys.argv[1:]]
    for name, result in zip(NAMES, results, strict=True):
        assert isinstance(result, Result)
        print(summary(name, result))
    passed = [result.verdict.passed for result in results]
    if passed != [True, False, False]:
        print("This is not what the demo should show: please report it.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
