"""`project`: which images count as not generated, the folder of a result, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from shapeshd.benchmark.recognizer.find import WEIGHTS
from shapeshd.errors import UsageError
from shapeshd.factors import NAMES, bin_indices, uniform_factors
from shapeshd.models import load_generator
from shapeshd.models.data.images import open_training_images, to_uint8
from shapeshd.models.projection.optimize import Projector, shell
from shapeshd.models.projection.report import describe
from shapeshd.models.projection.run import choose_images, peak_ratio, residual, summarise
from shapeshd.support.checkpoint import read_card
from tests.support.projections import (
    DATA,
    DIM,
    QUICK,
    SIZE,
    save_encoder,
    save_small,
    spec,
)
from tests.support.refusals import check_refusal

Run = Callable[..., tuple[int, str, str]]


def test_which_images() -> None:
    assert choose_images(10, 3, False, "") == [7, 8, 9]
    assert choose_images(10, 5, True, "") == [1, 3, 5, 7, 9]
    assert choose_images(10, 10, True, "") == list(range(10))
    assert len(set(choose_images(1000, 333, True, ""))) == 333
    with pytest.raises(UsageError, match="10 images, fewer than"):
        choose_images(10, 11, False, "")


def test_residuals() -> None:
    a = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    b = a.clone()
    b[1] = 255 - b[1]
    wanted = np.sqrt(((a.numpy().astype(float) - b.numpy()) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(residual(a, b), wanted)
    assert peak_ratio(0.0) is None
    assert peak_ratio(2.55) == pytest.approx(40)


def test_share_and_its_interval() -> None:
    def image(index: int, rmse: float, bad: bool) -> dict[str, Any]:
        return {"index": index, "rmse": rmse, "not_generated": bad, "above_limit": bad,
                "factors": None}  # fmt: skip

    summary = summarise([image(i + 100, float(i), i >= 18) for i in range(20)])
    assert (summary["images"], summary["not_generated"], summary["worst"]) == (20, 2, 119)
    # Clopper and Pearson's interval of 2 in 20, from their tables.
    assert (summary["low"], summary["high"]) == pytest.approx((0.0123, 0.3170), abs=1e-4)
    assert summary["rmse"]["median"] == 9.5 and summary["wrong_factors"] is None


def check_images(result: dict[str, Any], count: int) -> None:
    assert [image["index"] for image in result["images"]] == list(range(40 - count, 40))
    low, high = shell(DIM)
    for image in result["images"]:
        assert set(image) == {
            "index", "rmse", "psnr", "length", "start", "factors", "above_limit", "not_generated"
        }  # fmt: skip
        assert low - 1e-3 < image["length"] < high + 1e-3
        assert image["psnr"] == pytest.approx(peak_ratio(image["rmse"]))
        assert image["above_limit"] == (image["rmse"] > result["limit"]["rmse"])


def test_the_folder(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    status, output, notes = run(
        "project", checkpoint, DATA, *QUICK, "--count", 5, "--steps", 6, "--batch", 3,
        "--reference", 2, "--out", out, "--json",
    )  # fmt: skip
    assert status == 0 and f"pairs: {out / 'pairs.png'}" in notes
    assert sorted(path.name for path in out.iterdir()) == [
        "latents.npy", "pairs.png", "result.json"
    ]  # fmt: skip
    result = json.loads((out / "result.json").read_text())
    assert json.loads(output) == result
    check_images(result, 5)
    assert set(result) == {
        "format", "format_version", "generator", "encoder", "dataset", "search", "recognizer",
        "why_no_factors", "limit", "reference", "summary", "images", "seconds", "versions", "files",
    }  # fmt: skip
    assert result["generator"]["sha256"] == read_card(checkpoint)["sha256"]
    assert result["encoder"] is None and result["why_no_factors"] is None
    assert result["search"]["steps"] == 6 and result["search"]["batch"] == 3
    assert result["dataset"]["size"] == SIZE and result["dataset"]["chosen"] == "last"
    assert result["recognizer"]["name"] == "lite" and result["recognizer"]["resized"] == "bicubic"
    assert result["reference"]["images"] == 2
    # The true factors, and a verdict that follows from what is told of them.
    for image in result["images"]:
        factors = image["factors"]
        known = uniform_factors(5, image["index"], image["index"] + 1)[0]
        assert list(factors["true"].values()) == pytest.approx(list(known))
        assert image["not_generated"] == (image["above_limit"] or bool(factors["wrong"]))
        both = np.array([list(factors[key].values()) for key in ("true", "projected")])
        other = np.array(NAMES)[np.not_equal(*bin_indices(both))]
        assert set(factors["wrong"]) <= set(other)
    # An untrained generator makes none of them, and the recognizer sees it.
    assert result["summary"]["not_generated"] == 5
    assert result["summary"]["rmse"]["median"] > 25
    counted = sum(len(image["factors"]["wrong"]) for image in result["images"])
    assert sum(result["summary"]["wrong_factors"].values()) == counted
    # The latents make the images whose residuals are told.
    network, _ = load_generator(checkpoint)
    made = to_uint8(network(torch.from_numpy(np.load(out / "latents.npy"))))
    data = open_training_images(spec(), SIZE)
    told = [image["rmse"] for image in result["images"]]
    np.testing.assert_allclose(residual(data.batch(range(35, 40)), made), told, atol=0.05)
    check_sheet(out / "pairs.png", result, data.batch(range(35, 40)))


def check_sheet(path: Path, result: dict[str, Any], targets: torch.Tensor) -> None:
    """A PNG whose first pair is the worst image, enlarged four times."""
    with PILImage.open(path) as picture:
        assert picture.format == "PNG"
        sheet = np.asarray(picture.convert("RGB"))
    worst = max(range(5), key=lambda row: result["images"][row]["rmse"])
    enlarged = targets[worst].permute(1, 2, 0).numpy().repeat(4, 0).repeat(4, 1)
    row = sheet[16 : 16 + 4 * SIZE]
    places = [
        left
        for left in range(row.shape[1] - 4 * SIZE)
        if np.array_equal(row[:, left : left + 4 * SIZE], enlarged)
    ]
    assert len(places) == 1 and places[0] < 80


def test_the_table(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    arguments = (*QUICK, "--count", 3, "--steps", 3, "--reference", 0, "--limit", 200, "--spread")
    status, output, _ = run("project", checkpoint, DATA, *arguments, "--out", out)
    assert status == 0
    lines = output.splitlines()
    assert lines[0].startswith("cannot be generated") and "of 3 (" in lines[0]
    assert lines[1].startswith("  factor in another bin")
    assert "0 (limit 200.0, --limit)" in lines[2]
    assert lines[3].split()[:4] == ["residual,", "8-bit", "levels", "median"]
    assert lines[4].split()[:2] == ["encoder", "none:"]
    assert len(lines) == 5  # no reference
    result = json.loads((out / "result.json").read_text())
    assert output.strip() == describe(result)
    assert [image["index"] for image in result["images"]] == [6, 20, 33]
    assert result["limit"] == {"rmse": 200.0, "from": "given"}


@pytest.mark.parametrize(
    ("left", "limit", "source", "named"),
    [
        (40.0, 40.0, "reference", "limit 40.0, largest of its own samples, above third quartile"),
        (0.0, 24.5, "fence", "limit 24.5, third quartile + 3 interquartile ranges, not below"),
    ],
)
def test_the_default_limit_says_what_set_it(
    checkpoint: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch,
    left: float, limit: float, source: str, named: str,
) -> None:  # fmt: skip
    residuals = iter([[left], [20.0, 21.0, 22.0]])  # of its own sample, then of the images
    monkeypatch.setattr(
        "shapeshd.models.projection.run.residual", lambda a, b: np.array(next(residuals))
    )
    arguments = (*QUICK, "--count", 3, "--steps", 3, "--reference", 1, "--recognizer", "none")
    status, output, _ = run("project", checkpoint, DATA, *arguments, "--out", tmp_path / "out")
    assert status == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["limit"] == {"rmse": pytest.approx(limit), "from": source}
    assert named in output


def test_a_folder_of_images_has_residuals_only(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    """The generator's own samples, saved: found again, and nothing is said of factors."""
    made, out = tmp_path / "made", tmp_path / "out"
    assert run("sample", checkpoint, made, "--count", 4, "--seed", 8)[0] == 0
    status, output, _ = run(
        "project",
        checkpoint,
        made,
        "--count",
        4,
        "--steps",
        150,
        "--pool",
        512,
        "--limit",
        10,
        "--out",
        out,
    )
    assert status == 0
    assert "has no known factors" in output
    assert "factor in another bin" not in output
    result = json.loads((out / "result.json").read_text())
    assert result["recognizer"] is None and result["summary"]["wrong_factors"] is None
    assert all(image["factors"] is None for image in result["images"])
    assert result["summary"]["not_generated"] == 0
    assert result["summary"]["rmse"]["median"] < 3


def test_a_size_that_no_recognizer_reads(tmp_path: Path, run: Run) -> None:
    path, out = save_small(tmp_path / "generator.safetensors", size=16), tmp_path / "out"
    arguments = ("project", path, DATA, *QUICK, "--count", 2, "--steps", 3, "--out", out)
    status, output, _ = run(*arguments, "--reference", 0)
    assert status == 0
    assert "factors not compared" in output and "16x16 pixels, too few" in output
    check_refusal(
        run(*arguments[:-1], tmp_path / "b", "--recognizer", "lite"), 2, "too few", tmp_path / "b"
    )


def test_a_given_seed_gives_the_same(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        out = tmp_path / name
        run("project", checkpoint, DATA, *QUICK, "--count", 3, "--steps", 4, "--reference", 1,
            "--seed", seed, "--recognizer", "none", "--out", out)  # fmt: skip
        found.append(((out / "latents.npy").read_bytes(), (out / "pairs.png").read_bytes()))
    assert found[0] == found[1] != found[2]


def test_a_run_of_our_own(tmp_path: Path, run: Run) -> None:
    """What `train` leaves is what `project` reads: the encoder in it is used unasked."""
    folder = tmp_path / "run"
    settings = ("images.size=32", "images.channel_max=8", "images.feature_dim=8", "vae.steps=3",
                "vae.batch=8", "checks.held_out=8", "checks.codes=8", "checks.every=3",
                "checks.final_samples=0", "codes.head_width=8")  # fmt: skip
    changes = [part for setting in settings for part in ("--set", setting)]
    status, _, errors = run(
        "train", "vae", "render:0:40", "--config", "smoke", "--out", folder, *changes
    )
    assert status == 0, errors
    generator, out = folder / "vae" / "generator.safetensors", tmp_path / "out"
    arguments = ("project", generator, "render:0:40", *QUICK, "--count", 2, "--steps", 3)
    status, output, _ = run(*arguments, "--reference", 0, "--out", out, "--json")
    assert status == 0
    values = json.loads(output)
    assert values["encoder"]["path"] == str(folder / "vae" / "encoder.safetensors")
    assert "encoder" not in describe(values)
    run(*arguments, "--reference", 0, "--encoder", "none", "--out", tmp_path / "b")
    assert json.loads((tmp_path / "b" / "result.json").read_text())["encoder"] is None


def test_an_encoder_is_named_by_its_file_or_its_folder(
    checkpoint: Path, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "vae"
    folder.mkdir()
    digest = save_encoder(folder / "encoder.safetensors")
    for number, encoder in enumerate((folder / "encoder.safetensors", folder)):
        status, output, errors = run(
            "project", checkpoint, DATA, *QUICK, "--count", 1, "--steps", 3, "--reference", 0,
            "--recognizer", "none", "--encoder", encoder, "--out", tmp_path / str(number), "--json",
        )  # fmt: skip
        assert status == 0, errors
        named = {"path": str(folder / "encoder.safetensors"), "sha256": digest}
        assert json.loads(output)["encoder"] == named


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", 0], "count must be"),
        (["--count", 41], "40 images, fewer than --count"),
        (["--steps", 2], "steps must be"),
        (["--pool", 5], "pool must be at least"),
        (["--batch", 0], "batch must be"),
        (["--reference", -1], "reference must be"),
        (["--seed", -1], "seed must be"),
        (["--limit", -1], "limit must be above"),
        (["--limit", "nan"], "limit must be"),
        (["--encoder", "none.safetensors"], "no such file"),
        (["--encoder", WEIGHTS], "encoder.safetensors"),
        (["--encoder", __file__], "test_run.py"),
        (["--encoder", WEIGHTS / "lite.safetensors"], "is a recognizer, not"),
        (["--recognizer", "big"], "no such recognizer"),
        (["--device", "tpu"], "cannot be used"),
    ],
)
def test_refused_options(
    checkpoint: Path, tmp_path: Path, run: Run, arguments: list[Any], message: str
) -> None:
    out = tmp_path / "out"
    check_refusal(
        run("project", checkpoint, DATA, "--count", 2, *arguments, "--out", out), 2, message, out
    )


def test_refused_sources(checkpoint: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"

    def refused(generator: object, data: object, message: str, *more: object) -> None:
        check_refusal(run("project", generator, data, "--out", out, *more), 2, message, out)

    refused(tmp_path / "none.safetensors", DATA, "no such file")
    refused(tmp_path, DATA, "is no .safetensors file, such as")
    refused(tmp_path / "model.pt", DATA, "is no .safetensors file, such as")
    refused(WEIGHTS / "lite.safetensors", DATA, "is a recognizer, not a generator")
    refused(checkpoint, tmp_path / "none", "no such file or folder")
    refused(checkpoint, "render:0:0", "count must be")
    made = tmp_path / "made"
    run("sample", checkpoint, made, "--count", 2)
    refused(checkpoint, made, "leave out --recognizer", "--count", 2, "--recognizer", "lite")
    check_refusal(run("project", checkpoint, DATA, "--out", made), 2, "exists already")


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("CUDA out of memory. Tried\nto allocate"), 1, "use a smaller --batch"),
    ],
)
def test_whole_or_not_at_all(
    checkpoint: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch,
    failure: BaseException, status: int, message: str,
) -> None:  # fmt: skip
    def fails(*arguments: Any) -> None:
        raise failure

    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr(Projector, "project", fails)
    out = tmp_path / "out"
    check_refusal(run("project", checkpoint, DATA, "--count", 2, "--out", out), status, message)
    monkeypatch.undo()
    monkeypatch.setattr("shapeshd.models.projection.report.save_sheet", fails)
    short = ("--count", 2, "--steps", 3, "--reference", 0)
    run("project", checkpoint, DATA, *QUICK, *short, "--out", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_default_folder(
    checkpoint: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "gan").mkdir(parents=True)
    save_small(tmp_path / "run" / "gan" / "generator.safetensors")
    run("project", "run/gan/generator.safetensors", DATA, *QUICK, "--count", 1, "--steps", 3,
        "--reference", 0, "--recognizer", "none")  # fmt: skip
    assert (tmp_path / "project-run-gan-generator" / "pairs.png").exists()
