"""`score` for a program of one's own: what makes images goes in, a `Score` comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from shapeshd.distribution import Distribution
from shapeshd.errors import UsageError
from shapeshd.factors import check_seed

from .caller_state import evaluation_mode, restoring_random_state
from .fidelity.features import DEFAULT as DEFAULT_FEATURES
from .fidelity.features import FeatureNetwork
from .fidelity.measure import FidelitySettings
from .fidelity.real_cache import cache_folder
from .fidelity.rerender import DEFAULT_ENGINE
from .recognizer.find import shipped_for
from .recognizer.precision import check_precision
from .recognizer.reader import Reader
from .recognizer.recognizer import load_recognizer
from .report.sweep import finish_sweep
from .result.files import HISTOGRAM
from .result.sweep import SweepRecord, check_sweep_folder
from .score_object import Score
from .scoring.asked import refuse_without_fidelity
from .scoring.run_folder import precision_of
from .scoring.score import score_in_memory, score_source
from .scoring.settings import ReaderChoice, ScoreSettings
from .sources.base import Source
from .sources.networks.in_process import (
    callable_name,
    module_of,
    open_callable,
    place_of,
    unwrapped,
    weights_digest,
)
from .sources.networks.reached import networks_of
from .sources.open import open_source
from .sources.options import (
    DEFAULT_BATCH,
    LabelForm,
    Layout,
    Noise,
    Range,
    SolverName,
    SourceOptions,
)
from .sources.sweep import Sweep

Generator = nn.Module | Callable[[Any], Any] | Source | str | Path
"""What can be scored; see `score`."""


def score(
    generator: Generator,
    samples: int | None = None,
    *,
    recognizer: str | Path | Reader | None = None,
    precision: str = "auto",
    out: str | Path | None = None,
    protocol: str | None = None,
    distribution: Distribution | str | Path | None = None,
    fidelity: int | None = None,
    features: str | FeatureNetwork = DEFAULT_FEATURES,
    fidelity_engine: str = DEFAULT_ENGINE,
    range: Range = "auto",
    layout: Layout = "auto",
    latent_dim: int | None = None,
    latent_shape: Sequence[int] | None = None,
    batch: int = DEFAULT_BATCH,
    key: str | None = None,
    timeout: float = 600.0,
    frame_size: str | None = None,
    steps: int | None = None,
    solver: SolverName | None = None,
    truncation: float | None = None,
    truncation_cutoff: int | None = None,
    noise: Noise | None = None,
    architecture: str | None = None,
    labels: str | None = None,
    classes: int | None = None,
    label_form: LabelForm | None = None,
    code_dir: str | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    trust: bool = False,
    depends: str | Path | Sequence[str | Path] = (),
    cache: bool = True,
    again: bool = False,
    allow_irreproducible: bool = False,
    progress: bool = False,
) -> Score:
    """Measure whether the distribution of a generator's images is right.

    It can be called in the middle of a training. A network, and those that a function reaches, are
    put into evaluation mode and every part of them back into its own; gradients are off; the
    random generators of PyTorch, NumPy and Python go on as if nothing had been. It works in this
    process alone: where several train together, one of them calls it, or all use the metric
    `DistributionScore`. Nothing is written unless `out` is given.

    Args:
        generator: one of

            - an nn.Module or a function of latents, float32 (n, latent_dim), standard normal, in
              the network's own type and on its device;
            - a function of a number, n: whatever has no `latent_dim`, or annotates its first
              parameter as ``int``;
            - a function of ``seeds``, int64 array (n,), if its first parameter has that name;
            - a `Source`, such as `open_source` gives with options of its own; it stays open;
            - as text or path, whatever `open_source` takes: images, networks, ``render:0:6000``.

            Functions return n images: a tensor or an array, (n, 3, H, W) or (n, H, W, 3). All
            random generators are seeded before each batch, by `seed` and the batch's number.
        samples: how many, 5,761 at least for the uniform distribution; by default 100,000, or all
            images of a source that ends.
        recognizer: "lite", "lite-robust", "hd", the path of another one, or an object that reads
            images. By default hd for images of 128 pixels and more, else lite.
        precision: of the recognizer's convolutions: "fp32" or "bf16", or "auto": that of the score
            that lies in `out`, else bf16 where the device computes in it natively and the
            recognizer's card says how well it then reads, else fp32. An object has its own.
        out: folder that gets report, histogram and examples, as from the command line. A score
            that was stopped goes on there if it is of the same network, bit for bit, or the same
            source; a function cannot be told from another, and needs a new folder.
        protocol: "chi2-20k" for 20 samples per bin, in place of `samples`.
        distribution: that the samples should follow, or its TOML file; by default the uniform one.
        fidelity: of how many images the fidelity is measured as well: the first samples, or some of
            all the files' images that are drawn by the seed. It takes `out`. The result's
            ``fidelity`` says it.
        features: by which they are compared with real ones: "recognizer", a kind such as "dinov2"
            or "inception:PATH", or a `FeatureNetwork`.
        fidelity_engine: renders what they are compared with, "torch" or "povray".
        range: of floats: "uint8" 0 to 255, "unit" [0, 1], "symmetric" [-1, 1]; "auto" infers it,
            or refuses where that is a guess.
        layout: "nchw", "nhwc", or "auto".
        latent_dim: components of a latent; by default the generator's attribute ``latent_dim``
            or ``z_dim``.
        latent_shape: of one latent, such as (100, 1, 1), in place of `latent_dim`; what fails on
            (n, 100) is tried with (n, 100, 1, 1) by itself.
        batch: samples that are made at a time, >= 1.
        key: of an array in an npz or HDF5 file, or of the images in a tar file, with several.
        timeout: seconds for code in a process of its own to load, or to make a batch.
        frame_size: of the images that a command writes, such as "64x64", pixels.
        steps: from noise to image, of a diffusers pipeline or a flow; by default its own.
        solver: of a flow's equation: "euler", "heun" or "midpoint"; by default the checkpoint's.
        truncation: psi in [0, 1]: each style w becomes average + psi (w - average).
        truncation_cutoff: how many styles are truncated, the coarse ones first; by default all.
        noise: of a StyleGAN's layers: "const" for their own, "random", or "none".
        architecture: whose tensors a .safetensors file of another project holds: "stylegan2" or
            "dcgan".
        labels: of a conditional generator, each as likely as any other: "uniform", "3", "3,5,9" or
            "0-9".
        classes: how many a conditional generator has, where it does not say so.
        label_form: in which TorchScript takes labels: "onehot", float32 (n, classes), or "index",
            int64 (n,).
        code_dir: the authors' code, which loads and runs a network pickle.
        device: of latents and recognizer; by default the network's own, PyTorch's default for a
            function, and a GPU, if there is one, for all else.
        seed: decides the samples, in [0, 2^63 - 1]; of a `Source`, the one it was opened with.
        trust: whether code that comes with a path may run.
        depends: files that the code of a Python entry or a command loads, such as its weights: a
            score in `out` with others is refused.
        cache: whether what is measured of real images for `fidelity` is kept in the user's cache
            folder, where other scores find it.
        again: whether a score that lies in `out` is deleted and begun anew.
        allow_irreproducible: whether a score in `out` may go on though the source does not give
            the same images again.
        progress: show a bar on stderr.

    Raises:
        UsageError: if an argument is impossible, there are too few samples, or the images cannot
            be read by the recognizer.
        ShapesHDError: in one line, if the generator fails, or returns something else.
        InterruptedRunError: on SIGINT or SIGTERM with `out`, where what was counted is kept.
    """
    options = SourceOptions(
        range=range, layout=layout, latent_dim=latent_dim, batch=batch, key=key, timeout=timeout,
        frame_size=frame_size, steps=steps, solver=solver, truncation=truncation, noise=noise,
        truncation_cutoff=truncation_cutoff, architecture=architecture, labels=labels,
        classes=classes, label_form=label_form, code_dir=code_dir, depends=_paths(depends),
    )  # fmt: skip
    with ExitStack() as stack:
        check_seed(seed)
        check_precision(precision, recognizer)
        if out is not None and not isinstance(out, (str, Path)):
            raise UsageError(f"out must be the path of a folder, not {out!r}")
        generator = unwrapped(generator)
        place = _place(generator, device)
        stack.enter_context(restoring_random_state(place))
        for network in networks_of(generator):
            stack.enter_context(evaluation_mode(network))
        source = _opened(generator, stack, options, place, seed, trust, out, again)
        settings = ScoreSettings(
            samples=samples,
            protocol=protocol,
            seed=seed,
            distribution=_distribution(distribution),
            options=options,
            fidelity=_fidelity(fidelity, features, fidelity_engine, trust, cache),
            again=again,
            allow_irreproducible=allow_irreproducible,
        )
        if out is not None:
            precision = precision_of(Path(out), precision, again=again)
        reader = _reader(recognizer, place, precision)
        if out is None:
            if fidelity is not None:
                raise UsageError("fidelity takes a folder, too: give out")
            return Score(*score_in_memory(source, reader, settings, progress=progress))
        result = score_source(source, reader, Path(out), settings, progress=progress)
        assert result is not None  # there is one process alone
        return Score(result, np.load(Path(out) / HISTOGRAM, allow_pickle=False))


def _paths(given: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    return tuple(map(str, (given,) if isinstance(given, (str, Path)) else given))


def sweep(
    generator: Generator,
    option: str,
    values: Sequence[float | int | str],
    *,
    out: str | Path,
    **arguments: Any,
) -> SweepRecord:
    """Score a generator with several values of an option, such as truncation or steps.

    Args:
        generator: as `score` takes it; of a function's own parameters, those that are called
            ``steps``, ``truncation`` (or ``truncation_psi``), ``truncation_cutoff`` and ``noise``
            (or ``noise_mode``) can be swept.
        option: its name.
        values: two or more, all different.
        out: folder that gets a page with the curves of D and of fidelity, ``sweep.json``, and a
            folder with the whole score for each value.
        arguments: further ones of `score`.

    Returns:
        What ``sweep.json`` holds: for each value D and the reduced chi-square with intervals, and
        fidelity, if it was measured.

    Raises:
        UsageError, ShapesHDError, InterruptedRunError: as `score`.
    """
    plan, folder = Sweep(option, tuple(values)), Path(out)
    plan.options(arguments)  # all are possible, before the first is scored
    check_sweep_folder(folder)
    results = []
    for value in plan.values:
        name = plan.name(value)
        chosen: dict[str, Any] = {**arguments, option: value}
        found = score(generator, out=folder / name, **chosen)
        results.append((value, name, found.result))
    return finish_sweep(option, results, folder)


def _distribution(given: Distribution | str | Path | None) -> Distribution | None:
    if isinstance(given, (str, Path)):
        return Distribution.read(Path(given))
    if given is not None and not isinstance(given, Distribution):
        raise UsageError(
            f"distribution must be a Distribution or the path of its TOML file, not {given!r}"
        )
    return given


def _fidelity(
    images: int | None, features: str | FeatureNetwork, engine: str, trust: bool, cache: bool
) -> FidelitySettings | None:
    if not isinstance(features, str) and not callable(features):
        raise UsageError(f"features must be a name, such as 'inception', not {features!r}")
    refuse_without_fidelity(
        images,
        features=features != DEFAULT_FEATURES,
        fidelity_engine=engine != DEFAULT_ENGINE,
    )
    if images is None:
        return None
    return FidelitySettings(images, features, engine, trust, cache_folder() if cache else None)


def _place(generator: Any, device: str | torch.device | None) -> torch.device:
    if device is None and not _is_function(generator):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = callable_name(generator) if _is_function(generator) else "generator"
    return place_of(generator, device, name)


def _is_source(generator: Any) -> bool:
    return callable(getattr(generator, "images", None)) and hasattr(generator, "describe")


def _is_function(generator: Any) -> bool:
    return not isinstance(generator, (str, Path)) and not _is_source(generator)


def _opened(
    generator: Any,
    stack: ExitStack,
    options: SourceOptions,
    device: torch.device,
    seed: int,
    trust: bool,
    out: str | Path | None,
    again: bool,
) -> Source:
    """Return the source that `generator` is or names; `stack` closes it, if it is ours."""
    if isinstance(generator, (str, Path)):
        source = open_source(
            str(generator), seed=seed, trust=trust, device=str(device), options=options
        )
        stack.enter_context(source)
        return source
    if _is_source(generator):
        for field in fields(options):
            if getattr(options, field.name) != field.default:
                raise UsageError(
                    f"{generator.name}: is a source already: give {field.name} to what opened it"
                )
        return cast(Source, generator)
    name = None
    if out is not None and callable(generator):
        name = _name_in_folder(generator, Path(out), again)
    return stack.enter_context(
        open_callable(generator, seed=seed, device=device, options=options, name=name)
    )


def _name_in_folder(generator: Any, out: Path, again: bool) -> str:
    """Return a name that tells a network from another state of it, so that none is mixed up."""
    name, module = callable_name(generator), module_of(generator)
    if module is not None:
        return f"{name} (weights {weights_digest(module)})"
    if out.is_dir() and any(out.iterdir()) and not again:
        raise UsageError(
            f"{out}: holds files already, and a function cannot be told from another: give a new "
            "folder as out, or again=True"
        )
    return name


def _reader(
    recognizer: str | Path | Reader | None, device: torch.device, precision: str
) -> Reader | ReaderChoice:
    if recognizer is None or isinstance(recognizer, (str, Path)):
        return lambda side: load_recognizer(recognizer or shipped_for(side), device, precision)
    if not callable(recognizer) or not hasattr(recognizer, "size"):
        raise UsageError(
            f"recognizer must be lite, hd, a path or what load_recognizer gives, not {recognizer!r}"
        )
    return recognizer
