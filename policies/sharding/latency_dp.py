"""The planner for one decode stream: the pipeline with the fewest seconds a token, exact over its candidates.

Layers are alike, so the problem falls apart into three choices. For a set of devices S with a first and a
last one:

- how many layers each takes: one at least, the rest to the fastest under the memory limits. Moving a layer
  to a slower device never helps, so this filling is optimal;
- in what order the others come: the shortest path through S from first to last (Held and Karp 1962, dynamic
  programming over subsets, O(2^k k^2) a first device);
- which S, first and last: all of them, at once, as arrays.

Order and filling share nothing but S, first and last, so the sum of the two optima is the optimum.
A pool is served greedily: the best pipeline, then the best of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.arrays import FloatArray
from policies.jobs import Stage
from policies.problem import Plan, Problem, Worker
from policies.sharding.cost import head_s, hop_s, layers_max, source_s, token_s
from policies.sharding.memory_ring import by_memory


def plan(problem: Problem, budget: int) -> Plan:
    """Take pipelines from the pool, the best one first, until none fits or there are ``budget``."""
    pool = sorted(problem.workers, key=lambda worker: (joining_s(problem, worker), worker.node))
    pool = [worker for worker in pool if layers_max(problem, worker, first=False, last=False)]
    pipelines: list[tuple[Stage, ...]] = []
    while len(pipelines) < budget and (found := _next_pipeline(problem, pool)):
        pipelines.append(found)
        used = {stage.node for stage in found}
        pool = [worker for worker in pool if worker.node not in used]
    why = ""
    if not pipelines:
        why = (
            f"no {problem.candidates} of {len(problem.workers)} workers hold {problem.layers} layers of {problem.model}"
        )
    return Plan(tuple(pipelines), tuple(token_s(problem, stages) for stages in pipelines), why)


def joining_s(problem: Problem, worker: Worker) -> float:
    """Return the seconds a layer costs on ``worker`` filled to its memory, with its step and two hops.

    This ranks candidates: a fast device that holds one layer behind a slow link is not a useful one.
    """
    layers = min(problem.layers, max(1, layers_max(problem, worker, first=False, last=False)))
    hops_s = 2 * (worker.one_way_s + worker.backbone_s) + problem.activation_bytes / worker.bytes_per_s
    return worker.layer_s + (worker.step_s + hops_s) / layers


def _next_pipeline(problem: Problem, pool: Sequence[Worker]) -> tuple[Stage, ...]:
    """Try the most useful candidates; while they cannot hold the model, trade the last for the largest.

    The last trade leaves the largest devices alone, so nothing is missed: if any ``candidates`` devices
    hold the model, those do, since more memory never holds fewer layers.
    """
    count = min(problem.candidates, len(pool))
    largest = by_memory(pool)
    for traded in range(count + 1):
        chosen = list(pool[: count - traded])
        names = {worker.node for worker in chosen}
        chosen += [worker for worker in largest if worker.node not in names][:traded]
        if sum(layers_max(problem, worker, first=False, last=False) for worker in chosen) < problem.layers:
            continue
        if found := best_pipeline(problem, chosen):
            return found
    return ()


def best_pipeline(problem: Problem, candidates: Sequence[Worker]) -> tuple[Stage, ...]:
    """Return the exact minimum over all pipelines of these candidates (10 at most), or nothing if none fits.

    Ties go to the first names: candidates are numbered by name and the first minimum is taken.
    """
    devices = sorted(candidates, key=lambda worker: worker.node)
    k = len(devices)
    if k == 0:
        return ()
    hops = np.array([[hop_s(u, v, problem.activation_bytes) for v in devices] for u in devices])
    path_s = _paths(hops)
    around_s = np.array([[source_s(problem, first, last) for last in devices] for first in devices])
    head = np.array([head_s(problem, last) for last in devices])
    total_s = path_s + _filling(problem, devices) + (around_s + head)
    best = int(np.argmin(total_s))
    if not np.isfinite(total_s.flat[best]):
        return ()
    mask, first, last = (int(i) for i in np.unravel_index(best, total_s.shape))
    counts = _counts(problem, devices, mask, first, last)
    stages, at = [], 0
    for device in _order(hops, path_s, mask, first, last):
        stages.append(Stage(devices[device].node, at, at + counts[device]))
        at += counts[device]
    return tuple(stages)


def _paths(hops: FloatArray) -> FloatArray:
    """Return [mask, first, last]: the shortest path through all devices of ``mask`` between two of them."""
    k = len(hops)
    path = np.full((1 << k, k, k), np.inf)
    masks = np.arange(1 << k)
    sizes = np.array([mask.bit_count() for mask in range(1 << k)])
    for device in range(k):
        path[1 << device, device, device] = 0.0
    for size in range(2, k + 1):
        for last in range(k):
            ending = masks[(sizes == size) & (masks >> last & 1 == 1)]
            before = path[ending ^ (1 << last)]  # [mask, first, the one before last]
            path[ending, :, last] = (before + hops[:, last]).min(axis=2)
    return path


def _order(hops: FloatArray, path_s: FloatArray, mask: int, first: int, last: int) -> list[int]:
    order = [last]
    while mask != 1 << first:
        mask ^= 1 << last
        last = int(np.argmin(path_s[mask, first] + hops[:, last]))
        order.append(last)
    return order[::-1]


def _filling(problem: Problem, devices: Sequence[Worker]) -> FloatArray:
    """Return [mask, first, last]: the seconds of all stages under the best filling, infinite if none fits."""
    k = len(devices)
    sizes = np.array([mask.bit_count() for mask in range(1 << k)], dtype=np.float64)
    left = np.empty((1 << k, k, k))
    left[:] = (problem.layers - sizes)[:, None, None]  # beyond one layer each
    seconds = np.where(left < 0.0, np.inf, 0.0)
    for device in _by_speed(devices):
        worker, room = devices[device], _room(problem, devices[device], device, k)
        halves = (-1, 2, 1 << device, k, k)  # axis 1 is this device's bit of the mask: views, no copies
        left_in, seconds_in = left.reshape(halves)[:, 1], seconds.reshape(halves)[:, 1]
        extra = np.minimum(left_in, np.maximum(room, 0.0))
        left_in -= extra
        extra *= worker.layer_s
        extra += np.where(room < 0.0, np.inf, worker.step_s + worker.layer_s)
        seconds_in += extra
    seconds[left > 0.0] = np.inf
    return seconds


def _room(problem: Problem, worker: Worker, device: int, k: int) -> FloatArray:
    """Return [first, last]: the layers that fit on a device beyond its first, by the pipeline's two ends."""
    roles = np.empty((k, k))
    roles[:] = layers_max(problem, worker, first=False, last=False)
    roles[device, :] = layers_max(problem, worker, first=True, last=False)
    roles[:, device] = layers_max(problem, worker, first=False, last=True)
    roles[device, device] = layers_max(problem, worker, first=True, last=True)
    return np.minimum(roles, problem.layers) - 1


def _counts(problem: Problem, devices: Sequence[Worker], mask: int, first: int, last: int) -> dict[int, int]:
    """Return the layers of each device of ``mask`` under the filling that `_filling` costed."""
    members = [device for device in _by_speed(devices) if mask >> device & 1]
    left, counts = problem.layers - len(members), {}
    for device in members:
        room = layers_max(problem, devices[device], first=device == first, last=device == last) - 1
        extra = min(left, room)
        counts[device], left = 1 + extra, left - extra
    return counts


def _by_speed(devices: Sequence[Worker]) -> list[int]:
    return sorted(range(len(devices)), key=lambda device: (devices[device].layer_s, devices[device].node))
