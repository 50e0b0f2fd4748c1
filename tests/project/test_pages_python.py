"""Python in README and on the pages: each block runs as it stands."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from shapeshd.benchmark import Score, api, metric
from shapeshd.benchmark.sources.registry import unregister
from shapeshd.factors import from_unit
from tests.support.fake_scores import ReadsWritten
from tests.support.pages import PAGES, blocks

LOOP = "docs/training-loop.md"
WITH_PYTHON = [name for name, page in PAGES.items() if blocks(page, "python")]


class ReadsMeans(ReadsWritten):
    """In place of the shipped recognizer, which takes a minute: the means of six halves."""

    def __call__(self, images: Tensor) -> np.ndarray:
        assert images.shape[1:] == (3, 64, 64)
        halves = images.double().view(-1, 3, 64, 2, 32).mean((2, 4))
        return from_unit(halves.flatten(1).numpy() / 256)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run in an empty folder, with a recognizer that is quick."""
    monkeypatch.chdir(tmp_path)
    for module in (api, metric):
        monkeypatch.setattr(module, "load_recognizer", lambda *_: ReadsMeans())
    yield tmp_path
    unregister("noise")  # which a page adds


def run_block(code: str, page: str, names: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs: workers, and our NaN of the sanity check
        exec(compile(code, page, "exec"), names)


def test_blocks_for_libraries_that_are_not_here_are_python() -> None:
    """They are marked "py" in place of "python", and not run."""
    found = [(name, code) for name, page in PAGES.items() for code in blocks(page, "py")]
    for name, code in found:
        compile(code, name, "exec")
    assert {name for name, _ in found} == {"docs/read.md"}


def test_readme_scores_a_generator_in_five_lines() -> None:
    first = blocks(PAGES["README.md"], "python")[0]
    assert "score(" in first
    assert len(first.splitlines()) == 5


@pytest.mark.parametrize("name", [name for name in WITH_PYTHON if name != LOOP])
def test_the_blocks_of_a_page_run(name: str, rendered: Path, in_a_folder: Path) -> None:
    shutil.copytree(rendered, in_a_folder / "data")
    names: dict[str, Any] = {"__name__": "page"}
    for code in blocks(PAGES[name], "python"):
        run_block(code, name, names)


def test_the_examples_of_training_loops_run(
    in_a_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, lightning, diffusers = blocks(PAGES[LOOP], "python")
    names: dict[str, Any] = {}
    for code in (plain, lightning, diffusers):
        run_block(code, LOOP, names)
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
    assert list(in_a_folder.iterdir()) == []
