"""Runs phases of training one after the other in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import UsageError
from shapeshd.models.config import IMAGES, RING, RunConfig
from shapeshd.models.config_file import check_images, to_toml
from shapeshd.models.networks.encoder import Encoder
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.checkpoint import load_checkpoint, load_weights, read_card
from shapeshd.support.progress import note
from shapeshd.support.training.tracker import Tracker

from .aae import AAEPhase
from .distributed import Group
from .domains.domain import Domain
from .files import CONFIG, ENCODER, ENCODER_KIND, FEATURES, GENERATOR
from .flow import FlowPhase
from .gan import GANPhase
from .phase import Phase
from .trainer import Trainer
from .vae import VAEPhase


class TrainingRun:
    """Trains phases into one folder; each begins with what the earlier ones left there.

    Args:
        config: of all phases.
        source: the images; None in the factor-space tier, whose data are drawn from the seed.
        out: folder of the run; it is made.
        device: where.
        group: the processes that train together.
        start: folder of another run, whose earlier phases are taken where `out` has none.
        workers: processes that read images; None for one, or none where images are made.
        compiled: whether networks are compiled if the configuration says so.

    Raises:
        UsageError: if the source and the configuration do not fit, or there is no `start`.
    """

    def __init__(
        self,
        config: RunConfig,
        source: Path | RenderSpec | None,
        out: Path,
        *,
        device: str | torch.device = "cpu",
        group: Group | None = None,
        start: Path | None = None,
        workers: int | None = None,
        compiled: bool = True,
    ) -> None:
        self.config, self.out, self.start = config, out, start
        self.device, self.group = torch.device(device), group or Group()
        if start is not None and not start.is_dir():
            raise UsageError(f"{start}: no such folder to start from")
        if workers is None:
            workers = 0 if source is None or isinstance(source, RenderSpec) else 1
        if not compiled:
            config = replace(config, images=replace(config.images, compile=False))
        self.domain = open_domain(config, source, self.device, workers)

    def train_all(
        self,
        phases: Sequence[str],
        *,
        progress: bool = False,
        trackers: Sequence[str | Tracker] = (),
    ) -> dict[str, Any]:
        """Train phases in order, but for those before the last that `start` has; see `train`.

        Returns:
            The result of each phase that was trained, by its name.
        """
        return {
            name: self.train(name, progress=progress, trackers=trackers)
            for name in phases
            if name == phases[-1] or not self.has(name)
        }

    def train(
        self, name: str, *, progress: bool = False, trackers: Sequence[str | Tracker] = ()
    ) -> dict[str, Any]:
        """Train a phase, or go on with it; of one that is done, return the result.

        Args:
            name: "vae", "aae", "gan" or "flow".
            progress: show a bar and notes on stderr.
            trackers: what else shows the log: "tensorboard", "wandb", or trackers of your own.

        Returns:
            What the phase's ``result.json`` holds; {} in all processes but the first.

        Raises:
            UsageError: if an earlier phase is missing, the folder holds another run, or batches
                cannot be shared or are larger than the data.
            InterruptedRunError: if SIGINT or SIGTERM came.
            ShapesHDError: if training fails.
        """
        self.check(name)
        # First weights are drawn for each phase anew: which phases ran before in this process
        # does not matter.
        torch.manual_seed(self.config.seed)
        phase, origin = self._phase(name)
        trainer = Trainer(phase, self.out / name, origin, trackers=trackers)
        if self.group.first:  # not before it is known that no other run is here
            text = to_toml(self.config)
            replace_file(self.out / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
        if progress and self.group.first and trainer.step:
            steps = phase.schedule.steps
            done = f"all {steps:,} steps are taken; evaluated again"
            going = f"going on after {trainer.step:,} of {steps:,} steps"
            note(f"{name}: {done if trainer.finished else going}")
        return trainer.run(progress=progress)

    def check(self, name: str) -> None:
        """Raise `UsageError` unless a phase's batches fit the data and the processes."""
        config = self.config
        batch = getattr(config, name).batch
        # The discriminator of images compares neighbours; differences are those of a ring.
        grouped = config.domain == IMAGES and name == "gan" and self.group.count > 1
        self.group.check(f"{name}.batch", batch, config.images.group if grouped else 1)
        if name == "aae":
            ring = RING if config.aae.discriminator == "difference" else 1
            self.group.check("aae.codes", config.aae.codes, ring)
        if self.domain.count < batch:
            raise UsageError(
                f"{self.domain.count:,} images to train on are too few: a batch of {name} takes "
                f"{batch:,}"
            )

    def has(self, name: str) -> bool:
        """Tell whether `start` holds a finished phase, trained with this configuration's table."""
        if self.start is None or not (self.start / name / GENERATOR).exists():
            return False
        if read_card(self.start / name / GENERATOR).get(name) == self.config.to_json()[name]:
            return True
        if self.group.first:
            note(f"{name}: {self.start} has one with another table [{name}]; trained anew")
        return False

    def _phase(self, name: str) -> tuple[Phase, dict[str, Any]]:
        config, domain = self.config, self.domain
        shared = (config, domain, self.group, self.device)
        if name == "vae":
            return VAEPhase(*shared), {}
        if name == "flow":
            return FlowPhase(*shared), {}
        if name == "aae":
            encoder, generator, origin = self._autoencoder("vae")
            cache = self.out / "aae" / FEATURES if self.group.first else None
            features = domain.features(encoder.trunk, cache, origin["encoder"])
            phase = AAEPhase(*shared, encoder, generator, features[: domain.count])
            return phase, origin
        if not (config.gan.paired or config.gan.from_autoencoder):
            return GANPhase(*shared), {}
        encoder, generator, origin = self._autoencoder("aae")
        return GANPhase(*shared, (encoder, generator)), origin

    def _autoencoder(self, phase: str) -> tuple[Encoder, nn.Module, dict[str, Any]]:
        """Return the encoder and the generator that a phase left, and their digests."""
        folders = [top / phase for top in (self.out, self.start) if top is not None]
        folder = next((at for at in folders if (at / ENCODER).exists()), folders[-1])
        if not (folder / ENCODER).exists():
            raise UsageError(
                f"{folder}: holds no finished phase {phase}: train it first (shapeshd train "
                f"{phase}), or name a run that has it with --from"
            )
        encoder, generator = self.domain.encoder(), self.domain.generator()
        loaded = load_checkpoint(folder / ENCODER, ENCODER_KIND)
        load_weights(encoder, loaded.tensors, loaded.path)
        made = load_checkpoint(folder / GENERATOR)
        load_weights(generator, made.tensors, made.path)
        return encoder, generator, {"encoder": loaded.digest, "generator": made.digest}


def open_domain(
    config: RunConfig, source: Path | RenderSpec | None, device: torch.device, workers: int
) -> Domain:
    """Return the data and networks of a configuration; errors as `TrainingRun`."""
    check_images(config, source)
    if source is None:
        from .domains.factors import FactorDomain

        return FactorDomain(config, device)
    from .domains.images import ImageDomain

    return ImageDomain(config, source, device, workers)
