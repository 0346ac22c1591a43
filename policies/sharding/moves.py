"""Moves of a local search over pipelines: what each costs, for all devices at once.

A pipeline is an order of devices; its layers follow (`subsets.fill`). While it holds too few, each missing layer
has a price, so that a search may pass through pipelines that do not hold the model yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.arrays import FloatArray
from policies.sharding.cost import Terms
from policies.sharding.subsets import BOTH, FIRST, LAST, MIDDLE

Order = list[int]
ENOUGH = 1 - 1e-12
"""Below this share of the seconds a move counts as one: above is rounding."""


@dataclass(frozen=True)
class Moves:
    """The neighbours of a pipeline under one price of a missing layer."""

    layers: int
    cost: Terms
    price_s: float

    def total_s(self, order: Sequence[int]) -> float:
        """Return the seconds of a pipeline, with the price of what it does not hold."""
        at = np.array(order)
        hops = float(self.cost.hop_s[at[:-1], at[1:]].sum())
        filling = _Filling(self.cost.layer_s[at], self.cost.room[at, roles(len(order))] - 1.0)
        ends = float(self.cost.ends_s[at[0], at[-1]])
        return hops + ends + float(self.cost.step_s[at].sum()) + filling.alone(self.layers - len(order), self.price_s)

    def better(self, order: Order, now_s: float) -> tuple[float, Order] | None:
        """Return a cheaper neighbour: one device more, fewer or elsewhere, and only if none is, another device."""
        outside = np.setdiff1d(np.arange(len(self.cost.layer_s)), order)
        found = [self._reordered(order), self._removed(order)]
        if outside.size and len(order) < self.layers:
            found += self._inserted(order, outside)
        best = min(found, key=lambda one: one[0])
        if best[0] >= now_s * ENOUGH and outside.size:  # the dear ones last
            best = min((self._replaced(order, i, outside) for i in range(len(order))), key=lambda one: one[0])
        return best if best[0] < now_s * ENOUGH else None

    def _with_one(self, base: Sequence[int], base_roles: Sequence[int], new: FloatArray, role: int) -> FloatArray:
        """Return [device]: fill and steps of ``base`` and one of the devices ``new`` in that role."""
        at = np.array(base, dtype=np.int64)
        filling = _Filling(self.cost.layer_s[at], self.cost.room[at, base_roles] - 1.0)
        left = self.layers - len(base) - 1
        seconds = filling.with_one(self.cost.layer_s[new], self.cost.room[new, role] - 1.0, left, self.price_s)
        seconds += self.cost.step_s[new] + float(self.cost.step_s[at].sum())
        return seconds

    def _replaced(self, order: Order, i: int, outside: FloatArray) -> tuple[float, Order]:
        k, hop, own = len(order), self.cost.hop_s, roles(len(order))
        rest = order[:i] + order[i + 1 :]
        seconds = self._with_one(rest, own[:i] + own[i + 1 :], outside, own[i])
        others = sum(hop[a, b] for a, b in pairwise(order) if order[i] not in (a, b))
        seconds = seconds + others
        if i > 0:
            seconds += hop[order[i - 1], outside]
        if i < k - 1:
            seconds += hop[outside, order[i + 1]]
        first = outside if i == 0 else order[0]
        last = outside if i == k - 1 else order[-1]
        seconds += self.cost.ends_s[first, last]
        best = int(np.argmin(seconds))
        return float(seconds[best]), [*order[:i], int(outside[best]), *order[i + 1 :]]

    def _inserted(self, order: Order, outside: FloatArray) -> list[tuple[float, Order]]:
        k, hop, at = len(order), self.cost.hop_s, np.array(order)
        within = float(hop[at[:-1], at[1:]].sum())
        new = roles(k + 1)
        front = self._with_one(order, new[1:], outside, FIRST) + (within + hop[outside, at[0]])
        front += self.cost.ends_s[outside, at[-1]]
        back = self._with_one(order, new[:-1], outside, LAST) + (within + hop[at[-1], outside])
        back += self.cost.ends_s[at[0], outside]
        f, b = int(np.argmin(front)), int(np.argmin(back))
        found = [(float(front[f]), [int(outside[f]), *order]), (float(back[b]), [*order, int(outside[b])])]
        if k > 1:
            inner = self._with_one(order, roles(k), outside, MIDDLE) + (within + self.cost.ends_s[at[0], at[-1]])
            detour = hop[at[:-1][:, None], outside] + hop[outside[:, None], at[1:]].T - hop[at[:-1], at[1:]][:, None]
            slot, m = np.unravel_index(int(np.argmin(detour + inner)), detour.shape)
            chosen = [*order[: slot + 1], int(outside[m]), *order[slot + 1 :]]
            found.append((float(detour[slot, m] + inner[m]), chosen))
        return found

    def _removed(self, order: Order) -> tuple[float, Order]:
        if len(order) == 1:
            return np.inf, order
        shorter = [order[:i] + order[i + 1 :] for i in range(len(order))]
        return min(((self.total_s(one), one) for one in shorter), key=lambda one: one[0])

    def _reordered(self, order: Order) -> tuple[float, Order]:
        """Move one device inside, or to an end, or trade places with an end (ends cost room: those are tried whole)."""
        k = len(order)
        if k < 2:
            return np.inf, order
        tries: list[Order] = [order[::-1]]
        for i in range(k):
            rest = order[:i] + order[i + 1 :]
            tries += [[order[i], *rest], [*rest, order[i]]]
            if 0 < i < k - 1:
                tries += [[order[i], *order[1:i], order[0], *order[i + 1 :]]]
                tries += [[*order[:i], order[-1], *order[i + 1 : -1], order[i]]]
        found = min(((self.total_s(one), one) for one in tries), key=lambda one: one[0])
        return min(found, self._moved_inside(order), key=lambda one: one[0])

    def _moved_inside(self, order: Order) -> tuple[float, Order]:
        k, hop, at = len(order), self.cost.hop_s, np.array(order)
        if k < 4:
            return np.inf, order
        i = np.arange(1, k - 1)
        freed = hop[at[i - 1], at[i]] + hop[at[i], at[i + 1]] - hop[at[i - 1], at[i + 1]]
        slot = np.arange(k - 1)
        detour = hop[at[slot][None, :], at[i][:, None]] + hop[at[i][:, None], at[slot + 1][None, :]]
        delta = detour - hop[at[slot], at[slot + 1]] - freed[:, None]
        delta[(slot == i[:, None]) | (slot == i[:, None] - 1)] = np.inf
        row, to = np.unravel_index(int(np.argmin(delta)), delta.shape)
        moved, rest = order[row + 1], order[: row + 1] + order[row + 2 :]
        place = to + 1 if to < row + 1 else to
        chosen = [*rest[:place], moved, *rest[place:]]
        return self.total_s(chosen), chosen


def roles(k: int) -> list[int]:
    """Return the roles of a pipeline of k devices, as columns of `Terms.room`."""
    return [BOTH] if k == 1 else [FIRST, *[MIDDLE] * (k - 2), LAST]


class _Filling:
    """The seconds of x layers beyond one each, over devices of which the fastest take all they can hold."""

    def __init__(self, layer_s: FloatArray, room: FloatArray) -> None:
        by_speed = np.argsort(layer_s, kind="stable")
        self.layer_s = layer_s[by_speed]
        self.each_s = float(layer_s.sum())
        self.lacking = float(-np.minimum(room, 0.0).sum())  # ends that do not hold even one layer
        held = np.maximum(room[by_speed], 0.0)
        self.room = np.concatenate(([0.0], np.cumsum(held)))
        self.seconds = np.concatenate(([0.0], np.cumsum(held * self.layer_s)))

    def alone(self, left: int, price_s: float) -> float:
        return self.each_s + float(self._of(np.array(float(left)), price_s))

    def with_one(self, layer_s: FloatArray, room: FloatArray, left: int, price_s: float) -> FloatArray:
        """Return [device]: the seconds with that device, which takes a layer and its part of ``left``."""
        faster = self.room[np.searchsorted(self.layer_s, layer_s, side="right")]
        own = np.clip(np.minimum(room, left - faster), 0.0, None)
        lacking = np.maximum(-room, 0.0) * price_s
        seconds: FloatArray = self.each_s + layer_s + own * layer_s + self._of(left - own, price_s) + lacking
        return seconds

    def _of(self, left: FloatArray, price_s: float) -> FloatArray:
        missing = np.maximum(left - self.room[-1], 0.0) + self.lacking
        seconds: FloatArray = np.interp(left, self.room, self.seconds) + missing * price_s
        return seconds
