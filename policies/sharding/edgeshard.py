"""EdgeShard's two placements (arXiv 2405.14371): least latency, and least bottleneck.

- Latency: D(i, j) = min over k of D(i - 1, k) + t_j + a / B_kj, layer i on device j, memory carried along the best
  way to each. Only that best way is kept, so the programme is not exact: it may run into a wall of memory that
  another way would have avoided. A device that was left is not entered again (one range a device).
- Throughput: the smallest maximum of a stage's seconds and a transfer's, over the set of used devices. The optimum is
  theirs; with layers alike it is found by bisection: for a bound, a stage holds so many layers and a link may be used
  or not, and the subset programme tells whether any pipeline is within.

Ideal inputs: true seconds, rates and free memory; tokens begin and end at the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import msgspec
import numpy as np

from models.arrays import FloatArray
from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding.answer import capacity, pipelines_plan, shortfall
from policies.sharding.cost import Terms, terms
from policies.sharding.kinds import kinds_of
from policies.sharding.subsets import BOTH, FIRST, LAST, MIDDLE, cheapest

Way = tuple[float, tuple[int, ...]]
"""Seconds, and the device of each layer so far."""


def latency_plan(problem: Problem, state: State, budget: int) -> Plan:
    """Take the way of least latency that the programme keeps."""
    devices = sorted(problem.workers, key=lambda worker: worker.node)
    if not devices:
        return pipelines_plan(problem, [], shortfall(problem, devices))
    cost = terms(problem, devices)
    ways: list[Way | None] = [_entered(cost, (), j) for j in range(len(devices))]
    for layer in range(1, problem.layers):
        ways = [_next(cost, ways, j, last=layer == problem.layers - 1) for j in range(len(devices))]
    held = [way for way in ways if way is not None and _room_left(cost, way[1], last=True) >= 0]
    ended = [(seconds + float(cost.ends_s[path[0], path[-1]]), path) for seconds, path in held]
    if not ended:
        missing = capacity(problem, devices) < problem.layers
        text = f"no way of least latency has room for the {problem.layers} layers of {problem.model}"
        return pipelines_plan(problem, [], shortfall(problem, devices) if missing else text)
    stages = _stages(devices, min(ended)[1])
    return pipelines_plan(problem, [stages], "")


def _entered(cost: Terms, before: tuple[int, ...], device: int) -> Way | None:
    role = MIDDLE if before else FIRST
    if cost.room[device, role] < 1:
        return None
    return float(cost.step_s[device] + cost.layer_s[device]), (*before, device)


def _next(cost: Terms, ways: Sequence[Way | None], device: int, *, last: bool) -> Way | None:
    """Return the best way to this layer on ``device``."""
    best: Way | None = None
    for way in ways:
        if way is None:
            continue
        seconds, path = way
        at = path[-1]
        added = float(cost.layer_s[device])
        if at != device:
            if device in path:
                continue
            added += float(cost.hop_s[at, device] + cost.step_s[device])
        longer = (seconds + added, (*path, device))
        if _room_left(cost, longer[1], last=last) >= 0 and (best is None or longer < best):
            best = longer
    return best


def _room_left(cost: Terms, path: tuple[int, ...], *, last: bool) -> float:
    """Return the layers that still fit on the way's last device."""
    device, held = path[-1], path.count(path[-1])
    first = path[0] == device
    role = BOTH if first and last else FIRST if first else LAST if last else MIDDLE
    return float(cost.room[device, role]) - held


def _stages(devices: Sequence[Worker], path: tuple[int, ...]) -> tuple[Stage, ...]:
    edges = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(path)) if a != b), len(path)]
    return tuple(Stage(devices[path[first]].node, first, last) for first, last in pairwise(edges))


def throughput_plan(problem: Problem, state: State, budget: int) -> Plan:
    """Take the pipeline whose slowest stage or transfer is the fastest."""
    devices = sorted(problem.workers, key=lambda worker: worker.node)
    if not devices:
        return pipelines_plan(problem, [], shortfall(problem, devices))
    decode = msgspec.structs.replace(problem, prompt_tokens=0, new_tokens=1)  # what a full pipeline repeats
    cost = terms(decode, devices)
    kinds = kinds_of(decode, devices, cost)
    sizes = np.arange(1, problem.layers + 1)
    head = np.array([w.layer_s * problem.head_bytes / problem.layer_bytes for w in devices])
    computed = cost.step_s[:, None] + cost.layer_s[:, None] * sizes
    bounds = np.unique(np.concatenate([computed.ravel(), (computed + head[:, None]).ravel(), cost.hop_s.ravel()]))
    low, high = 0, len(bounds) - 1
    best: tuple[Stage, ...] = ()
    try:
        while low <= high:
            middle = (low + high) // 2
            found = cheapest(problem.layers, _within(cost, head, float(bounds[middle])), devices, kinds)
            best, low, high = (found, low, middle - 1) if found else (best, middle + 1, high)
    except ValueError as error:
        return pipelines_plan(problem, [], str(error))
    return pipelines_plan(problem, [best] if best else [], shortfall(problem, devices))


def _within(cost: Terms, head_s: FloatArray, bound_s: float) -> Terms:
    """Return terms in which only what takes at most the bound is possible, and nothing costs anything."""
    fits = np.floor((bound_s - cost.step_s) / cost.layer_s * (1 + 1e-12))
    with_head = np.floor((bound_s - cost.step_s - head_s) / cost.layer_s * (1 + 1e-12))
    room = cost.room.copy()
    for role in (MIDDLE, FIRST):
        room[:, role] = np.minimum(room[:, role], np.maximum(fits, 0.0))
    for role in (LAST, BOTH):
        room[:, role] = np.minimum(room[:, role], np.maximum(with_head, 0.0))
    nothing = np.zeros_like(cost.layer_s)
    hops = np.where(cost.hop_s <= bound_s, 0.0, np.inf)
    return replace(cost, layer_s=nothing, step_s=nothing, hop_s=hops, ends_s=np.zeros_like(cost.ends_s), room=room)
