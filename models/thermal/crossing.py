"""When a node of a chain first meets a temperature: a sum of decaying exponentials and a constant, solved in pieces."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import numpy as np

from models.arrays import namespace
from models.thermal.network import Modes, Values

# Each round halves a bracket and takes one Newton step from its middle: what is left of 1e6 s is far below 1 us.
_ROOT_ROUNDS = 40


def time_to_c(
    modes: Modes,
    node: int,
    temps_c: tuple[Values, ...],
    steady_c: tuple[Values, ...],
    target_c: Values,
    time_scale: Values = 1.0,
) -> Values:
    """Return when a node first is at `target_c`, from above or below, s; inf if it never is.

    The node follows a constant and k exponentials. Its slope has at most k - 1 roots, which cut the time into monotone
    pieces; each piece that changes sign holds one root, found by bisection with a Newton step at its end.

    Args:
        modes: of the devices' kind.
        node: 0 for the die.
        temps_c: now.
        steady_c: where the powers lead.
        target_c: level to meet.
        time_scale: c / g of the device.
    """
    xp = namespace(*temps_c, *steady_c, target_c, time_scale)
    rates = modes.rates_per_s.tolist()
    away = [xp.asarray(now) - xp.asarray(then) for now, then in zip(temps_c, steady_c, strict=True)]
    size = [
        sum(float(modes.from_modal[node, m] * modes.to_modal[m, j]) * away[j] for j in range(len(away)))
        for m in range(len(rates))
    ]
    gap_k = xp.asarray(steady_c[node]) - xp.asarray(target_c)
    size = [part + 0.0 * gap_k for part in size]
    gap_k = gap_k + 0.0 * size[0]
    inside = [-rate * part for rate, part in zip(rates, size, strict=True)]  # amplitudes of the slope
    # After this time what is left of all modes is smaller than the distance from the end to the target.
    with np.errstate(divide="ignore", invalid="ignore"):
        late_s = xp.log(sum(abs(part) for part in size) / abs(gap_k)) / rates[-1]
    late_s = xp.where(xp.isfinite(late_s) & (late_s > 0.0), late_s, 0.0) + 1.0 / rates[-1]
    turns_s = _turns_s(xp, rates, inside, late_s)

    def value(t_s: Values) -> Values:
        return gap_k + _sum_decays(xp, rates, size, t_s)

    def slope(t_s: Values) -> Values:
        return _sum_decays(xp, rates, inside, t_s)

    found_s = xp.where(temps_c[node] - xp.asarray(target_c) == 0.0, 0.0 * gap_k, xp.inf + 0.0 * gap_k)
    edges_s = [0.0 * gap_k, *turns_s, late_s]
    for low_s, high_s in pairwise(edges_s):
        root_s = _root(xp, value, slope, low_s, high_s)
        found_s = xp.where(root_s < found_s, root_s, found_s)
    return found_s * time_scale


def _sum_decays(xp: Any, rates: list[float], size: list[Values], t_s: Values) -> Values:
    return sum(part * xp.exp(-rate * t_s) for rate, part in zip(rates, size, strict=True))


def _turns_s(xp: Any, rates: list[float], size: list[Values], late_s: Values) -> list[Values]:
    """Return the k - 1 times, in order and inside [0, late], where a sum of k decays can change its sign.

    Times without a change are filled with an end of the interval. A sum of k decays times exp(slowest rate t) has as
    its slope a sum of k - 1 decays: its sign changes cut the time into pieces that hold one root each.
    """
    if len(rates) == 1:
        return []
    # f exp(rates[-1] t): a constant and k - 1 decays; its slope is a sum of those decays.
    faster = [rate - rates[-1] for rate in rates[:-1]]
    head, constant = size[:-1], size[-1]
    inside = [-rate * part for rate, part in zip(faster, head, strict=True)]
    edges_s = [0.0 * late_s, *_turns_s(xp, faster, inside, late_s), late_s]

    def value(t_s: Values) -> Values:
        return constant + _sum_decays(xp, faster, head, t_s)

    def slope(t_s: Values) -> Values:
        return _sum_decays(xp, faster, inside, t_s)

    turns = []
    for low_s, high_s in pairwise(edges_s):
        root_s = _root(xp, value, slope, low_s, high_s)
        turns.append(xp.where(xp.isfinite(root_s), root_s, high_s))
    return turns


def _root(
    xp: Any,
    value: Callable[[Values], Values],
    slope: Callable[[Values], Values],
    low_s: Values,
    high_s: Values,
) -> Values:
    """Return the root of a function monotone on [low, high] where its sign changes there, inf elsewhere."""
    at_low, at_high = value(low_s), value(high_s)
    crosses = (at_low < 0.0) != (at_high < 0.0)

    def narrow(bracket: tuple[Values, Values, Values]) -> tuple[Values, Values, Values]:
        low_s, high_s, _ = bracket
        middle_s = 0.5 * (low_s + high_s)
        gap, incline = value(middle_s), slope(middle_s)
        before = (gap < 0.0) == (at_low < 0.0)
        low_s, high_s = xp.where(before, middle_s, low_s), xp.where(before, high_s, middle_s)
        with np.errstate(over="ignore"):
            newton_s = middle_s - gap / xp.where(incline == 0.0, 1.0, incline)
        return low_s, high_s, xp.where((newton_s >= low_s) & (newton_s <= high_s), newton_s, middle_s)

    return xp.where(crosses, _repeat(narrow, (low_s, high_s, 0.5 * (low_s + high_s)))[2], xp.inf)


def _repeat(
    narrow: Callable[[tuple[Values, Values, Values]], tuple[Values, Values, Values]],
    bracket: tuple[Values, Values, Values],
) -> tuple[Values, Values, Values]:
    """Narrow a bracket for all rounds."""
    if not isinstance(bracket[2], np.ndarray | np.generic):
        from jax import lax  # a loop that is compiled once, not forty times

        return cast("tuple[Values, Values, Values]", lax.fori_loop(0, _ROOT_ROUNDS, lambda _, b: narrow(b), bracket))
    for _ in range(_ROOT_ROUNDS):
        bracket = narrow(bracket)
    return bracket
