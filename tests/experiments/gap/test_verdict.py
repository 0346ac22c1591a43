"""Verdicts on data made up for them: a known bias is seen, noise is no bias, and what is too noisy is never passed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from experiments.gap.errors import PER_REQUEST, pooled
from experiments.gap.order import NOT_SHOWN, order
from experiments.gap.quiet import Cpu, cpu, drift, foreign_share, token_s, void
from experiments.gap.verdict import BARS, MISSED, PASSED, TOO_LITTLE, UNMEASURABLE, Verdict, judge, noise
from scenarios.hosts import PACED

CELLS, REQUESTS = ("a", "b"), 160


def _times(draw: np.random.Generator, base: np.ndarray, spread: float, shift: float) -> pd.DataFrame:
    """Request times about a base: log-normal noise of each request, and a shift that all of them share."""
    values = base * np.exp(spread * draw.standard_normal(len(base)) + shift)
    return pd.DataFrame({name: values for name in PER_REQUEST}, index=[f"r{k}" for k in range(len(base))])


def _study(*, spread: float, wander: float, bias: float = 0.0, repeats: int = 7, seed: int = 1) -> Verdict:
    """Judge a twin that is off by ``bias`` on a machine with these two kinds of noise."""
    draw = np.random.Generator(np.random.PCG64(seed))
    base = {cell: np.exp(draw.standard_normal(REQUESTS)) for cell in CELLS}
    shifts = wander * draw.standard_normal(repeats)
    rounds = [{cell: _times(draw, base[cell], spread, shift) for cell in CELLS} for shift in shifts]
    twin = {cell: _times(draw, base[cell], 0.0, np.log1p(bias)) for cell in CELLS}
    errors = pooled([(times, twin[cell]) for one in rounds for cell, times in one.items()])["latency_s"]
    return judge(errors, noise(rounds).get("latency_s"), BARS["model"])


@pytest.mark.parametrize(
    ("made", "word"),
    [
        ({"spread": 0.02, "wander": 0.005}, PASSED),
        ({"spread": 0.02, "wander": 0.005, "bias": 0.12}, MISSED),
        ({"spread": 0.02, "wander": 0.005, "bias": -0.12}, MISSED),
        ({"spread": 0.02, "wander": 0.2}, UNMEASURABLE),  # rounds differ from one another
        ({"spread": 0.02, "wander": 0.2, "bias": 0.3}, UNMEASURABLE),  # and then a bias is not shown either
        ({"spread": 0.15, "wander": 0.0}, UNMEASURABLE),  # single requests do
        ({"spread": 0.02, "wander": 0.005, "repeats": 6}, TOO_LITTLE),
    ],
)
def test_the_verdict_on_a_known_bias_and_known_noise(made: dict[str, float], word: str) -> None:
    """A perfect twin passes on a quiet machine and nowhere else; a bias of more than the bar is missed there."""
    assert _study(**made).word == word  # type: ignore[arg-type]


def test_rounds_that_differ_are_noise_even_with_short_tails() -> None:
    """Every other round is 12 % slower: no request is far off, and still the machine cannot tell 5 %."""
    draw = np.random.Generator(np.random.PCG64(2))
    base = np.exp(draw.standard_normal(REQUESTS))
    rounds = [{cell: _times(draw, base, 0.002, shift) for cell in CELLS} for shift in (-0.055, 0.055) * 4]
    twin = _times(draw, base, 0.0, 0.0)
    errors = pooled([(times, twin) for one in rounds for times in one.values()])["latency_s"]
    real = noise(rounds)["latency_s"]

    assert real.errors.size(0.95) < BARS["model"].p95  # type: ignore[operator]
    assert judge(errors, real, BARS["model"]).word == UNMEASURABLE


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 10**6), st.floats(0.0, 0.3), st.floats(0.0, 0.2), st.floats(-0.3, 0.3))
def test_no_noisy_machine_ever_passes(seed: int, spread: float, wander: float, bias: float) -> None:
    """Whatever the twin says, a pass means that real against real was within the bar."""
    found = _study(spread=spread, wander=wander, bias=bias, seed=seed)
    if found.word == PASSED:
        assert abs(bias) < 0.06
        assert spread < 0.12


def test_a_tail_beyond_the_bar_is_missed() -> None:
    """One request in twelve that the twin has half as long is no matter of the median, but of the 95th percentile."""
    draw = np.random.Generator(np.random.PCG64(3))
    base = np.exp(draw.standard_normal(REQUESTS))
    rounds = [{cell: _times(draw, base, 0.01, 0.0) for cell in CELLS} for _ in range(8)]
    off = _times(draw, np.where(np.arange(REQUESTS) % 12 == 0, 0.5, 1.0) * base, 0.0, 0.0)
    errors = pooled([(times, off) for one in rounds for times in one.values()])["latency_s"]
    found = judge(errors, noise(rounds)["latency_s"], BARS["model"])

    assert (found.word, found.why[:3]) == (MISSED, "p95")


def test_noise_is_what_a_perfect_twin_would_show() -> None:
    """The size of real against real is near the median of |x| of the spread, which is 0.6745 sigma."""
    draw = np.random.Generator(np.random.PCG64(4))
    rounds = [{cell: _times(draw, np.ones(2000), 0.03, 0.0) for cell in CELLS} for _ in range(15)]
    found = noise(rounds)["tpot_s"]

    assert found.repeats == 15
    assert found.errors.size(0.5) == pytest.approx(0.6745 * 0.03 * (1 + np.pi / 2 / 14) ** 0.5, rel=0.03)
    assert found.half_width < 0.001


def _costs(sizes: dict[str, float], spread: float, rounds: int = 7) -> dict[str, list[float]]:
    draw = np.random.Generator(np.random.PCG64(0))
    return {policy: list(size * np.exp(spread * draw.standard_normal(rounds))) for policy, size in sizes.items()}


def test_the_order_counts_only_pairs_that_differ() -> None:
    """Of six policies, three pairs are alike; a twin that has the rest right has tau 1, whatever it says of those."""
    sizes = {"a": 1.0, "b": 1.0, "c": 1.5, "d": 1.5, "e": 3.0, "f": 3.0}
    real = {"s": _costs(sizes, 0.01)}
    twin = {"s": {policy: [size + 0.001 * ord(policy)] for policy, size in sizes.items()}}
    found = order(real, twin)

    assert (found.pairs, found.differ, found.tau, found.wrong) == (15, 12, 1.0, ())
    assert found.verdict.word == NOT_SHOWN  # too few, however right
    assert found.regret["s"] < 0.02


@given(st.permutations(range(6)))
def test_tau_is_kendalls(places: list[int]) -> None:
    """Where all pairs differ and nothing ties, tau is scipy's."""
    names = "abcdef"
    real = {"s": _costs({name: 2.0**k for k, name in enumerate(names)}, 0.001)}
    twin = {"s": {name: [1.0 + place] for name, place in zip(names, places, strict=True)}}

    assert order(real, twin).tau == pytest.approx(kendalltau(range(6), places).statistic)


def test_regret_is_what_the_twins_choice_costs() -> None:
    """A twin that takes the second best pays the difference; five scenarios show enough pairs for a verdict."""
    sizes = {"a": 1.0, "b": 1.1, "c": 2.0, "d": 3.0, "e": 5.0, "f": 8.0}
    wrong = {**sizes, "b": 0.9}
    real = {f"s{k}": _costs(sizes, 0.0001) for k in range(5)}
    twin = {f"s{k}": {policy: [size] for policy, size in (wrong if k == 0 else sizes).items()} for k in range(5)}
    found = order(real, twin)

    assert found.verdict.word == PASSED
    assert found.tau == pytest.approx((74 - 1) / 75)
    assert found.wrong == (("s0", "a", "b"),)
    assert found.regret["s0"] == pytest.approx(0.1, abs=0.001)
    assert found.choice.word == MISSED


def test_drift_and_foreign_work_void_a_round() -> None:
    """A token that takes over 3 % longer after the round, or others that take over 5 % of the cores, void it."""
    before = {**PACED, "hop_s": 1e-3, "step_overhead_s": 0.0}
    three = {**before, "hop_s": before["hop_s"] + 0.031 * token_s(before) / 3}

    assert token_s(before) == pytest.approx(3 * 1e-3 + 8 * 2e-3 + 1e-3 + 3 * 1e-3)
    assert drift(before, three) == pytest.approx(0.031)
    assert void(drift(before, three), 0.0).startswith("drift 3.1%")
    assert void(drift(before, before), 0.051).startswith("foreign CPU 5.1%")
    assert void(0.029, 0.049) == ""


def test_foreign_work_is_what_the_machine_did_less_what_we_did() -> None:
    """Idle and waiting for disks are no work, stolen time is; of ten seconds on two cores, three are others'."""
    ticks = "cpu  100 0 300 5000 700 0 0 50 9 9\ncpu0 1 2 3"
    before = cpu(ticks)
    assert before.busy_s * 100 == pytest.approx(450)  # ticks of proc(5) are hundredths on every Linux there is today

    assert foreign_share(Cpu(0.0, 10.0, 4.0), Cpu(10.0, 15.0, 6.0), 2) == pytest.approx(3 / 20)
    assert foreign_share(Cpu(0.0, 10.0, 4.0), Cpu(10.0, 12.0, 7.0), 2) == 0.0
