"""The scene: what POV-Ray really draws, against independent geometry and colour."""

from __future__ import annotations

import colorsys
import itertools
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shapeshd.engines.povray import executable, render_images
from shapeshd.errors import ShapesHDError
from shapeshd.factors import SHAPES, uniform_factors
from shapeshd.scene import constants, povray_scene
from tests import ROOT

SCENE = constants.read_constants()


def project(point: np.ndarray, orientation: float) -> tuple[float, float]:
    """Pinhole camera: a point of the room -> (column, row) in a unit image, origin top left."""
    angle = np.radians(orientation)
    # The camera orbits clockwise as seen from above for positive angles.
    x = point[0] * np.cos(angle) + point[2] * np.sin(angle)
    depth = -point[0] * np.sin(angle) + point[2] * np.cos(angle) + SCENE["CAMERA_DISTANCE"]
    focal = 0.5 / np.tan(np.radians(SCENE["CAMERA_ANGLE"] / 2))
    return 0.5 + focal * x / depth, 0.5 - focal * (point[1] - SCENE["CAMERA_HEIGHT"]) / depth


def hue_mask(image: np.ndarray, hue: float, tolerance: int = 40) -> np.ndarray:
    """Pixels of the fully saturated `hue`, at any brightness."""
    pixels = image.astype(float)
    bright = pixels.max(axis=-1, keepdims=True)
    wanted = 255 * np.array(colorsys.hsv_to_rgb(hue, 1, 1))
    close = np.abs(pixels * 255 / np.maximum(bright, 1) - wanted).max(axis=-1)
    return close < tolerance


def row_of(shape: str, scale: float = 1.5, orientation: float = 0.0) -> list[float]:
    """Red floor, green walls, blue object."""
    return [0.0, 1 / 3, 2 / 3, scale, SHAPES.index(shape), orientation]


@pytest.mark.parametrize("hue", [0.0, 0.1, 0.25, 1 / 3, 0.5, 0.77, 0.999])
def test_hues_are_hsv(hue: float) -> None:
    expected = colorsys.hsv_to_rgb(hue, 1, 1)
    np.testing.assert_allclose(constants.hue_to_srgb(np.array(hue)), expected, atol=1e-12)


def test_hue_of_a_lit_surface_is_what_one_sees() -> None:
    """Hue 0.1 is sRGB (255, 153, 0): in linear light the ratio of the channels is exact."""
    image = render_images([[0.1, 0.6, 0.6, 1.0, 2, 0.0]], 64, antialias=None)[0]
    red, green, blue = (image[60, 5] / 255.0).tolist()
    linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in (red, green)]
    wanted = ((153 / 255 + 0.055) / 1.055) ** 2.4
    assert blue == 0
    assert linear[1] / linear[0] == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(
    ("shape", "height"), [("cube", 2), ("cylinder", 2), ("sphere", 2), ("capsule", 4)]
)
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_objects_have_their_size_and_stand_on_the_floor(
    shape: str, height: float, scale: float
) -> None:
    size = 256
    image = render_images([row_of(shape, scale)], size)[0]
    blue = hue_mask(image, 2 / 3)
    rows, columns = np.nonzero(blue)
    radius = scale * SCENE["OBJECT_RADIUS"]
    points = silhouette(shape, radius, height * scale)
    projected = np.array([project(point, 0) for point in points])
    assert columns.min() / size == pytest.approx(projected[:, 0].min(), abs=1.5 / size)
    assert (columns.max() + 1) / size == pytest.approx(projected[:, 0].max(), abs=1.5 / size)
    assert rows.min() / size == pytest.approx(projected[:, 1].min(), abs=1.5 / size)
    assert (rows.max() + 1) / size == pytest.approx(projected[:, 1].max(), abs=1.5 / size)


def silhouette(shape: str, radius: float, height: float) -> np.ndarray:
    """Points densely on the object's surface, (n, 3), standing on the floor."""
    turn = np.linspace(0, 2 * np.pi, 400)
    if shape == "cube":
        corners = itertools.product((-radius, radius), (0, height), (-radius, radius))
        return np.array(list(corners))
    circle = np.stack([radius * np.cos(turn), 0 * turn, radius * np.sin(turn)], axis=1)
    if shape == "cylinder":
        return np.concatenate([circle, circle + [0, height, 0]])
    latitude, longitude = np.meshgrid(np.linspace(-np.pi / 2, np.pi / 2, 200), turn)
    ball = radius * np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.sin(latitude),
            np.cos(latitude) * np.sin(longitude),
        ],
        axis=-1,
    ).reshape(-1, 3)
    return np.concatenate([ball + [0, radius, 0], ball + [0, height - radius, 0]])


@pytest.mark.parametrize("orientation", [-30, -12.5, 0, 7, 30])
def test_room_corners_stand_where_geometry_puts_them(orientation: float) -> None:
    """The wall's edge against the sky has a kink at each corner of the room."""
    size = 256
    image = render_images([row_of("sphere", 1.0, orientation)], size)[0]
    wall = hue_mask(image, 1 / 3)
    top = np.where(wall.any(axis=0), wall.argmax(axis=0), size)
    half, height = SCENE["ROOM_HALF_WIDTH"], SCENE["WALL_HEIGHT"]
    seen = 0
    for side in (-1, 1):
        column, row = project(np.array([side * half, height, half]), orientation)
        if 0.01 < column < 0.99:
            seen += 1
            assert top[int(column * size)] / size == pytest.approx(row, abs=1.6 / size)
    assert seen >= 1


def test_largest_object_stays_inside_the_frame() -> None:
    rows = [row_of(shape, 2.0, angle) for shape in SHAPES for angle in (-30, -15, 0, 15, 30)]
    for image in render_images(rows, 64):
        blue = hue_mask(image, 2 / 3)
        assert blue.any()
        assert not (blue[0].any() or blue[-1].any() or blue[:, 0].any() or blue[:, -1].any())


def test_layout_is_that_of_3dshapes() -> None:
    """Sky above, walls down to about 65% of the height, floor below (at the middle column)."""
    image = render_images([row_of("cube", 1.0)], 256)[0]
    column = image[:, 60]
    sky = np.abs(column.astype(int) - [155, 226, 250]).max(axis=1) <= 1
    wall, floor = hue_mask(column[:, None], 1 / 3)[:, 0], hue_mask(column[:, None], 0.0)[:, 0]
    assert sky.argmin() / 256 == pytest.approx(0.27, abs=0.02)
    assert floor.argmax() / 256 == pytest.approx(0.65, abs=0.02)
    assert wall.sum() + sky.sum() + floor.sum() >= 252


@pytest.mark.parametrize("hue", [0.0, 0.17, 0.55, 0.83])
@pytest.mark.parametrize(
    ("factor", "step"), [("scale", 0.03), ("orientation", 0.5), ("shape", 1.0)]
)
def test_every_factor_shows_with_equal_hues(hue: float, factor: str, step: float) -> None:
    """At every shape and angle a small change of a factor changes many values of the image."""
    column = ["floor", "wall", "object", "scale", "shape", "orientation"].index(factor)
    rows = []
    for shape, angle, scale in itertools.product(range(4), (-29, -1, 0, 12), (1.0, 1.9)):
        row = [hue, hue, hue, scale, shape, angle]
        moved = [*row]
        moved[column] = (row[column] + step) % 4 if factor == "shape" else row[column] + step
        rows += [row, moved]
    images = render_images(rows, 64).astype(int)
    changed = (np.abs(images[0::2] - images[1::2]).max(axis=-1) > 2).sum(axis=(1, 2))
    assert changed.min() >= 10


def test_no_surface_is_overexposed() -> None:
    """A hue keeps its channels' ratio in full light: the largest channel is never clipped."""
    assert SCENE["AMBIENT"] + SCENE["DIFFUSE"] <= 1
    images = render_images(uniform_factors(5, 0, 24), 64, antialias=None)
    sky = (np.abs(images.astype(int) - [155, 226, 250]).max(axis=-1) <= 1)[..., None]
    brightest = np.where(sky, 0, images).max(axis=-1)
    assert np.quantile(brightest, 0.999) < 255


@pytest.mark.parametrize("index", range(4))
def test_by_hand_and_by_vapory_are_the_same_image(index: int, tmp_path: Path) -> None:
    """``povray scene.pov Declare=...`` gives what the batch renderer gives."""
    row = uniform_factors(11, index, index + 1)[0]
    names = ["Floor_Hue", "Wall_Hue", "Object_Hue", "Scale", "Shape", "Orientation"]
    templates = ROOT / "povray_templates"
    out = tmp_path / "out.png"
    subprocess.run(
        [
            executable(), "+Iscene.pov", f"+O{out}", "+W64", "+H64", "+A0.3", "+AM1", "+R3",
            "-J", "+BS64", "-D",
            *(f"Declare={name}={value!r}" for name, value in zip(names, row.tolist(), strict=True)),
        ],
        cwd=templates, check=True, capture_output=True,
    )  # fmt: skip
    found = np.asarray(Image.open(out).convert("RGB")).astype(int)
    # POV-Ray keeps fewer digits of a Declare= than of a number in a file.
    difference = np.abs(found - render_images([row], 64)[0])
    assert difference.max() <= 1
    assert (difference > 0).sum() <= 10


def test_a_standalone_scene_is_the_same_image(tmp_path: Path) -> None:
    row = uniform_factors(12, 0, 1)[0]
    (tmp_path / "one.pov").write_text(povray_scene.standalone(row))
    subprocess.run(
        [executable(), "+Ione.pov", "+Oone.png", "+W32", "+H32", "-A", "-D"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    found = np.asarray(Image.open(tmp_path / "one.png").convert("RGB"))
    np.testing.assert_array_equal(found, render_images([row], 32, antialias=None)[0])


def test_constants_are_read_as_pov_ray_reads_them(tmp_path: Path) -> None:
    """POV-Ray prints every constant; Python must have read the same numbers."""
    debug = "\n".join(
        f'#debug concat("{name}=", '
        + (f'vstr(3, {name}, ",", 0, 12)' if isinstance(value, tuple) else f"str({name}, 0, 12)")
        + ', "\\n")'
        for name, value in SCENE.items()
    )
    (tmp_path / "print.pov").write_text(
        f"#version 3.7;\n{constants.template('constants.inc')}{debug}\ncamera {{ location -z }}\n"
    )
    done = subprocess.run(
        [executable(), "+Iprint.pov", "+W4", "+H4", "-F", "-D"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    printed = dict(
        line.split("=")
        for line in done.stderr.splitlines()
        if line.count("=") == 1 and line[0].isupper() and " " not in line
    )
    assert printed.keys() == SCENE.keys()
    for name, value in SCENE.items():
        expected = value if isinstance(value, tuple) else (value,)
        found = [float(part) for part in printed[name].split(",")]
        np.testing.assert_allclose(found, expected, atol=1e-11)


def test_a_wrong_line_among_the_constants_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "#declare A = 1;\n#declare B = A * 2 + x\n"
    monkeypatch.setattr(constants, "template", lambda name: text)
    constants.read_constants.cache_clear()
    try:
        with pytest.raises(ShapesHDError, match="declare B"):
            constants.read_constants()
    finally:
        constants.read_constants.cache_clear()
