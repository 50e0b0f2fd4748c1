"""Class-conditional generators: each network gets its labels in its own form."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from shapeshd.benchmark.sources import SourceOptions, open_source
from shapeshd.benchmark.sources.latents import normal_latents, sample_choices, sample_seeds
from shapeshd.benchmark.sources.subprocess import code_process
from shapeshd.errors import ShapesHDError, UsageError
from shapeshd.models.networks.generator import Generator
from tests.support.network_pickles import Saved, saved, tiny_generator, write
from tests.support.same_process import SameProcess

Run = Callable[..., tuple[int, str, str]]
DIM, CLASSES, LAST = 4, 3, 5


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own, with the processes of Python entries in this one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(code_process, "_Child", SameProcess)


def levels(images: Tensor) -> Tensor:
    return torch.floor(images.double() * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def expected(stop: int, drawn: list[int]) -> Tensor:
    """The images of `Coloured`: each class has a colour, and z makes it lighter or darker."""
    numbers = torch.tensor(drawn)[sample_choices(3, 0, stop, len(drawn))]
    colours = torch.linspace(-0.6, 0.6, 3 * CLASSES).reshape(CLASSES, 3)[numbers]
    light = torch.tanh(normal_latents(3, 0, stop, DIM).sum(1))[:, None]
    return levels((colours + 0.4 * light)[:, :, None, None].expand(-1, -1, 4, 4))


def opened(text: str, trust: bool = True, **options: Any) -> Any:
    given = SourceOptions(**{"batch": LAST, "range": "symmetric", **options})
    return open_source(text, seed=3, trust=trust, options=given)


def check(source: Any, drawn: list[int], text: str) -> None:
    with source:
        whole = source.images(0, 12)
        wanted = expected(12, drawn)
        apart = (whole.int() - wanted.int()).abs()
        assert apart.max() <= 1 and apart.ne(0).sum() <= 48
        assert torch.equal(source.images(7, 9), whole[7:9])
        said = source.describe()
    assert (said["classes"], said["labels"]) == (CLASSES, text)


class Coloured(torch.nn.Module):
    """Takes one-hot labels."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = DIM
        self.num_classes = CLASSES
        self.register_buffer("colours", torch.linspace(-0.6, 0.6, 3 * CLASSES).reshape(CLASSES, 3))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        colour = c @ self.colours + 0.4 * torch.tanh(z.sum(1))[:, None]
        return colour[:, :, None, None].expand(-1, -1, 4, 4)


class Indexed(Coloured):
    """Takes numbers of classes, or none."""

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:  # type: ignore[override]
        number = torch.zeros(z.shape[0], dtype=torch.int64) if c is None else c
        colour = self.colours[number] + 0.4 * torch.tanh(z.sum(1))[:, None]
        return colour[:, :, None, None].expand(-1, -1, 4, 4)


def script(module: torch.nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save("g.pt")


def test_torchscript_with_one_hot_labels() -> None:
    script(Coloured())
    check(opened("g.pt", label_form="onehot"), [0, 1, 2], "uniform")
    check(opened("g.pt", label_form="onehot", labels="2,0"), [2, 0], "2,0")
    with pytest.raises(UsageError, match=r"^g\.pt: .*argument, c: .*label_form"):
        opened("g.pt")
    with pytest.raises(UsageError, match=r"^g\.pt: .*3 .*not 4"):
        opened("g.pt", label_form="onehot", classes=4)
    said = r"^g\.pt: .*latents \(5, 4\) and index labels \(5,\): RuntimeError"
    with opened("g.pt", label_form="index") as source, pytest.raises(ShapesHDError, match=said):
        source.images(0, 1)


def test_torchscript_that_is_silent() -> None:
    module = Coloured()
    del module.latent_dim, module.num_classes  # as tracing drops them
    script(module)
    given = {"label_form": "onehot", "latent_dim": DIM}
    check(opened("g.pt", classes=CLASSES, **given), [0, 1, 2], "uniform")
    with pytest.raises(UsageError, match="give classes"):
        opened("g.pt", **given)


def test_torchscript_with_labels_that_may_be_left_out() -> None:
    script(Indexed())
    check(opened("g.pt", label_form="index"), [0, 1, 2], "uniform")
    with opened("g.pt") as source:
        assert "classes" not in source.describe()
        apart = source.images(0, 12).int() - _without_labels(12)
        assert apart.abs().max() <= 1
    script(torch.nn.Sequential(torch.nn.Linear(DIM, 3)))
    for option in ({"labels": "1"}, {"classes": 3}, {"label_form": "index"}):
        with pytest.raises(UsageError, match=r"^g\.pt: takes one argument"):
            opened("g.pt", latent_dim=DIM, **option)


def _without_labels(stop: int) -> Tensor:
    light = torch.tanh(normal_latents(3, 0, stop, DIM).sum(1))[:, None]
    colours = torch.linspace(-0.6, 0.6, 3 * CLASSES)[:3] + 0.4 * light
    return levels(colours[:, :, None, None].expand(-1, -1, 4, 4)).int()


def build_onnx(
    kind: int = TensorProto.FLOAT,
    shape: tuple[Any, ...] = ("n", CLASSES),
    name: str = "c",
    labels_first: bool = False,
) -> None:
    """Write the ONNX of `Coloured`; integers (n,) or (n, 1) look up a colour."""
    colours = np.linspace(-0.6, 0.6, 3 * CLASSES, dtype=np.float32).reshape(CLASSES, 3)
    whole = kind != TensorProto.FLOAT
    if whole and (len(shape) == 1 or shape[1] == 1):
        look_up = [
            helper.make_node("Reshape", [name, "flat"], ["number"]),
            helper.make_node("Gather", ["colours", "number"], ["colour"]),
        ]
    else:
        look_up = [
            helper.make_node("Cast", [name], ["rows"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["rows", "colours"], ["colour"]),
        ]
    inputs = [
        helper.make_tensor_value_info("z", TensorProto.FLOAT, ("n", DIM)),
        helper.make_tensor_value_info(name, kind, shape),
    ]
    constants = {
        "colours": colours,
        "flat": np.array([-1]),
        "ones": np.full((DIM, 1), 1, np.float32),
        "scale": np.array(0.4, np.float32),
        "form": np.array([-1, 3, 1, 1]),
        "side": np.array([1, 1, 4, 4]),
    }
    graph = helper.make_graph(
        [
            *look_up,
            helper.make_node("MatMul", ["z", "ones"], ["sum"]),
            helper.make_node("Tanh", ["sum"], ["tanh"]),
            helper.make_node("Mul", ["tanh", "scale"], ["light"]),
            helper.make_node("Add", ["colour", "light"], ["both"]),
            helper.make_node("Reshape", ["both", "form"], ["pixel"]),
            helper.make_node("Expand", ["pixel", "side"], ["image"]),
        ],
        "generator",
        inputs[::-1] if labels_first else inputs,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    Path("g.onnx").write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ({}, {}),
        ({"shape": ("n", None)}, {"classes": CLASSES}),
        ({"name": "condition"}, {"labels": "uniform"}),
        ({"kind": TensorProto.INT64, "shape": ("n",)}, {"classes": CLASSES}),
        ({"kind": TensorProto.INT32, "shape": ("n", 1)}, {"classes": CLASSES}),
        ({"kind": TensorProto.INT64, "labels_first": True}, {}),
    ],
    ids=["one-hot", "open", "other name", "index", "column", "first"],
)
def test_onnx_with_labels(model: dict[str, Any], options: dict[str, Any]) -> None:
    build_onnx(**model)
    check(opened("g.onnx", trust=False, **options), [0, 1, 2], "uniform")
    check(opened("g.onnx", trust=False, **{**options, "labels": "1-2"}), [1, 2], "1-2")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({"name": "noise"}, {}, "second input noise tensor(float) (n, 3)"),
        ({"kind": TensorProto.INT64, "shape": ("n",)}, {}, "give classes"),
        ({}, {"classes": 4}, "3 classes, not 4"),
        ({}, {"labels": "3"}, "labels='3' goes beyond"),
        ({}, {"label_form": "index"}, "leave out label_form"),
        ({"shape": ("n",)}, {}, "c tensor(float) (n) takes no"),
        ({"kind": TensorProto.BOOL}, {}, "c tensor(bool) (n, 3) takes no"),
    ],
)
def test_onnx_refuses(model: dict[str, Any], options: dict[str, Any], message: str) -> None:
    build_onnx(**model)
    with pytest.raises(ShapesHDError) as caught:
        opened("g.onnx", trust=False, **options)
    assert message in str(caught.value) and str(caught.value).startswith("g.onnx: ")


PYTHON = """
import numpy as np
import torch
latent_dim = 4
num_classes = 3

def of_latents(z, labels):
    assert labels.dtype == torch.int64 and labels.shape == (len(z),)
    colours = torch.linspace(-0.6, 0.6, 9).reshape(3, 3)[labels]
    return (colours + 0.4 * torch.tanh(z.sum(1))[:, None])[:, :, None, None].expand(-1, -1, 4, 4)

def of_seeds(seeds, labels):
    assert labels.dtype == np.int64 and isinstance(labels, np.ndarray)
    images = np.zeros((len(seeds), 4, 4, 3), np.uint8)
    images[..., 0] = 100 * labels[:, None, None]
    images[..., 1] = (seeds % 256)[:, None, None]
    return images

class Network(torch.nn.Module):
    def forward(self, z, c):
        return of_latents(z, c)

network = Network()

def truncated(z, psi=0.5):
    assert isinstance(psi, float)
    return of_latents(z, torch.zeros(len(z), dtype=torch.int64))

def optional(z, labels=None):
    return of_latents(z, labels)

def alone(z, *, labels=None):
    return truncated(z)
"""


def test_python_functions_of_latents_and_labels() -> None:
    Path("gen.py").write_text(textwrap.dedent(PYTHON))
    check(opened("gen.py:of_latents"), [0, 1, 2], "uniform")
    check(opened("gen.py:of_latents", labels="0,2"), [0, 2], "0,2")
    check(opened("gen.py:network"), [0, 1, 2], "uniform")
    check(opened("gen.py:optional", labels="uniform"), [0, 1, 2], "uniform")
    with opened("gen.py:truncated") as source:  # not asked for, so it is no place for labels
        assert (source.images(0, 12).int() - _without_labels(12)).abs().max() <= 1
        assert "classes" not in source.describe()


def test_python_function_of_seeds_and_labels() -> None:
    Path("gen.py").write_text(textwrap.dedent(PYTHON))
    with opened("gen.py:of_seeds", labels="1-2", range="auto") as source:
        images = source.images(3, 12).numpy()
    assert np.array_equal(images[:, 0, 0, 0], 100 * (1 + sample_choices(3, 3, 12, 2)))
    assert np.array_equal(images[:, 1, 0, 0], sample_seeds(3, 3, 12) % 256)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("of_latents", {"labels": "3"}, "labels='3' goes beyond"),
        ("of_latents", {"classes": 5}, "3 classes, not 5"),
        ("alone", {"labels": "1"}, "function of one argument"),
        ("of_latents", {"label_form": "onehot"}, "leave out label_form"),
        ("of_latents", {"code_dir": "."}, "leave out code_dir"),
    ],
)
def test_python_functions_refuse(function: str, options: dict[str, Any], message: str) -> None:
    Path("gen.py").write_text(textwrap.dedent(PYTHON))
    with pytest.raises(UsageError) as caught:
        opened(f"gen.py:{function}", **options)
    assert message in str(caught.value)


def test_python_function_that_is_silent() -> None:
    Path("gen.py").write_text(textwrap.dedent(PYTHON).replace("num_classes = 3", ""))
    check(opened("gen.py:of_latents", classes=CLASSES), [0, 1, 2], "uniform")
    with pytest.raises(UsageError, match="give classes"):
        opened("gen.py:of_latents")


# --- StyleGAN2 without its authors' code -----------------------------------------------------


def conditional(width: int = 5) -> tuple[Generator, Saved, Tensor, Tensor]:
    """Return our network of the joined input, the module of theirs, and its embedding."""
    ours = tiny_generator(latent_dim=6 + width, normalize_latent=False)
    generator = torch.Generator().manual_seed(8)
    weight = torch.randn(width, CLASSES, generator=generator)
    bias = torch.randn(width, generator=generator)
    theirs: Any = saved(ours)
    theirs.z_dim, theirs.c_dim = 6, CLASSES
    theirs.mapping.c_dim = CLASSES
    theirs.mapping.embed = Saved(
        "FullyConnectedLayer", {"weight": weight, "bias": bias}, activation="linear",
        bias_gain=1, weight_gain=CLASSES**-0.5,
    )  # fmt: skip
    return ours, theirs, weight, bias


def test_conditional_pickle() -> None:
    ours, theirs, weight, bias = conditional()
    write(Path("net.pkl"), theirs)
    numbers = torch.tensor([0, 2])[sample_choices(3, 0, 12, 2)]
    z = normal_latents(3, 0, 12, 6).double()
    embedded = weight.double()[:, numbers].T / CLASSES**0.5 + bias
    joined = torch.cat([x / x.square().mean(1, keepdim=True).sqrt() for x in (z, embedded)], 1)
    with torch.inference_mode():
        wanted = levels(ours(joined.float()))
    with open_source("net.pkl", seed=3, options=SourceOptions(labels="0,2", batch=12)) as source:
        assert source.kind == "network-pickle"
        apart = (source.images(0, 12).int() - wanted.int()).abs()
        said = source.describe()
    assert apart.max() <= 1 and apart.ne(0).sum() <= 5
    assert (said["latent_dim"], said["classes"], said["labels"]) == (6, CLASSES, "0,2")


def test_an_average_over_classes_is_not_guessed() -> None:
    _, theirs, _, _ = conditional()
    mapping: Any = theirs.mapping
    mapping.w_avg = None
    write(Path("net.pkl"), theirs)
    with pytest.raises(UsageError, match="average of w was never measured"):
        open_source("net.pkl", options=SourceOptions(labels="0,2", truncation=0.5))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("c_dim", 4, "c_dim 3, not 4"),
        ("embed.bias_gain", 0.5, "has weight_gain 0.57735"),
        ("embed.activation", "lrelu", "activation 'lrelu', not 'linear'"),
        ("embed", None, "its MappingNetwork lacks 'embed'"),
        ("embed.weight", torch.zeros(4, CLASSES), "embedding of labels is (4, 3)"),
    ],
)
def test_conditional_pickles_that_ours_is_not(name: str, value: Any, message: str) -> None:
    _, theirs, _, _ = conditional()
    holder: Any = theirs.mapping
    *path, last = name.split(".")
    for part in path:
        holder = getattr(holder, part)
    if name == "c_dim":
        theirs.c_dim = value
    elif isinstance(value, Tensor):
        value = torch.nn.Parameter(value, requires_grad=False)
    if name != "c_dim":
        setattr(holder, last, value)
    write(Path("net.pkl"), theirs)
    with pytest.raises(UsageError) as caught:
        open_source("net.pkl")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("images.npy", ["--labels", "3"], "leave out --labels"),
        ("images.npy", ["--classes", "3"], "leave out --classes"),
        ("images.npy", ["--code-dir", "."], "leave out --code-dir"),
        ("images.npy", ["--labels", "x"], "--labels must be uniform"),
        ("net.pkl", ["--labels", "3"], "network without classes"),
        ("cmd:cat", ["--labels", "3", "--trust"], "no class labels"),
    ],
)
def test_refused_on_the_command_line(
    run: Run, source: str, options: list[str], message: str
) -> None:
    np.save("images.npy", np.zeros((10, 4, 4, 3), np.uint8))
    write(Path("net.pkl"), saved(tiny_generator(size=8)))
    status, out, err = run("score", source, *options, "--device", "cpu")
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert message in err
