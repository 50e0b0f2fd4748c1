"""Speed of the ray tracer, beside the POV-Ray pipeline on the same cores in one run.

    python -m tests.experiments.speed.tracing [--sizes 64 256] [--seconds 10] [--device cpu]
        [--compile] [--json FILE]

The pipeline is `shapeshd.render_images`: as many POV-Ray processes as keep the cores busy, with
nothing written. The ray tracer finds its batch by itself first; then both take turns, so that
neither has the quieter minutes. Memory is what tracing adds at its peak, the images included.
On a GPU, the bandwidth is that of a copy on the device in the same run, and the fraction of it
that the ray tracer reaches counts the bytes that its passes over tensors read and write.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapeshd import RayTracer, render_images, uniform_factors
from shapeshd.engines.povray import seconds_per_frame
from shapeshd.scene.render_options import RenderOptions
from shapeshd.support.distributed import core_count

_ROUNDS = 3


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(work: Any, count: int, device: torch.device) -> float:
    """Images per second of one call that makes `count`."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return count / (time.perf_counter() - began)


def find_batch(tracer: RayTracer, factors: np.ndarray) -> None:
    """Trace until the batch has settled."""
    before = -1
    while before != tracer.batch:
        before = tracer.batch
        for _ in range(4):
            tracer(factors)


def peak_memory(size: int, batch: int, device: torch.device) -> int:
    """Bytes that tracing adds at its peak: of tensors on a GPU, of a fresh process on a CPU."""
    factors = uniform_factors(3, 0, 4 * batch)
    tracer = RayTracer(RenderOptions(size), device=device, batch=batch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        tracer(factors)
        return int(torch.cuda.max_memory_allocated(device)) - before
    tracer(factors[:1])
    before = peak_resident()
    tracer(factors)
    return peak_resident() - before


def peak_resident() -> int:
    """Bytes that this process had in memory at its peak."""
    if Path("/proc/self/status").exists():  # ru_maxrss would begin with that of the parent
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_a_fresh_process(size: int, batch: int, device: torch.device) -> int:
    """Call `peak_memory` where nothing has been allocated before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_memory, (size, batch, device))


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second of a large copy on the device, reads and writes counted."""
    source = torch.empty(2**28, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    synchronize(device)
    began = time.perf_counter()
    for _ in range(10):
        target.copy_(source)
    synchronize(device)
    return 10 * 2 * source.nbytes / (time.perf_counter() - began)


def bytes_moved(tracer: RayTracer, factors: np.ndarray) -> int:
    """Count the bytes that the passes over whole tensors read and write, from their shapes."""

    class Count(torch.utils._python_dispatch.TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if not function.is_view:
                results = result if isinstance(result, (tuple, list)) else (result,)
                for tensor in (*args, *results):
                    if isinstance(tensor, torch.Tensor):
                        # A broadcast tensor is read once, not once for each of its copies.
                        sizes = zip(tensor.shape, tensor.stride(), strict=True)
                        elements = np.prod([n for n, step in sizes if step], initial=1)
                        Count.total += int(elements) * tensor.element_size()
            return result

    with Count():
        tracer(factors)
    return Count.total


def measure(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one size."""
    device = torch.device(options.device)
    cores = core_count()
    tracer = RayTracer(RenderOptions(size), device=device, compile=options.compile)
    probe = uniform_factors(1, 0, 512 if size <= 64 else 64 if device.type == "cpu" else 1024)
    find_batch(tracer, probe)
    speed = rate(lambda: tracer(probe), len(probe), device)
    count = max(4 * tracer.batch, round(speed * options.seconds / _ROUNDS))
    rendered = max(64, round(options.seconds / _ROUNDS * cores / seconds_per_frame(size)))
    factors = uniform_factors(2, 0, max(count, rendered))
    ours, theirs = [], []
    for _ in range(_ROUNDS):
        ours.append(rate(lambda: tracer(factors[:count]), count, device))
        if not options.no_povray:
            cpu = torch.device("cpu")
            theirs.append(rate(lambda: render_images(factors[:rendered], size), rendered, cpu))
    result: dict[str, Any] = {
        "size": size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cores": cores,
        "dtype": "float32",
        "compiled": options.compile,
        "batch": tracer.batch,
        "images": count,
        "twin_images_per_s": statistics.median(ours),
        "twin_memory_bytes": in_a_fresh_process(size, tracer.batch, device),
    }
    if theirs:
        result["povray_images"] = rendered
        result["povray_images_per_s"] = statistics.median(theirs)
        result["ratio"] = result["twin_images_per_s"] / result["povray_images_per_s"]
    if device.type == "cuda" and not options.compile:
        moved = bytes_moved(tracer, factors[: 4 * tracer.batch]) / (4 * tracer.batch)
        bandwidth = copy_bandwidth(device)
        result["bytes_moved_per_image"] = moved
        result["copy_bytes_per_s"] = bandwidth
        result["bandwidth_fraction"] = moved * result["twin_images_per_s"] / bandwidth
    return result


def main() -> None:
    """Measure all sizes and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--seconds", type=float, default=10, help="of tracing, for each size")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-povray", action="store_true", help="where there is none")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = []
    for size in options.sizes:
        found = measure(size, options)
        results.append(found)
        line = (
            f"{size:>4} px, batch {found['batch']}: twin {found['twin_images_per_s']:,.0f} img/s, "
            f"{found['twin_memory_bytes'] / 1e6:,.0f} MB"
        )
        if "ratio" in found:
            line += f"; POV-Ray {found['povray_images_per_s']:,.0f} img/s; {found['ratio']:.1f}x"
        if "bandwidth_fraction" in found:
            line += f"; {found['bandwidth_fraction']:.0%} of the copy bandwidth"
        print(line, flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
