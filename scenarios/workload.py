"""Workloads: which requests arrive when. A fitted synthetic day, or a published trace.

Every attribute is a keyed draw by (seed, purpose, request), so that another field, or another policy, changes none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from models import draws
from policies.gateway.gateway import DEADLINE_MAX_S
from policies.jobs import TOKENS_MAX
from scenarios.schema import PRIORITIES, SECONDS_MAX, Azure, Recorded, Scenario, ScenarioError, Synthetic, WorkloadBase
from scenarios.traces import read_azure

if TYPE_CHECKING:
    import pandas as pd

# Log-normal fits (maximum likelihood) to the 19,366 requests of the Azure LLM inference trace 2023, conversation
# (Patel et al., Splitwise, ISCA 2024; CC-BY-4.0), clipped to what a device's cache holds.
PROMPT_MEDIAN, PROMPT_SIGMA, PROMPT_CLIP = 760.0, 0.985, (16, 4000)
NEW_MEDIAN, NEW_SIGMA, NEW_CLIP = 151.0, 0.859, (8, 1000)

# Requests by hour of day over their mean: all clients of ServeGen's m-small, 14 days (Alibaba, Apache-2.0).
DAILY_CURVE = (
    0.826, 0.703, 0.749, 0.699, 0.712, 0.728, 0.765, 0.873, 1.0, 1.133, 1.108, 1.077,
    1.044, 1.057, 1.044, 1.031, 1.074, 1.062, 0.992, 1.21, 1.434, 1.381, 1.25, 1.047,
)  # fmt: skip


class Request(NamedTuple):
    """One request as its client means it."""

    op_id: str
    client: str
    priority: int  # index into PRIORITIES, 0 the most urgent
    arrival_s: float  # from the run's start
    deadline_s: float  # from arrival
    prompt_tokens: int
    new_tokens: int


def requests(scenario: Scenario) -> list[Request]:
    """Return the scenario's requests in order of arrival.

    Raises:
        ScenarioError: the trace's file is missing or malformed.
    """
    workload = scenario.workload
    if isinstance(workload, Recorded):
        return read_requests(Path(workload.path))
    if isinstance(workload, Azure):
        arrival_s, prompt, new = _azure(scenario, workload)
    else:
        arrival_s, prompt, new = _synthetic(scenario, workload)
    return _dress(scenario.seed, workload, arrival_s, prompt, new)


def read_requests(path: Path) -> list[Request]:
    """Return the requests of a finished Run in order of arrival; one that ended early has the tokens it was given.

    Raises:
        ScenarioError: the file is missing, is no table of requests, or holds one that nobody can have made.
    """
    import pandas as pd

    try:
        rows = pd.read_parquet(path).sort_values("arrival_s", kind="stable")
        tokens = rows["new_tokens"].where(rows["tokens"] <= 0, rows["tokens"])
        _check_recorded(rows.assign(new_tokens=tokens))
        return [
            Request(str(r.op_id), str(r.client), PRIORITIES.index(r.priority), float(r.arrival_s), float(r.deadline_s),
                    int(r.prompt_tokens), int(new))
            for r, new in zip(rows.itertuples(), tokens, strict=True)
        ]  # fmt: skip
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise ScenarioError(f"workload.path={str(path)!r}: no table of requests ({error})") from None


def _check_recorded(rows: pd.DataFrame) -> None:
    """Raise ValueError on the first request, by name, that nobody can have made."""
    twice = rows[rows.duplicated(["client", "op_id"])]
    if len(twice):
        raise ValueError(f"op_id {twice['op_id'].iloc[0]} is there twice")
    classes = rows[~rows["priority"].isin(PRIORITIES)]
    if len(classes):
        first = classes.iloc[0]
        raise ValueError(f"priority={first['priority']!r} of {first['op_id']}: expected one of {', '.join(PRIORITIES)}")
    limits = (
        ("arrival_s", 0.0, SECONDS_MAX), ("deadline_s", 0.0, DEADLINE_MAX_S),
        ("prompt_tokens", 1, TOKENS_MAX), ("new_tokens", 1, TOKENS_MAX),
    )  # fmt: skip
    for name, least, most in limits:
        values = rows[name].astype(float)
        wrong = rows[~((values >= least) & (values <= most))]
        if len(wrong):
            allowed = f"expected at least {least:g} and at most {most:.0f}"
            raise ValueError(f"{name}={wrong[name].iloc[0]} of {wrong['op_id'].iloc[0]}: {allowed}")


def _synthetic(s: Scenario, w: Synthetic) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    index = np.arange(w.requests)
    moments = np.sort(draws.uniform(s.seed, "arrival", 0, np.arange(-(-w.requests // w.burst))))
    share = np.repeat(moments, w.burst)[: w.requests]
    # Invert the cumulated rate, piecewise linear over the hours of the clock.
    start_s = s.start_minute * 60.0
    hours_s = np.arange(start_s // 3600.0 + 1.0, (start_s + s.duration_s) / 3600.0) * 3600.0 - start_s
    edges_s = np.concatenate([[0.0], hours_s, [s.duration_s]])
    curve = np.ones(24) if w.flat else np.array(DAILY_CURVE)
    rate = curve[((edges_s[:-1] + start_s) // 3600.0 % 24).astype(int)]
    cumulated = np.concatenate([[0.0], np.cumsum(rate * np.diff(edges_s))])
    arrival_s = np.interp(share * cumulated[-1], cumulated, edges_s)
    prompt = _lengths(s.seed, "prompt length", index, w.prompt_tokens, PROMPT_MEDIAN, PROMPT_SIGMA, PROMPT_CLIP)
    new = _lengths(s.seed, "answer length", index, w.new_tokens, NEW_MEDIAN, NEW_SIGMA, NEW_CLIP)
    return arrival_s, prompt, new


def _lengths(
    seed: int,
    purpose: str,
    index: np.ndarray,
    fixed: int | None,
    median: float,
    sigma: float,
    clip: tuple[int, int],
) -> np.ndarray:
    if fixed is not None:
        return np.full(len(index), fixed)
    drawn: np.ndarray = np.clip(draws.lognormal(seed, purpose, 0, index, median, sigma), *clip)
    return drawn.astype(np.int64)


def _azure(s: Scenario, w: Azure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    try:
        trace_s, prompt, new = read_azure(Path(w.path))
    except ScenarioError as error:
        raise ScenarioError(f"workload.path: {error}") from None
    kept = draws.uniform(s.seed, "thin", 0, np.arange(len(trace_s))) < w.thin
    trace_s, prompt, new = trace_s[kept] / w.speed, prompt[kept], new[kept]
    hour, minute = (int(x) for x in w.start.split(":"))
    first_s = ((hour * 60 + minute - s.start_minute) % 1440) * 60.0
    period_s = trace_s[-1] + (trace_s[-1] / max(1, len(trace_s) - 1)) if len(trace_s) else 0.0
    times = []
    for k in range(w.repeat):
        # A repetition is moved within the minute by a draw, so that it is not the same burst again.
        moved = draws.uniform(s.seed, "repeat", k, np.arange(len(trace_s))) * 60.0 if k else 0.0
        times.append(first_s + k * period_s + trace_s + moved)
    arrival_s = np.concatenate(times) if times else np.zeros(0)
    order = np.argsort(arrival_s, kind="stable")
    inside = order[arrival_s[order] < s.duration_s]
    return arrival_s[inside], np.tile(prompt, w.repeat)[inside], np.tile(new, w.repeat)[inside]


def _dress(seed: int, w: WorkloadBase, arrival_s: np.ndarray, prompt: np.ndarray, new: np.ndarray) -> list[Request]:
    index = np.arange(len(arrival_s))
    weights = np.array([w.mix.get(name, 0.0) for name in PRIORITIES])  # type: ignore[call-overload]
    bounds = np.cumsum(weights) / weights.sum()
    priority = np.searchsorted(bounds, draws.uniform(seed, "priority", 0, index), side="right")
    client = draws.integers(seed, "client", 0, index, w.clients)
    deadline_s = [w.deadline_s[name] for name in PRIORITIES]  # type: ignore[index]
    return [
        Request(f"r{i:06d}", f"c{client[i]:03d}", int(k), float(at), deadline_s[k], int(p), int(n))
        for i, (k, at, p, n) in enumerate(zip(priority, arrival_s, prompt, new, strict=True))
    ]
