"""Petals' placement (Borzunov et al. 2023; bigscience-workshop/petals): greedy joins, rebalancing, shortest routes.

A server holds as many blocks as fit (or half of them, if the swarm then carries more) and joins where the swarm is
weakest: the start whose window of throughputs, sorted, is the smallest. It moves if, after everybody had re-placed
themselves, the weakest block would be so much better that now / then is under 0.75. Its throughput is the smaller of
what its link passes and what a request through half its blocks gets. A client takes the shortest way, uses each server
to its end, and pays 18 ms a hop.

Ideal inputs: true throughputs and delays, no relays, servers join in the order of their names.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from models.arrays import FloatArray
from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding.answer import pipelines_plan, unheld
from policies.sharding.flow import max_flow, rates, span_max, worker_rates
from policies.sharding.links import Network

QUALITY = 0.75
"""Petals' balance_quality."""
HOP_S = 0.018
"""Petals' serialization overhead a hop."""
PASSES = 10
"""Rounds in which every server may move: enough, as a move must gain a third."""


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Place every worker, then take routes through workers not yet used, ``budget`` at most."""
    halves = [rebalanced(problem, joined(problem, divisor)) for divisor in (1, 2)]
    placement = max(halves, key=lambda held: max_flow(problem, held, rates(problem))[0])
    routes: list[tuple[Stage, ...]] = []
    while len(routes) < budget and (found := route(problem, placement, {s.node for r in routes for s in r})):
        routes.append(found)
    if not routes:
        held = {layer for stage in placement for layer in range(stage.first, stage.last)}
        rule = f"{len(problem.workers)} workers that join by name"
        return pipelines_plan(problem, [], unheld(problem, problem.layers - len(held), rule))
    made = pipelines_plan(problem, routes, "")
    _, flows = max_flow(problem, placement, rates(problem))
    return Plan(made.pipelines, made.latency_s, "", placement, flows)


def joined(problem: Problem, divisor: int = 1) -> tuple[Stage, ...]:
    """Return where each worker settles when they join by name, with a part of the blocks that fit."""
    held, placement = np.zeros(problem.layers), []
    for worker in sorted(problem.workers, key=lambda worker: worker.node):
        if blocks := -(-span_max(problem, worker) // divisor):
            first = weakest(held, blocks)
            placement.append(Stage(worker.node, first, first + blocks))
            held[first : first + blocks] += server_rps(problem, worker, blocks)
    return tuple(placement)


def weakest(held: FloatArray, blocks: int) -> int:
    """Return the start of the window of ``blocks`` whose sorted throughputs are smallest, the first of equal ones."""
    return min(range(len(held) - blocks + 1), key=lambda first: (sorted(held[first : first + blocks]), first))


def server_rps(problem: Problem, worker: Worker, blocks: int) -> float:
    """Return a server's throughput as it announces it: of its link, or of a request through half its blocks."""
    block_rps = worker_rates(problem, worker)[blocks - 1] * blocks
    return min(worker.bytes_per_s / problem.activation_bytes, block_rps / ((blocks + 1) / 2))


def rebalanced(problem: Problem, placement: Sequence[Stage]) -> tuple[Stage, ...]:
    """Let each server move in turn while its move would pass the threshold."""
    now = list(placement)
    rps = _announced(problem, now)
    for _ in range(PASSES):
        moved = False
        for i in range(len(now)):
            held = _held(problem.layers, now, rps)
            own = now[i]
            there = held.copy()
            there[own.first : own.last] -= rps[own.node]
            if there.min() <= 1e-9 * held.max() and held.min() > 1e-9 * held.max():
                continue  # never leave a gap
            first = weakest(np.round(there, 9), own.last - own.first)
            if first == own.first:
                continue
            then = [*now[:i], Stage(own.node, first, first + own.last - own.first), *now[i + 1 :]]
            after = _held(problem.layers, _settled(problem.layers, then, rps), rps)
            if held.min() < QUALITY * after.min():
                now, moved = then, True
        if not moved:
            break
    return tuple(now)


def _settled(layers: int, placement: Sequence[Stage], rps: dict[str, float]) -> list[Stage]:
    """Return the placement after every server has moved to its weakest window, again and again, a few times."""
    now = list(placement)
    for _ in range(PASSES):
        before = list(now)
        for i, own in enumerate(now):
            held = _held(layers, now, rps)
            held[own.first : own.last] -= rps[own.node]
            first = weakest(np.round(held, 9), own.last - own.first)
            now[i] = Stage(own.node, first, first + own.last - own.first)
        if now == before:
            break
    return now


def _held(layers: int, placement: Sequence[Stage], rps: dict[str, float]) -> FloatArray:
    held = np.zeros(layers)
    for stage in placement:
        held[stage.first : stage.last] += rps[stage.node]
    return held


def _announced(problem: Problem, placement: Sequence[Stage]) -> dict[str, float]:
    by_node = {worker.node: worker for worker in problem.workers}
    return {stage.node: server_rps(problem, by_node[stage.node], stage.last - stage.first) for stage in placement}


def route(problem: Problem, placement: Sequence[Stage], used: Collection[str]) -> tuple[Stage, ...]:
    """Return the shortest way through servers not used: a hop costs its delay and 18 ms, a block its own time.

    Servers are entered at the layer that is needed and used to their end, so ways end at later and later layers:
    settling servers by their end is Dijkstra's order without a queue.
    """
    network, by_node = Network(problem), {worker.node: worker for worker in problem.workers}
    free = sorted((s for s in placement if s.node not in used), key=lambda s: (s.last, s.first, s.node))
    best: dict[str, tuple[float, tuple[Stage, ...]]] = {}
    for stage in free:
        worker = by_node[stage.node]
        ways: list[tuple[float, tuple[Stage, ...]]] = []
        if stage.first == 0:
            hop_s = HOP_S + (network.from_source_s(worker, 0.0) if problem.source else 0.0)
            ways.append((hop_s + stage.last * worker.layer_s, (stage,)))
        for before_s, path in best.values():
            end = path[-1]
            if stage.first <= end.last < stage.last:
                hop_s = HOP_S + network.hop_s(by_node[end.node], worker, 0.0)
                own = Stage(stage.node, end.last, stage.last)
                ways.append((before_s + hop_s + (stage.last - end.last) * worker.layer_s, (*path, own)))
        if ways:
            best[stage.node] = min(ways, key=lambda way: way[0])
    ended = [way for way in best.values() if way[1][-1].last == problem.layers]
    return min(ended, key=lambda way: way[0])[1] if ended else ()
