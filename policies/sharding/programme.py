"""The mixed-integer programme of a placement: Helix's, with equal nodes counted, not named.

n(kind, first, layers) nodes hold that range, and tokens flow from layer boundary to layer boundary:

    maximise the flow into boundary 0, with
    flow(range) <= n(range) T(kind, layers), sum of n over a kind <= its nodes, flow kept at every boundary and site,
    flow from site to site at a boundary <= a link's rate times the nodes that end there, and those that begin there.

Helix's rows are pairs of nodes; these are boundaries and ranges, which is what makes 42 nodes tractable. Two things
differ: a node's range is entered at its beginning only, and of the links only those between sites count, as if each
node used one of them. What a placement really carries is `flow.max_flow`, with every link. HiGHS stops after a number
of branch-and-bound nodes, never after seconds, so that the answer is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import NamedTuple

import numpy as np

from policies.problem import Problem, Worker
from policies.sharding.links import TOKEN_BYTES, Network

GAP = 1e-4
"""Relative gap at which a placement counts as optimal, HiGHS's own default."""


class Range(NamedTuple):
    """Some nodes of a kind with ``layers`` layers from ``first``."""

    kind: int
    first: int
    layers: int

    @property
    def last(self) -> int:
        """Return the boundary behind the range."""
        return self.first + self.layers


@dataclass
class Rows:
    """A sparse matrix under construction, with its right-hand sides: rows "at most", or "equal to 0"."""

    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, entries: Sequence[tuple[int, float]], low: float, high: float) -> None:
        """Add one row of (column, value)."""
        self.rows += [len(self.low)] * len(entries)
        self.columns += [column for column, _ in entries]
        self.values += [value for _, value in entries]
        self.low.append(low)
        self.high.append(high)


class _Way(NamedTuple):
    """Flow that is no range: from a (boundary, site) to another; None is the source."""

    sender: tuple[int, str] | None
    receiver: tuple[int, str] | None
    most: float


@dataclass
class Programme:
    """The placement of kinds of node over some ranges.

    Attributes:
        kinds: the workers of each kind, all of one site.
        passed: tokens a second of a kind's node by its layers, from 1.
        spans: the ranges that may be held.
    """

    problem: Problem
    kinds: Sequence[Sequence[Worker]]
    passed: Sequence[Sequence[float]]
    spans: Sequence[Range]

    def solve(self, nodes_max: int) -> list[tuple[Range, int]]:
        """Return the ranges that are held, and by how many nodes; empty if none was found."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # a second to load, which only this should take
        from scipy.sparse import coo_array

        count, ways, rows = len(self.spans), self._ways(), Rows()
        for column, span in enumerate(self.spans):
            passed = self.passed[span.kind][span.layers - 1]
            rows.add([(count + column, 1.0), (column, -passed)], -np.inf, 0.0)
        for kind, members in enumerate(self.kinds):
            own = [(column, 1.0) for column, span in enumerate(self.spans) if span.kind == kind]
            rows.add(own, -np.inf, float(len(members)))
        self._keep_flow(rows, ways)
        self._bound_crossings(rows, ways)
        width = 2 * count + len(ways)
        matrix = coo_array((rows.values, (rows.rows, rows.columns)), shape=(len(rows.low), width)).tocsr()
        upper = [float(len(self.kinds[span.kind])) for span in self.spans] + [np.inf] * count
        solved = milp(
            [0.0] * (2 * count) + [-1.0 if way.sender is None else 0.0 for way in ways],
            constraints=LinearConstraint(matrix, rows.low, rows.high),
            integrality=[1] * count + [0] * (width - count),
            bounds=Bounds(0.0, upper + [np.inf if way.sender and way.receiver else way.most for way in ways]),
            options={"node_limit": nodes_max, "mip_rel_gap": GAP},
        )
        if solved.x is None:
            return []
        return [(span, round(solved.x[i])) for i, span in enumerate(self.spans) if solved.x[i] > 0.5]

    def _site(self, span: Range) -> str:
        return self.kinds[span.kind][0].site

    def _keep_flow(self, rows: Rows, ways: Sequence[_Way]) -> None:
        """What flows into a boundary of a site flows out of it."""
        at: dict[tuple[int, str], list[tuple[int, float]]] = {}
        for column, span in enumerate(self.spans, start=len(self.spans)):
            at.setdefault((span.first, self._site(span)), []).append((column, -1.0))
            at.setdefault((span.last, self._site(span)), []).append((column, 1.0))
        for column, way in enumerate(ways, start=2 * len(self.spans)):
            if way.sender is not None:
                at.setdefault(way.sender, []).append((column, -1.0))
            if way.receiver is not None:
                at.setdefault(way.receiver, []).append((column, 1.0))
        for place in sorted(at):
            rows.add(at[place], 0.0, 0.0)

    def _bound_crossings(self, rows: Rows, ways: Sequence[_Way]) -> None:
        """A crossing is carried by the nodes that end at its boundary, and by those that begin there."""
        ends: dict[tuple[int, str], list[int]] = {}
        begins: dict[tuple[int, str], list[int]] = {}
        for column, span in enumerate(self.spans):
            ends.setdefault((span.last, self._site(span)), []).append(column)
            begins.setdefault((span.first, self._site(span)), []).append(column)
        for column, way in enumerate(ways, start=2 * len(self.spans)):
            if way.sender is not None and way.receiver is not None:
                for nodes in (ends[way.sender], begins[way.receiver]):
                    rows.add([(column, 1.0), *((node, -way.most) for node in nodes)], -np.inf, 0.0)

    def _ways(self) -> list[_Way]:
        """Return the ways from the source to each site, back to it, and between sites where ranges meet.

        Those between sites are of one link, the mean one; they count once a node (`_bound_crossings`).
        """
        network, layers = Network(self.problem), self.problem.layers
        sites = sorted({kind[0].site for kind in self.kinds})
        members = {site: [w for kind in self.kinds for w in kind if w.site == site] for site in sites}
        ends = {(span.last, self._site(span)) for span in self.spans}
        begins = {(span.first, self._site(span)) for span in self.spans}
        ways: list[_Way] = []
        for site in sites:
            rates = [sum(network.source_bytes_per_s(w, to_source=to) for w in members[site]) for to in (False, True)]
            ways.append(_Way(None, (0, site), rates[0] / TOKEN_BYTES))
            ways.append(_Way((layers, site), None, rates[1] / TOKEN_BYTES))
        for site, other in permutations(sites, 2):
            pairs = [network.bytes_per_s(a, b) for a in members[site] for b in members[other]]
            one_link = sum(pairs) / len(pairs) / self.problem.activation_bytes
            ways += [
                _Way((at, site), (at, other), one_link)
                for at in range(1, layers)
                if (at, site) in ends and (at, other) in begins
            ]
        return ways
