"""A step of every phase and method as on a GPU that is not there: on the device `meta`.

A tensor left on the CPU raises; what a processor waits for is counted; MPS has no float64.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.models.config_file import load_config
from shapeshd.models.training.dry_run import _phase_of_shapes
from shapeshd.models.training.run import TrainingRun
from tests.support.rehearsal import rehearsed

EACH_STEP = [
    "gan.path=1", "gan.path_every=1", "gan.penalty_every=1", "aae.penalty_every=1",
    "vae.batch=8", "aae.batch=8", "gan.batch=8", "flow.batch=8",
]  # fmt: skip
BOTH = [("ours", "vae"), ("ours", "aae"), ("ours", "gan"), ("flow", "flow")]
# What differs from these in what it computes, but not in what autocast does.
ONCE = [
    *((name, "aae", "safe", "bf16") for name in ("aae", "contrast", "no-difference", "no-c2")),
    ("small-batch", "aae", "safe", "fp32"), ("from-scratch", "gan", "safe", "fp32"),
    ("stylegan2", "gan", "safe", "bf16"), ("unpaired", "gan", "safe", "bf16"),
    ("ours", "gan", "none", "fp32"), ("ours", "gan", "paper", "bf16"),
    ("ours", "gan", "all", "fp32"),
]  # fmt: skip
CASES = [*((*case, "safe", how) for case in BOTH for how in ("fp32", "bf16")), *ONCE]
# The reconstructions' error is the scale of the likelihood. Each discriminator's advantage moves
# its weight. The mean path length is a number of the state, and so is the augmentation's
# probability, which moves every fourth step.
VAE = {"vae.update": 1}
AAE = {"aae._discriminate": 2}
GAN = {"gan._path_penalty": 1, "adaptive_probability.observe": 1}


def named_waits(method: str, phase: str, kind: str) -> dict[str, int]:
    waits: dict[str, int] = {"vae": VAE, "aae": AAE, "gan": GAN, "flow": {}}[phase]
    if phase == "aae" and method in ("aae", "no-c2"):  # one discriminator alone
        return {"aae._discriminate": 1}
    if phase == "gan" and kind == "none":
        return {"gan._path_penalty": 1}
    return waits


@pytest.mark.parametrize(("method", "phase", "kind", "precision"), CASES)
def test_a_step_stays_on_its_device_and_waits_only_where_it_is_known(
    method: str, phase: str, kind: str, precision: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    size = 32 if kind == "all" else 8  # its filter takes more pixels; the rest is quicker so
    changes = [*EACH_STEP, f"images.size={size}", f"images.precision={precision}"]
    changes += [f"gan.augment={kind}", f"unet.attention={size // 2}", "unet.channels=[16,32]"]
    config = load_config("smoke", changes, method=method)
    run = TrainingRun(
        config, RenderSpec(5, 1100, size), tmp_path / "run", device="meta", compiled=False
    )
    with torch.device("meta"):
        taken: Any = _phase_of_shapes(run, phase)
    if phase == "gan":
        taken.augmentation = run.domain.augmentation(kind)
        taken.probability.p, taken.probability.steps = 1.0, taken.probability.interval - 1
    rows = torch.arange(8)
    with rehearsed(monkeypatch) as seen:
        x = torch.empty(8, 3, size, size, device="meta")
        log = taken.update(0, x.contiguous(memory_format=torch.channels_last), rows)
    assert dict(seen.waits) == named_waits(method, phase, kind)
    assert torch.float64 not in seen.types
    assert (torch.bfloat16 in seen.types) is (precision == "bf16")
    if phase == "gan":
        assert {"r1", "path"} <= log.keys()
