"""Placements of a whole pool: which layers every node holds so that the most tokens flow.

`helix` is Helix's placement (Mei et al., ASPLOS 2025), the maximum flow by compute and links; `plan` bounds what a node
passes by the streams whose caches fit as well, and begins from Helix's and SWARM's too. Both solve `programme`, whose
solver takes no placement to begin from. A small pool is put to it whole, and what comes of that, of plain placements
and of a beam over every node and link (`placement_beam`) is polished by links (`polish`). A large one is put to it with
ranges that begin and end on a grid of layers; the best of that and of a few plain placements (one way through all
nodes, one through each site, Petals' joins) is then improved among the ranges near it, a local search whose moves are
programmes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding import local_search, swarm
from policies.sharding.answer import pipelines_plan, shortfall
from policies.sharding.cost import end_to_end_s
from policies.sharding.flow import Rates, cached_rates, max_flow, rates, span_max
from policies.sharding.petals import joined
from policies.sharding.placement_beam import beamed
from policies.sharding.polish import NODES_MAX, levels, polished
from policies.sharding.programme import GAP, Programme, Range
from policies.sharding.routes import disjoint

ROUNDS, NEAR = 3, 1
"""Times that a placement is improved among ranges whose edges lie within so many layers of its own."""
SPANS_MAX, GRIDS = 200, 2
"""Ranges up to which all of a grid are in the programme, and how many grids are tried."""


def helix(problem: Problem, state: State, budget: int) -> Plan:
    """Place by compute alone, as Helix does; ``budget`` is the limit of branch-and-bound nodes."""
    return _plan(problem, rates(problem), budget)


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Place by compute and cache: what a node passes is bounded by the streams whose caches fit (`flow`)."""
    by_node = lone_rates(problem)
    if not by_node:
        return pipelines_plan(problem, [], shortfall(problem, problem.workers))
    begun = (best_placement(problem, rates(problem), budget), swarm.most(problem, by_node))
    return _plan(problem, by_node, budget, [placement for placement in begun if placement])


def lone_rates(problem: Problem) -> Rates:
    """Return `cached_rates` where a request keeps its cache as long as one alone takes; empty if none fits."""
    alone = local_search.pipeline(problem, problem.workers)
    return cached_rates(problem, end_to_end_s(problem, alone)) if alone else {}


def _plan(problem: Problem, by_node: Rates, budget: int, begun: Sequence[tuple[Stage, ...]] = ()) -> Plan:
    return placed_plan(problem, by_node, best_placement(problem, by_node, budget, begun))


def placed_plan(problem: Problem, by_node: Rates, placement: Sequence[Stage]) -> Plan:
    """Return the plan of a placement, or why there is none if it is empty."""
    tokens_per_s, flows = max_flow(problem, placement, by_node)
    ways = disjoint(placement, flows, len(problem.workers)) if tokens_per_s > 0 else []
    made = pipelines_plan(problem, ways, _why(problem))
    return msgspec.structs.replace(made, placement=tuple(placement), flows=flows) if ways else made


def _why(problem: Problem) -> str:
    """Every node of a placement keeps room for both ends, so that it may hold less than one pipeline would."""
    spare = tuple(
        msgspec.structs.replace(w, memory_bytes=max(0.0, w.memory_bytes - 2 * problem.head_bytes))
        for w in problem.workers
    )
    inner = msgspec.structs.replace(problem, head_bytes=0.0, workers=spare)
    return shortfall(inner, spare, f"{len(spare)} workers with both ends kept free")


def best_placement(
    problem: Problem, by_node: Rates, nodes_max: int, begun: Sequence[tuple[Stage, ...]] = ()
) -> tuple[Stage, ...]:
    """Return the best placement found within ``nodes_max`` branch-and-bound nodes; empty if nothing flows.

    Args:
        begun: further placements to begin from.
    """
    kinds = _kinds(problem, by_node)
    if not kinds:
        return ()
    tables = [by_node[kind[0].node][: span_max(problem, kind[0])] for kind in kinds]
    spans = _spans(problem.layers, tables)
    starts = [_level(problem.layers, kinds, tables), _by_site(problem.layers, kinds, tables)]
    starts += [joined(problem, 1), joined(problem, 2), *begun]
    starts += [_placed(kinds, Programme(problem, kinds, tables, grid).solve(nodes_max)) for grid in _grids(spans)]
    if len(problem.workers) <= NODES_MAX:
        beam = beamed(problem, by_node)
        starts += [*levels(problem, by_node), *([beam] if beam else [])]
        starts = [polished(problem, starts, by_node)]
    best, placement = max(((max_flow(problem, start, by_node)[0], start) for start in starts), key=lambda one: one[0])
    for _ in range(ROUNDS if len(spans) > SPANS_MAX else 0):
        near = _near(spans, placement)
        improved = _placed(kinds, Programme(problem, kinds, tables, near).solve(nodes_max))
        if (flow := max_flow(problem, improved, by_node)[0]) <= best * (1 + GAP):
            break
        placement, best = improved, flow
    return placement if best > 0 else ()


def _grids(spans: Sequence[Range]) -> list[list[Range]]:
    """Return the ranges with both edges on a grid, for the finest grids that leave few enough of them."""
    grids: list[list[Range]] = []
    end = max(span.last for span in spans)
    for step in range(1, end + 1):
        grid = [
            s for s in spans if s.first % step == 0 and ((s.first + s.layers) % step == 0 or s.first + s.layers == end)
        ]
        if grid and len(grid) <= SPANS_MAX:
            grids.append(grid)
        if len(grids) == GRIDS or (step == 1 and grids):
            break
    return grids


def _by_site(layers: int, kinds: Sequence[Sequence[Worker]], tables: Sequence[Sequence[float]]) -> tuple[Stage, ...]:
    """Return one such way through each site that holds the model, and one through all the others."""
    alone: list[Stage] = []
    others: list[int] = []
    for site in sorted({kind[0].site for kind in kinds}):
        own = [i for i, kind in enumerate(kinds) if kind[0].site == site]
        way = _level(layers, [kinds[i] for i in own], [tables[i] for i in own])
        alone += way
        others += [] if way else own
    return (*alone, *_level(layers, [kinds[i] for i in others], [tables[i] for i in others]))


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


def _spans(layers: int, tables: Sequence[Sequence[float]]) -> list[Range]:
    return [
        Range(kind, first, count)
        for kind, table in enumerate(tables)
        for count in range(1, len(table) + 1)
        for first in range(layers - count + 1)
    ]


def _near(spans: Sequence[Range], placement: Sequence[Stage]) -> list[Range]:
    """Return the ranges whose two edges lie near those of a range that the placement has, whosever it is."""
    own = [edge for stage in placement for edge in (stage.first, stage.last)]
    edges = {edge + by for edge in own for by in range(-NEAR, NEAR + 1)}
    return [span for span in spans if span.first in edges and span.last in edges]


def _placed(kinds: Sequence[Sequence[Worker]], held: Sequence[tuple[Range, int]]) -> tuple[Stage, ...]:
    """Return who holds what: members of a kind by name."""
    placement, free = [], [iter(kind) for kind in kinds]
    for span, count in held:
        members = [next(free[span.kind]) for _ in range(count)]
        placement += [Stage(worker.node, span.first, span.last) for worker in members]
    return tuple(sorted(placement, key=lambda stage: stage.node))


def _kinds(problem: Problem, by_node: Rates) -> list[list[Worker]]:
    """Return workers that hold layers, by site and by what they pass."""
    kinds: dict[Any, list[Worker]] = {}
    for worker in sorted(problem.workers, key=lambda worker: worker.node):
        if span := span_max(problem, worker):
            kinds.setdefault((worker.site, tuple(by_node[worker.node][:span])), []).append(worker)
    return [kinds[key] for key in sorted(kinds)]
