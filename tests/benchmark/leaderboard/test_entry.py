"""Entries hold no folder of the machine on which they were made."""

from __future__ import annotations

import pytest

from shapeshd.benchmark.leaderboard.entry import (
    command_without_folders,
    without_folders,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b/g.pt", "g.pt"),
        ("/a/b/pipeline/", "pipeline"),
        ("~/g.pt", "g.pt"),
        ("runs/g.pt", "runs/g.pt"),
        ("../g.pt", "../g.pt"),
        ("cmd:/opt/x/sampler --weights=/data/w.bin {seed}", "cmd:sampler --weights=w.bin {seed}"),
        ("/a b/c d.py:make", "c d.py:make"),
        ("render:0:20000,size=64", "render:0:20000,size=64"),
        ("0 / 255", "0 / 255"),
    ],
)
def test_folders_of_the_machine_are_cut_off(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_commands_without_their_output() -> None:
    assert command_without_folders("shapeshd score '/x y/g.pt' --out=/a --seed 1 --out b") == (
        "shapeshd score g.pt --seed 1"
    )
    assert command_without_folders("shapeshd 'score") is None
    assert command_without_folders(None) is None
