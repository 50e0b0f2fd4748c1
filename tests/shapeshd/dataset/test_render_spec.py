"""``render:SEED:COUNT``: what the text means, and how every wrong one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapeshd import open_dataset
from shapeshd.dataset.render_spec import RenderSpec, parse_rendered
from shapeshd.errors import UsageError
from shapeshd.factors import uniform_factors
from shapeshd.raytracer.tracer import RayTracer
from shapeshd.scene.render_options import RenderOptions

SPEC = "render:3:30,size=16,start=40"

Run = Callable[..., tuple[int, str, str]]


def test_the_text_form() -> None:
    assert parse_rendered("render:0:1000") == RenderSpec(0, 1000, 256, 0, "cpu")
    spec = parse_rendered("render:7:5,start=100000,device=cuda:1,size=64")
    assert spec == RenderSpec(7, 5, 64, 100_000, "cuda:1")
    assert str(spec) == "render:7:5,size=64,start=100000,device=cuda:1"
    for path in ("data", "./render:0:1000", "/render:0:1", "Render:0:1", ""):
        assert parse_rendered(path) is None


@settings(max_examples=50)
@given(
    spec=st.builds(
        RenderSpec,
        st.integers(0, 2**63 - 1),
        st.integers(1, 2**61),
        st.integers(8, 2048),
        st.integers(0, 2**61),
        st.sampled_from(["cpu", "cuda", "cuda:3", "mps"]),
    )
)
def test_a_text_gives_its_images_back(spec: RenderSpec) -> None:
    assert parse_rendered(str(spec)) == spec


@settings(max_examples=300)
@given(text=st.text(alphabet="0123456789:,=sizetardvcpu-. \n\u0663", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_rendered(f"render:{text}")
    except UsageError as error:
        assert "\n" not in str(error) and len(str(error)) < 250


def test_open_dataset_takes_texts_and_paths(tmp_path: Path) -> None:
    images = RayTracer(RenderOptions(16))(uniform_factors(3, 40, 70))
    assert torch.equal(open_dataset(SPEC)[4][0], images[4])
    assert torch.equal(open_dataset(RenderSpec(3, 30, 16, 40))[4][0], images[4])
    assert open_dataset(SPEC, torch.Tensor.sum, lambda label: label[4])[0][1] in range(4)
    path = tmp_path / "render:0:1"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((2, 8, 8, 3), np.uint8)
        file["labels"] = uniform_factors(0, 0, 2).astype(np.float32)
    for name in (path, str(path)):
        assert len(open_dataset(name)) == 2
    assert open_dataset(path)[0][1].dtype == torch.float64
    with pytest.raises(UsageError, match="no such file"):
        open_dataset(Path("render:0:1"))


BAD_SPECS = {
    "render:": "not of the form",
    "render:0": "not of the form",
    "render:0:1:2": "not of the form",
    "render::5": "seed must be a whole",
    "render:0:": "count must be a whole",
    "render:x:5": "seed must be a whole",
    "render:-1:5": "seed must be a whole",
    "render:0:-5": "number, not '-5'",
    "render:0:1e6": "number, not '1e6'",
    "render:0:\u0663": "count must be a whole",
    "render:0:0": "count must be at least",
    "render:0:9999999999999999999": "must be at most",
    f"render:0:{'9' * 5000}": "count is too large",
    "render:9999999999999999999:5": "seed must be between",
    "render:0:5,": "unknown setting ''",
    "render:0:5,colour=red": "unknown setting 'colour'",
    "render:0:5,count=3": "unknown setting 'count'",
    "render:0:5,size": "size must be a whole",
    "render:0:5,size=": "size must be a whole",
    "render:0:5,size=4": "size must be between",
    "render:0:5,size=4096": "size must be between",
    "render:0:5,size=64,size=64": "size is given twice",
    "render:0:5,start=-3": "start must be a whole",
    "render:0:5,start=4611686018427387900": "at most",
    "render:0:5,device=": "device must be",
    "render:0:5,device=gpu": "mps, not 'gpu'",
    "render:0:5,device=meta": "device must be",
    "render:0:5,size=8,device=cuda:99": "device 'cuda:99'",
    "render:0:5\n,x\ny=1": "count must be a whole",
}


@pytest.mark.parametrize("spec", BAD_SPECS)
@pytest.mark.parametrize("command", ["info", "preview", "export"])
def test_wrong_texts(run: Run, tmp_path: Path, command: str, spec: str) -> None:
    out: dict[str, list[object]] = {
        "info": [],
        "preview": [tmp_path / "out.png"],
        "export": [tmp_path / "out", "--format", "folder"],
    }
    status, stdout, stderr = run(command, spec, *out[command])
    assert (status, stdout) == (2, "")
    assert stderr.startswith("shapeshd: error: ") and len(stderr.splitlines()) == 1
    assert BAD_SPECS[spec] in stderr and len(stderr) < 400
    assert not list(tmp_path.iterdir())
