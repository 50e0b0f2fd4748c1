"""Starts a command and ends it when whoever wanted it is gone, however that went.

Run as a script of its own, by ``python -I -S``: it imports nothing but what starts in
milliseconds, and nothing of this project. Its arguments are the descriptor of a socket and the
command. On the socket it says how the command ended, or why it could not be started; when the
socket ends at the other side, it kills the process group, whose leader it is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

EXIT, NO_START = "exit ", "no start "
"""What the two messages begin with; a status or a reason follows."""


def main(arguments: list[str]) -> None:
    """Start the command ``arguments[1:]`` and say on the socket ``arguments[0]`` how it ended."""
    link = socket.socket(fileno=int(arguments[0]))
    link.set_inheritable(False)
    try:
        child = subprocess.Popen(arguments[1:], stdin=subprocess.DEVNULL)
    except (OSError, ValueError) as error:
        message = NO_START + (getattr(error, "strerror", None) or str(error))
    else:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (1, 2):  # else whoever reads would wait for us, too
            os.dup2(null, descriptor)
        threading.Thread(target=_watch, args=(link,), daemon=True).start()
        message = f"{EXIT}{child.wait()}"
    with suppress(OSError):
        link.sendall(message.encode())


def _watch(link: socket.socket) -> None:
    with suppress(OSError):
        link.recv(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
