"""`twin compare RUN`: what was measured, what the twin predicts of it, and the errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.compose import UsageError
from experiments.folders import find_runs, show_path
from experiments.gap.errors import PER_REQUEST, TOTALS, Errors, mean_totals, pooled, request_times, that_counted, totals
from experiments.gap.predict import predict
from experiments.results import Run, number


@dataclass(frozen=True)
class Gap:
    """Measured Runs beside their predictions.

    Attributes:
        measured, predicted: in pairs.
        requests: errors by quantity of `PER_REQUEST`.
        whole: (measured, predicted) of each of `TOTALS`, means over the Runs.
    """

    measured: Sequence[Run]
    predicted: Sequence[Run]
    requests: dict[str, Errors]
    whole: dict[str, tuple[float, float]]

    def text(self) -> str:
        """Return the table in at most 100 columns."""
        names = ", ".join(show_path(run.folder) for run in self.measured[:3] if run.folder is not None)
        more = f" and {len(self.measured) - 3} more" if len(self.measured) > 3 else ""
        profiles = sorted({str(run.manifest.get("profile"))[:12] for run in self.predicted})
        answered = max((len(one.values) for one in self.requests.values()), default=0)
        lines = [
            f"measured   {names}{more}",
            f"predicted  by the twin at profile {', '.join(profiles)}, with the measured arrivals and lengths",
            f"{answered} requests that both answered; errors are (predicted - measured) / measured",
            "",
            f"{'':24}{'measured':>11}{'predicted':>11}{'error':>8}   of single requests, absolute",
            f"{'':24}{'median':>11}{'median':>11}{'median':>8}   {'median':>7}{'p95':>8}{'p99':>8}  95 % of p99",
        ]
        for name, label in PER_REQUEST.items():
            if (e := self.requests.get(name)) is not None:
                low, high = e.interval(0.99)
                spread = f"{_share(e.size(0.5)):>7}{_share(e.size(0.95)):>8}{_share(e.size(0.99)):>8}"
                both = f"{number(e.measured) + ' s':>11}{number(e.predicted) + ' s':>11}"
                lines.append(f"{label:24}{both}{e.bias:>+8.1%}   {spread}  {_share(low)} .. {_share(high)}")
        for name, label in TOTALS.items():
            real, twin = self.whole[name]
            error = f"{twin / real - 1:+.1%}" if real == real and twin == twin and real else "–"
            lines.append(f"{label:35} {number(real):>10} {number(twin):>10} {error:>7}")
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "runs": [str(run.folder) for run in self.measured],
            "requests": {
                name: {
                    "requests": len(e.values), "measured": e.measured, "predicted": e.predicted, "bias": e.bias,
                    "median": e.size(0.5), "p95": e.size(0.95), "p99": e.size(0.99), "p99_interval": e.interval(0.99),
                }
                for name, e in self.requests.items()
            },
            "whole": {name: {"measured": real, "predicted": twin} for name, (real, twin) in self.whole.items()},
        }  # fmt: skip


def gap_of(where: str, profile: str = "") -> Gap:
    """Predict the local Run, or each of the Runs, that a user means.

    Raises:
        UsageError: there is none, one is not of world=local, or nothing in it was answered.
    """
    measured = [Run(folder=folder) for folder in find_runs(where)]
    predicted = [predict(run, profile) for run in measured]
    pairs = [(request_times(m), request_times(p)) for m, p in zip(measured, predicted, strict=True)]
    errors = pooled(pairs)
    if not errors:
        raise UsageError(f"compare {where}: no request was answered in both worlds")
    both = [set(m.index) & set(p.index) for m, p in pairs]
    whole = []
    for one, twin, ops in zip(measured, predicted, both, strict=True):
        nodes = that_counted(one)
        whole.append((totals(one, ops, nodes), totals(twin, ops, nodes)))
    return Gap(measured, predicted, errors, mean_totals(whole))


def _share(value: float) -> str:
    return "inf" if value == float("inf") else f"{value:.1%}"
