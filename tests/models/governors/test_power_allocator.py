"""Tests of the power allocator: the rule against the kernel's text, the closed form against the sampled loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.governors.allocated import govern
from models.governors.power_allocator import Gains, kernel_gains, poll, split
from models.thermal.bodies import NETWORKS
from models.thermal.network import modes, propagator, steady_c


def test_default_gains_are_the_kernels() -> None:
    """k_po = sustainable / (control - switch-on), k_pu twice that, k_i a tenth of k_pu."""
    gains = kernel_gains(3.0, 70.0, 85.0)

    assert gains.k_po_w_per_k == pytest.approx(0.2)
    assert gains.k_pu_w_per_k == pytest.approx(0.4)
    assert gains.k_i_w_per_k == pytest.approx(0.04)
    assert gains.cutoff_k == 0.0


def test_a_sample_follows_the_kernels_rule() -> None:
    """Off below switch-on; gains by side; the integral grows on the hot side only and never beyond the maximum."""
    gains = kernel_gains(3.0, 70.0, 85.0)

    off = poll(gains, 69.9, -1.0, 10.0)
    cool = poll(gains, 80.0, -1.0, 10.0)
    hot = poll(gains, 87.0, -1.0, 10.0)
    full = poll(gains, 87.0, -9.95, 10.0)
    capped = poll(gains, 70.0, 3.0, 5.0)

    assert (float(off.budget_w), float(off.integral_w)) == (10.0, 0.0)
    assert float(cool.budget_w) == pytest.approx(3.0 + 0.4 * 5.0 - 1.0)
    assert float(cool.integral_w) == -1.0
    assert float(hot.integral_w) == pytest.approx(-1.0 - 0.04 * 2.0)
    assert float(hot.budget_w) == pytest.approx(3.0 - 0.2 * 2.0 - 1.08)
    assert float(full.integral_w) == -9.95
    assert float(full.budget_w) == 0.0
    assert float(capped.budget_w) == 5.0


def test_a_budget_is_split_by_request_and_the_spare_given_again() -> None:
    """Three actors: shares by request, the first one's surplus goes to the others by their room."""
    granted = split(np.array(6.0), np.array([4.0, 1.0, 1.0]), np.array([2.0, 2.0, 3.0]))

    # 4, 1, 1 wished; the first takes 2; 2 W spare over rooms of 1 and 2.
    assert granted == pytest.approx([2.0, 1.0 + 2.0 / 3.0, 1.0 + 4.0 / 3.0])


@given(st.floats(0, 30), st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 10)), min_size=1, max_size=5))
def test_a_split_gives_no_more_than_there_is(budget_w: float, actors: list[tuple[float, float]]) -> None:
    """Nobody gets more than its maximum, all no more than the budget, and nobody waits while there is spare."""
    requested, most = np.array([a for a, _ in actors]), np.array([b for _, b in actors])

    granted = split(np.array(budget_w), requested, most)

    assert np.all(granted <= most + 1e-9)
    assert granted.sum() <= budget_w + 1e-9
    if requested.sum() > 0:
        assert granted.sum() == pytest.approx(min(budget_w, most.sum()), abs=1e-9)


def sampled(
    gains: Gains, kind: str, air_c: float, fixed_w: float, most_w: float, dt_s: float
) -> tuple[float, np.ndarray]:
    """Run the sampled loop from cold; return mean power granted and the nodes at the end."""
    network = NETWORKS[kind].network
    step = np.array([[float(x) for x in row] for row in propagator(modes(network), gains.period_s).end])
    rest = np.array(steady_c(network, (fixed_w, 0.0, 0.0), air_c))
    per_watt = np.array(steady_c(network, (1.0, 0.0, 0.0), 0.0))
    temps, integral_w, total = np.full(3, air_c), 0.0, 0.0
    count = round(dt_s / gains.period_s)
    for _ in range(count):
        budget, integral = poll(gains, float(temps[0]), integral_w, most_w)
        integral_w, total = float(integral), total + float(budget)
        goal = rest + per_watt * float(budget)
        temps = goal + step @ (temps - goal)
    return total / count, temps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sustainable", "most", "air_c", "period_s", "cutoff_k"),
    [
        ("phone", 2.0, 4.0, 31.0, 0.1, 0.0),  # held at the control temperature
        ("phone", 1.0, 3.3, 35.0, 0.25, 0.0),  # stays in the band between the trips
        ("phone", 0.35, 3.8, 20.0, 0.25, 0.0),  # chatters at switch-on
        ("phone", 0.9, 4.7, 41.0, 0.1, 8.0),  # integrates below the control temperature too
        ("laptop", 1.5, 4.2, 39.0, 0.1, 0.0),
        ("laptop", 0.6, 2.4, 38.0, 0.25, 6.0),
        ("gpu_box", 1.5, 3.0, 40.0, 0.25, 0.0),
    ],
)
def test_the_closed_form_has_the_sampled_loops_mean_power(
    kind: str,
    sustainable: float,
    most: float,
    air_c: float,
    period_s: float,
    cutoff_k: float,
    physics: Callable[..., None],
) -> None:
    """Ten minutes from cold under any regime: mean power within 0.5 % of the loop's, nodes within 0.5 K."""
    top_w = NETWORKS[kind].sustained_w
    plain = kernel_gains(sustainable * top_w, period_s=period_s)
    slow = plain.k_i_w_per_k * (0.2 if cutoff_k else 1.0)
    gains = Gains(
        plain.sustainable_w, plain.control_c, plain.switch_on_c, plain.k_po_w_per_k, plain.k_pu_w_per_k, slow, cutoff_k,
        period_s,
    )  # fmt: skip
    want_w, want_c = sampled(gains, kind, air_c, 0.05 * top_w, most * top_w, 600.0)

    got = govern(gains, NETWORKS[kind].network, (air_c,) * 3, 0.0, 0.05 * top_w, most * top_w, air_c, 600.0)

    off = 100.0 * abs(got.mean_power_w / want_w - 1.0)
    physics("governor: power allocator over 10 min, mean power", "the loop, sampled", off, "%", 1.0)
    assert got.mean_power_w == pytest.approx(want_w, rel=5e-3)
    assert np.allclose(got.temps_c, want_c, rtol=0, atol=0.5)


def test_an_idle_governor_is_the_plain_chain() -> None:
    """Below switch-on nothing is limited: one law, and the nodes are those of the chain alone."""
    network = NETWORKS["phone"].network

    got = govern(kernel_gains(3.0), network, (25.0,) * 3, 0.0, 0.1, 2.0, 25.0, 300.0)

    goal = np.array(steady_c(network, (2.1, 0.0, 0.0), 25.0))
    end = np.array([[float(x) for x in row] for row in propagator(modes(network), 300.0).end])
    assert got.mean_power_w == pytest.approx(2.0, rel=1e-12)
    assert got.pieces == 1
    assert np.allclose(got.temps_c, goal + end @ (25.0 - goal), rtol=0, atol=1e-8)


def test_a_governor_that_was_off_has_forgotten_its_integral() -> None:
    """A die below switch-on that heats up again is governed as if it never had been hot."""
    network = NETWORKS["phone"].network
    law = (kernel_gains(3.0), network, (60.0, 55.0, 50.0))

    fresh = govern(*law, 0.0, 0.1, 12.0, 40.0, 600.0)
    after = govern(*law, -2.5, 0.1, 12.0, 40.0, 600.0)

    assert after == fresh


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kernel_gains(3.0, 85.0, 85.0), "switch_on_c is 85.0; allowed: below control_c"),
        (lambda: kernel_gains(-3.0), "sustainable_w is -3.0; allowed: above 0"),
        (lambda: kernel_gains(float("nan")), "sustainable_w is nan; allowed: finite"),
        (
            lambda: govern(kernel_gains(3.0), NETWORKS["phone"].network, (25.0,) * 3, 0.0, 0.0, 5.0, 25.0, 0.0),
            "dt_s is 0.0; allowed: above 0",
        ),
    ],
)
def test_bad_input_is_named(make: object, message: str) -> None:
    """A bad value raises one line that names it and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
