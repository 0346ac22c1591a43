"""Baselines: each published rule on an example computed by hand, and laws that hold between all planners."""

from __future__ import annotations

from itertools import combinations, pairwise, permutations, product

import msgspec
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.shard.instances import instance
from policies.jobs import Stage
from policies.problem import Flow, Held, Plan, Problem, State, Worker
from policies.sharding import (
    PLANNERS,
    check_plan,
    documented,
    edgeshard,
    end_to_end_s,
    exo,
    petals,
    placement,
    swarm,
)
from policies.sharding.flow import cached_rates, max_flow, rates
from policies.sharding.routes import Router, turns
from policies.wire import encode

EXCHANGEABLE = ("exact", "latency_dp", "local_search")
decode_plan = msgspec.msgpack.Decoder(Plan).decode


def worker(node: str, memory: float = 4.0, **fields: object) -> Worker:
    """Return a worker with memory for so many layers of `problem`'s model."""
    usual = {"layer_s": 0.01, "step_s": 0.0, "prefill_s_token_layer": 0.002, "bytes_per_s": 1e6, "one_way_s": 0.001}
    return Worker(node=node, memory_bytes=1000.0 * memory, **(usual | fields))  # type: ignore[arg-type]


def problem(*workers: Worker, layers: int = 4, **fields: object) -> Problem:
    """Return a model whose layers take 1000 bytes each, a fifth of it cache."""
    return Problem("m", layers, 800.0, 200.0, 0.0, 1000.0, workers, "gateway", **fields)  # type: ignore[arg-type]


def cut(plan: Plan) -> list[tuple[str, int, int]]:
    """Return the stages of a plan's first pipeline as tuples."""
    return [(stage.node, stage.first, stage.last) for stage in plan.pipelines[0]]


def test_the_ring_of_memory_and_operations_takes_the_mean_of_both_shares() -> None:
    """Memory 9:3 and equal operations give shares of 5/8 and 3/8."""
    plan = exo.flops_ring_plan(problem(worker("a", 9), worker("b", 3), layers=8), State(), 1)

    assert cut(plan) == [("a", 0, 5), ("b", 5, 8)]


def test_every_worker_is_on_the_ring() -> None:
    """A fast device that holds the whole model does not keep the others off the ring."""
    plan = exo.ring_plan(problem(worker("a", 8, layer_s=1e-4), worker("b", 4), worker("c", 4), layers=4), State(), 1)

    assert cut(plan) == [("a", 0, 2), ("b", 2, 3), ("c", 3, 4)]


def test_fewest_nodes_shares_by_the_largest_remainder() -> None:
    """12 layers on 8 and 6: 6.86 and 5.14 become 7 and 5; the third node is not needed."""
    assert cut(exo.nodes_plan(problem(worker("a", 8), worker("b", 6), worker("c", 2), layers=12), State(), 1)) == [
        ("a", 0, 7), ("b", 7, 12),
    ]  # fmt: skip
    assert exo.shares(10, [97.0, 2.0, 1.0]) == [8, 1, 1]


def test_fewest_nodes_prefers_what_is_there_already() -> None:
    """Of the pairs that hold the model, the one with layers on its disk."""
    pool = problem(worker("a", 8), worker("b", 6), worker("c", 6), layers=12)

    plan = exo.nodes_plan(pool, State(held=(Held("c", 0, 5, loaded=False),)), 1)

    assert [node for node, _, _ in cut(plan)] == ["a", "c"]


def test_fewest_nodes_fails_where_one_overflows() -> None:
    """3.5 and 3.5 hold 7 layers in sum, and one of them gets 4: 500 bytes too many."""
    plan = exo.nodes_plan(problem(worker("a", 3.5), worker("b", 3.5), layers=7), State(), 1)

    assert plan.infeasible == "a gets 4 of the 7 layers of m: 500 bytes too many"
    lacking = exo.nodes_plan(problem(worker("a", 3), worker("b", 3), layers=7), State(), 1)
    assert lacking.infeasible.endswith("1000 bytes are missing")


def test_petals_joins_where_the_swarm_is_weakest() -> None:
    """Of the windows 3-1, 1-1, 1-2 the second; servers of two blocks fill a model of four, then begin again."""
    pool = problem(*(worker(f"n{i}", 2) for i in range(3)))

    assert petals.weakest(np.array([3.0, 1.0, 1.0, 2.0]), 2) == 1
    assert [(s.first, s.last) for s in petals.joined(pool)] == [(0, 2), (2, 4), (0, 2)]


def test_equal_stages_that_nobody_can_hold_are_named_and_not_a_lack_of_memory() -> None:
    """3 and 1 hold 4 layers, but of two stages of 2 one has nobody: 2000 bytes; 3 and 0 do lack memory."""
    assert swarm.plan(problem(worker("a", 3), worker("b", 1)), State(), 1).infeasible == (
        "2 workers in 2 stages of equal length leave 2 of the 4 layers of m to nobody: 2000 bytes are missing "
        "(2 layers of 1000)"
    )
    lacking = swarm.plan(problem(worker("a", 3), worker("b", 0)), State(), 1)
    assert lacking.infeasible.startswith("2 workers do not hold the 4 layers of m: 1000 bytes are missing")


def test_blocks_that_no_server_joins_are_named_and_not_a_lack_of_memory() -> None:
    """Two ends of 3 layers hold 6; servers that may be both ends at once take 2 each, and 2 are left."""
    pool = msgspec.structs.replace(problem(worker("a", 3.5), worker("b", 3.5), layers=6), head_bytes=500.0)

    assert petals.plan(pool, State(), 1).infeasible == (
        "2 workers that join by name leave 2 of the 6 layers of m to nobody: 2000 bytes are missing (2 layers of 1000)"
    )


def test_petals_announces_the_smaller_of_link_and_blocks() -> None:
    """Blocks at 100 a second, two of them, 1.5 in the mean: 67; over a link that passes 5 activations a second: 5."""
    pool = problem(worker("a", 2), worker("b", 2, bytes_per_s=5000.0))

    assert petals.server_rps(pool, pool.workers[0], 2) == pytest.approx(100 / 1.5)
    assert petals.server_rps(pool, pool.workers[1], 2) == 5.0


def test_petals_moves_only_for_a_third_more() -> None:
    """Three servers on one half: one moves to the empty half. Two to one is balanced: nobody moves."""
    pool = problem(*(worker(f"n{i}", 2) for i in range(3)))
    crowded = tuple(Stage(f"n{i}", 0, 2) for i in range(3))

    moved = petals.rebalanced(pool, crowded)

    assert sorted(stage.first for stage in moved) == [0, 0, 2]
    assert petals.rebalanced(pool, moved) == moved


def test_petals_stays_for_less_than_a_third() -> None:
    """2.3 over 1.9 could become 2.0 over 2.2: 1.9 / 2.0 is above the threshold, so nobody moves."""
    rps = {"a": 1.0, "b": 1.0, "c": 0.3, "d": 1.9}
    pool = problem(*(worker(node, 2, layer_s=1 / (1.5 * own), bytes_per_s=1e9) for node, own in rps.items()))
    held = (Stage("a", 0, 2), Stage("b", 0, 2), Stage("c", 0, 2), Stage("d", 2, 4))

    assert petals.rebalanced(pool, held) == held


def test_petals_goes_the_shortest_way_and_uses_servers_to_their_end() -> None:
    """One slow server for all four layers takes 400 ms; two fast ones, a hop more, 44; the second from its middle."""
    pool = problem(worker("slow", 4, layer_s=0.1), worker("a", 3, layer_s=1e-3), worker("b", 3, layer_s=1e-3))
    held = (Stage("slow", 0, 4), Stage("a", 0, 3), Stage("b", 1, 4))

    assert petals.route(pool, held, ()) == (Stage("a", 0, 3), Stage("b", 3, 4))
    assert petals.route(pool, held, {"a"}) == (Stage("slow", 0, 4),)


def test_edgeshard_minimises_the_bottleneck() -> None:
    """10 layers on devices of 10 and 15 ms a layer: 6 and 4 take 60 ms each, whatever the latency."""
    pool = problem(worker("a", 10), worker("b", 10, layer_s=0.015), layers=10)

    counts = {node: last - first for node, first, last in cut(edgeshard.throughput_plan(pool, State(), 1))}

    assert counts == {"a": 6, "b": 4}


@pytest.mark.parametrize("number", range(8))
def test_no_pipeline_has_a_smaller_bottleneck(number: int) -> None:
    """Against every order and cut of four devices: the slowest stage or transfer is as fast as any."""
    given_problem = msgspec.structs.replace(instance(number, devices_min=3, devices_max=4), layers=6, layer_bytes=2e9)
    costs = edgeshard.terms(
        msgspec.structs.replace(given_problem, prompt_tokens=0, new_tokens=1), given_problem.workers
    )
    head = [w.layer_s * given_problem.head_bytes / given_problem.layer_bytes for w in given_problem.workers]

    def bottleneck(order: tuple[int, ...], counts: tuple[int, ...]) -> float:
        stages = [costs.step_s[d] + n * costs.layer_s[d] for d, n in zip(order, counts, strict=True)]
        stages[-1] += head[order[-1]]
        roles = [3] if len(order) == 1 else [1, *[0] * (len(order) - 2), 2]
        if any(n > costs.room[d, role] for d, n, role in zip(order, counts, roles, strict=True)):
            return np.inf
        return max([*stages, *(costs.hop_s[a, b] for a, b in pairwise(order))])

    best = min(
        bottleneck(order, tuple(b - a for a, b in pairwise((0, *cuts, 6))))
        for size in range(1, len(given_problem.workers) + 1)
        for cuts in combinations(range(1, 6), size - 1)
        for order in permutations(range(len(given_problem.workers)), size)
    )
    plan = edgeshard.throughput_plan(given_problem, State(), 1)

    assert bool(plan.pipelines) == np.isfinite(best)
    if plan.pipelines:
        names = [w.node for w in given_problem.workers]
        order = tuple(names.index(stage.node) for stage in plan.pipelines[0])
        assert bottleneck(order, tuple(s.last - s.first for s in plan.pipelines[0])) == pytest.approx(best, rel=1e-9)


def test_the_flow_of_a_placement_is_that_of_its_narrowest_cut() -> None:
    """a passes 10 tokens a second, b and c behind it 6 and 3: 9 flow, and b carries what it can."""
    table = {"a": 10.0, "b": 6.0, "c": 3.0}
    pool = problem(*(worker(node, 4, tokens_per_s=(rate, rate)) for node, rate in table.items()))
    held = (Stage("a", 0, 2), Stage("b", 2, 4), Stage("c", 2, 4))

    total, flows = max_flow(pool, held, rates(pool))

    assert total == pytest.approx(9.0)
    assert {(f.sender, f.receiver): round(f.tokens_per_s, 6) for f in flows}["a", "b"] == 6.0


def test_caches_bound_the_flow() -> None:
    """Beside two layers there is room for 12 caches of two layers: 12 tokens in the second that a request takes."""
    pool = problem(worker("a", 6.4, tokens_per_s=(1e3, 1e3, 1e3, 1e3)))

    assert cached_rates(pool, 1.0)["a"][1] == 12.0
    assert rates(pool)["a"][1] == 1e3


def test_routes_are_interleaved_by_weight() -> None:
    """Weights 2 and 1 take turns while both last; the heavier gets 200 of 300; a mask sends all to the other."""
    flows = (Flow("", "a", 2.0), Flow("", "b", 1.0), Flow("a", "", 2.0), Flow("b", "", 1.0))
    held = (Stage("a", 0, 4), Stage("b", 0, 4))

    order = turns(flows[:2])
    drawn = [Router(held, flows)] * 300
    first = [router.pipeline()[0].node for router in drawn]

    assert order[:4] == ["a", "b", "a", "b"]
    assert order[-1] == "a"
    assert first.count("a") == 200
    assert Router(held, flows).pipeline({"a"}) == (Stage("b", 0, 4),)
    assert Router(held, flows).pipeline({"a", "b"}) == ()


@pytest.mark.parametrize("number", range(4))
def test_no_placement_of_three_nodes_flows_more(number: int) -> None:
    """The programme against every placement of three nodes, each flow by another library's maximum flow."""
    table = [(40.0, 20.0, 12.0), (30.0, 16.0), (9.0, 4.0, 3.0, 1.0), (25.0, 25.0, 5.0)]
    pool = problem(*(worker(f"n{i}", 4, tokens_per_s=table[(number + i) % 4]) for i in range(3)), layers=4)
    spans = [(a, b) for a in range(4) for b in range(a + 1, 5)]

    def flow(held: tuple[tuple[int, int] | None, ...]) -> float:
        graph = nx.DiGraph()
        graph.add_nodes_from([0, 4])
        for i, span in enumerate(held):
            rate = rates(pool)[f"n{i}"]
            if span is not None and span[1] - span[0] <= len(rate):
                passed = rate[span[1] - span[0] - 1]
                before = graph.get_edge_data(*span, {"capacity": 0.0})["capacity"]
                graph.add_edge(*span, capacity=before + passed)
        return float(nx.maximum_flow_value(graph, 0, 4))

    best = max(flow(held) for held in product([None, *spans], repeat=3))

    held = placement.best_placement(pool, rates(pool), 1000)

    assert max_flow(pool, held, rates(pool))[0] >= best * (1 - 1e-3)


def test_the_documented_sharder_cuts_equal_shards() -> None:
    """Nine layers on three nodes: three each, although one could hold all; a share needs a fifth and 15 % to spare."""
    plan = documented.plan(problem(worker("a", 20), worker("b", 5), worker("c", 5), layers=9), State(), 1)

    assert sorted(last - first for _, first, last in cut(plan)) == [3, 3, 3]
    short = documented.plan(problem(worker("a", 3), worker("b", 3), layers=6), State(), 1)
    assert short.infeasible.endswith("600 bytes are missing")


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(number=st.integers(0, 10_000), planner=st.sampled_from(sorted(set(PLANNERS) - {"exact"})))
def test_no_planner_beats_the_optimum(number: int, planner: str) -> None:
    """Whatever the instance, no other planner's pipeline is faster than the exact one's, and none exists without it."""
    given_problem = instance(number, devices_max=5)

    best = decode_plan(PLANNERS["exact"](encode(given_problem), 1))
    other = decode_plan(PLANNERS[planner](encode(given_problem), 1))

    assert check_plan(given_problem, other) == []
    for stages in other.pipelines:
        assert end_to_end_s(given_problem, stages) >= end_to_end_s(given_problem, best.pipelines[0]) * (1 - 1e-9)


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(0, 10_000),
    planner=st.sampled_from(EXCHANGEABLE),
    by=st.integers(1, 4),
)
def test_names_change_nothing(number: int, planner: str, by: int) -> None:
    """Devices under one another's names, links and all, are served in the same seconds."""
    given_problem = instance(number, devices_min=2, devices_max=5)
    nodes = [w.node for w in given_problem.workers]
    turned = nodes[by % len(nodes) :] + nodes[: by % len(nodes)]
    names = dict(zip(nodes, turned, strict=True)) | {"gateway": "gateway", "": ""}
    renamed = msgspec.structs.replace(
        given_problem,
        source=names[given_problem.source],
        workers=tuple(msgspec.structs.replace(w, node=names[w.node]) for w in given_problem.workers),
        links=tuple(
            msgspec.structs.replace(k, sender=names[k.sender], receiver=names[k.receiver]) for k in given_problem.links
        ),
    )

    one, other = (decode_plan(PLANNERS[planner](encode(p), 1)) for p in (given_problem, renamed))

    assert len(one.pipelines) == len(other.pipelines)
    for a, b in zip(one.pipelines, other.pipelines, strict=True):
        assert end_to_end_s(renamed, b) == pytest.approx(end_to_end_s(given_problem, a), rel=1e-9)
