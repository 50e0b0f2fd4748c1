"""Truncation and noise: NVlabs' formula on our network, and every way to ask for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents
from shapeshd.benchmark.sources.networks.in_process import open_callable
from shapeshd.benchmark.sources.subprocess import code_process
from shapeshd.errors import UsageError
from shapeshd.models import Generator, save_generator
from tests.support.network_pickles import saved, tiny_generator, write
from tests.support.same_process import SameProcess

BATCH, COUNT, DIM = 8, 20, 6
Open = Callable[..., Any]


def nvlabs_truncated(
    w: Tensor, w_avg: Tensor, layers: int, psi: float, cutoff: int | None
) -> Tensor:
    """The mapping network's end as the StyleGAN2-ADA paper's code has it, in its own order."""
    ws = w.unsqueeze(1).repeat([1, layers, 1])
    if cutoff is None:
        return w_avg + psi * (ws - w_avg)
    head, tail = ws[:, :cutoff], ws[:, cutoff:]
    return torch.cat([w_avg + psi * (head - w_avg), tail], 1)


def expected(network: Generator, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
    with torch.inference_mode():
        w = network.mapping(normal_latents(3, 0, COUNT, DIM))
        styles = nvlabs_truncated(w, network.mapping.average, network.layers, psi, cutoff)
        images = network.synthesize(styles).clamp(-1, 1)
    return torch.floor(images.double() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def near(images: Tensor, wanted: Tensor) -> bool:
    apart = (images.int() - wanted.int()).abs()
    return images.shape == wanted.shape and bool(apart.max() <= 1 and apart.ne(0).sum() <= 8)


@pytest.fixture(params=["checkpoint", "network-pickle", "state_dict"])
def open_with(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open the same network, as a checkpoint of ours or in a form of theirs."""
    network = tiny_generator()
    more: dict[str, Any] = {}
    if request.param == "checkpoint":
        path = tmp_path / "g.safetensors"
        save_generator(path, network, {})
    elif request.param == "network-pickle":
        path = write(tmp_path / "g.pkl", saved(network))
    else:
        from safetensors.torch import save_file

        path = tmp_path / "g.safetensors"
        tensors = {name: value.contiguous() for name, value in saved(network).state_dict().items()}
        save_file(tensors, path)
        more = {"architecture": "stylegan2"}

    def call(**options: Any) -> Any:
        chosen = SourceOptions(batch=BATCH, **more, **options)
        return open_source(str(path), seed=3, options=chosen)

    return call


@pytest.mark.parametrize("psi", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("cutoff", [None, 1, 3, 6])
def test_truncation_is_the_formula_of_nvlabs(
    open_with: Open, psi: float, cutoff: int | None
) -> None:
    with open_with(truncation=psi, truncation_cutoff=cutoff) as source:
        images, said = source.images(0, COUNT), source.describe()
    assert near(images, expected(tiny_generator(), psi, cutoff))
    assert (said["truncation"], said["truncation_cutoff"]) == (psi, cutoff)
    if psi == 1:
        with open_with() as plain:
            assert torch.equal(images, plain.images(0, COUNT))
            assert "truncation" not in plain.describe()
    if psi == 0 and cutoff in (None, 6):
        assert (images == images[:1]).all()  # the image of the average
    else:
        assert (images != images[:1]).any()


def test_noise(open_with: Open) -> None:
    found = {}
    for noise in (None, "const", "random", "none"):
        with open_with(noise=noise) as source:
            found[noise] = source.images(0, COUNT)
            assert source.describe()["noise"] == (noise or "const")
            assert torch.equal(source.images(9, 11), found[noise][9:11])
    network = tiny_generator()
    assert torch.equal(found[None], found["const"])
    assert near(found["const"], expected(network))
    for block in network.blocks:
        for layer in (block.up, block.keep):
            if layer is not None:
                layer.strength.data.zero_()
    assert near(found["none"], expected(network))
    assert not near(found["random"], found["const"])
    state = torch.get_rng_state()
    with open_with(noise="random") as source:
        source.images(0, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_noise_differs_from_sample_to_sample(tmp_path: Path) -> None:
    network = tiny_generator()
    save_generator(tmp_path / "g.safetensors", network, {})
    options = SourceOptions(batch=4, noise="random", truncation=0.0)
    with open_source(str(tmp_path / "g.safetensors"), options=options) as source:
        images = source.images(0, 12).flatten(1)
    assert len(images.unique(dim=0)) == 12


def refused(open_with: Open, message: str, **options: Any) -> None:
    with pytest.raises(UsageError, match=message):
        open_with(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation": 1.5}, "truncation must be between 0 and 1"),
        ({"truncation": float("nan")}, "truncation must be between 0 and 1"),
        ({"truncation_cutoff": 2}, "truncation_cutoff goes with truncation"),
        ({"truncation": 0.5, "truncation_cutoff": 0}, "truncation_cutoff must be"),
        ({"truncation": 0.5, "truncation_cutoff": 7}, "has 6 styles"),
        ({"noise": "some"}, "noise must be one of"),
    ],
)
def test_what_is_refused(open_with: Open, options: dict[str, Any], message: str) -> None:
    refused(open_with, message, **options)


def test_networks_without_noise_or_an_average(tmp_path: Path) -> None:
    quiet = tiny_generator(noise=False)
    theirs = saved(quiet)
    mapping: Any = theirs.mapping
    mapping.w_avg = None
    path = write(tmp_path / "g.pkl", theirs)

    def call(**options: Any) -> Any:
        return open_source(str(path), options=SourceOptions(**options))

    refused(call, "no noise", noise="random")
    with call(truncation=1.0) as source:
        assert source.describe()["noise"] == "none"
    with call(truncation=0.0) as source:
        images = source.images(0, 3)
    assert (images == images[:1]).all()  # all at the average of w, which is measured now


FUNCTIONS = """
import torch
latent_dim = 6
def shift(z, *, truncation_psi=1.0, steps=4):
    made = 0.05 * (z[:, :1, None, None] * truncation_psi) + steps / 10
    return made.expand(-1, 3, 8, 8).clamp(0, 1)
def plain(z):
    return z[:, :3, None, None].expand(-1, -1, 8, 8).clamp(-1, 1)
def needs(z, truncation):
    return shift(z, truncation_psi=truncation)
def anything(z, **more):
    return shift(z)
"""


def test_functions_get_what_they_have_a_parameter_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_process, "_Child", SameProcess)
    path = tmp_path / "gen.py"
    path.write_text(FUNCTIONS)
    z = normal_latents(3, 0, COUNT, DIM)

    def images(name: str, **options: Any) -> Tensor:
        chosen = SourceOptions(batch=BATCH, range="unit", **options)
        with open_source(f"{path}:{name}", seed=3, trust=True, options=chosen) as source:
            made: Tensor = source.images(0, COUNT)
            said = source.describe()
        assert {key: said[key] for key in options} == options
        return made

    def wanted(psi: float, steps: int) -> Tensor:
        values = 0.05 * z[:, :1, None, None] * psi + steps / 10
        return (values.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8).expand(-1, 3, 8, 8)

    assert near(images("shift"), wanted(1, 4))
    assert near(images("shift", truncation=0.5, steps=6), wanted(0.5, 6))
    assert near(images("needs", truncation=0.5), wanted(0.5, 4))
    for name, options in [
        ("plain", {"truncation": 0.5}),
        ("anything", {"steps": 3}),
        ("shift", {"noise": "none"}),
        ("needs", {}),
    ]:
        with pytest.raises(UsageError, match=r"parameter|more arguments"):
            images(name, **options)


def test_functions_of_this_process_get_them_too() -> None:
    def shift(z: Tensor, steps: int = 4) -> Tensor:
        return (0.05 * z[:, :1, None, None] + steps / 10).expand(-1, 3, 8, 8).clamp(0, 1)

    made = []
    for steps in (None, 4, 6):
        options = SourceOptions(batch=BATCH, latent_dim=DIM, range="unit", steps=steps)
        with open_callable(shift, seed=3, options=options) as source:
            made.append(source.images(0, COUNT))
            assert source.describe().get("steps") == steps
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    with pytest.raises(UsageError, match="no parameter truncation"):
        open_callable(shift, options=SourceOptions(latent_dim=DIM, truncation=0.5))


def test_architectures_without_styles_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"main.0.weight": torch.zeros(5, 4, 4, 4), "main.1.weight": torch.ones(4),
               "main.1.bias": torch.zeros(4), "main.1.running_mean": torch.zeros(4),
               "main.1.running_var": torch.ones(4), "main.3.weight": torch.zeros(4, 3, 4, 4)},
              tmp_path / "d.safetensors")  # fmt: skip
    for options in ({"truncation": 0.5}, {"noise": "none"}):
        with pytest.raises(UsageError, match="without styles"):
            open_source(
                str(tmp_path / "d.safetensors"),
                options=SourceOptions(architecture="dcgan", **options),  # type: ignore[arg-type]
            )
