"""Peak memory of `shapeshd render` at two sizes of a set: python -m tests.experiments.speed.memory

The peak is the sum of the resident sizes of the program and its worker processes, and of the
POV-Ray processes, looked at four times a second.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

import psutil


def peak_memory(command: list[str]) -> dict[str, float]:
    """Run `command` and return the peak resident size in MB of its Python and POV-Ray parts."""
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    program = psutil.Process(run.pid)
    peak = {"python": 0.0, "povray": 0.0}
    while run.poll() is None:
        now = {"python": 0.0, "povray": 0.0}
        try:
            for process in (program, *program.children(recursive=True)):
                kind = "povray" if "povray" in process.name() else "python"
                now[kind] += process.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            continue
        peak = {kind: max(peak[kind], now[kind]) for kind in peak}
        time.sleep(0.25)
    assert run.returncode == 0
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--counts", type=int, nargs=2, default=[1000, 20_000])
    parser.add_argument("--shard-size", type=int, default=250)
    arguments = parser.parse_args()
    peaks = []
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            peak = peak_memory(
                [sys.executable, "-m", "shapeshd", "render", f"{folder}/data", "--size",
                 str(arguments.size), "--count", str(count), "--shard-size",
                 str(arguments.shard_size)]
            )  # fmt: skip
        peaks.append(peak)
        print(
            f"{count:>7,} images: program {peak['python']:.0f} MB, POV-Ray {peak['povray']:.0f} MB"
        )
    print(f"ratio: program {peaks[1]['python'] / peaks[0]['python']:.3f}, "
          f"POV-Ray {peaks[1]['povray'] / peaks[0]['povray']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
