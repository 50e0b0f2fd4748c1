"""Rendering speed, side by side in one run: vapory, `shapeshd render`, POV-Ray's CPU bound.

    python -m tests.experiments.speed.rendering [--sizes 256 64] [--images 1000]
        [--vapory-images 24]
    python -m tests.experiments.speed.rendering --share 64 2000

The second form measures POV-Ray's share of the CPU time of a run in one process, without its
start: it does not depend on what else the machine does. The rest is this program's own work.

The bound is the number of cores over the CPU time (user + system) that POV-Ray itself takes
for these frames; nothing that starts POV-Ray can be faster. The vapory loop calls vapory's
own ``Scene.render`` once an image, in one process and in two (each in its own folder, because
parallel calls in one folder overwrite each other's scene file), with the same options, and its
pixels are compared with ours.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import joblib
import numpy as np
import vapory

from shapeshd.engines.povray import stream_images
from shapeshd.factors import uniform_factors
from shapeshd.render import plan_render, run_render
from shapeshd.scene import povray_scene
from shapeshd.scene.render_options import RenderOptions
from shapeshd.scene.sampling import make_sampling


class WholeScene:
    """A vapory scene whose text is that of one image."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def vapory_loop(first: int, stop: int, size: int, out: str) -> None:
    """Render images with vapory's own renderer, one call each, and save them."""
    options = RenderOptions(size).ini(1)
    kept = [
        line
        for line in options.splitlines()
        if not line.startswith(("Output_", "Initial", "Final", "All_", "Fatal"))
    ]
    Path("settings.ini").write_text("\n".join(kept) + "\n")
    os.environ["POVINI"] = "settings.ini"
    images = []
    began = time.perf_counter()
    for row in uniform_factors(0, first, stop):
        images.append(
            vapory.Scene.render(
                WholeScene(povray_scene.standalone(row)),
                width=size,
                height=size,
                antialiasing=0.3,
                auto_camera_angle=False,
            )
        )
    seconds = time.perf_counter() - began
    np.savez(out, images=np.stack(images), seconds=seconds)


def run_vapory(count: int, size: int, processes: int) -> tuple[float, np.ndarray]:
    """Return img/s and the images of a vapory loop in `processes` processes."""
    share = count // processes
    with tempfile.TemporaryDirectory() as name:
        running = []
        for process in range(processes):
            folder = Path(name) / str(process)
            folder.mkdir()
            arguments = [str(process * share), str((process + 1) * share), str(size)]
            command = [sys.executable, str(Path(__file__).resolve()), "--vapory-loop", *arguments]
            running.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL))
        assert [process.wait() for process in running] == [0] * processes
        parts = [np.load(Path(name) / str(process) / "out.npz") for process in range(processes)]
        seconds = max(float(part["seconds"]) for part in parts)
        return share * processes / seconds, np.concatenate([part["images"] for part in parts])


def povray_cpu(count: int, size: int) -> float:
    """CPU seconds that POV-Ray takes for a frame, over `count` frames in four processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as name:
        for _ in stream_images(uniform_factors(0, 0, count), RenderOptions(size), Path(name), 8):
            pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / count


def run_ours(
    count: int, size: int, shard_size: int, engine: str = "povray"
) -> tuple[float, float, np.ndarray]:
    """Return img/s of `shapeshd render`, start and all, the CPU seconds a frame, and images."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "data"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [
                sys.executable, "-m", "shapeshd", "render", str(out), "--count", str(count),
                "--size", str(size), "--shard-size", str(shard_size), "--engine", engine, "--json",
            ],
            check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        with h5py.File(out / "dataset.h5") as file:
            images = file["images"][:64]
        return float(json.loads(done.stdout)["images_per_second"]), cpu / count, images


def share_of_povray(size: int, count: int) -> tuple[float, float]:
    """Return the CPU seconds for an image that POV-Ray takes in a run, and those of the program."""

    def used() -> list[float]:
        times = (
            resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)
        )
        return [time.ru_utime + time.ru_stime for time in times]

    for images in (2, count):  # the first run imports what is needed
        with tempfile.TemporaryDirectory() as name:
            options = RenderOptions(size)
            plan = plan_render(Path(name), make_sampling("uniform"), images, options)
            before = used()
            run_render(plan, jobs=1, backend="threading")
            povray, own = (b - a for a, b in zip(before, used(), strict=True))
    return povray / count, own / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 64])
    parser.add_argument("--images", type=int, default=1000, help="at 256; more at smaller sizes")
    parser.add_argument("--shard-size", type=int, default=500)
    parser.add_argument("--vapory-images", type=int, default=24)
    parser.add_argument("--vapory-loop", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--share", nargs=2, type=int, metavar=("SIZE", "COUNT"))
    arguments = parser.parse_args()
    if arguments.share:
        povray, own = share_of_povray(*arguments.share)
        print(
            f"{arguments.share[0]} pixels: POV-Ray {povray * 1e3:.2f} ms of CPU an image, the "
            f"program itself {own * 1e3:.2f} ms: POV-Ray's share {povray / (povray + own):.1%}"
        )
        return
    if arguments.vapory_loop:
        first, stop, size = arguments.vapory_loop
        vapory_loop(first, stop, size, "out.npz")
        return
    cores = joblib.cpu_count()
    print(f"{cores} cores")
    for size in arguments.sizes:
        count = arguments.images * (24 if size <= 64 else 1)
        one, images_one = run_vapory(arguments.vapory_images, size, 1)
        two, images_two = run_vapory(arguments.vapory_images, size, 2)
        cpu = povray_cpu(min(count, 400), size)
        ours, total_cpu, images = run_ours(count, size, arguments.shard_size)
        twin, twin_cpu, images_twin = run_ours(5 * count, size, arguments.shard_size, "torch")
        cpu = (cpu + povray_cpu(min(count, 400), size)) / 2  # before and after: the machine drifts
        bound = cores / cpu
        same = len(images_two)
        np.testing.assert_array_equal(images_one[:same], images[:same])
        np.testing.assert_array_equal(images_two, images[:same])
        far = np.abs(images_twin.astype(int) - images) > 1
        print(f"\n{size}x{size}, {count} images, the same pixels")
        print(f"  vapory loop, one process    {one:8.2f} img/s")
        print(f"  vapory loop, two processes  {two:8.2f} img/s")
        print(f"  shapeshd render             {ours:8.2f} img/s   {ours / two:.1f} x vapory in two")
        print(f"  POV-Ray's CPU bound         {bound:8.2f} img/s   reached: {ours / bound:.1%}")
        print(
            f"  CPU a frame: POV-Ray {cpu * 1e3:.1f} ms, the whole program {total_cpu * 1e3:.1f} ms"
        )
        print(
            f"  render --engine torch       {twin:8.2f} img/s   {twin / ours:.1f} x, of five times "
            f"as many images; CPU a frame {twin_cpu * 1e3:.1f} ms; {far.mean():.2e} of its values "
            "are off by more than 1/255"
        )


if __name__ == "__main__":
    main()
