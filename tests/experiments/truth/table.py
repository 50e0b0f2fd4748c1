"""Write a table of factors with a known fault.

python -m tests.experiments.truth.table LAW COUNT OUT.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .distributions import DISTRIBUTIONS
from .recovery import write_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("distribution", choices=DISTRIBUTIONS)
    parser.add_argument("count", type=int)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    distribution = DISTRIBUTIONS[given.distribution]()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_table(distribution, given.count, given.out)
    print(
        f"{given.out}: {given.count:,} images, {distribution.text}: "
        f"D = {distribution.divergence:.3g}"
    )


if __name__ == "__main__":
    main()
