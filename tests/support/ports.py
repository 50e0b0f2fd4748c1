"""Ports on this machine, where processes of a test meet."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
