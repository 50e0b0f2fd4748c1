"""Runs that several files of tests compare with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shapeshd.models.training.trainer import Trainer
from tests.support.tiny_models import tiny_run
from tests.support.training_runs import TRAINED


@pytest.fixture(autouse=True)
def log_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "log_steps", 1)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both domains' runs that nothing interrupted; tests must not change them."""
    top, threads = tmp_path_factory.mktemp("whole"), torch.get_num_threads()
    torch.set_num_threads(1)  # see `one_thread`
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "log_steps", 1)
        for domain in ("factors", "images"):
            run = tiny_run(domain, top / domain)
            for phase in TRAINED:
                torch.manual_seed(99)  # what happened in the process before must not matter
                run.train(phase)
    torch.set_num_threads(threads)
    return top
