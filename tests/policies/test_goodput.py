"""Goodput: placements against the largest flow that any placement has, on random pools whose links all differ."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import msgspec
import numpy as np
import pytest

from experiments.shard.instances import POOL_LAYERS, instance, pool
from models.arrays import FloatArray
from policies.jobs import Stage
from policies.problem import Problem, State, Worker
from policies.rng import Rng
from policies.sharding import check_plan, exact_placement, polish
from policies.sharding.exact_placement import Unproven, largest_placement
from policies.sharding.flow import max_flow, rates
from policies.sharding.placement import best_placement, lone_rates
from policies.sharding.placement_beam import RANGES_MAX, beamed, ranges_of
from policies.sharding.placement_cuts import flows as flows_of
from policies.sharding.placement_cuts import nodes_of
from policies.sharding.polish import polished
from tests.policies.exact_flow import largest_flow

POOLS, PARTIAL_MAX = 200, 10_000_000
FEW = 5
"""Devices up to which Helix's own programme comes to its end in seconds."""


def flows(number: int, devices_max: int = 8) -> tuple[float, float]:
    """Return the largest flow of a pool's placements under caches, and that of the placement which is found."""
    given = pool(number, devices_max)
    by_node = lone_rates(given) or rates(given)
    best = max_flow(given, largest_placement(given, by_node, PARTIAL_MAX), by_node)[0]
    flow = max_flow(given, best_placement(given, by_node, 50), by_node)[0]
    assert (flow > 1e-6) == (best > 1e-6)  # never infeasible when a feasible placement exists
    return best, flow


def hold(found: list[tuple[float, float]]) -> list[float]:
    """Assert the bars: never above the optimum, median within 3 % of it, 95th percentile within 10 %."""
    gaps = [1 - flow / best for best, flow in found if best > 1e-6]
    assert min(gaps) >= -1e-6
    assert np.median(gaps) <= 0.03
    assert np.quantile(gaps, 0.95) <= 0.10
    return gaps


@pytest.mark.slow
def test_placements_come_close_to_the_largest_flow() -> None:
    """Over 20 pools of up to 5 devices, a sample of what the night runs on 200 of up to 8."""
    hold([flows(number, FEW) for number in range(20)])


@pytest.mark.nightly
def test_200_placements_come_close_to_the_largest_flow(record_property: Callable[[str, object], None]) -> None:
    """Up to 8 devices: median within 3 % of the proven optimum, 95th percentile within 10 %, a plan wherever one is."""
    gaps = hold([flows(number) for number in range(POOLS)])
    record_property("median", float(np.median(gaps)))
    record_property("p95", float(np.quantile(gaps, 0.95)))
    record_property("worst", max(gaps))


def agree(number: int, devices_max: int) -> None:
    """Assert that Helix's own programme proves the flow that `exact_placement` has."""
    given = pool(number, devices_max)
    by_node = lone_rates(given) or rates(given)
    held = largest_placement(given, by_node, PARTIAL_MAX)
    assert max_flow(given, held, by_node)[0] == pytest.approx(largest_flow(given, by_node), rel=1e-6, abs=1e-6)


@pytest.mark.slow
def test_helix_s_own_programme_proves_the_same_flow() -> None:
    """Within 1e-6 on 20 pools of up to 3 devices, a sample of what the night runs on all pools of up to 5."""
    for number in range(20):
        agree(number, 3)


@pytest.mark.nightly
def test_helix_s_own_programme_proves_the_same_flow_of_five_devices() -> None:
    """Within 1e-6, on all of the 200 pools that have no more: the two programmes have no row in common."""
    numbers = [number for number in range(POOLS) if len(pool(number).workers) <= FEW]
    assert len(numbers) > POOLS // 2
    for number in numbers:
        agree(number, 8)


def test_a_proven_plan_fits_and_flows() -> None:
    """The planner's own plan of a pool: it passes the checker, and carries what its placement carries."""
    given = pool(4)

    plan = exact_placement.plan(given, State(), PARTIAL_MAX)

    assert check_plan(given, plan) == []
    assert plan.pipelines
    assert plan.placement == largest_placement(given, lone_rates(given), PARTIAL_MAX)


def test_what_is_not_proven_is_not_answered() -> None:
    """Too few partial placements, too many ranges, or no room: no plan, and one line that says which."""
    given = pool(1)
    larger = msgspec.structs.replace(
        given,
        layers=40,
        workers=tuple(msgspec.structs.replace(w, memory_bytes=8 * w.memory_bytes) for w in given.workers),
    )
    bare = tuple(msgspec.structs.replace(worker, memory_bytes=0.0) for worker in given.workers)

    assert "ranges; allowed: up to 200, `placement`" in exact_placement.plan(larger, State(), PARTIAL_MAX).infeasible
    assert "bytes are missing" in exact_placement.plan(
        msgspec.structs.replace(given, workers=bare), State(), 1
    ).infeasible  # fmt: skip
    with pytest.raises(Unproven, match="not proven within 1 partial placements"):
        largest_placement(given, lone_rates(given), 1)


def test_no_placement_of_few_devices_passes_more() -> None:
    """Of all placements of 20 pools of up to 3 devices, by their cuts, none passes more than the proven one."""
    for number in range(20):
        given = pool(number, 3)
        by_node = lone_rates(given) or rates(given)
        nodes = nodes_of(given, by_node)
        every = np.array(list(product(*(choices.tolist() for choices in nodes.ranges))), dtype=np.int64)
        best = flows_of(nodes, every.reshape(len(every), len(nodes.names), 2)).max()

        held = largest_placement(given, by_node, PARTIAL_MAX)

        assert max_flow(given, held, by_node)[0] == pytest.approx(best, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("layers", "held"), [(1, 1), (2, 1), (12, 9)])
def test_links_without_limit_bind_nothing(layers: int, held: int) -> None:
    """Two equal nodes on links of infinite rate pass what both compute; more than ten layers are planned as well."""
    worker = Worker("", held + 0.5, 1e-3, 1e-3, 0.0, float("inf"), 0.0)
    workers = tuple(msgspec.structs.replace(worker, node=node) for node in ("a", "b"))
    given = Problem("m", layers, 1.0, 0.0, 0.0, 1.0, workers, "", prompt_tokens=1, new_tokens=1)
    by_node = {node: [60.0 / n for n in range(1, layers + 1)] for node in ("a", "b")}

    placement = largest_placement(given, by_node, PARTIAL_MAX)

    assert max_flow(given, placement, by_node)[0] == pytest.approx(120.0 / layers)


def test_twelve_nodes_are_proven_and_more_are_told_who_plans_them() -> None:
    """A model of two layers over twelve nodes is proven; of thirteen the answer names the planner to ask."""
    given = instance(0, 12, 12)
    room_bytes = 2 * given.head_bytes + 1.5 * (given.layer_bytes + given.kv_bytes_layer)
    workers = tuple(msgspec.structs.replace(worker, memory_bytes=room_bytes) for worker in given.workers)
    given = msgspec.structs.replace(given, layers=2, workers=workers)
    more = (*given.workers, msgspec.structs.replace(given.workers[0], node="one more"))

    assert exact_placement.plan(given, State(), PARTIAL_MAX).pipelines
    refused = exact_placement.plan(msgspec.structs.replace(given, workers=more), State(), PARTIAL_MAX)
    assert refused.infeasible == "a placement of 13 workers; allowed: up to 12, `placement` plans more, unproven"


def test_rounding_decides_between_no_placements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products end in other last bits on another CPU: of equal devices the same ones are still chosen."""
    given = pool(52, 6)
    workers = tuple(
        msgspec.structs.replace(given.workers[0], node=worker.node) if i % 3 else worker
        for i, worker in enumerate(given.workers)
    )
    given = msgspec.structs.replace(given, workers=workers, links=())
    by_node = rates(given)
    usual = largest_placement(given, by_node, PARTIAL_MAX)
    noise = np.random.default_rng(1)
    product_of = np.matmul

    def noisy(a: FloatArray, b: FloatArray) -> FloatArray:
        found: FloatArray = product_of(a, b)
        found *= 1 + 2.0**-52 * noise.integers(-1, 2, found.shape)
        return found

    monkeypatch.setattr(np, "matmul", noisy)
    for _ in range(5):
        assert largest_placement(given, by_node, PARTIAL_MAX) == usual


def test_the_least_cut_is_the_largest_flow() -> None:
    """On random placements of 8 devices, the least of the cuts and the linear programme agree."""
    given = pool(0)
    by_node = lone_rates(given)
    nodes = nodes_of(given, by_node)
    rng = Rng(0, "", "test.cuts", 0)
    held = np.array([[rng.choice(choices.tolist()) for choices in nodes.ranges] for _ in range(200)])
    found = flows_of(nodes, held)

    assert (found > 0).sum() > 20
    for ranges, flow in zip(held.tolist(), found, strict=True):
        placement = [Stage(node, a, z) for node, (a, z) in zip(nodes.names, ranges, strict=True) if z]
        assert max_flow(given, placement, by_node)[0] == pytest.approx(flow, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("number", "partial_max"), [(0, 40_000), (13, 24_000), (41, 22_000), (43, 35_000)])
def test_a_proof_takes_few_partial_placements(number: int, partial_max: int) -> None:
    """Of seven or eight devices: without the beam, the order or, in pool 41, the ways of free nodes, it takes more."""
    given = pool(number)

    assert largest_placement(given, lone_rates(given), partial_max)


def test_polishing_never_loses_flow_and_keeps_every_range_in_memory() -> None:
    """From any placement, by its own count of the flow and by the linear programme's; and always the same way."""
    for number in range(6):
        given = pool(number, 5)
        by_node = rates(given)
        before = best_placement(msgspec.structs.replace(given, links=()), by_node, 50)
        after = polished(given, [before], by_node)

        assert max_flow(given, after, by_node)[0] >= max_flow(given, before, by_node)[0] * (1 - 1e-9)
        assert polished(given, [before], by_node) == after
        for stage in after:
            worker = next(w for w in given.workers if w.node == stage.node)
            need = (stage.last - stage.first) * (given.layer_bytes + given.kv_bytes_layer) + 2 * given.head_bytes
            assert 0 <= stage.first < stage.last <= POOL_LAYERS
            assert need <= worker.memory_bytes + 1


@pytest.mark.parametrize("number", [76, 174])
def test_what_only_a_beam_begins_near_is_found(number: int) -> None:
    """Two pools of which plain beginnings, polished and shaken, miss a tenth: begun from the beam's, they miss none."""
    best, flow = flows(number)

    assert flow == pytest.approx(best, rel=1e-6)


def test_a_beam_plans_few_choices_alone() -> None:
    """Beyond those that a proof may have it returns nothing, as where nothing flows; what it finds fits and flows."""
    given = pool(4)
    large = instance(4)
    bare = msgspec.structs.replace(
        given, workers=tuple(msgspec.structs.replace(w, memory_bytes=0.0) for w in given.workers)
    )

    assert max_flow(given, beamed(given, rates(given)), rates(given))[0] > 0
    assert ranges_of(nodes_of(large, rates(large))) > RANGES_MAX
    assert beamed(large, rates(large)) == ()
    assert beamed(bare, rates(bare)) == ()


def test_shaking_finds_what_no_single_change_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pool 128 is planned to its optimum; unshaken, 5 % of its flow is missing; where none flows, nothing is."""
    given = pool(128)
    by_node = lone_rates(given)
    best = max_flow(given, largest_placement(given, by_node, PARTIAL_MAX), by_node)[0]

    assert max_flow(given, best_placement(given, by_node, 50), by_node)[0] == pytest.approx(best, rel=1e-6)
    monkeypatch.setattr(polish, "SHAKES", 0)
    assert max_flow(given, best_placement(given, by_node, 50), by_node)[0] < 0.96 * best
    assert polished(given, [()], by_node) == ()
