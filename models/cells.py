"""Cell chemistries as numbers, each with its source. The laws are in battery and charge."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One reference cell.

    Attributes:
        capacity_ah: capacity between full and the lower voltage limit, A.h.
        resistance_ohm_25c: quasi-steady resistance at 25 C, ohm: ohmic, charge transfer and diffusion
            together, because the law keeps no separate relaxation states.
        activation_j_mol: how resistance follows temperature (Arrhenius), J/mol.
        v_max: charging voltage, V.
        v_min: voltage under load at which the device switches off, V.
        charge_c_rate_max: largest charging current over capacity, 1/h.
        knots: (state of charge, open-circuit voltage in V), rising in both.
    """

    capacity_ah: float
    resistance_ohm_25c: float
    activation_j_mol: float
    v_max: float
    v_min: float
    charge_c_rate_max: float
    knots: tuple[tuple[float, float], ...]


CELLS = {
    # LG M50 21700, NMC811 with graphite-silicon. Knots: C/50 discharge at 25 C of the PyBaMM
    # Doyle-Fuller-Newman model with the OKane2022 parameters, the topmost raised by 5 mV to the charging
    # voltage. Resistance and activation energy: our fit of the voltage gap between C/10 and C/2 to 2C
    # discharges of the real cell at 0 to 45 C over 10-85 % of charge (PyBOP data set LG_M50_ECM,
    # BSD-3-Clause). Phones switch off at 3.2-3.4 V under load, hence v_min. Charging at 1 C is an assumption
    # (phones take 5-25 W on 15-20 W.h).
    "nmc": Cell(
        capacity_ah=5.11,
        resistance_ohm_25c=0.0508,
        activation_j_mol=10_050.0,
        v_max=4.2,
        v_min=3.2,
        charge_c_rate_max=1.0,
        knots=(
            (0.0, 2.5),
            (0.01, 2.7025),
            (0.02, 2.9009),
            (0.03, 3.0034),
            (0.05, 3.1204),
            (0.075, 3.2168),
            (0.1, 3.3065),
            (0.15, 3.4326),
            (0.2, 3.4801),
            (0.25, 3.526),
            (0.3, 3.5805),
            (0.35, 3.623),
            (0.4, 3.6604),
            (0.45, 3.6999),
            (0.5, 3.745),
            (0.55, 3.7926),
            (0.6, 3.835),
            (0.65, 3.8815),
            (0.7, 3.9383),
            (0.75, 3.9846),
            (0.8, 4.0328),
            (0.85, 4.0736),
            (0.9, 4.0906),
            (0.95, 4.1144),
            (0.975, 4.1443),
            (1.0, 4.2),
        ),
    ),
    # A123 LFP with graphite, 2.06 A.h as measured. Knots: C/30 discharge at 25 C (esctoolbox-python
    # `ocv_data`, MIT); full is 3.6 V, the topmost knot raised by 20 mV to it. Resistance is an assumption (20
    # mohm, a power cell); the activation energy is taken from the NMC cell, an assumption too.
    "lfp": Cell(
        capacity_ah=2.06,
        resistance_ohm_25c=0.020,
        activation_j_mol=10_050.0,
        v_max=3.6,
        v_min=2.5,
        charge_c_rate_max=1.0,
        knots=(
            (0.0, 2.0466),
            (0.01, 2.6951),
            (0.02, 2.8265),
            (0.03, 2.908),
            (0.05, 3.0138),
            (0.075, 3.1011),
            (0.1, 3.163),
            (0.15, 3.1981),
            (0.2, 3.2217),
            (0.25, 3.2375),
            (0.3, 3.2507),
            (0.4, 3.2831),
            (0.5, 3.2915),
            (0.6, 3.2975),
            (0.65, 3.3028),
            (0.7, 3.3106),
            (0.8, 3.3319),
            (0.9, 3.34),
            (0.95, 3.3533),
            (0.98, 3.4034),
            (0.99, 3.456),
            (1.0, 3.6),
        ),
    ),
}
