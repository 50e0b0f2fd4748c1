"""The result of a score: its schema, how it is built and read, and its verdict.

`Result` is what ``result.json`` holds, `Entry` what a leaderboard keeps of it. The names below load
on first use: reading a result does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "build": ["build_result"],
        "formatting": ["number", "percent", "with_interval"],
        "read": ["read_result", "save_result"],
        "schema": ["Entry", "Result", "ScoreRecord"],
    },
)

if TYPE_CHECKING:
    from .build import build_result as build_result
    from .formatting import number as number
    from .formatting import percent as percent
    from .formatting import with_interval as with_interval
    from .read import read_result as read_result
    from .read import save_result as save_result
    from .schema import Entry as Entry
    from .schema import Result as Result
    from .schema import ScoreRecord as ScoreRecord
