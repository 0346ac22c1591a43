"""Scores of a plan: each a function of the problem and the plan, so that another way to measure is another function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from experiments.compose import UsageError
from experiments.shard.testbeds import Bed
from policies.problem import Plan, Problem, State
from policies.sharding import CUTTING, PLANNERS, PROVING, check_plan, end_to_end_s, local_search
from policies.sharding.flow import Rates, cached_rates, max_flow, rates
from policies.sharding.tensor import folded
from policies.wire import encode

Score = Callable[[Problem, Plan], float]
"""Of a plan that has pipelines."""


def seconds_a_token(problem: Problem, plan: Plan) -> float:
    """Return the end-to-end seconds of the problem's request over its new tokens, on the best pipeline."""
    return min(end_to_end_s(problem, stages) for stages in plan.pipelines) / problem.new_tokens


def tokens_per_s(problem: Problem, plan: Plan) -> float:
    """Return the maximum flow of a plan, prompt and new tokens, by compute and links."""
    return _flow(problem, plan, rates(problem))


def tokens_per_s_cached(problem: Problem, plan: Plan) -> float:
    """Return the same, bounded by the caches as well (`policies.sharding.flow`)."""
    alone = local_search.pipeline(problem, problem.workers)
    return _flow(problem, plan, cached_rates(problem, end_to_end_s(problem, alone)))


def _flow(problem: Problem, plan: Plan, by_node: Rates) -> float:
    """Return the flow of a placement, or of the pipelines of a planner that places nothing else."""
    held = plan.placement or tuple(stage for stages in plan.pipelines for stage in stages)
    return max_flow(problem, held, by_node)[0]


@dataclass(frozen=True)
class Row:
    """One planner on one testbed; ``scores`` are empty where ``infeasible`` says why."""

    testbed: str
    model: str
    planner: str
    scores: dict[str, float]
    pipelines: int
    stages: int
    infeasible: str


LATENCY: dict[str, Score] = {"seconds_a_token": seconds_a_token}
FLOW: dict[str, Score] = {
    "tokens_per_s_cached": tokens_per_s_cached,
    "tokens_per_s": tokens_per_s,
    "seconds_a_token": seconds_a_token,
}
"""Scores by name; the first is the one that plans are ranked by."""
LESS_IS_BETTER = frozenset({"seconds_a_token"})


def row(testbed: Bed, planner: str, budget: int = 0) -> Row:
    """Let a planner plan and score it.

    Args:
        budget: as for `planned`.

    Raises:
        UsageError: no such planner.
    """
    plan = planned(testbed, planner, budget)
    problem = folded(testbed.problem, plan.groups)
    scores = {name: score(problem, plan) for name, score in scores_of(testbed).items()} if plan.pipelines else {}
    stages = len(plan.pipelines[0]) if plan.pipelines else 0
    return Row(testbed.name, testbed.model, planner, scores, len(plan.pipelines), stages, plan.infeasible)


def planned(testbed: Bed, planner: str, budget: int = 0) -> Plan:
    """Let a planner plan, and check what it says.

    Args:
        budget: of iterations; 0 for one pipeline of a latency testbed, and one a worker of the others.

    Raises:
        UsageError: no such planner.
    """
    planners = PLANNERS | CUTTING | PROVING
    if planner not in planners:
        raise UsageError(f"--planner {planner}: no such planner; allowed: {', '.join(sorted(planners))}")
    problem = msgspec.structs.replace(testbed.problem, state=State())
    iterations = budget or (len(problem.workers) if testbed.by_flow else 1)
    plan = msgspec.msgpack.decode(planners[planner](encode(problem), iterations), type=Plan)
    wrong = check_plan(problem, plan)
    assert not wrong, f"{planner} on {testbed.name}: {wrong[0]}"
    return plan


def scores_of(testbed: Bed) -> dict[str, Score]:
    """Return what a testbed's plans are scored by."""
    return FLOW if testbed.by_flow else LATENCY


def ratio(rows: list[Row], one: Row) -> float | None:
    """Return how many times worse than the best of its table a plan is by the ranking score; None if it has none."""
    if not one.scores:
        return None
    name = next(iter(one.scores))
    values = [r.scores[name] for r in rows if r.scores and (r.testbed, r.model) == (one.testbed, one.model)]
    own = one.scores[name]
    if name in LESS_IS_BETTER:
        return own / min(values)
    return max(values) / own if own > 0 else float("inf")
