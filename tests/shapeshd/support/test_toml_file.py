"""TOML files as editors save them."""

from __future__ import annotations

from pathlib import Path

from shapeshd.support.toml_file import read_toml


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbfscale = [1, 2]\n")
    assert read_toml(tmp_path / "x.toml") == {"scale": [1, 2]}
