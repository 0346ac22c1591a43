"""Tests of routers and of SWARM's placement: masks, dead ends, weights, equal stages; and the steady state's worth."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from experiments.shard.instances import instance
from policies.jobs import Stage
from policies.problem import Flow, State
from policies.sharding import check_plan, swarm
from policies.sharding.flow import worker_rates
from policies.sharding.goodput import shortlist, worth
from policies.sharding.routes import Fixed, Router, Shortest

FORK = (Stage("a", 0, 2), Stage("b", 0, 2), Stage("c", 2, 4), Stage("d", 2, 4))
FLOWS = tuple(Flow(u, v, w) for u, v, w in [("", "a", 2.0), ("", "b", 1.0), ("a", "c", 2.0), ("b", "d", 1.0)]) + tuple(
    Flow(u, "", w) for u, w in [("c", 2.0), ("d", 1.0)]
)


def test_a_node_that_only_leads_to_masked_ones_is_masked() -> None:
    """With c full, a is no way in, however much it weighs; with d full as well there is none."""
    router = Router(FORK, FLOWS)

    assert [stage.node for stage in router.pipeline({"c"})] == ["b", "d"]
    assert router.pipeline({"c", "d"}) == ()
    assert Counter(router.pipeline()[0].node for _ in range(300))["a"] == pytest.approx(200, abs=2)


def test_whole_pipelines_come_by_their_weights() -> None:
    """Twice as often the one of twice the weight; a masked node takes its pipeline out."""
    first, second = (Stage("a", 0, 4),), (Stage("b", 0, 4),)
    fixed = Fixed([first, second], [2.0, 1.0])

    assert Counter(fixed.pipeline() for _ in range(300))[first] == pytest.approx(200, abs=2)
    assert fixed.pipeline({"a"}) == second
    assert fixed.pipeline({"a", "b"}) == ()


@pytest.mark.parametrize("number", range(6))
def test_swarm_has_equal_stages_that_nobody_would_leave(number: int) -> None:
    """Stages differ by a layer at most, each has a peer, and no move makes the weaker of two stages stronger."""
    problem = instance(number)
    workers = {worker.node: worker for worker in problem.workers}
    plan = swarm.plan(problem, State(), len(workers))
    if plan.infeasible:
        pytest.skip("the pool holds no equal stages")

    assert check_plan(problem, plan) == []
    ranges = sorted({(stage.first, stage.last) for stage in plan.placement})
    longest = max(last - first for first, last in ranges)
    assert all(longest - (last - first) <= 1 for first, last in ranges)
    passed: dict[int, list[float]] = {}
    for stage in plan.placement:
        passed.setdefault(stage.first, []).append(worker_rates(problem, workers[stage.node])[longest - 1])
    weak, strong = min(passed.values(), key=sum), max(passed.values(), key=sum)
    for rate in strong:
        assert min(sum(weak) + rate, sum(strong) - rate) <= sum(weak) * (1 + 1e-6)


def test_wiring_gives_work_by_throughput() -> None:
    """A peer that passes three times as much gets three of four requests."""
    problem = instance(1)
    fast = msgspec.structs.replace(
        problem.workers[0], node="fast", tokens_per_s=(3.0,) * problem.layers, memory_bytes=1e15
    )
    slow = msgspec.structs.replace(fast, node="slow", tokens_per_s=(1.0,) * problem.layers)
    two = msgspec.structs.replace(problem, workers=(fast, slow), links=(), source="")
    wiring = swarm.Wiring(two, [Stage("fast", 0, problem.layers), Stage("slow", 0, problem.layers)])

    assert Counter(wiring.pipeline()[0].node for _ in range(400))["fast"] == pytest.approx(300, abs=1)
    assert wiring.pipeline({"fast"})[0].node == "slow"
    assert wiring.pipeline({"fast", "slow"}) == ()


def test_the_shortest_way_is_kept_until_something_is_full() -> None:
    """Petals' client takes the same way again and again, and another one round a full server."""
    problem = instance(1)
    roomy = [msgspec.structs.replace(worker, memory_bytes=1e15) for worker in problem.workers[:2]]
    two = msgspec.structs.replace(problem, workers=tuple(roomy), links=(), source="")
    names = [worker.node for worker in roomy]
    shortest = Shortest(two, [Stage(name, 0, problem.layers) for name in names])

    first = shortest.pipeline()[0].node
    assert shortest.pipeline()[0].node == first
    assert shortest.pipeline({first})[0].node == next(name for name in names if name != first)


def test_a_shortlist_is_of_plans_that_may_be_used() -> None:
    """Every plan of it passes the check, the best first, and more memory is worth no less."""
    problem = instance(2)
    plans = shortlist(problem, 1, 2)

    worths = [worth(problem, plan.placement).requests_per_s for plan in plans]
    assert worths == sorted(worths, reverse=True)
    for plan in plans:
        assert check_plan(problem, plan) == []
        larger = tuple(msgspec.structs.replace(w, memory_bytes=2 * w.memory_bytes) for w in problem.workers)
        more = worth(msgspec.structs.replace(problem, workers=larger), plan.placement).requests_per_s
        assert more >= worth(problem, plan.placement).requests_per_s * 0.99
