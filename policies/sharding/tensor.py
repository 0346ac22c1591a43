"""Tensor and hybrid cuts: a stage may be a group of devices, each with an even share of every one of its layers.

A group is planned as one device, so that every planner and every cost is what it was:

- it takes the time of its slowest member on an even share, and the all-reduces of its layers, two each
  (`models.inference.collectives`, Megatron-LM's cut by heads and by the width of the feed-forward block);
- it holds what its smallest member holds, times its size: layers, cache, embedding and head are all shared evenly;
- its first member speaks for it (the source if it is one, else the first name), and tells the others what came in, by
  a chain: one pass of the bytes, and a delay for each of them.

ASSUMPTIONS: all-reduces go round a ring as slow as the slowest way between two members; the head costs what its bytes
would as layers, all-reduces included. No executor runs such a cut yet: plans with groups are for the cost model and
`twin shard`; the village's configuration knows no planner that makes them.

`plan` is exact for up to `DEVICES_MAX` devices: every way to part the pool into groups, and for each the exact
pipeline over them (`subsets`), which may leave groups out. `search` is for larger pools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product

import msgspec

from models.inference.collectives import Link, layer_all_reduce_s
from policies.jobs import Stage
from policies.problem import Group, Plan, Problem, State, Worker
from policies.sharding import local_search
from policies.sharding.answer import pipelines_plan, shortfall
from policies.sharding.cost import end_to_end_s, token_s
from policies.sharding.links import Network
from policies.sharding.subsets import best_pipeline

DEVICES_MAX = 7
"""Devices of which all groupings are tried: with groups of 1, 2, 4 and 8 seven make 372 of them, eight 1500."""
SIZE_MAX = 8
"""Members of a group: one server's worth of accelerators."""
NEAR = 16
"""Devices that are looked at as further members of a group, where a pool is searched."""
IN_PLAY = 8
"""Devices up to which groups are changed one by one: those of a pipeline and the fastest others."""
STEPS = 20
"""Changes of the groups of one pipeline. These three are our choices: they bound a search, not what is right."""

Pipeline = Callable[[Problem, Sequence[Worker]], tuple[Stage, ...]]


def sizes(problem: Problem) -> list[int]:
    """Return how many devices may share a layer, one first."""
    return [size for size in range(1, SIZE_MAX + 1) if problem.heads % size == 0]


def group_of(problem: Problem, members: Sequence[Worker]) -> Group:
    """Return a group of these devices: who speaks for it stands first."""
    return Group(tuple(sorted((w.node for w in members), key=lambda node: (node != problem.source, node))))


def worker_of(problem: Problem, network: Network, members: Sequence[Worker]) -> Worker:
    """Return the one device that a group counts as, under the name of its first member."""
    size = len(members)
    if size == 1:
        return members[0]
    pairs = [(a, b) for a in members for b in members if a is not b]
    link = Link(min(network.bytes_per_s(a, b) for a, b in pairs), max(network.hop_s(a, b, 0.0) for a, b in pairs))
    token_bytes = problem.activation_bytes
    start_s = layer_all_reduce_s(link, size, 1, 0.0)
    bytes_s = layer_all_reduce_s(link, size, 1, token_bytes) - start_s
    told_s = token_bytes / link.bytes_per_s
    return msgspec.structs.replace(
        members[0],
        memory_bytes=size * min(w.memory_bytes for w in members),
        layer_s=max(w.layer_s for w in members) / size + start_s + bytes_s,
        step_s=max(w.step_s for w in members) + (size - 1) * link.start_s + told_s,
        prefill_s_token_layer=max(w.prefill_s_token_layer for w in members) / size + bytes_s,
        prefill_s_layer=max(w.prefill_s_layer for w in members) / size + start_s,
        prefill_s_token=told_s,
        tokens_per_s=(),
    )


def folded(problem: Problem, groups: Sequence[Group]) -> Problem:
    """Return the problem in which each group is one device, and its members are none."""
    network, by_node = Network(problem), {worker.node: worker for worker in problem.workers}
    inside = {node for group in groups for node in group.nodes}
    workers = [worker for worker in problem.workers if worker.node not in inside]
    workers += [worker_of(problem, network, [by_node[node] for node in group.nodes]) for group in groups]
    gone = inside - {group.nodes[0] for group in groups}
    links = tuple(link for link in problem.links if gone.isdisjoint((link.sender, link.receiver)))
    return msgspec.structs.replace(problem, workers=tuple(workers), links=links)


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Take pipelines from the pool, each the exact minimum over all groupings of what is left."""
    if len(problem.workers) > DEVICES_MAX:
        text = f"candidates: {len(problem.workers)} devices to group; allowed: up to {DEVICES_MAX}"
        return pipelines_plan(problem, [], text)
    return _greedy(problem, state, budget, _best)


def search(problem: Problem, state: State, budget: int) -> Plan:
    """Take pipelines from the pool, each the best of a local search over groups of like devices near each other.

    Groups of one size are formed at a time, from the fastest device on, and kept where they are faster than their first
    member alone. One of the sizes is one, so that a plan is found whenever layers alone can be cut. Where few devices
    are then in play, groups are merged, split and trade members as long as that helps.
    """
    return _greedy(problem, state, budget, _searched)


Grouped = tuple[tuple[Stage, ...], tuple[Group, ...]]


def _greedy(problem: Problem, state: State, budget: int, best: Callable[[Problem], Grouped]) -> Plan:
    if state.in_force or state.held or state.movers:
        return pipelines_plan(problem, [], "groups of devices are not replanned: no executor runs them")
    left = problem
    pipelines: list[tuple[Stage, ...]] = []
    groups: list[Group] = []
    latency_s: list[float] = []
    while len(pipelines) < budget and left.workers:
        stages, used = best(left)
        if not stages:
            break
        pipelines.append(stages)
        groups += used
        latency_s.append(token_s(folded(left, used), stages))
        busy = {stage.node for stage in stages} | {node for group in used for node in group.nodes}
        workers = tuple(worker for worker in left.workers if worker.node not in busy)
        left = msgspec.structs.replace(left, workers=workers)
    why = "" if pipelines else shortfall(problem, problem.workers)
    return Plan(tuple(pipelines), tuple(latency_s), why, groups=tuple(groups))


def _cheapest(problem: Problem, ways: Iterable[list[Group]], pipeline: Pipeline) -> Grouped:
    """Return the pipeline of fewest seconds over all these ways to group, with the groups that it uses."""
    least_s = float("inf")
    found: Grouped = ((), ())
    for groups in ways:
        one = folded(problem, groups)
        stages = pipeline(one, one.workers)
        if stages and (seconds := end_to_end_s(one, stages)) < least_s:
            serving = {stage.node for stage in stages}
            least_s, found = seconds, (stages, tuple(group for group in groups if group.nodes[0] in serving))
    return found


def _best(problem: Problem) -> Grouped:
    ways = _groupings(problem, list(problem.workers), sizes(problem))
    return _cheapest(problem, ways, best_pipeline)


def _groupings(problem: Problem, workers: list[Worker], allowed: list[int]) -> list[list[Group]]:
    """Return every way to part the workers into groups of allowed sizes, those of one left out."""
    if not workers:
        return [[]]
    first, rest = workers[0], workers[1:]
    ways = []
    for size in allowed:
        for others in combinations(rest, size - 1):
            left = [worker for worker in rest if worker not in others]
            own = [group_of(problem, [first, *others])] if others else []
            ways += [own + groups for groups in _groupings(problem, left, allowed)]
    return ways


def _searched(problem: Problem) -> Grouped:
    ways = [_near_groups(problem, size) for size in sizes(problem)]
    best = _cheapest(problem, ways, local_search.pipeline)
    inside = {stage.node for stage in best[0]} | {node for group in best[1] for node in group.nodes}
    others = [worker for worker in _by_speed(problem) if worker.node not in inside]
    workers = [worker for worker in problem.workers if worker.node in inside] + others[: max(0, IN_PLAY - len(inside))]
    if best[0] and len(workers) <= IN_PLAY:
        few = msgspec.structs.replace(problem, workers=tuple(workers))
        for _ in range(STEPS):
            before = best
            best = _cheapest(few, [list(best[1]), *_regrouped(few, best[1])], best_pipeline)
            if best == before:
                break
    return best


def _regrouped(problem: Problem, groups: Sequence[Group]) -> list[list[Group]]:
    """Return the ways to group that are one merger, one split or one trade of a member away."""
    by_node, allowed = {worker.node: worker for worker in problem.workers}, sizes(problem)
    taken = {node for group in groups for node in group.nodes}
    parts = [group.nodes for group in groups] + [(node,) for node in by_node if node not in taken]
    ways: list[list[tuple[str, ...]]] = []
    for one, other in combinations(parts, 2):
        kept = [part for part in parts if part not in (one, other)]
        if len(one) + len(other) in allowed:
            ways.append([*kept, one + other])
        if len(one) + len(other) > 2:
            ways += [
                [*kept, tuple(b if n == a else n for n in one), tuple(a if n == b else n for n in other)]
                for a, b in product(one, other)
            ]
    for one in parts:
        if len(one) > 1:
            half, kept = len(one) // 2, [part for part in parts if part != one]
            ways += [[*kept, one[:half], one[half:]], kept]
    return [[group_of(problem, [by_node[node] for node in nodes]) for nodes in way if len(nodes) > 1] for way in ways]


def _by_speed(problem: Problem) -> list[Worker]:
    return sorted(problem.workers, key=lambda worker: (worker.layer_s, worker.node))


def _near_groups(problem: Problem, size: int) -> list[Group]:
    """Return groups of one size of devices whose all-reduces cost little, the fastest device first."""
    if size == 1:
        return []
    network = Network(problem)
    rest = _by_speed(problem)
    groups = []
    while len(rest) >= size:
        first, rest = rest[0], rest[1:]
        near = sorted(rest[:NEAR], key=lambda other: worker_of(problem, network, [first, other]).layer_s)[: size - 1]
        if worker_of(problem, network, [first, *near]).layer_s < first.layer_s:
            groups.append(group_of(problem, [first, *near]))
            rest = [worker for worker in rest if worker not in near]
    return groups
