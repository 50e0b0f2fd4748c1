"""The constants and colours of the scene, read from the templates of POV-Ray.

``povray_templates/constants.inc`` is their only home: POV-Ray includes it, and Python reads it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from shapeshd.errors import ShapesHDError
from shapeshd.factors import FACTORS, NAMES, FloatArray

MAX_ORIENTATION = max(abs(FACTORS[-1].low), abs(FACTORS[-1].high))
"""Degrees that the camera turns to either side, at most."""

_DECLARE = re.compile(r"#declare\s+(\w+)\s*=\s*(<[^>]*>|[^;<]+);")
_LARGEST = FACTORS[NAMES.index("scale")].high


def template(name: str) -> str:
    """Return the text of the template called `name`."""
    return (resources.files("shapeshd.povray_templates") / name).read_text(encoding="utf-8")


@cache
def read_constants() -> dict[str, float | tuple[float, ...]]:
    """Read ``constants.inc``: name -> number or vector.

    Raises:
        ShapesHDError: naming a line that is no declaration of a constant.
    """
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


@dataclass(frozen=True)
class SceneConstants:
    """The constants that the ray tracer's formulas need, with lengths as in ``constants.inc``.

    Args:
        room: half the room's width.
        wall_height: of the walls.
        distance: of the camera from the object's axis.
        height: of the camera.
        tangent: of half the camera's angle.
        light: position of the light.
        light_colour: linear RGB.
        ambient: share of a surface's colour that needs no light.
        diffuse: share that light adds where it falls straight.
        sky: sRGB in [0, 1].
        radius: of all objects at scale 1; half the cube's side.
        cylinder_height: at scale 1.
        capsule_height: at scale 1.

    Raises:
        ShapesHDError: if the formulas do not cover such a scene.
    """

    room: float
    wall_height: float
    distance: float
    height: float
    tangent: float
    light: tuple[float, float, float]
    light_colour: tuple[float, float, float]
    ambient: float
    diffuse: float
    sky: tuple[float, float, float]
    radius: float
    cylinder_height: float
    capsule_height: float

    def __post_init__(self) -> None:
        widest = math.degrees(math.atan(self.tangent)) + MAX_ORIENTATION
        reach = _LARGEST * math.sqrt(2) * self.radius
        top = _LARGEST * max(self.tops)
        wrong = {
            "the camera must stand inside the room": self.distance >= self.room,
            "the camera must not see past the room's open front": widest >= 90,
            "the camera must stand below the top of the walls": self.height >= self.wall_height,
            "the camera must stand above the floor": self.height <= 0,
            "the largest object must fit between camera and axis": reach >= self.distance,
            "the light must hang above the walls and the largest object": self.light[1]
            <= max(top, self.wall_height),
            "a capsule must be at least as high as wide": self.capsule_height < 2 * self.radius,
        }
        for rule, broken in wrong.items():
            if broken:
                raise ShapesHDError(f"constants.inc: {rule}, else only POV-Ray can render it")

    @property
    def tops(self) -> tuple[float, float, float, float]:
        """Height of each of `SHAPES` at scale 1."""
        return 2 * self.radius, self.cylinder_height, 2 * self.radius, self.capsule_height


@cache
def scene_constants() -> SceneConstants:
    """Return the constants of the installed scene; errors as `SceneConstants`."""
    given: Any = read_constants()
    return SceneConstants(
        room=given["ROOM_HALF_WIDTH"],
        wall_height=given["WALL_HEIGHT"],
        distance=given["CAMERA_DISTANCE"],
        height=given["CAMERA_HEIGHT"],
        tangent=math.tan(math.radians(given["CAMERA_ANGLE"]) / 2),
        light=given["LIGHT_POSITION"],
        light_colour=given["LIGHT_COLOUR"],
        ambient=given["AMBIENT"],
        diffuse=given["DIFFUSE"],
        sky=given["SKY_COLOUR"],
        radius=given["OBJECT_RADIUS"],
        cylinder_height=given["CYLINDER_HEIGHT"],
        capsule_height=given["CAPSULE_HEIGHT"],
    )


def hue_to_srgb(hues: FloatArray) -> FloatArray:
    """Convert fully saturated HSV hues (any shape, turns) to sRGB (..., 3) in [0, 1]."""
    offsets = np.array([0.0, 4.0, 2.0])
    ramp = np.abs(np.mod(6.0 * np.asarray(hues)[..., None] + offsets, 6.0) - 3.0) - 1.0
    return np.clip(ramp, 0.0, 1.0)
