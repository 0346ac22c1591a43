"""KiBaM, the kinetic battery model: two wells of charge, one that the load draws from and one that refills it. Exact.

Manwell and McGowan, Solar Energy 50 (1993): y1' = -I + k (h2 - h1), y2' = -k (h2 - h1), h1 = y1 / c, h2 = y2 / (1 - c).
In the coordinates of Jongerden and Haverkort (IET Software 3, 2009) the two motions part, charge y = y1 + y2 and height
difference d = h2 - h1:

  y' = -I,   d' = I / c - k' d,   k' = k / (c (1 - c)),   y1 = c (y - (1 - c) d)

so constant current is one line and one exponential, and the battery is empty when y1 = 0, though bound charge is left.
It has no voltage and no heat; it serves lead-acid (UPS), and fleets that need the recovery effect at two numbers a row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.arrays import ArrayLike, FloatArray, IntArray
from models.battery.circuit import FOREVER_S, Stop
from models.battery.crossing import first_fall


@dataclass(frozen=True)
class Wells:
    """A battery as two wells.

    Attributes:
        capacity_ah: of both wells together, A.h.
        available: c, the share of the first well, above 0, below 1.
        rate_per_s: k', how fast the wells level, 1/s.

    Li-ion of the Itsy pocket computer: c 0.166, k' 0.122 / min (Jongerden and Haverkort 2009); lead-acid: c 0.3 to 0.6.
    """

    capacity_ah: float
    available: float
    rate_per_s: float

    def __post_init__(self) -> None:
        for name, least, most in (
            ("capacity_ah", 0.0, math.inf),
            ("available", 0.0, 1.0),
            ("rate_per_s", 0.0, math.inf),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and least < value < most):
                raise ValueError(f"{name} is {value}; allowed: numbers above {least:g}, below {most:g}")


class Levels(NamedTuple):
    """State: `charge_c`, both wells together, coulomb, and `gap_c`, the height difference d; (rows) each."""

    charge_c: FloatArray
    gap_c: FloatArray


class Drawn(NamedTuple):
    """Where the wells ended: levels, how long the current flowed, and a `Stop` a row (SOC where a well ended it)."""

    levels: Levels
    elapsed_s: FloatArray
    stop: IntArray


def level(wells: Wells, soc: ArrayLike) -> Levels:
    """Return the levels of batteries that have rested for long at these charges, 0 to 1."""
    charge = np.atleast_1d(np.asarray(soc, dtype=np.float64))
    good = (charge >= 0.0) & (charge <= 1.0)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(f"soc of row {row} is {charge[row]}; allowed: numbers from 0 to 1")
    return Levels(wells.capacity_ah * 3600.0 * charge, np.zeros_like(charge))


def available_c(wells: Wells, levels: Levels) -> FloatArray:
    """Return the charge in the first well, y1, coulomb."""
    return np.asarray(wells.available * (levels.charge_c - (1.0 - wells.available) * levels.gap_c))


def draw(wells: Wells, levels: Levels, current_a: ArrayLike, dt_s: ArrayLike) -> Drawn:
    """Draw a current (A, discharge > 0) for `dt_s`, or until the first well is empty (discharge) or full (charge)."""
    current = np.broadcast_to(np.asarray(current_a, dtype=np.float64), levels.charge_c.shape)
    wanted = np.minimum(np.broadcast_to(np.asarray(dt_s, dtype=np.float64), current.shape), FOREVER_S)
    ends_s = _time_to_end_s(wells, levels, current, wanted)
    stopped = ends_s <= wanted
    span = np.where(stopped, ends_s, wanted)
    settled = current / (wells.available * wells.rate_per_s)
    gap = levels.gap_c - (settled - levels.gap_c) * np.expm1(-wells.rate_per_s * span)
    end = Levels(levels.charge_c - current * span, gap)
    return Drawn(end, span, np.where(stopped, int(Stop.SOC), int(Stop.TIME)))


def time_to_empty_s(wells: Wells, levels: Levels, current_a: ArrayLike) -> FloatArray:
    """Return when a held current has emptied the first well, s: 0 if it is, inf if it never does."""
    current = np.broadcast_to(np.asarray(current_a, dtype=np.float64), levels.charge_c.shape)
    ends_s = _time_to_end_s(wells, levels, current, np.full(current.shape, FOREVER_S))
    return np.where(current > 0.0, ends_s, np.inf)


def _time_to_end_s(wells: Wells, levels: Levels, current: FloatArray, horizon_s: FloatArray) -> FloatArray:
    """Return when the first well is empty under discharge or full under charge, s; inf if not within the horizon.

    y1 / c = y - (1 - c) d is a line plus an exponential: at most two crossings, found without Lambert's W, which
    overflows where k' t is large.
    """
    bound = 1.0 - wells.available
    settled = current / (wells.available * wells.rate_per_s)
    const = levels.charge_c - bound * settled
    weights = bound * (settled - levels.gap_c)
    sign = np.where(current < 0.0, -1.0, 1.0)
    brim = np.where(current < 0.0, wells.capacity_ah * 3600.0, 0.0)
    rates = np.full((1, current.size), wells.rate_per_s)
    rounding_c = 1e-12 * wells.capacity_ah * 3600.0
    meets = first_fall(sign * (const - brim), -sign * current, (sign * weights)[None], rates, horizon_s, rounding_c)
    room = sign * (available_c(wells, levels) / wells.available - brim)
    return np.where(current == 0.0, np.inf, np.where(room <= 0.0, 0.0, meets))
