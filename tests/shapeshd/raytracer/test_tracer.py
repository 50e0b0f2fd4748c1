"""The ray tracer against the real POV-Ray, and against itself in other batches and precisions."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from shapeshd import render_images, uniform_factors
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.raytracer import analytic
from shapeshd.raytracer import tracer as raytracer
from shapeshd.raytracer.analytic import outline
from shapeshd.raytracer.solids import SOLIDS
from shapeshd.raytracer.tracer import RayTracer, trace_images
from shapeshd.scene import constants, povray_scene
from shapeshd.scene.constants import scene_constants
from shapeshd.scene.render_options import RenderOptions

HUES = [(0.0,) * 3, (1.0,) * 3, (1 / 3,) * 3, (0.5,) * 3, (0.0, 1 / 3, 2 / 3), (1 / 6, 0.5, 5 / 6)]
EXTREMES = np.array(
    [
        (*hues, scale, shape, orientation)
        for (shape, scale, orientation), hues in zip(
            itertools.product(range(4), (1, 2), (-30, -1e-3, 0, 30)),
            itertools.cycle(HUES),
            strict=False,
        )
    ]
)


def distances(traced: torch.Tensor, rendered: np.ndarray) -> np.ndarray:
    """Absolute differences in 1/255: (n, 3, H, W)."""
    return np.abs(traced.numpy().astype(np.int16) - rendered.transpose(0, 3, 1, 2))


def assert_nearly_equal(traced: torch.Tensor, rendered: np.ndarray) -> None:
    differences = distances(traced, rendered)
    assert (differences <= 1).mean() >= 0.9998
    assert (differences <= 8).mean() >= 0.99995
    assert differences.mean() <= 0.01


@pytest.mark.parametrize(("size", "count"), [(64, 300), (256, 24)])
def test_random_scenes_are_those_of_povray(size: int, count: int) -> None:
    factors = uniform_factors(seed=7, start=0, stop=count)
    assert_nearly_equal(trace_images(factors, size), render_images(factors, size))


def test_extreme_scenes_are_those_of_povray() -> None:
    assert_nearly_equal(trace_images(EXTREMES, 64), render_images(EXTREMES, 64))


@pytest.mark.parametrize(
    ("size", "antialias", "depth"),
    [
        (33, 0.3, 3),
        (8, 0.3, 3),
        (64, None, 3),
        (48, 0.02, 2),
        (48, 1.0, 5),
        (40, 0.3, 1),
        (41, 0.1, 9),
        (48, 2.0, 3),
    ],
)
def test_any_size_and_antialiasing_is_that_of_povray(
    size: int, antialias: float | None, depth: int
) -> None:
    factors = uniform_factors(seed=8, start=0, stop=40)
    options = {"antialias": antialias, "antialias_depth": depth}
    assert_nearly_equal(
        trace_images(factors, size, dtype=torch.float64, **options),
        render_images(factors, size, **options),
    )


def test_antialiasing_makes_a_difference_that_the_ray_tracer_follows() -> None:
    factors = uniform_factors(seed=9, start=0, stop=20)
    plain = render_images(factors, 64, antialias=None)
    assert (distances(trace_images(factors, 64), plain) > 8).mean() > 0.01


@pytest.fixture
def other_scene(monkeypatch: pytest.MonkeyPatch):
    """Change lines of ``constants.inc`` for both renderers."""
    original = constants.template
    caches = (constants.read_constants, povray_scene.preamble, scene_constants)

    def change(**values: str) -> None:
        def template(name: str) -> str:
            text = original(name)
            if name == "constants.inc":
                for key, value in values.items():
                    before = next(line for line in text.splitlines() if f" {key} =" in line)
                    text = text.replace(before, f"#declare {key} = {value};")
            return text

        monkeypatch.setattr(constants, "template", template)
        monkeypatch.setattr(povray_scene, "template", template)
        for cache in caches:
            cache.cache_clear()

    yield change
    monkeypatch.undo()
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize(
    "values",
    [
        {"LIGHT_POSITION": "<6, 20, -12>", "LIGHT_COLOUR": "<1, 0.8, 0.5>"},
        {"CAMERA_HEIGHT": "5", "CAMERA_ANGLE": "75", "CAMERA_DISTANCE": "9"},
        {"ROOM_HALF_WIDTH": "14", "WALL_HEIGHT": "6", "SKY_COLOUR": "<0.21, 0.13, 0.88>"},
        {"AMBIENT": "0.1", "DIFFUSE": "0.6", "OBJECT_RADIUS": "1.3"},
        {"CYLINDER_HEIGHT": "3.3", "CAPSULE_HEIGHT": "3.1"},
        {"LIGHT_POSITION": "<-9.5, 11, -4>"},  # the shadow reaches the wall
    ],
    ids=lambda values: "+".join(values).lower(),
)
def test_a_changed_scene_changes_both(values: dict[str, str], other_scene) -> None:
    factors = uniform_factors(seed=10, start=0, stop=40)
    before = trace_images(factors, 48)
    other_scene(**values)
    after = trace_images(factors, 48)
    assert (before != after).float().mean() > 0.01
    assert_nearly_equal(after, render_images(factors, 48))


@pytest.mark.parametrize(
    "values",
    [
        {"CAMERA_DISTANCE": "11"},
        {"CAMERA_ANGLE": "125"},
        {"CAMERA_HEIGHT": "9.5"},
        {"CAMERA_HEIGHT": "0"},
        {"CAMERA_DISTANCE": "2"},
        {"LIGHT_POSITION": "<0, 7, 0>"},
        {"CAPSULE_HEIGHT": "1.5"},
        {"LIGHT_POSITION": "<0, 8.5, 0>"},
    ],
    ids=lambda values: "+".join(values).lower(),
)
def test_a_scene_without_formulas_is_refused(values: dict[str, str], other_scene) -> None:
    other_scene(**values)
    with pytest.raises(ShapesHDError, match="only POV-Ray"):
        RayTracer()


def test_the_batch_does_not_change_a_value() -> None:
    factors = uniform_factors(seed=11, start=0, stop=150)
    whole = trace_images(factors, 33, batch=1000)
    for batch in (1, 7, 64):
        assert torch.equal(trace_images(factors, 33, batch=batch), whole)
    parts = [trace_images(factors[start : start + 13], 33) for start in range(0, 150, 13)]
    assert torch.equal(torch.cat(parts), whole)


def test_threads_do_not_change_a_value_or_torch() -> None:
    factors = uniform_factors(seed=11, start=0, stop=100)
    options, before = RenderOptions(33), torch.get_num_threads()
    wanted = RayTracer(options, threads=1)(factors)
    for threads in (2, 3, 8):
        assert torch.equal(RayTracer(options, threads=threads, batch=9)(factors), wanted)
        assert torch.get_num_threads() == before
    with pytest.raises(UsageError, match="threads"):
        RayTracer(options, threads=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_the_caller_has_switched_on_changes_nothing(threads: int) -> None:
    factors = uniform_factors(seed=11, start=0, stop=20)
    options = RenderOptions(32)
    wanted = RayTracer(options, threads=threads)(factors)
    with torch.inference_mode():
        inside = RayTracer(options, threads=threads)(factors)
    assert torch.equal(inside, wanted)
    inside += 1  # an ordinary tensor, out here too
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        assert torch.equal(RayTracer(options, threads=threads)(factors), wanted)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(RayTracer(options, threads=threads)(factors), wanted)
    finally:
        torch.set_default_dtype(default)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    factors = uniform_factors(seed=12, start=0, stop=40)
    whole = trace_images(factors, 32)
    order = np.random.default_rng(0).permutation(40)
    assert torch.equal(trace_images(factors[order], 32), whole[torch.from_numpy(order)])


def test_float32_and_float64_agree() -> None:
    factors = uniform_factors(seed=13, start=0, stop=200)
    single, double = (
        trace_images(factors, 64, dtype=dtype) for dtype in (torch.float32, torch.float64)
    )
    differences = (single.int() - double.int()).abs()
    # A ray that just meets an edge in one precision can just miss it in the other.
    assert (differences > 1).any(1).sum() <= 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cpu_and_gpu_agree() -> None:
    factors = uniform_factors(seed=14, start=0, stop=400)
    differences = (
        trace_images(factors, 64).int() - trace_images(factors, 64, device="cuda").cpu().int()
    )
    assert (differences.abs() > 1).any(1).sum() <= 10


def test_float_images_are_the_uint8_ones_before_rounding() -> None:
    factors = uniform_factors(seed=15, start=0, stop=20)
    exact = trace_images(factors, 32, dtype=torch.float64, as_float=True)
    assert exact.dtype == torch.float64
    assert exact.min() >= 0 and exact.max() <= 1
    rounded = trace_images(factors, 32, dtype=torch.float64)
    assert torch.equal(torch.floor(exact * 255 + 0.5).to(torch.uint8), rounded)


@pytest.mark.parametrize("shape", range(4))
def test_the_window_holds_all_that_the_object_changes(shape: int) -> None:
    factors = uniform_factors(seed=16, start=0, stop=60)
    factors[:, 4] = shape
    factors[:6, 3] = 2
    factors[:6, 5] = (-30, 30, 0, -15, 15, 29.9)
    tracer = RayTracer(RenderOptions(64))
    windowed = tracer(factors)
    tracer._window = lambda shape, scale: None  # type: ignore[method-assign]
    assert torch.equal(tracer(factors), windowed)


def test_a_window_is_a_part_of_the_image() -> None:
    for shape in range(4):
        frame = outline(scene_constants(), shape, 1.0)
        edge = scene_constants().tangent
        assert -edge < frame.left < frame.right < edge
        assert -edge < frame.bottom < frame.top < edge


def test_factors_may_be_a_tensor_of_any_number_type() -> None:
    factors = torch.tensor([[0.5, 0.25, 0.75, 1.5, 2.0, 10.0]])
    wanted = trace_images(factors.numpy(), 16)
    assert torch.equal(trace_images(factors.requires_grad_(), 16), wanted)
    assert torch.equal(trace_images(factors.detach().bfloat16(), 16), wanted)
    assert torch.equal(trace_images(factors.tolist(), 16), wanted)


def test_no_images_at_all() -> None:
    assert trace_images(np.empty((0, 6)), 16).shape == (0, 3, 16, 16)


GOOD = [0.5, 0.5, 0.5, 1.5, 2.0, 10.0]


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([[*GOOD[:3], 2.5, *GOOD[4:]]], "row 0: scale"),
        ([GOOD, [float("nan"), *GOOD[1:]]], "row 1: floor_hue"),
        ([[*GOOD[:4], 1.5, 0]], "shape is 1.5"),
        ([[*GOOD[:5], float("inf")]], "orientation is inf"),
        (GOOD, r"not \(6,\)"),
        ([GOOD[:5]], r"not \(1, 5\)"),
        ([["red", *GOOD[1:]]], "must be numbers"),
        ([[1j, *GOOD[1:]]], "must be numbers"),
        (np.array([GOOD], dtype=complex), "must be numbers"),
        (np.array([["0.5"] * 6]), "must be numbers"),
        (torch.tensor([GOOD], dtype=torch.complex64), "must be numbers"),
        (torch.tensor([GOOD], device="meta"), "factors cannot be read"),
        (torch.tensor([GOOD]).to_sparse(), "factors cannot be read"),
        ([[None, *GOOD[1:]]], "must be numbers"),
        (None, "must be numbers"),
    ],
)
def test_wrong_factors(factors: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trace_images(factors, 16)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 7}, "size"),
        ({"antialias": 0}, "antialias must"),
        ({"antialias_depth": 10}, "antialias_depth"),
        ({"device": "warp"}, "device 'warp'"),
        ({"device": "cuda:99"}, "device 'cuda:99'"),
        ({"device": "meta"}, "device 'meta'"),
        ({"dtype": torch.float16}, "dtype"),
        ({"batch": 0}, "batch"),
        ({"batch": 1.5}, "batch"),
        ({"size": 32.0}, "size"),
        ({"size": "32"}, "size"),
        ({"antialias": "0.3"}, "antialias must"),
        ({"antialias": float("nan")}, "antialias must"),
        ({"antialias_depth": 2.5}, "antialias_depth"),
        ({"device": "mps:9" if torch.cuda.is_available() else "cuda"}, "cannot be used"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        trace_images([GOOD], **options)  # type: ignore[arg-type]


def test_a_batch_too_large_for_memory_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = uniform_factors(seed=17, start=0, stop=64)
    wanted = trace_images(factors, 16)
    sizes = []

    def crowded(*arguments):
        table = arguments[2]
        if table.ndim == 4 and table.shape[2:] == (1, 1):  # whole images, not their samples
            sizes.append(table.shape[1])
            if table.shape[1] > 3:
                raise torch.cuda.OutOfMemoryError("out of memory")
        return analytic.radiance(*arguments)

    monkeypatch.setattr(raytracer, "radiance", crowded)
    tracer = RayTracer(RenderOptions(16), batch=64)
    assert torch.equal(tracer(factors), wanted)
    assert max(sizes) > 3
    assert tracer.batch <= 3


def test_too_little_memory_for_one_image_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowded(*arguments):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(raytracer, "radiance", crowded)
    with pytest.raises(ShapesHDError, match="memory"):
        trace_images([GOOD], 16)


def test_other_errors_are_not_taken_for_a_full_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments):
        raise RuntimeError("something else")

    monkeypatch.setattr(raytracer, "radiance", broken)
    with pytest.raises(RuntimeError, match="something else"):
        trace_images([GOOD], 16)


def test_a_real_limit_of_memory_splits_the_batch() -> None:
    program = """
import resource, torch
from shapeshd import RayTracer, uniform_factors
from shapeshd.scene.render_options import (RenderOptions)
torch.set_num_threads(1)
factors = uniform_factors(0, 0, 96)
tracer = RayTracer(RenderOptions(256), batch=96)
tracer(factors[:2])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, limit[1]))
images = tracer(factors)
resource.setrlimit(resource.RLIMIT_AS, limit)
assert tracer.batch < 96, tracer.batch
assert torch.equal(images, RayTracer(RenderOptions(256))(factors))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_more_images_than_memory_is_one_clear_error() -> None:
    count = 10**7
    factors = np.broadcast_to(np.array(GOOD), (count, 6))
    with pytest.raises(ShapesHDError, match=r"GB.*cpu"):
        trace_images(factors, 2048)


def test_every_solid_can_be_compiled_as_one_graph() -> None:
    line = torch.linspace(-0.5, 0.5, 9)
    table = torch.rand(15, 2, 1, 1) + 1
    for solid in SOLIDS:
        explained = torch._dynamo.explain(analytic.radiance)(
            scene_constants(), solid, table, line, -line[:, None], None
        )
        assert explained.graph_break_count == 0
