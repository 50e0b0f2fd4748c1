"""`preview`: which images stand where in the picture, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image as PILImage

from shapeshd.dataset.contact_sheet import draw_sheet, save_sheet
from shapeshd.dataset.preview import SWEEP_DEFAULTS, Selection, sweep_factors
from shapeshd.engines.povray import render_images
from shapeshd.errors import UsageError
from shapeshd.factors import FACTORS, NAMES, check_factors, uniform_factors

MARGIN, GAP = 16, 8  # of a sheet

Run = Callable[..., tuple[int, str, str]]


def pixels(path: Path) -> Any:
    with PILImage.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def cell(sheet: Any, row: int, column: int, size: int) -> Any:
    """Cut an image out of a sheet without captions."""
    top, left = (MARGIN + place * (size + GAP) for place in (row, column))
    return sheet[top : top + size, left : left + size]


def stored(dataset: Path) -> Any:
    with h5py.File(dataset / "dataset.h5") as file:
        return file["images"][()]


def write_file(path: Path, images: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["images"] = images
        file["labels"] = uniform_factors(0, 0, len(images))
    return path


def test_images_stand_in_order(rendered: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out.png"
    status, output, _ = run("preview", rendered, out, "--columns", 7, "--start", 15, "--json")
    result = json.loads(output)
    assert status == 0
    assert result["indices"] == list(range(15, 50)) and result["available"] == 50
    sheet, images = pixels(out), stored(rendered)
    assert sheet.shape[:2] == (result["height"], result["width"])
    assert sheet.shape == (2 * MARGIN + 5 * 40 - GAP, 2 * MARGIN + 7 * 40 - GAP, 3)
    for place, index in enumerate(range(15, 50)):
        np.testing.assert_array_equal(cell(sheet, place // 7, place % 7, 32), images[index])
    assert (sheet[:MARGIN] == 255).all() and (sheet[:, -MARGIN:] == 255).all()


def test_random_images_are_drawn_by_the_seed(rendered: Path, tmp_path: Path, run: Run) -> None:
    def drawn(*options: object) -> Any:
        arguments = ("--random", "--count", 10, "--json", *options)
        return json.loads(run("preview", rendered, tmp_path / "out.png", *arguments)[1])["indices"]

    first = drawn()
    assert len(set(first)) == 10 and set(first) <= set(range(50)) and first == sorted(first)
    assert first == drawn("--seed", 0) != drawn("--seed", 1)
    assert min(drawn("--start", 40)) == 40  # all ten that there are from there on
    drawn()
    sheet = pixels(tmp_path / "out.png")
    np.testing.assert_array_equal(cell(sheet, 1, 1, 32), stored(rendered)[first[9]])


def test_an_incomplete_dataset_shows_what_it_has(rendered: Path, tmp_path: Path, run: Run) -> None:
    data = shutil.copytree(rendered, tmp_path / "data")
    (data / "shards" / "shard-000001.h5").unlink()
    out = tmp_path / "out.png"
    result = json.loads(run("preview", data, out, "--start", 18, "--json")[1])
    assert result["indices"] == [18, 19, *range(40, 50)] and result["available"] == 30
    np.testing.assert_array_equal(cell(pixels(out), 0, 2, 32), stored(rendered)[40])


def test_a_file_like_3dshapes_with_images_that_are_not_square(tmp_path: Path, run: Run) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
    path, out = write_file(tmp_path / "3dshapes.h5", images), tmp_path / "out.png"
    assert run("preview", path, out, "--columns", 2)[0] == 0
    sheet = pixels(out)
    assert sheet.shape == (2 * MARGIN + 3 * 16 - GAP, 2 * MARGIN + 2 * 20 - GAP, 3)
    third = sheet[MARGIN + 16 : MARGIN + 24, MARGIN : MARGIN + 12]
    np.testing.assert_array_equal(third, images[2])
    assert run("preview", path, out, "--columns", 2, "--thumbnail", 24)[0] == 0
    sheet = pixels(out)  # twice as large: every pixel four times
    twice = images[0].repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(sheet[MARGIN : MARGIN + 16, MARGIN : MARGIN + 24], twice)


def test_a_thumbnail_is_an_average(tmp_path: Path) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 200
    small = np.asarray(draw_sheet([stripes], (32, 32), [[()]], thumbnail=8))
    assert abs(small[MARGIN + 2 : MARGIN + 6, MARGIN + 2 : MARGIN + 6].astype(int) - 100).max() < 8


def test_captions_make_room_and_leave_the_images(rendered: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out.png"
    assert run("preview", rendered, out, "--columns", 1, "--count", 2, "--labels")[0] == 0
    sheet, images = pixels(out), stored(rendered)
    found = [
        (top, left)
        for top in range(sheet.shape[0] - 32)
        for left in range(sheet.shape[1] - 32)
        if np.array_equal(sheet[top, left : left + 32], images[0][0])
        and np.array_equal(sheet[top : top + 32, left : left + 32], images[0])
    ]
    assert len(found) == 1
    top, left = found[0]
    below = sheet[top + 32 : top + 50, MARGIN:-MARGIN].astype(int)
    assert (below.min(axis=(1, 2)) < 100).sum() >= 6  # a line of dark text
    assert left + 16 == pytest.approx(MARGIN + (2 * left + 32 - 2 * MARGIN) / 2, abs=1)
    assert run("preview", rendered, tmp_path / "bare.png", "--columns", 1, "--count", 2)[0] == 0
    assert pixels(tmp_path / "bare.png").shape[0] < sheet.shape[0]


def test_a_table_is_rendered(tmp_path: Path, run: Run) -> None:
    factors = uniform_factors(9, 0, 6)
    lines = [",".join(NAMES), *(",".join(map(repr, row)) for row in factors.tolist())]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    out = tmp_path / "out.png"
    options = ("--factors", tmp_path / "table.csv", "--size", 24, "--count", 3, "--start", 2)
    status, output, _ = run("preview", *options, "--columns", 2, out)
    assert status == 0 and output.startswith(f"{out}: 3 of 6 images")
    expected = render_images(factors[2:5], 24)
    for place in range(3):
        np.testing.assert_array_equal(cell(pixels(out), place // 2, place % 2, 24), expected[place])


def test_a_sweep_changes_one_factor_a_row() -> None:
    rows = sweep_factors(5)
    for column, (factor, row) in enumerate(zip(FACTORS, rows, strict=True)):
        check_factors(row)
        others = [other for other in range(6) if other != column]
        assert (row[:, others] == np.array(SWEEP_DEFAULTS)[others]).all()
        values = row[:, column].tolist()
        assert len(set(values)) == len(values)
        if factor.topology == "circle":
            assert values == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
        elif factor.topology == "discrete":
            assert values == [0, 1, 2, 3]
        else:
            assert (values[0], values[-1], len(values)) == (factor.low, factor.high, 5)


def test_a_sweep_is_drawn_with_its_names(tmp_path: Path, run: Run) -> None:
    out = tmp_path / "sweep.png"
    status, _, message = run("preview", "--sweep", "--size", 16, "--columns", 3, out)
    assert status == 0 and "render" in message
    sheet = pixels(out)
    expected = render_images(np.concatenate(sweep_factors(3)), 16)

    def places(image: Any) -> list[tuple[int, int]]:
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (16, 16, 3))[:, :, 0]
        top_left = np.argwhere((windows == image).all(axis=(2, 3, 4)))
        return [(int(top), int(left)) for top, left in top_left]

    tops, start = [], 0
    for row in sweep_factors(3):
        top = {top for image in expected[start : start + len(row)] for top, _ in places(image)}
        tops.append(top)
        start += len(row)
    assert all(tops), "every image of the sweep is in the picture"
    lefts = sorted({left for image in expected[:3] for _, left in places(image)})
    names = sheet[:, MARGIN : lefts[0] - GAP].astype(int)
    assert (names.min(axis=(1, 2)) < 100).sum() >= 6 * 6  # dark text beside each of six rows


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "PNG"])
def test_formats(rendered: Path, tmp_path: Path, suffix: str, run: Run) -> None:
    out = tmp_path / f"out.{suffix}"
    assert run("preview", rendered, out, "--count", 1)[0] == 0
    with PILImage.open(out) as picture:
        assert picture.format == {"jpg": "JPEG", "webp": "WEBP"}.get(
            suffix, "JPEG" if suffix == "jpeg" else "PNG"
        )
    found = cell(pixels(out), 0, 0, 32).astype(int)
    tolerance = 60 if suffix.startswith("jp") else 0
    assert abs(found - stored(rendered)[0]).max() <= tolerance
    assert [path.name for path in tmp_path.iterdir()] == [out.name]  # no temporary file


def test_a_picture_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out.jpg"
    out.write_text("old")
    with pytest.raises(UsageError, match=r"use \.png"):
        save_sheet(PILImage.new("RGB", (70_000, 1)), out)
    assert out.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("", "OUT.png, but 0"),
        ("out.png", "OUT.png, but 1"),
        ("data out.png more", "but 3 paths"),
        ("--sweep data out.png", "--sweep takes OUT.png, but 2"),
        ("--factors t.csv data out.png", "--factors takes OUT.png, but 2"),
        ("--factors t.csv --sweep out.png", "do not go together"),
        ("data out.png --size 32", "--size is for"),
        ("data out.png --seed 0", "--seed goes with --random"),
        ("--sweep out.png --count 3", "--count has no meaning"),
        ("--sweep out.png --start 0", "--start has no meaning"),
        ("--sweep out.png --labels", "--labels has no meaning"),
        ("--sweep out.png --size 4", "size"),
        ("--sweep out.png --columns 0", "--columns"),
        ("data out.png --thumbnail 0", "--thumbnail"),
        ("data out.png --count 0", "--count"),
        ("data out.png --start -1", "--start"),
        ("data out.png --start 50", "the index 50"),
        ("data out.png --random --seed -1", "seed must be"),
        ("data out.gif", "must end in .png"),
        ("data out", "must end in .png"),
        ("data none/out.png", "there is no folder"),
        ("data folder.png", "is a folder"),
        ("data out.png --thumbnail 9000", "the picture would have"),
        ("none out.png", "no such file"),
        ("--factors none.csv out.png", "no such file"),
    ],
)
def test_wrong_usage(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, arguments: str,
    said: str,
) -> None:  # fmt: skip
    (tmp_path / "data").symlink_to(rendered)
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    status, output, message = run("preview", *arguments.split())
    assert (status, output) == (2, "")
    assert said in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "folder.png"]


def test_a_choice_is_among_what_there_is() -> None:
    available = np.array([2, 3, 7, 11])
    assert Selection(count=2).pick(available).tolist() == [2, 3]
    assert Selection(count=9, start=4).pick(available).tolist() == [7, 11]
    assert Selection(count=9, seed=0).pick(available).tolist() == [2, 3, 7, 11]
    with pytest.raises(UsageError, match="there are none"):
        Selection().pick(np.array([], dtype=np.int64))
