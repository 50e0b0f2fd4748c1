"""A network pickle that its authors' own code loads and runs, in a process of its own.

That is for networks which `nvlabs` does not know: StyleGAN3, StyleGAN-XL and others whose pickles
are written by NVlabs' ``torch_utils.persistence``. What runs there is in `network_code`.

Compared once with images that the repositories' own code made of the same z and labels in a run
beside the project (random weights, 32 pixels, CPU): StyleGAN3-T, StyleGAN3-R with 10 classes,
StyleGAN-XL with 10 classes and StyleGAN2-ADA with 10 classes gave the same levels throughout.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shapeshd.benchmark.sources.networks.checkpoint import require_known_form
from shapeshd.benchmark.sources.networks.generator import (
    GeneratorSource,
    allow_options,
    require_trust,
    usable_device,
)
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.errors import UsageError
from shapeshd.factors import check_seed

from .code_process import ChildBatches, Code

KIND = "network-code"


def open_network_process(
    path: Path,
    *,
    seed: int,
    trust: bool,
    device: str,
    options: SourceOptions,
    name: str,
) -> GeneratorSource:
    """Open a network pickle with the code in ``options.code_dir``; its images are in [-1, 1].

    Args:
        path: the pickle.
        seed: of the latents and the labels.
        trust: whether the code in the pickle and in the repository may run at all.
        device: where the network runs.
        options: code_dir must be given; batch, latent_dim, labels, classes and timeout mean
            something.
        name: what the user called it.

    Raises:
        UsageError: if it is not trusted, there is no such repository, or the options do not fit.
        ShapesHDError: if its code raises, exits, crashes or hangs while it loads.
    """
    require_trust(trust, name, "a network pickle that its authors' code loads is code")
    allow_options(options, name, "a network pickle", "timeout", "labels", "classes", "code_dir")
    require_known_form(options, name, "a network pickle's")
    check_seed(seed)
    repository = Path(options.code_dir or "").expanduser()
    if not options.code_dir or not repository.is_dir():
        raise UsageError(f"{name}: there is no folder {options.code_dir!r}, given as --code-dir")
    usable_device(device)  # told here, before a process starts
    folder = str(repository.resolve())
    code = Code("network", str(path.resolve()), folder, [folder])
    form = replace(options, range="symmetric", layout="nchw")
    return GeneratorSource(name, KIND, ChildBatches(code, name, seed, device, form))
