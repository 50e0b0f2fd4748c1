"""Write a table of factors with a known fault.

python -m tests.experiments.truth.table LAW COUNT OUT.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .distributions import LAWS
from .recovery import write_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("law", choices=LAWS)
    parser.add_argument("count", type=int)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    law = LAWS[given.law]()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_table(law, given.count, given.out)
    print(f"{given.out}: {given.count:,} images, {law.text}: D = {law.divergence:.3g}")


if __name__ == "__main__":
    main()
