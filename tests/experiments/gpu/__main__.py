"""Runs all steps, or some; see `python -m tests.experiments.gpu --help`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from tests import ROOT

from . import machine

_PROBE_SECONDS = 180
_EPILOG = """
DIR/summary.json and DIR/weights hold all that is worth keeping. The same command goes on with what
an earlier one left. Exit status: 0, 1 if a step failed, 2 if it could not begin, 130 if it was
interrupted.
"""


def arguments() -> argparse.Namespace:
    """Return what the user asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.experiments.gpu",
        description="All that a rare GPU is wanted for, under one budget of time.",
        epilog=_EPILOG,
    )
    parser.add_argument("--minutes", type=float, default=25.0, help="for all [default: 25]")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the results")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu [default: cuda]")
    parser.add_argument(
        "--setting", choices=["full", "tiny"], help="[default: full, on a CPU tiny]"
    )
    parser.add_argument("--peer", type=Path, metavar="FOLDER", help="a checkout of NVIDIA's code")
    parser.add_argument("--commit", help="where git cannot say it")
    parser.add_argument("--steps", default="", metavar="NAME,NAME", help="these alone")
    parser.add_argument("--list", action="store_true", help="show the steps and what they cost")
    options = parser.parse_args()
    if not options.minutes > 0:
        parser.error("--minutes must be more than 0")
    if options.peer is not None and not options.peer.is_dir():
        parser.error(f"--peer {options.peer}: no such folder")
    return options


def probe(device: str) -> dict[str, Any]:
    """Return what a device is.

    Raises:
        SystemExit: with one line, if nothing can be computed on it.
    """
    command = [sys.executable, "-m", "tests.experiments.gpu.machine", device]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        refuse(f"device {device} does not answer")
    if done.returncode:
        refuse((done.stderr.strip().splitlines() or ["PyTorch ended"])[-1])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def refuse(message: str) -> NoReturn:
    """Write a line and end with exit status 2."""
    print(f"cannot begin: {message}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Run, and show the summary."""
    options = arguments()
    if missing := machine.missing_packages():
        refuse(f"{', '.join(missing)} not installed for {sys.executable}: see `make carry`")
    # What follows imports them.
    from shapeshd.support.file_system import FileLock
    from shapeshd.support.interrupts import stop_requested

    from .plan import Place, all_steps
    from .runner import Budget, Runner
    from .settings import SETTINGS
    from .step import FAILED, Outcome
    from .summary import page, write_summary

    budget = Budget(60 * options.minutes)
    out = options.out.expanduser().absolute()
    known = {"name": "", "torch": ""} if options.list else probe(options.device)
    setting = options.setting or ("tiny" if options.device == "cpu" else "full")
    place = Place(
        setting=SETTINGS[setting], device=options.device, machine=known,
        out=out.relative_to(ROOT) if out.is_relative_to(ROOT) else out,
        peer=options.peer and options.peer.absolute(), povray=machine.povray_is_there(),
        without_tests=tuple(machine.missing_for_tests()),
    )  # fmt: skip
    steps = all_steps(place)
    if options.list:
        for step in steps:
            print(f"{step.name:22} {step.seconds:5.0f} s  {step.missing}".rstrip())
        return
    only = [name for name in options.steps.split(",") if name]
    names = [step.name for step in steps]
    for name in only:
        if name not in names:
            refuse(f"--steps: there is no step {name!r}; there are {', '.join(names)}")
    commit = options.commit or machine.commit()  # before OUT is a change of the checkout
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock")
    if not lock.acquire():
        refuse(f"--out {options.out}: another run is writing there")
    common = {
        "setting": setting,
        "commit": commit,
        "sources_sha256": machine.sources_sha256(),
        "machine": known,
    }

    def save(outcomes: list[Outcome]) -> None:
        write_summary(out / "summary.json", common, outcomes, budget.spent(), budget.seconds)
        text = page(common, outcomes, budget.spent(), budget.seconds)
        (out / "summary.txt").write_text(text + "\n", encoding="utf-8")

    with stop_requested() as stop:
        runner = Runner(out, budget, stop, common, lambda line: print(line, flush=True), only)
        outcomes = runner.run(steps, save)
        if outcomes:
            print(f"\n{(out / 'summary.txt').read_text(encoding='utf-8')}", flush=True)
        if stop.is_set():
            sys.exit(130)
    sys.exit(1 if any(one.status == FAILED for one in outcomes) else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # before there was something to end
        sys.exit(130)
