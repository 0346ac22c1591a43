"""Placements by a mixed-integer programme: which layers every node holds so that the most tokens flow.

The programme is Helix's (Mei et al., ASPLOS 2025: layer ranges, flow, one range a node) with equal nodes counted, not
named: n(kind, first, layers) nodes hold that range, and flow goes from layer boundary to layer boundary,

    maximise the flow out of boundary 0, with
    flow(range) <= n(range) T(kind, layers), sum of n over a kind <= its nodes, flow kept at every boundary and site,
    flow between sites <= what the links between their nodes carry.

Its rows are boundaries and ranges, not pairs of nodes, which is what makes 42 nodes tractable. Two things differ from
Helix's: a node's range is entered at its beginning only, and links within a site are not in the programme (what a
placement really carries is `flow.max_flow`, with every link). HiGHS stops after a number of branch-and-bound nodes,
never after seconds, so that the answer is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding import local_search
from policies.sharding.answer import pipelines_plan, shortfall
from policies.sharding.cost import end_to_end_s
from policies.sharding.flow import Rates, cached_rates, max_flow, rates, span_max
from policies.sharding.links import TOKEN_BYTES, Network
from policies.sharding.petals import joined
from policies.sharding.routes import disjoint

GAP = 1e-4
"""Relative gap at which a placement counts as optimal, HiGHS's own default."""
ROUNDS, NEAR = 3, 1
"""Times that a placement is improved among ranges whose edges lie within so many layers of its own."""


def helix(problem: Problem, state: State, budget: int) -> Plan:
    """Place by compute alone, as Helix does; ``budget`` is the limit of branch-and-bound nodes."""
    return _plan(problem, rates(problem), budget)


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Place by compute and cache: what a node passes is bounded by the streams whose caches fit (`flow`)."""
    alone = local_search.pipeline(problem, problem.workers)
    if not alone:
        return pipelines_plan(problem, [], shortfall(problem, problem.workers))
    return _plan(problem, cached_rates(problem, end_to_end_s(problem, alone)), budget)


def _plan(problem: Problem, by_node: Rates, budget: int) -> Plan:
    placement = best_placement(problem, by_node, budget)
    tokens_per_s, flows = max_flow(problem, placement, by_node)
    ways = disjoint(placement, flows, len(problem.workers)) if tokens_per_s > 0 else []
    made = pipelines_plan(problem, ways, _why(problem))
    return msgspec.structs.replace(made, placement=placement, flows=flows) if ways else made


def _why(problem: Problem) -> str:
    """Every node of a placement keeps room for both ends, so that it may hold less than one pipeline would."""
    spare = tuple(
        msgspec.structs.replace(w, memory_bytes=max(0.0, w.memory_bytes - 2 * problem.head_bytes))
        for w in problem.workers
    )
    inner = msgspec.structs.replace(problem, head_bytes=0.0, workers=spare)
    return shortfall(inner, spare, f"{len(spare)} workers with both ends kept free")


@dataclass(frozen=True)
class _Range:
    """Some nodes of a kind with ``layers`` layers from ``first``."""

    kind: int
    first: int
    layers: int


def best_placement(problem: Problem, by_node: Rates, nodes_max: int) -> tuple[Stage, ...]:
    """Return the best placement found within ``nodes_max`` branch-and-bound nodes; empty if nothing flows."""
    kinds = _kinds(problem, by_node)
    if not kinds:
        return ()
    tables = [by_node[kind[0].node][: span_max(problem, kind[0])] for kind in kinds]
    held = _Programme(problem, kinds, tables, _spans(problem.layers, tables)).solve(nodes_max)
    placement = _placed(kinds, held)
    best = max_flow(problem, placement, by_node)[0]
    for start in (_level(problem.layers, kinds, tables), joined(problem, 1), joined(problem, 2)):
        if (flow := max_flow(problem, start, by_node)[0]) > best:
            placement, best = start, flow
    for _ in range(ROUNDS):
        held = _Programme(problem, kinds, tables, _near(problem.layers, kinds, tables, placement)).solve(nodes_max)
        improved = _placed(kinds, held)
        if (flow := max_flow(problem, improved, by_node)[0]) <= best * (1 + GAP):
            break
        placement, best = improved, flow
    return placement if best > 0 else ()


def _level(layers: int, kinds: Sequence[Sequence[Worker]], tables: Sequence[Sequence[float]]) -> tuple[Stage, ...]:
    """Return one way through all nodes, each with all the layers at which it still passes what the slowest passes."""
    for rate in sorted({rate for table in tables for rate in table}, reverse=True):
        held = [sum(own >= rate for own in table) for table in tables]
        if sum(count * len(kind) for count, kind in zip(held, kinds, strict=True)) >= layers:
            break
    else:
        return ()
    stages, first = [], 0
    for count, kind in zip(held, kinds, strict=True):
        for worker in kind:
            if last := min(layers - first, count):
                stages.append(Stage(worker.node, first, first + last))
                first += last
    return tuple(stages)


def _spans(layers: int, tables: Sequence[Sequence[float]]) -> list[_Range]:
    return [
        _Range(kind, first, count)
        for kind, table in enumerate(tables)
        for count in range(1, len(table) + 1)
        for first in range(layers - count + 1)
    ]


def _near(
    layers: int, kinds: Sequence[Sequence[Worker]], tables: Sequence[Sequence[float]], placement: Sequence[Stage]
) -> list[_Range]:
    """Return the ranges whose two edges lie near those of a range that the placement has, whosever it is."""
    own = {edge for stage in placement for edge in (stage.first, stage.last)}
    edges = {edge + by for edge in own for by in range(-NEAR, NEAR + 1)}
    return [span for span in _spans(layers, tables) if span.first in edges and span.first + span.layers in edges]


def _placed(kinds: Sequence[Sequence[Worker]], held: Sequence[tuple[_Range, int]]) -> tuple[Stage, ...]:
    """Return who holds what: members of a kind by name."""
    placement, free = [], [iter(kind) for kind in kinds]
    for span, count in held:
        members = [next(free[span.kind]) for _ in range(count)]
        placement += [Stage(worker.node, span.first, span.first + span.layers) for worker in members]
    return tuple(sorted(placement, key=lambda stage: stage.node))


def _kinds(problem: Problem, by_node: Rates) -> list[list[Worker]]:
    """Return workers that hold layers, by site and by what they pass."""
    kinds: dict[Any, list[Worker]] = {}
    for worker in sorted(problem.workers, key=lambda worker: worker.node):
        if span := span_max(problem, worker):
            kinds.setdefault((worker.site, tuple(by_node[worker.node][:span])), []).append(worker)
    return [kinds[key] for key in sorted(kinds)]


@dataclass
class _Programme:
    problem: Problem
    kinds: Sequence[Sequence[Worker]]
    passed: Sequence[Sequence[float]]
    spans: Sequence[_Range]

    def __post_init__(self) -> None:
        self.sites = sorted({kind[0].site for kind in self.kinds})
        self.rows: list[int] = []
        self.columns: list[int] = []
        self.values: list[float] = []
        self.most: list[float] = []  # right-hand sides of rows "at most"

    def solve(self, nodes_max: int) -> list[tuple[_Range, int]]:
        """Return the ranges that are held, and by how many nodes."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # a second to load, which only this should take
        from scipy.sparse import coo_array

        spans, boundaries = len(self.spans), (self.problem.layers + 1) * len(self.sites)
        crossings = self._crossings()
        self._limits()
        limited = len(self.most)
        for column, span in enumerate(self.spans):
            site = self.kinds[span.kind][0].site
            self._entry(limited + self._boundary(span.first, site), spans + column, -1.0)
            self._entry(limited + self._boundary(span.first + span.layers, site), spans + column, 1.0)
        for number, (row_from, row_to, _, _) in enumerate(crossings):
            if row_from >= 0:
                self._entry(limited + row_from, 2 * spans + number, -1.0)
            if row_to >= 0:
                self._entry(limited + row_to, 2 * spans + number, 1.0)
        width = 2 * spans + len(crossings)
        matrix = coo_array((self.values, (self.rows, self.columns)), shape=(limited + boundaries, width)).tocsr()
        upper = [float(len(self.kinds[span.kind])) for span in self.spans] + [np.inf] * spans
        solved = milp(
            [0.0] * (2 * spans) + [-gain for _, _, _, gain in crossings],
            constraints=LinearConstraint(
                matrix, [-np.inf] * limited + [0.0] * boundaries, self.most + [0.0] * boundaries
            ),
            integrality=[1] * spans + [0] * (width - spans),
            bounds=Bounds(0.0, upper + [most for _, _, most, _ in crossings]),
            options={"node_limit": nodes_max, "mip_rel_gap": GAP},
        )
        if solved.x is None:
            return []
        return [(span, round(solved.x[i])) for i, span in enumerate(self.spans) if solved.x[i] > 0.5]

    def _boundary(self, layer: int, site: str) -> int:
        return layer * len(self.sites) + self.sites.index(site)

    def _entry(self, row: int, column: int, value: float) -> None:
        self.rows.append(row)
        self.columns.append(column)
        self.values.append(value)

    def _limits(self) -> None:
        """A range passes what its nodes compute; a kind has so many nodes."""
        for column, span in enumerate(self.spans):
            self._entry(len(self.most), len(self.spans) + column, 1.0)
            self._entry(len(self.most), column, -self.passed[span.kind][span.layers - 1])
            self.most.append(0.0)
        for kind, members in enumerate(self.kinds):
            for column, span in enumerate(self.spans):
                if span.kind == kind:
                    self._entry(len(self.most), column, 1.0)
            self.most.append(float(len(members)))

    def _crossings(self) -> list[tuple[int, int, float, float]]:
        """Return (row out of, row into, tokens a second at most, gain) of the ways that are no range.

        From the source to each site (these are what is maximised), back to it, and between two sites at a boundary.
        """
        network, layers = Network(self.problem), self.problem.layers
        members = {site: [w for kind in self.kinds for w in kind if w.site == site] for site in self.sites}
        ways: list[tuple[int, int, float, float]] = []
        for site in self.sites:
            there, back = (
                sum(network.source_bytes_per_s(w, to_source=to) for w in members[site]) / TOKEN_BYTES
                for to in (False, True)
            )
            ways.append((-1, self._boundary(0, site), there, 1.0))
            ways.append((self._boundary(layers, site), -1, back, 0.0))
            for other in self.sites:
                if other != site:
                    most = sum(network.bytes_per_s(a, b) for a in members[site] for b in members[other])
                    ways += [
                        (self._boundary(at, site), self._boundary(at, other), most / self.problem.activation_bytes, 0.0)
                        for at in range(1, layers)
                    ]
        return ways
