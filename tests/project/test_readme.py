"""The README's examples for training loops: each of them runs as it stands."""

from __future__ import annotations

import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from shapeshd.benchmark import Score, api, metric
from shapeshd.factors import from_unit
from tests import ROOT
from tests.support.fake_scores import ReadsWritten

HEADING = "## In a training loop"
README = ROOT / "README.md"


class ReadsMeans(ReadsWritten):
    """In place of the shipped recognizer, which takes a minute: the means of six halves."""

    def __call__(self, images: Tensor) -> np.ndarray:
        assert images.shape[1:] == (3, 64, 64)
        halves = images.double().view(-1, 3, 64, 2, 32).mean((2, 4))
        return from_unit(halves.flatten(1).numpy() / 256)


def examples() -> list[str]:
    """Return the Python blocks under the heading, which must be there."""
    text = README.read_text(encoding="utf-8")
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    found = [part for part in sections if part.startswith(HEADING + "\n")]
    assert len(found) == 1, f"{README} has no section {HEADING!r}"
    return re.findall(r"^```python\n(.*?)^```$", found[0], flags=re.MULTILINE | re.DOTALL)


def test_the_examples_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (api, metric):
        monkeypatch.setattr(module, "load_recognizer", lambda *_: ReadsMeans())
    plain, lightning, diffusers = examples()
    names: dict[str, Any] = {}
    for code in (plain, lightning, diffusers):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs: workers, and our NaN of the sanity check
            exec(compile(code, str(README), "exec"), names)
        said = capsys.readouterr().out
        if code is lightning:
            values = eval(said.strip().splitlines()[-1], {"nan": math.nan})
            assert values["divergence_low"] <= values["divergence"] <= values["divergence_high"]
            assert values["divergence"] > 0
            assert math.isfinite(values["reduced_chi_square_high"])
            assert names["trainer"].current_epoch == 1
            continue
        found = names["found"]
        assert isinstance(found, Score)
        assert found.samples == 6_000
        json.dumps(found.to_json(), allow_nan=False)
        expected = f"{found.reduced_chi_square.reported:.1f} [" if code is plain else found.verdict
        assert expected in said
    assert names["generator"].training
    assert list(tmp_path.iterdir()) == []
