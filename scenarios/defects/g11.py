"""G11, sharding: a network that costs nothing, shards that vanish, and memory that is promised twice."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from policies.jobs import Stage
from policies.problem import Plan, Problem, State
from policies.sharding import latency_dp, token_s
from policies.sharding.cost import layers_max
from policies.sharding.memory_ring import by_memory


def blind(problem: Problem, state: State, budget: int) -> Plan:
    """Plan as if links took no time: its predecessor summed the network's cost before anything was assigned.

    Breaks `checks.leader.PlannedLatency`.
    """
    near = tuple(
        msgspec.structs.replace(worker, one_way_s=0.0, backbone_s=0.0, bytes_per_s=1e18) for worker in problem.workers
    )
    return latency_dp.plan(msgspec.structs.replace(problem, workers=near), state, budget)


def skipping(problem: Problem, state: State, budget: int) -> Plan:
    """Leave out the shards that fit nowhere, and say nothing.

    Its predecessor cut the model into at most 4 shards, gave each to the node with the most memory left, and went on
    where none had enough. Breaks `checks.requests.shards_cover_the_model`.
    """
    stages = []
    free = by_memory(problem.workers)
    for first, last in _shards(problem, SHARDS_MAX):
        fits = [
            w for w in free if layers_max(problem, w, first=first == 0, last=last == problem.layers) >= last - first
        ]
        if fits:
            stages.append(Stage(fits[0].node, first, last))
            free.remove(fits[0])
    return _plan(problem, tuple(stages))


def overcommitted(problem: Problem, state: State, budget: int) -> Plan:
    """Place every shard, whether it fits or not: its predecessor logged a warning.

    Breaks `checks.requests.shards_fit_the_memory`.
    """
    free = by_memory(problem.workers)
    shards = _shards(problem, max(1, min(SHARDS_MAX, len(free) // 2)))
    return _plan(problem, tuple(Stage(w.node, *shard) for w, shard in zip(free, shards, strict=False)))


SHARDS_MAX = 4
"""The predecessor's limit."""


def _shards(problem: Problem, count: int) -> list[tuple[int, int]]:
    edges = [problem.layers * k // count for k in range(count + 1)]
    return list(pairwise(edges))


def _plan(problem: Problem, stages: tuple[Stage, ...]) -> Plan:
    if not stages:
        return Plan((), (), "no shard fits")
    return Plan((stages,), (token_s(problem, stages),))
