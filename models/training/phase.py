"""The base of the phases of training: networks, their averages, optimizers, codes, and state.

Each phase holds its networks and takes one step at a time; the domain says what the data are,
which networks there are, and how results are scored. Random numbers are drawn for the whole
batch and cut to this process's part.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from shapeshd.models.config import RunConfig, Schedule
from shapeshd.models.networks.encoder import Encoder
from shapeshd.support.training.state import move_average, restore_tensors, state_tensors

from .distributed import Draws, Group
from .domains.domain import Domain
from .schedule import learning_rate_at

_Network = TypeVar("_Network", bound=nn.Module)


class Phase:
    """Trains some networks together, one `update` a step.

    Args:
        config: of the run.
        domain: data and networks.
        group: the processes that train together.
        device: where.

    Attributes:
        tables: of the configuration, that it is made from beside its own and the domain's.
        networks: what is trained, by name.
        averages: moving averages of some of them, by the same name.
        fixed: what is used as it is.
        optimizers: by name.
        numbers: what else changes during training: weights, probabilities, running means.
    """

    name: ClassVar[str]

    def __init__(
        self, config: RunConfig, domain: Domain, group: Group, device: torch.device
    ) -> None:
        self.config, self.domain, self.group, self.device = config, domain, group, device
        self.tables: tuple[str, ...] = ("codes",)
        self.draws = Draws(config.seed, device, group)
        # Modules; their parts (`trunk`, `mapping`) have no types that all domains share.
        self.networks: dict[str, Any] = {}
        self.averages: dict[str, Any] = {}
        self.fixed: dict[str, Any] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.numbers: dict[str, float] = {}

    @property
    def schedule(self) -> Schedule:
        """The phase's table of the configuration."""
        schedule: Schedule = getattr(self.config, self.name)
        return schedule

    @property
    def generator(self) -> nn.Module:
        """The generator that is evaluated: an average."""
        generator: nn.Module = self.averages["generator"]
        return generator

    @property
    def encoder(self) -> Encoder | None:
        """The encoder that is evaluated, an average or fixed; None where there is none."""
        return self.averages.get("encoder", self.fixed.get("encoder"))

    def prepare(self) -> None:
        """Compute what all steps need, before the first one that this process takes."""

    def update(self, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Take a step.

        Args:
            step: its number, from 0.
            x: this process's part of the batch, float32 (n, ...).
            rows: their numbers, int64 (n,).

        Returns:
            Scalars to log.
        """
        raise NotImplementedError

    def encode(
        self, features: Tensor, step: int, batch: int, what: str = "encode"
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw codes of features; see `Head.sample`.

        Args:
            features: (n, feature_dim), this process's part of the batch.
            step: of the run.
            batch: size of the whole batch.
            what: names the draw.

        Returns:
            The codes z, and the mean and log-variance that they were drawn with: (n, latent_dim).
        """
        encoder = self.networks["encoder"] if "encoder" in self.networks else self.fixed["encoder"]
        codes = self.config.codes
        noise = self.draws.normal(step, f"{what} noise", batch, codes.noise_dim)
        sample = self.draws.normal(step, f"{what} sample", batch, codes.latent_dim)
        drawn: tuple[Tensor, Tensor, Tensor] = encoder.head.sample(features, noise, sample)
        return drawn

    def add_optimizer(
        self, name: str, parts: Iterable[tuple[nn.Module, float]], betas: tuple[float, float]
    ) -> None:
        """Make Adam for some networks.

        Args:
            name: of the optimizer.
            parts: networks, or parts of them, each with the share of the learning rate that is
                its own.
            betas: of Adam.
        """
        groups = [
            {"params": [p for p in part.parameters() if p.requires_grad], "share": share}
            for part, share in parts
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizers[name] = torch.optim.Adam(groups, lr=0.0, betas=betas, eps=1e-8)

    def descend(self, name: str, loss: Tensor, step: int) -> None:
        """Take a step of an optimizer down the gradient of a loss."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.group.average_gradients(p for group in optimizer.param_groups for p in group["params"])
        rate = learning_rate_at(step, self.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        optimizer.step()

    def follow(self, step: int) -> None:
        """Move the averages towards the networks."""
        half_life = self.schedule.half_life
        kept = 0.5 ** (1 / half_life) if half_life else 0.0
        for name, average in self.averages.items():
            move_average(average, self.networks[name], kept, step)

    def average_of(self, network: _Network) -> _Network:
        """Return a copy that is not trained, to become an average."""
        return frozen(copy.deepcopy(network)).eval()

    def extra(self) -> dict[str, Any]:
        """Return what else a later process needs to go on, ready for JSON."""
        return {}

    def restore_extra(self, values: Mapping[str, Any]) -> None:
        """Take over what `extra` gave."""

    def tensors(self) -> dict[str, Tensor]:
        """Return all that a later process needs to go on, but for `numbers` and `extra`."""
        return state_tensors(self._all_networks(), self.optimizers)

    def restore(
        self, tensors: Mapping[str, Tensor], numbers: Mapping[str, float], path: Path
    ) -> None:
        """Take over what `tensors` and `numbers` gave; the networks must be the same.

        Raises:
            UsageError: naming the first tensor that does not fit.
            ShapesHDError: if the optimizers' tensors are those of other parameters.
        """
        restore_tensors(self._all_networks(), self.optimizers, tensors, path)
        self.numbers.update(numbers)

    def _all_networks(self) -> dict[str, nn.Module]:
        kinds = {"network": self.networks, "average": self.averages, "fixed": self.fixed}
        return {
            f"{kind}.{name}": network
            for kind, networks in kinds.items()
            for name, network in networks.items()
        }


def frozen(network: _Network) -> _Network:
    """Return the network, its parameters no longer trained."""
    return network.requires_grad_(False)
