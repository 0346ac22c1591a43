"""The planner that is exact over the whole pool where its equal devices leave few enough choices, else says no."""

from __future__ import annotations

from policies.jobs import Stage
from policies.problem import Plan, Problem, State
from policies.sharding.answer import pipelines_plan, shortfall
from policies.sharding.subsets import best_pipeline


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Take pipelines from the pool, each the exact minimum over what is left, ``budget`` at most."""
    pipelines: list[tuple[Stage, ...]] = []
    pool = list(problem.workers)
    try:
        while len(pipelines) < budget and (found := best_pipeline(problem, pool, collapse=True)):
            pipelines.append(found)
            used = {stage.node for stage in found}
            pool = [worker for worker in pool if worker.node not in used]
    except ValueError as error:  # too many kinds: nothing is proven, so nothing is answered
        return pipelines_plan(problem, [], str(error))
    return pipelines_plan(problem, pipelines, shortfall(problem, problem.workers))
