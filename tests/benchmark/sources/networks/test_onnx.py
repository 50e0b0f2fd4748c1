"""ONNX files as sources: the model's own images, no other file read, one line for what is wrong."""

from __future__ import annotations

import math
import os
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
    with_data_inside,
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


def beside(path: Path, location: str = "g.onnx.data", **changes: str) -> Path:
    """Write the ONNX of `Tanh` with its weights in another file, as the exporter does."""
    model = onnx.load(build_onnx(path))
    onnx.save_model(
        model, path, save_as_external_data=True, location="g.onnx.data", size_threshold=0
    )
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        said = {entry.key: entry.value for entry in tensor.external_data}
        del tensor.external_data[:]
        for key, value in {**said, "location": location, **changes}.items():
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_beside_the_model_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = beside(tmp_path / "g.onnx")
    assert has_external_data(path.read_bytes())
    monkeypatch.chdir("/")  # they are looked for beside the model, wherever one is
    with open_model(path) as source:
        check_cuts(source, expected_images(30))
        first = source.digest
    data = bytearray((tmp_path / "g.onnx.data").read_bytes())
    data[3] ^= 1
    (tmp_path / "g.onnx.data").write_bytes(data)
    with open_model(path) as source:
        assert source.digest not in (None, first)  # another generator, though the file is the same
    with open_model(build_onnx(tmp_path / "one.onnx")) as source:
        assert source.digest is None


def test_the_runtime_gets_a_model_that_names_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, given = beside(tmp_path / "g.onnx"), []

    def refuse(data: bytes, **_: object) -> None:
        given.append(data)
        raise RuntimeError("enough")

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)
    with pytest.raises(ShapesHDError, match="enough"):
        open_model(path)
    assert not has_external_data(given[0])
    inside = onnx.load_from_string(given[0])
    for one, other in zip(inside.graph.initializer, onnx.load(path).graph.initializer, strict=True):
        np.testing.assert_array_equal(
            onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(other)
        )
    onnx.checker.check_model(inside)


BAD_PLACES = {
    "above": ("../g.onnx.data", {}, "not below its folder"),
    "anywhere": ("/etc/hostname", {}, "not below its folder"),
    "nowhere": ("", {}, "not below its folder"),
    "through a folder": ("a/../../g.onnx.data", {}, "not below its folder"),
    "missing": ("other.data", {}, "No such file"),
    "a folder": ("folder", {}, "no regular file"),
    "a pipe": ("pipe", {}, "no regular file"),
    "a link out": ("link", {}, "a link out of its folder"),
    "a folder that is a link out": ("parent/secret", {}, "a link out of its folder"),
    "beyond the end": ("g.onnx.data", {"offset": "100000"}, "too short"),
    "before the beginning": ("g.onnx.data", {"offset": "-4"}, "nothing sound"),
    "another length": ("g.onnx.data", {"length": "8"}, "nothing sound"),
    "no number": ("g.onnx.data", {"offset": "x"}, "nothing sound"),
}


@pytest.mark.parametrize("case", BAD_PLACES)
def test_weights_elsewhere_are_refused_before_onnxruntime_sees_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    location, changes, words = BAD_PLACES[case]
    (tmp_path / "secret").write_bytes(bytes(10_000))
    home = tmp_path / "home"
    home.mkdir()
    (home / "folder").mkdir()
    os.mkfifo(home / "pipe")
    (home / "link").symlink_to("../secret")
    (home / "parent").symlink_to("..")
    path = beside(home / "g.onnx", location, **changes)
    monkeypatch.setattr("onnxruntime.InferenceSession", None)
    with pytest.raises(ShapesHDError, match=rf"^g\.onnx: .*{words}") as caught:
        open_model(path)
    assert "\n" not in str(caught.value)


def test_a_model_larger_than_a_message_can_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shapeshd.benchmark.sources.networks.external_data._LARGEST", 100)
    with pytest.raises(UsageError, match="too large"):
        open_model(beside(tmp_path / "g.onnx"))


def test_other_tensors_elsewhere_are_refused(tmp_path: Path) -> None:
    tensor = TensorProto(data_location=TensorProto.EXTERNAL)
    constant = helper.make_node("Constant", [], ["x"], value=tensor)
    model = onnx.ModelProto(graph=helper.make_graph([constant], "g", [], []))
    (tmp_path / "g.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UsageError, match="external_data=False"):
        open_model(tmp_path / "g.onnx")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("FLOAT16", np.arange(6, dtype=np.float16)),
        ("DOUBLE", np.arange(6, dtype=np.float64)),
        ("INT64", np.arange(6)),
        ("BOOL", np.array([True, False, True])),
        ("UINT8", np.array(7, np.uint8)),
    ],
)
def test_values_of_any_type_are_read(tmp_path: Path, kind: str, values: np.ndarray) -> None:
    graph = helper.make_graph([], "g", [], [], [onnx.numpy_helper.from_array(values, "w")])
    path = tmp_path / "g.onnx"
    onnx.save_model(
        helper.make_model(graph), path, save_as_external_data=True, location="d", size_threshold=0
    )
    inside = onnx.load_from_string(with_data_inside(path.read_bytes(), path, "g"))
    (tensor,) = inside.graph.initializer
    assert tensor.data_type == getattr(TensorProto, kind)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), values)


def test_a_batch_of_one_that_is_baked_in_is_told(tmp_path: Path) -> None:
    model = onnx.load(build_onnx(tmp_path / "g.onnx"))
    (form,) = [one for one in model.graph.initializer if one.name == "form"]
    form.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 3, SIZE, SIZE]), "form"))
    onnx.save(model, tmp_path / "g.onnx")
    with open_model(tmp_path / "g.onnx") as source, pytest.raises(ShapesHDError) as caught:
        source.images(0, 4)
    assert "one latent at a time: give batch=1" in str(caught.value)
    with open_model(tmp_path / "g.onnx", batch=1) as source:
        assert source.images(0, 4).shape == (4, 3, SIZE, SIZE)


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
