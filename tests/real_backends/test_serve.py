"""Serve: the real driver keeps the Cell's promises about timers, order, durability, restarts and journals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from policies.cell import Cell
from policies.jobs import Lost, PlanJob
from policies.log import Storage
from policies.port import START, Policy
from policies.readings import Row
from policies.wire import Message, encode
from real_backends.blob_exchange import BlobExchange
from real_backends.clock import SystemClock
from real_backends.cluster import LocalCluster, until
from real_backends.identity import OWNER
from real_backends.sensors.trace import MAINS_DESK, TraceSensors
from real_backends.serve import Serve
from real_backends.stores.blobs import BlobStore
from real_backends.stores.file import FileStorage
from real_backends.timers import Timers
from real_backends.transports.faulty import Disturbance, LinkFaults
from real_backends.transports.frames import MESSAGE, REPLY, REQUEST, Reply, Request, decode
from real_backends.transports.memory import Hub, MemoryTransport
from scenarios.journal import Header, effects_checksum, read

MS = 1_000_000


class Number(Message, tag="number"):
    """A number."""

    value: int


class Recorder(Policy):
    """Counts durably: each number is saved, acknowledged to its sender, and announced."""

    messages = (Number,)
    requests = (Number,)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.total = int(saved.get("total", b"0"))
        self.port.note("started", total=self.total)

    def on_message(self, sender: str, message: Any) -> None:
        self.port.decide("heard", message)

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        self.total += operation.value
        self.port.save("total", str(self.total).encode())
        self.port.broadcast(Number(self.total))
        self.port.reply(client, op_id, Number(self.total))

    def on_durable(self, token: int) -> None:
        self.port.note("durable", token=token)


class Alone(Policy):
    """Runs whatever a test asks for on start, and notes what happens to it."""

    messages = (Number,)

    def __init__(self, begin: Any) -> None:
        self.begin = begin
        self.fired: list[tuple[str, int]] = []
        self.got: list[Any] = []

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.begin(self)

    def on_timer(self, name: str) -> None:
        self.fired.append((name, self.port.now))

    def on_message(self, sender: str, message: Any) -> None:
        self.got.append((sender, message.value))

    def on_readings(self, readings: Any) -> None:
        self.got.append(readings)

    def on_job(self, job_id: int, outcome: Any) -> None:
        self.got.append((job_id, outcome))


class NoKeys:
    """These policies sign nothing."""

    def sign(self, data: bytes) -> bytes:
        raise AssertionError("unexpected signature")

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        raise AssertionError("unexpected verification")


def _header() -> Header:
    return Header(node="a", peers=("b",), seed=1, world="local", policies={}, config={})


def _serve(
    policy: Policy | Mapping[str, Policy], folder: Path, hub: Hub, storage: Storage | None = None, **more: Any
) -> Serve:
    transport = MemoryTransport(hub, "a")
    return Serve(
        lambda: Cell(policy, "a", ("b",), seed=1, keys=NoKeys()),
        transport,
        storage or FileStorage(folder / "node.log"),
        BlobExchange(transport, BlobStore(folder / "blobs")),
        header=_header(),
        folder=folder,
        **more,
    )


async def _peer(hub: Hub) -> list[tuple[str, int, bytes]]:
    """Put a silent node b on the hub and return what it hears."""
    heard: list[tuple[str, int, bytes]] = []
    await MemoryTransport(hub, "b").start(lambda *frame: heard.append(frame), lambda *hint: None)
    return heard


def test_rearmed_timer_fires_once_and_never_early(tmp_path: Path) -> None:
    """Re-arming replaces, a cancelled timer stays silent, and no timer fires before its deadline."""
    armed: list[int] = []

    def begin(me: Alone) -> None:
        armed.append(me.port.now)
        me.port.set_timer("again", 1 * MS)
        me.port.set_timer("again", 20 * MS)
        me.port.set_timer("never", 1 * MS)
        me.port.cancel_timer("never")
        me.port.set_timer("last", 40 * MS)

    policy = Alone(begin)

    async def run() -> None:
        serve = _serve(policy, tmp_path, Hub())
        await serve.start()
        await until(lambda: len(policy.fired) >= 2)
        await serve.stop()

    asyncio.run(run())
    assert [name for name, _ in policy.fired] == ["again", "last"]
    assert policy.fired[0][1] >= armed[0] + 20 * MS
    assert policy.fired[1][1] >= armed[0] + 40 * MS


def test_a_timer_waits_for_the_nodes_own_clock() -> None:
    """When the event loop wakes before the deadline by the node's clock, the timer is armed again, not fired."""

    class SlowClock(SystemClock):
        now_ns = 0

        def now(self) -> int:
            self.asked = getattr(self, "asked", 0) + 1
            return self.now_ns

    async def run() -> None:
        clock, fired = SlowClock(), []
        timers = Timers(clock, lambda *timer: fired.append(timer))
        timers.set("path", "name", 1_000_000, 7)
        await until(lambda: clock.asked >= 4)  # once to arm, then an early wake-up and a new start
        assert fired == []
        clock.now_ns = 1_000_000
        await until(lambda: bool(fired))
        assert fired == [("path", "name", 7)]

    asyncio.run(run())


class BlockedStorage(FileStorage):
    """A disk whose sync returns only when a test lets it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.syncing = threading.Event()

    def sync(self) -> None:
        self.syncing.set()
        assert self.may_sync.wait(20)
        super().sync()


def test_no_frame_leaves_before_its_save_is_durable(tmp_path: Path) -> None:
    """While the sync hangs nothing that follows the save leaves; early sends do; afterwards all of it does."""

    def begin(me: Alone) -> None:
        me.port.send("b", Number(1))  # before the save, but of the same step
        me.port.save("vote", b"b")
        me.port.send("b", Number(2))
        me.port.send("b", Number(3), early=True)

    async def run() -> tuple[list[bytes], list[bytes]]:
        hub = Hub()
        heard = await _peer(hub)
        storage = BlockedStorage(tmp_path / "node.log")
        serve = _serve(Alone(begin), tmp_path, hub, storage)
        storage.sync = lambda: None  # type: ignore[method-assign]  # the incarnation's own record passes
        await serve.start()
        del storage.sync
        storage.may_sync.clear()
        await until(storage.syncing.is_set)
        await until(lambda: len(heard) == 1)
        for _ in range(20):  # further turns of the loop let nothing else out
            await asyncio.sleep(0)
        before = [body for _, _, body in heard]
        storage.may_sync.set()
        await until(lambda: len(heard) == 3)
        await serve.stop()
        return before, [body for _, _, body in heard]

    def body(value: int) -> bytes:
        return encode(["", encode(Number(value))])

    before, after = asyncio.run(run())
    assert before == [body(3)]
    assert after == [body(3), body(1), body(2)]


def test_the_owner_alone_asks_and_hears(tmp_path: Path) -> None:
    """A peer that speaks in a client's name is not heard, and gets none of that client's answers."""
    policy = Recorder()

    async def run() -> tuple[list[Reply], list[tuple[str, int, bytes]], Serve]:
        hub, heard = Hub(), list[Reply]()
        peer, owner = MemoryTransport(hub, "b"), MemoryTransport(hub, OWNER)
        peers: list[tuple[str, int, bytes]] = []
        await peer.start(lambda *frame: peers.append(frame), lambda *hint: None)
        await owner.start(lambda sender, kind, body: heard.append(decode(kind, body)), lambda *hint: None)
        serve = _serve(policy, tmp_path, hub)
        await serve.start()
        for transport, op_id in ((owner, "first"), (peer, "first"), (peer, "other"), (owner, "last")):
            request = Request(path="", client="client", op_id=op_id, payload=encode(Number(1)), blob=b"prompt")
            transport.send("a", REQUEST, encode(request))
        await until(lambda: len(heard) == 2)
        await serve.stop()
        return heard, [frame for frame in peers if frame[1] == REPLY], serve

    heard, stolen, serve = asyncio.run(run())
    assert [reply.op_id for reply in heard] == ["first", "last"]
    assert stolen == []
    assert policy.total == 2
    assert serve.counts["refused_requests"] == 2


def test_group_commit_shares_a_sync(tmp_path: Path) -> None:
    """Batches that come while a sync is under way become durable together with the next one."""

    async def run() -> tuple[int, list[dict[str, Any]]]:
        async with LocalCluster(lambda name: Recorder(), ("a",), tmp_path) as cluster:
            for number in range(50):
                cluster.request("a", "", "client", f"op-{number}", Number(1))
            await until(lambda: cluster.replies.qsize() == 50)
            return cluster.nodes["a"].committer.syncs, cluster.events("a")

    syncs, events = asyncio.run(run())
    tokens = [event["detail"]["token"] for event in events if event["name"] == "durable"]
    assert tokens == list(range(1, 51))
    assert 1 <= syncs < 50


def test_a_failing_disk_stops_the_node(tmp_path: Path) -> None:
    """After a failed sync nothing is acknowledged and the error is what stopped the node."""

    class FullDisk(FileStorage):
        def append(self, data: bytes) -> None:
            if b"vote" in data:
                raise OSError(28, "No space left on device")
            super().append(data)

    def begin(me: Alone) -> None:
        me.port.save("vote", b"b")
        me.port.send("b", Number(1))

    async def run() -> list[tuple[str, int, bytes]]:
        hub = Hub()
        heard = await _peer(hub)
        serve = _serve(Alone(begin), tmp_path, hub, FullDisk(tmp_path / "node.log"))
        await serve.start()
        with pytest.raises(OSError, match="No space left"):
            await asyncio.wait_for(serve.stopped, 20)
        await serve.stop()
        return heard

    assert asyncio.run(run()) == []


def test_acknowledged_numbers_survive_a_crash(tmp_path: Path) -> None:
    """After a crash and a restart the node knows everything it acknowledged, in a new incarnation."""

    async def run() -> tuple[int, int, list[int]]:
        async with LocalCluster(lambda name: Recorder(), ("a", "b"), tmp_path) as cluster:
            for number in range(1, 6):
                cluster.request("a", "", "client", f"op-{number}", Number(number))
            await until(lambda: cluster.replies.qsize() == 5)
            await cluster.crash("a")
            await cluster.start("a")
            await until(lambda: sum(e["name"] == "started" for e in cluster.events("a")) == 2)
            await until(lambda: sum(e["name"] == "heard" for e in cluster.events("b")) == 5)
            started = [e["detail"]["total"] for e in cluster.events("a") if e["name"] == "started"]
            return cluster.nodes["a"].incarnation, cluster.nodes["b"].incarnation, started

    assert asyncio.run(run()) == (1, 0, [0, 15])


def test_stop_lets_replies_leave(tmp_path: Path) -> None:
    """A clean stop finishes the sync under way and sends what waited for it."""

    async def run() -> bool:
        async with LocalCluster(lambda name: Recorder(), ("a",), tmp_path) as cluster:
            cluster.request("a", "", "client", "op", Number(7))
            await until(lambda: cluster.nodes["a"].committer.busy or cluster.replies.qsize() == 1)
            await cluster.stop("a")
            await until(lambda: cluster.replies.qsize() == 1)
            return True

    assert asyncio.run(run())


def test_journal_replays_to_identical_effects(tmp_path: Path) -> None:
    """Every input of a real run with faults and a restart, fed to fresh Cells, gives the journalled effects."""

    async def run() -> dict[str, bytes]:
        async with LocalCluster(lambda name: Recorder(), ("a", "b", "c"), tmp_path) as cluster:
            cluster.set_faults("a", LinkFaults((Disturbance(loss=0.2, duplicate=0.2, reorder=0.2),)))
            for number in range(30):
                cluster.request("abc"[number % 3], "", "client", f"op-{number}", Number(number))
            await until(lambda: cluster.replies.qsize() == 30)
            await cluster.crash("b")
            await cluster.start("b")
            cluster.request("b", "", "client", "after", Number(1))
            await until(lambda: cluster.replies.qsize() == 31)
            for name in cluster.names:
                await cluster.stop(name)
            return {name: cluster.journal(name) for name in cluster.names}

    for name, data in asyncio.run(run()).items():
        header, rows = read(data)
        cell, starts, steps = None, 0, 0
        for now_ns, wall_ns, given, checksum, _ in rows:
            if given[0] == START:
                cell = Cell(Recorder(), header.node, header.peers, seed=header.seed, keys=NoKeys())
                starts += 1
            assert cell is not None
            assert effects_checksum(cell.step(now_ns, wall_ns, given)) == checksum, (name, steps)
            steps += 1
        assert starts == (2 if name == "b" else 1)
        assert steps > 20


def test_torn_journal_goes_on_after_a_restart(tmp_path: Path) -> None:
    """A kill may tear the journal's last row; the next start cuts it off and appends readable rows."""

    async def once() -> None:
        serve = _serve(Alone(lambda me: None), tmp_path, Hub())
        await serve.start()
        await until(lambda: serve.counts["steps"] == 1)
        await serve.stop()

    asyncio.run(once())
    path = tmp_path / "node.journal"
    path.write_bytes(path.read_bytes()[:-3])
    asyncio.run(once())
    asyncio.run(once())

    _, rows = read(path.read_bytes())
    assert [row[2][:2] + row[2][3:] for row in rows] == [(START, "", 1), (START, "", 2)]


def test_readings_follow_the_period(tmp_path: Path) -> None:
    """`sense` delivers the sensors' rows, the first at once, and writes them down."""
    rows: list[tuple[float, Row]] = [(0.0, MAINS_DESK)]
    policy = Alone(lambda me: me.port.sense(2 * MS))

    async def run() -> None:
        serve = _serve(policy, tmp_path, Hub(), sensors=TraceSensors(rows))
        await serve.start()
        await until(lambda: len(policy.got) >= 3)
        await serve.stop()

    asyncio.run(run())
    assert policy.got[:3] == [MAINS_DESK] * 3


def test_a_node_without_executor_loses_jobs(tmp_path: Path) -> None:
    """A job on a node that runs none comes back as Lost, with its node."""
    policy = Alone(lambda me: me.port.submit(PlanJob("any", b"", 1)))

    async def run() -> None:
        serve = _serve(policy, tmp_path, Hub())
        await serve.start()
        await until(lambda: bool(policy.got))
        await serve.stop()

    asyncio.run(run())
    assert policy.got == [(1, Lost(reason="this node runs no jobs", node="a"))]


def test_messages_to_oneself_arrive(tmp_path: Path) -> None:
    """A node may send to itself; the message comes as its own input."""
    policy = Alone(lambda me: me.port.send("a", Number(5)))

    async def run() -> None:
        serve = _serve(policy, tmp_path, Hub())
        await serve.start()
        await until(lambda: bool(policy.got))
        await serve.stop()

    asyncio.run(run())
    assert policy.got == [("a", 5)]


def test_a_faulty_policy_stops_only_its_node(tmp_path: Path) -> None:
    """An exception in a handler ends the node with that exception."""

    class Broken(Policy):
        messages = (Number,)

        def on_message(self, sender: str, message: Any) -> None:
            raise ZeroDivisionError("in the policy")

    async def run() -> None:
        hub = Hub()
        serve = _serve(Broken(), tmp_path, hub)
        await serve.start()
        MemoryTransport(hub, "b").send("a", MESSAGE, encode(["", encode(Number(1))]))
        with pytest.raises(ZeroDivisionError, match="in the policy"):
            await asyncio.wait_for(serve.stopped, 20)
        await serve.stop()

    asyncio.run(run())
