"""The scene and the source file of a result: digests by which results can be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

from shapeshd.benchmark.recognizer.card import RecognizerCard
from shapeshd.benchmark.recognizer.data import origin_of
from shapeshd.benchmark.recognizer.find import SHIPPED
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.result.provenance import content_digest, scene_of
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.engines.engine import ENGINES, engine_named


def test_the_scene_of_a_recognizer(tmp_path: Path) -> None:
    spec = RenderSpec(3, 10, 64)
    origin = origin_of(open_dataset(spec), spec).to_json()
    installed = {engine: engine_named(engine).scene_sha256() for engine in ENGINES}
    assert origin["scene_sha256"] == installed["torch"]
    for digest, expected in (
        *((digest, True) for digest in installed.values()),
        ("22" * 32, False),
        (None, None),
    ):
        card = {"training": {"data": {**origin, "scene_sha256": digest}}}
        found = scene_of(RecognizerCard.read(card))
        assert (found["sha256"], found["installed"]) == (installed["torch"], expected)
    assert scene_of(RecognizerCard())["trained_on"] is None
    for name in SHIPPED:
        assert scene_of(load_recognizer(name).card)["renderer"] == "shapeshd twin 1"


def test_the_digest_of_a_source_is_that_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "g.py"
    file.write_bytes(b"def make(z): ...")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def found(name: object) -> str | None:
        return content_digest(SimpleNamespace(name=str(name)))  # type: ignore[arg-type]

    assert found(file) == found(f"{file}:make") == digest
    assert found(tmp_path) is None  # a folder of images would be
    assert found("render:0:10") is None
    (tmp_path / "model_index.json").write_text("{}")
    before = found(tmp_path)
    assert before != digest
    file.write_bytes(b"other weights")
    assert found(tmp_path) != before
    file.write_bytes(b"def make(z): ...")
    assert found(tmp_path) == before
    file.rename(tmp_path / "h.py")
    assert found(tmp_path) not in (None, before)


def test_tar_files_are_told_from_others_of_their_names(tmp_path: Path) -> None:
    def found() -> str | None:
        return content_digest(SimpleNamespace(name=f"{tmp_path}/s-{{0..1}}.tar"))  # type: ignore[arg-type]

    assert found() is None
    for number in range(2):
        (tmp_path / f"s-{number}.tar").write_bytes(b"images")
    before = found()
    assert before is not None
    (tmp_path / "s-1.tar").write_bytes(b"others")
    assert found() not in (None, before)
