"""The faults of a local run: the scenario's schedule, carried out on processes and transports, and recorded.

Each row of the record names the layer that a fault acts in:

- ``process``: signals. A crash is a SIGKILL, a pause SIGSTOP and SIGCONT. What a killed process had written but not
  synced stays in the operating system's cache, so a crash here loses no write and tears none.
- ``kernel``: a full disk is a limit of zero bytes on the size of the node's files (RLIMIT_FSIZE, set on the running
  process by prlimit(2)): the kernel refuses every write (EFBIG), and a node stops at its first failed one.
- ``transport``: what befalls links is done to frames, above TLS.
- ``namespace``: where each node has a network of its own, the kernel parts nodes, below TLS and TCP. One-way cuts stay
  with the transport: TCP speaks in neither direction when its acknowledgements are lost.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from models import draws
from real_backends.link_faults import Links, link_faults, parted
from real_backends.processes import Processes
from real_backends.victims import Victims
from scenarios import faults as f
from scenarios.faults import Fault, FaultError, kind_of, weibull_s

_VICTIM_FIELDS = ("at_s", "node", "group", "nodes")  # named by the row, so not by its detail


def check_faults(faults: Sequence[Fault]) -> None:
    """Refuse what the kernel of this machine cannot do to a process.

    Raises:
        FaultError: one line that names the fault, the value and what is allowed.
    """
    for i, fault in enumerate(faults):
        if isinstance(fault, f.Crash) and fault.writes != "lost":
            why = "a kill leaves whole what was written; world=local allows lost"
            raise FaultError(f"faults[{i}].writes={fault.writes!r}: {why}")
        if isinstance(fault, f.FullDisk) and sys.platform != "linux":
            raise FaultError(f"faults[{i}].kind='full_disk': world=local needs prlimit(2), which only Linux has")


class FaultScript:
    """Carries out faults.

    Args:
        processes: the nodes.
        victims: who is meant.
        seed: names the draws of churn.
        duration_s: churn ends here.
        begun_s: the event loop's time at the run's start, which is ``time.monotonic()``.
    """

    def __init__(self, processes: Processes, victims: Victims, *, seed: int, duration_s: float, begun_s: float) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.restarts: list[tuple[int, str]] = []  # (monotonic ns, node)
        self._processes, self._victims, self._links = processes, victims, Links(processes)
        self._seed, self._duration_s, self._begun_s = seed, duration_s, begun_s
        self._pauses: Counter[tuple[str, int]] = Counter()  # spells that last, by node and its falls before
        self._full: Counter[str] = Counter()
        self._falls: Counter[str] = Counter()
        self._back_s: dict[str, float] = {}  # until when a crash keeps a node down

    async def run(self, faults: Sequence[Fault]) -> None:
        """Carry out every fault at its time; returns when the last has ended."""
        await asyncio.gather(*(self._carry_out(number, fault) for number, fault in enumerate(faults)))

    async def _carry_out(self, number: int, fault: Fault) -> None:
        if isinstance(fault, f.Churn):
            names = await self._victims.of(fault)
            await asyncio.gather(*(self._churn(number, fault, k, name) for k, name in enumerate(names)))
            return
        assert isinstance(fault, f.Timed)
        await self._sleep_until(fault.at_s)
        if isinstance(fault, f.Cut):
            fault = msgspec.structs.replace(fault, pairs=tuple(await self._victims.pairs(fault)))
        victims = await self._victims.of(fault)
        if not victims:
            named: Any = getattr(fault, fault.victims[0])
            who = named if isinstance(named, str) else ",".join(map(str, named))
            self._record(kind_of(fault), who, "skipped", self._layer(fault), {"why": "nobody fits"})
        elif isinstance(fault, f.NETWORKS):
            await self._disturb(fault, victims)
        else:
            await asyncio.gather(*(self._strike(fault, name) for name in victims))

    async def _strike(self, fault: Any, name: str) -> None:
        """Carry out what befalls one node."""
        if isinstance(fault, f.Crash):
            if self._processes.up(name):
                await self._crash(name, fault.down_s, fault.disk)
            else:
                self._record("crash", name, "skipped", "process", {"why": "not up"})
        elif isinstance(fault, f.Pause):
            await self._pause(fault, name)
        else:
            await self._fill_disk(fault, name)

    # -- processes -----------------------------------------------------------------------------------

    async def _crash(self, name: str, down_s: float, disk: str = "kept") -> None:
        detail = {"down_s": round(down_s, 3), "writes": "kept by the system's cache", "disk": disk}
        self._record("crash", name, "start", "process", detail)
        self._falls[name] += 1
        fall = self._falls[name]
        back_s = self._back_s[name] = self._now_s() + (down_s if down_s >= 0 else math.inf)
        await self._processes.kill(name)
        if disk == "lost":
            self._processes.wipe(name)
        if down_s < 0:
            return
        await self._sleep_until(back_s)
        # Another fault may have brought it back and down again, or its disk is full.
        if self._falls[name] == fall and not self._processes.up(name) and not self._full[name]:
            self._record("crash", name, "end", "process", {})
            await self._restart(name)

    async def _restart(self, name: str) -> None:
        self.restarts.append((time.monotonic_ns(), name))
        await self._processes.start(name)
        await self._links.tell(name)  # its transport forgot

    async def _churn(self, number: int, fault: f.Churn, device: int, name: str) -> None:
        key, at_s, index = (number << 20) + device, 0.0, 0
        while True:
            at_s += weibull_s(float(draws.exponential(self._seed, "churn", key, index)), fault)
            if at_s >= self._duration_s:
                return
            await self._sleep_until(at_s)
            down_s = draws.lognormal(self._seed, "downtime", key, index, fault.down_median_s, fault.down_sigma)
            if self._processes.up(name):
                await self._crash(name, float(down_s))
            index += 1

    async def _pause(self, fault: f.Pause, name: str) -> None:
        if not self._processes.up(name):
            self._record("pause", name, "skipped", "process", {"why": "not up"})
            return
        self._record("pause", name, "start", "process", _detail(fault))
        life = name, self._falls[name]
        self._pauses[life] += 1
        self._processes.pause(name)
        await self._sleep_until(f.end_s(fault))
        self._pauses[life] -= 1
        if not self._pauses[life] and life[1] == self._falls[name]:
            self._processes.resume(name)
        self._record("pause", name, "end", "process", {})
        await self._links.tell(name)  # of what changed meanwhile

    # -- disks ---------------------------------------------------------------------------------------

    async def _fill_disk(self, fault: f.FullDisk, name: str) -> None:
        """Let every write fail: the node stops at its next one, and starts when there is room again."""
        self._record("full_disk", name, "start", "kernel", _detail(fault))
        self._full[name] += 1
        if self._processes.up(name):
            self._processes.fill_disk(name)
            stopping = asyncio.ensure_future(self._processes.ended(name))
            done, _ = await asyncio.wait((stopping,), timeout=max(0.0, f.end_s(fault) - self._now_s()))
            stopping.cancel()
            if done and self._processes.up(name):  # else it was killed, or another spell has noted it
                self._falls[name] += 1
                self._back_s.pop(name, None)
                self._processes.gone(name)
                detail = {"down_s": -1.0, "writes": "refused", "disk": "kept", "exit_code": stopping.result()}
                self._record("crash", name, "start", "kernel", detail)
        await self._sleep_until(f.end_s(fault))
        self._full[name] -= 1
        self._record("full_disk", name, "end", "kernel", {})
        if not self._full[name]:
            if self._processes.up(name):
                self._processes.empty_disk(name)
            elif self._back_s.get(name, 0.0) <= self._now_s():
                await self._restart(name)

    # -- networks ------------------------------------------------------------------------------------

    async def _disturb(self, fault: Any, victims: Sequence[str]) -> None:
        if isinstance(fault, f.Partition):
            who = ",".join(victims)
        elif isinstance(fault, f.Cut):
            who = ",".join(f"{a}-{b}" for a, b in fault.pairs)
        else:
            who = ",".join(fault.nodes) or "*"
        if self._layer(fault) == "namespace":
            await self._part(fault, victims, who)
            return
        wrong = link_faults(fault, victims)
        self._links.begin(wrong)
        self._record(kind_of(fault), who, "start", "transport", _detail(fault))
        begun = asyncio.ensure_future(self._links.tell_all())  # a node that starts just now must not hold up the end
        await self._sleep_until(f.end_s(fault))
        self._links.end(wrong)
        self._record(kind_of(fault), who, "end", "transport", {})
        await asyncio.gather(begun, self._links.tell_all())

    async def _part(self, fault: f.Partition | f.Cut, victims: Sequence[str], who: str) -> None:
        """Let the kernel part nodes; it does so for those that are down or paused, too."""
        network = self._processes.network
        assert network is not None
        pairs = parted(fault, victims, self._processes.names)
        network.part(pairs)
        self._record(kind_of(fault), who, "start", "namespace", _detail(fault))
        await self._sleep_until(f.end_s(fault))
        network.join(pairs)
        self._record(kind_of(fault), who, "end", "namespace", {})

    def _layer(self, fault: Fault) -> str:
        if isinstance(fault, f.Partition | f.Cut) and not fault.one_way and self._processes.network is not None:
            return "namespace"
        return (
            "transport" if isinstance(fault, f.NETWORKS) else "kernel" if isinstance(fault, f.FullDisk) else "process"
        )

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time() - self._begun_s

    async def _sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self._now_s()))

    def _record(self, kind: str, node: str, phase: str, layer: str, detail: Any) -> None:
        self.rows.append((self._now_s(), kind, node, phase, layer, json.dumps(detail)))


def _detail(fault: Any) -> dict[str, Any]:
    return {field: value for field, value in msgspec.structs.asdict(fault).items() if field not in _VICTIM_FIELDS}
