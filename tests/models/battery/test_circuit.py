"""The circuit's coefficients and its boundary: what a cell may be, and what is refused in one line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.battery.cell import Pair
from models.battery.circuit import circuit, current_for_power, open_v, resistances_ohm, rested, terminal_v


def test_tables_are_straight_between_knots_and_constant_beyond(two):
    """At 25 C a knot has its value and a middle the mean; beyond the first and the last knot the table holds."""
    rows = circuit(two, np.full(6, 25.0))
    ohm = resistances_ohm(rows, np.array([0.1, 0.33, 0.65, 1.0, 0.05, 0.0]))
    np.testing.assert_allclose(ohm[0], [0.03, 0.025, 0.022, 0.024, 0.06, 0.09])
    np.testing.assert_allclose(ohm[1], [0.02, 0.015, 0.012, 0.014, 0.04, 0.06])
    short = replace(two, r_soc=(0.2, 0.8), r0_ohm=(0.02, 0.03), pairs=())
    np.testing.assert_allclose(resistances_ohm(circuit(short, np.full(2, 25.0)), np.array([0.0, 1.0]))[0], [0.02, 0.03])


def test_resistance_follows_arrhenius(two):
    """Resistance over that at 25 C is exp(Ea / R (1/T - 1/298.15)), each element with its own Ea; age multiplies it."""
    ohm = resistances_ohm(circuit(two, [5.0, 25.0], resistance_share=[1.0, 1.5]), np.array([0.5, 0.5]))
    grown = np.exp(np.array([20e3, 30e3, 30e3]) / 8.314462618 * (1 / 278.15 - 1 / 298.15))
    np.testing.assert_allclose(ohm[:, 0] / (ohm[:, 1] / 1.5), grown)


def test_the_current_of_a_power_gives_that_power(two):
    """V I = P at both signs, and where the root is complex the current is the one of most power, E / (2 R0)."""
    source, r0_ohm = np.array([3.7, 3.7, 3.7, 3.0]), np.array([0.03, 0.03, 0.03, 0.1])
    power_w = np.array([8.0, -12.0, 1e-9, 1e3])
    amps = current_for_power(source, r0_ohm, power_w)
    np.testing.assert_allclose(((source - r0_ohm * amps) * amps)[:3], power_w[:3], rtol=1e-12)
    assert np.isfinite(amps).all()


def test_terminal_voltage_is_ocv_less_every_drop(two):
    """At rest the terminals show OCV; under a current R0 I less, at once."""
    rows, state = circuit(two, 25.0), rested(two, 0.5)
    assert terminal_v(rows, state, 0.0)[0] == open_v(two, 0.5)
    np.testing.assert_allclose(terminal_v(rows, state, 4.0)[0], 3.745 - 4.0 * 0.022)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity_ah": float("nan")}, r"cell 'two pairs': capacity_ah is nan; allowed"),
        ({"capacity_ah": 0.0}, r"capacity_ah is 0.0; allowed"),
        ({"v_max": 2.9}, r"v_max is 2.9; allowed: numbers from 3 "),
        ({"r0_knee_v": 0.0}, r"r0_knee_v is 0.0; allowed"),
        ({"r0_knee_v": float("nan")}, r"r0_knee_v is nan; allowed"),
        ({"heat_share": float("inf")}, r"heat_share is inf"),
        ({"coulomb_efficiency": 1.1}, r"coulomb_efficiency is 1.1; allowed: numbers from 0.5 to 1"),
        ({"ocv_soc": (0.0, 0.6, 0.5, 1.0), "ocv_v": (3.0, 3.5, 3.6, 4.0)}, r"ocv_soc\[2\] is 0.5 after 0.6"),
        ({"ocv_soc": (0.1, 1.0), "ocv_v": (3.0, 4.0)}, r"ocv_soc has 2 knots; allowed: two or more, from 0 to 1"),
        ({"ocv_soc": (0.0, 1.0), "ocv_v": (3.5, 3.5)}, r"ocv_v\[1\] is 3.5 after 3.5"),
        ({"ocv_soc": (0.0, 0.5, 1.0), "ocv_v": (3.0, 4.0)}, r"ocv_v has 2 values; allowed: 3"),
        ({"r0_ohm": (0.03, -0.01, 0.02, 0.02, 0.02, 0.02)}, r"r0_ohm\[1\] is -0.01; allowed: numbers above 0"),
        ({"r_soc": (0.1, 0.33, 0.3, 0.5, 0.8, 1.0)}, r"r_soc\[2\] is 0.3 after 0.33"),
        ({"r_soc": (0.1, 0.33, 0.5, 0.7, 0.8, 1.2)}, r"r_soc is .*between 0 and 1"),
        ({"pairs": (Pair(0.0, (0.01,) * 6, 2e4),)}, r"pairs\[0\].tau_s is 0.0"),
        ({"pairs": (Pair(9.0, (0.01,) * 4, 2e4),)}, r"pairs\[0\].r_ohm has 4 values; allowed: 6"),
        ({"pairs": (Pair(9.0, (0.01,) * 6, -1.0),)}, r"pairs\[0\].activation_j_mol is -1.0"),
        ({"pairs": (Pair(9.0, (0.01,) * 6, 2e4), Pair(8.0, (0.01,) * 6, 2e4))}, r"\[1\].tau_s is 8.0 after 9.0; allow"),
        ({"pairs": (Pair(9.0, (0.01,) * 6, 2e4),) * 6}, r"pairs has 6; allowed: 3 at most"),
        ({"pairs": (Pair(9.0, (0.01,) * 6, 2e4, 1.2),)}, r"pairs\[0\].heat_share is 1.2; allowed: 0 to 1"),
        ({"entropic_soc": (0.5, 0.2), "entropic_v_per_k": (0.0, 0.0)}, r"entropic_soc\[1\] is 0.2 after 0.5"),
        ({"entropic_soc": (0.5, 1.2), "entropic_v_per_k": (0.0, 0.0)}, r"entropic_soc is .*between 0 and 1"),
        ({"entropic_soc": (0.5,)}, r"entropic_v_per_k has 0 values; allowed: 1"),
        ({"entropic_soc": (0.5,), "entropic_v_per_k": (0.3,)}, r"entropic_v_per_k\[0\] is 0.3; allowed"),
        ({"entropic_soc": (0.5,), "entropic_v_per_k": (float("nan"),)}, r"entropic_v_per_k\[0\] is nan"),
    ],
)
def test_a_cell_that_cannot_be_is_refused_by_its_field(two, change, message):
    """One clear line names the cell, the field, the value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        replace(two, **change)


def test_rows_that_cannot_be_are_refused_by_their_row(two):
    """Charge outside 0..1 and temperatures that are no numbers name row and value; 0 % is allowed."""
    with pytest.raises(ValueError, match=r"soc of row 1 is 1.2; allowed: numbers from 0 to 1"):
        rested(two, [0.0, 1.2])
    with pytest.raises(ValueError, match=r"soc of row 0 is nan"):
        rested(two, [float("nan")])
    with pytest.raises(ValueError, match=r"temp_c of row 2 is inf"):
        circuit(two, [20.0, 25.0, float("inf")])
    with pytest.raises(ValueError, match=r"capacity_share of row 0 is 0.0"):
        circuit(two, 25.0, capacity_share=0.0)
