"""Keeps the trunk's features of all data in a file of the run (section 4.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.support.atomic_files import replace_file


def stored_features(
    computed: Iterable[Tensor],
    shape: tuple[int, int],
    cache: Path | None,
    origin: Mapping[str, Any],
    device: torch.device,
    *,
    keep: bool = True,
) -> Tensor:
    """Return features: those in a file if they have this origin, else computed and kept there.

    Args:
        computed: their parts, float32, in order; only gone through if they are needed.
        shape: (n, feature_dim) of all of them.
        cache: ``NAME.npy``; what they are of stands in ``NAME.json``. None: there is no file.
        origin: what they are of: encoder, data, precision; ready for JSON.
        device: where they shall be.
        keep: write the file, if they had to be computed.

    Returns:
        float32 (n, feature_dim).
    """
    head = json.loads(json.dumps({**origin, "shape": shape}))
    if cache is not None and _belongs(cache, head):
        return torch.from_numpy(np.load(cache)).to(device)
    features = torch.cat([part.cpu() for part in computed])
    if keep and cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.with_suffix(".json").unlink(missing_ok=True)
        replace_file(cache, lambda path: _save(path, features))
        text = json.dumps(head) + "\n"
        replace_file(cache.with_suffix(".json"), lambda path: path.write_text(text))
    return features.to(device)


def _save(path: Path, features: Tensor) -> None:
    with path.open("wb") as file:  # np.save would add a suffix to a name
        np.save(file, features.numpy())


def _belongs(cache: Path, head: Mapping[str, object]) -> bool:
    try:
        return bool(json.loads(cache.with_suffix(".json").read_text()) == head) and cache.exists()
    except (OSError, ValueError):
        return False
