"""The steps of the run, in their order, each with what it costs.

No cost has been measured on a GPU yet: those of the setting `full` are guesses for an H200, on the
safe side. A step that takes longer is ended at three times its cost and half a minute; one that can
goes on from there in the next run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests import ROOT

from .settings import ABLATIONS, TABLE, Setting
from .step import JSON, LEFT, Results, Step

TESTS, SHARE, SCORE = "tests", "share", "score-64"
PAPER_SAMPLES, TARGET_SECONDS = 3_317_760, 900
CODES = ("tracer", "reading", "training", "scores")
LEAST_TABLE = 60.0  # seconds for which a training of the table is worth beginning
_ASSUMED_RATE = 4_000.0  # samples a second of a score, where none was measured

_COSTS = {
    "full": {
        TESTS: 90, "tracer": 30, "reading": 60, "training": 90, "scores": 60, "evaluate": 60,
        "train": 300, "steps": 60, "score": 75, "rates": 75, SHARE: 15, "table": 150,
        "ablation": 150,
    },
    "tiny": {
        TESTS: 60, "tracer": 20, "reading": 60, "training": 120, "scores": 120, "evaluate": 60,
        "train": 120, "steps": 30, "score": 240, "rates": 90, SHARE: 15, "table": 90,
        "ablation": 90,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where and how the steps are run.

    Attributes:
        setting: how much is computed.
        device: where, as PyTorch names it.
        machine: what it is; a part of all settings, so that results of others are not kept.
        out: folder of the run, as it is named from the checkout.
        peer: a checkout of NVIDIA's code; None if there is none.
        povray: whether POV-Ray is there.
        without_tests: packages that pytest's files need and that are missing.
    """

    setting: Setting
    device: str
    machine: Mapping[str, Any]
    out: Path
    peer: Path | None
    povray: bool
    without_tests: tuple[str, ...]

    def step(self, kind: str, name: str, *words: object, **known: Any) -> Step:
        """Return a step that runs a module of this folder, or of `tests.experiments`."""
        module, *rest = map(str, words)
        command = ("-m", f"tests.experiments.{module}", *rest, "--json", JSON)
        return Step(
            name,
            (sys.executable, *command),
            float(_COSTS[self.setting.name][kind]),
            settings={
                "setting": self.setting.name,
                "device": self.device,
                "machine": self.machine["name"],
                "torch": self.machine["torch"],
                "command": ["python", *map(self._shown, command)],
                **known.pop("settings", {}),
            },
            **known,
        )

    def _shown(self, word: str) -> str:
        """Return a word of a command without the machine's folders."""
        for path, name in ((self.out, "OUT"), (self.peer, "PEER"), (ROOT, ".")):
            if path and (word == str(path) or word.startswith(f"{path}/")):
                return name + word[len(str(path)) :]
        return word


def all_steps(place: Place) -> list[Step]:
    """Return all steps, in the order in which they are worth their time."""
    return [*_checks(place), *_recognizers(place), *_speed(place), *_table(place)]


def _checks(place: Place) -> list[Step]:
    missing = ", ".join(place.without_tests)
    tests = place.step(
        TESTS, TESTS, "gpu.steps.device_tests",
        missing=f"the tests need {missing}, which is not installed" if missing else "",
    )  # fmt: skip
    options = ("--device", place.device, "--setting", place.setting.name)
    return [tests, *(place.step(kind, kind, "gpu.steps.checks", kind, *options) for kind in CODES)]


def _recognizers(place: Place) -> list[Step]:
    setting, floor = place.setting, dict(place.setting.floor)
    missing = "" if place.povray else "POV-Ray is not there: compared with traced images alone"
    shared = ("gpu.steps.recognizers", "evaluate")
    found = []
    for name, count in setting.evaluated:
        found.append(
            place.step(
                "evaluate", f"evaluate-{name}", *shared, name, "--device", place.device,
                "--count", count, "--floor", floor.get(name, 0), optional=name == "lite-256",
            )
        )  # fmt: skip
    for name, count in setting.evaluated[:2]:
        found.append(
            place.step(
                "evaluate", f"evaluate-{name}-povray", *shared, name, "--device", place.device,
                "--count", count, "--engine", "povray", missing=missing, optional=True,
            )
        )  # fmt: skip
    train = place.step(
        "train", "train-lite", "gpu.steps.recognizers", "train", "lite", "--device", place.device,
        "--images", setting.recognizer_images, "--count", dict(setting.evaluated)["lite"],
        "--runs", place.out / "runs", "--weights", place.out / "weights",
        optional=True, resumes=float(_COSTS[setting.name]["train"]),
    )  # fmt: skip
    return [*found, train]


def _speed(place: Place) -> list[Step]:
    setting = place.setting
    options: tuple[object, ...] = ("--sizes", setting.steps_size, *setting.steps_options)
    timed = ["speed.models", "--device", place.device, *options]
    ours = place.step("steps", "steps", *timed, headline=_steps)
    missing = "" if place.peer else "no checkout of NVIDIA's code (--peer): ours is timed alone"
    beside = place.step(
        "steps", "steps-peer", *timed, "--peer", place.peer, headline=_steps, missing=missing
    )
    scores = [
        place.step(
            "score", f"score-{size}", "speed.scoring", "--size", size, "--samples", samples,
            "--rounds", 2 if setting.name == "full" else 1, "--batch", setting.score_batch,
            "--device", place.device, "--no-images", "--memory", headline=_throughput,
        )
        for size, samples in setting.throughput
    ]  # fmt: skip
    rates = [
        place.step(
            "rates", f"rates-{Path(config).stem}", "gpu.steps.rates", "--config", config,
            "--device", place.device, "--steps", setting.rate_steps,
        )
        for config in setting.rates
    ]  # fmt: skip
    return [*([beside] if place.peer else [ours, beside]), *scores, *rates]


def _table(place: Place) -> list[Step]:
    setting = place.setting
    rates = f"rates-{Path(setting.config).stem}"
    shared: tuple[object, ...] = (
        "--config", setting.config, "--images", setting.images, "--samples", setting.samples,
    )  # fmt: skip

    def with_rates(step: Step, results: Results) -> Step | str:
        if rates not in results:
            return f"needs {rates}, which gave no result"
        rate = _ASSUMED_RATE
        if SCORE in results:
            rate = results[SCORE][0]["score_images_per_s"]
        return replace(step, command=(*step.command, "--score-rate", str(rate)))

    costs, measured = _COSTS[setting.name], place.out / "results" / f"{rates}.json"
    share = place.step(
        SHARE, SHARE, "gpu.steps.share", "--rates", measured, *shared, prepare=with_rates,
        begins_with=float(costs[SHARE] + len(TABLE) * costs["table"]),
    )  # fmt: skip
    share = replace(share, command=(*share.command, "--seconds", LEFT))
    steps = [share]
    for name in (*TABLE, *ABLATIONS):
        steps.append(
            place.step(
                "table" if name in TABLE else "ablation", f"table-{name}", "gpu.steps.table", name,
                "--share", place.out / "results" / f"{SHARE}.json", *shared,
                "--size", setting.size, "--device", place.device, "--batch", setting.score_batch,
                *(("--untrained",) if setting.untrained else ()),
                *(("--fidelity", setting.fidelity) if setting.fidelity else ()),
                "--runs", place.out / "runs", "--weights", place.out / "weights",
                optional=name not in TABLE, resumes=LEAST_TABLE, prepare=_with_share,
            )
        )  # fmt: skip
    return steps


def _with_share(step: Step, results: Results) -> Step | str:
    """Return a training of the table with its cost and what its share of steps decides."""
    if SHARE not in results:
        return f"needs {SHARE}, which gave no result"
    name = step.name.removeprefix("table-")
    plan = results[SHARE]["methods"][name]
    if plan["after_ours"] and "table-ours" not in results:
        return "begins with phases of table-ours, which is not done"
    settings = {**step.settings, "changes": plan["changes"]}
    return replace(step, seconds=plan["seconds"] + 15, settings=settings)


def _steps(result: Any) -> str:
    """Return the line of a timing of training steps."""
    found = result["sizes"][0]
    rates = [f"{name} {rate:.1f} img/s" for name, rate in found["images_per_s"].items()]
    said = f"{found['size']} px, batch {found['batch']}: " + ", ".join(rates)
    if "ratio" in found:
        ratio = found["ratio"]["iteration"]
        low, high = ratio["range"]
        said += f"; ours {ratio['median']:.2f} [{low:.2f}, {high:.2f}] times as fast"
    return said


def _throughput(result: Any) -> str:
    """Return the line of a timing of scores."""
    found = result[0]
    rate = found["score_images_per_s"]
    minutes, most = PAPER_SAMPLES / rate / 60, TARGET_SECONDS / 60
    return (
        f"{rate:,.0f} img/s at {found['size']} ({found['precision']}), {found['ratio']:.3f} of a "
        f"bare loop: {PAPER_SAMPLES:,} samples take {minutes:.1f} min (target: {most:.0f} at 256)"
    )
