"""The version of the scene: which image belongs to which factors.

Results compare only if their images are of one version. Digests of the scene say more, they differ
between engines and change with every byte; the version changes when an image does.
"""

from __future__ import annotations

SCENE_VERSION = 1
"""Raised when the image of any factors changes by more than pixels at edges."""

_VERSIONS = {
    "16c18159f2b357a2f91ddb3f0e1c8c5a003a6ccf86eee336327603e292ca9442": 1,  # POV-Ray
    "87f00cb691af5bdb597f93e236f821c73856bd68eec43a419e46555f833011ac": 1,  # the ray tracer
}
"""Versions by the digests that `Engine.scene_sha256` gives: a test asks for those installed."""


def scene_version(sha256: str | None) -> int | None:
    """Return the version of the scene of a digest; None if it is not known."""
    return None if sha256 is None else _VERSIONS.get(sha256)
