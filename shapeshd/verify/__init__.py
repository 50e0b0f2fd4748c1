"""Checks a dataset folder: its files, its labels and, by rendering again, its pixels.

Every check looks at all shards and collects all problems: a damaged shard never hides another.
"""

from .evidence import Check
from .verification import Verification, verify_dataset

__all__ = ["Check", "Verification", "verify_dataset"]
