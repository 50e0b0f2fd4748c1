"""Processes that share the work: leftovers of a launcher are told at once, and signals heard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from shapeshd.errors import UsageError
from shapeshd.support import distributed
from shapeshd.support.distributed import joined_ranks, local_number
from tests.support.ports import free_port

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def say(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    "values",
    [{}, {"WORLD_SIZE": 1, "RANK": 0}, {"WORLD_SIZE": 8}, {"RANK": 3}],
    ids=str,
)
def test_a_process_alone(monkeypatch: pytest.MonkeyPatch, values: dict[str, object]) -> None:
    say(monkeypatch, **values)
    assert local_number() is None
    with joined_ranks() as ranks:
        assert (ranks.rank, ranks.count, ranks.gpu) == (0, 1, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"WORLD_SIZE": 2, "RANK": 0}, "MASTER_ADDR"),
        ({"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT"),
        ({"WORLD_SIZE": "two", "RANK": 0}, "WORLD_SIZE='two'"),
        ({"WORLD_SIZE": 2, "RANK": ""}, "RANK=''"),
        ({"WORLD_SIZE": 2, "RANK": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 9}, "RANK=2"),
        ({"WORLD_SIZE": 2, "RANK": 1, "LOCAL_RANK": "x"}, "LOCAL_RANK='x'"),
    ],
    ids=str,
)
def test_leftovers_are_told_at_once(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, object], message: str
) -> None:
    say(monkeypatch, **values)
    with pytest.raises(UsageError, match=message) as stop, joined_ranks():
        pytest.fail("there are no others")
    assert "unset" in str(stop.value)


@pytest.mark.parametrize("rank", [0, 1])
def test_others_that_do_not_come(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    monkeypatch.setattr(distributed, "_RENDEZVOUS_SECONDS", 0.5)
    say(monkeypatch, WORLD_SIZE=2, RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    with pytest.raises(UsageError, match=f"{1 - rank} of 2 processes") as stop, joined_ranks():
        pytest.fail("there are no others")
    assert "unset WORLD_SIZE" in str(stop.value)
    assert ("waiting for 1 more" in capsys.readouterr().err) == (rank == 0)


WAITING = """
import signal, sys
from shapeshd.cli.main import _interrupt
signal.signal(signal.SIGINT, _interrupt); signal.signal(signal.SIGTERM, _interrupt)
from shapeshd.support.distributed import joined_ranks
print("begun", flush=True)
try:
    with joined_ranks() as ranks:
        {inside}
except KeyboardInterrupt:
    print("heard", flush=True)
"""


def begin(inside: str, rank: int, port: int) -> subprocess.Popen[str]:
    values = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-c", WAITING.format(inside=inside)],
        env={**os.environ, **values, "MASTER_ADDR": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_others_hears_signals(number: signal.Signals) -> None:
    process = begin("pass", 0, free_port())
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert "waiting for 1 more" in process.stdout.readline()
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "heard\n"


def test_signals_are_heard_where_one_waits_for_another_that_is_at_work() -> None:
    port = free_port()
    first = begin("print('met', flush=True); ranks.wait()", 0, port)
    second = begin("import time; time.sleep(60)", 1, port)
    assert first.stdout is not None
    for _ in range(20):
        if first.stdout.readline() == "met\n":
            break
    time.sleep(0.3)
    first.send_signal(signal.SIGTERM)
    assert first.communicate(timeout=30)[0] == "heard\n"
    second.send_signal(signal.SIGTERM)
    assert "heard" in second.communicate(timeout=30)[0]
