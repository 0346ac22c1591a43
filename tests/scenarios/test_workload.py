"""Workloads: fitted lengths against the data, arrivals against the curve, and what each knob of a trace does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scenarios import workload
from scenarios.schema import PRIORITIES, ScenarioError, build
from scenarios.traces import read_azure
from scenarios.workload import DAILY_CURVE, Request, requests

DATA = Path(os.environ.get("VILLAGETWIN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def ask(given: dict[str, Any], **scenario: Any) -> list[Request]:
    """Return the requests of a workload."""
    return requests(build({"name": "t", "workload": given, **scenario}))


def synthetic(count: int = 2000, scenario: dict[str, Any] | None = None, **fields: Any) -> list[Request]:
    """Return the requests of a synthetic day."""
    return ask({"kind": "synthetic", "requests": count, **fields}, **(scenario or {}))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A trace of 100 requests, one a second, whose prompt counts them."""
    rows = "".join(f"2023-11-16 18:{15 + k // 60}:{k % 60:02d},{k + 1},5\n" for k in range(100))
    path = tmp_path / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    return path


def azure(trace: Path, scenario: dict[str, Any] | None = None, **fields: Any) -> list[Request]:
    """Return the requests of a trace, from midnight."""
    return ask({"kind": "azure_conv", "path": str(trace), "start": "00:00", **fields}, **(scenario or {}))


def test_fitted_lengths_are_those_of_the_published_trace() -> None:
    """The constants are the maximum-likelihood log-normal of the trace; drawn means are the trace's within 5 %."""
    path = DATA / "traces" / "azure_llm_2023_conv.csv.gz"
    if not path.is_file():
        pytest.skip(f"the trace is not at {path}; set VILLAGETWIN_DATA")
    _, prompt, new = read_azure(path)

    for lengths, median, sigma in (
        (prompt, workload.PROMPT_MEDIAN, workload.PROMPT_SIGMA),
        (new, workload.NEW_MEDIAN, workload.NEW_SIGMA),
    ):
        logs = np.log(lengths)
        assert np.exp(logs.mean()) == pytest.approx(median, rel=0.002)
        assert logs.std() == pytest.approx(sigma, rel=0.002)
    # The mean is the load. (The median is not met: prompts have two humps, their middle is 1020 tokens and not 760.)
    day = synthetic(20_000)
    assert np.mean([r.prompt_tokens for r in day]) == pytest.approx(prompt.mean(), rel=0.05)
    assert np.mean([r.new_tokens for r in day]) == pytest.approx(new.mean(), rel=0.05)


def test_drawn_lengths_have_the_fitted_medians_and_stay_in_their_clips() -> None:
    """Half of the prompts are longer than the median; none leaves what a device's cache holds; fixed ones are fixed."""
    day = synthetic(5000)
    prompt, new = np.array([r.prompt_tokens for r in day]), np.array([r.new_tokens for r in day])

    assert np.median(prompt) == pytest.approx(workload.PROMPT_MEDIAN, rel=0.05)
    assert np.median(new) == pytest.approx(workload.NEW_MEDIAN, rel=0.05)
    for lengths, (low, high) in ((prompt, workload.PROMPT_CLIP), (new, workload.NEW_CLIP)):
        assert low <= lengths.min() <= lengths.max() <= high
    assert {(r.prompt_tokens, r.new_tokens) for r in synthetic(9, prompt_tokens=7, new_tokens=3)} == {(7, 3)}


@pytest.mark.parametrize(("duration_s", "start_minute"), [(86400.0, 0), (86400.0, 450), (5000.0, 1399), (90.0, 59)])
@pytest.mark.parametrize("flat", [False, True])
def test_arrivals_follow_the_clocks_curve(duration_s: float, start_minute: int, flat: bool) -> None:
    """Arrivals are distributed as the hourly rates of the clock say, wherever the run begins and ends (KS test)."""
    day = synthetic(5000, {"duration_s": duration_s, "start_minute": start_minute}, flat=flat)
    times = np.array([r.arrival_s for r in day])
    fine_s = np.linspace(0, duration_s, 100_001)
    middle_h = ((fine_s[1:] + fine_s[:-1]) / 2 / 3600 + start_minute / 60) % 24
    rate = np.ones(24)[middle_h.astype(int)] if flat else np.array(DAILY_CURVE)[middle_h.astype(int)]
    expected = np.concatenate([[0.0], np.cumsum(rate)]) / rate.sum()

    assert (np.diff(times) >= 0).all()
    assert 0 <= times[0] <= times[-1] < duration_s
    assert stats.kstest(times, lambda t: np.interp(t, fine_s, expected)).pvalue > 0.001


def test_the_curve_is_a_mean_of_one() -> None:
    """The hourly rates are over their mean."""
    assert np.mean(DAILY_CURVE) == pytest.approx(1.0, abs=0.003)


def test_priorities_and_clients_come_at_their_shares() -> None:
    """Classes follow the mix; absent ones never come; deadlines are the class's; clients are drawn evenly."""
    mix = {"critical": 1, "normal": 3}
    day = synthetic(4000, mix=mix, clients=4)
    count = np.bincount([r.priority for r in day], minlength=5)

    assert count[[1, 3, 4]].sum() == 0
    assert count[0] / 4000 == pytest.approx(0.25, abs=0.025)
    assert {(PRIORITIES[r.priority], r.deadline_s) for r in day} == {("critical", 30.0), ("normal", 120.0)}
    clients = np.unique([r.client for r in day], return_counts=True)
    assert clients[0].tolist() == ["c000", "c001", "c002", "c003"]
    assert stats.chisquare(clients[1]).pvalue > 0.001


def test_a_knob_changes_its_own_draws_only() -> None:
    """Fixing lengths, or another mix, leaves arrivals and everything else as they were; another seed changes them."""
    base, fixed, mixed = synthetic(300), synthetic(300, new_tokens=5), synthetic(300, mix={"low": 1})

    assert [r.prompt_tokens for r in base] == [r.prompt_tokens for r in fixed] == [r.prompt_tokens for r in mixed]
    assert [r.arrival_s for r in base] == [r.arrival_s for r in fixed] == [r.arrival_s for r in mixed]
    assert [r.client for r in base] == [r.client for r in mixed]
    assert base == synthetic(300) != synthetic(300, {"seed": 2})


def test_a_trace_arrives_as_it_was(trace: Path) -> None:
    """Unthinned, every request comes at its time after the start, with its own lengths and a name in order."""
    day = azure(trace)

    assert [r.arrival_s for r in day] == list(range(100))
    assert [r.prompt_tokens for r in day] == list(range(1, 101))
    assert [r.op_id for r in day] == [f"r{k:06d}" for k in range(100)]


@pytest.mark.parametrize(
    ("start", "start_minute", "first_s"), [("01:30", 0, 5400), ("00:10", 1430, 1200), ("09:00", 540, 0)]
)
def test_a_trace_starts_at_its_hour_of_the_clock(trace: Path, start: str, start_minute: int, first_s: float) -> None:
    """The first request comes when the clock shows ``start``, tomorrow if that has passed."""
    assert azure(trace, {"start_minute": start_minute}, start=start)[0].arrival_s == first_s


def test_speed_divides_the_gaps_and_the_run_cuts_the_rest(trace: Path) -> None:
    """Twice the speed is half the gaps; what would come after the end does not come."""
    assert [r.arrival_s for r in azure(trace, speed=2)] == [k / 2 for k in range(100)]
    assert len(azure(trace, {"duration_s": 10.5})) == 11


@settings(max_examples=20)
@given(thin=st.floats(0.05, 1.0))
def test_thinning_keeps_a_subset_that_grows_with_the_share(
    tmp_path_factory: pytest.TempPathFactory, thin: float
) -> None:
    """Kept requests are some of the trace's, at their own times, about the share; a larger share keeps them all."""
    folder = tmp_path_factory.getbasetemp() / "thin"
    folder.mkdir(exist_ok=True)
    path = folder / "trace.csv"
    if not path.exists():
        rows = "".join(f"2023-11-16 18:{k // 60:02d}:{k % 60:02d},{k + 1},5\n" for k in range(1000))
        path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    few = {r.prompt_tokens: r.arrival_s for r in azure(path, thin=thin)}
    more = {r.prompt_tokens for r in azure(path, thin=min(1.0, thin * 1.2))}

    assert set(few) <= more
    assert len(few) / 1000 == pytest.approx(thin, abs=0.08)
    begin_s = {at_s - (prompt - 1) for prompt, at_s in few.items()}
    assert begin_s == {0.0}


def test_repeating_plays_it_again_moved_within_the_minute(trace: Path) -> None:
    """Each repetition holds every request once, later by whole periods and less than a minute more."""
    day = azure(trace, repeat=3)

    assert len(day) == 300
    seen = {k: sorted(r.arrival_s for r in day if r.prompt_tokens == k + 1) for k in range(100)}
    moved = [[at - n * 100.0 - k for n, at in enumerate(times)] for k, times in seen.items() if len(times) == 3]
    assert len(moved) == 100
    first, *later = np.array(moved).T
    assert (first == 0).all()
    assert all(((move >= 0) & (move < 60)).all() and np.unique(move).size > 90 for move in later)
    assert [r.arrival_s for r in day] == sorted(r.arrival_s for r in day)


def test_thinning_everything_away_is_no_request(trace: Path) -> None:
    """A share that keeps nothing is an empty day, not an error."""
    assert azure(trace, thin=1e-9) == []


def test_a_trace_that_cannot_be_read_is_named_by_its_field(tmp_path: Path) -> None:
    """One line with the field, the file and its line."""
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ScenarioError, match=r"^workload\.path: .*other\.csv:1: columns \['a', 'b'\]; expected"):
        azure(path)
    with pytest.raises(ScenarioError, match=r"^workload\.path: .*none\.csv: no such file"):
        azure(tmp_path / "none.csv")
