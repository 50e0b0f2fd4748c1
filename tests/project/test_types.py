"""Type checkers see the classes of every package, in the checkout and where it is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL.Image import Image
from torch import Tensor
from typing_extensions import assert_type

from shapeshd import ShapesHD
from shapeshd.benchmark import Score
from shapeshd.benchmark.statistics.intervals import Estimate
from shapeshd.models import Generator, GeneratorConfig
from tests import ROOT
from tests.support.installs import build, copy_checkout, install

SNIPPET = """\
from shapeshd import ShapesHD, score
from shapeshd.benchmark.statistics.intervals import Estimate
from shapeshd.models import Generator, GeneratorConfig

def look(data: ShapesHD, generator: Generator, estimate: Estimate, config: GeneratorConfig) -> None:
    reveal_type(data)
    reveal_type(data[0])
    reveal_type(ShapesHD("set", len)[0])
    reveal_type(score("samples.zip"))
    reveal_type(score("samples.zip").divergence)
    reveal_type(generator)
    reveal_type(estimate.low)
    reveal_type(config)
"""


# Of the wheel's environment, which has no PyTorch: a tensor is `Any` there.
DATASET = [
    f"{ShapesHD.__module__}.ShapesHD[Any, Any]",
    "tuple[Any, Any]",
    "tuple[int, Any]",
]


def full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def revealed(folder: Path, *arguments: str) -> list[str]:
    """Run mypy on the snippet in an empty folder; return the types that it reveals."""
    (folder / "snippet.py").write_text(SNIPPET, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--ignore-missing-imports",
         "--cache-dir", str(folder / "cache"), *arguments, "snippet.py"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    types = re.findall(r'snippet.py:\d+: note: Revealed type is "(.*)"', done.stdout)
    assert types, done.stdout + done.stderr
    return [name.replace("builtins.", "") for name in types]


def test_a_user_of_the_wheel_sees_every_class(tmp_path: Path) -> None:
    project = copy_checkout(tmp_path / "project")
    wheel = build("wheel", project, tmp_path / "wheel")
    python = install(wheel, tmp_path / "environment", dependencies=False)  # torch takes a minute
    assert revealed(tmp_path, "--python-executable", str(python)) == [
        *DATASET,
        full_name(Score),
        full_name(Estimate),
        full_name(Generator),
        "float",
        full_name(GeneratorConfig),
    ]


def test_items_of_a_dataset_have_types() -> None:
    """`make lint` checks the types, the test that the types are true."""
    data = ShapesHD.rendered(0, count=2, size=8)
    image, label = assert_type(data[0], tuple[Tensor, Tensor])
    assert type(image) is type(label) is Tensor
    listed = ShapesHD.rendered(0, count=2, size=8, transform=len)
    assert assert_type(listed[0], tuple[int, Tensor])[0] == 3


def test_items_of_pillow_have_types() -> None:
    data = ShapesHD.rendered(0, count=2, size=8, decode="pil")
    image, label = assert_type(data[0], tuple[Image, Tensor])
    assert isinstance(image, Image) and type(label) is Tensor
    listed = ShapesHD.rendered(0, count=2, size=8, transform=len, decode="tensor")
    assert assert_type(listed[0], tuple[int, Tensor])[0] == 3


def test_nothing_of_ours_is_hidden_from_mypy() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    part = text.partition("[tool.mypy]")[2].partition("[tool.pytest")[0]
    assert "shapeshd." not in part
    assert not re.search(r"ignore_errors|follow_imports", part)


@pytest.mark.parametrize("package", ["shapeshd", "shapeshd.benchmark", "shapeshd.models"])
def test_the_reference_has_every_public_name(package: str) -> None:
    file = ROOT / "docs" / "api" / f"{package.rpartition('.')[2]}.md"
    page = file.read_text("utf-8") + file.with_name("benchmark.md").read_text("utf-8")
    module = __import__(package, fromlist=["__all__"])
    for name in module.__all__:
        if not name.startswith("_"):
            assert re.search(rf":: (?:{package}\.)?{name}$", page, flags=re.MULTILINE), name
