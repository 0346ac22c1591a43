"""Resistance below the last load that was measured, by a stated rule.

Near empty most of the slow overpotential is lithium missing at the surface: the voltage there is that of a lower
charge, so that the resistance grows with the slope of the open-circuit curve. Not in proportion, as the slope over that
lag is less than at the knee's steepest: the square root is taken. It starts from the median of the lowest knots, as the
last knot alone is the worst known of all. R0 and fast pairs, which are ohmic and kinetic, stay as at the last knot.

Found on one cell simulated elsewhere (Marquis et al. 2019 in PyBaMM's DFN, loads to 20 % of charge only), R0 straight.
Time to cut-off at 25 C, C/5 to 1C: 0.3 to 1.4 % too long with constant resistance, 3 to 5 % too short with the slope
itself, within 0.15 % with this rule. At 5 C it is too strong: 0.6 to 2.7 % too short, where constant resistance is 0.6
to 2.1 % too long. With R0 that bends (`circuit_fit.KNEE_V`) the rule is 0.1 to 0.6 % too long at 25 C, 0.2 to 0.7 % too
short at 5 C.
"""

from __future__ import annotations

import numpy as np

SLOW_TAU_S = 30.0  # pairs from here up stand for diffusion
KNOTS_SOC = (0.0, 0.02, 0.04, 0.07, 0.1, 0.15)  # where the rule is laid down, below the last load
_LOWEST_KNOTS = 4  # 20 to 50 % of charge where loads end at 20 %
_SPAN_SOC = 0.02  # slopes are taken over this much charge to either side


def below_last_load(
    r_soc: np.ndarray, r_ohm: np.ndarray, tau_s: np.ndarray, ocv_soc: np.ndarray, ocv_v: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return knots and tables with the rule's values below the first knot.

    Args:
        r_soc, r_ohm: knots and (1 + pairs, knots) resistances as fitted.
        tau_s: (pairs), s.
        ocv_soc, ocv_v: open-circuit curve.
    """
    first = float(r_soc[0])
    added = np.array([soc for soc in KNOTS_SOC if soc < first - 0.01])
    if not added.size:
        return r_soc, r_ohm

    def slope(soc: np.ndarray) -> np.ndarray:
        low, high = np.clip(soc - _SPAN_SOC, 0.0, 1.0), np.clip(soc + _SPAN_SOC, 0.0, 1.0)
        return np.asarray((np.interp(high, ocv_soc, ocv_v) - np.interp(low, ocv_soc, ocv_v)) / (high - low))

    here = float(slope(first + np.array([-_SPAN_SOC, 0.0, _SPAN_SOC])).mean())
    growth = np.sqrt(np.maximum(slope(added) / max(here, 1e-6), 1.0))
    slow = np.append(False, tau_s >= SLOW_TAU_S)[:, None]
    from_ohm = np.median(r_ohm[:, :_LOWEST_KNOTS], axis=1)[:, None]
    grown = np.where(slow, from_ohm * growth, r_ohm[:, :1])
    return np.append(added, r_soc), np.concatenate([grown, r_ohm], axis=1)
