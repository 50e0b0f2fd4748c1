"""The card of an export: what it holds, how it was made, and how to load it.

``README.md`` has the form of the Hugging Face Hub's dataset cards, from which
``datasets.load_dataset`` takes the splits and the types of the columns; ``export.json`` says the
same to programs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import shapeshd
from shapeshd.dataset.manifest import manifest_of_available_shards, provenance_of
from shapeshd.dataset.shapes_hd import ShapesHD
from shapeshd.distribution import Distribution
from shapeshd.engines.engine import engine_named
from shapeshd.factors import FACTORS, NAMES, SHAPE, SHAPES, Factor
from shapeshd.scene.version import scene_version

from .samples import Task

CARD_NAME, RECORD_NAME = "README.md", "export.json"
_VERSION = 1
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_KEPT = (
    "sampling", "seed", "distribution", "size", "antialias", "antialias_depth", "engine",
    "renderer", "scene_sha256",
)  # fmt: skip

_FILES: dict[str, tuple[str, ...]] = {
    "folder": ("{folder}metadata.csv", "{folder}*/*.png"),
    "parquet": ("data/{split}-*.parquet",),
    "webdataset": ("{split}-*.tar",),
}
"""Of the formats that Hugging Face's datasets reads: the files of a split."""


def parquet_features() -> dict[str, Any]:
    """Return the types of the columns of a Parquet file, as Hugging Face's datasets writes them."""
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {name: {"dtype": "float64", "_type": "Value"} for name in NAMES}
    features[NAMES[SHAPE]] = {"names": list(SHAPES), "_type": "ClassLabel"}
    return features


def write_card(folder: Path, format: str, tasks: Sequence[Task]) -> None:
    """Write ``README.md`` and ``export.json`` into the folder of an export.

    Args:
        folder: what was written.
        format: a key of `FORMATS`.
        tasks: one for each split, or one whose split is "".
    """
    dataset = tasks[0].dataset
    record: dict[str, Any] = {
        "format_version": _VERSION,
        "shapeshd": shapeshd.__version__,
        "format": format,
        "made": made_by(dataset),
        **_images_of(Task(dataset, range(len(dataset)))),
        "splits": {task.split: _images_of(task) for task in tasks if task.split},
    }
    text = json.dumps(record, indent=2) + "\n"
    (folder / RECORD_NAME).write_text(text, encoding="utf-8")
    lines = [*_head(format, tasks), *_body(format, tasks, record["made"])]
    (folder / CARD_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _images_of(task: Task) -> dict[str, Any]:
    return {
        "images": len(task),
        "indices": [[span.start, span.stop] for span in task.spans()],  # half-open
    }


def made_by(dataset: ShapesHD) -> dict[str, Any]:
    """Return how the images were made, as JSON values; {} if that is not known.

    Those are ``sampling``, ``seed``, ``size`` (pixels), ``antialias``, ``antialias_depth``,
    ``engine``, ``renderer``, ``scene_sha256``, ``scene_version`` and, where there is one,
    ``distribution``.
    """
    if (images := dataset.rendered_images) is not None:
        engine, options = engine_named("torch"), images.options
        found: dict[str, Any] = {
            "sampling": "uniform",
            "seed": images.spec.seed,
            "size": options.size,
            "antialias": options.antialias,
            "antialias_depth": options.antialias_depth,
            "engine": engine.name,
            "renderer": engine.renderer(),
            "scene_sha256": engine.scene_sha256(),
        }
    else:
        path = Path(dataset.name)
        provenance = (
            manifest_of_available_shards(path).provenance if path.is_dir() else provenance_of(path)
        )
        if provenance is None:
            return {}
        values = provenance.to_json()
        found = {name: values[name] for name in _KEPT if name in values}
    return found | {"scene_version": scene_version(found["scene_sha256"])}


def _head(format: str, tasks: Sequence[Task]) -> Iterator[str]:
    """Yield the lines of the card's YAML."""
    yield from ("---", "pretty_name: 3DShapesHD", "task_categories:")
    yield "- unconditional-image-generation"
    yield from ("tags:", "- synthetic", "- disentanglement", "- 3dshapes", "size_categories:")
    count = sum(map(len, tasks))
    yield f"- {_SIZES[min(max(len(str(count)) - 3, 0), len(_SIZES) - 1)]}"
    if format in _FILES:
        yield from ("configs:", "- config_name: default", "  data_files:")
        for task in tasks:
            yield f"  - split: {task.split or 'train'}"
            yield "    path:"
            for pattern in _FILES[format]:
                yield f'    - "{_pattern(pattern, format, task.split)}"'
    if format == "parquet":  # of a folder of images, datasets takes the types from their table
        yield from _yaml_features()
    yield "---"


def _pattern(pattern: str, format: str, split: str) -> str:
    default = "shapeshd" if format == "webdataset" else "train"
    return pattern.format(split=split or default, folder=f"{split}/" if split else "")


def _yaml_features() -> Iterator[str]:
    yield from ("dataset_info:", "  features:", "  - name: image", "    dtype: image")
    for name in NAMES:
        yield f"  - name: {name}"
        if name == NAMES[SHAPE]:
            yield from ("    dtype:", "      class_label:", "        names:")
            yield from (f"          '{index}': {shape}" for index, shape in enumerate(SHAPES))
        else:
            yield "    dtype: float64"


def _body(format: str, tasks: Sequence[Task], made: dict[str, Any]) -> Iterator[str]:
    _, height, width = tasks[0].dataset.image_shape
    yield from ("", "# 3DShapesHD", "")
    yield (
        f"{sum(map(len, tasks)):,} images of {width}x{height} pixels, sRGB, of an object in a "
        "room, and the six factors that each of them was made of. Exported by shapeshd "
        f"{shapeshd.__version__}."
    )
    yield from ("", "## Factors", "", "| factor | unit | values |", "|---|---|---|")
    yield from (f"| {factor.name} | {factor.unit} | {_values(factor)} |" for factor in FACTORS)
    yield from ("", "Names, order and the shape's numbers are those of 3dshapes.")
    yield from ("", "## How it was made", "", *_made(made))
    if tasks[0].split:
        yield from ("", "## Splits", "", "| split | images | indices |", "|---|---|---|")
        for task in tasks:
            spans = ", ".join(f"{span.start} to {span.stop - 1}" for span in task.spans())
            yield f"| {task.split} | {len(task):,} | {spans} |"
        yield from ("", "An image's index names it: with the seed it decides every pixel.")
    yield from ("", "## Load", "", *_loading(format, tasks[0].split))


def _loading(format: str, split: str) -> tuple[str, ...]:
    """Return the lines that show how to load an export, of its first split if it has some."""
    if format == "stylegan-zip":
        return (f"Give NVlabs' trainers the path of a file: `--data={split}.zip`.",)
    code = {
        "folder": ("from datasets import load_dataset", 'load_dataset("PATH")'),
        "parquet": ("from datasets import load_dataset", 'load_dataset("PATH")'),
        "webdataset": (
            "from shapeshd.dataset import open_webdataset",
            f'open_webdataset("PATH", split="{split}")' if split else 'open_webdataset("PATH")',
        ),
        "h5": ("from shapeshd import ShapesHD", f'ShapesHD("PATH/{split}.h5")'),
    }[format]
    return ("```python", code[0], "", f"data = {code[1]}  # PATH: this folder", "```")


def _values(factor: Factor) -> str:
    if factor.topology == "discrete":
        return ", ".join(f"{index} {name}" for index, name in enumerate(SHAPES))
    end = ")" if factor.topology == "circle" else "]"
    return f"[{factor.low:g}, {factor.high:g}{end}"


def _made(made: dict[str, Any]) -> Iterator[str]:
    if not made:
        yield "That is not recorded in the file that was exported."
        return
    if made["sampling"] == "uniform":
        yield f"- Factors: drawn independently and uniformly, seed {made['seed']}."
    elif made["sampling"] == "distribution":
        known = Distribution.from_text(made["distribution"])
        yield f"- Factors: drawn independently from {known}, seed {made['seed']}."
    else:
        yield f"- Factors: sampling `{made['sampling']}`."
    antialias = made["antialias"]
    yield (
        f"- Rendered by {made['renderer']} (engine `{made['engine']}`), "
        + (
            "without antialiasing"
            if antialias is None
            else f"antialiasing {antialias:g} of depth {made['antialias_depth']}"
        )
        + f"; version of the scene {made['scene_version'] or 'not known'}, digest "
        f"{made['scene_sha256']}."
    )
