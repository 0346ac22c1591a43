"""The planner for pools of thousands: a local search over pipelines, from a few beginnings, in a fixed number of steps.

A beginning is the most useful device, or another, and grows under a rising price of missing layers: first what is
worth its hops joins, in the end whatever is needed. One more beginning holds the model whenever the pool can, so that
a plan is found whenever there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding.answer import capacity, pipelines_plan, shortfall
from policies.sharding.cost import Terms, joining_s, terms
from policies.sharding.memory_ring import by_memory
from policies.sharding.moves import Moves, Order
from policies.sharding.subsets import BOTH, FIRST, LAST, MIDDLE, fill

POOL_MAX = 1000
"""Devices that are searched: the most useful ones, and the largest, which hold the model if any do."""
ANCHORS_MIN, ANCHORS_MAX = 4, 16
"""Beginnings that are tried: as many as there are devices in a small pool, few in a large one."""
PRICES = 4
"""Steps in which the price of a missing layer rises before nothing may be missing."""
STEPS = 200
"""Moves from one beginning."""


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Take pipelines from the pool, each the best that the search finds in what is left, ``budget`` at most."""
    pipelines: list[tuple[Stage, ...]] = []
    pool = list(problem.workers)
    while len(pipelines) < budget and (found := pipeline(problem, pool)):
        pipelines.append(found)
        used = {stage.node for stage in found}
        pool = [worker for worker in pool if worker.node not in used]
    return pipelines_plan(problem, pipelines, shortfall(problem, problem.workers))


def pipeline(problem: Problem, pool: Sequence[Worker]) -> tuple[Stage, ...]:
    """Return a good pipeline of ``pool``; nothing only if there is none."""
    if capacity(problem, pool) < problem.layers:
        return ()
    devices = _searched(problem, pool)
    search = _Search(problem, devices)
    order = search.run()
    counts = fill(problem.layers, search.cost, order)
    edges = np.cumsum([0, *counts]).tolist()
    return tuple(Stage(devices[d].node, edges[i], edges[i + 1]) for i, d in enumerate(order))


def _searched(problem: Problem, pool: Sequence[Worker]) -> list[Worker]:
    """Return at most `POOL_MAX` devices, numbered by what they can do, so that names only settle ties."""
    ranked = sorted(pool, key=lambda w: (joining_s(problem, w), -w.memory_bytes, w.layer_s, w.bytes_per_s, w.node))
    if len(ranked) <= POOL_MAX:
        return ranked
    kept = {worker.node for worker in [*ranked[: POOL_MAX // 2], *by_memory(pool)[: POOL_MAX // 2]]}
    return [worker for worker in ranked if worker.node in kept]


@dataclass
class _Search:
    problem: Problem
    devices: Sequence[Worker]

    def __post_init__(self) -> None:
        self.cost: Terms = terms(self.problem, self.devices)
        usable = self.cost.room[:, MIDDLE] > 0
        dear = float(self.cost.layer_s[usable].max() + self.cost.step_s[usable].max() + 2 * self.cost.hop_s.max())
        self.all_s = self.problem.layers * (dear + float(self.cost.ends_s.max()))  # more than any pipeline takes

    def run(self) -> Order:
        beginnings = [self._grown(anchor) for anchor in self._anchors()]
        beginnings.append(self._settled(_largest(self.problem.layers, self.cost), self.all_s))
        moves = Moves(self.problem.layers, self.cost, self.all_s)
        return min(beginnings, key=moves.total_s)

    def _anchors(self) -> list[int]:
        """Return the devices that are cheapest with their own room, were a missing layer as dear as theirs."""
        own = np.minimum(np.maximum(self.cost.room[:, BOTH], 1.0), self.problem.layers)
        each = self.cost.layer_s + (self.cost.step_s + np.diagonal(self.cost.ends_s)) / own
        each = np.where(self.cost.room[:, MIDDLE] > 0, each, np.inf)
        count = int(np.clip(256 // len(each), ANCHORS_MIN, ANCHORS_MAX))
        return [int(i) for i in np.argsort(each, kind="stable")[:count] if np.isfinite(each[i])]

    def _grown(self, anchor: int) -> Order:
        order, price_s = [anchor], float(self.cost.layer_s[anchor])
        for _ in range(PRICES):
            price_s *= 2.0
            order = self._settled(order, price_s)
        return self._settled(order, self.all_s)

    def _settled(self, order: Order, price_s: float) -> Order:
        """Make the best move until none is left."""
        moves = Moves(self.problem.layers, self.cost, price_s)
        now_s = moves.total_s(order)
        for _ in range(STEPS):
            found = moves.better(order, now_s)
            if found is None:
                break
            now_s, order = found
        return order


def _largest(layers: int, cost: Terms) -> Order:
    """Return the devices of the most room, the two ends those that lose the fewest layers; it holds the model."""
    alone = int(np.argmax(cost.room[:, BOTH]))
    if cost.room[alone, BOTH] >= layers:
        return [alone]
    lost = np.where(cost.room[:, FIRST] > 0, cost.room[:, MIDDLE] - cost.room[:, FIRST], np.inf)
    ends = [int(i) for i in np.argsort(lost, kind="stable")[:2]]
    others = [int(i) for i in np.argsort(-cost.room[:, MIDDLE], kind="stable") if i not in ends]
    held = float(cost.room[ends[0], FIRST] + cost.room[ends[1], LAST])
    middle: Order = []
    for device in others:
        if held >= layers or len(middle) == layers - 2 or cost.room[device, MIDDLE] < 1:
            break
        middle.append(device)
        held += float(cost.room[device, MIDDLE])
    return [ends[0], *middle, ends[1]]
