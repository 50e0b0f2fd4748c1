"""Sources that do not give the same images again are found, said, and not gone on with."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from shapeshd.benchmark.result.source_checks import ReproducibilityRecord
from shapeshd.benchmark.scoring.reproducibility import look_again
from shapeshd.benchmark.scoring.score import score_source
from shapeshd.benchmark.scoring.settings import ScoreSettings
from shapeshd.benchmark.sources.networks.in_process import open_callable
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.subprocess import code_process
from shapeshd.errors import UsageError
from shapeshd.support.distributed import Ranks
from tests.support.fake_scores import ReadsWritten, Written
from tests.support.same_process import SameProcess
from tests.support.tanh_generator import DIM, Tanh, opened

FEW = 5_761
pytestmark = pytest.mark.usefixtures("no_page")


class Noisy(Tanh):
    """Noise is drawn inside, as StyleGAN does it."""

    def forward(self, z: Tensor) -> Tensor:
        image = super().forward(z)
        return (image + 0.2 * torch.randn_like(image)).clamp(-1, 1)


class Normalized(Tanh):
    """Its batch normalization works on each batch where it is traced in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(DIM)
        self.dropout = nn.Dropout(0.0)

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(self.norm(z))


class Dropping(Tanh):
    """Dropout that evaluation mode does not end, as in a network traced in training mode."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(z, 0.5, training=True))


def found_of(source: Any) -> ReproducibilityRecord:
    with source:
        found = look_again(source)
    assert found is not None
    return found


def traced(network: nn.Module, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.randn(16, DIM), check_trace=False).save(path)
    return opened(path, trust=True, latent_dim=DIM, batch=16)


@pytest.mark.parametrize("network", [Noisy, Normalized, Dropping])
def test_networks_that_mix_or_draw(network: type[nn.Module], tmp_path: Path) -> None:
    for source in (
        traced(network().train(), tmp_path / "g.pt"),
        open_callable(
            network().train(), options=SourceOptions(latent_dim=DIM, batch=16), name="module"
        ),
    ):
        found = found_of(source)
        assert not found.same
        assert found.other_batch is not None
        assert max(found.again, found.other_batch) > 5
    assert found_of(traced(network().eval(), tmp_path / "g.pt")).same == (network is Normalized)


def test_a_network_that_does_neither(tmp_path: Path) -> None:
    found = found_of(traced(Tanh().eval(), tmp_path / "g.pt"))
    assert found.same
    assert found.again == 0
    assert found.other_batch is not None
    assert found.other_batch < 0.01  # rounding


def test_noise_inside_is_the_same_when_a_run_is_repeated(tmp_path: Path) -> None:
    """It is drawn from generators that begin anew with each batch."""
    torch.manual_seed(1)
    with traced(Noisy().eval(), tmp_path / "g.pt") as source:
        first = source.images(0, 40)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    with opened(tmp_path / "g.pt", trust=True, latent_dim=DIM, batch=16) as source:
        assert torch.equal(source.images(20, 40), first[20:])
    assert torch.equal(torch.get_rng_state(), state)


def onnx_noise(path: Path) -> Path:
    """Write a model that adds noise of its own to its latents."""
    weights = Tanh().dense.weight.detach().numpy().T.copy()
    graph = helper.make_graph(
        [
            helper.make_node("RandomNormalLike", ["z"], ["noise"]),
            helper.make_node("Add", ["z", "noise"], ["sum"]),
            helper.make_node("MatMul", ["sum", "w"], ["y"]),
            helper.make_node("Tanh", ["y"], ["t"]),
            helper.make_node("Reshape", ["t", "form"], ["image"]),
        ],
        "generator",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ("n", DIM))],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", 3, 8, 8))],
        [
            helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel()),
            helper.make_tensor("form", TensorProto.INT64, (4,), np.array([-1, 3, 8, 8])),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_an_onnx_model_that_draws(tmp_path: Path) -> None:
    found = found_of(opened(onnx_noise(tmp_path / "g.onnx")))
    assert not found.same
    assert found.again > 5


ENTRIES = {
    "its own generator": (
        "def make(z):\n    return torch.rand(len(z), 3, 8, 8, generator=own)", False,
    ),
    "a generator of all, and no latents": ("def make(z):\n    return torch.rand(len(z), 3, 8, 8)",
                                           False),
    "a counter": (
        "count = 0\ndef make(z):\n    global count\n    count += 1\n"
        "    return torch.full((len(z), 3, 8, 8), count / 9 % 1) * torch.rand(8)", False,
    ),
    "one seed for a batch": (
        "def make(seeds):\n    g = torch.Generator().manual_seed(seeds[0])\n"
        "    return torch.rand(len(seeds), 3, 8, 8, generator=g)", False,
    ),
    "a seed for each": (
        "def make(seeds):\n    return torch.stack([torch.rand(3, 8, 8, "
        "generator=torch.Generator().manual_seed(s)) for s in seeds])", True,
    ),
    "latents": (
        "def make(z):\n    return z.flatten(1)[:, :3, None, None].sigmoid().expand(-1, -1, 8, 8)",
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ENTRIES)
def test_python_entries(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_process, "_Child", SameProcess)
    code, same = ENTRIES[case]
    path = tmp_path / "gen.py"
    head = "import torch\nlatent_dim = 5\nown = torch.Generator().manual_seed(0)\n"
    path.write_text(textwrap.dedent(head + code))
    source = opened(f"{path}:make", trust=True, range="unit", batch=16)
    assert found_of(source).same is same


def test_a_function_of_a_number_belongs_to_its_batch() -> None:
    found = found_of(open_callable(lambda n: torch.rand(n, 3, 8, 8)))
    assert found.same
    assert found.other_batch is None


def test_images_that_exist_are_not_made() -> None:
    assert look_again(Written(count=9_000)) is None


class Restless(Written):
    """A source whose images are others whenever they are asked for."""

    calls = 0

    def bins(self, start: int, stop: int) -> Any:
        self.calls += 1
        self.seed = self.calls
        return super().bins(start, stop)


def scored(out: Path, samples: int = FEW, **settings: Any) -> Any:
    ranks = settings.pop("ranks", None)
    chosen = ScoreSettings(samples=samples, **settings)
    return score_source(Restless(), ReadsWritten(), out, chosen, ranks=ranks)


def test_what_cannot_be_repeated_is_said_and_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    result = scored(out)
    assert not result.reproducibility.same
    assert "made again is another" in capsys.readouterr().err
    assert scored(out) == result  # what is finished can be looked at again
    with pytest.raises(UsageError, match=r"extended.*allow_irreproducible"):
        scored(out, 6_000)
    more = scored(out, 6_000, allow_irreproducible=True)
    assert (more.samples, more.reproducibility.same) == (6_000, False)
    assert "all the same" in capsys.readouterr().err
    assert scored(out, FEW, again=True).samples == FEW


def test_it_is_not_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranks, "wait", lambda self: None)
    with pytest.raises(UsageError, match=r"shared out.*allow_irreproducible"):
        scored(tmp_path / "out", ranks=Ranks(0, 2))


@pytest.mark.parametrize("batch", [64, 5_000])
def test_functions_of_this_process(batch: int) -> None:
    make: Callable[..., Any] = np.random.default_rng(0).random
    options = SourceOptions(batch=batch)
    found = found_of(open_callable(lambda n: make((n, 3, 8, 8)), options=options))
    assert not found.same
