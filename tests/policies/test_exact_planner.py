"""The exact planner on 200 random instances against brute force, and the local search against the exact one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from experiments.shard.instances import instance
from policies.problem import Link, Plan, State
from policies.sharding import check_plan, end_to_end_s, exact, local_search
from policies.sharding.answer import capacity
from policies.sharding.cost import terms
from policies.sharding.kinds import kinds_of, states
from policies.sharding.subsets import best_pipeline
from tests.policies.brute_force import brute_force_s


@pytest.mark.slow
@pytest.mark.parametrize("block", range(8))
def test_no_order_and_no_cut_is_faster(block: int) -> None:
    """Within 1e-6 of the best of all orders of all subsets and all cuts, on 200 instances."""
    for number in range(25 * block, 25 * block + 25):
        given = instance(number)
        best_s = brute_force_s(given)

        found = best_pipeline(given, given.workers)

        assert bool(found) == np.isfinite(best_s)
        if found:
            assert check_plan(given, Plan((found,), (1.0,))) == []
            assert end_to_end_s(given, found) == pytest.approx(best_s, rel=1e-6)


def test_equal_devices_may_be_counted() -> None:
    """Three kinds of three devices: counting kinds finds what telling them apart finds."""
    for number in range(12):
        one = instance(number, devices_min=3, devices_max=3)
        workers = tuple(
            msgspec.structs.replace(worker, node=f"{worker.node}-{copy}") for worker in one.workers for copy in range(3)
        )
        given = msgspec.structs.replace(one, workers=workers, links=(), source="gateway")

        apart, counted = (best_pipeline(given, workers, collapse=collapse) for collapse in (False, True))

        assert bool(apart) == bool(counted)
        if apart:
            assert check_plan(given, Plan((counted,), (1.0,))) == []
            assert end_to_end_s(given, counted) == pytest.approx(end_to_end_s(given, apart), rel=1e-9)


def test_fifteen_devices_of_three_kinds_leave_few_choices() -> None:
    """Where links are alike within a kind, 15 devices are 3 kinds; a pair's own odd link tells its devices apart."""
    one = instance(3, devices_min=3, devices_max=3)
    workers = tuple(
        msgspec.structs.replace(worker, node=f"{worker.node}-{copy:02}") for worker in one.workers for copy in range(5)
    )
    given = msgspec.structs.replace(one, workers=workers, links=(), source="gateway")
    odd = msgspec.structs.replace(given, links=(Link("d0000-00", "d0000-01", 1e3, 0.5),))

    assert len(kinds_of(given, workers, terms(given, workers))) == 3
    assert states(kinds_of(odd, workers, terms(odd, workers))) == 2**5 * 6 * 6


def test_too_many_kinds_are_said_to_be() -> None:
    """Thirty devices that all differ are not answered as if they were proven."""
    given = instance(0, devices_min=30, devices_max=30)

    plan = exact.plan(given, State(), 1)

    assert plan.pipelines == ()
    assert plan.infeasible.startswith("candidates: 30 devices of 30 kinds")


@pytest.mark.slow
def test_the_search_comes_close_and_always_finds_a_plan() -> None:
    """Over 200 instances: median within 1 % of the optimum, 95th percentile within 5 %, feasible whenever one is."""
    gaps = []
    for number in range(200):
        given = instance(number)
        best = best_pipeline(given, given.workers)

        plan = local_search.plan(given, State(), 1)

        assert check_plan(given, plan) == []
        assert bool(plan.pipelines) == bool(best)
        if best:
            gaps.append(end_to_end_s(given, plan.pipelines[0]) / end_to_end_s(given, best) - 1)

    assert min(gaps) >= -1e-9
    assert np.median(gaps) <= 0.01
    assert np.quantile(gaps, 0.95) <= 0.05


@pytest.mark.parametrize("number", range(6))
def test_the_search_finds_a_plan_where_everything_is_needed(number: int) -> None:
    """A pool that holds the model to the layer, ends included, is planned; of one layer more it lacks the bytes."""
    given = instance(number, devices_min=5, devices_max=7)
    workers = given.workers
    most = capacity(msgspec.structs.replace(given, layers=100_000), workers)
    exactly = msgspec.structs.replace(given, layers=most)
    over = msgspec.structs.replace(given, layers=most + 1)

    assert check_plan(exactly, local_search.plan(exactly, State(), 1)) == []
    assert local_search.plan(exactly, State(), 1).pipelines
    assert (
        f"{given.layer_bytes + given.kv_bytes_layer:.0f} bytes are missing"
        in local_search.plan(over, State(), 1).infeasible
    )
