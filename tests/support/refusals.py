"""What every refusal of the command line has in common."""

from __future__ import annotations

from pathlib import Path


def check_refusal(
    result: tuple[int, str, str], status: int, message: str, out: Path | None = None
) -> None:
    """One line that holds `message`, the status, no traceback, no file behind."""
    found, stdout, stderr = result
    lines = [line for line in stderr.splitlines() if not line.startswith(("Usage:", "Try "))]
    errors = [line for line in lines if line.lower().startswith(("shapeshd: error:", "error:"))]
    assert found == status, stderr
    assert len(errors) == 1, stderr
    assert message in errors[0]
    assert "Traceback" not in stderr
    assert not stdout
    if out is not None:
        assert not out.exists()
