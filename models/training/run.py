"""Runs phases of training one after the other in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import UsageError, named
from shapeshd.models.config import IMAGES, RING, RunConfig
from shapeshd.models.config_file import check_images, to_toml
from shapeshd.models.networks.encoder import Encoder
from shapeshd.models.networks.run_folder import FLOW, PHASES
from shapeshd.support.atomic_files import replace_file
from shapeshd.support.checkpoint import load_checkpoint, load_weights, read_card
from shapeshd.support.progress import note
from shapeshd.support.training.loop import first_difference, require_same_settings
from shapeshd.support.training.tracker import Tracker

from .aae import AAEPhase
from .distributed import Group
from .domains.domain import Domain
from .files import (
    CONFIG,
    ENCODER,
    ENCODER_KIND,
    FEATURES,
    GENERATOR,
    data_settings,
    network_settings,
)
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
        if start is not None:
            _check_start(start)
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
        """Train phases in order, but for the first ones that `start` has; see `train`.

        A phase is taken from `start` only with all those before it, on which it was built. The
        last one is trained.

        Returns:
            The result of each phase that was trained, by its name.
        """
        if self.start is not None and not self._has_earlier(phases) and self.group.first:
            note(f"{phases[0]}: begins with no other phase: {self.start} is not used")
        taken = sum(1 for _ in takewhile(self.has, phases[:-1]))
        for name in phases[taken:]:  # before the first of them takes days
            self.check(name)
            self._check_later(name)
        return {
            name: self.train(name, progress=progress, trackers=trackers) for name in phases[taken:]
        }

    def train(
        self, name: str, *, progress: bool = False, trackers: Sequence[str | Tracker] = ()
    ) -> dict[str, Any]:
        """Train a phase, or go on with it; of one that is done, return the result.

        Args:
            name: "vae", "aae", "gan" or "flow".
            progress: show a bar and notes on stderr.
            trackers: what else shows the log: "tensorboard", "wandb", or trackers of your own,
                which you close yourself.

        Returns:
            What the phase's ``result.json`` holds; {} in all processes but the first.

        Raises:
            UsageError: if an earlier phase is missing, the folder holds another run or later
                phases made from what more steps would change, or batches cannot be shared or are
                larger than the data.
            InterruptedRunError: if SIGINT or SIGTERM came.
            ShapesHDError: if training fails.
        """
        self.check(name)
        self._check_later(name)
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
            again = "" if trainer.known_result() else "; evaluated again"
            done = f"all {steps:,} steps are taken{again}"
            going = f"going on after {trainer.step:,} of {steps:,} steps"
            note(f"{name}: {done if trainer.finished else going}")
        return trainer.run(progress=progress)

    def check(self, name: str) -> None:
        """Raise `UsageError` unless a phase's batches and augmentation fit data and processes."""
        config = self.config
        batch = getattr(config, name).batch
        # The discriminator of images compares neighbours; differences are those of a ring.
        grouped = config.domain == IMAGES and name == "gan"
        self.group.check(f"{name}.batch", batch, config.images.group if grouped else 1)
        if name == "aae":
            ring = RING if config.aae.discriminator == "difference" else 1
            self.group.check("aae.codes", config.aae.codes, ring)
        if name == "gan":
            self.domain.augmentation(config.gan.augment)
        if self.domain.count < batch:
            raise UsageError(
                f"{self.domain.count:,} images to train on are too few: a batch of {name} takes "
                f"{batch:,}"
            )

    def _has_earlier(self, phases: Sequence[str]) -> bool:
        """Tell whether the first of these phases is made from another one, or others follow it."""
        gan = self.config.gan
        coupled = gan.paired or gan.from_autoencoder
        return len(phases) > 1 or phases[0] == "aae" or (phases[0] == "gan" and coupled)

    def _check_later(self, name: str) -> None:
        """Raise `UsageError` if more steps would change what later phases here were made from."""
        path = self.out / name / ENCODER
        if name not in PHASES or not path.exists():
            return
        after = PHASES[PHASES.index(name) + 1 :]
        later = [at for at in after if (self.out / at / Trainer.state_file).exists()]
        done, steps = read_card(path)["steps"], getattr(self.config, name).steps
        if later and steps > done:
            raise UsageError(
                f"{path.parent}: has {done:,} steps, and {' and '.join(later)} in the same folder "
                f"began with what they gave: leave {name}.steps at {done}, or choose another "
                f"folder ({named('out')})"
            )

    def has(self, name: str) -> bool:
        """Tell whether a phase is to be taken from `start`, and not begun in this run's folder.

        It must be finished, have this configuration's table and networks, and be made from the
        phase 1 beside it, if there is one.
        """
        if self.start is None or (self.out / name / Trainer.state_file).exists():
            return False
        if not (self.start / name / ENCODER).exists():
            if self.group.first:
                note(f"{name}: {self.start} has no such phase finished: it is trained")
            return False
        config, card = self.config.to_json(), read_card(self.start / name / ENCODER)
        other = first_difference(card, {name: config[name], **network_settings(config)})
        why = None if other is None else f"with another table [{other[0].partition('.')[0]}]"
        first = self.start / "vae" / ENCODER
        if name == "aae" and why is None and first.exists():
            made_from = card.get("origin", {}).get("encoder")
            if made_from != read_card(first)["sha256"]:
                why = "made from another phase vae"
        if why is not None and self.group.first:
            note(f"{name}: {self.start} has one {why}; trained anew")
        return why is None

    def _phase(self, name: str) -> tuple[Phase, dict[str, Any]]:
        config, domain = self.config, self.domain
        shared = (config, domain, self.group, self.device)
        if name == "vae":
            return VAEPhase(*shared), {}
        if name == "flow":
            return FlowPhase(*shared), {}
        if name == "aae":
            encoder, generator, origin = self._autoencoder("vae")

            def features() -> Tensor:
                return self._features(encoder, origin["encoder"])

            return AAEPhase(*shared, encoder, generator, features), origin
        if not (config.gan.paired or config.gan.from_autoencoder):
            return GANPhase(*shared), {}
        encoder, generator, origin = self._autoencoder("aae")
        return GANPhase(*shared, (encoder, generator)), origin

    def _features(self, encoder: Encoder, digest: str) -> Tensor:
        """Return the trunk's features of the data to train on, float32 (n, feature_dim).

        The first process computes them; the others then read its file.
        """
        first = self.group.first
        if not first:
            self.group.wait()
        cache = self.out / "aae" / FEATURES
        features = self.domain.features(encoder.trunk, cache, digest, keep=first)
        if first:
            self.group.wait()
        return features[: self.domain.count]

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
        self._check_earlier(folder, loaded.card)
        load_weights(encoder, loaded.tensors, loaded.path)
        made = load_checkpoint(folder / GENERATOR)
        load_weights(generator, made.tensors, made.path)
        return encoder, generator, {"encoder": loaded.digest, "generator": made.digest}

    def _check_earlier(self, folder: Path, card: dict[str, Any]) -> None:
        """Raise `UsageError` if an earlier phase has other networks, or is another run's in `out`.

        Another run's, of `start`, may have been trained on other data: that is noted.
        """
        other = "set that, or begin with another run (--from)"
        require_same_settings(folder, card, network_settings(self.config.to_json()), other)
        held_out = self.config.checks.held_out
        now = data_settings({"data": self.domain.describe(), "held_out": held_out})
        before = data_settings(card)
        if folder.parent == self.out:
            require_same_settings(folder, before, now)
        elif first_difference(before, now) is not None and self.group.first:
            note(
                f"{folder}: was trained on other data, or with others held out: it may know "
                "those that are held out here"
            )


def _check_start(folder: Path) -> None:
    """Raise `UsageError` unless a folder is that of a run with a finished phase."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder to start from")
    if any((folder / name / GENERATOR).exists() for name in (*PHASES, FLOW)):
        return
    if (folder / GENERATOR).exists():
        raise UsageError(
            f"{folder}: is the folder of a phase: give that of its run, {folder.parent}"
        )
    raise UsageError(f"{folder}: holds no finished phase to start from")


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
