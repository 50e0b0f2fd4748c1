"""`train`: what the commands of the reference models say, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shapeshd.models.config_file import config_from, load_config, to_toml
from shapeshd.models.training.files import (
    GENERATOR,
    RESULT,
)
from tests.support.refusals import check_refusal
from tests.support.tiny_models import tiny
from tests.support.training_runs import (
    PHASES,
)

pytestmark = pytest.mark.usefixtures("one_thread")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(to_toml(tiny("factors")))
    return path


def test_the_commands_say_what_came_out(tiny_file: Path, tmp_path: Path, run: Run) -> None:
    common = ["--config", tiny_file, "--out", tmp_path / "run", "--device", "cpu"]
    for phase in PHASES:
        status, words, errors = run("train", phase, *common)
        assert status == 0, errors
        assert words.startswith(f"{phase}: 12 steps in ")
        assert "reduced chi-square" in words
        assert "codes of held-out data: mean" in words
        assert words.endswith(f"{tmp_path / 'run' / phase / GENERATOR}\n")
    status, words, errors = run("train", "gan", *common, "--json")
    assert status == 0
    assert json.loads(words) == {"gan": json.loads((tmp_path / "run" / "gan" / RESULT).read_text())}
    assert "gan: all 12 steps are taken\n" in errors  # its result is there already


def test_a_dry_run_prints_all_and_writes_nothing(tiny_file: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    common = ["--config", tiny_file, "--out", out, "--device", "cpu", "--dry-run",
              "--set", "vae.batch=64", "--set", "factors.layers=1"]  # fmt: skip
    status, words, _ = run("train", "baseline", "ours", *common, "--json")
    assert status == 0
    found = json.loads(words)
    config = load_config(str(tiny_file), ["vae.batch=64", "factors.layers=1"], method="ours")
    assert config_from(found["config"]) == config
    plan = found["plan"]
    assert list(plan) == list(PHASES)
    # By hand. E: 12 features and 3 numbers of noise to 8, to 8, to 2 x 4; G: 4 to 8 to 12.
    head, decoder = 15 * 8 + 8 + 8 * 8 + 8 + 8 * 8 + 8, 4 * 8 + 8 + 8 * 12 + 12
    judge = 24 * 8 + 8 + 8 + 1
    assert plan["vae"]["parameters"] == {"encoder": head, "generator": decoder}
    c1 = 4 * 8 + 8 + 8 * 8 + 8 + 8 + 1
    assert plan["aae"]["parameters"] == {
        "encoder": head, "generator": decoder, "c1": c1, "c2": 5,
    }  # fmt: skip
    assert plan["gan"]["parameters"] == {
        "generator": decoder, "discriminator": judge, "fixed encoder": head,
        "fixed generator": decoder,
    }  # fmt: skip
    # Of E and G: weights, averages, gradients, two moments, each 4 bytes; beside them Adam's
    # count of steps for each tensor, and the head's buffers (centre, deviation) twice.
    tensors = 6 + 4
    assert plan["vae"]["state_bytes"] == 4 * (5 * (head + decoder) + tensors + 2 * (4 + 1))
    assert plan["aae"]["features_bytes"] == 4 * 12 * (100 + 24)
    assert (plan["vae"]["steps"], plan["vae"]["batch"]) == (12, 64)
    # A product of n x a by a x b: 2 n a b forward, as much for each of the two gradients; the
    # first layers of E see data, whose gradient nobody needs.
    products = 15 * 8 + 8 * 8 + 8 * 8 + 4 * 8 + 8 * 12
    assert plan["vae"]["flops"] == 2 * 64 * (3 * products - 15 * 8)
    status, words, _ = run("train", "baseline", "ours", *common)
    assert status == 0
    text, _, table = words.partition("\nvae: ")
    tiny_file.write_text(text)
    assert load_config(str(tiny_file)) == config
    assert table.startswith("12 steps of 64 samples")
    for name, count in plan["gan"]["parameters"].items():
        assert f"  {name:<15} {count:>12,} parameters" in table
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vae", "render:0:50", "--config", "factors"], "draws its data"),
        (["vae", "--config", "smoke"], "Give DATASET or render:SEED:"),
        (["vae", "--config", "smokey"], "no configuration 'smokey'"),
        (["vae", "--config", "factors", "--set", "vae.batch=0"], "vae.batch must be"),
        (["gan", "--config", "factors", "--from", "nowhere"], "nowhere"),
        (["gan", "--config", "factors", "--set", "gan.augment=safe", "--set",
          "gan.paired=false", "--set", "gan.from_autoencoder=false", "--set",
          "factors.images=2000", "--set", "checks.held_out=2"], "gan.augment = 'safe': embeddings"),
        (["vae", "render:0:50", "--config", "smoke"], "1,000 are held out"),
        (["baseline", "theirs", "--config", "factors"], "'theirs' is not"),
        (["vae", "nothing.h5", "--config", "smoke"], "nothing.h5: no such file"),
    ],
)  # fmt: skip
def test_commands_that_cannot_be(
    arguments: list[str], words: str, tmp_path: Path, run: Run
) -> None:
    status, out, errors = run("train", *arguments, "--out", tmp_path / "run", "--device", "cpu")
    assert (status, out) == (2, "")
    assert words in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_is_no_dataset_and_factors_are_no_images(
    tiny_file: Path, tmp_path: Path, run: Run
) -> None:
    out, path = tmp_path / "run", tmp_path / "run" / "vae" / GENERATOR
    assert run("train", "vae", "--config", tiny_file, "--out", out)[0] == 0
    check_refusal(run("info", path), 2, "info takes datasets, and model:NAME", tmp_path / "new")
    for command in (("sample", path, tmp_path / "new"), ("score", out, "--out", tmp_path / "new")):
        check_refusal(run(*command), 2, "result.json beside it", tmp_path / "new")
