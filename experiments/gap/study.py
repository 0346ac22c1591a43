"""What a study says: errors and noise over its rounds that count, the order of policies, and the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.folders import is_run
from experiments.gap.errors import Errors, mean_totals, pooled, request_times, that_counted, totals
from experiments.gap.order import Order, order
from experiments.gap.predict import predict
from experiments.gap.rounds import Cell, Plan, Report, Round, folder_of
from experiments.gap.verdict import BARS, Noise, Verdict, judge, noise
from experiments.results import Run
from experiments.statistics import DONE

if TYPE_CHECKING:
    import pandas as pd

SETTLED_S = 5.0
"""Requests that arrive before are left out in both worlds: in the twin, nodes begin with the run, real ones before it,
and whom the first election makes wait is chance."""


@dataclass(frozen=True)
class Found:
    """What a study says.

    Attributes:
        rounds: all that are finished; those that are void do not count below.
        errors, noise, verdicts: by quantity.
        cells: errors of each cell by quantity.
        order: of policies by mean end-to-end latency; None with fewer than two policies or rounds.
        whole: (measured, predicted) of each total of each cell, means over rounds.
    """

    plan: Plan
    rounds: Sequence[Round]
    errors: dict[str, Errors]
    noise: dict[str, Noise]
    verdicts: dict[str, Verdict]
    cells: dict[Cell, dict[str, Errors]]
    order: Order | None
    whole: dict[Cell, dict[str, tuple[float, float]]]

    @property
    def counted(self) -> list[Round]:
        """Rounds that are not void."""
        return [one for one in self.rounds if not one.void]


def settled(run: Run) -> pd.DataFrame:
    """Return the times of the requests that arrived after the start."""
    arrivals = run.requests.set_index("op_id")["arrival_s"]
    times = request_times(run)
    return times[arrivals.reindex(times.index) >= SETTLED_S]


def analyse(plan: Plan, rounds: Sequence[Round], report: Report) -> Found:
    """Predict every run of the rounds that count, at its round's profile, and judge."""
    counted = [one for one in rounds if not one.void]
    real: list[dict[Cell, pd.DataFrame]] = []
    twin: list[dict[Cell, pd.DataFrame]] = []
    runs, guesses = [one.runs for one in counted], [dict[Cell, Run]() for _ in counted]
    sums: dict[Cell, list[tuple[dict[str, float], dict[str, float]]]] = {cell: [] for cell in plan.cells}
    for k, one in enumerate(counted):
        real.append({cell: settled(run) for cell, run in one.runs.items()})
        twin.append({})
        for n, (cell, run) in enumerate(one.runs.items()):
            report((k + n / len(one.runs)) / len(counted), f"predicting round {one.number + 1}: {cell.scenario}")
            predicted = _predicted(plan, one.number, run)
            twin[-1][cell], guesses[k][cell] = settled(predicted), predicted
            nodes = that_counted(run)
            sums[cell].append((totals(run, nodes=nodes), totals(predicted, nodes=nodes)))
    cells = {cell: pooled([(r[cell], t[cell]) for r, t in zip(real, twin, strict=True)]) for cell in plan.cells}
    errors = pooled([(r[cell], t[cell]) for r, t in zip(real, twin, strict=True) for cell in plan.cells])
    found = noise(real) if len(real) > 1 else {}
    verdicts = {name: judge(e, found.get(name), BARS[plan.executor]) for name, e in errors.items()}
    several = len(real) > 1 and len({cell.policy for cell in plan.cells}) > 1
    orders = order(_costs(plan, runs), _costs(plan, guesses)) if several else None
    whole = {cell: mean_totals(pairs) for cell, pairs in sums.items()}
    return Found(plan, rounds, errors, found, verdicts, cells, orders, whole)


def _predicted(plan: Plan, number: int, run: Run) -> Run:
    """Return the twin's prediction of a run, kept beside it."""
    from scenarios.record import Record, write

    assert run.folder is not None
    place: Path = run.folder.with_name(f"{run.folder.name}.twin")
    if not is_run(place):
        made = predict(run, str(folder_of(plan, number) / "before.json"))
        tables = {name: getattr(made, name).itertuples(index=False, name=None) for name in ("requests", "sessions")}
        write(Record(made.summary, made.manifest, {name: list(rows) for name, rows in tables.items()}), place)
    return Run(folder=place)


def cost_s(run: Run) -> float:
    """Return the mean latency of the requests after the start; one without an answer counts as its deadline."""
    rows = run.requests[run.requests["arrival_s"] >= SETTLED_S]
    return float(rows["latency_s"].where(rows["status"].isin(DONE), rows["deadline_s"]).mean())


def _costs(plan: Plan, rounds: Sequence[dict[Cell, Run]]) -> dict[str, dict[str, list[float]]]:
    costs: dict[str, dict[str, list[float]]] = {}
    for cell in plan.cells:
        costs.setdefault(cell.scenario, {})[cell.policy] = [cost_s(runs[cell]) for runs in rounds]
    return costs
