"""One handle on both worlds: a test written against it runs over the simulate and the serve driver alike.

Nothing sleeps: a test waits for a condition, in virtual time here and on real sockets, disks and clocks there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.cell import Cell
from policies.port import Policy
from policies.wire import Message
from real_backends import cluster as real
from real_backends.stores.file import FileStorage
from real_backends.transports.faulty import Cut, Disturbance, LinkFaults
from scenarios.schema import Network
from sim.cluster import Cluster

Policies = Callable[[str], Policy | Mapping[str, Policy]]
SEED = 1
WAIT_S = 60.0  # of virtual time; the real side gives up after twenty seconds
PERFECT = Network(loss=0.0, duplicate=0.0)


class Simulated:
    """Nodes in virtual time.

    Attributes:
        world: the driver's name.
    """

    world = "simulate"

    def __init__(self, policies: Policies, n: int, folder: Path) -> None:
        names = tuple(f"n{i}" for i in range(n))
        others = {name: partial(policies, name) for name in names}
        self.cluster = Cluster(others["n0"], n, SEED, PERFECT, others=others, journal=True)
        self.names = self.cluster.names
        self._cost = self.cluster.world.nodes[0].cost

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass until the condition holds."""
        begun_s = self.cluster.now_s
        while not condition():
            if self.cluster.now_s - begun_s > WAIT_S:
                raise TimeoutError("the condition did not come true")
            self.cluster.run(0.001)

    def crash(self, name: str, torn: float = 0.0) -> None:
        """Cut the power; a ``torn`` share of what was not synced is on the disk all the same."""
        self.cluster.crash(name, torn)

    def restart(self, name: str) -> None:
        """Start again; the disk works."""
        node = self.cluster.world.by_name[name]
        node.cost = self._cost
        node.synced_at = 0  # the sync that hung went with the power
        self.cluster.restart(name)

    def hold_disk(self, name: str) -> None:
        """From now on no sync of this node returns before its crash."""
        node = self.cluster.world.by_name[name]
        node.cost = replace(node.cost, fsync_ns=10**15)

    def faults(self, *, loss: float = 0.0, duplicate: float = 0.0) -> None:
        """From now on messages between nodes are lost and doubled."""
        self.cluster.world.network.config = Network(loss=loss, duplicate=duplicate)

    def partition(self, group: Collection[str]) -> None:
        """Cut the group off."""
        self.cluster.partition(group)

    def heal(self) -> None:
        """End the partition."""
        self.cluster.heal()

    def request(self, name: str, op_id: str, operation: Message, path: str = "") -> None:
        """Ask as the only client."""
        self.cluster.request(name, "client", op_id, operation, path)

    def replies(self) -> list[tuple[str, Any, bool]]:
        """Return (operation, plain answer, whether the last) so far."""
        return [(r.op_id, msgspec.to_builtins(r.value), r.last) for r in self.cluster.replies]

    def decisions(self, name: str) -> list[tuple[str, Any]]:
        """Return what a node decided so far, as (kind, plain value)."""
        return [(d.kind, msgspec.to_builtins(d.value)) for d in self.cluster.decisions if d.node == name]

    def cell(self, name: str) -> Cell:
        """Return the Cell of a node that is up."""
        return self.cluster.cell(name)

    def journals(self) -> dict[str, bytes]:
        """End the run and return the journals."""
        return self.cluster.journals()

    def close(self) -> None:
        """Nothing to close."""


class PowerCut(FileStorage):
    """A real file on a disk that can be held, and then cut off with a part of the write on it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kept = 1.0
        self.may_write = threading.Event()
        self.may_write.set()

    def append(self, data: bytes) -> None:
        """Write, or wait for the power cut and write what it leaves."""
        assert self.may_write.wait(20), "the disk was held and never let go"
        super().append(data[: int(len(data) * self.kept)])

    def cut(self, kept: float) -> None:
        """End the wait; of a write that was held a share of ``kept`` is on the disk."""
        self.kept = 1.0 if self.may_write.is_set() else kept
        self.may_write.set()


class Served:
    """Nodes over loopback sockets, with real disks and clocks, in one event loop.

    Attributes:
        world: the driver's name.
    """

    world = "serve"

    def __init__(self, policies: Policies, n: int, folder: Path) -> None:
        self.names = tuple(f"n{i}" for i in range(n))
        self._loop = asyncio.new_event_loop()
        self._replies: list[tuple[str, Any, bool]] = []
        self._disks: dict[str, PowerCut] = {}
        self.cluster = real.LocalCluster(policies, self.names, folder, seed=SEED)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(real, "FileStorage", self._disk)
            self._run(self.cluster.__aenter__())
        self.until(lambda: all(self.cluster.nodes[name].counts["steps"] for name in self.names))

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def _disk(self, path: Path) -> PowerCut:
        disk = self._disks[path.parent.name] = PowerCut(path)
        return disk

    def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until the condition holds."""
        self._run(real.until(condition))

    def crash(self, name: str, torn: float = 0.0) -> None:
        """Kill the node, then end its held write as a power cut would."""

        async def crash() -> None:
            killed = asyncio.ensure_future(self.cluster.crash(name))
            await asyncio.sleep(0)  # one turn of the loop: from here on the node takes no notice of its disk
            self._disks[name].cut(torn)
            await killed

        self._run(crash())

    def restart(self, name: str) -> None:
        """Start again; the disk works."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(real, "FileStorage", self._disk)
            self._run(self.cluster.start(name))
        self.until(lambda: self.cluster.nodes[name].counts["steps"] > 0)

    def hold_disk(self, name: str) -> None:
        """From now on no write of this node returns before its crash."""
        self._disks[name].may_write.clear()

    def faults(self, *, loss: float = 0.0, duplicate: float = 0.0) -> None:
        """From now on frames between nodes are lost and doubled."""
        for name in self.cluster.nodes:
            self.cluster.set_faults(name, LinkFaults((Disturbance(loss=loss, duplicate=duplicate),)))

    def partition(self, group: Collection[str]) -> None:
        """Cut the group off."""
        island = tuple(group)
        for name in self.cluster.nodes:
            self.cluster.set_faults(name, LinkFaults(cuts=(Cut(targets=island), Cut(sources=island))))

    def heal(self) -> None:
        """End the partition."""
        self.faults()

    def request(self, name: str, op_id: str, operation: Message, path: str = "") -> None:
        """Ask as the only client."""
        self._loop.call_soon(self.cluster.request, name, path, "client", op_id, operation)

    def replies(self) -> list[tuple[str, Any, bool]]:
        """Return (operation, plain answer, whether the last) so far."""
        while not self.cluster.replies.empty():
            reply = self.cluster.replies.get_nowait()
            self._replies.append((reply.op_id, msgspec.msgpack.decode(reply.payload), reply.last))
        return self._replies

    def decisions(self, name: str) -> list[tuple[str, Any]]:
        """Return what a node decided so far, as (kind, plain value)."""
        return [(e["name"], e["detail"]) for e in self.cluster.events(name) if e["kind"] == "decide"]

    def cell(self, name: str) -> Cell:
        """Return the Cell of a node that is up."""
        return self.cluster.nodes[name].cell

    def journals(self) -> dict[str, bytes]:
        """Stop all nodes and return the journals."""
        for name in tuple(self.cluster.nodes):
            self._run(self.cluster.stop(name))
        return {name: self.cluster.journal(name) for name in self.names}

    def close(self) -> None:
        """Stop what is up and close the loop."""
        for disk in self._disks.values():
            disk.cut(0.0)
        self._run(self.cluster.__aexit__())
        left = asyncio.all_tasks(self._loop)
        for task in left:  # as `asyncio.run` does
            task.cancel()
        if left:
            self._run(asyncio.wait(left))
        self._run(self._loop.shutdown_default_executor())
        self._loop.close()


Village = Simulated | Served
Start = Callable[..., Village]


@pytest.fixture(params=[Simulated, Served], ids=["simulate", "serve"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Return ``start(policies, n=3)``: given a node's name, its policies; the nodes are up when it returns."""
    running: list[Village] = []

    def begin(policies: Policies, n: int = 3) -> Village:
        running.append(request.param(policies, n, tmp_path))
        return running[-1]

    yield begin
    for village in running:
        village.close()
