"""How close simulated availability is to observed: the figures that a stranger can check.

Matrices are (slots, devices), one row every half hour from local midnight: 1 available, 0 not, and -1 unknown (in
observations, and in simulations that were given the same gaps).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import FloatArray

LAGS_H = (0.5, 2.0, 24.0)
Trace = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Scores:
    """Differences between two sets of devices.

    Attributes:
        hour_mae: mean absolute difference of the profile by hour of day, as a share (0.01 is one point).
        autocorrelation: by lag of `LAGS_H`: simulated less observed `autocorrelation`.
        ks: largest distance between the distributions of availability per device.
        swing_observed, swing_simulated: least and largest share of the fleet that is up in a slot.
        on_run_h, off_run_h: (observed, simulated) mean length of runs whose ends are both known, hours.
    """

    hour_mae: float
    autocorrelation: tuple[float, ...]
    ks: float
    swing_observed: tuple[float, float]
    swing_simulated: tuple[float, float]
    on_run_h: tuple[float, float]
    off_run_h: tuple[float, float]


def scores(observed: npt.ArrayLike, simulated: npt.ArrayLike) -> Scores:
    """Compare two matrices of availability, (slots, devices); the number of devices may differ.

    Raises:
        ValueError: a matrix that is not two-dimensional, or holds anything but -1, 0 and 1 (or bool).
    """
    a, b = _checked("observed", observed), _checked("simulated", simulated)
    return Scores(
        hour_mae=float(np.abs(hour_profile(a) - hour_profile(b)).mean()),
        autocorrelation=tuple(autocorrelation(b, lag) - autocorrelation(a, lag) for lag in LAGS_H),
        ks=ks(per_device(a), per_device(b)),
        swing_observed=swing(a), swing_simulated=swing(b),
        on_run_h=(mean_run_h(a, 1), mean_run_h(b, 1)), off_run_h=(mean_run_h(a, 0), mean_run_h(b, 0)),
    )  # fmt: skip


def hour_profile(trace: Trace) -> FloatArray:
    """Return the share of known device-slots that is available, by hour of day, (24,)."""
    hour = np.arange(len(trace)) // 2 % 24
    return np.array([(trace[hour == h] == 1).sum() / max(1, (trace[hour == h] >= 0).sum()) for h in range(24)])


def per_device(trace: Trace) -> FloatArray:
    """Return each device's share of its known slots, (devices,)."""
    return np.asarray((trace == 1).sum(axis=0) / np.maximum(1, (trace >= 0).sum(axis=0)))


def swing(trace: Trace) -> tuple[float, float]:
    """Return the least and the largest share of the fleet up in a slot, over slots that half of the devices know."""
    known = (trace >= 0).sum(axis=1)
    share = ((trace == 1).sum(axis=1) / np.maximum(1, known))[known * 2 >= trace.shape[1]]
    return float(share.min()), float(share.max())


def autocorrelation(trace: Trace, lag_h: float) -> float:
    """Return the mean over devices of the correlation of slots ``lag_h`` apart; one that never changes has none."""
    lag = round(lag_h * 2)
    known = (trace[:-lag] >= 0) & (trace[lag:] >= 0)
    x, y = np.where(known, trace[:-lag], 0.0), np.where(known, trace[lag:], 0.0)
    count = np.maximum(1, known.sum(axis=0))
    mean_x, mean_y = x.sum(axis=0) / count, y.sum(axis=0) / count
    covariance = (x * y).sum(axis=0) / count - mean_x * mean_y
    spread = np.sqrt(mean_x * (1.0 - mean_x) * mean_y * (1.0 - mean_y))  # of values that are 0 or 1
    moves = (spread > 0.0) & (count >= 20)
    return float((covariance[moves] / spread[moves]).mean())


def ks(a: FloatArray, b: FloatArray) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples."""
    points = np.concatenate([a, b])
    below = [np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def mean_run_h(trace: Trace, value: int) -> float:
    """Return the mean length in hours of the runs of ``value`` that begin and end between known slots."""
    padded = np.pad(trace, ((1, 1), (0, 0)), constant_values=-1).T
    flat = padded.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts, ends = edges[:-1], edges[1:]
    whole = (flat[starts] == value) & (flat[starts - 1] == 1 - value) & (flat[ends] == 1 - value)
    return float((ends - starts)[whole].mean() / 2.0) if whole.any() else float("nan")


def bootstrap(
    trace: Trace, figure: Callable[[Trace], Any], *, times: int = 200, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Return the 2.5 % and 97.5 % points of a figure when the devices are drawn anew with replacement."""
    rng = np.random.default_rng(seed)
    values = [figure(trace[:, rng.integers(0, trace.shape[1], trace.shape[1])]) for _ in range(times)]
    low, high = np.quantile(np.array(values), [0.025, 0.975], axis=0)
    return np.asarray(low), np.asarray(high)


def with_gaps(simulated: npt.ArrayLike, observed: Trace) -> Trace:
    """Return the simulation with the observation's unknown slots, device by device (repeated where there are more)."""
    columns = np.arange(np.shape(simulated)[1]) % observed.shape[1]
    return np.where(observed[:, columns] < 0, -1, np.asarray(simulated, dtype=np.int8)[: len(observed)]).astype(np.int8)


def load(path: str | Path) -> Trace:
    """Read ``device,states`` rows (CSV, optionally gzipped; states of ``1``, ``0`` and ``.``), whole days only.

    Raises:
        ValueError: missing columns, a row of another length, or another character; the row is named.
    """
    import csv
    import gzip
    from typing import IO

    opened: IO[str] = gzip.open(path, "rt") if str(path).endswith(".gz") else open(path)  # noqa: SIM115
    with opened as file:
        rows = list(csv.DictReader(file))
    if not rows or "states" not in rows[0] or "device" not in rows[0]:
        raise ValueError(f"{path}: columns are {list(rows[0]) if rows else 'none'}; needed: device, states")
    length = len(rows[0]["states"])
    for number, row in enumerate(rows, start=2):
        states = row["states"] or ""
        if len(states) != length or not set(states) <= set("10."):
            raise ValueError(f"{path} row {number}: states is {states[:20]!r}...; allowed: {length} of '1', '0', '.'")
    code = np.frombuffer("".join(row["states"] for row in rows).encode(), dtype=np.uint8).reshape(len(rows), length)
    trace = np.where(code == ord("1"), 1, np.where(code == ord("0"), 0, -1)).astype(np.int8).T
    return trace[: len(trace) // 48 * 48] if length >= 48 else trace


def _checked(name: str, values: npt.ArrayLike) -> Trace:
    trace = np.asarray(values)
    if trace.ndim != 2 or not np.isin(trace, (-1, 0, 1)).all():
        raise ValueError(f"{name}: allowed: a (slots, devices) matrix of -1, 0 and 1")
    return trace.astype(np.int8)
