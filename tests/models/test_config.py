"""Configurations: every key is checked, a change reaches its key alone, and TOML loses nothing."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapeshd.errors import UsageError
from shapeshd.models import config_file as module
from shapeshd.models.config import RunConfig
from shapeshd.models.config_file import config_from, load_config, shipped_configs, to_toml
from shapeshd.models.methods import METHODS

MANY, WIDE, DEEP = 2**40, 2**14, 64
SCHEDULE: dict[str, tuple[float, float]] = {
    "steps": (1, MANY),
    "batch": (1, 2**20),
    "learning_rate": (1e-9, 1.0),
    "warm_up": (0, MANY),
    "final_rate": (0.0, 1.0),
    "half_life": (0.0, float(MANY)),
}
# The least and the greatest value of every key that is a number; the type is theirs, too.
LIMITS: dict[str, dict[str, tuple[float, float]]] = {
    "": {"seed": (0, 2**63 - 1)},
    "codes": {
        **dict.fromkeys(("latent_dim", "noise_dim", "head_width", "width"), (1, WIDE)),
        **dict.fromkeys(("head_layers", "layers"), (1, DEEP)),
    },
    "images": {
        "size": (8, 1024),
        "channel_base": (64, 2**24),  # no less than `size`, which is 64
        **dict.fromkeys(("channel_max", "feature_dim", "style_dim", "group"), (1, WIDE)),
        "mapping_layers": (1, DEEP),
        "mapping_rate": (1e-6, 1.0),
    },
    "factors": {"images": (1, 2**31), "width": (1, WIDE), "layers": (1, DEEP)},
    "flow": {**SCHEDULE, "solver_steps": (1, 2**20)},
    "unet": {
        "layers": (1, DEEP),
        "attention": (0, 4096),
        **dict.fromkeys(("groups", "head"), (1, WIDE)),
    },
    "vae": {
        **SCHEDULE,
        "sigma": (1e-6, 1e6),
        "divergence": (0.0, 1e6),
        "head_rate": (0.0, 100.0),
    },
    "aae": {
        **SCHEDULE,
        "codes": (2, 2**20),
        "others": (1, 15),
        **dict.fromkeys(("lambda_1", "lambda_2", "penalty", "divergence"), (0.0, 1e6)),
        "control": (0.0, 100.0),
        "target": (-1.0, 1.0),
        "lambda_min": (0.0, 50.0),  # no more than `lambda_max`, which is 50
        "lambda_max": (0.1, 1e6),  # no less than `lambda_min`, which is 0.1
        "penalty_every": (1, 2**20),
        **dict.fromkeys(("deviation", "final_deviation"), (0.0, 1.0)),
        **dict.fromkeys(("encoder_rate", "generator_rate", "second_rate"), (0.0, 100.0)),
    },
    "gan": {
        **SCHEDULE,
        "head_start": (0, 9_999),  # below `steps`, which is 10,000
        "generator_rate": (0.0, 100.0),
        **dict.fromkeys(("penalty", "path"), (0.0, 1e6)),
        **dict.fromkeys(("penalty_every", "path_every"), (1, 2**20)),
        "path_decay": (0.0, 1.0),
        "target": (-1.0, 1.0),
        "augment_kimg": (1e-6, 1e9),
    },
    "checks": {
        "every": (1, MANY),
        **dict.fromkeys(("samples", "final_samples"), (0, 2**31)),
        **dict.fromkeys(("codes", "held_out"), (2, 2**31)),
    },
}
CHOICES: dict[str, dict[str, list[Any]]] = {
    "": {"domain": ["images", "factors"]},
    "images": {"precision": ["bf16", "fp32"], "compile": [False, True]},
    "aae": {"discriminator": ["difference", "plain"], "second": ["affine", "none"]},
    "gan": {
        "paired": [False, True],
        "from_autoencoder": [False, True],
        "augment": ["none", "safe", "paper", "all"],
    },
    "flow": {"solver": ["euler", "heun", "midpoint"]},
    "unet": {"channels": [(1,), (64, 128, 256), (16384,) * 8]},
}
NUMBERS = [(table, key) for table, keys in LIMITS.items() for key in keys]
KEYS = NUMBERS + [(table, key) for table, keys in CHOICES.items() for key in keys]


def name_of(table: str, key: str) -> str:
    return f"{table}.{key}" if table else key


def values_of(table: str, key: str, value: Any) -> dict[str, Any]:
    """What a file says that has this key and no other."""
    domain = {"domain": "factors"} if table == "factors" else {}
    return {**domain, table: {key: value}} if table else {key: value}


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        config_from(values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def flat(config: RunConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table, value in asdict(config).items():
        if isinstance(value, dict):
            found |= {f"{table}.{key}": each for key, each in value.items()}
        else:
            found[table] = value
    return found


def test_this_file_knows_every_key() -> None:
    assert sorted(name_of(*key) for key in KEYS) == sorted(flat(RunConfig()))


@pytest.mark.parametrize(("table", "key"), NUMBERS)
def test_a_number_has_its_limits(table: str, key: str) -> None:
    low, high = LIMITS[table][key]
    name = name_of(table, key)
    for value in (low, high):
        assert flat(config_from(values_of(table, key, value)))[name] == value
    step = 1 if isinstance(low, int) else 1e-6 * max(abs(low), 1e-3)
    for value in (low - step, high + (1 if isinstance(high, int) else 1e-3 * high)):
        message = refused(values_of(table, key, value))
        assert name in message or name == "aae.lambda_min"
        assert any(text in message for text in (f"{value:g}", f"{value:,}", str(value)))


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_a_value_of_another_type_is_refused(table: str, key: str) -> None:
    name = name_of(table, key)
    default = flat(RunConfig())[name]
    others: list[Any] = ["3", 3, 2.5, True, [1], {"a": 1}]
    for value in others:
        fits = type(value) is type(default) or (type(value), type(default)) in (
            (int, float),
            (list, tuple),
        )
        if not fits:
            message = refused(values_of(table, key, value))
            assert message.startswith(f"{name} must be ")
            assert repr(value) in message
    if isinstance(default, float):
        for value in (math.nan, math.inf, -math.inf, 10**400):
            assert refused(values_of(table, key, value)).startswith(f"{name} must be ")
        whole = flat(config_from(values_of(table, key, 1)))[name]
        assert (whole, type(whole)) == (1.0, float)


@pytest.mark.parametrize(
    ("table", "key"), [(table, key) for table, keys in CHOICES.items() for key in keys]
)
def test_a_choice_is_one_of_a_few(table: str, key: str) -> None:
    name = name_of(table, key)
    for value in CHOICES[table][key]:
        assert flat(config_from(values_of(table, key, value)))[name] == value
    if isinstance(CHOICES[table][key][0], str):
        message = refused(values_of(table, key, "nonsense"))
        assert message.startswith(f"{name} must be ")
        assert all(str(choice) in message for choice in CHOICES[table][key])


@pytest.mark.parametrize("table", LIMITS)
def test_a_key_that_does_not_exist_is_refused(table: str) -> None:
    message = refused(values_of(table, "latent_din", 3))
    assert message.startswith(f"{name_of(table, 'latent_din')}: there is no such key; there are ")
    known = RunConfig() if not table else getattr(RunConfig(), table)
    assert all(item.name in message for item in fields(known))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"checks": {"samples": 5760}}, "checks.samples must be 0 or"),
        ({"checks": {"final_samples": 1}}, "checks.final_samples must be 0 or"),
        ({"images": {"size": 48}}, "images.size must be a power"),
        (
            {"images": {"size": 256, "channel_base": 255}},
            "images.channel_base must be at least",
        ),
        (
            {"aae": {"lambda_min": 3, "lambda_max": 2}},
            "aae.lambda_max must be at least",
        ),
        (
            {"aae": {"control": 0.01, "lambda_1": 80}},
            "aae.lambda_max must be at least lambda_1, 80, not 50",
        ),
        (
            {"aae": {"control": 0.01, "lambda_2": 0.05}},
            "aae.lambda_min must be at most lambda_2, 0.05, not 0.1",
        ),
        ({"gan": {"steps": 40, "head_start": 40}}, "gan.head_start must be below gan.steps, 40"),
        ({"vae": 3}, "vae must be a table"),
        ({"factors": {"width": 3}}, "[factors] means nothing"),
        ({"domain": "factors", "images": {}}, "[images] means nothing"),
        ({"domain": "factors", "unet": {}}, "[unet] means nothing"),
        ({"unet": {"channels": []}}, "unet.channels"),
        ({"unet": {"channels": [64, 0]}}, "unet.channels.1 must be at least 1"),
        ({"domain": "nonsense", "images": {}}, "domain must be"),
        ({"domain": ["images"], "images": {}}, "domain must be"),
        ({"a\nb": 1}, r"'a\nb': there is no such key"),
    ],
)
def test_what_cannot_be_together(values: dict[str, Any], words: str) -> None:
    assert words in refused(values)


# Files and changes


@pytest.mark.parametrize("name", shipped_configs())
@pytest.mark.parametrize("method", [None, *METHODS])
def test_shipped_configurations_and_methods_are_valid(name: str, method: str | None) -> None:
    config, plain = load_config(name, method=method), load_config(name)
    assert config.domain == ("factors" if name == "factors" else "images")
    changed = {key for key, value in flat(config).items() if flat(plain)[key] != value}
    allowed: dict[str | None, set[str]] = {
        "aae": {"aae.discriminator", "aae.second"},
        "contrast": {"aae.others"},
        "stylegan2": {"gan.paired", "gan.from_autoencoder"},
        "no-difference": {"aae.discriminator"},
        "no-c2": {"aae.second"},
        "small-batch": {"aae.codes"},
        "unpaired": {"gan.paired"},
        "from-scratch": {"gan.from_autoencoder"},
    }
    # A generator that does not start as G learns at D's rate, and with it from the first step.
    alone = {"gan.head_start", "gan.generator_rate"}
    anew = alone if method in ("stylegan2", "from-scratch") else set()
    assert changed == allowed.get(method, set()) | anew


def test_the_names_of_methods_and_files_agree() -> None:
    assert shipped_configs() == ["factors", "hd", "lite", "mini", "smoke"]
    assert {path.stem for path in (module.FOLDER / "methods").glob("*.toml")} == set(METHODS)
    from shapeshd.cli.train_models import baseline

    (choice,) = [item.type for item in baseline.params if item.name == "method"]
    assert list(choice.choices) == list(METHODS)  # type: ignore[attr-defined]


def test_changes_are_taken_in_order_after_file_and_method() -> None:
    changes = ["aae.lambda_1=2", "aae.lambda_1 = 3", "gan.augment=none", "gan.paired=false",
               "vae={steps = 7, batch = 8}", 'aae.discriminator="difference"']  # fmt: skip
    config = load_config("smoke", changes, seed=9, method="aae")
    plain = flat(load_config("smoke"))
    assert {key: value for key, value in flat(config).items() if plain[key] != value} == {
        "seed": 9, "aae.lambda_1": 3.0, "gan.augment": "none", "gan.paired": False,
        "vae.steps": 7, "vae.batch": 8, "aae.second": "none",
    }  # fmt: skip
    assert load_config("smoke", ["seed=4"], seed=0).seed == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("vae.batch", "--set vae.batch: write KEY=VALUE"),
        ("vae.batch=", "vae.batch must be a whole number"),
        ("vae.batch=ten", "vae.batch must be a whole number"),
        ("vae.batch=5\nother=3", r"not '5\nother=3'"),
        ("vae.sigma=2000-01-01", "vae.sigma must be a number"),
        ("vae.sigma=1_000_000_0", "vae.sigma must be at most"),
        ("vae.sigma=" + 5000 * "9", "vae.sigma must be a number"),
        ("vae.sigma=" + 100_000 * "[", "vae.sigma must be a number"),
        ("vae=3", "vae must be a table"),
        ("vae.batch.size=3", "vae.batch must be a whole number"),
        ("batch=3", "batch: there is no"),
        ("=3", "there is no such key"),
        (".=3", "there is no such key"),
        ("factors.width=3", "[factors] means nothing"),
        ("gan.paired=True", "gan.paired must be true"),
    ],
)
def test_changes_that_make_no_sense(change: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config("smoke", [change])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    cases = {"broken": b"vae = [", "latin": b"seed = 1 # \xff", "long": b"seed = " + 5000 * b"9",
             "deep": b"seed = " + 100_000 * b"["}  # fmt: skip
    for name, content in cases.items():
        (tmp_path / f"{name}.toml").write_bytes(content)
        with pytest.raises(UsageError, match=rf"{name}\.toml: .*TOML \(.+\)$"):
            load_config(str(tmp_path / f"{name}.toml"))
    with pytest.raises(UsageError, match=r"none\.toml: no such file"):
        load_config(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"read as TOML"):
        (tmp_path / "folder.toml").mkdir()
        load_config(str(tmp_path / "folder.toml"))
    with pytest.raises(UsageError, match=r"'hdd'; .*factors, hd"):
        load_config("hdd")
    (tmp_path / "bad.toml").write_text("[vae]\nstep = 3\n")
    with pytest.raises(UsageError, match=r"bad\.toml: vae\.step: "):
        load_config(str(tmp_path / "bad.toml"))


# Round trips


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    if isinstance(low, int):
        return st.integers(low, int(high))
    return st.floats(low, high, allow_nan=False)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    domain = draw(st.sampled_from(["images", "factors"]))
    values: dict[str, Any] = {"domain": domain, "seed": draw(numbers(0, 2**63 - 1))}
    for table in LIMITS:
        if table in {"images": ("", "factors"), "factors": ("", "images", "unet")}[domain]:
            continue
        chosen = {key: numbers(*limits) for key, limits in LIMITS[table].items()}
        chosen |= {key: st.sampled_from(few) for key, few in CHOICES.get(table, {}).items()}
        values[table] = draw(st.fixed_dictionaries({}, optional=chosen))
    if "size" in values.get("images", {}):
        values["images"]["size"] = 8
    for key in values["checks"].keys() & {"samples", "final_samples"}:
        values["checks"][key] = max(values["checks"][key], 5761)
    gan = values["gan"]
    if "head_start" in gan:
        gan["head_start"] = min(gan["head_start"], gan.get("steps", 10_000) - 1)
    if {"lambda_min", "lambda_max"} <= values["aae"].keys():
        both = sorted(values["aae"].pop(key) for key in ("lambda_min", "lambda_max"))
        values["aae"] |= dict(zip(("lambda_min", "lambda_max"), both, strict=True))
    least, most = values["aae"].get("lambda_min", 0.1), values["aae"].get("lambda_max", 50.0)
    for key, usual in (("lambda_1", 10.0), ("lambda_2", 5.0)):  # within the limits
        values["aae"][key] = min(max(values["aae"].get(key, usual), least), most)
    return values


@settings(max_examples=30)
@given(configurations())
def test_toml_and_json_lose_nothing(values: dict[str, Any]) -> None:
    config = config_from(values)
    for table, value in values.items():
        for key, each in value.items() if isinstance(value, dict) else [("", value)]:
            assert flat(config)[f"{table}.{key}".rstrip(".")] == each
    assert config_from(module.tomllib.loads(to_toml(config))) == config
    assert config_from(json.loads(json.dumps(config.to_json()))) == config


def test_a_written_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for name in shipped_configs():
        config = load_config(name, seed=3, method="contrast")
        path.write_text(to_toml(config))
        assert load_config(str(path)) == config
        other = "images" if name == "factors" else "factors"
        assert f"[{other}]" not in path.read_text()


def test_a_methods_settings_hide_no_wrong_type(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("gan = 3\n")
    with pytest.raises(UsageError, match=r"gan .*table"):
        load_config(str(path), method="ours")
