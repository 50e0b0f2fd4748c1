"""Generators as sources: same images however they are asked for, and one line for what is wrong."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from scipy import stats

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.latents import normal_latents, sample_seeds
from shapeshd.benchmark.sources.networks import checkpoint
from shapeshd.benchmark.sources.networks.external_data import (
    DATA_LOCATION,
    EXTERNAL_DATA,
    TENSOR_PATHS,
    has_external_data,
)
from shapeshd.benchmark.sources.networks.generator import GeneratorSource, NetworkBatches
from shapeshd.benchmark.sources.networks.torchscript import is_torchscript
from shapeshd.benchmark.sources.open import find_kind
from shapeshd.benchmark.sources.options import SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.benchmark.sources.subprocess import code_process
from shapeshd.benchmark.sources.subprocess.code_process import UserTraceback
from shapeshd.benchmark.sources.subprocess.python_entry import examine_entry
from shapeshd.benchmark.sources.subprocess.user_function import load_function
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.factors import uniform_factors
from shapeshd.support.checkpoint import save_checkpoint
from tests.support.same_process import SameProcess, own_children

DIM, SIZE = 5, 8
LAST = 7  # samples in a batch of these tests

OpenEntry = Callable[..., GeneratorSource]


class Tanh(torch.nn.Module):
    """A generator of images in [-1, 1]; training mode would change them."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = DIM
        self.dense = torch.nn.Linear(DIM, 3 * SIZE * SIZE)
        self.dropout = torch.nn.Dropout()
        generator = torch.Generator().manual_seed(4)
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, generator=generator)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.dropout(self.dense(z))).reshape(-1, 3, 8, 8)


def rounded(images: torch.Tensor) -> torch.Tensor:
    """What a saved image of [-1, 1] holds, in float64."""
    return torch.floor(images.double() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def near(images: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether images agree up to a level where another batch length rounds otherwise."""
    difference = (images.int() - expected.int()).abs()
    return images.shape == expected.shape and difference.max() <= 1 and difference.sum() <= 3


def expected_images(stop: int, seed: int = 3) -> torch.Tensor:
    with torch.inference_mode():
        return rounded(Tanh().eval()(normal_latents(seed, 0, stop, DIM)))


# --- latents ---------------------------------------------------------------------------------


def test_latents_depend_on_seed_and_index_alone() -> None:
    whole = normal_latents(11, 0, 40, 6)
    assert whole.dtype == torch.float32
    assert torch.equal(normal_latents(11, 13, 29, 6), whole[13:29])
    assert torch.equal(normal_latents(11, 2**40, 2**40 + 2, 6)[1:], normal_latents(
        11, 2**40 + 1, 2**40 + 2, 6))  # fmt: skip
    assert not torch.equal(normal_latents(12, 0, 40, 6), whole)
    assert normal_latents(0, 5, 5, 6).shape == (0, 6)


def test_latents_are_standard_normal() -> None:
    sample = normal_latents(0, 0, 40_000, 9).double().numpy()
    assert stats.kstest(sample.ravel(), "norm").pvalue > 0.001
    assert all(stats.kstest(column, "norm").pvalue > 1e-4 for column in sample.T)
    correlation = np.corrcoef(sample.T) - np.eye(9)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(sample))
    series = sample.ravel()
    for lag in (1, 2, 3, 4, 8, 9):
        assert abs(np.mean(series[lag:] * series[:-lag])) < 5 / np.sqrt(len(series))
        assert abs(np.mean(series[lag:] ** 2 * series[:-lag] ** 2) - 1) < 20 / np.sqrt(len(series))
    assert stats.kurtosis(series) == pytest.approx(0, abs=0.04)
    assert (np.abs(series) > 4).mean() == pytest.approx(2 * stats.norm.sf(4), abs=3e-5)


def test_latents_share_nothing_with_the_factors() -> None:
    factors = uniform_factors(0, 0, 1000)[:, 0]
    latents = stats.norm.cdf(normal_latents(0, 0, 1000, 4).double().numpy())
    assert np.abs(latents - factors[:, None]).min(axis=0).max() > 1e-9
    assert abs(np.corrcoef(latents[:, 0], factors)[0, 1]) < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 1, 4), "seed must be"),
        ((0, 0, 1, 0), "latent dimension must be"),
        ((0, 3, 1, 4), "0 <= start <= stop"),
        ((0, -1, 1, 4), "0 <= start <= stop"),
    ],
)
def test_impossible_latents(arguments: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        normal_latents(*arguments)


def test_sample_seeds_are_all_different_and_look_random() -> None:
    seeds = sample_seeds(0, 0, 300_000)
    assert seeds.dtype == np.int64
    assert len(np.unique(seeds)) == len(seeds)
    assert seeds.min() >= 0 and seeds.max() < 2**32
    assert stats.kstest(seeds / 2**32, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(seeds[1:], seeds[:-1])[0, 1]) < 0.01
    assert stats.chisquare(np.bincount(seeds % 256, minlength=256)).pvalue > 0.001
    assert np.array_equal(sample_seeds(0, 1000, 1010), seeds[1000:1010])
    assert not np.intersect1d(sample_seeds(1, 0, 1000), seeds[:1000]).size
    with pytest.raises(UsageError, match="4,294,967,296"):
        sample_seeds(0, 0, 2**32 + 1)


# --- TorchScript -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchscript") / "g.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(Tanh()).save(path)
    return path


def torchscript(path: Path, trust: bool = True, device: str = "cpu", **options: Any) -> Any:
    return opened(str(path), path.name, trust=trust, device=device, **options)


def opened(
    text: str | Path, name: str = "", *, trust: bool = False, device: str = "cpu", **options: Any
) -> Any:
    """Open a source as `open_source` does, under a name of its own."""
    chosen = SourceOptions(**{"batch": LAST, **options})
    request = OpenRequest(str(text), name, seed=3, trust=trust, device=device, options=chosen)
    return find_kind(str(text), chosen).open(request)


def check_cuts(source: GeneratorSource, expected: torch.Tensor, close: bool = False) -> None:
    """However a range is cut, the images are the same; and they are the expected ones."""
    whole = source.images(0, len(expected))
    assert whole.dtype == torch.uint8
    assert near(whole, expected) if close else torch.equal(whole, expected)
    for cuts in ([0, 1, 2, 9, 20], [0, LAST, 2 * LAST, 20], [0, 13, 20]):
        parts = [source.images(a, b) for a, b in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat(parts), whole[:20])
    assert torch.equal(source.images(15, 16), whole[15:16])
    assert source.images(4, 4).shape == (0, *whole.shape[1:])


def test_torchscript_gives_the_module_s_own_images(scripted: Path) -> None:
    with torchscript(scripted) as source:
        assert (source.kind, source.count, source.name) == ("torchscript", None, "g.pt")
        check_cuts(source, expected_images(30), close=True)
        said = source.describe()
    assert said["latent_dim"] == DIM and said["range"] == "[-1, 1]" and said["seed"] == 3
    json.dumps(said)
    with torchscript(scripted) as another:  # a run that starts elsewhere
        assert near(another.images(22, 30), expected_images(30)[22:])
        assert not torch.is_inference(another.images(22, 30))


def test_range_is_learned_from_the_first_batch_wherever_a_run_starts() -> None:
    """Batches that look like [0, 1] on their own are read as the first one was."""
    first = normal_latents(0, 0, 2, 3)
    ramp = torch.linspace(0, 1, 48).reshape(1, 3, 4, 4)

    def network(z: torch.Tensor) -> torch.Tensor:
        return ramp.repeat(2, 1, 1, 1) * (-1 if torch.equal(z, first) else 1)

    def opened() -> GeneratorSource:
        form = ImageFormat(SourceOptions(), name="odd")
        batches = NetworkBatches(
            network,
            name="odd",
            latent_dim=3,
            seed=0,
            device=torch.device("cpu"),
            batch=2,
            form=form,
        )
        return GeneratorSource("odd", "test", batches)

    whole = opened().images(0, 8)
    assert torch.equal(opened().images(5, 8), whole[5:])
    assert torch.equal(whole[5:], rounded(ramp).repeat(3, 1, 1, 1))


def test_torchscript_needs_trust(scripted: Path) -> None:
    with pytest.raises(UsageError, match=r"^g\.pt: a TorchScript file holds code .* trust"):
        torchscript(scripted, trust=False)


def test_weights_alone_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (marker,)

    torch.save({"w": torch.zeros(2), "trap": Trap()}, tmp_path / "w.pt")
    torch.save(Trap(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "text.pt").write_text("no archive")
    for name, message in [
        ("w.pt", "pickled weights"),
        ("old.pt", "is a pickle"),
        ("text.pt", "is no TorchScript"),
        ("none.pt", "no such file"),
    ]:
        with pytest.raises(UsageError, match=f"{name}: .*{message}"):
            torchscript(tmp_path / name)
        assert not is_torchscript(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 6}, "takes latents of 5 values, not of 6"),
        ({"key": "images"}, "leave out key"),
        ({"timeout": 5.0}, "leave out timeout"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used .*: PyTorch finds"),
        ({"device": "gpu"}, "device='gpu' cannot be used"),
    ],
    ids=str,
)
def test_torchscript_refuses(scripted: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        torchscript(scripted, **options)


def test_torchscript_that_fails_says_so_in_one_line(tmp_path: Path, scripted: Path) -> None:
    path = tmp_path / "traced.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.trace(Tanh().eval(), torch.zeros(2, DIM)).save(path)
    with pytest.raises(UsageError, match=r"^traced\.pt: .* give latent_dim"):
        torchscript(path)  # a traced module forgets its attributes
    with torchscript(path, latent_dim=9) as source:
        with pytest.raises(ShapesHDError) as caught:
            source.images(0, 3)
        message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message
    assert message.startswith("traced.pt: failed on latents (7, 9): RuntimeError: ")
    damaged = tmp_path / "damaged.pt"
    with zipfile.ZipFile(scripted) as whole, zipfile.ZipFile(damaged, "w") as copy:
        for entry in whole.namelist():
            code = "/code/" in entry and entry.endswith(".py")
            copy.writestr(entry, b"class no(" if code else whole.read(entry))
    with pytest.raises(ShapesHDError, match=r"^damaged\.pt: cannot be loaded"):
        torchscript(damaged)


# --- ONNX ------------------------------------------------------------------------------------


def build_onnx(
    path: Path,
    *,
    shape: tuple[Any, ...] = ("n", DIM),
    kind: int = TensorProto.FLOAT,
    weight: TensorProto | None = None,
    extra_inputs: int = 0,
    domain: str = "",
) -> Path:
    """Write the ONNX of `Tanh`: flatten, dense, tanh, reshape."""
    network = Tanh()
    numbers = network.dense.weight.detach().numpy().T.copy()
    if shape[1] == DIM:  # a flattened latent of another length needs another matrix
        numbers = np.resize(numbers, (math.prod(shape[1:]), numbers.shape[1]))
    inputs = [helper.make_tensor_value_info("z", kind, shape)]
    inputs += [
        helper.make_tensor_value_info(f"more{number}", kind, shape)
        for number in range(extra_inputs)
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["z"], ["flat"], axis=1, domain=domain),
            helper.make_node("Gemm", ["flat", "w", "b"], ["y"]),
            helper.make_node("Tanh", ["y"], ["t"]),
            helper.make_node("Reshape", ["t", "form"], ["image"]),
        ],
        "generator",
        inputs,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [shape[0], 3, SIZE, SIZE])],
        [
            weight or onnx.numpy_helper.from_array(numbers, "w"),
            onnx.numpy_helper.from_array(network.dense.bias.detach().numpy(), "b"),
            onnx.numpy_helper.from_array(np.array([-1, 3, SIZE, SIZE]), "form"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    opsets += [helper.make_opsetid(domain, 1)] if domain else []
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    return path


def open_model(path: Path, device: str = "cpu", **options: Any) -> GeneratorSource:
    return opened(str(path), path.name, device=device, **options)


@pytest.mark.parametrize("shape", [("n", DIM), (None, DIM, 1, 1), (4, DIM)], ids=str)
def test_onnx_gives_the_model_s_own_images(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    with open_model(build_onnx(tmp_path / "g.onnx", shape=shape)) as source:
        check_cuts(source, expected_images(30), close=True)
        said = source.describe()
    assert (said["latent_dim"], said["batch"]) == (DIM, 4 if shape[0] == 4 else LAST)


def test_onnx_with_external_data_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.bin").write_bytes(np.ones(DIM * 3 * SIZE * SIZE, np.float32).tobytes())
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[DIM, 3 * SIZE * SIZE])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    path = build_onnx(tmp_path / "external.onnx", weight=weight)
    import onnxruntime

    # Without the check the file would be read: that is why it is there.
    onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(UsageError, match=r"^external\.onnx: keeps tensors in other files"):
        open_model(path)


def test_external_data_is_looked_for_wherever_onnx_has_tensors() -> None:
    descriptor = onnx.ModelProto.DESCRIPTOR
    seen: dict[str, dict[int, str]] = {}
    waiting = [descriptor]
    while waiting:
        message = waiting.pop()
        if message.name in seen:
            continue
        fields = [field for field in message.fields if field.message_type is not None]
        seen[message.name] = {field.number: field.message_type.name for field in fields}
        waiting += [field.message_type for field in fields]

    def leads(name: str, path: tuple[str, ...] = ()) -> bool:
        return name == "TensorProto" or any(
            leads(child, (*path, name)) for child in seen[name].values() if child not in path
        )

    wanted = {
        name: {number: child for number, child in fields.items() if leads(child)}
        for name, fields in seen.items()
        if name != "TensorProto"
    }
    assert {name: fields for name, fields in wanted.items() if fields} == TENSOR_PATHS
    tensor = onnx.TensorProto.DESCRIPTOR.fields_by_name
    assert tensor["external_data"].number == EXTERNAL_DATA
    assert tensor["data_location"].number == DATA_LOCATION


def test_external_data_is_found_deep_inside() -> None:
    tensor = TensorProto(data_location=TensorProto.EXTERNAL)
    plain = TensorProto(raw_data=b"12345678")
    for hidden, found in ((tensor, True), (plain, False)):
        constant = helper.make_node("Constant", [], ["x"], value=hidden)
        branch = helper.make_graph([constant], "branch", [], [])
        model = onnx.ModelProto(graph=helper.make_graph(
            [helper.make_node("If", ["c"], ["y"], then_branch=branch)], "g", [], []))  # fmt: skip
        assert has_external_data(model.SerializeToString()) is found
        function = onnx.FunctionProto(node=[constant])
        assert has_external_data(onnx.ModelProto(functions=[function]).SerializeToString()) is found
    with pytest.raises(ValueError, match="field's number"):
        has_external_data(b"\xba\x80\x80\x80\x10\x00")  # field 7, were the key cut to 32 bits


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        ({"extra_inputs": 2}, {}, r"has 3 inputs \(z tensor\(float\) \(n, 5\), more0 tensor"),
        ({"extra_inputs": 1}, {}, r"has a second input more0 .*: if that takes class labels, give"),
        ({"shape": ("n", DIM, 4)}, {}, r"is no batch of latents: \(n, d\) or \(n, d, 1, 1\)"),
        ({"shape": ("n", DIM, 1, 2)}, {}, "is no batch of latents"),
        ({"shape": ("n", "d")}, {}, "give latent_dim"),
        ({}, {"latent_dim": 9}, "takes latents of 5 values, not of 9"),
        ({}, {"range": "unit"}, r"do not fit the stated range \[0, 1\]"),
        ({"shape": ("n", DIM), "domain": "org.example"}, {}, "onnxruntime .* cannot load it"),
    ],
    ids=str,
)
def test_onnx_refuses(
    tmp_path: Path, build: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    path = build_onnx(tmp_path / "g.onnx", **build)
    with pytest.raises(ShapesHDError, match=message) as caught:
        open_model(path, **options).images(0, 1)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_onnx(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = build_onnx(tmp_path / "g.onnx").read_bytes()
    for name, data in [("text", b"hello, world"), ("cut", whole[: len(whole) // 2]), ("no", b"")]:
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        with pytest.raises(ShapesHDError, match=rf"{name}\.onnx: (is |onnxruntime)"):
            open_model(path)
    with pytest.raises(UsageError, match="no such file"):
        open_model(tmp_path / "absent.onnx")
    assert capfd.readouterr() == ("", "")


# --- our checkpoints -------------------------------------------------------------------------


def test_checkpoint_of_a_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Tanh().eval()
    path = tmp_path / "g.safetensors"
    save_checkpoint(path, "generator", network.state_dict(), {})
    monkeypatch.setattr(checkpoint, "load_generator", lambda path, device: (network, DIM))

    with opened(path, "G") as source:
        check_cuts(source, expected_images(30), close=True)
        assert source.describe()["range_from"] == "stated"
    with pytest.raises(UsageError, match="leave range"):
        opened(path, "G", range="unit")
    with pytest.raises(UsageError, match="takes latents of 5"):
        opened(path, "G", latent_dim=4)
    save_checkpoint(tmp_path / "r.safetensors", "recognizer", network.state_dict(), {})
    with pytest.raises(UsageError, match="holds a recognizer, not a generator"):
        opened(tmp_path / "r.safetensors", "R")
    save_file(network.state_dict(), path)
    with pytest.raises(UsageError, match=r"G: .*no card of shapeshd"):
        opened(path, "G")


# --- Python entries --------------------------------------------------------------------------


@pytest.fixture
def entry(tmp_path: Path) -> Iterator[OpenEntry]:
    """Write a Python file and open a function in it, in a process of its own."""
    made: list[GeneratorSource] = []
    others = own_children()  # of other tests: loky's workers, trackers

    def call(code: str, function: str = "make", *, trust: bool = True, **options: Any) -> Any:
        device = options.pop("device", "cpu")
        path = tmp_path / "gen.py"
        path.write_text(textwrap.dedent(code))
        made.append(
            opened(
                f"{path}:{function}",
                f"gen.py:{function}",
                trust=trust,
                device=device,
                **{"timeout": 60, **options},
            )
        )
        return made[-1]

    yield call
    for source in made:
        source.close()
    assert not own_children() - others


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python entries run in this process; see `SameProcess`."""
    monkeypatch.setattr(code_process, "_Child", SameProcess)


@pytest.fixture
def entry_here(here: None, entry: OpenEntry) -> OpenEntry:
    """Like `entry`, but in this process."""
    return entry


HEAD = """
import os, sys, time
import numpy as np
import torch
latent_dim = 5
"""


def test_function_of_latents_in_a_process_of_its_own(
    entry: OpenEntry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its folder comes first on the path, it may print, and it gives its own images."""
    for package in ("models", "benchmark"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("MINE = 1\n")
    source = entry(
        HEAD
        + """
import benchmark, models
print("loading", flush=True)
os.write(1, b"raw\\n")

def make(z):
    print("called", z.dtype, tuple(z.shape))
    assert not torch.is_grad_enabled() and not torch.is_inference(z)
    ramp = torch.linspace(-1, 1, 48).reshape(3, 4, 4) * models.MINE * benchmark.MINE
    return torch.tanh(z.sum(1))[:, None, None, None] * ramp
"""
    )
    z = normal_latents(3, 0, 30, DIM)
    images = torch.tanh(z.sum(1))[:, None, None, None] * torch.linspace(-1, 1, 48).reshape(3, 4, 4)
    check_cuts(source, rounded(images), close=True)
    said = source.describe()
    assert (said["takes"], said["latent_dim"], said["range"]) == ("latents", DIM, "[-1, 1]")
    assert said["clamped_share"] == 0
    source.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert "loading" in err and "raw" in err and "called torch.float32 (7, 5)" in err


def test_function_of_seeds(entry_here: OpenEntry) -> None:
    source = entry_here(
        """
        import numpy as np

        def make(seeds):
            assert seeds.dtype == np.int64
            images = np.empty((len(seeds), 6, 6, 3), np.uint8)
            for image, seed in zip(images, seeds):
                image[:] = np.random.RandomState(seed).randint(40, 200, (6, 6, 3))
            return images
        """
    )
    expected = [
        np.random.RandomState(seed).randint(40, 200, (6, 6, 3)) for seed in sample_seeds(3, 0, 30)
    ]
    check_cuts(source, torch.from_numpy(np.stack(expected).astype(np.uint8)).permute(0, 3, 1, 2))
    assert source.describe()["takes"] == "seeds"
    assert source.describe()["latent_dim"] is None


def test_network_as_an_attribute_is_put_in_eval_mode(entry_here: OpenEntry) -> None:
    source = entry_here(
        """
        import torch

        class Net(torch.nn.Module):
            z_dim = 5
            def __init__(self):
                super().__init__()
                self.dropout = torch.nn.Dropout()
            def forward(self, z):
                assert torch.is_inference_mode_enabled()
                return torch.tanh(self.dropout(z)[:, :3, None, None].repeat(1, 1, 4, 4))

        class holder:
            net = Net()
        """,
        "holder.net",
    )
    z = normal_latents(3, 0, 30, DIM)
    check_cuts(source, rounded(torch.tanh(z[:, :3, None, None].repeat(1, 1, 4, 4))), close=True)


def test_module_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.py").write_text(
        "import numpy as np\n"
        "def g(seeds):\n"
        "    return np.full((len(seeds), 3, 5, 4), 9, np.uint8)\n"
    )
    monkeypatch.chdir(tmp_path)

    with opened("work.mine:g", trust=True) as source:
        assert torch.equal(source.images(0, 3), torch.full((3, 3, 5, 4), 9, dtype=torch.uint8))
    with pytest.raises(UsageError, match=r"^work\.absent:g: there is no module work\.absent"):
        opened("work.absent:g", trust=True)


def test_nothing_runs_without_trust(entry_here: OpenEntry, tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'marker')!r}, 'w')\ndef make(seeds): pass\n"
    with pytest.raises(UsageError, match=r"^gen\.py:make: a Python file is code .* trust"):
        entry_here(code, trust=False)
    assert not (tmp_path / "marker").exists()
    entry_here(code)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def other(z): pass\ndef more(z): pass", "there is no make in it; there is: other, more"),
        ("make = 3", "is an int; expected is a function of latents"),
        ("class make: pass", r"is a class; .* `generator = make\(\.\.\.\)`"),
        ("def make(): pass", "takes no argument by position, as what makes a generator does"),
        ("def make(z, c, w): pass", r"needs more arguments than latents and labels \(w\)"),
        ("def make(z, *, psi): pass", r"needs more arguments than latents and labels \(psi\)"),
        ("def make(z): pass", r"how many values has a latent\? give latent_dim"),
        ("def make(*, z): pass", "takes no argument by position"),
    ],
)
def test_what_is_no_function_of_latents(tmp_path: Path, code: str, message: str) -> None:
    path = tmp_path / "generator_of_test.py"
    path.write_text(code)
    with pytest.raises(UsageError, match=f"^G: {message}") as caught:
        load_function(
            str(path), "make", name="G", device=torch.device("cpu"), options=SourceOptions()
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\nimport no_such_thing", r" raised ModuleNotFoundError: .* \(line 2\)$"),
        ("x = 1\nx = = 2", r" raised SyntaxError: invalid syntax \(line 2\)$"),
        ("import sys\n\nsys.exit(3)", r" raised SystemExit: 3 \(line 3\)$"),
        ("make = 3", ": is an int; expected is a function"),
    ],
    ids=lambda value: value.splitlines()[-1][:24],
)
def test_entries_that_cannot_be_loaded(entry_here: OpenEntry, code: str, message: str) -> None:
    with pytest.raises(ShapesHDError, match=rf"^gen\.py:make{message}") as caught:
        entry_here(code)
    assert "\n" not in str(caught.value)


def test_entry_that_ends_its_process_while_it_loads(entry: OpenEntry) -> None:
    with pytest.raises(
        ShapesHDError,
        match=r"^gen\.py:make: its process ended by itself \(exit status 4\) while loading$",
    ):
        entry("import os; os._exit(4)")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (0, "its process ended by itself (exit status 0)"),
        (5, "its process ended by itself (exit status 5)"),
        (-9, "its process was killed (signal 9; out of memory?)"),
        (-11, "its process crashed (SIGSEGV)"),
        (-99, "its process crashed (signal 99)"),
    ],
)
def test_how_a_process_ended_is_told(status: int, message: str) -> None:
    assert code_process.describe_end(status) == message


FAILING = (
    HEAD
    + """calls = []
def make(z):
    calls.append(1); black = lambda: torch.zeros(7, 3, 4, 4)
"""
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no\\nway')", r" raised ValueError: no way \(line 9\)$"),
        (
            "if len(calls) < 3: return black()\n    raise OSError('third')",
            r" raised OSError: third \(line 10\)$",
        ),
        ("sys.exit('enough')", r" raised SystemExit: enough \(line 9\)$"),
        ("return torch.zeros(3, 3, 4, 4)", r": returned 3 images for 7 samples$"),
        ("return None", r": returned None, not a tensor or an array"),
        ("return black() * float('nan')", r": .* NaN"),
        ("raise MemoryError", r" raised MemoryError: .* smaller batch \(line 9\)$"),
    ],
    ids=lambda value: value[:24],
)
def test_functions_that_fail(entry_here: OpenEntry, body: str, message: str) -> None:
    late = "calls" in body
    source = entry_here(f"{FAILING}    {body}\n", range="unit" if late else "auto")
    if late:
        assert source.images(0, LAST).shape == (LAST, 3, 4, 4)
    check_failure(source, message)


def check_failure(source: GeneratorSource, message: str) -> None:
    """One line, with the user's traceback as the cause; and the source is closed."""
    with pytest.raises(ShapesHDError, match=rf"^gen\.py:make{message}") as caught:
        source.images(0, 5 * LAST)
    assert "\n" not in str(caught.value)
    if " raised " in str(caught.value):
        assert isinstance(caught.value.__cause__, UserTraceback)
        assert "Traceback (most recent call last)" in str(caught.value.__cause__)
    with pytest.raises(ShapesHDError, match="the source is closed"):
        source.images(LAST, LAST + 1)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no way')", r" raised ValueError: no way \(line 9\)$"),
        ("os.kill(os.getpid(), 11)", r": its process crashed \(SIGSEGV\) while making the"),
    ],
    ids=["raises", "dies"],
)
def test_process_that_fails(entry: OpenEntry, body: str, message: str) -> None:
    check_failure(entry(f"{FAILING}    {body}\n"), message)


def test_code_that_hangs_is_ended(entry: OpenEntry) -> None:
    """Ctrl-C reaches us and not it; then its time is up.

    It is ended also with a process of its own, that would hold the pipes open.
    """
    others = own_children()
    source = entry(HEAD + "if os.fork() == 0: time.sleep(600)\ndef make(z): time.sleep(600)\n")
    source._batches._timeout = 60.0
    child = own_children() - others
    assert len(child) == 2
    # What a shell starts in the background is deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            source.images(0, 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert all(process.is_running() for process in child)
    source._batches._timeout = 1.0
    with pytest.raises(
        ShapesHDError, match=r"nothing within 1 s while making the samples 0 \.\. 6"
    ):
        source.images(20, 30)
    psutil.wait_procs(child, timeout=5)
    assert not any(process.is_running() for process in child)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gen.py", "name a function in a Python file"),
        ("gen.py:", "name a function"),
        (":make", "name a function"),
        ("gen.py:make()", "name a function"),
        ("absent.py:make", "there is no file absent.py"),
        ("some-thing:make", "neither a .py file nor the name of a module"),
    ],
)
def test_texts_that_name_no_function(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        examine_entry(OpenRequest(text))


PARENT = """
import sys
from shapeshd.benchmark.sources import SourceOptions, open_source
with open_source(sys.argv[1], trust=True, options=SourceOptions(batch=2)) as source:
    print("ready", flush=True)
    source.images(0, 4)
"""


def test_no_process_outlives_its_parent(tmp_path: Path) -> None:
    (tmp_path / "gen.py").write_text(
        "import os, time\n"
        "def make(seeds):\n"
        "    open('pid', 'w').write(str(os.getpid()))\n"
        "    while True: pass\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "gen.py:make"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    pid = tmp_path / "pid"
    latest = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < latest and parent.poll() is None
        time.sleep(0.05)
    child = psutil.Process(int(pid.read_text()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate(timeout=20)
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE  # init's to reap
