"""The files of a result, by name, and the format of the first."""

from __future__ import annotations

FORMAT, FORMAT_VERSION = "shapeshd-result", 1

RESULT = "result.json"
HISTOGRAM = "histogram.npy"
EXAMPLES = "examples.npz"
REPORT = "report.html"
