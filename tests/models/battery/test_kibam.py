"""KiBaM against published lifetimes, its published closed form, a solver, and the bucket that it tends to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from models.battery.circuit import Stop
from models.battery.kibam import Levels, Wells, available_c, draw, level, time_to_empty_s

ITSY = Wells(capacity_ah=5.5 / 60.0, available=0.166, rate_per_s=0.122 / 60.0)
LEAD = Wells(capacity_ah=7.2, available=0.4, rate_per_s=2e-4)


@pytest.mark.parametrize(
    ("load_ma", "minutes"),
    [
        ([250], 4.53), ([500], 2.02), ([500, 250], 2.58),
        ([250, 0], 10.80), ([500, 0], 4.30), ([500, 0, 250, 0], 4.80), ([250, 0, 0], 21.86), ([500, 0, 0], 6.53),
    ],
)  # fmt: skip
def test_lifetimes_are_those_published(load_ma, minutes, physics):
    """Battery B1 (5.5 A.min) of Jongerden et al., Maximizing System Lifetime by Battery Scheduling (DSN 2009): minutes
    under jobs of one minute, repeated, to the two digits that they print."""
    levels, lived_s = level(ITSY, 1.0), 0.0
    for minute in range(1000):
        drawn = draw(ITSY, levels, load_ma[minute % len(load_ma)] / 1000.0, 60.0)
        levels, lived_s = drawn.levels, lived_s + drawn.elapsed_s[0]
        if drawn.stop[0] == Stop.SOC:
            break
    off = abs(lived_s / 60.0 - minutes)
    physics("battery: KiBaM, lifetimes under jobs", "Jongerden et al. 2009, as printed", off, "min", 0.005)
    assert round(lived_s / 60.0, 2) == minutes


def test_the_published_closed_form(physics):
    """y1(t) is Manwell and McGowan's formula (1993), y1 and y2 together lose I t."""
    c, k = LEAD.available, LEAD.rate_per_s
    start, amps, t = Levels(np.array([15_000.0]), np.array([3_000.0])), 2.5, 1234.0
    y0, y1 = 15_000.0, float(available_c(LEAD, start)[0])
    fade = np.exp(-k * t)
    published = y1 * fade + (y0 * k * c - amps) * (1 - fade) / k - amps * c * (k * t - 1 + fade) / k
    drawn = draw(LEAD, start, amps, t)
    off = abs(available_c(LEAD, drawn.levels)[0] / published - 1.0)
    physics("battery: KiBaM, charge in the first well", "Manwell, McGowan 1993, formula", off, "rel.", 1e-12)
    np.testing.assert_allclose(available_c(LEAD, drawn.levels)[0], published, rtol=1e-12)
    np.testing.assert_allclose(drawn.levels.charge_c[0], y0 - amps * t)


def test_time_to_empty_agrees_with_an_ode_solver_under_switching_loads(physics):
    """Two wells as printed, integrated by SciPy through five loads: time to empty within 1e-9 (asked for: 1e-6)."""
    c, k = LEAD.available, LEAD.rate_per_s
    flow = k * c * (1.0 - c)

    def rates(_, y, amps):
        across = flow * (y[1] / (1.0 - c) - y[0] / c)
        return [-amps + across, -across]

    y, levels = np.array([c, 1.0 - c]) * 7.2 * 3600.0, level(LEAD, 1.0)
    for amps, dt_s in ((3.0, 900.0), (0.0, 600.0), (6.0, 200.0), (-2.0, 300.0), (1.0, 2000.0)):
        y = solve_ivp(rates, (0.0, dt_s), y, args=(amps,), method="DOP853", rtol=1e-12, atol=1e-9).y[:, -1]
        levels = draw(LEAD, levels, amps, dt_s).levels
    np.testing.assert_allclose(available_c(LEAD, levels)[0], y[0], rtol=1e-10)
    empty = lambda _, y, amps: y[0]  # noqa: E731
    empty.terminal = True
    answer = solve_ivp(rates, (0.0, 1e5), y, args=(4.0,), method="DOP853", rtol=1e-12, atol=1e-9, events=empty)
    waited_s = time_to_empty_s(LEAD, levels, 4.0)[0]
    off = abs(waited_s / answer.t[-1] - 1.0)
    physics("battery: KiBaM, time to empty", "SciPy ODE solver, 1e-12", off, "rel.", 1e-6)
    np.testing.assert_allclose(waited_s, answer.t[-1], rtol=1e-9)


def test_fast_wells_are_a_bucket_and_slow_ones_a_smaller_bucket():
    """With k' to infinity all charge serves, with k' to 0 the first well's alone."""
    amps = 7.0
    fast = time_to_empty_s(Wells(7.2, 0.4, 1e6), level(LEAD, 1.0), amps)
    slow = time_to_empty_s(Wells(7.2, 0.4, 1e-12), level(LEAD, 1.0), amps)
    np.testing.assert_allclose(fast, 7.2 * 3600.0 / amps, rtol=1e-9)
    np.testing.assert_allclose(slow, 0.4 * 7.2 * 3600.0 / amps, rtol=1e-6)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(0.0, 1.0), st.floats(-10.0, 20.0), st.floats(-10.0, 20.0), st.floats(0.0, 20_000.0), st.floats(0.0, 1.0)
)
def test_splitting_changes_rounding_only_and_charge_is_conserved(physics, soc, before_a, amps, dt_s, share):
    """advance(a + b) is advance(a), then advance(b); charge is I t; the first well stays between empty and full."""
    levels = draw(LEAD, level(LEAD, soc), before_a, 300.0).levels
    whole = draw(LEAD, levels, amps, dt_s)
    first = draw(LEAD, levels, amps, share * dt_s)
    if first.stop[0] == Stop.TIME:
        second = draw(LEAD, first.levels, amps, dt_s - share * dt_s)
        off, full_c = np.abs(second.levels.charge_c - whole.levels.charge_c).max(), LEAD.capacity_ah * 3600.0
        physics("battery: cutting an interval, KiBaM", "the interval uncut", off / full_c, "SoC", 1e-7 / full_c)
        np.testing.assert_allclose(second.levels.charge_c, whole.levels.charge_c, rtol=0, atol=1e-7)
        np.testing.assert_allclose(second.levels.gap_c, whole.levels.gap_c, rtol=0, atol=1e-6)
    np.testing.assert_allclose(levels.charge_c - whole.levels.charge_c, amps * whole.elapsed_s, rtol=0, atol=1e-7)
    brim = LEAD.available * LEAD.capacity_ah * 3600.0
    assert -1e-6 <= available_c(LEAD, whole.levels)[0] <= brim + 1e-6


def test_rest_recovers_what_a_load_left_bound():
    """An empty first well fills again at rest: the recovery effect."""
    drawn = draw(ITSY, level(ITSY, 1.0), 0.5, 1e6)
    assert drawn.stop[0] == Stop.SOC
    np.testing.assert_allclose(available_c(ITSY, drawn.levels), 0.0, atol=1e-9)
    assert available_c(ITSY, draw(ITSY, drawn.levels, 0.0, 600.0).levels)[0] > 10.0


def test_wells_that_cannot_be_are_refused():
    """One line names the field; 0 % is a level like any other."""
    with pytest.raises(ValueError, match=r"available is 1.0; allowed: numbers above 0, below 1"):
        Wells(1.0, 1.0, 1e-3)
    with pytest.raises(ValueError, match=r"rate_per_s is nan"):
        Wells(1.0, 0.5, float("nan"))
    with pytest.raises(ValueError, match=r"soc of row 0 is -0.1"):
        level(LEAD, -0.1)
    assert time_to_empty_s(LEAD, level(LEAD, 0.0), 1.0)[0] == 0.0
    assert np.isinf(time_to_empty_s(LEAD, level(LEAD, 0.5), 0.0)[0])
