"""Intersects rays with the scene and shades what they meet, in closed form on tensors.

The scene is a floor, three walls, one convex object, one point light and a level camera, so
everything that a ray can meet has a formula. Because the camera is level, where a ray meets
an upright surface depends on its column alone and where it meets the floor on its row alone:
with broadcasting, much of the work is done on the lines of an image and not on its pixels.

In the comments, ``...`` is the shape of the rays, for instance (n, H, W); what belongs to an
image, a column or a row has a shape that broadcasts to it. The coordinates are those of
``constants.inc``: x right, y up, z away from the camera at orientation 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shapeshd.scene.constants import MAX_ORIENTATION, SceneConstants

from .solids import Solid, Vector

_CORNERS = 64  # of the polygon around a circle
_TURNS = 121


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


class View(NamedTuple):
    """The view of an image, shared by its rays: each (...) or (3, ...) for a colour.

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
    scene: SceneConstants, solid: Solid, table: Tensor, u: Tensor, v: Tensor, window: Window | None
) -> Tensor:
    """Return the light that comes back along each ray.

    Args:
        scene: its constants.
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
    height = torch.full_like(view.sin, scene.height)
    eye = Vector(scene.distance * view.sin, height, -scene.distance * view.cos)
    way = Vector(u * view.cos - view.sin, v, u * view.sin + view.cos)
    light = Vector(*(torch.full_like(view.sin, part) for part in scene.light))
    surface = _room(scene, view, eye, way, light)
    if window is None:
        surface = _with_object(scene, solid, view, eye, way, light, surface)
    else:
        rows, columns = window
        part = (..., rows, columns)
        ray = Vector(way.x[..., columns], way.y[..., rows, :], way.z[..., columns])
        behind = Surface(*(whole[part] for whole in surface))
        seen = _with_object(scene, solid, view, eye, ray, light, behind)
        for whole, changed in zip(surface, seen, strict=True):
            whole[part] = changed
    rise = light.minus(eye)
    square = (way.dot(way) * surface.t - 2 * rise.dot(way)) * surface.t + rise.dot(rise)
    cosine = surface.facing.clamp(min=0) * square.rsqrt()
    return surface.pigment * _shade(scene, cosine, surface.sky)


def _room(scene: SceneConstants, view: View, eye: Vector, way: Vector, light: Vector) -> Surface:
    """Look into the room without the object."""
    to_floor = torch.where(way.y < 0, -scene.height / way.y, math.inf)
    right = way.x.sign()
    to_side = (scene.room - right * eye.x) / way.x.abs()
    to_back = (scene.room - eye.z) / way.z
    to_wall = torch.minimum(to_side, to_back)
    wall = torch.where(to_side < to_back, scene.room - right * light.x, scene.room - light.z)
    floor = to_floor < to_wall
    t = torch.minimum(to_floor, to_wall)
    sky = (t * way.y > scene.wall_height - scene.height) & ~floor
    pigment = torch.where(floor, view.floor, torch.where(sky, view.sky, view.wall))
    return Surface(t, torch.where(floor, light.y, wall), sky, pigment)


def _with_object(
    scene: SceneConstants,
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
    seen = solid(scene, start, way, lamp)
    assert seen.facing is not None
    point = start.along(way, behind.t / view.scale)
    shadow = solid(scene, point, lamp.minus(point), None).mask
    lit = torch.where(shadow, 0.0, behind.facing)
    return Surface(
        t=torch.where(seen.mask, seen.t * view.scale, behind.t),
        facing=torch.where(seen.mask, seen.facing * view.scale, lit),
        sky=behind.sky & ~seen.mask,
        pigment=torch.where(seen.mask, view.solid, behind.pigment),
    )


def _shade(scene: SceneConstants, cosine: Tensor, sky: Tensor) -> Tensor:
    """Return the share of its colour that a surface sends back: (...) or (3, ...)."""
    red, green, blue = scene.light_colour
    if red == green == blue:
        lit = scene.ambient + scene.diffuse * red * cosine
        return torch.where(sky, 1.0, lit)
    colour = cosine.new_tensor(scene.light_colour).reshape(3, *[1] * cosine.ndim)
    return torch.where(sky, 1.0, scene.ambient + scene.diffuse * colour * cosine)


class Outline(NamedTuple):
    """A part of the picture plane: u from `left` to `right`, v from `bottom` to `top`."""

    left: float
    right: float
    bottom: float
    top: float


def outline(scene: SceneConstants, shape: int, scale: float) -> Outline:
    """Enclose all that an object up to this scale can change, at any orientation.

    That is the object's upright hull and its shadow: on the floor, the hull of the circle
    that it stands on and of the circle that the light throws its upper end to.

    Returns:
        Numbers that are infinite if the shadow reaches a wall.
    """
    reach = scale * scene.radius * (math.sqrt(2) if shape == 0 else 1)
    top = scale * scene.tops[shape]
    grow = scene.light[1] / (scene.light[1] - top)
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)]) * reach / math.cos(math.pi / _CORNERS)
    end = -(grow - 1) * np.array([[scene.light[0]], [scene.light[2]]])
    x, z = np.concatenate([circle, grow * circle + end], axis=1)
    turns = np.radians(np.linspace(-MAX_ORIENTATION, MAX_ORIENTATION, _TURNS))[:, None]
    depth = scene.distance - x * np.sin(turns) + z * np.cos(turns)
    if max(abs(x).max(), z.max()) >= scene.room or depth.min() <= 0:
        return Outline(-math.inf, math.inf, -math.inf, math.inf)
    u = (x * np.cos(turns) + z * np.sin(turns)) / depth
    rise, near = top - scene.height, scene.distance - reach
    return Outline(
        left=float(u.min()),
        right=float(u.max()),
        bottom=-scene.height / min(near, depth.min()),
        top=max(rise / (near if rise > 0 else scene.distance + reach), -scene.height / depth.max()),
    )
