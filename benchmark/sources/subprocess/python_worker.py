"""The process in which foreign code runs: a user's Python entry, or a network's own.

It is told what to make by lines of JSON on a pipe, answers by lines on another, and puts
images into memory that it shares with its parent, as two slots of one batch each, so that it
can make one batch while the parent reads the other. Whatever the user's code prints goes to
stderr. When the parent is gone, however it went, so is this.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from shapeshd.benchmark.caller_state import seed_random_state
from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.latents import batch_seed
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import ShapesHDError, UsageError, names_as_options
from shapeshd.support.device import usable_device

from .code_process import SLOTS, Code
from .network_code import load_network
from .user_function import UserError, UserFunction, describe_failure, load_function, to_images

PATIENCE = 1.0
"""Seconds that the user's code has to end after the parent is gone, or wants no more."""

_LOADERS: dict[str, Callable[..., UserFunction]] = {
    "function": load_function,
    "network": load_network,
}


def main(text: str) -> None:
    """Serve one entry until the parent wants no more.

    Args:
        text: JSON: `code` (see `Code`), `request` (see `OpenRequest`), `requests`, `replies` and
            `memory` (file descriptors), `names_are_options`.
    """
    order = json.loads(text)
    pipes = _Pipes(order["requests"], order["replies"], order["memory"])
    code = Code(**order["code"])
    sys.path[:0] = code.paths
    sys.argv = [code.place]  # a file that reads its arguments finds none
    try:
        with names_as_options(order["names_are_options"]):
            _serve(pipes, code, order)
    except UserError as error:
        pipes.send(_failure(f"{order['request']['name']} {error}", error, usage=False))
    except ShapesHDError as error:
        pipes.send(_failure(str(error), error, usage=isinstance(error, UsageError)))


def _serve(pipes: _Pipes, code: Code, order: dict[str, Any]) -> None:
    options = SourceOptions(**order["request"].pop("options"))
    worker = _Worker(OpenRequest(options=options, **order["request"]), code, order["memory"])
    pipes.send({"ready": worker.describe()})
    for request in pipes.requests():
        if "number" in request:
            pipes.send(worker.make(request["number"], request["slot"]))
        else:
            pipes.send(worker.make_alone(request["start"], request["stop"], request["slot"]))


class _Pipes:
    """Requests in, replies out; ends the process when the requests end."""

    def __init__(self, requests: int, replies: int, memory: int) -> None:
        for descriptor in (requests, replies, memory):
            os.set_inheritable(descriptor, False)  # the user's own processes must not hold them
        self._replies = os.fdopen(replies, "w", encoding="utf-8")
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(requests,), daemon=True).start()

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield what the parent asks for."""
        while (request := self._queue.get()) is not None:
            yield request

    def send(self, reply: dict[str, Any]) -> None:
        """Answer; a parent that is gone hears nothing."""
        try:
            self._replies.write(json.dumps(reply) + "\n")
            self._replies.flush()
        except BrokenPipeError:
            os._exit(1)

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, encoding="utf-8") as lines:
            for line in lines:
                self._queue.put(json.loads(line))
        self._queue.put(None)
        time.sleep(PATIENCE)
        os.killpg(0, signal.SIGKILL)  # the user's own processes, too


class _Worker:
    """The user's function with the memory that its images go to."""

    def __init__(self, request: OpenRequest, code: Code, memory: int) -> None:
        options = request.options
        self._name, self._seed, self._batch = request.name, request.seed, options.batch
        self._device = usable_device(request.device)
        self._form = ImageFormat(options, name=self._name)
        self._memory = memory
        self._slots: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        load = _LOADERS[code.loader]
        self._function: UserFunction = load(
            code.place, code.detail, name=self._name, device=self._device, options=options
        )

    def describe(self) -> dict[str, Any]:
        """Return what the parent does not know."""
        return {
            "takes": "seeds" if self._function.takes_seeds else "latents",
            "latent_dim": self._function.latent_dim,
            **self._function.describe(),
        }

    def make(self, number: int, slot: int) -> dict[str, Any]:
        """Put batch `number` into the slot and return the reply that says so."""
        images = self._form.batch(number, self._call)
        self._put(images, slot)
        return {"number": number, **self._reply(slot)}

    def make_alone(self, start: int, stop: int, slot: int) -> dict[str, Any]:
        """Put some samples, made as a batch of their own, into the slot and return the reply."""
        if self._slots is None:  # which are as long as a batch
            self.make(0, slot)
        self._put(self._form.aside()(self._make(start, stop)), slot)
        return self._reply(slot)

    def _put(self, images: torch.Tensor, slot: int) -> None:
        if self._slots is None:
            shape = (SLOTS, *images.shape)
            os.ftruncate(self._memory, int(np.prod(shape)))
            memory = mmap.mmap(self._memory, 0)
            self._slots = np.frombuffer(memory, dtype=np.uint8).reshape(shape)
        torch.from_numpy(self._slots[slot][: len(images)]).copy_(images)

    def _reply(self, slot: int) -> dict[str, Any]:
        assert self._slots is not None
        return {
            "slot": slot,
            "shape": list(self._slots.shape[1:]),
            "form": {**self._form.describe(), **self._function.describe()},
        }

    def _call(self, number: int) -> Any:
        return self._make(number * self._batch, (number + 1) * self._batch)

    def _make(self, start: int, stop: int) -> Any:
        count = stop - start
        # What the code draws from generators that all share is the same when a batch is made again.
        seed_random_state(batch_seed(self._seed, start))
        try:
            with torch.no_grad():
                made = self._function.run(self._seed, start, count, self._device)
                # Lazy frameworks fail only here, so that is the user's code still.
                return to_images(made, count, self._name)
        except ShapesHDError:
            raise
        except BaseException as error:
            raise UserError(describe_failure(error, self._function.file)) from error


def _failure(text: str, error: BaseException, *, usage: bool) -> dict[str, Any]:
    """Return the reply for an error: one line, and the traceback for who asks for it."""
    cause = error.__cause__ or error
    trace = "".join(traceback.format_exception(cause))
    return {"error": {"text": " ".join(text.split()), "usage": usage, "trace": trace}}
