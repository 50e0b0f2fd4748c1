"""The files of a result, by name, and the format of the first."""

from __future__ import annotations

FORMAT, FORMAT_VERSION = "shapeshd-result", 1
ENTRY_FORMAT = "shapeshd-entry"
"""Of an entry of a leaderboard, a result without its histograms; its versions are the result's."""

RESULT = "result.json"
HISTOGRAM = "histogram.npy"
EXAMPLES = "examples.npz"
FIDELITY = "fidelity.npz"
REPORT = "report.html"
