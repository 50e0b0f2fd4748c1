"""The files of a result, by name, and the format of the first."""

from __future__ import annotations

from typing import Final

FORMAT: Final = "shapeshd-result"
ENTRY_FORMAT: Final = "shapeshd-entry"
"""Of an entry of a leaderboard, a result without its histograms."""
FORMAT_VERSION: Final = 2
"""Of both. Version 1 had other names; see `migrate`."""

RESULT = "result.json"
HISTOGRAM = "histogram.npy"
EXAMPLES = "examples.npz"
FIDELITY = "fidelity.npz"
REPORT = "report.html"
