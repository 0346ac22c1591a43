"""A cell between a load and a charger: the least of three currents, JEITA's limits, and what a full cell does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.battery.charging import advance
from models.battery.circuit import Stop, circuit, rested
from models.battery.constant_power import constant_power

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


@pytest.mark.parametrize(
    ("soc", "watts", "limit_a"),
    [
        (0.05, 15.0, 4.0),  # the limit, then the power, then the voltage
        (0.4, 60.0, 2.5),  # the limit, then the voltage
        (0.3, 8.0, 5.0),  # the power, then the voltage
        (0.02, 12.0, 3.3),
    ],
)
def test_charging_follows_the_least_current_as_an_ode_solver_does(flat, reference, soc, watts, limit_a, physics):
    """Through every change of law, charge agrees with the solver to 2e-6 at any time, and the cut-off to 1e-5."""
    rows, other = circuit(flat, 20.0), reference(flat, 20.0, soc)
    law = (limit_a, watts, flat.v_max)
    for dt_s in (900.0, 1300.0, 1700.0):
        other.move("charge", law, dt_s)
        moved = advance(rows, rested(flat, soc), -watts, other.t_s, limit_a)
        np.testing.assert_allclose(moved.state.soc[0], other.soc, rtol=0, atol=2e-6)
    assert other.move("charge", law, 1e6, until_a=0.25)
    moved = advance(rows, rested(flat, soc), -watts, 1e6, limit_a)
    assert moved.stop[0] == Stop.CURRENT
    off = abs(moved.elapsed_s[0] / other.t_s - 1.0)
    physics("battery: charge to C/20 through limit, power and voltage", "SciPy ODE solver, 1e-12", off, "rel.", 1e-5)
    np.testing.assert_allclose(moved.elapsed_s[0], other.t_s, rtol=1e-5)
    np.testing.assert_allclose(moved.state.pair_v, 0.0, atol=1e-12)  # it rested for the rest of the time


def test_no_charge_in_the_cold_nor_in_the_heat(two):
    """Below 0 C and above 45 C a charger moves nothing; a discharge goes on."""
    rows = circuit(two, [-0.1, 0.0, 45.0, 45.1])
    moved = advance(rows, rested(two, [0.5] * 4), -5.0, 600.0)
    assert (moved.elapsed_s > 0.0).tolist() == [False, True, True, False]
    assert (advance(rows, rested(two, [0.5] * 4), 5.0, 600.0).state.soc < 0.5).all()


def test_a_full_cell_takes_nothing_and_an_empty_one_gives_nothing(two):
    """At 100 % the charger is refused, at 0 % the load; neither moves charge."""
    rows = circuit(two, 25.0)
    full = advance(rows, rested(two, 1.0), -10.0, 600.0)
    assert (full.state.soc[0], full.elapsed_s[0], Stop(full.stop[0])) == (1.0, 0.0, Stop.CURRENT)
    empty = advance(rows, rested(two, 0.0), 5.0, 600.0)
    assert (empty.state.soc[0], empty.elapsed_s[0], Stop(empty.stop[0])) == (0.0, 0.0, Stop.V_LOW)


def test_a_charger_takes_over_from_a_polarised_cell(two):
    """From a hard charge cut short to a weak charger, and from a hard load to any, charge only rises."""
    rows = circuit(two, 25.0)
    hard = advance(rows, rested(two, 0.85), -25.0, 300.0).state
    for state in (hard, constant_power(rows, rested(two, 0.4), 30.0, 300.0, two.v_min).state):
        for watts in (0.05, 1.0, 10.0, 80.0):
            moved = advance(rows, state, -watts, 1800.0)
            assert moved.state.soc[0] >= state.soc[0]


@SHARED
@given(
    st.floats(0.0, 1.0), st.floats(-40.0, 25.0), st.floats(0.0, 45.0), st.floats(1.0, 12_000.0), st.floats(0.01, 0.99)
)
def test_splitting_up_to_the_stop(two, soc, watts, temp_c, dt_s, share):
    """advance(a + b) is advance(a), then advance(b), to 1e-6 of charge, as long as nothing stopped."""
    rows, state = circuit(two, temp_c), rested(two, soc)
    whole = advance(rows, state, watts, dt_s)
    if whole.stop[0] == Stop.TIME:
        first = advance(rows, state, watts, share * dt_s)
        second = advance(rows, first.state, watts, dt_s - share * dt_s)
        np.testing.assert_allclose(second.state.soc, whole.state.soc, rtol=0, atol=1e-6)
    assert 0.0 <= whole.state.soc[0] <= 1.0
    lost_j = whole.chemical_j[0] - whole.terminal_j[0]
    assert lost_j >= -1e-6  # from rest, every law loses energy as heat


def test_the_rows_of_a_batch_may_each_do_something_else(two):
    """Loads, chargers and rests in one batch give each row what it gives alone."""
    soc, watts = np.linspace(0.0, 1.0, 11), np.array([5.0, -5.0, 0.0, -30.0, 12.0, -0.5, 3.0, -12.0, 0.0, -20.0, -8.0])
    lossy = replace(two, coulomb_efficiency=0.995)
    batch = advance(circuit(lossy, np.full(11, 20.0)), rested(lossy, soc), watts, 3000.0)
    for row in range(11):
        alone = advance(circuit(lossy, 20.0), rested(lossy, soc[row]), watts[row], 3000.0)
        np.testing.assert_allclose(alone.state.soc[0], batch.state.soc[row], rtol=0, atol=1e-12)
        assert alone.stop[0] == batch.stop[row]


def test_near_empty_a_taper_gives_way_to_the_chargers_power(two):
    """Where resistance falls with charge, a cell at v_max soon takes what the charger gives, and never more."""
    moved = advance(circuit(two, 10.0), rested(two, 0.0), -19.0, 387.0)

    assert -19.0 * 387.0 * (1.0 + 1e-9) <= moved.terminal_j[0] < -18.5 * 387.0
