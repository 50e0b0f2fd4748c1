"""What ``shapeshd score`` does with its options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from shapeshd.benchmark.fidelity.measure import FidelitySettings
from shapeshd.benchmark.fidelity.pretrained.names import DEFAULT
from shapeshd.benchmark.fidelity.real_cache import cache_folder
from shapeshd.benchmark.fidelity.rerender import DEFAULT_ENGINE
from shapeshd.benchmark.recognizer.find import shipped_for
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.report.sweep import finish_sweep
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.result.sweep import SweepRecord, check_sweep_folder
from shapeshd.benchmark.scoring.run_folder import precision_of
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.sources.open import open_source, short_name
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.sweep import Sweep, Value
from shapeshd.distribution import Distribution
from shapeshd.support.distributed import Ranks, joined_ranks
from shapeshd.support.progress import note

from .command import command_line
from .options import pick_device

_LONGEST_NAME = 100  # characters; a command may be longer than a folder's name


def run_score(text: str, out: Path | None, options: dict[str, Any]) -> tuple[Result | None, Path]:
    """Score as the command line's options say; errors as `score_source`.

    Returns:
        The result (None in all processes but the first), and its folder.
    """
    folder = default_folder(text) if out is None else out
    with joined_ranks() as ranks:
        result = _score(text, folder, options, SourceOptions.given(options), ranks)
    return result, folder


def run_sweep(
    text: str, out: Path | None, options: dict[str, Any], sweep: Sweep
) -> tuple[SweepRecord | None, Path]:
    """Score with each value of an option, each in a folder of its own, and write their page.

    Returns:
        The record (None in all processes but the first), and the folder of all.
    """
    folder = default_folder(f"{short_name(text)}-{sweep.option}") if out is None else out
    check_sweep_folder(folder)
    results: list[tuple[Value, str, Result | None]] = []
    with joined_ranks() as ranks:
        for value, given in zip(sweep.values, sweep.options(options), strict=True):
            name = sweep.name(value)
            if ranks.first:
                note(f"{name} ({len(results) + 1} of {len(sweep.values)})")
            result = _score(text, folder / name, options, given, ranks)
            results.append((value, name, result))
    done = [(value, name, result) for value, name, result in results if result is not None]
    if not done:
        return None, folder
    return finish_sweep(sweep.option, done, folder, command_line()), folder


def _score(
    text: str, folder: Path, options: dict[str, Any], given: SourceOptions, ranks: Ranks
) -> Result | None:
    fidelity = _fidelity(options)
    distribution = Distribution.read(options["distribution"]) if options["distribution"] else None
    device = pick_device(options["device"], ranks.gpu)
    precision = precision_of(folder, options["precision"], again=options["again"])

    def choose(side: int) -> Recognizer:
        name = options["recognizer"] or shipped_for(side)
        if options["recognizer"] is None and ranks.first:
            note(f"images of {side}x{side} pixels: recognizer {name}")
        return load_recognizer(name, device, precision)

    with open_source(
        text, seed=options["seed"], trust=options["trust"], device=device, options=given
    ) as source:
        settings = ScoreSettings(
            samples=options["samples"],
            protocol=options["protocol"],
            seed=options["seed"],
            distribution=distribution,
            options=given,
            fidelity=fidelity,
            again=options["again"],
            allow_irreproducible=options["allow_irreproducible"],
        )
        return score_source(
            source,
            choose,
            folder,
            settings,
            ranks=ranks,
            command=command_line(),
            progress=True,
        )


def _fidelity(options: dict[str, Any]) -> FidelitySettings | None:
    """Return what the options ask for of the fidelity of single images."""
    features, engine = options["features"], options["fidelity_engine"]
    if options["fidelity"] is None:
        return None
    return FidelitySettings(
        options["fidelity"],
        features or DEFAULT,
        engine or DEFAULT_ENGINE,
        options["trust"],
        cache_folder() if options["cache"] else None,
    )


def default_folder(text: str) -> Path:
    """Return ``score-NAME`` for a source, NAME being what files can be called."""
    name = re.sub(r"[^\w.,=-]+", "-", short_name(text)).strip("-.")
    return Path(f"score-{name[:_LONGEST_NAME].rstrip('-.')}")
