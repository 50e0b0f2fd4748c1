"""The four objects in closed form: where lines enter them, on tensors.

In the comments, ``...`` is the shape of the lines, for instance (n, H, W); what belongs to an
image, a column or a row has a shape that broadcasts to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from shapeshd.factors import SHAPES
from shapeshd.scene.constants import SceneConstants


class Vector(NamedTuple):
    """Three coordinates, whose shapes may differ."""

    x: Tensor
    y: Tensor
    z: Tensor

    def dot(self, other: Vector) -> Tensor:
        """Return the scalar product."""
        # x and z first: between upright things that sum is one of columns.
        return self.x * other.x + self.z * other.z + self.y * other.y

    def along(self, way: Vector, t: Tensor) -> Vector:
        """Return the point that lies `t` times `way` further."""
        return Vector(self.x + t * way.x, self.y + t * way.y, self.z + t * way.z)

    def minus(self, other: Vector) -> Vector:
        """Return the difference."""
        return Vector(self.x - other.x, self.y - other.y, self.z - other.z)

    def divide(self, scale: Tensor) -> Vector:
        """Return the vector in another unit of length."""
        return Vector(self.x / scale, self.y / scale, self.z / scale)


class Entry(NamedTuple):
    """Where lines origin + t way, t > 0, enter a solid.

    Args:
        mask: bool (...), whether they do.
        t: (...), the parameter there; undefined where they do not.
        facing: (...), outer normal . way to the light; how much a surface faces it.
    """

    mask: Tensor
    t: Tensor
    facing: Tensor | None


Solid = Callable[[SceneConstants, Vector, Vector, Vector | None], Entry]
"""A convex object at scale 1 that stands on the floor at the origin.

Takes the scene, the lines' origin and way, and the light or None if only the mask is of
interest.
"""


def _slab(low: float, high: float, origin: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Return where lines enter and leave low <= coordinate <= high; infinite if never."""
    one, other = (low - origin) / way, (high - origin) / way
    return torch.minimum(one, other), torch.maximum(one, other)


class _Tube(NamedTuple):
    """Where lines enter and leave the upright cylinder without ends around the y axis."""

    crosses: Tensor
    enter: Tensor
    leave: Tensor

    @classmethod
    def of(cls, radius: float, origin: Vector, way: Vector) -> _Tube:
        square = way.x * way.x + way.z * way.z
        middle = origin.x * way.x + origin.z * way.z
        # Lagrange's identity; the textbook's b^2 - ac loses digits far from the axis.
        cross = origin.x * way.z - origin.z * way.x
        inside = radius**2 * square - cross * cross
        half = inside.clamp(min=0).sqrt()
        return cls(inside > 0, (-middle - half) / square, (half - middle) / square)

    def facing(self, radius: float, origin: Vector, way: Vector, light: Vector) -> Tensor:
        x, z = origin.x + self.enter * way.x, origin.z + self.enter * way.z
        return (x * light.x + z * light.z) / radius - radius


def _cube(scene: SceneConstants, origin: Vector, way: Vector, light: Vector | None) -> Entry:
    radius = scene.radius
    in_x, out_x = _slab(-radius, radius, origin.x, way.x)
    in_z, out_z = _slab(-radius, radius, origin.z, way.z)
    in_y, out_y = _slab(0, 2 * radius, origin.y, way.y)
    upright = torch.maximum(in_x, in_z)
    t = torch.maximum(upright, in_y)
    mask = (t < torch.minimum(torch.minimum(out_x, out_z), out_y)) & (t > 0)
    if light is None:
        return Entry(mask, t, None)
    side = torch.where(in_x > in_z, -way.x.sign() * light.x, -way.z.sign() * light.z) - radius
    return Entry(mask, t, torch.where(in_y > upright, light.y - 2 * radius, side))


def _cylinder(scene: SceneConstants, origin: Vector, way: Vector, light: Vector | None) -> Entry:
    radius, height = scene.radius, scene.cylinder_height
    tube = _Tube.of(radius, origin, way)
    in_y, out_y = _slab(0, height, origin.y, way.y)
    t = torch.maximum(tube.enter, in_y)
    mask = (t < torch.minimum(tube.leave, out_y)) & (t > 0) & tube.crosses
    if light is None:
        return Entry(mask, t, None)
    side = tube.facing(radius, origin, way, light)
    return Entry(mask, t, torch.where(in_y > tube.enter, light.y - height, side))


def _ball(
    radius: float, centre: Tensor | float, origin: Vector, way: Vector, light: Vector | None
) -> Entry:
    """Enter a ball around (0, `centre`, 0)."""
    origin = Vector(origin.x, origin.y - centre, origin.z)
    square = way.dot(way)
    upright = origin.z * way.x - origin.x * way.z
    a, b = origin.y * way.z - origin.z * way.y, origin.x * way.y - origin.y * way.x
    inside = radius**2 * square - (upright * upright + a * a + b * b)
    t = (-origin.dot(way) - inside.clamp(min=0).sqrt()) / square
    mask = (inside > 0) & (t > 0)
    if light is None:
        return Entry(mask, t, None)
    point = origin.along(way, t)
    light = Vector(light.x, light.y - centre, light.z)
    return Entry(mask, t, point.dot(light) / radius - radius)


def _sphere(scene: SceneConstants, origin: Vector, way: Vector, light: Vector | None) -> Entry:
    return _ball(scene.radius, scene.radius, origin, way, light)


def _capsule(scene: SceneConstants, origin: Vector, way: Vector, light: Vector | None) -> Entry:
    radius = scene.radius
    low, high = radius, scene.capsule_height - radius
    tube = _Tube.of(radius, origin, way)
    y = origin.y + tube.enter * way.y
    side = (y >= low) & (y <= high) & tube.crosses & (tube.enter > 0)
    # A line that enters the tube above the side can enter the capsule by its upper ball
    # only, and one that enters it below by its lower ball only.
    centre = torch.where(y > (low + high) / 2, y.new_tensor(high), y.new_tensor(low))
    ball = _ball(radius, centre, origin, way, light)
    mask, t = side | ball.mask, torch.where(side, tube.enter, ball.t)
    if light is None or ball.facing is None:
        return Entry(mask, t, None)
    facing = tube.facing(radius, origin, way, light)
    return Entry(mask, t, torch.where(side, facing, ball.facing))


SOLIDS: tuple[Solid, ...] = (_cube, _cylinder, _sphere, _capsule)
"""The objects in the order of `SHAPES`."""

assert len(SOLIDS) == len(SHAPES)
