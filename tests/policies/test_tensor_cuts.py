"""Tensor and hybrid cuts: exact against brute force written anew, laws of groups, and who refuses such plans."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import msgspec
import numpy as np
import pytest

from experiments.shard.instances import instance
from models.draws import uniform
from policies.config import PolicyConfig
from policies.problem import Group, Link, Plan, Problem, State, Worker
from policies.sharding import CUTTING, check_plan, end_to_end_s, local_search
from policies.sharding.subsets import best_pipeline
from policies.sharding.tensor import folded, plan, search
from policies.wire import encode
from scenarios.schema import ScenarioError, build

LAYERS, HEADS = 6, 4


def near(number: int, count: int) -> Problem:
    """Return a random pool whose devices reach each other over links of a data centre, and hold a few layers each."""
    given = instance(number, count, count)
    each = given.layer_bytes + given.kv_bytes_layer

    def spread(what: str, low: float, high: float, i: int, j: int) -> float:
        return float(10 ** (low + (high - low) * uniform(number, what, i, j)))

    workers = tuple(
        msgspec.structs.replace(
            w, memory_bytes=given.head_bytes + each * float(0.7 + 4 * uniform(number, "room", 0, i)), one_way_s=2e-4
        )
        for i, w in enumerate(given.workers)
    )
    links = tuple(
        Link(
            a.node,
            b.node,
            float(10 ** (8 + 2 * uniform(number, "fast", i, j))),
            float(10 ** (-5 + uniform(number, "way", i, j))),
        )
        for i, a in enumerate(workers)
        for j, b in enumerate(workers)
        if i != j
    )
    return msgspec.structs.replace(given, layers=LAYERS, workers=workers, links=links, heads=HEADS)


def seconds(p: Problem, groups: tuple[tuple[Worker, ...], ...], counts: tuple[int, ...]) -> float:
    """Return a request's seconds through groups of devices, from the definitions; infinite if it does not fit."""
    links = {(link.sender, link.receiver): link for link in p.links}

    def way(a: Worker, b: Worker, size: float) -> float:
        if a is b:
            return 0.0
        link = links[a.node, b.node]
        return link.one_way_s + size / link.bytes_per_s

    prompt, act, total, passes = p.prompt_tokens, p.activation_bytes, 0.0, p.new_tokens
    first, last = groups[0][0], groups[-1][0]
    for i, (members, count) in enumerate(zip(groups, counts, strict=True)):
        n = len(members)
        ends = p.head_bytes * ((i == 0) + (i == len(groups) - 1))
        if any((count * (p.layer_bytes + p.kv_bytes_layer) + ends) / n > m.memory_bytes for m in members):
            return np.inf
        pairs = [links[a.node, b.node] for a in members for b in members if a is not b]
        start = max((link.one_way_s for link in pairs), default=0.0)
        per_byte = max((1 / link.bytes_per_s for link in pairs), default=0.0)
        reduce = 2 * ((n - 1) * start + 2 * (n - 1) / n * act * per_byte)
        reduce_prompt = 2 * ((n - 1) * start + 2 * (n - 1) / n * act * prompt * per_byte)
        layer = max(m.layer_s for m in members) / n + reduce
        prefill = max(m.prefill_s_layer for m in members) / n
        prefill += prompt * max(m.prefill_s_token_layer for m in members) / n + reduce_prompt
        step = max(m.step_s for m in members) + (n - 1) * start + act * per_byte
        total += (passes - 1) * (step + count * layer) + step + prompt * act * per_byte + count * prefill
        if i == len(groups) - 1:
            total += passes * layer * p.head_bytes / p.layer_bytes
        else:
            total += (passes - 1) * way(members[0], groups[i + 1][0], act)
            total += way(members[0], groups[i + 1][0], act * prompt)
    by_node = {w.node: w for w in p.workers}
    for tokens, times in ((1, passes - 1), (prompt, 1)):
        if not p.source:
            total += times * way(last, first, 4.0)
        elif p.source in by_node:
            total += times * (way(last, by_node[p.source], 4.0) + way(by_node[p.source], first, 4.0 * tokens))
        else:
            total += times * (last.one_way_s + 4.0 / last.bytes_per_s)
            total += times * (first.one_way_s + 4.0 * tokens / first.bytes_per_s)
    return total


def rows(workers: tuple[Worker, ...]) -> Iterator[tuple[tuple[Worker, ...], ...]]:
    """Yield every row of disjoint groups of 1, 2 or 4 devices."""
    yield ()
    for size in (1, 2, 4):
        for members in combinations(workers, size):
            rest = tuple(w for w in workers if w not in members)
            for others in rows(rest):
                yield (members, *others)


def brute_force_s(p: Problem) -> float:
    """Return the least seconds over all rows of groups and all cuts."""
    best = np.inf
    for groups in rows(p.workers):
        if groups:
            spoken = tuple(tuple(sorted(g, key=lambda w: (w.node != p.source, w.node))) for g in groups)
            for edges in combinations(range(1, p.layers), len(groups) - 1):
                edged = (0, *edges, p.layers)
                counts = tuple(b - a for a, b in pairwise(edged))
                best = min(best, seconds(p, spoken, counts))
    return best


@pytest.mark.parametrize("block", range(4))
def test_no_grouping_order_or_cut_is_faster(block: int) -> None:
    """Within 1e-6 of the best of all rows of groups and all cuts, on instances of up to 4 devices."""
    cut = 0
    for number in range(15 * block, 15 * block + 15):
        given = near(number, 2 + number % 3)
        best_s = brute_force_s(given)

        found = plan(given, State(), 1)

        assert bool(found.pipelines) == np.isfinite(best_s)
        assert check_plan(given, found) == []
        if found.pipelines:
            assert end_to_end_s(folded(given, found.groups), found.pipelines[0]) == pytest.approx(best_s, rel=1e-6)
            cut += bool(found.groups)
    assert cut > 0  # else nothing was tested


def test_one_head_cuts_nothing() -> None:
    """Where a layer cannot be shared, both planners answer as those that cut between layers."""
    for number in range(20):
        given = msgspec.structs.replace(near(number, 4), heads=1)
        best = best_pipeline(given, given.workers)

        assert plan(given, State(), 1).pipelines == ((best,) if best else ())
        assert search(given, State(), 1).pipelines == local_search.plan(given, State(), 1).pipelines


def test_a_group_holds_what_none_of_its_members_does() -> None:
    """Two devices of one and a half layers each hold three together, cut within; cut between layers they hold two."""
    given = near(1, 2)
    each = given.layer_bytes + given.kv_bytes_layer
    workers = tuple(msgspec.structs.replace(w, memory_bytes=1.5 * each) for w in given.workers)
    given = msgspec.structs.replace(given, layers=3, head_bytes=0.0, workers=workers, source="")

    assert best_pipeline(given, workers) == ()
    found = plan(given, State(), 1)
    assert found.groups == (Group(("d0000", "d0001")),)
    assert check_plan(given, found) == []
    four = msgspec.structs.replace(given, layers=4)
    assert "bytes are missing" in plan(four, State(), 1).infeasible


@pytest.mark.slow
def test_the_search_over_groups_comes_close() -> None:
    """Over 60 pools of 4 to 6: median within 1 % of the exact plan, 95th percentile within 5 %, and a plan, no worse,
    wherever there is one that cuts between layers alone."""
    gaps = []
    for number in range(60):
        given = near(number, 4 + number % 3)
        best, found = plan(given, State(), 1), search(given, State(), 1)

        assert check_plan(given, found) == []
        alone = local_search.plan(given, State(), 1)
        assert bool(found.pipelines) >= bool(alone.pipelines)
        if found.pipelines:
            seconds_s = end_to_end_s(folded(given, found.groups), found.pipelines[0])
            gaps.append(seconds_s / end_to_end_s(folded(given, best.groups), best.pipelines[0]) - 1)
            if alone.pipelines:
                assert seconds_s <= end_to_end_s(given, alone.pipelines[0]) * (1 + 1e-12)

    assert min(gaps) >= -1e-9
    assert np.median(gaps) <= 0.01
    assert np.quantile(gaps, 0.95) <= 0.05


@pytest.mark.parametrize(
    ("groups", "wrong"),
    [
        ((Group(("d0000",)),), "group d0000: 1 devices do not divide 4 heads evenly"),
        ((Group(("d0000", "d0001", "d0002")),), "3 devices do not divide 4 heads evenly"),
        ((Group(("d0000", "d0009")),), "group d0000+d0009: not devices of the pool, each once"),
        ((Group(("d0001", "d0002")),), "group d0001+d0002: its first is no stage, or another has a part elsewhere"),
    ],
)
def test_a_group_that_cannot_be_is_found(groups: tuple[Group, ...], wrong: str) -> None:
    """Uneven heads, a stranger, and a group that nobody speaks for are each told in one line."""
    given = msgspec.structs.replace(near(3, 4), source="")
    whole = Plan(plan(given, State(), 1).pipelines[:0], (), "none")
    stage = msgspec.structs.replace(plan(given, State(), 1).pipelines[0][0], node="d0000", first=0, last=LAYERS)
    lines = check_plan(given, Plan(((stage,),), (1.0,), groups=groups))

    assert any(wrong in line for line in lines)
    assert check_plan(given, whole) == []


def test_what_serves_is_not_replanned_with_groups_and_pools_are_small() -> None:
    """Something in force, and more devices than can be grouped one by one, are each refused in one line."""
    given = near(3, 6)
    more = msgspec.structs.replace(given, workers=instance(3, 8, 8).workers, links=())
    state = State((best_pipeline(given, given.workers),))

    assert "are not replanned" in plan(given, state, 1).infeasible
    assert plan(more, State(), 1).infeasible == "candidates: 8 devices to group; allowed: up to 7"


def test_the_village_knows_no_planner_that_cuts_within_layers() -> None:
    """Its configuration refuses them by name, and says which there are."""
    for name in CUTTING:
        with pytest.raises(ScenarioError, match=r"policy\.sharding\.planner='tensor.*: .*latency_dp"):
            build({"name": "x", "policy": {"sharding": {"planner": name}}})
    assert PolicyConfig().sharding.planner not in CUTTING


def test_answers_travel_as_bytes() -> None:
    """As jobs run planners, a plan with groups comes back whole."""
    given = near(1, 4)
    found = msgspec.msgpack.decode(CUTTING["tensor"](encode(given), 1), type=Plan)

    assert found == plan(given, State(), 1)
