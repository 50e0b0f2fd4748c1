"""Latents of several axes: the DCGAN of PyTorch's tutorial in all forms that it can have."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.sources.networks.in_process import open_callable
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.subprocess import code_process
from shapeshd.errors import ShapesHDError, UsageError
from tests.support.same_process import SameProcess
from tests.support.tanh_generator import opened, rounded

NZ, NGF, NC = 100, 4, 3
SEED, COUNT = 3, 10


class Generator(nn.Module):
    """As the tutorial has it, but for fewer channels."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(NZ, NGF * 2, 4, 1, 0, bias=False),
            nn.BatchNorm2d(NGF * 2),
            nn.ReLU(True),
            nn.ConvTranspose2d(NGF * 2, NGF, 4, 2, 1, bias=False),
            nn.BatchNorm2d(NGF),
            nn.ReLU(True),
            nn.ConvTranspose2d(NGF, NC, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.5, 1.0, generator=generator)

    def forward(self, input: Tensor) -> Tensor:
        images: Tensor = self.main(input)
        return images


@pytest.fixture(scope="module")
def network() -> Generator:
    return Generator()


@pytest.fixture(scope="module")
def expected() -> Tensor:
    with torch.inference_mode():
        z = normal_latents(SEED, 0, COUNT, NZ)[:, :, None, None]
        return rounded(Generator().eval()(z))


def check(source: GeneratorSource, expected: Tensor, shape: Any = (NZ, 1, 1)) -> None:
    with source:
        images = source.images(0, COUNT)
        assert source.describe()["latent_dim"] == NZ
        assert source.describe().get("latent_shape") == (shape and list(shape))
    assert (images.int() - expected.int()).abs().float().mean() < 0.01


@pytest.mark.parametrize("options", [{"latent_dim": NZ}, {"latent_shape": (NZ, 1, 1)}], ids=str)
def test_a_module_and_functions(
    network: Generator, expected: Tensor, options: dict[str, Any]
) -> None:
    network.eval()
    forms: list[Any] = [network, network.forward, lambda z: network(z), lambda z: network.main(z)]
    for form in forms:
        source = open_callable(form, seed=SEED, options=SourceOptions(**options))
        check(source, expected)


def test_a_function_that_shapes_its_latents_itself(network: Generator, expected: Tensor) -> None:
    network.eval()
    options = SourceOptions(latent_dim=NZ)
    source = open_callable(lambda z: network(z[:, :, None, None]), seed=SEED, options=options)
    check(source, expected, None)


@pytest.mark.parametrize("scripted", [True, False])
def test_torchscript(network: Generator, expected: Tensor, scripted: bool, tmp_path: Path) -> None:
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make: Any = (
            torch.jit.script(network)
            if scripted
            else torch.jit.trace(network, torch.randn(64, NZ, 1, 1))
        )
        make.save(tmp_path / "g.pt")
    for options in ({"latent_dim": NZ}, {"latent_shape": "100,1,1"}):
        check(opened(tmp_path / "g.pt", trust=True, **options), expected)


def test_onnx(network: Generator, expected: Tensor, tmp_path: Path) -> None:
    network.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.randn(64, NZ, 1, 1),), tmp_path / "g.onnx", dynamo=False)
    check(opened(tmp_path / "g.onnx"), expected, None)


def test_a_python_entry(expected: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training mode as it was built, and with latents of the tutorial's shape."""
    monkeypatch.setattr(code_process, "_Child", SameProcess)
    (tmp_path / "gen.py").write_text(
        "from tests.benchmark.sources.test_latent_shape import Generator\n"
        "netG = Generator()\n"
        "def make(noise):\n    return netG(noise)\n"
    )
    for options in ({"latent_dim": NZ}, {"latent_shape": (NZ, 1, 1)}):
        source = opened(f"{tmp_path}/gen.py:make", trust=True, **options)
        check(source, expected)
        assert source.describe()["evaluation_mode"] == ["Generator"]


def test_the_first_error_is_told(network: Generator) -> None:
    def broken(z: Tensor) -> Tensor:
        if z.ndim == 2:
            raise ValueError("the first")
        raise ValueError("the second")

    source = open_callable(broken, options=SourceOptions(latent_dim=5))
    with source, pytest.raises(ShapesHDError, match="the first"):
        source.images(0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_shape": (NZ, 1, 1), "latent_dim": 99}, "latent_shape.*100.*latent_dim.*99"),
        ({"latent_shape": "100,0"}, "latent_shape must be"),
        ({"latent_shape": "wide"}, "latent_shape must be"),
        ({"latent_shape": ""}, "latent_shape must be"),
    ],
    ids=str,
)
def test_shapes_that_are_refused(network: Generator, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_callable(network, options=SourceOptions(**options))


def test_it_must_mean_something(network: Generator, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out latent_shape"):
        open_callable(lambda seeds: seeds, options=SourceOptions(latent_shape=(3, 1, 1)))
    with pytest.raises(UsageError, match=r"latent_dim .*takes 100"):
        open_callable(network)


def test_latents_of_a_shape_are_those_of_as_many_values() -> None:
    seen: list[Tensor] = []

    def keep(z: Tensor) -> Tensor:
        seen.append(z)
        return torch.zeros(len(z), 3, 8, 8, dtype=torch.uint8)

    options = SourceOptions(latent_shape=(2, 3, 4), batch=5)
    with open_callable(keep, seed=SEED, options=options) as source:
        source.images(0, 5)
    assert torch.equal(seen[0], normal_latents(SEED, 0, 5, 24).reshape(5, 2, 3, 4))
