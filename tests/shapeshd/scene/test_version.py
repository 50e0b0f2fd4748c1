"""The version of the scene, by its digest."""

from __future__ import annotations

import pytest

from shapeshd.engines.engine import ENGINES, engine_named
from shapeshd.scene.version import SCENE_VERSION, scene_version


@pytest.mark.parametrize("engine", ENGINES)
def test_the_installed_scene_has_a_version(engine: str) -> None:
    """Who changes the scene adds its digests to `_VERSIONS`.

    With the same version if no image changes by more than pixels at edges, else with a new one.
    """
    assert scene_version(engine_named(engine).scene_sha256()) == SCENE_VERSION


def test_another_scene_has_none() -> None:
    assert scene_version("0" * 64) is None
    assert scene_version(None) is None
