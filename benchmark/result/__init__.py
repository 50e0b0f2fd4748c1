"""The result of a score: its schema, how it is built and read, and its verdict.

`Result` is what ``result.json`` holds, `Entry` what a leaderboard keeps of it. The names below load
on first use: reading a result does not import torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
