"""Signals that wait, and signals that are asked about: with real ones."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from shapeshd.support.interrupts import held_back, stop_requested

BOTH = (signal.SIGTERM, signal.SIGINT)


class Came(Exception):
    pass


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[int]]:
    """Handlers that raise, as the command line sets them; the numbers that came."""
    came: list[int] = []

    def handle(number: int, _: object) -> None:
        came.append(number)
        raise Came

    before = {number: signal.signal(number, handle) for number in BOTH}
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_waits_for_the_body(number: int, handlers: list[int]) -> None:
    done = 0
    with pytest.raises(Came):
        with held_back():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done += 1
        pytest.fail("the signal must come before what follows")
    assert done == 1
    assert handlers == [number]


def test_handlers_are_put_back(handlers: list[int]) -> None:
    before = [signal.getsignal(number) for number in BOTH]
    for body in (held_back, stop_requested):
        with body():
            assert [signal.getsignal(number) for number in BOTH] != before
        assert [signal.getsignal(number) for number in BOTH] == before
        with pytest.raises(ValueError, match="body"), body():
            raise ValueError("body")
        assert [signal.getsignal(number) for number in BOTH] == before
    assert handlers == []


def test_held_back_twice_over(handlers: list[int]) -> None:
    order = []
    with pytest.raises(Came), held_back():
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            order.append("inner")
        order.append("outer")
    assert order == ["inner", "outer"]
    assert handlers == [signal.SIGTERM]


@pytest.mark.parametrize("body", [held_back, stop_requested])
def test_what_is_ignored_stays_ignored(body: type, handlers: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with body():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert handlers == []


@pytest.mark.parametrize("number", BOTH)
def test_a_stop_is_an_event(number: int, handlers: list[int]) -> None:
    with stop_requested() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.wait(5)
    assert handlers == []


def test_other_threads_get_no_signals_and_change_nothing() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    seen = []

    def work() -> None:
        with held_back(), stop_requested() as stop:
            seen.append((stop.is_set(), [signal.getsignal(number) for number in BOTH]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
