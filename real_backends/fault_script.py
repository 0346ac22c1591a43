"""The faults of a local run: the scenario's schedule, carried out on processes and transports, and recorded.

Crashes are SIGKILLs (layer ``process``); partitions and losses are applied to frames above TLS (layer
``transport``). What a killed process had written but not synced stays in the page cache, so a torn last write
cannot be made here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from models import draws
from real_backends.processes import Processes
from real_backends.transports.faulty import LinkFaults
from scenarios.faults import Churn, Crash, Fault, Loss, Partition, weibull_s


class FaultScript:
    """Carries out faults.

    Args:
        processes: the nodes.
        committee: members by index.
        leader: returns the leader's name at the moment, or "".
        seed: names the draws of churn and of random victims.
        duration_s: churn ends here.
        begun_s: ``time.monotonic()`` at the run's start.
    """

    def __init__(
        self,
        processes: Processes,
        committee: Sequence[str],
        leader: Callable[[], str],
        *,
        seed: int,
        duration_s: float,
        begun_s: float,
    ) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.restarts: list[tuple[int, str]] = []  # (monotonic ns, node)
        self._processes, self._committee, self._leader = processes, tuple(committee), leader
        self._workers = tuple(name for name in processes.names if name not in committee)
        self._seed, self._duration_s, self._begun_s = seed, duration_s, begun_s
        self._links = {name: LinkFaults() for name in processes.names}
        self._crashes = 0

    async def run(self, faults: Sequence[Fault]) -> None:
        """Carry out every fault at its time; returns when the last has ended."""
        await asyncio.gather(*(self._carry_out(number, fault) for number, fault in enumerate(faults)))

    async def _carry_out(self, number: int, fault: Fault) -> None:
        if isinstance(fault, Churn):
            await asyncio.gather(*(self._churn(number, fault, k) for k in range(len(self._workers))))
            return
        await self._sleep_until(fault.at_s)
        if isinstance(fault, Crash):
            await self._crash(await self._resolve(fault.node), fault.down_s)
        elif isinstance(fault, Partition):
            await self._partition(fault)
        else:
            await self._loss(fault)

    async def _crash(self, name: str, down_s: float) -> None:
        if not self._processes.up(name):
            self._record("crash", name, "skipped", "process", {"why": "not up, or nobody fits"})
            return
        self._crashes += 1
        self._record("crash", name, "start", "process", {"down_s": round(down_s, 3)})
        self._processes.kill(name)
        if down_s < 0:
            return
        await asyncio.sleep(down_s)
        self.restarts.append((time.monotonic_ns(), name))
        await self._processes.start(name)
        self._record("crash", name, "end", "process", {})
        await self._processes.ask(name, "ping")
        await self._set_links(name, self._links[name])  # its transport forgot them

    async def _churn(self, number: int, fault: Churn, worker: int) -> None:
        key, at_s, index = (number << 20) + worker, 0.0, 0
        while True:
            at_s += weibull_s(float(draws.exponential(self._seed, "churn", key, index)), fault)
            if at_s >= self._duration_s:
                return
            await self._sleep_until(at_s)
            down_s = draws.lognormal(self._seed, "downtime", key, index, fault.down_median_s, fault.down_sigma)
            await self._crash(self._workers[worker], float(down_s))
            index += 1

    async def _partition(self, fault: Partition) -> None:
        group = tuple(self._committee[k] if isinstance(k, int) else k for k in fault.group)
        others = tuple(name for name in self._processes.names if name not in group)
        detail = {"for_s": fault.for_s, "one_way": fault.one_way}
        self._record("partition", ",".join(group), "start", "transport", detail)
        for name in group:
            cut_to = () if fault.one_way else others
            await self._change(name, cut_from=others, cut_to=cut_to)
        await asyncio.sleep(fault.for_s)
        for name in group:
            await self._change(name, cut_from=(), cut_to=())
        self._record("partition", ",".join(group), "end", "transport", {})

    async def _loss(self, fault: Loss) -> None:
        self._record("loss", "*", "start", "transport", {"share": fault.share, "for_s": fault.for_s})
        for name in self._processes.names:
            await self._change(name, loss=fault.share)
        await asyncio.sleep(fault.for_s)
        for name in self._processes.names:
            await self._change(name, loss=0.0)
        self._record("loss", "*", "end", "transport", {})

    async def _change(self, name: str, **fields: Any) -> None:
        self._links[name] = msgspec.structs.replace(self._links[name], **fields)
        if self._processes.up(name):
            await self._set_links(name, self._links[name])

    async def _set_links(self, name: str, faults: LinkFaults) -> None:
        await self._processes.ask(name, "faults", msgspec.to_builtins(faults))

    async def _resolve(self, who: str) -> str:
        if who == "leader":
            return self._leader()
        if who == "worker":
            return await self._busy_worker()
        if who == "random":
            index = int(draws.integers(self._seed, "random victim", self._crashes, 0, len(self._workers)))
            return self._workers[index]
        if who.startswith("committee:"):
            index = int(who.partition(":")[2])
            return self._committee[index] if index < len(self._committee) else ""
        return who

    async def _busy_worker(self) -> str:
        """Return the first worker outside the committee that runs a session now, or else the first of them."""
        workers = [name for name in self._workers if self._processes.up(name)]
        states = await asyncio.gather(*(self._processes.ask(name, "state") for name in workers))
        busy = [name for name, state in zip(workers, states, strict=True) if state["active"]]
        return (busy or workers or [""])[0]

    async def _sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, self._begun_s + at_s - time.monotonic()))

    def _record(self, kind: str, node: str, phase: str, layer: str, detail: Any) -> None:
        at_s = time.monotonic() - self._begun_s
        self.rows.append((at_s, kind, node, phase, layer, json.dumps(detail)))
