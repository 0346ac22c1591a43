"""Faults of the twin: the scenario's schedule, carried out on the world, and every one recorded."""

from __future__ import annotations

import json
from typing import Any

from models import draws
from policies.port import NS_PER_S
from scenarios.schema import Churn, Crash, Fault, Loss, Partition
from sim.compute import Compute
from sim.world import Node, World

DOWN_SIGMA = 1.37
"""Spread of log-normal downtimes, as of LANL node repairs (fitted to the failure data of the LANL systems)."""


class Faults:
    """Schedules a scenario's faults.

    Args:
        world: what they happen to.
        compute: sessions that a partition cuts.
        committee: committee members by index.
        workers: names of the other devices.
        leader: returns the leader's name, or "".
        busy: returns the names of devices that run a session.
        seed: names the draws of churn.
        restart: starts a node again.
    """

    def __init__(
        self, world: World, compute: Compute, committee: list[str], workers: list[str], *, seed: int, duration_s: float,
        leader: Any, busy: Any, restart: Any,
    ) -> None:  # fmt: skip
        self.world, self.compute, self.committee, self.workers = world, compute, committee, workers
        self.seed, self.duration_s = seed, duration_s
        self.leader, self.busy, self.restart = leader, busy, restart
        self.rows: list[tuple[Any, ...]] = []
        self.crashes = 0

    def schedule(self, faults: tuple[Fault, ...]) -> None:
        """Put every fault into the engine's queue."""
        for number, fault in enumerate(faults):
            if isinstance(fault, Churn):
                self._schedule_churn(number, fault)
            else:
                start = {Crash: self._crash, Partition: self._partition, Loss: self._loss}[type(fault)]
                self.world.engine.call_at(int(fault.at_s * NS_PER_S), start, fault)

    def record(self, kind: str, node: str, phase: str, detail: Any) -> None:
        """Note what happened now, in the run's faults and its digest."""
        now = self.world.engine.now
        self.rows.append((now / NS_PER_S, kind, node, phase, "model", json.dumps(detail)))
        self.world.mark(kind, node, phase)

    def _crash(self, fault: Crash) -> None:
        name = self._resolve(fault.node)
        node = self.world.by_name.get(name)
        if node is None or not node.up:
            self.record("crash", name or fault.node, "skipped", {"why": "not up, or nobody fits"})
            return
        self._take_down(node, fault.down_s, 0.5 if fault.torn else 0.0)

    def _take_down(self, node: Node, down_s: float, torn: float) -> None:
        self.crashes += 1
        self.record("crash", node.name, "start", {"down_s": round(down_s, 3), "torn": torn})
        self.world.crash(node, torn)
        if down_s >= 0:
            at = self.world.engine.now + int(down_s * NS_PER_S)
            self.world.engine.call_at(at, self._restart, node)

    def _restart(self, node: Node) -> None:
        self.record("crash", node.name, "end", {})
        self.restart(node)

    def _resolve(self, who: str) -> str:
        if who == "leader":
            return str(self.leader())
        if who == "worker":
            busy = [name for name in sorted(self.busy()) if name not in self.committee]
            return busy[0] if busy else ""
        if who == "random":
            # Keyed by the second it strikes, not by how many crashes came before: policies stay comparable.
            second = self.world.engine.now // NS_PER_S
            index = int(draws.integers(self.seed, "random victim", second, 0, len(self.workers)))
            return self.workers[index]
        if who.startswith("committee:"):
            index = int(who.partition(":")[2])
            return self.committee[index] if index < len(self.committee) else ""
        return who

    def _schedule_churn(self, number: int, fault: Churn) -> None:
        """Exponential gaps for every device; each crash is one event, drawn when the one before has passed."""
        for device in range(len(self.workers)):
            self._next_churn((fault, number, device, 0, 0.0))

    def _next_churn(self, state: tuple[Churn, int, int, int, float]) -> None:
        fault, number, device, index, at_s = state
        key = (number << 20) + device
        at_s += float(draws.exponential(self.seed, "churn", key, index)) * fault.mean_hours * 3600.0
        if at_s < self.duration_s:
            self.world.engine.call_at(int(at_s * NS_PER_S), self._churn, (fault, number, device, index, at_s))

    def _churn(self, state: tuple[Churn, int, int, int, float]) -> None:
        fault, number, device, index, at_s = state
        key = (number << 20) + device
        down_s = float(draws.lognormal(self.seed, "downtime", key, index, fault.down_median_s, DOWN_SIGMA))
        node = self.world.by_name[self.workers[device]]
        if node.up:
            self._take_down(node, down_s, 0.0)
        self._next_churn((fault, number, device, index + 1, at_s))

    def _partition(self, fault: Partition) -> None:
        names = [self.committee[k] for k in fault.group]
        network = self.world.network
        network.island = {self.world.by_name[name].number for name in names}
        network.one_way = fault.one_way
        self.record("partition", ",".join(names), "start", {"for_s": fault.for_s, "one_way": fault.one_way})
        self.compute.cut(network.island)
        self.world.engine.call_at(self.world.engine.now + int(fault.for_s * NS_PER_S), self._heal, ",".join(names))

    def _heal(self, names: str) -> None:
        self.world.network.island = set()
        self.record("partition", names, "end", {})

    def _loss(self, fault: Loss) -> None:
        self.world.network.extra_loss += fault.share
        self.record("loss", "*", "start", {"share": fault.share, "for_s": fault.for_s})
        self.world.engine.call_at(self.world.engine.now + int(fault.for_s * NS_PER_S), self._loss_over, fault.share)

    def _loss_over(self, share: float) -> None:
        self.world.network.extra_loss -= share
        self.record("loss", "*", "end", {})
