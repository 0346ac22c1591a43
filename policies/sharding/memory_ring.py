"""The baseline planner: layers in proportion to memory, on a ring ordered by memory.

This is the rule of exo's ring (share m_i / sum m, cut [0, 1) in that order; exo-explore/exo, the 2024 ring
partitioning). It looks at no speed and no link. Two things are added for a village: a pool is divided into
rings, and a ring that overflows a device is not proposed.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding.answer import overflow, pipelines_plan, shortfall


def ring(problem: Problem, workers: Sequence[Worker]) -> tuple[Stage, ...]:
    """Cut the layers over one ring of all ``workers``; a share below one layer may come out as no stage."""
    ordered = by_memory(workers)
    memory = [int(worker.memory_bytes) for worker in ordered]  # whole bytes: exact cuts on every machine
    total, before, stages = sum(memory), 0, []
    for worker, own in zip(ordered, memory, strict=True):
        first, last = (problem.layers * edge // max(1, total) for edge in (before, before + own))
        before += own
        if last > first:
            stages.append(Stage(worker.node, first, last))
    return tuple(stages)


def by_memory(workers: Sequence[Worker]) -> list[Worker]:
    """Return the workers from the most memory to the least, equal ones by name."""
    return sorted(workers, key=lambda worker: (-worker.memory_bytes, worker.node))


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Take rings from the pool, each of the fewest largest devices that fit, ``budget`` at most."""
    pool = by_memory(problem.workers)
    rings: list[tuple[Stage, ...]] = []
    while len(rings) < budget and (found := _next_ring(problem, pool)):
        rings.append(found)
        nodes = {stage.node for stage in found}
        pool = [worker for worker in pool if worker.node not in nodes]
    why = overflow(problem, ring(problem, pool)) or shortfall(problem, pool)
    return pipelines_plan(problem, rings, why)


def _next_ring(problem: Problem, pool: Sequence[Worker]) -> tuple[Stage, ...]:
    for size in range(1, len(pool) + 1):
        stages = ring(problem, pool[:size])
        if stages and not overflow(problem, stages):
            return stages
    return ()
