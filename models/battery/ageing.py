"""Ageing of a lithium cell: capacity lost and resistance grown, by the calendar and by use.

Schmalstieg, Käbitz, Ecker, Sauer, Journal of Power Sources 257 (2014), a holistic model of an 18650 NMC cell (Sanyo
UR18650E, 2.05 A.h), its equations 12 to 19:

  C = 1 - alpha_c t^0.75 - beta_c Q^0.5       alpha_c = (7.543 V - 23.75) 1e6 exp(-6976 / T)
  R = 1 + alpha_r t^0.75 + beta_r Q           alpha_r = (5.270 V - 16.32) 1e5 exp(-5986 / T)
  beta_c = 7.348e-3 (Vm - 3.667)^2 + 7.600e-4 + 4.081e-3 depth
  beta_r = 2.153e-4 (Vm - 3.725)^2 - 1.521e-5 + 2.798e-4 depth

t in days, T in K, V the stored voltage, Vm the quadratic mean of the voltage in use, Q the charge through the cell in
A.h; beta_r is at least 1.5e-5. (Numbers checked against the transcription in NREL's BLAST-Lite.)

Conditions change, so each part advances by its *equivalent time*: the time that the present condition would have needed
for the loss there is. Under held conditions that is the published formula, and cutting an interval changes nothing.

Assumptions: Q counts charge in and out, and goes with capacity for cells of another size; below 3.15 V, where alpha
would be below 0, a stored cell does not age; one factor stands for another maker's cell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.arrays import ArrayLike, FloatArray, IntArray, require_not_negative

_CELL_AH = 2.05
_DAY_S = 86_400.0
_CALENDAR_POWER = 0.75
# Loss per square root of a deep discharge, over capacity at the first: the median of 16 NASA cells at 4 to 44 C (PCoE
# battery set, `nasa_capacity_by_cycle`). A single cell may have a sixth of it or four times as much.
_LOSS_PER_ROOT = 0.0235
_PRIOR_WEIGHT = 10.0  # of that loss among a cell's cycles, chosen by leaving out one cell at a time
# Where medians of so many discharges on either side differ by more than this (of the logarithm), that is no ageing: the
# load or the temperature changed. Any step from 0.15 to 0.3 finds the same two among those cells' first halves.
_STEP_LN, _STEP_DISCHARGES = 0.2, 4


class Age(NamedTuple):
    """What ageing has done, as shares of the new cell's capacity and resistance; (rows) each, 0 when new."""

    calendar_loss: FloatArray
    cycle_loss: FloatArray
    calendar_growth: FloatArray
    cycle_growth: FloatArray


def new(rows: int) -> Age:
    """Return new cells."""
    return Age(*(np.zeros(rows) for _ in Age._fields))


def capacity_share(age: Age) -> FloatArray:
    """Return capacity over that of the new cell, 0 to 1."""
    return np.maximum(1.0 - age.calendar_loss - age.cycle_loss, 0.0)


def resistance_share(age: Age) -> FloatArray:
    """Return resistance over that of the new cell at the same temperature, at least 1."""
    return np.asarray(1.0 + age.calendar_growth + age.cycle_growth)


def rest(age: Age, volts: ArrayLike, temp_c: ArrayLike, dt_s: ArrayLike, factor: ArrayLike = 1.0) -> Age:
    """Age by the calendar: stored at a cell voltage (V) and a temperature (C) for `dt_s`.

    Args:
        factor: ageing of this cell over the published one's.
    """
    require_not_negative("dt_s", dt_s)
    require_not_negative("factor", factor)
    held = np.asarray(volts, dtype=np.float64)
    kelvin = np.asarray(temp_c, dtype=np.float64) + 273.15
    days = np.asarray(dt_s, dtype=np.float64) / _DAY_S
    scale = np.asarray(factor, dtype=np.float64)
    loss = scale * np.maximum(7.543 * held - 23.75, 0.0) * 1e6 * np.exp(-6976.0 / kelvin)
    growth = scale * np.maximum(5.270 * held - 16.32, 0.0) * 1e5 * np.exp(-5986.0 / kelvin)
    return age._replace(
        calendar_loss=_onward(age.calendar_loss, loss, days, _CALENDAR_POWER),
        calendar_growth=_onward(age.calendar_growth, growth, days, _CALENDAR_POWER),
    )


def use(
    age: Age,
    through_ah: ArrayLike,
    capacity_ah: ArrayLike,
    mean_v: ArrayLike,
    depth: ArrayLike,
    factor: ArrayLike = 1.0,
) -> Age:
    """Age by use: charge that went through, in and out together.

    Args:
        through_ah: A.h, at least 0.
        capacity_ah: of the new cell, A.h.
        mean_v: quadratic mean of the cell voltage in these cycles, V.
        depth: of a cycle, share of capacity from 0 to 1.
        factor: ageing of this cell over the published one's.
    """
    require_not_negative("through_ah", through_ah)
    require_not_negative("depth", depth)
    require_not_negative("factor", factor)
    volts, deep, scale = (np.asarray(values, dtype=np.float64) for values in (mean_v, depth, factor))
    scaled_ah = np.asarray(through_ah, dtype=np.float64) * _CELL_AH / np.asarray(capacity_ah, dtype=np.float64)
    loss = scale * (7.348e-3 * (volts - 3.667) ** 2 + 7.600e-4 + 4.081e-3 * deep)
    growth = scale * np.maximum(2.153e-4 * (volts - 3.725) ** 2 - 1.521e-5 + 2.798e-4 * deep, 1.5e-5)
    return age._replace(
        cycle_loss=_onward(age.cycle_loss, loss, scaled_ah, 0.5),
        cycle_growth=age.cycle_growth + growth * scaled_ah,
    )


def end_capacity_ah(capacity_ah: ArrayLike, cycles: int, rated_ah: float) -> float:
    """Predict the capacity at a later cycle from a cell's first ones, where its conditions are not known.

    The cycle law's form, C(n) = C0 (1 - f sqrt(n)), with C0 and the cell's own f fitted: least squares that trust far
    values less (Huber) and pull f towards the median of other cells. Where capacity steps and stays there, conditions
    have changed: only discharges from the last step on count, and the prediction holds for their conditions. Those that
    failed (below a quarter of the rated capacity or half the median, or above one and a half medians) are left out.

    Args:
        capacity_ah: of the deep discharges 1, 2, 3, ..., A.h; NaN where not measured.
        cycles: number of the discharge to predict.
        rated_ah: A.h on the label.

    Raises:
        ValueError: fewer than 3 capacities that can be used.
    """
    measured = np.asarray(capacity_ah, dtype=np.float64)
    number = np.arange(1, measured.size + 1)
    there = np.isfinite(measured) & (measured > 0.25 * rated_ah)
    there[: _last_step(measured, np.flatnonzero(there))] = False
    middle = float(np.median(measured[there])) if there.any() else 0.0
    there &= (measured > 0.5 * middle) & (measured < 1.5 * middle)
    if there.sum() < 3:
        raise ValueError(f"capacity_ah has {there.sum()} usable values; allowed: 3 or more")
    share, root = measured[there] / middle, np.sqrt(number[there])
    design = np.stack([np.ones_like(root), -root], axis=1)
    prior = _PRIOR_WEIGHT * np.array([[-_LOSS_PER_ROOT, 1.0]])
    trust = np.ones_like(root)
    start = loss = 0.0
    for _ in range(20):
        rows, values = np.concatenate([design * trust[:, None], prior]), np.append(share * trust, 0.0)
        start, loss = np.linalg.lstsq(rows, values)[0]
        off = np.abs(share - design @ np.array([start, loss]))
        usual = max(1.4826 * float(np.median(off)), 0.003)
        trust = np.sqrt(np.minimum(1.0, 1.5 * usual / np.maximum(off, 1e-12)))
    return float(middle * (start - loss * np.sqrt(cycles)))


def _last_step(measured: FloatArray, usable: IntArray) -> int:
    """Return the discharge from which on conditions are the last ones; the sharpest step is found first."""
    width, first = _STEP_DISCHARGES, 0
    while True:
        level = np.log(measured[usable[first:]])
        sharp = {
            at: abs(float(level[at] - level[at - 1]))
            for at in range(width, level.size - width + 1)
            if abs(np.median(level[at : at + width]) - np.median(level[at - width : at])) > _STEP_LN
        }
        if not sharp:
            return int(usable[first]) if usable.size else 0
        first += max(sharp, key=sharp.__getitem__)


def _onward(done: FloatArray, coefficient: FloatArray, amount: FloatArray, power: float) -> FloatArray:
    """Return coefficient (x + amount)^power, where x is the equivalent amount that gives what is done."""
    ages = coefficient > 0.0
    share = np.divide(done, coefficient, out=np.zeros(np.broadcast(done, coefficient).shape), where=ages)
    return np.where(ages, coefficient * (share ** (1.0 / power) + amount) ** power, done)
