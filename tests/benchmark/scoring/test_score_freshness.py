"""A finished score is not taken for that of images, weights or code that have changed since."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shapeshd.benchmark.result.read import read_result
from shapeshd.benchmark.scoring import identity
from shapeshd.benchmark.scoring.identity import difference
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.scoring.tally import Tally
from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.cli import score_run
from shapeshd.errors import UsageError
from tests.support.fake_scores import ReadsWritten, Written, written_images

FEW, SIDE = 5_761, 32
pytestmark = pytest.mark.usefixtures("no_page")


def scored(out: Path, source: Any = None, samples: int = FEW, **settings: Any) -> Any:
    chosen = ScoreSettings(samples=samples, **settings)
    return score_source(source or Written(), ReadsWritten(), out, chosen)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shapeshd.benchmark.scoring.score.write_report", lambda *_: None)
        scored(out)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished score, to be changed."""
    return shutil.copytree(finished, tmp_path / "out")


@pytest.mark.parametrize("samples", [FEW, 6_000])
def test_other_images_of_the_same_name_are_refused(out: Path, samples: int) -> None:
    with pytest.raises(UsageError, match="sample 0 is another") as stop:
        scored(out, Written(seed=1), samples)
    assert "again" in str(stop.value)
    assert scored(out).samples == FEW  # nothing was touched


def test_images_that_change_later_are_refused(out: Path) -> None:
    class Later(Written):
        def bins(self, start: int, stop: int) -> Any:
            found = super().bins(start, stop)
            return np.where(np.arange(start, stop) >= 4_000, found // 2, found)

    with pytest.raises(UsageError, match="sample 4,096 is another"):
        scored(out, Later())


def test_rounding_is_no_other_image(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Rounded(Written):
        def images(self, start: int, stop: int) -> Any:
            images = super().images(start, stop)
            images[:, 0, 0] ^= 1
            return images

    assert scored(out, Rounded()).samples == FEW
    assert "by rounding" in capsys.readouterr().err


def test_again_begins_anew_whatever_lies_there(out: Path) -> None:
    earlier = out / ".work" / "image-check" / "earlier"
    earlier.parent.mkdir(exist_ok=True)
    earlier.touch()
    result = scored(out, Written(seed=1, name="another"), 6_000, again=True)
    assert not earlier.exists()  # nor is what was kept of the other source's images
    assert result.source.name == "another"
    assert not result.run.resumed
    counts = np.bincount(Written(seed=1).bins(0, 6_000), minlength=result.fit.bins)
    np.testing.assert_array_equal(np.load(out / "histogram.npy"), counts)
    assert len(list((out / ".work").glob("tally-*.npz"))) == 1


def test_again_deletes_nothing_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        scored(tmp_path, again=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_score_of_an_earlier_version_goes_on(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = (out / ".work").glob("tally-*.npz")
    _, card = Tally.load(path)
    for name in ("files", "content", "code"):
        card["settings"].pop(name)
    card["settings"] |= {"content": None, "depends": None}
    del card["found"]
    with np.load(path) as file:
        kept = {name: file[name] for name in ("counts", "first_seen", "filled")}
    np.savez(path, **kept, card=np.frombuffer(json.dumps(card).encode(), np.uint8))
    assert scored(out, samples=6_000).samples == 6_000
    assert "earlier version" in capsys.readouterr().err
    with pytest.raises(UsageError, match="seed"):
        scored(out, samples=6_000, seed=5)


@pytest.mark.parametrize("samples", [FEW, 6_000])
@pytest.mark.parametrize("recorded", [True, False])
def test_another_version_of_the_protocol_is_refused(
    out: Path, samples: int, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is finished or not; a folder that records none is of version 1."""
    (path,) = (out / ".work").glob("tally-*.npz")
    tally, card = Tally.load(path)
    assert card["settings"]["protocol_version"] == 1
    if not recorded:
        del card["settings"]["protocol_version"]
        tally.save(path, card)
    with monkeypatch.context() as patch:
        patch.setattr(identity, "PROTOCOL_VERSION", 2)
        with pytest.raises(UsageError, match="version 1 of the protocol, not 2") as stop:
            scored(out, samples=samples)
        assert "again" in str(stop.value)
        assert "\n" not in str(stop.value)
        assert scored(out, samples=samples, again=True).samples == samples
        assert scored(out, samples=samples).samples == samples
    with pytest.raises(UsageError, match="version 2 of the protocol, not 1"):
        scored(out, samples=samples)


def test_a_folder_that_records_no_protocol_is_of_the_first_version(out: Path) -> None:
    (path,) = (out / ".work").glob("tally-*.npz")
    tally, card = Tally.load(path)
    del card["settings"]["protocol_version"]
    tally.save(path, card)
    assert scored(out).samples == FEW
    assert scored(out, samples=6_000).samples == 6_000


def test_the_result_of_another_version_of_the_program_is_built_anew(out: Path) -> None:
    path = out / "result.json"
    before = read_result(path)
    written = json.loads(path.read_text())
    written["versions"]["shapeshd"] = "0.0.1"
    written["verdict"]["text"] = "As another version said it."
    path.write_text(json.dumps(written))
    source = Written()
    after = scored(out, source)
    assert after == read_result(path)
    unlike = {"created": None}  # but for the time of day
    assert after.to_json() | unlike == before.to_json() | unlike
    assert all(stop - start <= 8 for start, stop in source.asked)  # none is counted again
    written = path.read_text()
    assert scored(out) == after
    assert path.read_text() == written


def test_a_source_that_never_gives_the_same_has_its_result_built_anew(tmp_path: Path) -> None:
    class Never(Written):
        def images(self, start: int, stop: int) -> Any:
            self.seed += 1
            return super().images(start, stop)

    first = scored(tmp_path, Never())
    assert not first.reproducibility.same
    written = json.loads((tmp_path / "result.json").read_text())
    written["versions"]["shapeshd"] = "0.0.1"
    (tmp_path / "result.json").write_text(json.dumps(written))
    assert scored(tmp_path, Never()).fit == first.fit


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "images"
    folder.mkdir()
    images = written_images(Written().bins(0, FEW), SIDE).permute(0, 2, 3, 1).numpy()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:05}.bmp")
    return folder


def test_a_folder_whose_images_were_replaced(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    """By the command line: 5,761 images, then as many copies of one, with the same names."""
    monkeypatch.setattr(score_run, "load_recognizer", lambda *_: ReadsWritten(SIDE))
    folder = pictures
    command = ("score", folder, "--out", tmp_path / "out", "--device", "cpu", "--json")
    status, text, said = run(*command)
    assert status == 0, said
    first = json.loads(text)
    assert first["verdict"]["passed"]
    assert run(*command)[1] == text
    one = (folder / "00000.bmp").read_bytes()
    for path in folder.iterdir():
        path.write_bytes(one)
    status, text, said = run(*command)
    assert (status, text) == (2, "")
    assert "was counted of other files" in said
    assert "--again" in said
    status, text, _ = run(*command, "--again")
    assert status == 0
    second = json.loads(text)
    assert second["fit"]["divergence"]["value"] > 1e5
    assert second["repeats"]["copies"] == FEW - 1
    assert second["verdict"]["text"].startswith("Equal images: 5,760 of 5,761")
    assert second["source"]["content"] != first["source"]["content"]


def test_a_file_that_code_depends_on(tmp_path: Path) -> None:
    weights, out = tmp_path / "w.pt", tmp_path / "out"
    weights.write_text("first")
    options = SourceOptions(depends=(str(weights),))
    scored(out, options=options)
    scored(out, options=options)
    with pytest.raises(UsageError, match=r"w\.pt.*not given now"):
        scored(out)
    weights.write_text("other")
    with pytest.raises(UsageError, match=r"another .*w\.pt.*again"):
        scored(out, options=options)
    assert scored(out, options=options, again=True).samples == FEW


def test_what_it_depends_on_must_be_there_and_mean_something(tmp_path: Path) -> None:
    (tmp_path / "gen.py").write_text("def make(seeds): ...")
    with pytest.raises(UsageError, match="depends"):
        open_source(
            f"{tmp_path}/gen.py:make", trust=True, options=SourceOptions(depends=("nosuch.pt",))
        )
    with pytest.raises(UsageError, match="depends"):
        open_source("render:0:9", options=SourceOptions(depends=("gen.py",)))


SAME: dict[str, Any] = {
    "source": "images",
    "files": {"files": 9, "names": "a", "sizes": "b", "times": "c", "contents": "d"},
    "content": "e",
    "code": {"net.py": "f"},
    "seed": 0,
    "protocol_version": 1,
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"files": {**SAME["files"], "files": 8, "names": "z"}}, "8 before, 9 now"),
        ({"files": {**SAME["files"], "names": "z"}}, "names"),
        ({"files": {**SAME["files"], "sizes": "z"}}, "sizes"),
        ({"files": {**SAME["files"], "times": "z", "contents": "z"}}, "contents"),
        ({"files": {**SAME["files"], "contents": "z"}}, "contents"),
        ({"content": "z"}, "images has changed"),
        ({"code": {"net.py": "z"}}, "net.py"),
        ({"code": {}}, "net.py"),
        ({"code": {"net.py": "f", "more.py": "z"}}, "more.py"),
        ({"seed": 3}, "seed 3"),
        ({"protocol_version": 3}, "version 3 of the protocol, not 1"),
    ],
    ids=str,
)
def test_the_difference_is_named(change: dict[str, Any], named: str) -> None:
    assert difference(SAME, SAME) is None
    found = difference({**SAME, **change}, SAME)
    assert found is not None
    assert named in found
    assert "again" in found


def test_times_of_files_alone_are_no_difference() -> None:
    touched = {**SAME["files"], "times": "z"}
    assert difference({**SAME, "files": touched}, SAME) is None
    large = {"files": 1, "contents": "d"}
    before, now = ({**SAME, "files": large, "content": f"300 bytes of {time}"} for time in (1, 2))
    assert difference(before, now) is None
    assert difference({**before, "content": "301 bytes of 1"}, now) is not None
    assert difference({**before, "files": {**large, "contents": "z"}}, now) is not None


def test_what_was_not_recorded_differs_in_nothing() -> None:
    old = {"source": "images", "content": None, "seed": 0}
    assert difference(old, SAME) is None
    assert difference(old, {**SAME, "range": "auto"}) is None
    assert "range" in str(difference(old, {**SAME, "range": "unit"}))
