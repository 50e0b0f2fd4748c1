"""The versions of the recognizers that come with the program.

Two recognizers make different errors, so results compare only if one recognizer read the images.
"""

from __future__ import annotations

_VERSIONS = {
    "dc4c528ae877a65ae09e06222fe1ea7643dfc0f8d90f391f703ba085132b5b6b": 1,  # lite
    "b29e68f4c95871944db170a5b6dd849beafe5d5a90ca0446c66fdfceb5e2ccf0": 1,  # lite-robust
    "2b3586dde27f772798c79971fc93a117e73163b9d5a64e8bf17f6953525fad2f": 1,  # lite-256
    "0dd8b899c560be17aee89354406384c789fd5cbb0b272be0fd244128316d8b2e": 1,  # hd
}
"""Versions by the digest of the weights. Trained anew, a recognizer gets the next number here."""


def recognizer_version(digest: str | None) -> int | None:
    """Return the version of a recognizer of a digest; None if it does not come with the program."""
    return None if digest is None else _VERSIONS.get(digest)
