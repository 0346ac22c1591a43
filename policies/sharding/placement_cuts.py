"""What placements of a few nodes pass, and what those that begin like them pass at most: cuts of many at once (ours).

Nodes come in a fixed order, and a partial placement says what the first ones hold. `flows` is the maximum flow of whole
placements, by the smallest of all cuts. `Bound` is for partial ones and a target: a placement that passes the target
still does so when no rate is larger than the target, which is what makes its bounds close. Those are, with rates so
capped,

- what passes a layer is at most the sum over the nodes that hold it of what each passes, which its length, its ways in
  from nodes that end no later than the layer, and its ways out bound;
- so too in the mean over any set of layers (of more than ten layers: any in a row), where a node that is not placed yet
  takes the range that is best for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.arrays import FloatArray, IntArray
from policies.problem import Problem
from policies.sharding.flow import Rates, span_max
from policies.sharding.links import TOKEN_BYTES, Network

TIE, DIGITS = 1e-10, 9
"""Share of a flow by which another may differ through rounding, and decimals of such shares that are told apart: sums
of matrix products end otherwise in their last bits from CPU to CPU."""
SETS = 16
"""Sets of layers, those of the least bounds, over which nodes not placed are bounded by their ways too (measured)."""
ALL_SETS_MAX = 10
"""Layers up to which all their sets are looked at, 2^n; of more only those in a row, n (n + 1) / 2."""
BLOCK, CUTS = 512, 16_384
"""Partial placements whose bounds are found at once, and cuts of whole ones, for the size of arrays."""


@dataclass(frozen=True)
class Nodes:
    """Nodes that hold layers, in tokens a second.

    Attributes:
        rates: [node, layers held], 0 for none or too many.
        links: [sender, receiver].
        ranges: of each node, [choice, (first, last)]; the first choice is none, (0, 0).
    """

    names: tuple[str, ...]
    layers: int
    rates: FloatArray
    enters: FloatArray
    leaves: FloatArray
    links: FloatArray
    ranges: tuple[IntArray, ...]

    def ordered(self, order: Sequence[int]) -> Nodes:
        """Return the same nodes in another order."""
        at = np.array(order, dtype=np.int64)
        return Nodes(
            tuple(self.names[i] for i in order), self.layers, self.rates[at], self.enters[at], self.leaves[at],
            self.links[at][:, at], tuple(self.ranges[i] for i in order),
        )  # fmt: skip


def nodes_of(problem: Problem, by_node: Rates) -> Nodes:
    """Return a problem's nodes by name."""
    workers = [w for w in sorted(problem.workers, key=lambda w: w.node) if span_max(problem, w)]
    network, layers = Network(problem), problem.layers
    rates, ranges = np.zeros((len(workers), layers + 1)), []
    for i, worker in enumerate(workers):
        most = span_max(problem, worker)
        rates[i, 1 : most + 1] = by_node[worker.node][:most]
        held = [(a, a + n) for n in range(1, most + 1) for a in range(layers - n + 1)]
        ranges.append(np.array([(0, 0), *held], dtype=np.int64))
    links = np.zeros((len(workers), len(workers)))
    for i, one in enumerate(workers):
        for j, other in enumerate(workers):
            links[i, j] = network.bytes_per_s(one, other) / problem.activation_bytes if i != j else 0.0
    most = rates.max(1, initial=0.0)
    links = np.minimum(np.minimum(links, most[:, None]), most)  # finite, and no flow is less for it
    enters, leaves = (
        np.array([network.source_bytes_per_s(w, to_source=to) / TOKEN_BYTES for w in workers]) for to in (False, True)
    )
    names = tuple(worker.node for worker in workers)
    return Nodes(names, layers, rates, enters, leaves, links, tuple(ranges))


def flows(nodes: Nodes, held: IntArray) -> FloatArray:
    """Return the maximum flow of each whole placement, [placement, node, (first, last)]."""
    block = max(1, CUTS >> len(nodes.names))
    blocks = [_flows(nodes, held[k : k + block]) for k in range(0, len(held), block)]
    return np.concatenate([np.zeros(0), *blocks])


def _flows(nodes: Nodes, held: IntArray) -> FloatArray:
    """The least of all cuts: some nodes' ways out lie before it; the others are cut within, or before them."""
    count, (firsts, lasts) = len(nodes.names), (held[:, :, 0], held[:, :, 1])
    follows = (firsts[:, None, :] <= lasts[:, :, None]) & (lasts[:, :, None] < lasts[:, None, :])
    links = np.where(follows, nodes.links, 0.0)
    enters = np.where((firsts == 0) & (lasts > 0), nodes.enters, 0.0)
    leaves = np.where(lasts == nodes.layers, nodes.leaves, 0.0)
    before = (np.arange(2**count)[:, None] >> np.arange(count)) & 1  # [cut, node]
    into = np.matmul(before.astype(np.float64), links) + enters[:, None, :]  # [placement, cut, node]
    within = np.minimum(into, nodes.rates[np.arange(count), lasts - firsts][:, None, :])
    least: FloatArray = np.where(before == 1, leaves[:, None, :], within).sum(2).min(1)
    return least


def ranked(shares: FloatArray) -> IntArray:
    """Return the order in which shares rise; those that differ by rounding alone stay in theirs."""
    order: IntArray = np.argsort(np.round(shares, DIGITS), kind="stable")
    return order


def _sets(layers: int) -> FloatArray:
    """Return sets of layers, [layer, set]."""
    if layers <= ALL_SETS_MAX:
        return ((np.arange(1, 2**layers) >> np.arange(layers)[:, None]) & 1).astype(np.float64)
    rows = [(first, last) for first in range(layers) for last in range(first + 1, layers + 1)]
    firsts, lasts = np.array(rows, dtype=np.int64).T
    at = np.arange(layers)[:, None]
    in_a_row: FloatArray = ((firsts <= at) & (at < lasts)).astype(np.float64)
    return in_a_row


class Bound:
    """What placements that begin in a certain way pass at most, if they pass a target."""

    def __init__(self, nodes: Nodes, target: float) -> None:
        self.nodes, self.target, count = nodes, target, len(nodes.names)
        self.at = np.arange(nodes.layers)
        self.sets = _sets(nodes.layers)
        self.set_layers = self.sets.sum(0)
        rates = np.minimum(nodes.rates, target)
        most = rates.max(1, initial=0.0)
        self.links = np.minimum(np.minimum(nodes.links, most[:, None]), most)
        self.enters, self.leaves = np.minimum(nodes.enters, target), np.minimum(nodes.leaves, target)
        self.into, self.out = self.links.sum(0) + self.enters, self.links.sum(1) + self.leaves
        self.passed = np.minimum(rates, np.minimum(self.into, self.out)[:, None])
        # From each node on, nothing of the others known: what is passed over each set of layers, and ways in and out.
        self.shared: list[FloatArray] = [np.zeros(0)] * count
        self.numbers = np.zeros((count, nodes.layers, nodes.layers + 1), dtype=np.int64)
        self.rest = np.zeros((count + 1, len(self.set_layers)))
        for i in reversed(range(count)):
            firsts, lasts = nodes.ranges[i].T
            self.numbers[i, firsts, lasts] = np.arange(len(firsts))
            self.shared[i] = self._holds(firsts, lasts) @ self.sets * self.passed[i][lasts - firsts][:, None]
            self.rest[i] = self.rest[i + 1] + self.shared[i].max(0)
        self.rest_into = np.array([self.links[d:].sum(0) for d in range(count + 1)])
        self.rest_out = np.array([self.links[:, d:].sum(1) for d in range(count + 1)])

    def importance(self) -> FloatArray:
        """Return of each node what it and its ways pass, large where much depends on what the node holds."""
        area: FloatArray = (self.passed * np.arange(self.nodes.layers + 1)).max(1) * (self.into + self.out)
        return area

    def root(self) -> float:
        """Return the bound of all placements."""
        return float((self.rest[0] / self.set_layers).min())

    def branched(self, held: IntArray) -> tuple[IntArray, FloatArray]:
        """Return the placements with one node more that may pass the target, and their bounds.

        Args:
            held: [placement, node, (first, last)] of the first nodes.
        """
        held = self._by_length(held)
        found = [self._by_ways(held[k : k + BLOCK]) for k in range(0, len(held), BLOCK)]
        if not found:
            return held, np.zeros(0)
        return np.concatenate([kept for kept, _ in found]), np.concatenate([bounds for _, bounds in found])

    def _holds(self, firsts: IntArray, lasts: IntArray) -> FloatArray:
        return ((firsts[..., None] <= self.at) & (self.at < lasts[..., None])).astype(np.float64)

    def _by_length(self, held: IntArray) -> IntArray:
        """Return the placements with one node more, those that may pass the target by the lengths of ranges."""
        placed = held.shape[1]
        own = (self.shared[placed] + self.rest[placed + 1]) / self.set_layers
        total = sum(
            (self.shared[i][self.numbers[i, held[:, i, 0], held[:, i, 1]]] for i in range(placed)),
            np.zeros((len(held), 1)),
        )
        bounds = np.full((len(held), len(own)), np.inf)
        for before, here in zip(
            (total / self.set_layers).T, own.T, strict=True
        ):  # set by set: arrays that stay in the caches
            np.minimum(bounds, before[:, None] + here, out=bounds)
        parents, choices = np.nonzero(bounds >= self.target * (1 - TIE))
        added = self.nodes.ranges[placed][choices][:, None, :]
        return np.concatenate([held[parents], added], axis=1)

    def _by_ways(self, held: IntArray) -> tuple[IntArray, FloatArray]:
        placed = held.shape[1]
        firsts, lasts = held[:, :, 0], held[:, :, 1]
        passed, holds = self.passed[np.arange(placed), lasts - firsts], self._holds(firsts, lasts)
        follows = (firsts[:, None, :] <= lasts[:, :, None]) & (lasts[:, :, None] < lasts[:, None, :])
        links = np.minimum(np.minimum(self.links[:placed, :placed], passed[:, :, None]), passed[:, None, :])
        links = np.where(follows & (lasts > 0)[:, :, None], links, 0.0)
        open_out = self.rest_out[placed, :placed] * (lasts < self.nodes.layers)
        out = links.sum(2) + open_out + np.where(lasts == self.nodes.layers, self.leaves[:placed], 0.0)
        begun = self.rest_into[placed, :placed] + np.where(firsts == 0, self.enters[:placed], 0.0)
        ended = (lasts[:, :, None] <= self.at).astype(np.float64)  # no later than each layer
        into = np.matmul(links.transpose(0, 2, 1), ended) + begun[:, :, None]
        by_layer = (holds * np.minimum(np.minimum(passed, out)[:, :, None], into)).sum(1)
        total = by_layer @ self.sets
        by_set = (total + self.rest[placed]) / self.set_layers
        bounds = by_set.min(1)
        kept = bounds >= self.target * (1 - TIE)
        if placed == len(self.nodes.names) or not kept.any():
            return held[kept], bounds[kept]
        least = ranked(by_set[kept].mean(0) / self.target)[:SETS]
        return self._by_free_ways(held[kept], total[kept], least)

    def _by_free_ways(self, held: IntArray, total: FloatArray, which: IntArray) -> tuple[IntArray, FloatArray]:
        """Bound what nodes not placed yet pass by their ways to and from those that are, over some sets of layers."""
        placed, (firsts, lasts) = held.shape[1], (held[:, :, 0], held[:, :, 1])
        ends = ((lasts[:, :, None] == self.at) & (lasts > 0)[:, :, None]).astype(np.float64)
        into = np.matmul(ends.transpose(0, 2, 1), self.links[:placed, placed:])  # [placement, end, receiver]
        out = np.matmul(self._holds(firsts, lasts).transpose(0, 2, 1), self.links[placed:, :placed].T)
        total, sets, layers, rest = total[:, which], self.sets[:, which], self.set_layers[which], self.rest[:, which]
        for i in range(placed, len(self.nodes.names)):
            first, last = self.nodes.ranges[i].T
            span = self._holds(first, last)
            comes = into[:, :, i - placed] @ span.T + self.rest_into[placed, i]
            comes += np.where(first == 0, self.enters[i], 0.0)
            goes = np.full((len(held), self.nodes.layers + 1), self.leaves[i])
            goes[:, :-1] = out[:, :, i - placed] + self.rest_out[placed, i]
            most = np.minimum(np.minimum(comes, goes[:, last]), self.passed[i][last - first])
            total = total + (most[:, :, None] * (span @ sets)).max(1)
            bounds = ((total + rest[i + 1]) / layers).min(1)
            kept = bounds >= self.target * (1 - TIE)
            held, total, bounds, into, out = held[kept], total[kept], bounds[kept], into[kept], out[kept]
        return held, bounds
