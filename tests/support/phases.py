"""Phases of tiny networks, and what their steps are compared with."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd.models.config import RunConfig
from shapeshd.models.training.aae import AAEPhase
from shapeshd.models.training.distributed import Group
from shapeshd.models.training.flow import FlowPhase
from shapeshd.models.training.gan import GANPhase
from shapeshd.models.training.phase import Phase
from shapeshd.models.training.run import open_domain
from shapeshd.models.training.vae import VAEPhase
from tests.support.tiny_models import SPEC, tiny

CPU = torch.device("cpu")


class Recorded(Phase):
    """A phase's draws by name, and what its networks were before a step."""

    def __init__(self, phase: Phase) -> None:
        self.drawn: dict[str, Tensor] = {}
        self.before = {name: copy.deepcopy(net) for name, net in phase.networks.items()}
        self.averages = {name: copy.deepcopy(net) for name, net in phase.averages.items()}
        self.states = {
            name: {p: dict(state) for p, state in optimizer.state.items()}
            for name, optimizer in phase.optimizers.items()
        }
        normal = phase.draws.normal

        def record(step: int, what: str, batch: int, *shape: int) -> Tensor:
            self.drawn[what] = normal(step, what, batch, *shape)
            return self.drawn[what]

        phase.draws.normal = record  # type: ignore[method-assign]


def domain_of(config: RunConfig) -> Any:
    return open_domain(config, SPEC if config.domain == "images" else None, CPU, 0)


def new_phase(name: str, domain: str = "factors", seed: int = 0, **changes: Any) -> Any:
    """Return a phase with networks that have learnt nothing, but differ from each other."""
    config = tiny(domain, **changes)
    data = domain_of(config)
    torch.manual_seed(seed)
    shared = (config, data, Group(), CPU)
    if name in ("vae", "flow"):
        return (VAEPhase if name == "vae" else FlowPhase)(*shared)
    pair = (data.encoder(), data.generator())
    stir(*pair)
    if name == "aae":
        features = data.features(pair[0].trunk, None, "")[: data.count]
        return AAEPhase(*shared, *pair, features)
    alone = not (config.gan.paired or config.gan.from_autoencoder)
    return GANPhase(*shared, None if alone else pair)


def stir(*networks: nn.Module) -> None:
    """Networks' outputs begin near zero; here they shall have something to say."""
    with torch.no_grad():
        for network in networks:
            for value in network.parameters():
                value.add_(torch.randn_like(value) * 0.3)


def batch_of(phase: Phase, step: int = 0) -> tuple[Tensor, Tensor]:
    rows = torch.arange(phase.schedule.batch) + 8 * step
    return next(iter(phase.domain.batches([rows]))), rows


def take(phase: Phase, step: int) -> tuple[Recorded, dict[str, Tensor], Tensor, Tensor]:
    x, rows = batch_of(phase, step)
    recorded = Recorded(phase)
    return recorded, phase.update(step, x, rows), x, rows


def same_gradients(network: nn.Module, loss: Tensor, reference: nn.Module) -> None:
    """Compare what a step left in `network` with the gradient of `loss` by `reference`."""
    ours = {name: p for name, p in network.named_parameters() if p.grad is not None}
    theirs = dict(reference.named_parameters())
    for name in ours:
        theirs[name].requires_grad_(True)
    wanted = torch.autograd.grad(loss, [theirs[name] for name in ours], retain_graph=True)
    assert ours
    assert sum(float(gradient.norm()) for gradient in wanted) > 1e-4
    for (name, value), gradient in zip(ours.items(), wanted, strict=True):
        # Attention does not feel the bias of its keys: what gradient that has is rounding.
        scale = max(float(gradient.abs().max()), 1e-3 if name.endswith("to_k.bias") else 1e-6)
        torch.testing.assert_close(
            value.grad, gradient, rtol=1e-3, atol=1e-4 * scale, msg=partial("{}: {}".format, name)
        )


def log_yes(logits: Tensor) -> Tensor:
    """ln C, of the logits of C; in double, where 1 - C does not vanish so soon."""
    return torch.log(torch.sigmoid(logits.double()))


def log_no(logits: Tensor) -> Tensor:
    """ln(1 - C)."""
    return torch.log(1 - torch.sigmoid(logits.double()))


def sample(encoder: Any, features: Tensor, noise: Tensor, eps: Tensor) -> Tensor:
    mean, log_variance = encoder.head(features, noise)
    code: Tensor = mean + torch.sqrt(torch.exp(log_variance)) * eps
    return code
