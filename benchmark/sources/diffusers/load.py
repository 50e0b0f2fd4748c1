"""Loads a diffusers pipeline from its folder, and from nothing else.

Without trust it is put together here: the classes are looked up in the installed library by the
names that ``model_index.json`` has, and only those that the library itself defines are taken;
schedulers come from their JSON, weights from safetensors. The library's own
``DiffusionPipeline.from_pretrained`` is not called, since it imports any library that the folder
names (diffusers 0.42 does).

What is not read that way needs trust: a pipeline or a part of the folder's own code or of another
library, and weights in ``.bin`` files. Then ``from_pretrained`` loads it, in this process: it
copies the folder's Python files into its cache of modules (``HF_MODULES_CACHE``), imports them
and whatever library the folder names, and reads ``.bin`` files by ``torch.load``.

Neither asks the Hugging Face Hub for anything.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shapeshd.benchmark.sources.options import ENTRY_HINT
from shapeshd.benchmark.sources.trust import require_trust
from shapeshd.errors import MissingPackageError, ShapesHDError, UsageError, explain
from shapeshd.images.names import MAX_PIXELS
from shapeshd.support.checkpoint import load_weights
from shapeshd.support.state_dict import fitting, read_tensors

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"

# What each pipeline that needs nothing but noise is made of; all but the scheduler are networks.
UNCONDITIONAL = {
    "DDPMPipeline": ("unet", "scheduler"),
    "DDIMPipeline": ("unet", "scheduler"),
    "PNDMPipeline": ("unet", "scheduler"),
    "ScoreSdeVePipeline": ("unet", "scheduler"),
    "ConsistencyModelPipeline": ("unet", "scheduler"),
    "LDMPipeline": ("vqvae", "unet", "scheduler"),
}
_NETWORKS = {"unet": ("UNet2DModel",), "vqvae": ("VQModel", "AutoencoderKL")}
_SHARD = re.compile(WEIGHTS + r"(\.fp16)?-\d{5}-of-\d{5}(\.fp16)?\.safetensors")
_MOST_JSON = 2**20  # bytes
_MOST_STEPS = 2**20  # steps that a scheduler may have been trained with


class NeedsTrust(Exception):
    """The folder can be loaded by code of its own alone; says what that is."""


@dataclass(frozen=True)
class _Part:
    """A part of a pipeline, such as "unet", and the name of its class."""

    name: str
    class_name: str
    folder: Path


def load_pipeline(folder: Path, name: str, *, trust: bool) -> tuple[Any, bool]:
    """Return the pipeline in a folder, on the CPU, and whether it needed trust.

    Args:
        folder: which holds ``model_index.json``.
        name: what the user called it, for messages.
        trust: whether code that comes with it, or that it names, may run.

    Raises:
        UsageError: if it is no pipeline that makes images of noise alone, or is not trusted.
        MissingPackageError: if diffusers is not installed.
        ShapesHDError: if it is damaged.
    """
    try:
        import diffusers
    except ImportError:
        raise MissingPackageError.of("diffusers", "diffusers", f"{name}: a pipeline") from None
    index = _read_json(folder / INDEX, name)
    with _quiet(diffusers):
        try:
            return _load_checked(diffusers, folder, index, name), False
        except NeedsTrust as reason:
            require_trust(trust, name, str(reason))
        return _load_trusted(diffusers, folder, name), True


def _load_checked(diffusers: Any, folder: Path, index: dict[str, Any], name: str) -> Any:
    kind = _pipeline_class(diffusers, index, name)
    parts = [_find_part(part, index, folder, name) for part in UNCONDITIONAL[kind]]
    loaded = {part.name: _load_part(diffusers, part, name) for part in parts}
    try:
        return getattr(diffusers, kind)(**loaded)
    except Exception as error:
        raise ShapesHDError(f"{name}: no {kind} can be made of it ({explain(error)})") from error


def _pipeline_class(diffusers: Any, index: dict[str, Any], name: str) -> str:
    kind = index.get("_class_name")
    if isinstance(kind, list):
        raise NeedsTrust(f"is a pipeline of code of its own ({', '.join(map(ascii, kind))})")
    if not isinstance(kind, str):
        raise UsageError(f"{name}: its {INDEX} names no pipeline (_class_name)")
    if kind in UNCONDITIONAL:
        return kind
    if hasattr(diffusers, kind):
        raise UsageError(
            f"{name}: is a {kind}, which makes no images of noise alone; read are "
            f"{', '.join(UNCONDITIONAL)}; for others, {ENTRY_HINT}"
        )
    raise NeedsTrust(f"is a pipeline {kind!a}, which the installed diffusers does not have")


def _find_part(part: str, index: dict[str, Any], folder: Path, name: str) -> _Part:
    described = index.get(part)
    if not (isinstance(described, list) and len(described) == 2):
        raise UsageError(f"{name}: its {INDEX} does not say what its {part} is")
    library, kind = described
    if not (isinstance(library, str) and isinstance(kind, str)):
        raise UsageError(f"{name}: has no {part}")
    if library != "diffusers":
        raise NeedsTrust(f"has a {part} of the module {library!a}, not of diffusers")
    place = folder / part
    if not place.is_dir():
        raise UsageError(f"{name}: lacks the folder {part} that its {INDEX} names")
    return _Part(part, kind, place)


def _load_part(diffusers: Any, part: _Part, name: str) -> Any:
    kind = getattr(diffusers, part.class_name, None)
    scheduler = part.name == "scheduler"
    base = diffusers.SchedulerMixin if scheduler else diffusers.ModelMixin
    home = "diffusers.schedulers." if scheduler else "diffusers.models."
    known = isinstance(kind, type) and issubclass(kind, base) and kind.__module__.startswith(home)
    if kind is None or not known:
        raise NeedsTrust(
            f"has a {part.name} of the class {part.class_name!a}, which the installed diffusers "
            "does not have"
        )
    if scheduler:
        return _load_scheduler(kind, part, name)
    if part.class_name not in _NETWORKS[part.name]:
        raise UsageError(
            f"{name}: its {part.name} is a {part.class_name}, not a "
            f"{' or '.join(_NETWORKS[part.name])}: {ENTRY_HINT}"
        )
    return _load_network(kind, part, name)


def _load_scheduler(kind: Any, part: _Part, name: str) -> Any:
    config = _read_json(part.folder / "scheduler_config.json", name)
    _within(config.get("num_train_timesteps"), _MOST_STEPS, "num_train_timesteps", name)
    try:
        return kind.from_config(config)
    except Exception as error:
        raise ShapesHDError(f"{name}: its scheduler cannot be made ({explain(error)})") from error


def _load_network(kind: Any, part: _Part, name: str) -> Any:
    """Load a network by the library, when its description fits what its weights' file holds."""
    config = _read_json(part.folder / "config.json", name)
    files, variant = _weights(part, name)
    _check_config(config, part, files, kind, name)
    try:
        network, said = kind.from_pretrained(
            part.folder,
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            low_cpu_mem_usage=False,  # else it asks for another library
            output_loading_info=True,
        )
    except Exception as error:
        raise ShapesHDError(f"{name}: its {part.name} cannot be loaded ({explain(error)})") from (
            error
        )
    if said["missing_keys"] and said["unexpected_keys"]:
        # A network that was saved wrapped, such as by torch.compile, has longer names.
        saved = {key: value for file in files for key, value in read_tensors(file, name).items()}
        names = network.state_dict().keys()
        tensors = fitting(saved, lambda left: left.keys() == names, f"{name}: its {part.name}")
        if tensors.keys() == names:
            load_weights(network, tensors, part.folder)
            return network.float().eval()
    for how, keys in (("lacks", said["missing_keys"]), ("has", said["unexpected_keys"])):
        if keys:
            raise ShapesHDError(
                f"{name}: its {part.name} {how} the tensor {min(keys)!a}, "
                f"{'which' if how == 'lacks' else 'but none of that name is what'} a "
                f"{part.class_name} of its config.json needs"
            )
    return network.float().eval()


def _weights(part: _Part, name: str) -> tuple[list[Path], str | None]:
    """Return the safetensors files of a network, and the variant that they are, such as "fp16"."""
    for variant in (None, "fp16"):
        middle = f".{variant}" if variant else ""
        whole = part.folder / f"{WEIGHTS}{middle}.safetensors"
        index = part.folder / f"{WEIGHTS}.safetensors.index{middle}.json"
        if whole.is_file() and index.is_file():  # the library would take the index
            raise UsageError(
                f"{name}: has its {part.name} as one file and as several: remove {index.name} or "
                f"{whole.name}"
            )
        if whole.is_file():
            return [whole], variant
        if index.is_file():
            return _shards(index, part, name), variant
    if list(part.folder.glob("*.bin")):
        raise NeedsTrust(f"has its {part.name} in a .bin file alone, a pickle")
    raise UsageError(f"{name}: has no {part.name}/{WEIGHTS}.safetensors")


def _shards(index: Path, part: _Part, name: str) -> list[Path]:
    """Return the files that an index names: of the library's names, in its folder, no other."""
    table = _read_json(index, name).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ShapesHDError(f"{name}: {part.name}/{index.name} has no weight_map")
    files = []
    for file in sorted({str(value) for value in table.values()}):
        path = part.folder / file
        if not _SHARD.fullmatch(file) or not path.is_file():
            raise UsageError(
                f"{name}: {part.name}/{index.name} names {file!a}, which is no file of weights "
                "beside it"
            )
        files.append(path)
    return files


def _check_config(
    config: dict[str, Any], part: _Part, weights: list[Path], kind: Any, name: str
) -> None:
    """Refuse a network that would take memory, or time to build, that its file does not fill."""
    if config.get("quantization_config") is not None:
        raise UsageError(f"{name}: its {part.name} is quantized, which is not read: {ENTRY_HINT}")
    layers = _largest(config.get("layers_per_block"))
    widths = config.get("block_out_channels")
    blocks = len(widths) if isinstance(widths, list) else 1
    counts = [_count_numbers(file, name) for file in weights]
    tensors, numbers = sum(count[0] for count in counts), sum(count[1] for count in counts)
    _within(layers * blocks, tensors, f"layers ({part.name})", name)
    side = _largest(config.get("sample_size"))
    _within(side * side, MAX_PIXELS, f"pixels ({part.name})", name)
    try:
        with torch.device("meta"):
            described = sum(p.numel() for p in kind.from_config(config).parameters())
    except Exception as error:
        raise ShapesHDError(
            f"{name}: its {part.name} cannot be built ({explain(error)})"
        ) from error
    if described > 2 * numbers:  # a few that are lacking are named when it is loaded
        raise ShapesHDError(
            f"{name}: its {part.name} is described as {described:,} numbers, but its file holds "
            f"{numbers:,}"
        )


def _count_numbers(weights: Path, name: str) -> tuple[int, int]:
    """Return how many tensors and numbers a file of safetensors holds, from its header."""
    from safetensors import safe_open

    try:
        with safe_open(weights, framework="pt") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    except Exception as error:  # its own error is no subclass of OSError or ValueError
        raise ShapesHDError(
            f"{name}: {weights.parent.name}/{weights.name} is no safetensors file "
            f"({explain(error)})"
        ) from None
    return len(shapes), sum(torch.Size(shape).numel() for shape in shapes)


def _largest(value: object) -> int:
    values = value if isinstance(value, (list, tuple)) else [value]
    return max((v for v in values if isinstance(v, int)), default=1)


def _within(value: object, most: int, what: str, name: str) -> None:
    if isinstance(value, (int, float)) and not 0 <= value <= most:
        raise UsageError(f"{name}: says it has {value:,} {what}; it can have {most:,} at most")


def _load_trusted(diffusers: Any, folder: Path, name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return diffusers.DiffusionPipeline.from_pretrained(
                str(folder.resolve()),
                local_files_only=True,
                trust_remote_code=True,
                low_cpu_mem_usage=False,
            )
    except (Exception, SystemExit) as error:  # of code that is none of ours
        raise ShapesHDError(f"{name}: cannot be loaded ({explain(error)})") from error


def _read_json(path: Path, name: str) -> dict[str, Any]:
    where = f"{name}: {path.parent.name}/{path.name}" if path.name != INDEX else f"{name}: {INDEX}"
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_JSON + 1)
        if len(data) > _MOST_JSON:
            raise UsageError(f"{where} is larger than {_MOST_JSON // 2**20} MiB")
        values = json.loads(data)
    except OSError as error:
        raise UsageError(f"{where} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        raise ShapesHDError(f"{where} is no JSON ({explain(error)})") from None
    if not isinstance(values, dict):
        raise ShapesHDError(f"{where} holds no object")
    return values


@contextmanager
def _quiet(diffusers: Any) -> Iterator[None]:
    """Keep the library's bars, and its hints on speed and on its past, off the screen."""
    logging = diffusers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
