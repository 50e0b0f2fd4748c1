"""Networks that a function uses are found, and are in evaluation mode while it is scored."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shapeshd.benchmark.sources.networks.reached import Evaluated, networks_of
from tests.support import known_generators
from tests.support.known_generators import DIM, Telling, scored, true_counts

GLOBAL = nn.Linear(1, 1)
TABLE: dict[str, Any] = {}


class Trainer:
    """Holds networks as programs do."""

    def __init__(self, network: nn.Module) -> None:
        self.parts = {"ema": [network]}
        self.itself = self

    def sample(self, z: Tensor) -> Any:
        return self.parts["ema"][0](z)

    def __call__(self, z: Tensor) -> Any:
        return self.sample(z)

    @staticmethod
    def fixed(z: Tensor) -> Any:
        return GLOBAL(z)


def uses_a_global(z: Tensor) -> Any:
    return GLOBAL(z)


def uses_it_through_another(z: Tensor) -> Any:
    def inner(values: Tensor) -> Any:
        return uses_a_global(values)

    return inner(z)


def uses_a_table(z: Tensor) -> Any:
    return TABLE["network"](z)


def uses_a_module_of_python(z: Tensor) -> Any:
    return known_generators.network(z)  # type: ignore[attr-defined]


def decorated(network: nn.Module) -> Callable[..., Any]:
    @torch.no_grad()
    def draw(z: Tensor) -> Any:
        return network(z)

    return draw


def default(network: nn.Module) -> Callable[..., Any]:
    def draw(z: Tensor, used: nn.Module = network, *, other: Any = None) -> Any:
        return used(z)

    return draw


def attribute(network: nn.Module) -> Callable[..., Any]:
    def draw(z: Tensor) -> Any:
        return draw.network(z)  # type: ignore[attr-defined]

    draw.network = network  # type: ignore[attr-defined]
    return draw


WAYS: dict[str, Callable[[nn.Module], Any]] = {
    "itself": lambda network: network,
    "its method": lambda network: network.forward,
    "a closure": lambda network: lambda z: network(z),
    "a closure over an object": lambda network: (lambda held: lambda z: held(z))(Trainer(network)),
    "a bound method": lambda network: Trainer(network).sample,
    "an object that is called": Trainer,
    "a partial": lambda network: functools.partial(torch.nn.Module.__call__, network),
    "a decorated function": decorated,
    "a default": default,
    "an attribute": attribute,
    "a list of functions": lambda network: (lambda steps: lambda z: steps[0](z))([network.forward]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_network_is_found(way: str) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert networks_of(WAYS[way](network)) == [network]


def test_networks_of_the_file_and_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert networks_of(uses_a_global) == [GLOBAL]
    assert networks_of(uses_it_through_another) == [GLOBAL]
    assert networks_of(Trainer.fixed) == [GLOBAL]
    monkeypatch.setitem(TABLE, "network", nn.Identity())
    assert networks_of(uses_a_table) == [TABLE["network"]]
    monkeypatch.setattr(known_generators, "network", nn.Identity(), raising=False)
    assert networks_of(uses_a_module_of_python) == [known_generators.network]  # type: ignore[attr-defined]


def test_what_has_no_network() -> None:
    for nothing in (len, torch.rand, lambda z: torch.tanh(z), "path", 3, print, Trainer):
        assert networks_of(nothing) == []


def test_parts_of_a_network_are_not_listed_beside_it() -> None:
    whole = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert networks_of(lambda z: whole[1](whole(z))) == [whole]
    first, second = whole[0], whole
    assert networks_of(lambda z: second(first(z))) == [whole]


@pytest.mark.parametrize("way", ["a closure", "a bound method"])
def test_a_score_evaluates_them_and_gives_them_back(way: str) -> None:
    """In training mode `Telling` is wrong, and its batch normalization would count."""
    network = Telling()
    network.drop.eval()
    modes = [part.training for part in network.modules()]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = scored(WAYS[way](network), latent_dim=DIM)
    assert (found.counts == true_counts(found.samples)).all()
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_batch_normalization_counts_nothing() -> None:
    norm = nn.BatchNorm2d(3)
    scored(
        lambda z: norm(torch.sigmoid(z.flatten(1)[:, :3, None, None]).expand(-1, -1, 64, 64)),
        latent_dim=DIM,
        range="unit",
    )
    assert norm.training
    assert int(norm.num_batches_tracked) == 0  # type: ignore[arg-type]
    assert torch.equal(norm.running_mean, torch.zeros(3))  # type: ignore[arg-type]


def test_networks_that_are_made_in_the_first_call() -> None:
    made: dict[str, nn.Module] = {}

    def draw(z: Tensor) -> Tensor:
        network = made.setdefault("network", nn.Dropout(0.5))
        return network(z)  # type: ignore[no-any-return]

    function = Evaluated(draw)
    assert function.changed == []
    assert torch.equal(function(torch.ones(50)), torch.ones(50))
    assert not made["network"].training


def test_a_function_that_wants_training_mode_says_so_itself() -> None:
    network = nn.Dropout(0.5)

    def draw(z: Tensor) -> Any:
        return network.train()(z)

    function = Evaluated(draw)
    assert function.changed == ["Dropout"]
    assert not network.training
    assert not torch.equal(function(torch.ones(50)), torch.ones(50))
