"""Factors -> the scene that POV-Ray renders.

The numbers of the scene stand in ``povray_templates/constants.inc`` and its parts (room,
light, camera, objects) in the other templates. A scene composes those parts with vapory.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import cache
from importlib import resources

import numpy as np

with warnings.catch_warnings():
    # vapory 0.1.2 has string escapes that newer Pythons warn of each time they compile it.
    warnings.simplefilter("ignore")
    import vapory

from shapeshd.errors import ShapesHDError
from shapeshd.factors import FloatArray

_DECLARE = re.compile(r"#declare\s+(\w+)\s*=\s*(<[^>]*>|[^;<]+);")
_INCLUDE = re.compile(r'^#include "(\w+\.inc)"\n', re.MULTILINE)


class Object(vapory.POVRayElement):
    """SDL's ``object { NAME ... }``: a part that the templates declare."""


def template(name: str) -> str:
    """Return the text of the template called `name`."""
    return (resources.files("shapeshd.povray_templates") / name).read_text(encoding="utf-8")


@cache
def constants() -> dict[str, float | tuple[float, ...]]:
    """Read the numbers of the scene: name -> number or vector, from ``constants.inc``."""
    found: dict[str, float | tuple[float, ...]] = {}
    for line in template("constants.inc").splitlines():
        code = line.split("//")[0].strip()
        if not code:
            continue
        match = _DECLARE.fullmatch(code)
        if match is None:
            raise ShapesHDError(f"constants.inc: not of the form #declare NAME = VALUE;: {line}")
        name, value = match.groups()
        if value.startswith("<"):
            found[name] = tuple(float(part) for part in value[1:-1].split(","))
        else:
            found[name] = float(value)
    return found


@cache
def preamble() -> str:
    """Return everything that all images share, as one SDL text without includes.

    POV-Ray looks for an include in every library folder, for every frame; one flat text
    saves a millisecond of each.
    """
    head, _, _ = template("scene.pov").partition("#ifndef")
    return _INCLUDE.sub(lambda match: template(match[1]), head)


def hue_to_srgb(hues: FloatArray) -> FloatArray:
    """Convert fully saturated HSV hues (any shape, turns) to sRGB (..., 3) in [0, 1]."""
    offsets = np.array([0.0, 4.0, 2.0])
    ramp = np.abs(np.mod(6.0 * np.asarray(hues)[..., None] + offsets, 6.0) - 3.0) - 1.0
    return np.clip(ramp, 0.0, 1.0)


def describe(factors: Sequence[float]) -> str:
    """Compose one image's scene from the templates' parts, as SDL text.

    Args:
        factors: six numbers in the order of `FACTORS`, inside their ranges.
    """
    floor, wall, thing, scale, shape, orientation = (float(value) for value in factors)
    parts = [
        vapory.Camera("Orbit_Camera", "rotate", [0.0, -orientation, 0.0]),
        Object("Floor", _pigment(floor)),
        Object("Walls", _pigment(wall)),
        Object(f"Shapes[{int(shape)}]", "scale", scale, _pigment(thing)),
    ]
    return "\n".join(str(part) for part in parts) + "\n"


def _pigment(hue: float) -> vapory.Pigment:
    return vapory.Pigment("srgb", [float(channel) for channel in hue_to_srgb(np.array(hue))])


def standalone(factors: Sequence[float]) -> str:
    """Return one image's whole scene as a file that POV-Ray renders by itself."""
    return preamble() + describe(factors)
