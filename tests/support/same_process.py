"""Runs what belongs into a process of its own in this one, and counts the processes below it."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from shapeshd.benchmark.sources.subprocess import python_worker
from shapeshd.errors import ShapesHDError


class SameProcess:
    """Stands in for the process of an entry: runs the worker's own code in a thread.

    A real process imports PyTorch first, which takes seconds; only the tests that need
    one (to die, to hang, to be left alone) should start it.
    """

    def __init__(self, order: dict[str, Any], memory: int) -> None:
        self.busy = 1
        self._open = True
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        text = json.dumps({**order, "requests": -1, "replies": -1})
        ends = (self._asked, self._answers)
        self._thread = threading.Thread(target=self._run, args=(text, ends), daemon=True)
        self._thread.start()

    @staticmethod
    def _run(text: str, ends: tuple[Any, Any]) -> None:
        asked, answers = ends

        class Pipes:
            def __init__(self, *descriptors: int) -> None:
                assert len(descriptors) == 3

            def requests(self) -> Iterator[Any]:
                return iter(lambda: json.loads(asked.get()), None)

            def send(self, reply: dict[str, Any]) -> None:
                answers.put(json.dumps(reply))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(python_worker, "_Pipes", Pipes)
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr(sys, "argv", list(sys.argv))
            before = set(sys.modules)
            python_worker.main(text)
            for name in set(sys.modules) - before:
                del sys.modules[name]

    def require_open(self) -> None:
        if not self._open:
            raise ShapesHDError("the source is closed")

    def send(self, request: dict[str, Any]) -> None:
        self.require_open()
        self._asked.put(json.dumps(request))

    def receive(self, timeout: float) -> Any:
        return json.loads(self._answers.get(timeout=timeout))

    def end(self) -> None:
        self._open = False
        self._asked.put("null")
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()


def own_children() -> set[psutil.Process]:
    """Return all processes below this one."""
    return set(psutil.Process().children(recursive=True))
