"""Prices from samples: linear, non-negative, least absolute relative errors.

Seconds are linear in the prices, so each fit is a non-negative least squares (SciPy's active-set method) on relative
errors, repeated with weights 1 / max(error, 5 %): mean absolute errors are what is asked of the model, and a row from a
machine that was swapping or throttled must not bend the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import least_squares, nnls

from experiments.calibration.inference_samples import Sample
from models.inference.prices import Prices

ROUNDS, FLOOR = 12, 0.05
DIGITS = 4


@dataclass(frozen=True)
class Plan:
    """What one fit may use.

    Attributes:
        columns: prices that are fitted; ``weight@apple-ultra`` is what that kind of chip pays on top of `weight`.
        fixed: prices that are given.
        anchors: price to its believed value and the weight of that belief, in units of all samples together.
        joint: of `Prices`; 2 is fitted by the trust-region method.
        fp32_sum: of `Prices`.
    """

    columns: tuple[str, ...]
    fixed: Mapping[str, float] = field(default_factory=dict)
    anchors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    joint: float = 1.0
    fp32_sum: bool = False


Found = dict[str, float]


def fit(samples: Sequence[Sample], plan: Plan) -> Found:
    """Return the fitted prices by column."""
    if plan.joint > 1.0:
        return _fit_joint(samples, plan)
    table = np.array([[_cell(sample, column) / sample.seconds for column in plan.columns] for sample in samples])
    wanted = np.array([1.0 - _given(sample, plan) / sample.seconds for sample in samples])
    weights = np.ones(len(samples))
    pull = [(plan.columns.index(name), *believed) for name, believed in plan.anchors.items()]
    extra, target = np.zeros((len(pull), len(plan.columns))), np.zeros(len(pull))
    for row, (place, value, strength) in enumerate(pull):
        extra[row, place] = strength * np.sqrt(len(samples)) / value
        target[row] = strength * np.sqrt(len(samples))
    prices = np.zeros(len(plan.columns))
    for _ in range(ROUNDS):
        prices, _ = nnls(np.vstack([table * weights[:, None], extra]), np.concatenate([wanted * weights, target]))
        weights = 1.0 / np.sqrt(np.maximum(np.abs(table @ prices - wanted), FLOOR))
        weights /= np.sqrt(np.mean(weights**2))
    return dict(zip(plan.columns, prices.tolist(), strict=True))


def _fit_joint(samples: Sequence[Sample], plan: Plan) -> Found:
    seconds = np.array([sample.seconds for sample in samples])
    columns = {name: np.array([_cell(sample, name) for sample in samples]) for name in plan.columns}

    def errors(logs: np.ndarray) -> np.ndarray:
        found = {name: np.exp(log) * columns[name] for name, log in zip(plan.columns, logs, strict=True)}
        together = (found.pop("weight") ** plan.joint + found.pop("linear") ** plan.joint) ** (1.0 / plan.joint)
        return np.asarray((together + sum(found.values())) / seconds - 1.0)

    start = np.array([np.log(1e-5) if name == "layer_s" else 0.0 for name in plan.columns])
    best = least_squares(errors, start, loss="soft_l1", f_scale=FLOOR)
    return dict(zip(plan.columns, np.exp(best.x).tolist(), strict=True))


def predicted(sample: Sample, found: Found, plan: Plan) -> float:
    """Return the seconds that the prices give a sample."""
    parts = {name: _cell(sample, name) * price for name, price in found.items()}
    if plan.joint > 1.0:
        both = (parts.pop("weight") ** plan.joint + parts.pop("linear") ** plan.joint) ** (1.0 / plan.joint)
        return float(both) + sum(parts.values())
    return sum(parts.values()) + _given(sample, plan)


def _cell(sample: Sample, column: str) -> float:
    name, _, kind = column.partition("@")
    return sample.quantities[name] if kind in ("", sample.kind) else 0.0


def _given(sample: Sample, plan: Plan) -> float:
    return sum(sample.quantities[name] * price for name, price in plan.fixed.items())


def prices_of(found: Found, plan: Plan, kind: str = "") -> dict[str, Any]:
    """Return the prices of one kind of chip as plain data, rounded."""
    made: dict[str, Any] = dict(plan.fixed)
    for column, price in found.items():
        name, _, only = column.partition("@")
        if only in ("", kind):
            made[name] = made.get(name, 0.0) + price
    made = {name: float(f"{price:.{DIGITS}g}") for name, price in made.items()}
    if plan.joint > 1.0:
        made["joint"] = plan.joint
    if plan.fp32_sum:
        made["fp32_sum"] = True
    Prices(**made)
    return made


def errors(samples: Sequence[Sample], plan: Plan, by: Callable[[Sample], str] | None = None) -> dict[str, Any] | None:
    """Return mean, 90th percentile and worst relative error of the time, and the worst row's name.

    Args:
        samples: measured.
        plan: the fit.
        by: what to leave out at a time (device or model) so that no sample is predicted by a fit that saw its like;
            None: predicted by the fit to all. None comes back where leaving out leaves nothing.
    """
    signed: list[tuple[float, str]] = []
    groups = sorted({by(sample) for sample in samples}) if by else [""]
    if by and len(groups) < 2:
        return None
    for group in groups:
        seen = [sample for sample in samples if not by or by(sample) != group]
        asked = [sample for sample in samples if not by or by(sample) == group]
        found = fit(seen, plan)
        signed += [(predicted(sample, found, plan) / sample.seconds - 1.0, sample.name) for sample in asked]
    sizes = np.array([abs(error) for error, _ in signed])
    worst = max(signed, key=lambda pair: abs(pair[0]))
    return {
        "mean": round(float(sizes.mean()), 4), "p90": round(float(np.quantile(sizes, 0.9)), 4),
        "worst": round(worst[0], 4), "worst_row": worst[1], "rows": len(signed),
    }  # fmt: skip
