"""Reads configurations from TOML, changes them by ``--set``, and writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shapeshd.errors import UsageError
from shapeshd.support.schema import validated
from shapeshd.support.toml_file import read_toml, tomllib

from .config import FACTORS, IMAGES, UNET, RunConfig

FOLDER = Path(__file__).parent / "configs"


def load_config(
    name: str, changes: Sequence[str] = (), seed: int | None = None, method: str | None = None
) -> RunConfig:
    """Read a configuration.

    Args:
        name: that of a shipped one (`shipped_configs`), or a path ending in ``.toml``.
        changes: such as ``aae.lambda_1=2``, in order; the value is written as in TOML, and text
            needs no quotes.
        seed: replaces the file's.
        method: a name in `METHODS`, whose own configuration is laid over the file's.

    Raises:
        UsageError: if there is no such file, it is no TOML, or a key or a value is not possible.
    """
    values = _read(name)
    if method is not None:
        overlay = read_toml(FOLDER / "methods" / f"{method}.toml")
        # What is no table in the user's file stays, and is refused below.
        _merge(values, {k: v for k, v in overlay.items() if isinstance(values.get(k, {}), dict)})
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change}: write KEY=VALUE, such as aae.lambda_1=2")
        _merge(values, _nested(key.strip().split("."), _parse(text.strip())))
    if seed is not None:
        values["seed"] = seed
    try:
        return config_from(values)
    except UsageError as error:
        raise UsageError(f"configuration {name}: {error}") from None


def shipped_configs() -> list[str]:
    """Return the names of the configurations that come with the program."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def check_images(config: RunConfig, source: object) -> None:
    """Raise `UsageError` unless images to train on are given where a configuration takes some.

    Args:
        config: of the run.
        source: where the images are; None if the user names none.
    """
    if config.domain == FACTORS and source is not None:
        raise UsageError(
            f"{source}: a configuration with domain = 'factors' draws its data from the seed: "
            "leave the dataset out"
        )
    if config.domain == IMAGES and source is None:
        raise UsageError("which images to train on? Give DATASET or render:SEED:COUNT")


def config_from(values: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that a table of values describes, such as `RunConfig.to_json` gives.

    Raises:
        UsageError: naming the key that is unknown or whose value is not possible.
    """
    domain = values.get("domain", IMAGES)
    for own, other in ((IMAGES, FACTORS), (FACTORS, IMAGES), (FACTORS, UNET)):
        if domain == own and other in values:
            raise UsageError(f"[{other}] means nothing with domain = {domain!r}")
    return validated(RunConfig, values)


def to_toml(config: RunConfig) -> str:
    """Write a configuration as TOML that `load_config` reads."""
    lines, tables = [], []
    for key, value in config.to_json().items():
        if isinstance(value, dict):
            tables += ["", f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in value.items())]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _read(name: str) -> dict[str, Any]:
    if name.endswith(".toml"):
        return read_toml(Path(name).expanduser())
    if name not in shipped_configs():
        known = ", ".join(shipped_configs())
        raise UsageError(
            f"there is no configuration {name!r}; there are {known}, or a path NAME.toml"
        )
    return read_toml(FOLDER / f"{name}.toml")


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def _parse(text: str) -> Any:
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text  # else it had lines of its own
