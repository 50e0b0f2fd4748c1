"""Writes the scene of an image in POV-Ray's scene description language (SDL).

The constants of the scene stand in ``povray_templates/constants.inc`` and its parts (room,
light, camera, objects) in the other templates. A scene composes those parts with vapory.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np

with warnings.catch_warnings():
    # vapory 0.1.2 has string escapes that newer Pythons warn of each time they compile it.
    warnings.simplefilter("ignore")
    import vapory

from .constants import hue_to_srgb, template

_INCLUDE = re.compile(r'^#include "(\w+\.inc)"\n', re.MULTILINE)


class Object(vapory.POVRayElement):
    """SDL's ``object { NAME ... }``: a part that the templates declare."""


@cache
def preamble() -> str:
    """Return everything that all images share, as one SDL text without includes.

    POV-Ray looks for an include in every library folder, for every frame; one flat text
    saves a millisecond of each.
    """
    head, _, _ = template("scene.pov").partition("#ifndef")
    return _INCLUDE.sub(lambda match: template(match[1]), head)


def describe(factors: Sequence[float]) -> str:
    """Compose one image's scene from the templates' parts, as SDL text.

    Args:
        factors: six numbers in the order of `FACTORS`, inside their ranges.
    """
    floor, wall, thing, scale, shape, orientation = (float(value) for value in factors)
    colours = hue_to_srgb(np.array((floor, wall, thing))).tolist()
    parts = [
        vapory.Camera("Orbit_Camera", "rotate", [0.0, -orientation, 0.0]),
        Object("Floor", _pigment(colours[0])),
        Object("Walls", _pigment(colours[1])),
        Object(f"Shapes[{int(shape)}]", "scale", scale, _pigment(colours[2])),
    ]
    return "\n".join(str(part) for part in parts) + "\n"


def _pigment(colour: list[float]) -> vapory.Pigment:
    return vapory.Pigment("srgb", colour)


def standalone(factors: Sequence[float]) -> str:
    """Return one image's whole scene as a file that POV-Ray renders by itself."""
    return preamble() + describe(factors)
