"""Values of the right type that no result can hold are refused by the name of their field."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shapeshd.benchmark.result.read import parse_result, read_result
from shapeshd.errors import ShapesHDError
from tests.support.simulated_results import fidelity, simulated

Content = dict[str, Any]
ENTRY = Path(__file__).parents[3] / "benchmark" / "results" / "foreign" / "dcgan.json"


def put(path: str, value: object) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        *folders, last = path.split(".")
        place: Any = content
        for name in folders:
            place = place[int(name) if isinstance(place, list) else name]
        place[last] = value

    return change


def reverse(path: str) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        place: Any = content
        for name in path.split("."):
            place = place[int(name) if isinstance(place, list) else name]
        place["low"], place["high"] = place["high"] + 1, place["low"]

    return change


IN_ALL = {
    "negative D": (put("fit.divergence.value", -0.5), "fit.divergence.value"),
    "D reported below 0": (put("fit.divergence.reported", -0.5), "fit.divergence reported"),
    "D's interval below 0": (put("fit.divergence.low", -0.5), "fit.divergence low"),
    "D's floor below 0": (put("fit.divergence.floor", -1.0), "fit.divergence floor"),
    "negative standard error": (put("fit.divergence.standard_error", -1.0), "standard_error"),
    "reversed interval": (reverse("fit.divergence"), "fit.divergence low"),
    "reversed prediction": (reverse("fit.prediction.reduced_chi_square"), "reduced_chi_square low"),
    "p above 1": (put("fit.p_value", 1.5), "fit.p_value"),
    "p below 0": (put("fit.p_value", -0.1), "fit.p_value"),
    "p of a part": (put("decomposition.parts.0.p_holm", 2.0), "p_holm"),
    "part below 0": (put("decomposition.parts.0.delta.reported", -1.0), "delta reported"),
    "no samples": (put("samples", 0), "samples"),
    "other samples": (put("fit.samples", 19), "fit.samples"),
    "no bins": (put("fit.bins", 0), "fit.bins"),
    "negative chi-square": (put("fit.chi_square", -1.0), "fit.chi_square"),
    "more empty bins than bins": (put("fit.empty_bins.observed", 165_888), "empty_bins.observed"),
    "negative count": (put("fit.empty_bins.observed", -1), "empty_bins.observed"),
    "total variation above 1": (put("fit.distances.total_variation", 1.2), "total_variation"),
    "no size": (put("images.height", 0), "images.height"),
    "negative size": (put("images.width", -4), "images.width"),
    "size of the recognizer": (put("recognizer.size", 0), "recognizer.size"),
    "a source of no images": (put("source.count", 0), "source.count"),
    "seed below 0": (put("seed", -1), "seed"),
    "seed beyond 64 bits": (put("seed", 10**30), "seed"),
    "power above 1": (put("detection_limit.power", 1.1), "detection_limit.power"),
    "negative limit": (put("detection_limit.divergence", -0.1), "detection_limit.divergence"),
}  # fmt: skip
IN_RESULTS = {
    "bins that do not add up": (put("marginals.shape", [1, 2, 3, 4]), "marginals.shape"),
    "negative bin": (put("marginals.shape", [-1, 2, 3, 4]), "marginals.shape"),
    "no process": (put("run.world_size", 0), "run.world_size"),
    "negative time": (put("run.seconds", -1.0), "run.seconds"),
    "share of images": (put("fidelity.residual.beyond.value", 1.5), "beyond.value"),
    "reversed FID": (reverse("fidelity.statistics.fid"), "fid low"),
    "fidelity of no images": (put("fidelity.residual.images", 0), "fidelity.residual.images"),
}


def result() -> Content:
    return simulated("tilted", fidelity=fidelity())


@pytest.mark.parametrize(("change", "field"), [*IN_ALL.values(), *IN_RESULTS.values()],
                         ids=[*IN_ALL, *IN_RESULTS])  # fmt: skip
def test_a_result_cannot_hold_it(change: Callable[[Content], None], field: str) -> None:
    content = copy.deepcopy(result())
    parse_result(content)
    change(content)
    with pytest.raises(ShapesHDError) as refused:
        parse_result(content)
    assert field in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("change", "field"), IN_ALL.values(), ids=IN_ALL)
def test_an_entry_cannot_hold_it(
    change: Callable[[Content], None], field: str, tmp_path: Path
) -> None:
    content = json.loads(ENTRY.read_text(encoding="utf-8"))
    change(content)
    file = tmp_path / "entry.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ShapesHDError) as refused:
        read_result(file)
    assert field in str(refused.value)
    assert str(file) in str(refused.value)
