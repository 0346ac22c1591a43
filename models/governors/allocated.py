"""A chain of nodes under the power allocator over a whole stretch of time, solved piece by piece.

Nodes, integral and budget are linear between switches: governor off or on, error above or below 0, integral growing or
not, budget free or at a limit. With the integral taken as growing by k_i / period a second, each piece is the
exponential of one matrix; its end is the first sample at which a switch shows, found on a grid that widens and then by
bisection. A piece lasts at least one sample, as the kernel sees no switch sooner. What sampling adds besides, half a
period of delay, is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import expm

from models.arrays import FloatArray
from models.governors.power_allocator import Gains
from models.thermal.network import Network

_GROWTH = 1.15  # of the grid's steps: a swing back within 15 % of a piece's age is found by its first half
_LONGEST_SHARE = 0.5  # of the fastest time constant: no step of the grid is longer while the fast modes live
_ROUNDS = 40


class Stretch(NamedTuple):
    """A governed stretch: mean power granted (W), nodes (C) and integral (W) at its end, and its number of pieces."""

    mean_power_w: float
    temps_c: tuple[float, ...]
    integral_w: float
    pieces: int


class _Piece(NamedTuple):
    """Which of the linear laws holds: governor on, error below 0, integral growing, budget's limit (-1, 0 or 1)."""

    on: bool
    hot: bool
    grows: bool
    limit: int


def govern(
    gains: Gains,
    network: Network,
    temps_c: tuple[float, ...],
    integral_w: float,
    fixed_w: float,
    most_w: float,
    ambient_c: float,
    dt_s: float,
) -> Stretch:
    """Return a stretch in which the actors take all that is granted.

    Args:
        gains: of the zone, whose sensor is the die.
        network: the chain.
        temps_c: nodes at the start, die first.
        integral_w: at the start; 0 for a governor that was off.
        fixed_w: die power out of the governor's hands.
        most_w: sum of the actors' largest powers.
        ambient_c: air.
        dt_s: length, above 0.

    Raises:
        ValueError: `dt_s` is not above 0, or `most_w` is below 0.
    """
    if not dt_s > 0.0:
        raise ValueError(f"dt_s is {dt_s}; allowed: above 0")
    if not most_w >= 0.0:
        raise ValueError(f"most_w is {most_w}; allowed: from 0 up")
    size = len(temps_c)
    plant = _plant(network, fixed_w, ambient_c)
    state = np.array([*temps_c, integral_w, 0.0, 1.0])  # nodes, integral, energy granted, the constant 1
    at_s, pieces = 0.0, 0
    while at_s < dt_s:
        if state[0] < gains.switch_on_c:
            state[size] = 0.0
        piece = _piece_of(gains, state, size, most_w)
        span_s, state = _to_switch(gains, piece, plant, state, most_w, dt_s - at_s)
        at_s += span_s
        pieces += 1
    return Stretch(float(state[size + 1] / dt_s), tuple(state[:size].tolist()), float(state[size]), pieces)


def _plant(network: Network, fixed_w: float, ambient_c: float) -> FloatArray:
    """Return the matrix of the state's change without a budget, 1/s."""
    heat, links = network.heat_j_per_k, network.links_w_per_k
    size = len(heat)
    matrix = np.zeros((size + 3, size + 3))
    for i, link in enumerate(links):
        matrix[i, i] -= link / heat[i]
        if i + 1 < size:
            matrix[i, i + 1] += link / heat[i]
            matrix[i + 1, i] += link / heat[i + 1]
            matrix[i + 1, i + 1] -= link / heat[i + 1]
        else:
            matrix[i, -1] += link / heat[i] * ambient_c
    matrix[0, -1] += fixed_w / heat[0]
    matrix[0, size + 1] = 1.0 / heat[0]  # stands in for "a watt of budget"; `_matrix` takes it out
    return matrix


def _piece_of(gains: Gains, state: FloatArray, size: int, most_w: float) -> _Piece:
    """Return the law that a sample of this state sets."""
    if state[0] < gains.switch_on_c:
        return _Piece(on=False, hot=False, grows=False, limit=1)
    error_k, integral_w = gains.control_c - state[0], state[size]
    hot = bool(error_k < 0.0)
    grown_w = integral_w + gains.k_i_w_per_k * error_k
    budget_w = gains.sustainable_w + (gains.k_po_w_per_k if hot else gains.k_pu_w_per_k) * error_k + integral_w
    return _Piece(
        on=True,
        hot=hot,
        grows=bool(error_k < gains.cutoff_k and abs(grown_w) < most_w),
        limit=-1 if budget_w <= 0.0 else 1 if budget_w >= most_w else 0,
    )


def _matrix(gains: Gains, piece: _Piece, plant: FloatArray, most_w: float) -> FloatArray:
    """Return the matrix of the state's change under a piece's law."""
    size = plant.shape[0] - 3
    budget = np.zeros(size + 3)  # the budget as weights on the state
    if piece.limit == 1:
        budget[-1] = most_w
    elif piece.limit == 0:
        gain = gains.k_po_w_per_k if piece.hot else gains.k_pu_w_per_k
        budget[0], budget[size], budget[-1] = -gain, 1.0, gains.sustainable_w + gain * gains.control_c
    matrix = plant.copy()
    per_watt = matrix[0, size + 1]
    matrix[0, size + 1] = 0.0
    matrix[0] += per_watt * budget
    matrix[size + 1] = budget
    if piece.grows:
        rate = gains.k_i_w_per_k / gains.period_s
        matrix[size, 0], matrix[size, -1] = -rate, rate * gains.control_c
    return matrix


def _to_switch(
    gains: Gains, piece: _Piece, plant: FloatArray, state: FloatArray, most_w: float, left_s: float
) -> tuple[float, FloatArray]:
    """Return how long a piece's law holds, at least a sample and at most `left_s`, and the state by then."""
    size = plant.shape[0] - 3
    matrix = _matrix(gains, piece, plant, most_w)
    longest_s = _LONGEST_SHARE / float(-np.diag(plant)[0])
    step_s = min(gains.period_s, left_s)
    at_s, stride = 0.0, expm(matrix * step_s)
    while True:
        after = stride @ state
        if _piece_of(gains, after, size, most_w) != piece:
            break
        at_s, state = at_s + step_s, after
        if at_s >= left_s * (1.0 - 1e-12):
            return left_s, state
        wider_s = min(step_s * _GROWTH, longest_s, left_s - at_s)
        if wider_s != step_s:
            step_s = wider_s
            stride = expm(matrix * step_s)
    if at_s == 0.0:
        return step_s, after
    low_s, high_s = 0.0, step_s
    for _ in range(_ROUNDS):
        middle_s = 0.5 * (low_s + high_s)
        if high_s - low_s < 1e-6 * gains.period_s:
            break
        if _piece_of(gains, expm(matrix * middle_s) @ state, size, most_w) == piece:
            low_s = middle_s
        else:
            high_s = middle_s
    return at_s + high_s, expm(matrix * high_s) @ state
