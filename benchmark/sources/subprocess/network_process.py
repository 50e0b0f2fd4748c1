"""A network pickle that its authors' own code loads and runs, in a process of its own.

That is for networks which `stylegan` does not know: StyleGAN3, StyleGAN-XL and others whose pickles
are written by NVlabs' ``torch_utils.persistence``. What runs there is in `network_code`.

Compared once with images that the repositories' own code made of the same z and labels in a run
beside the project (random weights, 32 pixels, CPU): StyleGAN3-T, StyleGAN3-R with 10 classes,
StyleGAN-XL with 10 classes and StyleGAN2-ADA with 10 classes gave the same levels throughout.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shapeshd.benchmark.sources.networks.checkpoint import require_known_form
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import UsageError, named
from shapeshd.factors import check_seed
from shapeshd.support.device import usable_device

from .code_process import ChildBatches, Code

KIND = "network-code"


def open_network_process(request: OpenRequest) -> GeneratorSource:
    """Open a network pickle with the code in ``options.code_dir``; its images are in [-1, 1].

    Raises:
        UsageError: if there is no such repository, or the options do not fit.
        ShapesHDError: if its code raises, exits, crashes or hangs while it loads.
    """
    options = request.options
    require_known_form(request, "a network pickle's")
    check_seed(request.seed)
    repository = Path(options.code_dir or "").expanduser()
    if not options.code_dir or not repository.is_dir():
        raise UsageError(
            f"{request.name}: there is no folder {options.code_dir!r}, given as {named('code_dir')}"
        )
    usable_device(request.device)  # told here, before a process starts
    folder = str(repository.resolve())
    code = Code("network", str(request.path.resolve()), folder, [folder])
    form = replace(options, range="symmetric", layout="nchw")
    return GeneratorSource(request.name, KIND, ChildBatches(code, replace(request, options=form)))
