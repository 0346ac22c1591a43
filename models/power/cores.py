"""Current of one core at full load against its frequency, from as few measured points as there are.

The logarithm of the current is a parabola in the square root of the frequency, through the points given (anchors); what
fewer than three points leave open, slope or bend, is that of the class of devices. Physics says C f V(f)^2 plus
leakage; the vendors' tables show a flat foot (leakage, uncore), then a rise that steepens with the voltage, and this
form follows both where no voltages are known. With two points the bend is one of a device's slowest cluster and another
of its faster ones, whose currents rise later and more steeply in the tables.

Anchors and how well they predict phones kept out of the fit (10 distinct Pixel platforms, 20 clusters; mean absolute
error over the frequencies that are not anchors, mean of clusters / worst cluster; `twin calibrate power --cpu` measures
it again, and so do its tests):

* lowest, 40 % of the way, top: 4.6 % / 12.4 %;
* 20 % of the way, top: 7.0 % / 19.0 %;
* lowest, top: 9.3 % / 31 %, with the same two bends;
* top alone: 44 % / 121 %: an order of magnitude, not to be used where current matters.

Single frequencies are off by up to 31 % (three anchors): vendors' tables have steps where a voltage rail switches.

A class (LITTLE or big) without any measured point missed by 47 % in trials; it is not offered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.power.arrays import as_arrays

Array = Any

# Fitted on the 20 distinct clusters of Pixel phones in `pixel_cpu_core_mA` (google/perfetto, Apache-2.0) by relative
# error, every cluster weighing the same: `twin calibrate power --cpu`. In sqrt(frequency over top frequency).
SMALL_BEND, BIG_BEND = 0.77, 2.62
"""Second-order terms of the log current with two anchors (lowest or 20 % of the way, and top): of a device's slowest
cluster of several, and of any other; standard errors 0.14 and 0.17."""
CLASS_SLOPE, CLASS_SLOPE_BEND = 4.85, 2.38
"""First- and second-order terms, with the top as the only anchor; standard errors 0.22 and 0.59."""


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind that share a clock.

    Attributes:
        name: as the vendor's table numbers it, or the core's.
        cores: how many.
        anchors_khz: frequencies of known current, rising, 1 to 3 of them; the last is the top frequency.
        anchors_ma: current of one busy core at these, mA of the battery at its nominal voltage.
        source: where they come from.

    Raises:
        ValueError: anchors are not 1 to 3 rising frequencies with a positive current each.
    """

    name: str
    cores: int
    anchors_khz: tuple[float, ...]
    anchors_ma: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        khz, ma = np.asarray(self.anchors_khz, float), np.asarray(self.anchors_ma, float)
        if not 1 <= khz.size <= 3 or khz.size != ma.size:
            raise ValueError(f"cluster {self.name!r}: {khz.size} frequencies, {ma.size} currents; allowed: 1 to 3 each")
        if not (np.all(np.isfinite(khz)) and khz[0] > 0.0 and np.all(np.diff(khz) > 0.0)):
            raise ValueError(f"cluster {self.name!r}: anchors_khz is {self.anchors_khz}; allowed: rising, above 0")
        if not (np.all(np.isfinite(ma)) and np.all(ma > 0.0)):
            raise ValueError(f"cluster {self.name!r}: anchors_ma is {self.anchors_ma}; allowed: numbers above 0")
        if not self.cores >= 1:
            raise ValueError(f"cluster {self.name!r}: cores is {self.cores}; allowed: integers from 1")


def core_current_ma(freq_khz: Array, anchors_khz: Array, anchors_ma: Array, bend: Array = BIG_BEND) -> Array:
    """Return the current of one busy core, mA, elementwise under NumPy and jax.numpy.

    Args:
        freq_khz: frequency, any shape ``s``.
        anchors_khz: frequencies of known current, 1 to 3 of them along the last axis, rising, the last one the top;
            shape (k,) or ``s + (k,)``.
        anchors_ma: current at these, same shape. Both come checked from a `Cluster`.
        bend: with two anchors `BIG_BEND`, or `SMALL_BEND` of the slowest cluster of several; shape ``s`` or a number.
    """
    xp, freq, khz, ma = as_arrays(freq_khz, anchors_khz, anchors_ma)
    top = khz[..., -1]
    u, at = xp.sqrt(freq / top), xp.sqrt(khz / top[..., None])
    return xp.exp(log_current(u, at, xp.log(ma), bend))


def log_current(
    u: Array,
    at: Array,
    log_ma: Array,
    bend: Array = BIG_BEND,
    slope: Array = CLASS_SLOPE,
    slope_bend: Array = CLASS_SLOPE_BEND,
) -> Array:
    """Return the log of the current at ``u``, the root of frequency over top: the law itself, by divided differences.

    Args:
        u, at: roots of frequency over top, of the points asked for and of the anchors (last axis).
        log_ma: logarithm of the anchors' currents.
        bend, slope, slope_bend: of the class, where anchors leave them open.
    """
    count = at.shape[-1]
    if count == 1:
        return log_ma[..., 0] + slope * (u - 1.0) + slope_bend * (u - 1.0) ** 2
    rise = (log_ma[..., -1] - log_ma[..., 0]) / (at[..., -1] - at[..., 0])
    line = log_ma[..., 0] + rise * (u - at[..., 0])
    if count == 3:
        first = (log_ma[..., 1] - log_ma[..., 0]) / (at[..., 1] - at[..., 0])
        bend = (rise - first) / (at[..., 2] - at[..., 1])
    return line + bend * (u - at[..., 0]) * (u - at[..., -1])
