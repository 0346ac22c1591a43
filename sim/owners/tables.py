"""A decomposition as lookup tables: what `sim.owners.crowd` reads at every transition.

Rows: each sort of owner of each kind is one row. All tables are flat, because one index is cheaper than two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from models.availability.conjunction import (
    FACTORS,
    LONG_OFF,
    LONG_ON,
    SHORT_OFF,
    SHORT_ON,
    SLOTS,
    gamma_quantiles,
    slot_transitions,
    stationary,
)  # fmt: skip
from models.availability.decompositions import DECOMPOSITIONS, KINDS, PHASES, Decomposition, Owner

PLUGGED, SCREEN, WIFI, NETWORK = 1, 2, 4, 8
FREE, LIT, BOUT = 16, 64, 32  # the screen may be lit by a bout; is lit throughout; a bout is on
NAMES = tuple(PHASES)
AVAILABLE = NAMES.index("available")
DAY_S = 86400
CELLS = 1024  # of an inverse clock; linear between: to a second where a rate is the mean, a minute at a tenth of it
LEVELS = 4096  # of a table of lengths: a draw's low 12 bits
TYPES = 256  # of a table of phases: a draw's high 8 bits
MIN_PHASE_S = 600  # no phase is shorter but one that the law of availability cuts (assumption)
MIN_BOUT_S = 60  # no bout is shorter (assumption)
HABITS = 25  # rows of the law's clocks


@dataclass(frozen=True)
class Tables:
    """See the fields' comments; S is the number of owner rows, P of phases."""

    owner_edges: tuple[np.ndarray, ...]  # by kind: cumulative shares of its owner rows
    owner_first: tuple[int, ...]  # by kind: its first owner row
    flags: np.ndarray  # (P,) uint8, with FREE
    turn: np.ndarray  # uint8: TYPES times `available`, TYPES phases of a gap, then (S P 24 TYPES) what follows, by hour
    begin: np.ndarray  # (S 24 TYPES,) uint8: the phase that somebody is in, by hour
    turn_state: np.ndarray  # (4,) int64: where the law's state reads `turn`
    mean_s: np.ndarray  # (S P,) float64
    shape: np.ndarray  # (S P,) int32: first level of its table of lengths
    lengths: np.ndarray  # (shapes LEVELS,) float64, mean 1
    residual: np.ndarray  # (shapes LEVELS,) float64: what is left of a length, seen at any moment
    clock: np.ndarray  # (rows (SLOTS + 1),) float64: share of the day's total at each slot's start
    inverse_s: np.ndarray  # (rows (CELLS + 1),) float64: second of the day
    total: np.ndarray  # (rows,) float64: a day's total of the rate
    bout_s: np.ndarray  # (S,) float64: mean length beyond the least
    gap_s: int
    factor_levels: np.ndarray  # quantiles of the device factor
    chance: np.ndarray  # (4 factors SLOTS,) float64: of the first of the two states that may follow, by state
    follows: np.ndarray  # (8,) uint8: the state after state s: by 2 s + (whether the chance came)
    steady_s: np.ndarray  # (4,) float64: mean length of a state's run; 0 where the clock decides
    clock_row: np.ndarray  # (4,) int64: add to the habit for the row of the state's clock
    state: np.ndarray  # (factors, habits, SLOTS, 4) cumulative: stationary law


@lru_cache(maxsize=16)
def tables_of(name: str) -> Tables:
    """Return the tables of a decomposition by name, made once."""
    return tables(DECOMPOSITIONS[name])


def tables(story: Decomposition) -> Tables:
    """Build every table; a second or so."""
    # Order of the law's states, on which the rows of `chance` and the like rely.
    assert (SHORT_ON, LONG_ON, SHORT_OFF, LONG_OFF) == (0, 1, 2, 3)
    owners = [owner for kind in KINDS for owner in story.owners[kind]]
    first = np.cumsum([0] + [len(story.owners[kind]) for kind in KINDS])[:-1]
    shapes = sorted({1.0} | {shape for owner in owners for shape in owner.shape.values()})
    law = story.law
    grid = stationary(slot_transitions(law, FACTORS))
    rates = np.concatenate([
        law.begin_per_h() / 3600.0,
        law.end_per_h() / 3600.0,
        np.array([_bouts_per_s(owner) for owner in owners]),
    ])  # fmt: skip
    clocks = [_clock(rate) for rate in rates]
    return Tables(
        owner_edges=tuple(np.cumsum([owner.share for owner in story.owners[kind]])[:-1] for kind in KINDS),
        owner_first=tuple(int(row) for row in first),
        flags=np.array([_flags(name) for name in NAMES], dtype=np.uint8),
        turn=np.concatenate(
            [
                np.full(TYPES, AVAILABLE, dtype=np.uint8),
                _levels(np.array([story.gaps.get(name, 0.0) for name in NAMES])),
                *(_turn(owner) for owner in owners),
            ]
        ),
        turn_state=np.array([0, 0, TYPES, 2 * TYPES]),
        begin=np.concatenate([_begin(owner) for owner in owners]),
        mean_s=np.array([[owner.mean_h.get(name, 1.0) * 3600.0 for name in NAMES] for owner in owners]).ravel(),
        shape=np.array([[shapes.index(owner.shape.get(name, 1.0)) * LEVELS for name in NAMES] for owner in owners])
        .ravel()
        .astype(np.int64),
        lengths=np.concatenate([_lengths(shape) for shape in shapes]),
        residual=np.concatenate([_residual(shape) for shape in shapes]),
        clock=np.concatenate([c for c, _, _ in clocks]),
        inverse_s=np.concatenate([i for _, i, _ in clocks]),
        total=np.array([t for _, _, t in clocks]),
        bout_s=np.array([max(1.0, owner.bout_min * 60.0 - MIN_BOUT_S) for owner in owners]),
        gap_s=round(story.bout_gap_min * 60.0),
        factor_levels=gamma_quantiles(law.gamma_shape),
        chance=np.concatenate(
            [
                np.full(2 * len(FACTORS) * SLOTS, law.q),
                np.full(len(FACTORS) * SLOTS, law.rho),
                law.long_share(FACTORS).ravel(),
            ]
        ),
        follows=np.array([LONG_OFF, SHORT_OFF] * 2 + [SHORT_ON, LONG_ON] * 2, dtype=np.uint8),
        steady_s=np.array([3600.0 / law.mu_per_h, 0.0, 3600.0 / law.nu_per_h, 0.0]),
        clock_row=np.array([0, HABITS, 0, 0]),
        state=np.cumsum(grid, axis=-1),
    )


def _flags(name: str) -> int:
    phase = PHASES[name]
    on_network = (WIFI if phase.wifi else 0) | (NETWORK if phase.network else 0)
    # A lit phase is one long bout: the public SCREEN bit stands in the phase itself.
    screen = {"free": FREE, "dark": 0, "lit": SCREEN}[phase.screen]
    return (PLUGGED if phase.plugged else 0) | on_network | screen


def _levels(weights: np.ndarray) -> np.ndarray:
    """Return ``TYPES`` phases in proportion to their weights, by the largest remainders."""
    share = weights / weights.sum() * TYPES
    count = np.floor(share).astype(int)
    count[np.argsort(-(share - count), kind="stable")[: TYPES - count.sum()]] += 1
    return np.repeat(np.arange(len(weights)), count).astype(np.uint8)


def _weights(owner: Owner, hour: int) -> np.ndarray:
    return np.array([owner.phases.get(name, (0.0,) * 24)[hour] for name in NAMES])


def _next(owner: Owner, phase: int, hour: int) -> np.ndarray:
    """Return the weights of what follows a phase: another one, where the owner has another at this hour."""
    weights = _weights(owner, hour)
    others = weights.copy()
    others[phase] = 0.0
    return others if others.sum() > 0.0 else weights


def _turn(owner: Owner) -> np.ndarray:
    return np.concatenate([_levels(_next(owner, p, h)) for p in range(len(NAMES)) for h in range(24)])


def _begin(owner: Owner) -> np.ndarray:
    """Return, by hour, phases in proportion to the time spent in them: the periodic stationary law of the phases."""
    from scipy.linalg import expm

    steps = []
    for hour in range(24):
        rate = np.zeros((len(NAMES), len(NAMES)))
        for p, name in enumerate(NAMES):
            weights = _next(owner, p, hour)
            rate[p] = weights / weights.sum() / owner.mean_h.get(name, 0.1)
            rate[p, p] -= rate[p].sum()
        steps.append(expm(rate))
    day = np.linalg.multi_dot(steps)
    row = np.linalg.matrix_power(day, 64)[0]
    result = []
    for step in steps:
        result.append(_levels(np.maximum(row, 0.0)))
        row = row @ step
    return np.concatenate(result)


def _lengths(shape: float) -> np.ndarray:
    middle = (np.arange(LEVELS) + 0.5) / LEVELS
    quantiles = (-np.log1p(-middle)) ** (1.0 / shape)
    return np.asarray(quantiles / quantiles.mean())


def _residual(shape: float) -> np.ndarray:
    """Return quantiles of what is left of a length: its density is the chance that a length is at least so long."""
    lengths = _lengths(shape)
    x = np.concatenate([[0.0], lengths])
    survive = np.concatenate([[1.0], 1.0 - (np.arange(LEVELS) + 0.5) / LEVELS])
    mass = np.concatenate([[0.0], np.cumsum(np.diff(x) * (survive[1:] + survive[:-1]) / 2.0)])
    return np.interp((np.arange(LEVELS) + 0.5) / LEVELS, mass / mass[-1], x)


def _bouts_per_s(owner: Owner) -> np.ndarray:
    hours = np.repeat(np.asarray(owner.bout_hours), SLOTS // 24)
    return np.asarray(hours / hours.mean() * max(owner.bouts_per_day, 1e-6) / DAY_S)


def _clock(rate_per_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the day's share by slot, its inverse on an even grid in seconds, and the day's total."""
    slot_s = DAY_S / SLOTS
    integral = np.concatenate([[0.0], np.cumsum(rate_per_s * slot_s)])
    share = integral / integral[-1]
    at = np.linspace(0.0, 1.0, CELLS + 1)
    return share, np.interp(at, share, np.arange(SLOTS + 1) * slot_s), float(integral[-1])


def check(name: str, values: Any, low: float, high: float) -> np.ndarray:
    """Return the values as an array; raise a ValueError that names the field and the first row that is outside."""
    array = np.asarray(values)
    good = (array >= low) & (array <= high)
    if not np.all(good):
        row = int(np.flatnonzero(~np.atleast_1d(good))[0])
        raise ValueError(f"{name}[{row}] is {np.atleast_1d(array)[row]}; allowed: {low:g} to {high:g}")
    return array
