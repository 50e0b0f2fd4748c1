"""Runs the tests that use a GPU, and those that rehearse its paths, by pytest:
python -m tests.experiments.gpu.steps.device_tests --json FILE
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.experiments.gpu.step import write_record

REHEARSED = ("test_devices.py", "test_rehearsal.py")
"""Names of the files that rehearse a GPU's paths, in any folder of tests."""

NEED_A_GPU = (
    "tests/shapeshd/raytracer/test_tracer.py::test_cpu_and_gpu_agree",
    "tests/shapeshd/dataset/test_rendered.py::test_batches_are_on_the_device",
)


def outcome_of(report: Path) -> dict[str, Any]:
    """Return how many tests of a JUnit report passed, failed and were skipped, and which failed."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    passed = len(cases) - len(failed) - skipped
    said = f"{passed} passed, {skipped} skipped, {len(failed)} failed"
    if failed:
        said += ": " + ", ".join(name.rpartition("::")[2] for name in failed)
    return {"headline": said, "passed": passed, "skipped": skipped, "failed": failed}


def main() -> None:
    """Run them and write; the exit status is pytest's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    files = [str(path) for name in REHEARSED for path in sorted((ROOT / "tests").rglob(name))]
    with tempfile.TemporaryDirectory(prefix="shapeshd-gpu-") as folder:
        report = Path(folder) / "report.xml"
        words = ["-p", "no:cacheprovider", f"--junitxml={report}", *NEED_A_GPU, *files]
        status = pytest.main(words)
        if report.exists():
            write_record(options.json, outcome_of(report))
    sys.exit(int(status))


if __name__ == "__main__":
    main()
