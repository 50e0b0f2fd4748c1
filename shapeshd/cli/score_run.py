"""What ``shapeshd score`` does with its options."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

from shapeshd.benchmark.fidelity.features import DEFAULT
from shapeshd.benchmark.fidelity.measure import FidelitySettings
from shapeshd.benchmark.fidelity.rerender import DEFAULT_ENGINE
from shapeshd.benchmark.recognizer.find import shipped_for
from shapeshd.benchmark.recognizer.recognizer import Recognizer, load_recognizer
from shapeshd.benchmark.result.schema import Result
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.sources.open import open_source, short_name
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.distribution import Distribution
from shapeshd.support.distributed import joined_ranks
from shapeshd.support.progress import note

from .options import pick_device

_LONGEST_NAME = 100  # characters; a command may be longer than a folder's name


def run_score(text: str, out: Path | None, options: dict[str, Any]) -> tuple[Result | None, Path]:
    """Score as the command line's options say; errors as `score_source`.

    Returns:
        The result (None in all processes but the first), and its folder.
    """
    folder = default_folder(text) if out is None else out
    fidelity = _fidelity(options)
    distribution = Distribution.read(options["distribution"]) if options["distribution"] else None
    given = SourceOptions.given(options)
    with joined_ranks() as ranks:
        device = pick_device(options["device"], ranks.gpu)

        def choose(side: int) -> Recognizer:
            name = options["recognizer"] or shipped_for(side)
            if options["recognizer"] is None and ranks.first:
                note(f"images of {side}x{side} pixels: recognizer {name}")
            return load_recognizer(name, device)

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
            result = score_source(
                source,
                choose,
                folder,
                settings,
                ranks=ranks,
                command=shlex.join(["shapeshd", *sys.argv[1:]]),
                progress=True,
            )
    return result, folder


def _fidelity(options: dict[str, Any]) -> FidelitySettings | None:
    """Return what the options ask for of the fidelity of single images."""
    features, engine = options["features"], options["fidelity_engine"]
    if options["fidelity"] is None:
        return None
    return FidelitySettings(
        options["fidelity"], features or DEFAULT, engine or DEFAULT_ENGINE, options["trust"]
    )


def default_folder(text: str) -> Path:
    """Return ``score-NAME`` for a source, NAME being what files can be called."""
    name = re.sub(r"[^\w.,=-]+", "-", short_name(text)).strip("-.")
    return Path(f"score-{name[:_LONGEST_NAME].rstrip('-.')}")
