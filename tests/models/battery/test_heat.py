"""Heat and temperature of a cell: exact balance, and the lump's closed form against a solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.integrate import simpson, solve_ivp

from models.battery.charging import advance
from models.battery.circuit import State, circuit, rested
from models.battery.constant_current import constant_current
from models.battery.heat import heat_now_w, mean_heat_w, temperature_c

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


@SHARED
@given(st.floats(0.0, 1.0), st.floats(-30.0, 25.0), st.floats(0.0, 45.0), st.floats(1.0, 9000.0))
def test_chemical_energy_is_terminal_energy_and_heat(two, soc, watts, temp_c, dt_s):
    """At share 1 the balance closes to rounding; another share scales the heat alone."""
    rows, state = circuit(two, temp_c), rested(two, soc)
    moved = advance(rows, state, watts, dt_s)
    heat_j = mean_heat_w(rows, state, moved) * moved.elapsed_s
    np.testing.assert_allclose(moved.terminal_j + heat_j, moved.chemical_j, rtol=1e-12, atol=1e-7)
    part_j = mean_heat_w(circuit(replace(two, heat_share=0.8), temp_c), state, moved) * moved.elapsed_s
    np.testing.assert_allclose(part_j, 0.8 * heat_j, atol=1e-12)


@SHARED
@given(
    st.floats(0.071, 0.079) | st.floats(0.621, 0.679), st.floats(-6.0, 6.0), st.floats(1.0, 60.0), st.floats(-0.1, 0.1)
)
def test_heat_of_a_constant_current_is_the_integral_of_the_heat_now(hot, soc, amps, dt_s, pair_v):
    """The mean heat of shares and entropy is Simpson's integral of the heat at each instant, to 1e-5 of the most.

    (Between two knots of the curves, which 6 A do not leave in a minute; pairs start charged.)
    """
    rows, state = circuit(hot, 15.0), State(np.array([soc]), np.array([[pair_v], [0.5 * pair_v]]))
    moved = constant_current(rows, state, amps, dt_s)
    part = circuit(hot, np.full(501, 15.0))
    many = state.take(np.zeros(501, dtype=int))
    times = np.linspace(0.0, float(moved.elapsed_s[0]), 501)
    now = heat_now_w(part, constant_current(part, many, amps, times).state, np.full(501, amps))
    scale = 1e-6 + 1e-5 * float(np.abs(now).max())
    assert abs(float(mean_heat_w(rows, state, moved)[0]) * times[-1] - simpson(now, x=times)) <= scale * times[-1]


def test_entropy_warms_a_charge_by_what_it_cools_a_discharge(hot):
    """Where resistance hardly counts, the heat of a slow cycle is T dOCV/dT of the charge moved, there and back."""
    slow = replace(hot, entropic_soc=(0.0, 1.0), entropic_v_per_k=(3e-4, 3e-4))
    rows, state = circuit(slow, 25.0), rested(slow, 0.6)
    out = constant_current(rows, state, 1e-4, 3600.0)
    back = constant_current(rows, rested(slow, out.state.soc), -1e-4, 3600.0)
    cooled, warmed = float(mean_heat_w(rows, state, out)[0]), float(mean_heat_w(rows, out.state, back)[0])
    np.testing.assert_allclose([cooled, warmed], [-298.15 * 3e-4 * 1e-4, 298.15 * 3e-4 * 1e-4], rtol=1e-3)


def test_temperature_agrees_with_an_ode_solver_and_splits(two, physics):
    """One lump under held heat agrees with SciPy to 1e-9 K; two halves are the whole; insulated it only warms."""
    answer = solve_ivp(
        lambda _, t: (1.5 - 0.05 * (t - 10.0)) / 45.0, (0.0, 2000.0), [25.0], rtol=1e-12, atol=1e-12, method="DOP853"
    )
    whole = temperature_c(two, 25.0, 1.5, 10.0, 2000.0)
    off = np.abs(whole - answer.y[0, -1]).max()
    physics("battery: temperature of the lump", "SciPy ODE solver, 1e-12", off, "K", 1e-6)
    np.testing.assert_allclose(whole, answer.y[0, -1], rtol=0, atol=1e-9)
    half = temperature_c(two, temperature_c(two, 25.0, 1.5, 10.0, 700.0), 1.5, 10.0, 1300.0)
    np.testing.assert_allclose(half, whole, rtol=0, atol=1e-12)
    np.testing.assert_allclose(temperature_c(replace(two, cooling_w_per_k=0.0), 25.0, 1.5, 10.0, 300.0), 35.0)
