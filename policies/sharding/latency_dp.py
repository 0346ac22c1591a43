"""The village's planner: the pipeline with the fewest seconds a request, exact over its best candidates.

What is exact is in `policies.sharding.subsets`; here candidates are chosen. A pool is served greedily: the best
pipeline, then the best of what is left. A model that no ``candidates`` devices hold gets one pipeline of as many as it
needs, by `policies.sharding.local_search`.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding import local_search
from policies.sharding.answer import pipelines_plan, shortfall
from policies.sharding.cost import joining_s, layers_max
from policies.sharding.memory_ring import by_memory
from policies.sharding.subsets import best_pipeline


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Take pipelines from the pool, the best one first, until none fits or there are ``budget``."""
    pool = sorted(problem.workers, key=lambda worker: (joining_s(problem, worker), worker.node))
    pool = [worker for worker in pool if layers_max(problem, worker, first=False, last=False)]
    pipelines: list[tuple[Stage, ...]] = []
    while len(pipelines) < budget and (found := _next_pipeline(problem, pool)):
        pipelines.append(found)
        used = {stage.node for stage in found}
        pool = [worker for worker in pool if worker.node not in used]
    if not pipelines and budget and (long := local_search.pipeline(problem, problem.workers)):
        pipelines.append(long)
    return pipelines_plan(problem, pipelines, shortfall(problem, problem.workers))


def _next_pipeline(problem: Problem, pool: Sequence[Worker]) -> tuple[Stage, ...]:
    """Try the most useful candidates; while they cannot hold the model, trade the last for the largest.

    The last trade leaves the largest devices alone, so nothing is missed: if any ``candidates`` devices
    hold the model, those do, since more memory never holds fewer layers.
    """
    count = min(problem.candidates, len(pool))
    largest = by_memory(pool)
    for traded in range(count + 1):
        chosen = list(pool[: count - traded])
        names = {worker.node for worker in chosen}
        chosen += [worker for worker in largest if worker.node not in names][:traded]
        if sum(layers_max(problem, worker, first=False, last=False) for worker in chosen) < problem.layers:
            continue
        if found := best_pipeline(problem, chosen):
            return found
    return ()
