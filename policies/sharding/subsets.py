"""The exact pipeline over a set of devices: a dynamic programme over subsets, equal devices counted, not named.

Layers are alike, so the problem falls apart into three choices. For a set of devices S with a first and a
last one:

- how many layers each takes: one at least, the rest to the fastest under the memory limits. Moving a layer
  to a slower device never helps, so this filling is optimal;
- in what order the others come: the shortest path through S from first to last (Held and Karp 1962, dynamic
  programming over subsets, O(2^k k^2) a first device);
- which S, first and last: all of them, at once, as arrays.

Order and filling share nothing but S, first and last, so the sum of the two optima is the optimum.

Devices of one *kind* stand for one another, so a subset is a count of each kind (as in PipeEdge's bottleneck
programme, Hu et al. 2022): product(c + 1) states instead of 2^k. With every device a kind of its own that is the
programme over subsets itself, device i being bit i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import FloatArray, IntArray
from policies.jobs import Stage
from policies.problem import Problem, Worker
from policies.sharding.cost import Terms, terms
from policies.sharding.kinds import Kind, kinds_of, states

CELLS_MAX = 8_000_000
"""Cells [state, first, last] that the programme may have: 64 MB a table."""
MIDDLE, FIRST, LAST, BOTH = range(4)


def best_pipeline(problem: Problem, candidates: Sequence[Worker], *, collapse: bool = False) -> tuple[Stage, ...]:
    """Return the exact minimum over all pipelines of these candidates, or nothing if none fits.

    Ties go to the first names: candidates are numbered by name and the first minimum is taken.

    Args:
        collapse: count equal devices instead of telling them apart; the same minimum, other ties.

    Raises:
        ValueError: more kinds of device than the programme has room for.
    """
    devices = sorted(candidates, key=lambda worker: worker.node)
    if not devices:
        return ()
    cost = terms(problem, devices)
    kinds = kinds_of(problem, devices, cost) if collapse else [Kind((i,)) for i in range(len(devices))]
    return cheapest(problem.layers, cost, devices, kinds)


def cheapest(layers: int, cost: Terms, devices: Sequence[Worker], kinds: Sequence[Kind]) -> tuple[Stage, ...]:
    """Return the pipeline of least cost under terms of any meaning, or nothing if none has room.

    Raises:
        ValueError: more kinds of device than the programme has room for.
    """
    if (cells := states(kinds) * len(kinds) ** 2) > CELLS_MAX:
        text = f"{len(devices)} devices of {len(kinds)} kinds make {cells} cells; allowed: up to {CELLS_MAX}"
        raise ValueError(f"candidates: {text}")
    return _Table(layers, cost, kinds).pipeline(devices)


@dataclass
class _Table:
    """The programme's arrays over states (counts of each kind), first kind and last kind."""

    layers: int
    cost: Terms
    kinds: Sequence[Kind]

    def __post_init__(self) -> None:
        sizes = [len(kind.members) + 1 for kind in self.kinds]
        self.stride = np.cumprod([1, *sizes[:-1]])
        self.count: IntArray = np.arange(int(np.prod(sizes)))[:, None] // self.stride % sizes  # [state, kind]
        self.size = self.count.sum(axis=1)
        self.one = [kind.members[0] for kind in self.kinds]
        self.hop_s = _between(self.cost.hop_s, self.kinds)
        self.by_speed = sorted(range(len(self.kinds)), key=lambda kind: (self.cost.layer_s[self.one[kind]], kind))

    def pipeline(self, devices: Sequence[Worker]) -> tuple[Stage, ...]:
        path_s = self._paths()
        ends_s = np.broadcast_to(_between(self.cost.ends_s, self.kinds), path_s.shape)
        total_s = path_s + self._filling() + ends_s
        for kind, device in enumerate(self.one):  # one device is both ends
            state = self.stride[kind]
            total_s[state, kind, kind] += self.cost.ends_s[device, device] - ends_s[state, kind, kind]
        best = int(np.argmin(total_s))
        if not np.isfinite(total_s.flat[best]):
            return ()
        state, first, last = (int(i) for i in np.unravel_index(best, total_s.shape))
        order = self._order(path_s, state, first, last)
        free = [iter(kind.members) for kind in self.kinds]
        chosen = [next(free[kind]) for kind in order]
        counts = fill(self.layers, self.cost, chosen)
        edges = np.cumsum([0, *counts]).tolist()
        return tuple(Stage(devices[d].node, edges[i], edges[i + 1]) for i, d in enumerate(chosen))

    def _paths(self) -> FloatArray:
        """Return [state, first, last]: the shortest path through all of a state between two of its kinds."""
        kinds = len(self.kinds)
        path = np.full((len(self.count), kinds, kinds), np.inf)
        for kind in range(kinds):
            path[self.stride[kind], kind, kind] = 0.0
        for size in range(2, int(self.size.max()) + 1):
            for last in range(kinds):
                ending = np.flatnonzero((self.size == size) & (self.count[:, last] > 0))
                before = path[ending - self.stride[last]]  # [state, first, the one before last]
                path[ending, :, last] = (before + self.hop_s[:, last]).min(axis=2)
        return path

    def _order(self, path_s: FloatArray, state: int, first: int, last: int) -> list[int]:
        order = [last]
        while self.size[state] > 1:
            state -= int(self.stride[last])
            last = int(np.argmin(path_s[state, first] + self.hop_s[:, last]))
            order.append(last)
        return order[::-1]

    def _filling(self) -> FloatArray:
        """Return [state, first, last]: the seconds of all stages under the best filling, infinite if none fits."""
        kinds, cost = len(self.kinds), self.cost
        left = np.empty((len(self.count), kinds, kinds))
        left[:] = (self.layers - self.size)[:, None, None]  # beyond one layer each
        seconds = np.where(left < 0.0, np.inf, 0.0)
        for kind in self.by_speed:
            device, count = self.one[kind], self.count[:, kind].astype(np.float64)
            room, fits = self._room(kind)
            extra = np.minimum(left, np.maximum(room, 0.0))
            left -= extra
            base = count * (cost.step_s[device] + cost.layer_s[device])
            seconds += extra * cost.layer_s[device] + np.where(fits, base[:, None, None], np.inf)
        seconds[left > 0.0] = np.inf
        return seconds

    def _room(self, kind: int) -> tuple[FloatArray, FloatArray]:
        """Return [state, first, last]: layers a kind's devices hold beyond one each, and whether that one fits."""
        kinds, room = len(self.kinds), self.cost.room[self.one[kind]] - 1.0
        is_first = np.zeros((kinds, kinds))
        is_first[kind, :] = 1.0
        count = self.count[:, kind].astype(np.float64)[:, None, None]
        middle = np.maximum(count - is_first - is_first.T, 0.0)  # states without their ends are on no path
        total = middle * room[MIDDLE] + is_first * room[FIRST] + is_first.T * room[LAST]
        fits = ((middle < 1) | (room[MIDDLE] >= 0)) & ((is_first < 1) | (room[FIRST] >= 0))
        fits &= (is_first.T < 1) | (room[LAST] >= 0)
        total = np.where(count < 1, 0.0, total)
        fits |= count < 1
        state = self.stride[kind]
        total[state, kind, kind] = room[BOTH]
        fits[state, kind, kind] = room[BOTH] >= 0
        return total, fits


def _between(pairs: FloatArray, kinds: Sequence[Kind]) -> FloatArray:
    """Return [kind, kind]: the value between two different devices of these kinds."""
    one = [kind.members[0] for kind in kinds]
    two = [kind.members[1 if len(kind.members) > 1 else 0] for kind in kinds]
    between = pairs[np.ix_(one, one)].copy()
    np.fill_diagonal(between, pairs[one, two])
    return between


def fill(layers: int, cost: Terms, order: Sequence[int]) -> list[int]:
    """Return the layers of each device of a pipeline: one each, the rest to the fastest that have room.

    Equal ones are filled in the pipeline's order of numbers, which is that of names.
    """
    end = len(order) - 1
    roles = [MIDDLE if 0 < i < end else BOTH if end == 0 else FIRST if i == 0 else LAST for i in range(end + 1)]
    room = [int(cost.room[device, role]) - 1 for device, role in zip(order, roles, strict=True)]
    counts, left = [1] * len(order), layers - len(order)
    for i in sorted(range(len(order)), key=lambda i: (cost.layer_s[order[i]], order[i])):
        extra = min(left, room[i])
        counts[i], left = 1 + extra, left - extra
    return counts
