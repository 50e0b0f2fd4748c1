"""Training steps of our StyleGAN2 beside NVIDIA's.

    python -m tests.experiments.speed.models --peer PATH

PATH is a clone of NVlabs/stylegan2-ada-pytorch or NVlabs/stylegan3, whose StyleGAN2 networks are
built with the same sizes (stylegan3 needs setuptools below 81). Nothing of it is changed, and
nothing is compiled: on a GPU its own kernels are taken where their modules (``bias_act_plugin``,
``upfirdn2d_plugin``), once built, can be imported, and else the plain PyTorch operations that it
has for this case. Without --peer only ours are timed.

A step is forward and backward of equation 7 (D: images are generated, and they and real ones
judged) or of equation 8 (G), by one piece of code for both, with or without the penalty (R1, path
length) on the whole batch. The optimizer, which is the same for both, and the augmentation stay
out. Both take turns in one process, so that neither has the quieter minutes; the one that begins
changes. A ratio is that of a round. The iteration is a step of D and one of G, with R1 at every
16th and path lengths at every 4th. The first round, which warms up, does not count; the work of
its steps is counted in place of their time.

On a CPU that others use, --clock cpu takes the processor's time in place of the wall's.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from shapeshd.models.losses import (
    equation_7,
    equation_8,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from shapeshd.models.networks.discriminator import Discriminator, DiscriminatorConfig
from shapeshd.models.networks.generator import Generator, GeneratorConfig
from shapeshd.models.training.dry_run import WorkCounter
from shapeshd.support.distributed import core_count

D, D_R1, G, G_PATH = "D", "D with R1", "G", "G with path lengths"
STEPS = (D, D_R1, G, G_PATH)
ITERATION = "iteration"
R1_EVERY, PATH_EVERY = 16, 4
_HALF_SIZES, _CLAMP = 4, 256.0  # the peer's training in float16 has it so


class Contestant:
    """A generator and a discriminator whose steps are timed.

    Attributes:
        name: in the report.
        generator: its mapping network is a part of it.
        discriminator: of single images.
    """

    name: str
    generator: nn.Module
    discriminator: nn.Module

    def mapping(self, z: Tensor) -> Tensor:
        """Map latents (n, latent_dim) to what `synthesize` takes."""
        raise NotImplementedError

    def synthesize(self, w: Tensor, *, twice: bool = False) -> Tensor:
        """Return images (n, 3, size, size); `twice`: they will be differentiated twice."""
        raise NotImplementedError

    def judge(self, x: Tensor, *, twice: bool = False) -> Tensor:
        """Return logits (n,) of images."""
        raise NotImplementedError

    def parameters(self) -> dict[str, int]:
        """Count the numbers that are learned."""
        return {
            name: sum(p.numel() for p in network.parameters())
            for name, network in (("G", self.generator), ("D", self.discriminator))
        }


class Ours(Contestant):
    """Our networks, as a configuration has them."""

    name = "ours"

    def __init__(self, size: int, options: argparse.Namespace) -> None:
        channels = {"channel_base": options.channel_base, "channel_max": options.channel_max}
        generator = Generator(
            GeneratorConfig(
                size=size,
                latent_dim=options.latent_dim,
                style_dim=options.latent_dim,
                mapping_layers=options.mapping_layers,
                noise=options.noise,
                **channels,
            )
        )
        discriminator = Discriminator(DiscriminatorConfig(size=size, **channels))
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        for network in (generator, discriminator):
            network.to(options.device).to(memory_format=layout)
        self.generator, self.discriminator = generator, discriminator
        self._rng = None
        if options.noise:
            self._rng = torch.Generator(options.device).manual_seed(0)
        self._type = torch.device(options.device).type
        self._half = options.precision == "bf16"
        # Compiled code cannot be differentiated twice.
        self._once: dict[Callable[..., Tensor], Callable[..., Tensor]] = {}
        if options.compile:
            self._once = {f: torch.compile(f) for f in (generator.synthesize, discriminator)}

    def mapping(self, z: Tensor) -> Tensor:
        with self._autocast():
            w: Tensor = self.generator.mapping(z)  # type: ignore[operator]
        self.generator.mapping.update_average(w)  # type: ignore[operator, union-attr]
        return w

    def synthesize(self, w: Tensor, *, twice: bool = False) -> Tensor:
        return self._run(self.generator.synthesize, twice, w, rng=self._rng)  # type: ignore[arg-type]

    def judge(self, x: Tensor, *, twice: bool = False) -> Tensor:
        return self._run(self.discriminator, twice, x)

    def _run(self, work: Callable[..., Tensor], twice: bool, *args: Any, **named: Any) -> Tensor:
        if not twice:
            work = self._once.get(work, work)
        with self._autocast():
            return work(*args, **named).float()

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._type, torch.bfloat16) if self._half else nullcontext()


class Peer(Contestant):
    """The StyleGAN2 networks of a clone of NVIDIA's code."""

    def __init__(self, size: int, options: argparse.Namespace, networks: ModuleType) -> None:
        self.name = options.peer.name
        half = options.precision == "bf16"
        shared = {
            "channel_base": options.channel_base,
            "channel_max": options.channel_max,
            "num_fp16_res": _HALF_SIZES if half else 0,
            "conv_clamp": _CLAMP if half else None,
        }
        last = {"fp16_channels_last": True} if half and options.channels_last else {}
        synthesis: dict[str, Any] = {**shared, **last, "use_noise": options.noise}
        if networks.__name__.endswith("stylegan2"):  # of stylegan3; its training has it so
            synthesis["fused_modconv_default"] = "inference_only"
        else:
            synthesis = {"synthesis_kwargs": synthesis}
        self.generator = networks.Generator(
            z_dim=options.latent_dim,
            c_dim=0,
            w_dim=options.latent_dim,
            img_resolution=size,
            img_channels=3,
            mapping_kwargs={"num_layers": options.mapping_layers},
            **synthesis,
        ).to(options.device)
        self.discriminator = networks.Discriminator(
            c_dim=0, img_resolution=size, img_channels=3, block_kwargs=last, **shared
        ).to(options.device)

    def mapping(self, z: Tensor) -> Tensor:
        w: Tensor = self.generator.mapping(z, None)  # type: ignore[operator]
        return w

    def synthesize(self, w: Tensor, *, twice: bool = False) -> Tensor:
        images: Tensor = self.generator.synthesis(w)  # type: ignore[operator]
        return images.float()

    def judge(self, x: Tensor, *, twice: bool = False) -> Tensor:
        logits: Tensor = self.discriminator(x, None)
        return logits[:, 0]


def peer_networks(path: Path) -> tuple[ModuleType, dict[str, Any]]:
    """Import a clone's networks, from its folder alone; return what they are, too."""
    name = "networks"
    if (path / "training" / "networks_stylegan2.py").exists():
        name = "networks_stylegan2"
    file = path / "training" / f"{name}.py"
    if not file.exists():
        raise SystemExit(f"--peer {path}: no training/{name}.py; name a clone of NVIDIA's code")
    sys.path.insert(0, str(path))
    networks = importlib.import_module(f"training.{name}")
    kernels = {}
    for name in ("bias_act", "upfirdn2d"):
        operation = importlib.import_module(f"torch_utils.ops.{name}")
        plugin = f"{name}_plugin"
        found = importlib.util.find_spec(plugin) is not None
        operation._plugin = importlib.import_module(plugin) if found else None  # type: ignore[attr-defined]
        operation._init = lambda found=found: found  # type: ignore[attr-defined]
        kernels[name] = found
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return networks, {"name": path.name, "networks_sha256": digest, "own_kernels": kernels}


def take_step(one: Contestant, kind: str, z: Tensor, x: Tensor, noise: Tensor) -> None:
    """Compute the gradients of a step; see the top."""
    twice = kind in (D_R1, G_PATH)
    of_d = kind in (D, D_R1)
    one.generator.requires_grad_(not of_d).zero_grad(set_to_none=True)
    one.discriminator.requires_grad_(of_d).zero_grad(set_to_none=True)
    if of_d:
        with torch.no_grad():
            fake = one.synthesize(one.mapping(z))
        real = x.detach().requires_grad_(twice)
        on_real = one.judge(real, twice=twice)
        loss = equation_7(on_real, one.judge(fake))
        if twice:
            loss = loss + R1_EVERY / 2 * r1_penalty(on_real, real)
    else:
        loss = equation_8(one.judge(one.synthesize(one.mapping(z))))
        if twice:
            w = one.mapping(z)
            lengths = path_lengths(one.synthesize(w, twice=True), w, noise)
            penalty = path_length_penalty(lengths, lengths.detach().mean())
            loss = loss + 2 * PATH_EVERY * penalty
    loss.backward()


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def with_iteration(steps: dict[str, float]) -> dict[str, float]:
    """Add to seconds, or work, of each step those of an iteration."""
    rare = (steps[D_R1] - steps[D]) / R1_EVERY + (steps[G_PATH] - steps[G]) / PATH_EVERY
    return {**steps, ITERATION: steps[D] + steps[G] + rare}


def measure(size: int, options: argparse.Namespace, networks: ModuleType | None) -> dict[str, Any]:
    """Let all take turns at one size."""
    torch.manual_seed(0)
    contestants: list[Contestant] = [Ours(size, options)]
    if networks is not None:
        contestants.append(Peer(size, options, networks))
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    device, n = options.device, options.batch
    work: dict[str, dict[str, float]] = {one.name: {} for one in contestants}
    rounds: list[dict[str, dict[str, float]]] = []
    for turn in range(options.rounds + 1):
        took: dict[str, dict[str, float]] = {one.name: {} for one in contestants}
        for kind in STEPS:
            z = torch.randn(n, options.latent_dim, device=device)
            x = torch.randn(n, 3, size, size, device=device)
            noise = torch.randn_like(x)
            for one in contestants if turn % 2 else reversed(contestants):
                if turn == 0 and not options.compile:  # compiled work cannot be counted
                    with WorkCounter() as counter:
                        take_step(one, kind, z, x, noise)
                    work[one.name][kind] = counter.flops
                    continue
                synchronize(device)
                began = clock()
                take_step(one, kind, z, x, noise)
                synchronize(device)
                took[one.name][kind] = clock() - began
        if turn:
            rounds.append({name: with_iteration(steps) for name, steps in took.items()})
            print(f"{size} px: round {turn} of {options.rounds}", file=sys.stderr, flush=True)
    found: dict[str, Any] = {
        "size": size,
        "batch": n,
        "load_average": os.getloadavg()[0],  # what else the machine was doing
        "parameters": {one.name: one.parameters() for one in contestants},
        "seconds": {},
        "images_per_s": {},
        "flops": {name: with_iteration(kinds) for name, kinds in work.items() if kinds},
        "rounds": rounds,
    }
    kinds = (*STEPS, ITERATION)
    for name in work:
        seconds = {kind: statistics.median(turn[name][kind] for turn in rounds) for kind in kinds}
        found["seconds"][name], found["images_per_s"][name] = seconds, n / seconds[ITERATION]
    if networks is not None:
        ours, peer = work
        ratios = {kind: [turn[peer][kind] / turn[ours][kind] for turn in rounds] for kind in kinds}
        found["ratio"] = {
            kind: {"median": statistics.median(some), "range": [min(some), max(some)]}
            for kind, some in ratios.items()
        }
    return found


def report(found: dict[str, Any]) -> str:
    """Return a table of one size."""
    names = list(found["seconds"])
    counts = found["parameters"]
    same = "the same" if len({tuple(c.values()) for c in counts.values()}) == 1 else "NOT the same"
    lines = [f"{found['size']} px, batch {found['batch']}, load {found['load_average']:.1f}"]
    for name in names:
        of_g, of_d = counts[name]["G"], counts[name]["D"]
        lines.append(f"  {name:<24} G {of_g:>12,}  D {of_d:>12,} parameters")
    if len(names) > 1:
        lines.append(f"  numbers of parameters: {same}")
    lines.append(f"  {'s a step':<20}" + "".join(f"{name[:23]:>24}" for name in names))
    for kind, seconds in found["seconds"][names[0]].items():
        line = f"  {kind:<20}" + "".join(f"{found['seconds'][n][kind]:>24.4f}" for n in names)
        if len(names) > 1:
            ratio = found["ratio"][kind]
            low, high = ratio["range"]
            line += f"   ours is {ratio['median']:.2f} [{low:.2f}, {high:.2f}] times as fast"
        assert seconds > 0
        lines.append(line)
    rates = "".join(f"{found['images_per_s'][name]:>24.2f}" for name in names)
    lines.append(f"  {'images/s':<20}{rates}")
    if found["flops"]:
        work = "".join(f"{found['flops'][n][ITERATION] / 1e9:>24.1f}" for n in names)
        lines.append(f"  {'GFLOP an iteration':<20}{work}")
    return "\n".join(lines)


def main() -> None:
    """Measure all sizes and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, help="a clone of NVIDIA's code")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], help="pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--channel-base", type=int, default=32768)
    parser.add_argument("--channel-max", type=int, default=512)
    parser.add_argument("--latent-dim", type=int, default=512, help="components of z and of w")
    parser.add_argument("--mapping-layers", type=int, default=8)
    parser.add_argument("--noise", action="store_true", help="per-pixel noise, in both")
    parser.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        default="fp32",
        help="bf16: the peer computes its four largest sizes in float16, as its training does",
    )
    parser.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="memory format of ours; of the peer, only what it has in float16",
    )
    parser.add_argument("--compile", action="store_true", help="ours: torch.compile")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cpu = torch.device(options.device).type == "cpu"
    if options.clock == "cpu" and not cpu:
        parser.error("--clock cpu does not see what a GPU does")
    if options.peer and options.precision == "bf16" and cpu:
        parser.error("--precision bf16: the peer has it on a GPU only")
    networks, peer = None, None
    if options.peer:
        options.peer = options.peer.resolve()
        networks, peer = peer_networks(options.peer)
    settings = {key: value for key, value in vars(options).items() if key not in ("json", "peer")}
    result: dict[str, Any] = {
        **settings,
        "peer": peer,
        "cores": core_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sizes": [],
    }
    where = f"{options.device}, {options.precision}, {result['threads']} threads"
    print(f"{where}, torch {torch.__version__}, {options.clock} clock")
    for size in options.sizes:
        result["sizes"].append(measure(size, options, networks))
        print(report(result["sizes"][-1]), flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
