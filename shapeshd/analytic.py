"""What a ray sees: the scene in closed form, on tensors.

The scene is a floor, three walls, one convex object, one point light and a level camera, so
everything that a ray can meet has a formula. Because the camera is level, where a ray meets
an upright surface depends on its column alone and where it meets the floor on its row alone:
with broadcasting, much of the work is done on the lines of an image and not on its pixels.

In the comments, ``...`` is the shape of the rays, for instance (n, H, W); whatever belongs to
an image, a column or a row has a shape that broadcasts to it. The coordinates are those of
``constants.inc``: x right, y up, z away from the camera at orientation 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import scene
from .errors import ShapesHDError
from .factors import FACTORS, NAMES, SHAPES

_MAX_ORIENTATION = max(abs(FACTORS[-1].low), abs(FACTORS[-1].high))
_LARGEST = FACTORS[NAMES.index("scale")].high
_CORNERS = 64  # of the polygon around a circle
_TURNS = 121


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
        widest = math.degrees(math.atan(self.tangent)) + _MAX_ORIENTATION
        reach = _LARGEST * math.sqrt(2) * self.radius
        top = _LARGEST * max(self.tops)
        wrong = {
            "the camera must stand inside the room": self.distance >= self.room,
            "the camera must not see past the room's open front": widest >= 90,
            "the camera must stand below the top of the walls": self.height >= self.wall_height,
            "the camera must stand above the floor": self.height <= 0,
            "the largest object must fit between camera and axis": reach >= self.distance,
            "the light must hang above the largest object": self.light[1] <= top,
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


class Surface(NamedTuple):
    """What rays meet first: floor, wall, sky or object.

    Args:
        t: (...), as in `Entry`.
        facing: (...), as in `Entry`, but 0 in the object's shadow.
        sky: bool (...), whether it is the sky.
        pigment: (3, ...), its colour, linear RGB.
    """

    t: Tensor
    facing: Tensor
    sky: Tensor
    pigment: Tensor


Solid = Callable[[Numbers, Vector, Vector, Vector | None], Entry]
"""A convex object at scale 1 that stands on the floor at the origin.

Takes the numbers, the lines' origin and way, and the light or None if only the mask is of
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


def _cube(numbers: Numbers, origin: Vector, way: Vector, light: Vector | None) -> Entry:
    radius = numbers.radius
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


def _cylinder(numbers: Numbers, origin: Vector, way: Vector, light: Vector | None) -> Entry:
    radius, height = numbers.radius, numbers.cylinder_height
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


def _sphere(numbers: Numbers, origin: Vector, way: Vector, light: Vector | None) -> Entry:
    return _ball(numbers.radius, numbers.radius, origin, way, light)


def _capsule(numbers: Numbers, origin: Vector, way: Vector, light: Vector | None) -> Entry:
    radius = numbers.radius
    low, high = radius, numbers.capsule_height - radius
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


class View(NamedTuple):
    """What the rays of an image have in common: each (...) or (3, ...) for a colour.

    Args:
        sin: of the orientation.
        cos: of the orientation.
        scale: of the object.
        floor: linear RGB, as the other colours.
        wall: the walls' colour.
        solid: the object's colour.
        sky: the sky's colour.
    """

    sin: Tensor
    cos: Tensor
    scale: Tensor
    floor: Tensor
    wall: Tensor
    solid: Tensor
    sky: Tensor

    @classmethod
    def of(cls, table: Tensor) -> View:
        """Take the columns of (15, ...) apart."""
        sin, cos, scale = table[:3]
        return cls(sin, cos, scale, table[3:6], table[6:9], table[9:12], table[12:15])


Window = tuple[slice, slice]


def radiance(
    numbers: Numbers, solid: Solid, table: Tensor, u: Tensor, v: Tensor, window: Window | None
) -> Tensor:
    """Trace rays: the light that comes back along each.

    Args:
        numbers: of the scene.
        solid: the object, one of `SOLIDS`.
        table: (15, ...), a `View` of the images that the rays belong to.
        u: (...), how far right a ray points, per unit of distance.
        v: (...), how far up.
        window: rows and columns, the last two axes, outside of which neither object nor
            shadow is seen; None for everywhere.

    Returns:
        (3, ...), linear RGB in [0, 1].
    """
    view = View.of(table)
    height = torch.full_like(view.sin, numbers.height)
    eye = Vector(numbers.distance * view.sin, height, -numbers.distance * view.cos)
    way = Vector(u * view.cos - view.sin, v, u * view.sin + view.cos)
    light = Vector(*(torch.full_like(view.sin, part) for part in numbers.light))
    surface = _room(numbers, view, eye, way, light)
    if window is None:
        surface = _with_object(numbers, solid, view, eye, way, light, surface)
    else:
        rows, columns = window
        part = (..., rows, columns)
        ray = Vector(way.x[..., columns], way.y[..., rows, :], way.z[..., columns])
        behind = Surface(*(whole[part] for whole in surface))
        seen = _with_object(numbers, solid, view, eye, ray, light, behind)
        for whole, changed in zip(surface, seen, strict=True):
            whole[part] = changed
    rise = light.minus(eye)
    square = (way.dot(way) * surface.t - 2 * rise.dot(way)) * surface.t + rise.dot(rise)
    cosine = surface.facing.clamp(min=0) * square.rsqrt()
    return surface.pigment * _shade(numbers, cosine, surface.sky)


def _room(numbers: Numbers, view: View, eye: Vector, way: Vector, light: Vector) -> Surface:
    """Look into the room without the object."""
    to_floor = torch.where(way.y < 0, -numbers.height / way.y, math.inf)
    right = way.x.sign()
    to_side = (numbers.room - right * eye.x) / way.x.abs()
    to_back = (numbers.room - eye.z) / way.z
    to_wall = torch.minimum(to_side, to_back)
    wall = torch.where(to_side < to_back, numbers.room - right * light.x, numbers.room - light.z)
    floor = to_floor < to_wall
    t = torch.minimum(to_floor, to_wall)
    sky = (t * way.y > numbers.wall_height - numbers.height) & ~floor
    pigment = torch.where(floor, view.floor, torch.where(sky, view.sky, view.wall))
    return Surface(t, torch.where(floor, light.y, wall), sky, pigment)


def _with_object(
    numbers: Numbers,
    solid: Solid,
    view: View,
    eye: Vector,
    way: Vector,
    light: Vector,
    behind: Surface,
) -> Surface:
    """Put the object in front of `behind`, and its shadow on it."""
    # The solids have scale 1: measure in the object's own unit of length.
    start, lamp = eye.divide(view.scale), light.divide(view.scale)
    seen = solid(numbers, start, way, lamp)
    assert seen.facing is not None
    point = start.along(way, behind.t / view.scale)
    shadow = solid(numbers, point, lamp.minus(point), None).mask
    lit = torch.where(shadow, 0.0, behind.facing)
    return Surface(
        t=torch.where(seen.mask, seen.t * view.scale, behind.t),
        facing=torch.where(seen.mask, seen.facing * view.scale, lit),
        sky=behind.sky & ~seen.mask,
        pigment=torch.where(seen.mask, view.solid, behind.pigment),
    )


def _shade(numbers: Numbers, cosine: Tensor, sky: Tensor) -> Tensor:
    """Return the share of its colour that a surface sends back: (...) or (3, ...)."""
    red, green, blue = numbers.light_colour
    if red == green == blue:
        lit = numbers.ambient + numbers.diffuse * red * cosine
        return torch.where(sky, 1.0, lit)
    colour = cosine.new_tensor(numbers.light_colour).reshape(3, *[1] * cosine.ndim)
    return torch.where(sky, 1.0, numbers.ambient + numbers.diffuse * colour * cosine)


class Outline(NamedTuple):
    """A part of the picture plane: u from `left` to `right`, v from `bottom` to `top`."""

    left: float
    right: float
    bottom: float
    top: float


def outline(numbers: Numbers, shape: int, scale: float) -> Outline:
    """Enclose all that an object up to this scale can change, at any orientation.

    That is the object's upright hull and its shadow: on the floor, the hull of the circle
    that it stands on and of the circle that the light throws its upper end to.

    Returns:
        Numbers that are infinite if the shadow reaches a wall.
    """
    reach = scale * numbers.radius * (math.sqrt(2) if shape == 0 else 1)
    top = scale * numbers.tops[shape]
    grow = numbers.light[1] / (numbers.light[1] - top)
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)]) * reach / math.cos(math.pi / _CORNERS)
    end = -(grow - 1) * np.array([[numbers.light[0]], [numbers.light[2]]])
    x, z = np.concatenate([circle, grow * circle + end], axis=1)
    turns = np.radians(np.linspace(-_MAX_ORIENTATION, _MAX_ORIENTATION, _TURNS))[:, None]
    depth = numbers.distance - x * np.sin(turns) + z * np.cos(turns)
    if max(abs(x).max(), z.max()) >= numbers.room or depth.min() <= 0:
        return Outline(-math.inf, math.inf, -math.inf, math.inf)
    u = (x * np.cos(turns) + z * np.sin(turns)) / depth
    rise, near = top - numbers.height, numbers.distance - reach
    return Outline(
        left=float(u.min()),
        right=float(u.max()),
        bottom=-numbers.height / min(near, depth.min()),
        top=max(
            rise / (near if rise > 0 else numbers.distance + reach), -numbers.height / depth.max()
        ),
    )
