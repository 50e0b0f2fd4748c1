"""Phases of training with new networks, to be timed or compared; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.models.config import RunConfig
from shapeshd.models.config_file import load_config
from shapeshd.models.training.aae import AAEPhase
from shapeshd.models.training.distributed import Draws, Group
from shapeshd.models.training.flow import FlowPhase
from shapeshd.models.training.gan import GANPhase
from shapeshd.models.training.phase import Phase
from shapeshd.models.training.run import TrainingRun
from shapeshd.models.training.vae import VAEPhase

# All that a step of phase 3 does, in the first step; a compiler takes longer than the steps here.
CHANGES = ("gan.head_start=0", "images.compile=false")


def config_of(name: str, method: str, changes: Sequence[str] = ()) -> RunConfig:
    """Return the configuration of a method for a few steps."""
    return load_config(name, (*CHANGES, *changes), 0, method)


def open_run(config: RunConfig, count: int, device: torch.device) -> TrainingRun:
    """Return a run on `count` images of training that the device traces; its folder is not made."""
    from pathlib import Path

    total = count + config.checks.held_out
    spec = RenderSpec(0, total, config.images.size, device=str(device))
    return TrainingRun(config, spec, Path("nowhere"), device=device)


def new_phase(run: TrainingRun, name: str) -> Phase:
    """Return a phase whose earlier phases have learnt nothing; its weights are those of seed 0."""
    torch.manual_seed(0)
    config, domain = run.config, run.domain
    shared = (config, domain, Group(), run.device)
    if name in ("vae", "flow"):
        return (VAEPhase if name == "vae" else FlowPhase)(*shared)
    pair = (domain.encoder(), domain.generator())
    if name == "aae":
        features = domain.features(pair[0].trunk, None, "")[: domain.count]
        return AAEPhase(*shared, *pair, features)
    plain = not (config.gan.paired or config.gan.from_autoencoder)
    return GANPhase(*shared, None if plain else pair)


class MovedDraws(Draws):
    """Draws on the CPU and moves the numbers, so that two devices get the same ones."""

    def normal(self, step: int, what: str, batch: int, *shape: int) -> Tensor:
        generator = self.generator(step, what, "cpu")
        return torch.randn(batch, *shape, generator=generator).to(self._device)

    def times(self, step: int, what: str, batch: int) -> Tensor:
        u = torch.rand((), generator=self.generator(step, what, "cpu"))
        return ((u + torch.arange(batch) / batch) % 1).to(self._device)
