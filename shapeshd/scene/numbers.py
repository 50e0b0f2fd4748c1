"""The scene's numbers under the names of the formulas, checked to be a scene that has formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from shapeshd.errors import ShapesHDError
from shapeshd.factors import FACTORS, NAMES

from . import text as scene

MAX_ORIENTATION = max(abs(FACTORS[-1].low), abs(FACTORS[-1].high))
"""Degrees that the camera turns to either side, at most."""

_LARGEST = FACTORS[NAMES.index("scale")].high


@dataclass(frozen=True)
class Numbers:
    """The numbers of the scene that the formulas need, with lengths as in ``constants.inc``.

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
def numbers() -> Numbers:
    """Read the scene's numbers from the file that POV-Ray includes."""
    given: Any = scene.constants()
    return Numbers(
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
