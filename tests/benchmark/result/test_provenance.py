"""The scene of a result: digests by which results can be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from shapeshd.benchmark.recognizer.card import RecognizerCard
from shapeshd.benchmark.recognizer.data import origin_of
from shapeshd.benchmark.recognizer.find import SHIPPED
from shapeshd.benchmark.recognizer.recognizer import load_recognizer
from shapeshd.benchmark.result.provenance import other_scene, scene_of
from shapeshd.benchmark.sources import open_source
from shapeshd.benchmark.sources.base import Source
from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.dataset.shapes_hd import open_dataset
from shapeshd.dataset.shards import Provenance
from shapeshd.engines.engine import ENGINES, engine_named
from shapeshd.scene.version import SCENE_VERSION
from tests.support.noise_dataset import write_noise_dataset


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
        renderer = scene_of(load_recognizer(name).card)["renderer"]
        assert renderer in ("shapeshd twin 1", "shapeshd ray tracer 1")  # one thing: it was renamed


def test_another_scene_is_named(tmp_path: Path) -> None:
    write_noise_dataset(tmp_path / "old", 6)  # of a scene whose digest is 0000...
    said = other_scene(open_source(str(tmp_path / "old")))
    assert said is not None
    assert "scene 000000000000" in said
    assert engine_named("povray").scene_sha256()[:12] in said
    assert other_scene(open_source("render:0:6,size=64")) is None


@pytest.mark.parametrize("engine", ENGINES)
def test_the_installed_scene_is_not_named(engine: str) -> None:
    scene = engine_named(engine).scene_sha256()
    provenance = Provenance("uniform", 0, 64, 0.3, 3, engine, "a renderer", scene, 10, "gzip")
    assert other_scene(cast(Source, SimpleNamespace(provenance=provenance))) is None
    other = replace(provenance, engine="another one")
    said = other_scene(cast(Source, SimpleNamespace(provenance=other)))
    assert said is not None
    assert "a renderer" in said
