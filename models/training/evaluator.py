"""Evaluates a phase while it trains and at its end: score, posterior, sheets of images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .phase import Phase
from .posterior import posterior_distance

_BATCH = 4096
# Samples of a score are drawn with seeds of their own, far from a run's.
_CHECK_SEED, _FINAL_SEED = 7_000_000, 8_000_000


class Evaluator:
    """Evaluates the averages of a phase's networks; only the first process does.

    Args:
        phase: what is evaluated.
        sheets: folder of the sheets of images.
    """

    def __init__(self, phase: Phase, sheets: Path) -> None:
        self._phase, self._sheets = phase, sheets
        self._measured: tuple[int, dict[str, Any]] = (-1, {})  # the last step measured, and what

    def check(self, step: int, *, last: bool) -> dict[str, Any]:
        """Return what a check finds, for the log; write the sheets.

        Args:
            step: steps taken.
            last: whether the phase ends here: `finish` then takes the score.
        """
        phase = self._phase
        if not phase.group.first:
            return {}
        phase.domain.write_sheets(self._sheets, step, phase.generator, phase.encoder)
        found = self._posterior(step)
        samples = phase.config.checks.samples
        if phase.domain.why_no_score is None and samples and not last:
            score = phase.domain.score(phase.generator, samples, _CHECK_SEED + phase.config.seed)
            found["score"] = brief(score)
        return found

    def sheets(self, step: int) -> dict[str, Path]:
        """Return the sheets that a check at a step wrote, by what they show, such as "samples"."""
        found = sorted(self._sheets.glob(f"*-{step:07d}.png"))
        return {path.name.partition("-")[0]: path for path in found}

    def finish(self, step: int) -> dict[str, Any]:
        """Return what is measured when all steps are taken, ready for JSON."""
        phase, domain = self._phase, self._phase.domain
        result = self._posterior(step)
        samples = phase.config.checks.final_samples
        if domain.why_no_score is not None:
            result["why_no_score"] = domain.why_no_score
        elif samples:
            seed = _FINAL_SEED + phase.config.seed
            result["score"] = domain.score(phase.generator, samples, seed)
        return result

    def knows(self, result: Mapping[str, Any]) -> bool:
        """Tell whether a result, read from JSON, has what `finish` would measure, and no more."""
        phase, domain = self._phase, self._phase.domain
        checks = phase.config.checks
        codes = 0 if phase.encoder is None else min(checks.codes, domain.held_out)
        samples = checks.final_samples if domain.why_no_score is None else 0
        return bool(
            result.get("why_no_score") == domain.why_no_score
            and (result["posterior"]["codes"] if "posterior" in result else 0) == codes
            and (result["score"]["fit"]["samples"] if "score" in result else 0) == samples
        )

    def _posterior(self, step: int) -> dict[str, Any]:
        """Return ``posterior`` of held-out codes; {} without an encoder.

        It is measured once a step, and of an encoder that is not trained once in all.
        """
        if "encoder" in self._phase.fixed:
            step = 0
        if self._measured[0] != step:
            codes = self.codes(step)
            found = {} if codes is None else {"posterior": posterior_distance(codes).to_json()}
            self._measured = step, found
        return dict(self._measured[1])

    @torch.no_grad()
    def codes(self, step: int) -> Tensor | None:
        """Return codes of held-out images, (n, latent_dim); None where nothing encodes."""
        phase = self._phase
        encoder, domain = phase.encoder, phase.domain
        if encoder is None:
            return None
        last = domain.count + min(phase.config.checks.codes, domain.held_out)
        noise = phase.draws.generator(step, "held-out codes")
        parts = []
        rows = torch.arange(domain.count, last).split(min(_BATCH, phase.schedule.batch * 4))
        for x in domain.batches(rows):
            with domain.autocast():
                features = encoder.trunk(x)
            head = encoder.head
            drawn = torch.randn(
                len(features), head.noise_dim + head.latent_dim, generator=noise,
                device=phase.device,
            )  # fmt: skip
            z, _, _ = head.sample(
                features.float(), *drawn.split((head.noise_dim, head.latent_dim), 1)
            )
            parts.append(z)
        return torch.cat(parts)


def brief(score: dict[str, Any]) -> dict[str, Any]:
    """Return what a log keeps of a score: D with its interval, its parts, and what is empty."""
    fit = score["fit"]
    divergence = fit["divergence"]
    return {
        "samples": fit["samples"],
        "divergence": divergence["value"],
        "low": divergence["low"],
        "high": divergence["high"],
        "reduced_chi_square": fit["prediction"]["reduced_chi_square"]["value"],
        "empty_bins": fit["empty_bins"]["observed"],
        "parts": {part["name"]: part["delta"]["value"] for part in score["parts"]["parts"]},
        **({"residual": score["residual"]} if "residual" in score else {}),
    }
