"""Records the scene of a result, so that results can be compared."""

from __future__ import annotations

from typing import Any

from shapeshd.benchmark.recognizer.card import RecognizerCard
from shapeshd.benchmark.sources.base import Source
from shapeshd.engines.engine import ENGINES, engine_named, is_scene_installed
from shapeshd.scene.version import scene_version

_TWIN = "torch"


def other_scene(source: Source) -> str | None:
    """Say that a source records another scene than the installed one; None if it does not.

    Its images then differ from their re-renders by that, and are read by a network that was trained
    on the installed one.
    """
    made = getattr(source, "provenance", None)  # of a dataset, see `DatasetImages`
    if made is None or is_scene_installed(made.engine, made.scene_sha256):
        return None
    return (
        f"Another version of the scene: the images were rendered by {made.renderer} from the scene "
        f"{made.scene_sha256[:12]}, and the installed one is "
        f"{engine_named(made.engine).scene_sha256()[:12]}."
        if made.engine in ENGINES
        else f"Another scene: the images were rendered by {made.renderer}, which is not installed."
    )


def scene_of(card: RecognizerCard) -> dict[str, Any]:
    """Return the scene of which a result speaks, ready for JSON.

    Args:
        card: of the recognizer.

    Returns:
        ``sha256``: digest of the installed scene, as the ray tracer traces it; and of the
        recognizer's training images ``renderer``, ``trained_on``, their scene's digest, and
        ``installed``, whether that is the installed one (None where the card does not say), and
        ``version``, the `scene_version` of that scene, else of the installed one.
    """
    data = card.trained_on
    trained_on = None if data is None else data.scene_sha256
    installed = engine_named(_TWIN).scene_sha256()
    return {
        "sha256": installed,
        "renderer": None if data is None else data.renderer,
        "trained_on": trained_on,
        "installed": None
        if trained_on is None
        else any(is_scene_installed(engine, trained_on) for engine in ENGINES),
        "version": scene_version(trained_on or installed),
    }
