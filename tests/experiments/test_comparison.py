"""Paired comparison: intervals equal to SciPy's, and noise called noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.cli import main
from experiments.comparison import Difference, compare, pair
from experiments.compose import UsageError
from experiments.results import Run
from experiments.statistics import bootstrap_interval, metrics_of, t_interval
from scenarios.record import Record, write

Make = Callable[..., Record]


def test_the_t_interval_is_scipys() -> None:
    """The interval of paired differences is that of SciPy's paired t-test."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(10, 3, 12), rng.normal(11, 3, 12)
    theirs = stats.ttest_rel(b, a).confidence_interval(0.95)

    assert t_interval(list(b - a)) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_the_bootstrap_interval_is_scipys() -> None:
    """The percentile bootstrap of paired means agrees with SciPy's up to resampling noise."""
    rng = np.random.default_rng(2)
    a = rng.lognormal(1, 0.5, 400)
    b = a * rng.lognormal(0.1, 0.2, 400)
    ours = bootstrap_interval(a, b, lambda x: x.mean(axis=-1))
    theirs = stats.bootstrap(
        (a, b), lambda x, y, axis: (y - x).mean(axis=axis), paired=True, method="percentile",
        n_resamples=4000, rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip

    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.08 * width)


def test_repeats_are_paired_by_seed(synthetic_record: Make) -> None:
    """With common draws a 10 % slowdown is found, beyond the noise, as 10 %."""
    a = [Run(synthetic_record(seed)) for seed in range(1, 6)]
    b = [Run(synthetic_record(seed, slower=1.1)) for seed in range(1, 6)]
    found = {d.metric: d for d in compare(a, b).differences}

    assert found["latency_mean_s"].relative == pytest.approx(0.1)
    assert found["latency_mean_s"].verdict == "B worse"
    assert found["throughput_tokens_per_s"].verdict == "equal"
    values = [metrics_of(run)["latency_p95_s"] for run in a], [metrics_of(run)["latency_p95_s"] for run in b]
    theirs = stats.ttest_rel(values[1], values[0]).confidence_interval(0.95)
    assert (found["latency_p95_s"].low, found["latency_p95_s"].high) == pytest.approx((theirs.low, theirs.high))


def test_noise_is_said_to_be_noise(synthetic_record: Make) -> None:
    """Runs that differ only by their draws are not told apart."""
    a = [Run(synthetic_record(seed)) for seed in (1, 2, 3, 4)]
    b = [Run(synthetic_record(seed + 100)) for seed in (1, 2, 3, 4)]
    for run, seed in zip(b, (1, 2, 3, 4), strict=True):
        run.manifest["seed"] = seed

    found = {d.metric: d.verdict for d in compare(a, b).differences}
    assert found["latency_mean_s"] == "inside the noise"


def test_a_single_pair_is_compared_request_by_request(synthetic_record: Make) -> None:
    """One run a side rests on its requests; counts of one pair have no interval."""
    found = compare(Run(synthetic_record(1)), Run(synthetic_record(1, slower=0.5)))
    by_name = {d.metric: d for d in found.differences}

    assert by_name["latency_p50_s"].verdict == "B better"
    assert by_name["latency_p50_s"].relative == pytest.approx(-0.5)
    assert by_name["answered_share"].verdict == "equal"
    assert by_name["commits"].pairs == 1


def test_sides_without_a_common_seed_are_refused(synthetic_record: Make) -> None:
    """There is nothing to pair, and the seeds are named."""
    with pytest.raises(UsageError, match=r"no seed in common \(A has 1; B has 2\)"):
        compare(Run(synthetic_record(1)), Run(synthetic_record(2)))


def test_one_simulation_stands_against_every_real_repeat(synthetic_record: Make) -> None:
    """A deterministic run is the partner of each of the real repeats of its seed."""
    one, repeats = Run(synthetic_record(1)), [Run(synthetic_record(1, slower=s)) for s in (1.0, 1.1, 0.9)]

    assert [(a is one, b) for a, b in pair([one], repeats)] == [(True, run) for run in repeats]


def test_changed_sources_are_named(synthetic_record: Make) -> None:
    """A comparison says whether both sides ran the same policies."""
    a, b, unnamed = (Run(synthetic_record(1)) for _ in range(3))
    b.manifest["policies"] = {"consensus": {"class": "x", "source_sha256": "other"}}
    unnamed.manifest["policies"] = {}

    assert compare(a, a).same_sources
    assert compare(a, b).changed == ("consensus",)
    assert not compare(unnamed, unnamed).same_sources


def test_the_verb_prints_a_narrow_table_and_draws(
    synthetic_record: Make, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`twin compare` takes folders that hold repeats, fits a terminal and writes its figure."""
    for seed in (1, 2, 3):
        write(synthetic_record(seed, devices=1), home / "a" / str(seed))
        write(synthetic_record(seed, devices=1, slower=1.2), home / "b" / str(seed))

    assert main(["compare", "a", "b", "--out", "figure.png"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "3 pairs of runs" in out
    assert "B worse" in out
    assert (home / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert main(["compare", "a", "b", "--out", "figure.exe"]) == 2


@pytest.mark.parametrize(
    ("low", "high", "says"), [(0.1, 0.3, "B worse"), (-0.3, -0.1, "B better"), (-0.1, 0.3, "inside the noise")]
)
def test_a_verdict_follows_its_interval(low: float, high: float, says: str) -> None:
    """Only an interval that leaves zero out is a difference; for latencies, lower is better."""
    assert Difference("latency_mean_s", 1.0, 1.0 + (low + high) / 2, low, high, 5).verdict == says
