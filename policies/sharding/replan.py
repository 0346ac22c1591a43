"""Replanning: a plan in force is kept, or mended, unless the gain of a new one exceeds the cost of moving to it.

What moves is counted: a worker fetches the bytes of layers that it does not have from whoever gives them soonest (or
the source), reads from its disk what it has but has not loaded, and spends battery on what it fetches. Moves to
different workers run side by side. Of two plans the one is better under which the requests that are expected before the
next plan are served sooner, each pipeline one after another from when it is ready: at once where it serves already,
else when its last worker holds its layers. A move that a battery cannot pay is not made.

Moves are kept few in two ways. A pipeline that lost workers is mended: the best spare takes each lost range. And names
are traded in a new plan: workers of one kind stand for one another, so each takes what it has the most of. What is then
left over holds copies of stages, as many as the class of service asks for (`policies.sharding.replicas`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from policies.jobs import Stage
from policies.problem import Mover, Plan, Problem, State, Worker
from policies.sharding.answer import overflow, pipelines_plan
from policies.sharding.cost import end_to_end_s, terms
from policies.sharding.kinds import kinds_of
from policies.sharding.links import Network
from policies.sharding.replicas import copies, replicas

Plans = Callable[[Problem, State, int], Plan]
"""A planner: the problem, what is there already, and how many iterations it may take."""


def steady(plans: Plans) -> Plans:
    """Return the planner that keeps what serves unless its own plan is worth the move."""

    def plan(problem: Problem, state: State, budget: int) -> Plan:
        fresh = plans(problem, state, budget)
        if not state.in_force and not state.held and not state.movers:
            return fresh
        choices = [_standing(plans, problem, state, budget), _renamed(problem, state, fresh)]
        choices = [choice for choice in choices if choice.pipelines]
        if not choices:
            return fresh
        best = min(choices, key=lambda choice: _worth(problem, state, choice))  # what stands comes first
        unpaid = _unpaid(problem, state, best.pipelines)
        if unpaid:
            return pipelines_plan(problem, [], unpaid)
        return msgspec.structs.replace(best, replicas=_copies(problem, state, best))

    return plan


def _worth(problem: Problem, state: State, plan: Plan) -> tuple[bool, float]:
    """Return what sorts plans: payable first, then fewer seconds until what is expected is served."""
    return bool(_unpaid(problem, state, plan.pipelines)), served_s(problem, state, plan.pipelines)


def served_s(problem: Problem, state: State, pipelines: Sequence[tuple[Stage, ...]]) -> float:
    """Return the seconds until the requests ahead are served, one after another in each pipeline from when it is ready.

    A pipeline in force is ready at once, another one when the last of its workers is.
    """
    begins = sorted(
        (0.0 if stages in state.in_force else moving_s(problem, state, [stages]), 1.0 / end_to_end_s(problem, stages))
        for stages in pipelines
    )
    now_s, each_s, left = 0.0, 0.0, float(state.requests_ahead)
    for ready_s, requests_per_s in begins:
        done = each_s * (ready_s - now_s)
        if done >= left:
            break
        now_s, left, each_s = ready_s, left - done, each_s + requests_per_s
    return now_s + left / each_s


def _copies(problem: Problem, state: State, plan: Plan) -> tuple[Stage, ...]:
    """Return copies of the plan's stages on workers that it leaves over."""
    taken = {stage.node for stage in (*plan.placement, *(s for stages in plan.pipelines for s in stages))}
    found: list[Stage] = []
    for stages in plan.pipelines:
        count = copies(state.service, len(stages), state.away)
        if count > 1:
            found += replicas(problem, stages, count, taken | {stage.node for stage in found})
    return tuple(found)


def _standing(plans: Plans, problem: Problem, state: State, budget: int) -> Plan:
    """Return what is in force, mended where workers are gone, and new pipelines of the workers that are left."""
    kept: list[tuple[Stage, ...]] = []
    busy = {stage.node for stages in state.in_force for stage in stages}
    for stages in state.in_force[:budget]:
        mended = _mended(problem, state, stages, busy)
        if mended:
            kept.append(mended)
            busy |= {stage.node for stage in mended}
    if not kept:
        return pipelines_plan(problem, [], "nothing stands")
    used = {stage.node for stages in kept for stage in stages}
    rest = msgspec.structs.replace(problem, workers=tuple(w for w in problem.workers if w.node not in used))
    if budget > len(kept):
        kept += plans(rest, state, budget - len(kept)).pipelines
    return pipelines_plan(problem, kept, "")


def _mended(problem: Problem, state: State, stages: Sequence[Stage], busy: Collection[str]) -> tuple[Stage, ...]:
    """Return the pipeline, with the best spare for a worker that is gone; nothing if two are, or nothing fits."""
    known = {worker.node for worker in problem.workers}
    gone = [number for number, stage in enumerate(stages) if stage.node not in known]
    if len(gone) > 1:
        return ()
    ways = [tuple(stages)]
    if gone:
        spares = sorted(known - set(busy))
        ways = [(*stages[: gone[0]], _on(stages[gone[0]], node), *stages[gone[0] + 1 :]) for node in spares]
    ways = [way for way in ways if not overflow(problem, way)]
    return min(ways, key=lambda way: served_s(problem, state, [way]), default=())


def _on(stage: Stage, node: str) -> Stage:
    return Stage(node, stage.first, stage.last)


def moving_s(problem: Problem, state: State, pipelines: Sequence[Sequence[Stage]]) -> float:
    """Return the seconds until every worker holds its layers."""
    return max((_ready_s(problem, state, stage) for stages in pipelines for stage in stages), default=0.0)


def _unpaid(problem: Problem, state: State, pipelines: Sequence[Sequence[Stage]]) -> str:
    """Return one line on the first battery that cannot pay for what its worker fetches; "" if all can."""
    movers = {mover.node: mover for mover in state.movers}
    for stage in (stage for stages in pipelines for stage in stages if stage.node in movers):
        mover = movers[stage.node]
        need_j = len(_missing(state, stage)) * problem.layer_bytes * mover.fetch_j_per_byte
        if need_j > mover.spare_j:
            return f"{stage.node} fetches for {need_j:.0f} J of the {mover.spare_j:.0f} J that its battery may spend"
    return ""


def moved_bytes(problem: Problem, state: State, pipelines: Sequence[Sequence[Stage]]) -> float:
    """Return the bytes of the layers that workers have to fetch."""
    return sum(len(_missing(state, stage)) * problem.layer_bytes for stages in pipelines for stage in stages)


def _ready_s(problem: Problem, state: State, stage: Stage) -> float:
    mover = next((m for m in state.movers if m.node == stage.node), Mover(stage.node, float("inf")))
    loaded = _layers(state, stage.node, loaded=True)
    unloaded = sum(layer not in loaded for layer in range(stage.first, stage.last))
    fetch_s = sum(_fetch_s(problem, state, stage.node, layer) for layer in _missing(state, stage))
    return fetch_s + unloaded * problem.layer_bytes / mover.load_bytes_per_s


def _fetch_s(problem: Problem, state: State, node: str, layer: int) -> float:
    """Return the seconds of one layer from whoever gives it soonest."""
    network, by_node = Network(problem), {worker.node: worker for worker in problem.workers}
    having = sorted({h.node for h in state.held if h.first <= layer < h.last and h.node in by_node} - {node})
    ways = [network.hop_s(by_node[other], by_node[node], problem.layer_bytes) for other in having]
    return min(ways) if ways else _from_outside_s(problem, network, by_node[node])


def _from_outside_s(problem: Problem, network: Network, worker: Worker) -> float:
    """The model's home is the source; where that is the first stage, it is somewhere beyond the access link."""
    if problem.source:
        return network.from_source_s(worker, problem.layer_bytes)
    return worker.one_way_s + worker.backbone_s + problem.layer_bytes / worker.bytes_per_s


def _missing(state: State, stage: Stage) -> list[int]:
    own = _layers(state, stage.node, loaded=False)
    return [layer for layer in range(stage.first, stage.last) if layer not in own]


def _layers(state: State, node: str, *, loaded: bool) -> set[int]:
    """Return the layers a node has in memory, or has at all."""
    ranges = [held for held in state.held if held.node == node and (held.loaded or not loaded)]
    return {layer for held in ranges for layer in range(held.first, held.last)}


def _renamed(problem: Problem, state: State, plan: Plan) -> Plan:
    """Return the plan with workers of one kind traded so that each keeps what it has."""
    if plan.placement or not plan.pipelines:  # of a whole pool's placement every worker is in use
        return plan
    devices = sorted(problem.workers, key=lambda worker: worker.node)
    used = {stage.node: stage for stages in plan.pipelines for stage in stages}
    names: dict[str, str] = {}
    for kind in kinds_of(problem, devices, terms(problem, devices)):
        members = [devices[number].node for number in kind.members]
        trades = [
            (len(_missing(state, _on(used[was], node))), node != was, was, node)
            for was in members
            if was in used
            for node in members
        ]
        for _, _, was, node in sorted(trades):
            if was not in names and node not in names.values():
                names[was] = node
    pipelines = [tuple(_on(stage, names[stage.node]) for stage in stages) for stages in plan.pipelines]
    return pipelines_plan(problem, pipelines, "")
