"""Trained phases in the repository are what the present program trains, reads and goes on from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.result.read import read_result
from shapeshd.images.resize import resized
from shapeshd.models.config_file import load_config
from shapeshd.models.data.images import to_uint8
from shapeshd.models.networks.checkpoints import load_generator
from shapeshd.models.networks.model_card import read_model_card
from shapeshd.models.networks.shipped import ShippedModel, shipped_models
from shapeshd.support.checkpoint import read_card
from tests import ROOT

WEIGHTS = ROOT / "models" / "weights"
ENTRIES = ROOT / "benchmark" / "results" / "leaderboard"
FILES = sorted(WEIGHTS.rglob("*.safetensors"))
MOST_BYTES = 2 * 2**20


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}-{path.stem}" for path in FILES])
def test_it_is_small_and_of_the_present_configuration(path: Path) -> None:
    card = read_card(path)
    tier, *method = path.relative_to(WEIGHTS).parts[:-2]
    changes = re.findall(r"--set (\S+)", card["training"][-1]["command"])
    config = load_config(tier, changes, method=method[0] if method else "vae").to_json()
    assert path.stat().st_size <= MOST_BYTES
    first = "unet" if card["phase"] == "flow" else "codes"
    for table in (first, "images", card["phase"]):  # else --from would not take it
        assert card[table] == config[table]


def test_phase_1_of_mini_draws_every_shape() -> None:
    generator, latent_dim = load_generator(WEIGHTS / "mini" / "vae" / "generator.safetensors")
    z = torch.randn(256, latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = to_uint8(generator(z))
    reader = load_recognizer("lite", "cpu")
    shapes = reader(resized(images, reader.size))[:, 4].round().astype(int)
    counts = [(shapes == shape).sum() for shape in range(4)]
    assert min(counts) >= 30  # of 64 that are expected


def test_encoders_are_there() -> None:
    assert FILES
    for folder in {path.parent for path in FILES}:
        assert (folder / "generator.safetensors").exists()
        assert (folder / "encoder.safetensors").exists() == (folder.name in ("vae", "aae"))


@pytest.mark.parametrize("model", shipped_models(), ids=lambda model: model.name)
def test_a_card_says_how_it_was_made(model: ShippedModel) -> None:
    card, raw = read_model_card(model.path), read_card(model.path)
    last = card.training[-1]
    assert (card.phase, last.phase) == (model.path.parent.name, model.path.parent.name)
    assert last.images == raw["steps"] * raw[card.phase]["batch"]
    assert last.seconds == raw["seconds"]
    for phase in card.training:
        assert f" {phase.phase} " in phase.command or " baseline " in phase.command
    assert f"--count {card.data.images}" in card.data.command


def test_scores_of_cards_are_those_of_the_leaderboard() -> None:
    scored = 0
    for model in shipped_models():
        card = read_model_card(model.path)
        path = ENTRIES / f"{model.name.replace('/', '-')}.json"
        assert path.exists() == (card.score is not None)
        if card.score is None:
            continue
        scored += 1
        entry = read_result(path)
        assert entry.source.name == model.text
        assert entry.source.content == card.sha256  # of these tensors, and no others
        assert card.score.model_dump(exclude={"command", "mainly_wrong"}) == {
            "samples": entry.samples,
            "seed": entry.seed,
            "recognizer": entry.recognizer.name,
            "divergence": entry.fit.divergence.reported,
            "low": entry.fit.divergence.low,
            "high": entry.fit.divergence.high,
        }
    assert scored >= 2
