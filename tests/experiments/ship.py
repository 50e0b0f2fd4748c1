"""Puts trained phases into models/weights, and their scores into their cards and the leaderboard.

    python -m tests.experiments.ship phase RUN/gan mini/contrast/gan --after mini/contrast/aae \
        --commit COMMIT --command 'shapeshd train gan data/mini --config mini ...' \
        --data 'shapeshd render data/mini ...'
    shapeshd score model:mini/contrast/gan --samples 100000 --fidelity 1000 --out SCORE
    python -m tests.experiments.ship score SCORE --title 'contrast, mini, after phase 3'

The first writes the generator, and the encoder of phases vae and aae, in bf16, with a card that
says how each phase was trained (`ModelCard`); the digest of tensors does not depend on it. The
second writes D into the card, and an entry of the leaderboard; it refuses the score of others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shapeshd.benchmark.leaderboard.entry import write_entry
from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.result.schema import Result
from shapeshd.models.networks.checkpoints import KIND
from shapeshd.models.networks.model_card import ModelScore, PhaseTraining, read_model_card
from shapeshd.models.networks.shipped import PREFIX, find_shipped
from shapeshd.models.training.files import ENCODER, ENCODER_KIND, GENERATOR
from shapeshd.support.checkpoint import load_checkpoint, save_checkpoint
from tests import ROOT

WEIGHTS = ROOT / "models" / "weights"
ENTRIES = ROOT / "benchmark" / "results" / "leaderboard"
MOST_BYTES = 2 * 2**20


def halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with floats in bf16."""
    return {
        name: tensor.bfloat16() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def ship_phase(
    folder: Path, name: str, *, commit: str, command: str, data: str, after: str | None
) -> None:
    """Write the networks of a finished phase below `WEIGHTS`.

    Args:
        folder: of the phase.
        name: below `WEIGHTS`; the folder may be that itself.
        commit: of the program that trained it.
        command: that trained it.
        data: the command that rendered what it was trained on.
        after: name of the phase before, which is shipped already; None for the first.
    """
    before = read_model_card(WEIGHTS / after / GENERATOR).training if after else ()
    for file, kind in ((GENERATOR, KIND), (ENCODER, ENCODER_KIND)):
        if not (folder / file).exists():
            continue
        found = load_checkpoint(folder / file, kind)
        card = dict(found.card)
        phase = card["phase"]
        done = PhaseTraining(
            phase=phase,
            command=command,
            commit=commit,
            images=card["steps"] * card[phase]["batch"],
            seconds=card["seconds"],
            torch=card["versions"]["torch"],
            device=card["device"],
        )
        card["data"] = {**card["data"], "command": data}
        card["training"] = [one.model_dump() for one in (*before, done)]
        card.pop("score", None)
        path = WEIGHTS / name / file
        save_checkpoint(path, kind, halved(found.tensors), card)
        if path.stat().st_size > MOST_BYTES:
            raise SystemExit(f"{path}: has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
        print(f"{path}: {path.stat().st_size:,} bytes")


def ship_score(folder: Path, title: str) -> None:
    """Write what a score gave into the card of its generator, and an entry of the leaderboard."""
    result = read_result(folder)
    if not isinstance(result, Result) or not result.source.name.startswith(PREFIX):
        raise SystemExit(f"{folder}: holds no score of {PREFIX}NAME")
    path = find_shipped(result.source.name).path
    found = load_checkpoint(path, KIND)
    if found.digest != result.source.content:
        raise SystemExit(f"{folder}: holds a score of other tensors than {path}")
    name = result.source.name.removeprefix(PREFIX).replace("/", "-")
    write_entry(result, ENTRIES / f"{name}.json", title)
    save_checkpoint(path, KIND, found.tensors, {**found.card, "score": score_of(result)})
    print(f"{path}: {read_model_card(path).score}")


def score_of(result: Result) -> dict[str, Any]:
    """Return a card's record of a score."""
    divergence = result.fit.divergence
    worst = next(iter(result.decomposition.significant), None)
    command = f"shapeshd score {result.source.name} --samples {result.samples}"
    return ModelScore(
        command=f"{command} --seed {result.seed}" if result.seed else command,
        samples=result.samples,
        seed=int(result.seed or 0),
        recognizer=result.recognizer.name,
        divergence=divergence.reported,
        low=divergence.low,
        high=divergence.high,
        mainly_wrong=worst.name if worst else None,
    ).model_dump()


def main() -> None:
    """Ship a phase, or a score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="what", required=True)
    phase = commands.add_parser("phase", help="write a trained phase below models/weights")
    phase.add_argument("folder", type=Path)
    phase.add_argument("name", help="TIER/METHOD/PHASE or TIER/vae")
    phase.add_argument("--after", metavar="NAME", help="the phase that it began with")
    for option in ("commit", "command", "data"):
        phase.add_argument(f"--{option}", required=True)
    score = commands.add_parser("score", help="write a score into the card and the leaderboard")
    score.add_argument("folder", type=Path)
    score.add_argument("--title", required=True, help="of the leaderboard's row")
    given = vars(parser.parse_args())
    torch.set_num_threads(1)
    what = given.pop("what")
    (ship_phase if what == "phase" else ship_score)(**given)


if __name__ == "__main__":
    main()
