"""A generator in ONNX, run by onnxruntime. Loads without trust: the file cannot run code.

Weights in other files are read into the model before onnxruntime sees it, from the model's own
folder alone. Libraries of custom operators are never loaded, and the file is read as ONNX only (not
as onnxruntime's own format, which `external_data` does not know).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shapeshd.benchmark.sources.image_format import ImageFormat
from shapeshd.benchmark.sources.labels import Labels, choose_labels, refuse_labels
from shapeshd.benchmark.sources.options import LabelForm, SourceOptions
from shapeshd.benchmark.sources.source_kind import OpenRequest
from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError, explain, named
from shapeshd.support.device import usable_device

from .external_data import has_external_data, with_data_inside
from .generator import (
    GeneratorSource,
    NetworkBatches,
    choose_latent_dim,
)

KIND = "onnx"
_FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
_WHOLE = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_NAMES = ("c", "y", "label", "labels", "class", "classes", "class_label", "class_labels", "onehot")
_LATENT_NAMES = ("z", "latent", "latents", "noise", "latent_vector", "input_latents")

_SILENT = 4  # onnxruntime prints what it then raises; only the latter is wanted


def open_onnx(request: OpenRequest) -> GeneratorSource:
    """Open an ONNX model with an input of latents (n, d) or (n, d, 1, 1) that gives images.

    A second input takes class labels: integers (n,) or (n, 1), or one-hot rows (n, classes) of
    integers or floats; of two inputs of floats the first is the latents. A batch length that the
    model fixes replaces the options' (and is reported).

    Raises:
        UsageError: if it is no ONNX model, keeps weights outside of its folder, or has other
            inputs.
        MissingPackageError: if onnxruntime is not installed.
        ShapesHDError: if onnxruntime cannot load it.
    """
    name, options = request.name, request.options
    place = usable_device(request.device)
    data, digest = _read(request.path, name)
    network = _OnnxNetwork(_load(data, place, name), name)
    labels = None
    if network.label_input is None:
        refuse_labels(options, name, "has one input")
    else:
        labels = network.label_input.choose(options, name)
    batches = NetworkBatches(
        network,
        name=name,
        latent_dim=choose_latent_dim(network.latent_dim, options, name),
        seed=request.seed,
        device=place,
        batch=network.batch or options.batch,
        form=ImageFormat(options, name=name),
        labels=labels,
        lengths=(network.batch, network.batch) if network.batch else None,
    )
    source = GeneratorSource(name, KIND, batches)
    source.digest = digest
    return source


class _OnnxNetwork:
    """An onnxruntime session as a function of latents, and of labels if it takes any.

    Attributes:
        latent_dim: components of a latent; None if the model leaves it open.
        batch: latents at a time; None if the model leaves it open.
        label_input: where labels go; None if it takes none.
    """

    def __init__(self, session: Any, name: str) -> None:
        self._session = session
        entry, labels = _split_inputs(session.get_inputs(), name)
        self.label_input = None if labels is None else _LabelInput(labels, name)
        self._input, self._type, shape = entry.name, _FLOATS[entry.type], list(entry.shape)
        self._extra_axes = len(shape) - 2
        self._output = _only_image(session, name)
        self.batch = _fixed_length(shape[0])
        self.latent_dim = _fixed_length(shape[1])

    def __call__(self, latents: Tensor, labels: Tensor | None = None) -> np.ndarray[Any, Any]:
        # onnxruntime takes arrays of the CPU and moves them itself.
        array = latents.cpu().numpy().astype(self._type, copy=False)
        array = array.reshape(array.shape + (1,) * self._extra_axes)
        given = {self._input: array}
        if self.label_input is not None and labels is not None:
            given[self.label_input.name] = self.label_input.convert(labels)
        images: np.ndarray[Any, Any] = self._session.run([self._output], given)[0]
        return images


class _LabelInput:
    """What a model says of its input for labels.

    Args:
        entry: of onnxruntime: name, type and shape. Integers (n,) or (n, 1) are classes, other
            rows are one-hot.
        source: what the user called the model, for messages.

    Attributes:
        name: of the input.

    Raises:
        UsageError: if no label is of that form.
    """

    def __init__(self, entry: Any, source: str) -> None:
        self.name: str = entry.name
        self._shown = _describe(entry)
        shape = [_fixed_length(axis) for axis in entry.shape]
        whole = entry.type in _WHOLE
        if not (whole or entry.type in _FLOATS) or len(shape) not in (1, 2):
            raise UsageError(self._misfit(source))
        self._type = _WHOLE[entry.type] if whole else _FLOATS[entry.type]
        self._rank = len(shape)
        self._form: LabelForm = "index" if whole and shape[1:] in ([], [1]) else "onehot"
        if self._form == "onehot" and self._rank != 2:
            raise UsageError(self._misfit(source))
        self._classes = shape[1] if self._form == "onehot" else None
        self._clear = whole or entry.name.lower() in _NAMES

    def choose(self, options: SourceOptions, source: str) -> Labels:
        """Return the labels that go in, as the model states or the user says.

        Raises:
            UsageError: as `choose_labels`; or if it is a guess that the input takes labels.
        """
        if not self._clear and options.labels is None and options.classes is None:
            raise UsageError(
                f"{source}: has a second input {self._shown}: if that takes class labels, give "
                f"{named('labels', 'uniform')}; it is not known otherwise"
            )
        return choose_labels(self._classes, source, options, self._form)

    def convert(self, labels: Tensor) -> np.ndarray[Any, Any]:
        """Return `labels`, (n,) or (n, classes), as the model takes them."""
        array = labels.cpu().numpy().astype(self._type, copy=False)
        return array.reshape(-1, 1) if self._rank == 2 and array.ndim == 1 else array

    def _misfit(self, source: str) -> str:
        return (
            f"{source}: its second input {self._shown} takes no class labels: integers (n,) or "
            "one-hot rows (n, classes)"
        )


def _read(path: Path, name: str) -> tuple[bytes, str | None]:
    """Return a model that names no file, and its digest if it has named one; else None."""
    data = path.read_bytes()
    try:
        external = has_external_data(data)
    except ValueError as error:
        raise UsageError(f"{name}: is no ONNX file, or is damaged ({error})") from None
    if not external:
        return data, None
    data = with_data_inside(data, path, name)
    return data, hashlib.sha256(data).hexdigest()


def _load(data: bytes, device: torch.device, name: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackageError.of("onnxruntime", "onnx", f"{name}: an ONNX model") from None

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    provider, provider_options = _provider(onnxruntime, device, name)
    try:
        session = onnxruntime.InferenceSession(
            data,
            sess_options=settings,
            providers=[provider],
            provider_options=[provider_options],
        )
    except Exception as error:  # onnxruntime's own errors share no base but this
        raise ShapesHDError(
            f"{name}: onnxruntime {onnxruntime.__version__} cannot load it ({explain(error)})"
        ) from error
    if provider not in session.get_providers():  # it then falls back to the CPU
        raise ShapesHDError(
            f"{name}: onnxruntime cannot use {device} (its {provider} did not start): use "
            f"{named('device', 'cpu')}"
        )
    return session


def _provider(onnxruntime: Any, device: torch.device, name: str) -> tuple[str, dict[str, Any]]:
    if device.type == "cpu":
        return "CPUExecutionProvider", {}
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return "CUDAExecutionProvider", {"device_id": device.index or 0}
    raise UsageError(
        f"{name}: the onnxruntime that is installed cannot use {device}: use "
        f"{named('device', 'cpu')}, or for a GPU install onnxruntime-gpu in its place"
    )


def _split_inputs(inputs: list[Any], name: str) -> tuple[Any, Any]:
    """Return the input for latents and, None if there is no other, that for labels."""
    if len(inputs) not in (1, 2):
        raise UsageError(
            f"{name}: has {len(inputs)} inputs ({_list(inputs)}), but must have one, the latents, "
            "or two, with class labels"
        )
    # Integers are labels. Where both are floats their names tell, else NVlabs' order, G(z, c).
    latents, *rest = sorted(inputs, key=_is_for_labels)
    shown = _list([latents])
    if latents.type not in _FLOATS:
        raise UsageError(f"{name}: its input {shown} does not take floats: no latents")
    shape = list(latents.shape)
    if len(shape) not in (2, 4) or any(_fixed_length(axis) not in (None, 1) for axis in shape[2:]):
        raise UsageError(
            f"{name}: its input {shown} is no batch of latents: (n, d) or (n, d, 1, 1)"
        )
    return latents, rest[0] if rest else None


def _is_for_labels(entry: Any) -> tuple[bool, int]:
    """Return what sorts an input for latents before one for labels."""
    name = entry.name.lower()
    return entry.type not in _FLOATS, (name in _NAMES) - (name in _LATENT_NAMES)


def _only_image(session: Any, name: str) -> str:
    """Return the name of the only output, or of the only one of rank 4."""
    outputs = session.get_outputs()
    images = [entry for entry in outputs if len(entry.shape or ()) == 4]
    if len(outputs) != 1 and len(images) != 1:
        raise UsageError(
            f"{name}: has {len(outputs)} outputs ({_list(outputs)}), and not just one of them "
            "has four axes as images have"
        )
    return str((images if len(images) == 1 else outputs)[0].name)


def _list(entries: list[Any]) -> str:
    return ", ".join(map(_describe, entries))


def _describe(entry: Any) -> str:
    """Return name, type and shape of an input or output on one line."""
    return f"{entry.name} {entry.type} ({', '.join(str(axis) for axis in entry.shape or ())})"


def _fixed_length(axis: object) -> int | None:
    """Return the length of an axis, or None where the model leaves it open."""
    return axis if isinstance(axis, int) and axis > 0 else None
