"""The scene of a result: digests by which results can be compared."""

from __future__ import annotations

from pathlib import Path

from shapeshd.benchmark.recognizer.card import RecognizerCard
from shapeshd.benchmark.recognizer.data import origin_of
from shapeshd.benchmark.recognizer.find import SHIPPED
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.result.provenance import scene_of
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.engines.engine import ENGINES, engine_named
from shapeshd.scene.version import SCENE_VERSION


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
        assert found["version"] == (None if expected is False else SCENE_VERSION)
    assert scene_of(RecognizerCard())["trained_on"] is None
    for name in SHIPPED:
        assert scene_of(load_recognizer(name).card)["renderer"] == "shapeshd twin 1"
