"""First crossings of f(t) = a + b t + sum of w_k exp(-r_k t): no stepping, no crossing missed.

Between two zeros of its derivative a function is monotone, so a change of sign there is one crossing. The zeros of the
derivative, itself a sum of exponentials, are found the same way: divided by its slowest term and derived it has one
term less, and a sum of one term has no zero (Rolle; Pólya and Szegő, Problems and Theorems in Analysis II, V 75).
All rows at once; rows whose terms cannot reach zero are put aside first, which are nearly all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.arrays import FloatArray

_ROUNDS = 120  # bisection alone needs about 100 from 1e9 s to rounding


def first_fall(
    const: FloatArray,
    slope: FloatArray,
    weights: FloatArray,
    rates: FloatArray,
    horizon_s: FloatArray,
    rounding: float,
) -> FloatArray:
    """Return the first time up to the horizon at which f falls from above 0 to 0 or below, s; inf where it does not.

    A row that starts at 0 and falls meets it at 0; one that starts there and rises has not met it.

    Args:
        const, slope: a and b, (rows).
        weights, rates: w and r, (terms, rows), rates from 0 up.
        horizon_s: where to stop looking, (rows), finite.
        rounding: the error that `const` may carry, in the unit of f; a start no further from 0 than this is at 0.
    """
    faded = weights * np.exp(-rates * horizon_s)
    least = const + np.minimum(slope * horizon_s, 0.0) + np.minimum(weights, faded).sum(axis=0)
    found = np.full(const.shape, np.inf)
    rows = np.flatnonzero((least <= rounding) & (horizon_s > 0.0))
    if not rows.size:
        return found
    a, b, end = const[rows], slope[rows], horizon_s[rows]
    order = np.argsort(rates[:, rows], axis=0)
    w = np.take_along_axis(weights[:, rows], order, axis=0)
    r = np.take_along_axis(rates[:, rows], order, axis=0)
    turns = _zeros(np.concatenate([b[None], -r * w]), np.concatenate([np.zeros((1, rows.size)), r]), end)
    edges = np.concatenate([np.zeros((1, rows.size)), turns, end[None]])
    levels = a + b * edges + (w[:, None] * np.exp(-r[:, None] * edges)).sum(axis=0)
    falls = (levels[:-1] > 0.0) & (levels[1:] <= 0.0)
    # A start within rounding of 0 may have lost its sign in `const`; falling from there is a fall at once.
    at_once = (np.abs(levels[0]) <= rounding) & (b - (r * w).sum(axis=0) < 0.0)
    hit = np.flatnonzero(falls.any(axis=0))
    if hit.size:
        which = falls[:, hit].argmax(axis=0)
        low, high = edges[which, hit], edges[which + 1, hit]
        a, b, w, r = a[hit], b[hit], w[:, hit], r[:, hit]

        def value(t: FloatArray) -> tuple[FloatArray, FloatArray]:
            parts = w * np.exp(-r * t)
            return a + b * t + parts.sum(axis=0), b - (r * parts).sum(axis=0)

        found[rows[hit]] = root_between(value, low, high, np.ones(hit.size))
    found[rows[at_once]] = 0.0
    return found


def root_between(
    value: Callable[[FloatArray], tuple[FloatArray, FloatArray]],
    low: FloatArray,
    high: FloatArray,
    sign_low: FloatArray,
) -> FloatArray:
    """Return a zero of each row between `low` and `high` by Newton's method, bisecting where that would not help.

    Args:
        value: gives f and its derivative at (rows) places.
        sign_low: sign of f at `low`, (rows); at `high` it is the other or zero.
    """
    at = 0.5 * (low + high)
    last = before = high - low
    for _ in range(_ROUNDS):
        f, slope = value(at)
        left = f * sign_low > 0.0
        low, high = np.where(left, at, low), np.where(left, high, at)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = at - f / slope
        good = (newton >= low) & (newton <= high) & (np.abs(newton - at) <= 0.5 * before)
        new = np.where(good, newton, 0.5 * (low + high))
        new = np.where(f == 0.0, at, new)
        before, last = last, np.abs(new - at)
        done = last <= 2e-16 * np.abs(new)
        at = new
        if done.all():
            break
    return np.asarray(at)


def _zeros(weights: FloatArray, rates: FloatArray, end: FloatArray) -> FloatArray:
    """Return (terms - 1, rows) sorted places that hold all zeros of sum w exp(-r t) on [0, end], slowest term first."""
    terms, rows = weights.shape
    if terms == 1:
        return np.empty((0, rows))
    faster = rates[1:] - rates[0]
    inner = _zeros(-faster * weights[1:], faster, end)
    edges = np.concatenate([np.zeros((1, rows)), inner, end[None]])
    levels = weights[0] + (weights[1:, None] * np.exp(-faster[:, None] * edges)).sum(axis=0)
    places = edges[1:].copy()  # without a zero, an edge more does no harm
    part, row = np.nonzero(levels[:-1] * levels[1:] < 0.0)
    if part.size:
        w0, w, r = weights[0, row], weights[1:, row], faster[:, row]

        def value(t: FloatArray) -> tuple[FloatArray, FloatArray]:
            parts = w * np.exp(-r * t)
            return w0 + parts.sum(axis=0), -(r * parts).sum(axis=0)

        places[part, row] = root_between(value, edges[part, row], edges[part + 1, row], np.sign(levels[part, row]))
    return places
