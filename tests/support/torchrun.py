"""Starts a module in several processes, as torchrun does."""

from __future__ import annotations

import os
import subprocess
import sys

from tests import ROOT

from .ports import free_port


def torchrun(module: str, *arguments: object) -> None:
    """Run a module in two processes of one thread each, and require that it ends well.

    Args:
        module: such as ``"tests.support.metric_ranks"``.
        arguments: of its command line.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
