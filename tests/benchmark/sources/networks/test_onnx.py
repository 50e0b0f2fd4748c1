"""ONNX files as sources: the model's own images, no other file read, one line for what is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shapeshd.benchmark.sources.networks.external_data import (
    DATA_LOCATION,
    EXTERNAL_DATA,
    TENSOR_PATHS,
    has_external_data,
)
from shapeshd.benchmark.sources.networks.generator import GeneratorSource
from shapeshd.benchmark.sources.networks.onnx import _split_inputs
from shapeshd.errors import ShapesHDError, UsageError
from tests.support.tanh_generator import (
    DIM,
    LAST,
    SIZE,
    Tanh,
    check_cuts,
    expected_images,
    opened,
)


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
    with pytest.raises(UsageError, match=r"^external\.onnx: .*other files"):
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
        ({"extra_inputs": 2}, {}, r"3 inputs \(z tensor\(float\) \(n, 5\), more0 tensor"),
        ({"extra_inputs": 1}, {}, r"second input more0 .*class labels"),
        ({"shape": ("n", DIM, 4)}, {}, r"no batch of latents"),
        ({"shape": ("n", DIM, 1, 2)}, {}, "no batch of latents"),
        ({"shape": ("n", "d")}, {}, "give latent_dim"),
        ({}, {"latent_dim": 9}, "5 values, not of 9"),
        ({}, {"range": "unit"}, r"the stated range \[0, 1\]"),
        ({"shape": ("n", DIM), "domain": "org.example"}, {}, "onnxruntime .*cannot load"),
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


@pytest.mark.parametrize(
    ("names", "latents"),
    [(("c", "z"), "z"), (("z", "c"), "z"), (("a", "b"), "a"), (("Label", "x"), "x"),
     (("x", "noise"), "noise")],
)  # fmt: skip
def test_of_two_inputs_of_floats_the_names_tell(names: tuple[str, str], latents: str) -> None:
    entries = [SimpleNamespace(name=n, type="tensor(float)", shape=["n", 3]) for n in names]
    first, second = _split_inputs(entries, "x.onnx")
    assert (first.name, {first.name, second.name}) == (latents, set(names))
