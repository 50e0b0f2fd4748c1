"""Features of the trunk are computed once and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shapeshd.models.training.domains.features import stored_features
from shapeshd.models.training.files import (
    ENCODER,
    FEATURES,
)
from shapeshd.support.checkpoint import read_card
from tests.support.tiny_models import tiny_run
from tests.support.training_runs import (
    begun,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_features_are_those_of_the_trunk_and_kept(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = begun(tmp_path / "run", whole, "images", "aae")
    kept = np.load(whole / "images" / "aae" / FEATURES)
    run = tiny_run("images", out)
    domain = run.domain
    encoder = domain.encoder()
    encoder.load_state_dict(load_file(out / "vae" / ENCODER))
    with torch.no_grad():
        x = next(iter(domain.batches([torch.arange(96)])))
        torch.testing.assert_close(torch.from_numpy(kept), encoder.trunk(x), rtol=1e-4, atol=1e-5)
    digest = read_card(out / "vae" / ENCODER)["sha256"]
    cache = tmp_path / "kept" / FEATURES
    made = domain.features(encoder.trunk, cache, digest)
    assert torch.equal(made, torch.from_numpy(kept))

    class Forbidden(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("computed again")

    assert torch.equal(domain.features(Forbidden(), cache, digest), made)
    spoiled: list[Callable[[], Any]] = [
        cache.unlink,
        cache.with_suffix(".json").unlink,
        lambda: cache.with_suffix(".json").write_text("{"),
    ]
    for spoil in spoiled:
        spoil()
        with pytest.raises(AssertionError, match="computed again"):
            domain.features(Forbidden(), cache, digest)
        assert torch.equal(domain.features(encoder.trunk, cache, digest), made)
    # Another encoder's: computed anew, and kept in their place.
    for value in encoder.trunk.parameters():
        value.data.mul_(1.5)
    changed = domain.features(encoder.trunk, cache, "1" * 64)
    assert not torch.equal(changed, made)
    assert torch.equal(domain.features(Forbidden(), cache, "1" * 64), changed)
    assert torch.equal(torch.from_numpy(np.load(cache)), changed)


def test_features_without_a_cache_leave_no_file(tmp_path: Path) -> None:
    parts = [torch.ones(2, 3), torch.zeros(1, 3)]
    made = stored_features(iter(parts), (3, 3), None, "x", torch.device("cpu"))
    assert torch.equal(made, torch.cat(parts))
    assert not list(tmp_path.iterdir())
