"""Packs of phones, tablets and laptops: cells as numbers with their sources, in strings and side by side.

A pack is equal cells that share its power equally: the law runs for one cell. A device on mains has no pack: None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from models.arrays import ArrayLike, FloatArray
from models.battery.cell import Cell, Pair

# Kokam SLPB78205130H pouch, LCO with graphite: C/50 discharge at 25 C of the PyBaMM Doyle-Fuller-Newman model with the
# Marquis2019 parameters (PyBaMM 26.10, BSD-3-Clause), the topmost knot raised by 2 mV to the charging voltage.
_LCO_OCV = (
    (0.0, 3.105), (0.01, 3.2915), (0.02, 3.4263), (0.03, 3.5158), (0.05, 3.6126), (0.075, 3.6604), (0.1, 3.6781),
    (0.15, 3.6875), (0.2, 3.6892), (0.25, 3.691), (0.3, 3.6944), (0.35, 3.6996), (0.4, 3.7126), (0.45, 3.732),
    (0.5, 3.7426), (0.55, 3.7514), (0.6, 3.7625), (0.65, 3.7771), (0.7, 3.7962), (0.75, 3.8198), (0.8, 3.8467),
    (0.85, 3.8732), (0.9, 3.9014), (0.95, 4.0049), (0.975, 4.065), (1.0, 4.1),
)  # fmt: skip
# LG M50 21700, NMC811 with graphite and silicon; our fit to the real cells of the PyBOP data set LG_M50_ECM: R0 and the
# fast pair from pulses of 10 s (median of 22 cells), OCV and the slow pair from C/10 to 2C discharges and the rests
# after them. With self-heating, the 12 discharges end at 3 V within 3.2 % of their time in the mean (6.8 % at worst, at
# 0 C), voltage keeps within 26 mV (47 mV), temperature rise within 1.1 K (2.6 K). A default; the calibrated profile
# comes from `twin calibrate battery`. Rates and cells that the data set keeps back were not looked at.
_NMC_OCV = (
    (0.0, 2.5), (0.01, 2.8203), (0.025, 2.9433), (0.05, 3.109), (0.075, 3.1609), (0.1, 3.2725), (0.15, 3.392),
    (0.2, 3.4372), (0.25, 3.4938), (0.3, 3.5464), (0.35, 3.5822), (0.4, 3.6132), (0.45, 3.6489),
    (0.5, 3.6901), (0.55, 3.7442), (0.6, 3.8014), (0.65, 3.8536), (0.7, 3.9), (0.75, 3.9528),
    (0.8, 4.0143), (0.85, 4.0619), (0.9, 4.085), (0.94, 4.1063), (0.97, 4.1527), (1.0, 4.2),
)  # fmt: skip
_NMC_SOC = (0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9, 1)
_NMC_OHM = (
    (0.0347, 0.0347, 0.0347, 0.0347, 0.033, 0.0306, 0.0289, 0.0293, 0.0291, 0.0303, 0.0303, 0.0303),
    (0.0242, 0.0242, 0.0242, 0.0242, 0.0199, 0.0139, 0.0128, 0.0103, 0.0138, 0.0123, 0.0107, 0.0107),
    (0.34, 0.2146, 0.0958, 0.0331, 0.0239, 0.0192, 0.0172, 0.0159, 0.0094, 0.0055, 0.007, 0.0076),
)  # fmt: skip
_NMC_ACTIVATION = (7_840.0, 13_040.0, 26_000.0)
# Chen and Rincon-Mora, IEEE Trans. Energy Conversion 21 (2006), polymer Li-ion TCL PL-383562, 0.85 A.h: each resistance
# is a exp(-b s) + c; time constants 0.04669 x 703.6 = 33 s and 0.04984 x 4475 = 223 s where charge is not low.
_CHEN_AH = 0.85
_CHEN_OHM = ((0.1562, 24.37, 0.07446), (0.3208, 29.14, 0.04669), (6.603, 155.2, 0.04984))
_CHEN_SOC = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.25, 1.0)
_PHONE_AH = 4.5
# Protection switch, sense resistor and contacts between cell and board: an assumption.
_BOARD_OHM = 0.015


def _chen(index: int) -> tuple[float, ...]:
    a, b, c = _CHEN_OHM[index]
    scale = _CHEN_AH / _PHONE_AH  # cells side by side
    return tuple((a * math.exp(-b * soc) + c) * scale for soc in _CHEN_SOC)


LCO_POUCH = Cell(
    name="phone pouch, 4.5 A.h",
    chemistry="lco",
    source=(
        "OCV: PyBaMM Marquis2019 (Kokam LCO pouch) at C/50; resistances: Chen and Rincon-Mora 2006, scaled from 0.85 "
        "to 4.5 A.h, with 15 mohm of board; activation energies: our fit of the LG M50 (NMC), an assumption for LCO"
    ),
    capacity_ah=_PHONE_AH,
    v_min=3.3,  # phones switch off at 3.2 to 3.4 V under load
    v_max=4.1,
    ocv_soc=tuple(soc for soc, _ in _LCO_OCV),
    ocv_v=tuple(volts for _, volts in _LCO_OCV),
    r_soc=_CHEN_SOC,
    r0_ohm=tuple(ohm + _BOARD_OHM for ohm in _chen(0)),
    r0_activation_j_mol=_NMC_ACTIVATION[0],
    pairs=(Pair(33.0, _chen(1), _NMC_ACTIVATION[1]), Pair(223.0, _chen(2), _NMC_ACTIVATION[2])),
    coulomb_efficiency=0.999,  # assumption; high-precision coulometry finds 0.998 to 0.9999 (Smith et al. 2010)
    heat_share=1.0,  # pouch cells against the full model, our comparison
    heat_j_per_k=60.0,  # 65 g at 0.93 J/g/K, within the spread of measured pouch cells
    cooling_w_per_k=0.12,  # both faces, 0.012 m2 at 10 W/m2/K
    charge_c_rate_max=1.0,  # assumption: phones take 5 to 25 W on 17 W.h
)
LG_M50 = Cell(
    name="21700, 5 A.h",
    chemistry="nmc",
    source="our fit of the LG M50: rate tests and pulses at 0 to 45 C of the PyBOP data set LG_M50_ECM (BSD-3-Clause)",
    capacity_ah=5.15,
    v_min=3.0,
    v_max=4.2,
    ocv_soc=tuple(soc for soc, _ in _NMC_OCV),
    ocv_v=tuple(volts for _, volts in _NMC_OCV),
    r_soc=_NMC_SOC,
    r0_ohm=_NMC_OHM[0],
    r0_activation_j_mol=_NMC_ACTIVATION[0],
    pairs=(Pair(20.0, _NMC_OHM[1], _NMC_ACTIVATION[1]), Pair(300.0, _NMC_OHM[2], _NMC_ACTIVATION[2])),
    coulomb_efficiency=0.999,  # as above
    heat_share=0.78,  # our comparison with PyBaMM's LG M50, which leaves out heat of mixing
    heat_j_per_k=60.0,  # 43 to 65 J/K for a 21700
    cooling_w_per_k=0.10,  # rises of 3 to 33 K in the same rate tests, on their bench
    charge_c_rate_max=0.7,  # data sheet of the LG M50
)


@dataclass(frozen=True)
class Pack:
    """Equal cells, strings of `series` side by side `parallel` times.

    Attributes:
        cell: each of them.
        series: cells in a string, 1 or more.
        parallel: strings; may be a fraction, to meet an energy exactly with a reference cell.
        ageing_factor: ageing over that of the published cell (`models.battery.ageing`).
    """

    cell: Cell
    series: int = 1
    parallel: float = 1.0
    ageing_factor: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.series, int) and self.series >= 1):
            raise ValueError(f"series is {self.series}; allowed: whole numbers from 1 up")
        for name, value in (("parallel", self.parallel), ("ageing_factor", self.ageing_factor)):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} is {value}; allowed: numbers above 0")

    @property
    def cells(self) -> float:
        """How many cells: power, energy, heat, heat capacity and cooling of the pack over those of one cell."""
        return self.series * self.parallel

    @property
    def capacity_ah(self) -> float:
        """Charge between 0 and 1 at the pack's terminals, A.h."""
        return self.cell.capacity_ah * self.parallel

    @property
    def energy_wh(self) -> float:
        """Energy between 0 and 1 at open-circuit voltage, W.h."""
        return float(np.trapezoid(self.cell.ocv_v, self.cell.ocv_soc)) * self.cell.capacity_ah * self.cells

    def of_cell_w(self, pack_w: ArrayLike) -> FloatArray:
        """Return the power of one cell, W."""
        return np.asarray(np.asarray(pack_w, dtype=np.float64) / self.cells)

    def terminal_v(self, cell_v: ArrayLike) -> FloatArray:
        """Return the pack's voltage, V."""
        return np.asarray(np.asarray(cell_v, dtype=np.float64) * self.series)

    def terminal_a(self, cell_a: ArrayLike) -> FloatArray:
        """Return the pack's current, A."""
        return np.asarray(np.asarray(cell_a, dtype=np.float64) * self.parallel)


# Energies are usual ones of 2023 to 2025: phones 15 to 20 W.h, tablets 28 to 40, thin laptops 50 to 70. The phone's
# ageing factor lets 800 full cycles keep 80 %, as EU 2023/1670 asks of phones and tablets (tests/models/battery); the
# laptop's cell is taken as the published one: an assumption.
PACKS = {
    "phone": Pack(LCO_POUCH, ageing_factor=0.7),
    "tablet": Pack(LCO_POUCH, parallel=2.0, ageing_factor=0.7),
    "laptop": Pack(LG_M50, series=3),
}


def pack(kind: str, energy_wh: float | None = None) -> Pack | None:
    """Return the pack of a kind of device, scaled to an energy at open-circuit voltage; 0 W.h is on mains: None.

    Raises:
        ValueError: a kind that is not in `PACKS`, an energy that is no number from 0 up.
    """
    if kind not in PACKS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(PACKS)}")
    reference = PACKS[kind]
    if energy_wh is None:
        return reference
    if not (math.isfinite(energy_wh) and energy_wh >= 0.0):
        raise ValueError(f"energy_wh is {energy_wh}; allowed: numbers from 0 up")
    if energy_wh == 0.0:
        return None
    return replace(reference, parallel=reference.parallel * energy_wh / reference.energy_wh)
