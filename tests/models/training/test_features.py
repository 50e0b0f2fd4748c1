"""Features of the trunk are computed once and kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shapeshd.dataset.render_spec import RenderSpec
from shapeshd.errors import UsageError
from shapeshd.models.training.distributed import Group
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
    made = stored_features(iter(parts), (3, 3), None, {}, torch.device("cpu"))
    assert torch.equal(made, torch.cat(parts))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes", [{"source": RenderSpec(7, 96, 16)}, {"images": {"precision": "bf16"}}]
)
def test_features_of_other_data_or_precision_are_computed_anew(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    cache = tmp_path / FEATURES
    torch.manual_seed(0)
    trunk = tiny_run("images", tmp_path).domain.encoder().trunk
    tiny_run("images", tmp_path).domain.features(trunk, cache, "x")
    domain = tiny_run("images", tmp_path, **changes).domain
    found, expected = domain.features(trunk, cache, "x"), domain.features(trunk, None, "x")
    assert torch.equal(found, expected)
    assert torch.equal(torch.from_numpy(np.load(cache)), expected)


def test_another_training_in_the_folder_keeps_its_features(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole / "images", tmp_path / "run")
    (out / "aae" / FEATURES).write_bytes(b"theirs")
    (out / "aae" / FEATURES).with_suffix(".json").unlink()
    with pytest.raises(UsageError, match=r"aae\.batch = 8, not 4"):
        tiny_run("images", out, aae={"batch": 4}).train("aae")
    assert (out / "aae" / FEATURES).read_bytes() == b"theirs"
    tiny_run("images", out).train("aae")  # finished: nothing needs them
    assert (out / "aae" / FEATURES).read_bytes() == b"theirs"


def test_other_processes_wait_for_the_first_and_read_its_file(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = begun(tmp_path / "run", whole, "images", "aae")

    class Second(Group):
        def wait(self) -> None:  # meanwhile the first one writes
            for path in (whole / "images" / "aae").glob("features.*"):
                (out / "aae").mkdir(exist_ok=True)
                shutil.copy(path, out / "aae")

    def forbidden(*_: Any) -> Any:
        raise AssertionError("computed again")

    run = tiny_run("images", out, group=Second(1, 1))
    monkeypatch.setattr(run.domain, "batches", forbidden)
    phase = run._phase("aae")[0]
    phase.prepare()
    kept = torch.from_numpy(np.load(whole / "images" / "aae" / FEATURES))
    assert torch.equal(phase.features, kept[:72])  # type: ignore[attr-defined]
