"""Constant current is exact: against SciPy's solver under switching loads, splitting, and in energy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.battery.circuit import State, Stop, circuit, open_v, rested, terminal_v
from models.battery.constant_current import constant_current, time_to_soc_s, time_to_voltage_s

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
CURRENTS_A = st.floats(-5.0, 10.0)
TEMPS_C = st.floats(-20.0, 50.0)
SWITCHING = ((8.0, 300.0), (0.5, 700.0), (0.0, 400.0), (12.0, 120.0), (-3.0, 500.0), (5.0, 200.0)) * 4


@pytest.mark.parametrize("temp_c", [25.0, 0.0])
def test_time_to_empty_agrees_with_an_ode_solver_under_switching_loads(cell, reference, temp_c, physics):
    """After 24 changes of load, charge agrees to 1e-9, pair voltages to 1e-8 V, and time to empty to 1e-6 of it."""
    rows, state, other = circuit(cell, temp_c), rested(cell, 0.97), reference(cell, temp_c, 0.97)
    worked_j = 0.0
    for amps, dt_s in SWITCHING[:18]:
        moved = constant_current(rows, state, amps, dt_s)
        state = moved.state
        worked_j += moved.terminal_j[0]
        other.move("cc", amps, dt_s)
    np.testing.assert_allclose(state.soc[0], other.soc, rtol=0, atol=1e-9)
    np.testing.assert_allclose(state.pair_v[:, 0], other.pair_v, rtol=0, atol=1e-8)
    np.testing.assert_allclose(worked_j, other.terminal_j, rtol=1e-9)
    start_s = other.t_s
    assert other.move("cc", 4.0, 1e5, until_v=cell.v_min)
    waited_s = time_to_voltage_s(rows, state, 4.0, cell.v_min)[0]
    off = abs(waited_s / (other.t_s - start_s) - 1.0)
    physics("battery: time to empty, constant current", "SciPy ODE solver, 1e-12", off, "rel.", 1e-6)
    np.testing.assert_allclose(waited_s, other.t_s - start_s, rtol=1e-7)


def test_charging_meets_the_charging_voltage_when_an_ode_solver_does(cell, reference):
    """A charge at C/2 and 10 C meets v_max at the solver's time to 1e-7 of it."""
    other = reference(cell, 10.0, 0.2)
    assert other.move("cc", -2.5, 1e5, until_v=cell.v_max)
    waited_s = time_to_voltage_s(circuit(cell, 10.0), rested(cell, 0.2), -2.5, cell.v_max)
    np.testing.assert_allclose(waited_s[0], other.t_s, rtol=1e-7)


def test_a_dip_inside_an_interval_is_not_missed(two):
    """A voltage that falls to its level and recovers within one piece stops the row at the fall."""
    rows = circuit(two, 25.0)
    # The fast pair still holds charging voltage, the slow one discharging voltage: v dips, then recovers at rest.
    state = State(np.array([0.55]), np.array([[-0.03], [0.08]]))
    times = np.linspace(0.0, 600.0, 6001)
    same = np.zeros(times.size, dtype=int)
    many = constant_current(rows.take(same), state.take(same), 0.0, times)
    volts = terminal_v(rows.take(same), many.state, 0.0)
    dip = volts.argmin()
    assert 0 < dip < times.size - 1
    level = volts.min() + 1e-4
    moved = constant_current(rows, state, 0.0, 600.0, v_low=level)
    assert moved.stop[0] == Stop.V_LOW
    np.testing.assert_allclose(moved.elapsed_s[0], np.interp(-level, -volts[: dip + 1], times[: dip + 1]), atol=0.05)
    np.testing.assert_allclose(terminal_v(rows, moved.state, 0.0)[0], level, atol=1e-12)


@SHARED
@given(
    st.floats(0.0, 1.0), st.lists(CURRENTS_A, min_size=1, max_size=4), TEMPS_C, st.floats(1.0, 9e3), st.floats(0.0, 1.0)
)
def test_splitting_an_interval_changes_rounding_only(two, physics, soc, currents, temp_c, dt_s, share):
    """advance(a + b) is advance(a), then advance(b): charge to 1e-13, voltages to 1e-12, energies to 1e-12."""
    rows, state = circuit(two, temp_c), rested(two, soc)
    for amps in currents[:-1]:
        state = constant_current(rows, state, amps, 50.0).state
    whole = constant_current(rows, state, currents[-1], dt_s, two.v_min, two.v_max)
    first = constant_current(rows, state, currents[-1], share * dt_s, two.v_min, two.v_max)
    second = constant_current(rows, first.state, currents[-1], dt_s - share * dt_s, two.v_min, two.v_max)
    if first.stop[0] != Stop.TIME:  # it stands where it stopped
        still = np.zeros(1)
        second = second._replace(elapsed_s=still, chemical_j=still, terminal_j=still, state=first.state)
    off = np.abs(second.state.soc - whole.state.soc).max()
    physics("battery: cutting an interval, constant current", "the interval uncut", off, "SoC", 1e-12)
    np.testing.assert_allclose(second.state.soc, whole.state.soc, rtol=0, atol=1e-12)
    np.testing.assert_allclose(second.state.pair_v, whole.state.pair_v, rtol=0, atol=1e-11)
    np.testing.assert_allclose(first.elapsed_s + second.elapsed_s, whole.elapsed_s, rtol=1e-11, atol=1e-8)
    for name in ("chemical_j", "terminal_j"):
        parts = getattr(first, name) + getattr(second, name)
        np.testing.assert_allclose(parts, getattr(whole, name), rtol=1e-10, atol=1e-6)


@SHARED
@given(st.floats(0.0, 1.0), CURRENTS_A, TEMPS_C, st.floats(0.0, 9000.0))
def test_charge_and_energy_are_conserved(two, soc, amps, temp_c, dt_s):
    """Charge moved is current times time; chemical energy is OCV over charge; both by another quadrature."""
    moved = constant_current(circuit(two, temp_c), rested(two, soc), amps, dt_s)
    np.testing.assert_allclose((soc - moved.state.soc[0]) * 18_000.0, amps * moved.elapsed_s[0], rtol=1e-9, atol=1e-9)
    path = np.union1d(np.linspace(moved.state.soc[0], soc, 3), np.array(two.ocv_soc))
    path = path[(path >= min(moved.state.soc[0], soc)) & (path <= max(moved.state.soc[0], soc))]
    stored_j = np.trapezoid(open_v(two, path), path) * 18_000.0 * np.sign(soc - moved.state.soc[0])
    np.testing.assert_allclose(moved.chemical_j[0], stored_j, rtol=1e-9, atol=1e-6)
    assert 0.0 <= moved.state.soc[0] <= 1.0


def test_of_what_goes_in_the_cell_keeps_its_coulomb_efficiency(two):
    """An hour of C/5 in, then out: 98 % of the charge arrives, all of it comes out."""
    lossy = replace(two, coulomb_efficiency=0.98)
    rows = circuit(lossy, 25.0)
    filled = constant_current(rows, rested(lossy, 0.3), -1.0, 3600.0)
    np.testing.assert_allclose(filled.state.soc, 0.3 + 0.98 * 0.2, rtol=1e-12)
    np.testing.assert_allclose(
        constant_current(rows, filled.state, 1.0, 3600.0).state.soc, 0.3 - 0.02 * 0.2, rtol=1e-12
    )


def test_rows_do_not_know_each_other(two):
    """A batch gives each row what it gives the row alone, to the last bit."""
    soc, amps, temps = np.linspace(0.05, 0.95, 7), np.linspace(-4.0, 9.0, 7), np.linspace(-10.0, 45.0, 7)
    batch = constant_current(circuit(two, temps), rested(two, soc), amps, 3000.0, 3.0, 4.2)
    for row in range(7):
        alone = constant_current(circuit(two, temps[row]), rested(two, soc[row]), amps[row], 3000.0, 3.0, 4.2)
        assert alone.state.soc[0] == batch.state.soc[row]
        assert alone.stop[0] == batch.stop[row]
        np.testing.assert_array_equal(alone.state.pair_v[:, 0], batch.state.pair_v[:, row])


def test_a_row_that_stopped_at_a_voltage_stays_there(two):
    """Asked again after a stop, from within rounding of the level, it does not slip through to the next knot."""
    soc, amps = np.linspace(0.3, 0.98, 200), np.linspace(0.5, 9.0, 200)
    rows = circuit(two, np.full(200, 20.0))
    first = constant_current(rows, rested(two, soc), amps, 1e6, v_low=3.35)
    again = constant_current(rows, first.state, amps, 1e6, v_low=3.35)
    assert (first.stop == Stop.V_LOW).all()
    assert (again.stop == Stop.V_LOW).all()
    assert again.elapsed_s.max() <= 1e-6


def test_what_never_comes_is_inf(two):
    """A level behind the motion, a rest and a full cell wait for ever; a level already passed is 0."""
    rows, state = circuit(two, 25.0), rested(two, 0.5)
    assert np.isinf(time_to_voltage_s(rows, state, 0.0, 3.0)[0])
    assert np.isinf(time_to_voltage_s(rows, state, -2.0, 4.9)[0])  # full before
    assert time_to_voltage_s(rows, state, 5.0, 4.1)[0] == 0.0
    assert np.isinf(time_to_soc_s(rows, state, 5.0, 0.7)[0])
    np.testing.assert_allclose(time_to_soc_s(rows, state, 5.0, 0.25)[0], 0.25 * 3600.0)
    assert time_to_soc_s(rows, state, 5.0, 0.5)[0] == 0.0


def test_zero_percent_is_a_value(two):
    """An empty cell rests at 0 and charges from 0; a discharge does not move it."""
    rows, empty = circuit(two, 25.0), rested(two, 0.0)
    assert constant_current(rows, empty, 0.0, 1e6).state.soc[0] == 0.0
    drawn = constant_current(rows, empty, 1.0, 10.0)
    assert (drawn.state.soc[0], drawn.elapsed_s[0], Stop(drawn.stop[0])) == (0.0, 0.0, Stop.SOC)
    np.testing.assert_allclose(constant_current(rows, empty, -1.0, 180.0).state.soc[0], 0.01)
