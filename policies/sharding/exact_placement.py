"""The placement of a few nodes and layers through which the most tokens flow, proven: every node and link by name.

Helix's programme (Mei et al., ASPLOS 2025, section 4) opens a pair of nodes where one's end lies in the other's range,
and its relaxation opens half a pair for the price of half. Here each range that a node may hold is a choice, and flows
are told apart by the layers passed, so that half a choice carries half its flow and no more (ours):

    maximise what enters; a node holds one range at most; what comes to a node goes from it;
    link(i, j, z) <= what that link carries, times the ranges of i that end at z, and times those of j that z enters;
    through(i, y, z), summed over y <= any layer <= what i passes, summed over its ranges to z that begin by that layer.

A range [a, b) is entered at any of its layers (partial inference, as in `flow.max_flow`, whose maximum over all
placements this is). HiGHS stops after a number of branch-and-bound nodes, never after seconds: what is then not proven
is not answered, nor is a programme of more than `RANGES_MAX` choices tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.jobs import Stage
from policies.problem import Plan, Problem, State
from policies.sharding.answer import pipelines_plan, shortfall
from policies.sharding.flow import Rates, span_max
from policies.sharding.links import TOKEN_BYTES, Network
from policies.sharding.placement import lone_rates, placed_plan
from policies.sharding.programme import Range, Rows

RANGES_MAX = 200
"""Choices of all nodes together: 168 are eight nodes that hold any range of six layers."""
GAP = 1e-7
"""Relative gap at which a placement counts as proven."""
SOURCE = -1


class Unproven(ValueError):
    """The programme is too large, or its branch-and-bound nodes did not suffice."""


@dataclass(frozen=True)
class _Link:
    """Flow from a node to another once it has passed so many layers; `SOURCE` at either end."""

    sender: int
    receiver: int
    passed: int


@dataclass(frozen=True)
class _Through:
    """Flow that comes to a node having passed ``came`` layers and leaves it having passed ``goes``."""

    node: int
    came: int
    goes: int


Entries = list[tuple[int, float]]


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Place by compute and cache as `placement.plan` does; ``budget`` is the limit of branch-and-bound nodes."""
    by_node = lone_rates(problem)
    if not by_node:
        return pipelines_plan(problem, [], shortfall(problem, problem.workers))
    try:
        return placed_plan(problem, by_node, largest_placement(problem, by_node, budget))
    except Unproven as error:
        return pipelines_plan(problem, [], str(error))


def largest_placement(problem: Problem, by_node: Rates, nodes_max: int) -> tuple[Stage, ...]:
    """Return a placement that no other exceeds by more than `GAP` of its flow; empty if nothing flows.

    Raises:
        Unproven: one line that says how large the programme is, and what is allowed.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # a second to load, which only planners of flows take
    from scipy.sparse import coo_array

    named = _Named(problem, by_node)
    ranges = [key for key in named.columns if isinstance(key, Range)]
    if len(ranges) > RANGES_MAX:
        raise Unproven(f"{len(named.nodes)} workers choose from {len(ranges)} ranges; allowed: up to {RANGES_MAX}")
    if not ranges:
        return ()
    rows, width = named.rows(), len(named.columns)
    matrix = coo_array((rows.values, (rows.rows, rows.columns)), shape=(len(rows.low), width)).tocsr()
    solved = milp(
        [-1.0 if isinstance(key, _Link) and key.sender == SOURCE else 0.0 for key in named.columns],
        constraints=LinearConstraint(matrix, rows.low, rows.high),
        integrality=[int(isinstance(key, Range)) for key in named.columns],
        bounds=Bounds(0.0, [1.0 if isinstance(key, Range) else np.inf for key in named.columns]),
        options={"node_limit": nodes_max, "mip_rel_gap": GAP},
    )
    if solved.status != 0:
        raise Unproven(f"the best placement is not proven within {nodes_max} branch-and-bound nodes")
    held = [key for key, column in named.columns.items() if isinstance(key, Range) and solved.x[column] > 0.5]
    return tuple(Stage(named.nodes[one.kind], one.first, one.last) for one in held) if solved.fun < -1e-9 else ()


class _Named:
    """The programme: its columns by what they stand for, and its rows. Flows are in units of the fastest node's.

    A `Range`'s ``kind`` is here the number of its node.
    """

    def __init__(self, problem: Problem, by_node: Rates) -> None:
        workers = [w for w in sorted(problem.workers, key=lambda w: w.node) if span_max(problem, w)]
        self.nodes = [worker.node for worker in workers]
        self.layers, self.numbers = problem.layers, range(len(workers))
        passed = [by_node[worker.node][: span_max(problem, worker)] for worker in workers]
        unit, network = max((table[0] for table in passed), default=1.0), Network(problem)
        self.passed = [[rate / unit for rate in table] for table in passed]
        self.link: dict[tuple[int, int], float] = {}  # no more than either end passes
        for i, worker in enumerate(workers):
            into, out = (network.source_bytes_per_s(worker, to_source=to) / TOKEN_BYTES / unit for to in (False, True))
            self.link[SOURCE, i], self.link[i, SOURCE] = min(into, self.passed[i][0]), min(out, self.passed[i][0])
            for j in self.numbers:
                if i != j:
                    carried = network.bytes_per_s(worker, workers[j]) / problem.activation_bytes / unit
                    self.link[i, j] = min(carried, self.passed[i][0], self.passed[j][0])
        self.columns = {key: column for column, key in enumerate(self._keys())}

    def _keys(self) -> list[Range | _Link | _Through]:
        found: list[Range | _Link | _Through] = []
        for i in self.numbers:
            most = len(self.passed[i])
            found += [Range(i, a, n) for n in range(1, most + 1) for a in range(self.layers - n + 1)]
            found += [_Through(i, y, z) for z in range(1, self.layers + 1) for y in range(max(0, z - most), z)]
            found += [_Link(SOURCE, i, 0), _Link(i, SOURCE, self.layers)]
            found += [_Link(i, j, z) for j in self.numbers if i != j for z in range(1, self.layers)]
        return found

    def _most(self, held: Range) -> float:
        """Return what a node passes with a range: no more than it computes, and than its links bring or take."""
        i, others = held.kind, [j for j in self.numbers if j != held.kind]
        into = sum(self.link[j, i] for j in others) + (self.link[SOURCE, i] if held.first == 0 else 0.0)
        out = self.link[i, SOURCE] if held.last == self.layers else sum(self.link[i, j] for j in others)
        return min(self.passed[i][held.layers - 1], into, out)

    def rows(self) -> Rows:
        """Return the programme's rows over its columns."""
        rows, columns = Rows(), self.columns
        for i in self.numbers:
            ranges = {key: self._most(key) for key in columns if isinstance(key, Range) and key.kind == i}
            rows.add([(columns[key], 1.0) for key in ranges], -np.inf, 1.0)
            others = [j for j in self.numbers if j != i]
            for z in range(self.layers + 1):
                into = [_Link(j, i, z) for j in others] if z else [_Link(SOURCE, i, 0)]
                out = [_Link(i, j, z) for j in others] if z < self.layers else [_Link(i, SOURCE, z)]
                came = [key for y in range(z + 1, self.layers + 1) if (key := _Through(i, z, y)) in columns]
                goes = [key for y in range(z) if (key := _Through(i, y, z)) in columns]
                if z < self.layers:
                    rows.add(self._entries(into) + self._entries(came, -1.0), 0.0, 0.0)
                if z > 0:
                    rows.add(self._entries(out) + self._entries(goes, -1.0), 0.0, 0.0)
                ends = {key: most for key, most in ranges.items() if key.last == z}
                entered = {key: most for key, most in ranges.items() if key.first <= z < key.last}
                for begun in sorted({key.first for key in ends}):
                    early = [key for key in goes if key.came <= begun]
                    held = [(columns[key], -most) for key, most in ends.items() if key.first <= begun]
                    rows.add(self._entries(early) + held, -np.inf, 0.0)
                if z > 0:
                    self._bound(rows, out, ends)
                if z < self.layers:
                    self._bound(rows, into, entered)
        return rows

    def _entries(self, keys: Sequence[_Link | _Through], value: float = 1.0) -> Entries:
        return [(self.columns[key], value) for key in keys]

    def _bound(self, rows: Rows, links: Sequence[_Link], ranges: dict[Range, float]) -> None:
        """Each of these links carries something only where one of these ranges is held."""
        for link in links:
            most = self.link[link.sender, link.receiver]
            held = [(self.columns[key], -min(most, passed)) for key, passed in ranges.items()]
            rows.add([(self.columns[link], 1.0), *held], -np.inf, 0.0)
