"""Heat and temperature of a cell: exact balance, and the lump's closed form against a solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from models.battery.charging import advance
from models.battery.circuit import circuit, rested
from models.battery.heat import mean_heat_w, temperature_c

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


@SHARED
@given(st.floats(0.0, 1.0), st.floats(-30.0, 25.0), st.floats(0.0, 45.0), st.floats(1.0, 9000.0))
def test_chemical_energy_is_terminal_energy_and_heat(two, soc, watts, temp_c, dt_s):
    """At share 1 the balance closes to rounding; another share scales the heat alone."""
    moved = advance(circuit(two, temp_c), rested(two, soc), watts, dt_s)
    heat_j = mean_heat_w(two, moved) * moved.elapsed_s
    np.testing.assert_allclose(moved.terminal_j + heat_j, moved.chemical_j, rtol=1e-12, atol=1e-7)
    part_j = mean_heat_w(replace(two, heat_share=0.8), moved) * moved.elapsed_s
    np.testing.assert_allclose(part_j, 0.8 * heat_j, atol=1e-12)


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
