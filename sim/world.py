"""The simulate driver: Cells in virtual time.

A `World` owns the engine and the nodes. It feeds each node's Cell one input at a time and carries out the effects:
messages over the network, timers, saves onto the simulated disk, jobs, replies. A step costs time; its effects
leave, and the node's next input is taken, only after it. Everything that happens goes into one digest.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

from policies import port as p
from policies.log import DamagedLog, record, recover
from policies.port import DECIDE, DURABLE, MESSAGE, NS_PER_S, SAVE, SEND, SET_TIMER, SIGNED, Effect, Input
from policies.wire import FRAME_OVERHEAD_BYTES, encode
from scenarios.journal import Journal
from sim.disk import Disk
from sim.engine import Engine
from sim.guard import Guard, Guards
from sim.network import MessageNetwork

DIGEST_EVERY = 256
"""Steps whose bytes are digested together; the digest is the same for any number."""
SIGNATURE_NS = 120_000
"""What making or verifying a signature costs a node where no profile says it. Measured with the keys of real nodes:
33 us to make one and 108 to verify one in a tight loop, 97 and 200 after a pause (docs/two_worlds.md)."""
GC_EVERY = 500_000
"""Objects allocated between two collections during a run. Steps make almost no reference cycles, and Python's default
of 700 costs a tenth of the time."""


@contextmanager
def few_collections() -> Iterator[None]:
    """Collect garbage rarely inside; a loop of short runs stands in one, or each would end with a collection."""
    thresholds = gc.get_threshold()
    gc.set_threshold(max(GC_EVERY, thresholds[0]), *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


class Steps(Protocol):
    """What the world needs of a Cell; an adversary around a Cell offers the same."""

    crypto_ops: int

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input."""
        ...


@dataclass(frozen=True)
class StepCost:
    """What a step costs a node (ns). Defaults: an order of magnitude measured on the reference Python driver, where a
    step takes 5-20 us and MessagePack about 1 ns a byte; signatures as `SIGNATURE_NS` says."""

    base_ns: int = 20_000
    byte_ns: int = 1
    sign_ns: int = SIGNATURE_NS
    verify_ns: int = SIGNATURE_NS
    fsync_ns: int = 2_000_000  # consumer NVMe; etcd's guide asks for p99 below 10 ms

    def times(self, factor: float) -> StepCost:
        """Return the cost of a machine that is this much slower; its disk is as fast as before."""
        own = (self.base_ns, self.byte_ns, self.sign_ns, self.verify_ns)
        return StepCost(*(round(ns * factor) for ns in own), self.fsync_ns)

    def signatures_ns(self, operations: int, effects: Sequence[Effect]) -> int:
        """Return what a step's ``operations`` on signatures cost: those it made are among its effects, all others it
        verified."""
        if self.sign_ns == self.verify_ns:
            return operations * self.verify_ns
        made = sum(1 for effect in effects if effect[0] == SIGNED and isinstance(effect[2], bytes))
        return operations * self.verify_ns + made * (self.sign_ns - self.verify_ns)


class Node:
    """One simulated machine: a Cell, its disk, its timers, and whether it is up."""

    __slots__ = (
        "armed", "busy_until", "cell", "cost", "disk", "drifts", "epoch", "failing", "inbox", "incarnation", "journal",
        "make", "name", "number", "sync_begins", "sync_extra_ns", "synced_at", "syncing", "timers", "up", "wall_offset",
    )  # fmt: skip

    def __init__(self, name: str, number: int, make: Callable[[], Steps], cost: StepCost, wall_offset: int) -> None:
        self.name, self.number, self.make, self.cost, self.wall_offset = name, number, make, cost, wall_offset
        self.disk = Disk()
        self.cell: Steps = make()
        self.up = False
        self.epoch = 0  # grows at every crash; what an earlier life scheduled is void
        self.incarnation = -1
        self.busy_until = 0
        self.sync_begins, self.synced_at = -1, 0  # of the disk's last sync: when it begins, and ends
        self.syncing: deque[tuple[int, int, Input]] = deque()  # (when it ends, size, what the Cell hears), in order
        self.sync_extra_ns = 0  # a slow disk
        self.failing = False  # its disk cannot write
        self.drifts: list[tuple[float, int]] = []  # of the wall clock, which add up: ns a ns, and since when
        self.inbox: deque[Input] = deque()
        self.timers: dict[tuple[str, str], tuple[int, int]] = {}  # (path, name) to (deadline, generation)
        self.armed: dict[tuple[str, str], int] = {}  # earliest wake-up in the engine's queue
        self.journal: Journal | None = None


class Jobs(Protocol):
    """Who runs jobs for the world (`sim.compute`)."""

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None: ...

    def cancel(self, node: Node, job_id: int) -> None: ...

    def node_down(self, node: Node) -> None: ...


Observer = Callable[[int, Node, Effect], None]


class World:
    """Runs nodes on one engine.

    Args:
        network: carries the messages.
        start_wall_ns: wall clock at the start.
        guards: nets under every step (`sim.guard`); None: steps run bare, and nothing is paid for them.

    Attributes:
        engine: the event engine, int nanoseconds.
        steps: port steps taken.
        on_send, on_decide, on_note, on_limit, on_reply: observers, called with (now, node, effect).
    """

    def __init__(self, network: MessageNetwork, *, start_wall_ns: int = 0, guards: Guards | None = None) -> None:
        self.engine = Engine()
        self.guard = None if guards is None else Guard(guards)
        self.network = network
        network.clock = lambda: int(self.engine.now)
        self.start_wall_ns = start_wall_ns
        self.nodes: list[Node] = []
        self.by_name: dict[str, Node] = {}
        self.jobs: Jobs | None = None
        self.steps = 0
        self.on_send: list[Observer] = []
        self.on_decide: list[Observer] = []
        self.on_note: list[Observer] = []
        self.on_limit: list[Observer] = []
        self.on_reply: Observer | None = None
        self.on_disk_failure: Callable[[Node, str], None] = lambda node, why: None
        self._digest = blake2b(digest_size=20)
        self._undigested: list[bytes] = []  # one update for many steps costs a fraction of one each

    # -- nodes ---------------------------------------------------------------------------------------

    def add(self, name: str, make: Callable[[], Steps], cost: StepCost | None = None, *, wall_offset: int = 0) -> Node:
        """Add a node; it starts with `start`."""
        node = Node(name, len(self.nodes), make, cost or StepCost(), wall_offset)
        self.nodes.append(node)
        self.by_name[name] = node
        return node

    def start(self, node: Node) -> None:
        """Start or restart a node with what its disk kept; one whose durable records are damaged stays down.

        A policy may find the damage: each record is whole, and what they hold together cannot be.
        """
        try:
            saved = recover(node.disk)
            self._begin(node, saved)
        except DamagedLog:
            node.up = False
            self.mark("damaged", node.name)
            self.on_disk_failure(node, "damaged")

    def _begin(self, node: Node, saved: Mapping[str, bytes]) -> None:
        node.up = True
        node.incarnation += 1
        if node.incarnation:
            node.cell = node.make()
        node.busy_until = self.engine.now
        if self.guard is not None:
            self.guard.watch(node.cell, node.make)
        self._step(node, (p.START, "", saved, node.incarnation))

    def crash(self, node: Node, torn_share: float = 0.0, *, left: Callable[[Disk], object] | None = None) -> None:
        """Stop a node at once: what was not synced is lost, but for a torn part, or but for what ``left`` leaves."""
        if not node.up:
            return
        node.up = False
        node.epoch += 1
        node.inbox.clear()
        node.timers.clear()
        node.armed.clear()
        if left is None:
            node.disk.crash(torn_share)
        else:
            left(node.disk)
        node.sync_begins, node.synced_at = -1, 0  # whatever its disk was busy with is over
        node.syncing.clear()
        self.mark("crash", node.name)
        if self.jobs is not None:
            self.jobs.node_down(node)

    def pause(self, node: Node, until_ns: int) -> None:
        """Let a node do nothing until a time; what comes meanwhile waits."""
        node.busy_until = max(node.busy_until, until_ns)

    def wake(self, node: Node) -> None:
        """End a pause, or a step that would still last; what waited is done now, and the disk has its writes."""
        now = int(self.engine.now)
        node.busy_until = min(node.busy_until, now)
        if node.inbox:
            self.engine.call_at(now, self._drain, (node, node.epoch))
        waiting, done_ns = list(node.syncing), now + node.cost.fsync_ns + node.sync_extra_ns
        node.syncing.clear()
        node.sync_begins = min(node.sync_begins, now)
        for ends_ns, size, given in waiting:  # with one sync, unless they have it sooner
            node.synced_at = min(ends_ns, done_ns)
            self._sync(node, size, given)

    def mark(self, *what: Any) -> None:
        """Put an event that is not a step into the digest."""
        self._undigested.append(encode((self.engine.now, what)))

    @property
    def digest(self) -> str:
        """Digest of everything that has happened."""
        self._digest_pending()
        return self._digest.hexdigest()

    def _digest_pending(self) -> None:
        self._digest.update(b"".join(self._undigested))
        self._undigested.clear()

    def guarded(self) -> AbstractContextManager[object]:
        """Return a context in which guarded steps are cheap: what they forbid is replaced once, not at every step."""
        return nullcontext() if self.guard is None else self.guard.poison

    def run(self, until_s: float) -> None:
        """Run to a time in seconds."""
        until_ns = int(until_s * NS_PER_S)
        if self.guard is None and gc.get_threshold()[0] >= GC_EVERY:  # a hunt's looks: two contexts each would cost 1 %
            self.engine.run(until=until_ns)
            return
        with few_collections(), self.guarded():
            self.engine.run(until=until_ns)

    # -- inputs --------------------------------------------------------------------------------------

    def give(self, node: Node, given: Input) -> None:
        """Give a node an input now."""
        if not node.up:
            return
        if node.inbox or self.engine.now < node.busy_until:
            if not node.inbox:
                self.engine.call_at(node.busy_until, self._drain, (node, node.epoch))
            node.inbox.append(given)
        else:
            self._step(node, given)

    def give_at(self, time_ns: int, node: Node, given: Input) -> None:
        """Give a node an input at a time, unless it crashes before."""
        self.engine.call_at(time_ns, self._give_later, (node, node.epoch, given))

    def _give_later(self, argument: tuple[Node, int, Input]) -> None:
        node, epoch, given = argument
        if node.epoch == epoch:
            self.give(node, given)

    def _arrive(self, argument: tuple[Node, Input]) -> None:
        node, given = argument
        if node.up and not node.inbox and self.engine.now >= node.busy_until:
            self._step(node, given)  # the common case of `give`, a call cheaper
        else:
            self.give(node, given)

    def _drain(self, argument: tuple[Node, int]) -> None:
        node, epoch = argument
        if node.epoch != epoch or not node.inbox:
            return
        if self.engine.now >= node.busy_until:
            self._step(node, node.inbox.popleft())
        if node.inbox and node.epoch == epoch:
            self.engine.call_at(node.busy_until, self._drain, argument)

    def _fire(self, argument: tuple[Node, int, tuple[str, str]]) -> None:
        """A timer's wake-up: fire it, or sleep on if it was re-armed meanwhile."""
        node, epoch, key = argument
        now = self.engine.now
        if node.epoch != epoch or node.armed.get(key) != now:
            return
        del node.armed[key]
        timer = node.timers.get(key)
        if timer is None:
            return
        deadline, generation = timer
        if deadline > now:
            node.armed[key] = deadline
            self.engine.call_at(deadline, self._fire, argument)
        else:
            del node.timers[key]
            self.give(node, (p.TIMER, key[0], key[1], generation))

    def _sync(self, node: Node, size: int, given: Input) -> None:
        node.syncing.append((node.synced_at, size, given))
        self.engine.call_at(node.synced_at, self._synced, (node, node.epoch))

    def _synced(self, argument: tuple[Node, int]) -> None:
        node, epoch = argument
        if node.epoch != epoch or not node.syncing or node.syncing[0][0] > self.engine.now:
            return  # the node crashed, or the disk was done sooner
        _, size, given = node.syncing.popleft()
        if node.failing:
            self.on_disk_failure(node, "sync")
        else:
            node.disk.sync_to(size)
            self.give(node, given)

    def _write_failed(self, argument: tuple[Node, int, int, Effect]) -> None:
        node, epoch, leave, effect = argument
        if node.epoch != epoch:
            return
        if node.failing:
            self.on_disk_failure(node, "write")
        else:
            self._save(node, leave, effect)  # it can write again, since this very moment

    # -- the step ------------------------------------------------------------------------------------

    def _step(self, node: Node, given: Input) -> None:
        now = self.engine.now
        wall = self.start_wall_ns + now + node.wall_offset
        for rate, since in node.drifts:
            wall += int(rate * (now - since))
        cell = node.cell
        effects = cell.step(now, wall, given)
        self.steps += 1
        whole = encode((node.number, now, given, effects))
        undigested = self._undigested
        undigested.append(whole)
        if len(undigested) >= DIGEST_EVERY:
            self._digest_pending()
        if node.journal is not None:
            node.journal.add(now, wall, given, effects)
        cost = node.cost
        leave = now + cost.base_ns + cost.byte_ns * len(whole)
        if crypto := cell.crypto_ops:
            cell.crypto_ops = 0
            leave += cost.signatures_ns(crypto, effects)
        node.busy_until = leave
        for effect in effects:
            kind = effect[0]
            if kind == SEND:
                self._send(node, leave, effect)
            elif kind == SET_TIMER:
                self._set_timer(node, effect)
            elif kind == SAVE:
                self._save(node, leave, effect)
            elif kind == DECIDE:
                for observe in self.on_decide:
                    observe(leave, node, effect)
            else:
                self._other(node, leave, effect)

    def _send(self, node: Node, leave: int, effect: Effect) -> None:
        for observe in self.on_send:
            observe(leave, node, effect)
        _, path, to, payload = effect
        target = self.by_name.get(to)
        if target is None:
            to, _, path = to.partition("/")
            target = self.by_name.get(to)
            if target is None:
                return
        argument = (target, (MESSAGE, path, node.name, payload))
        if target is node:
            self.engine.call_at(leave, self._arrive, argument)
            return
        network = self.network
        delay = network.delay_ns(node.number, target.number, len(payload) + FRAME_OVERHEAD_BYTES)
        if delay >= 0:
            self.engine.call_at(leave + delay, self._arrive, argument)
            if network.twice:
                self.engine.call_at(leave + 2 * delay, self._arrive, argument)

    def _set_timer(self, node: Node, effect: Effect) -> None:
        _, path, name, deadline, generation = effect
        key = (path, name)
        node.timers[key] = (deadline, generation)
        armed = node.armed.get(key)
        if armed is None or armed > deadline:
            node.armed[key] = deadline
            self.engine.call_at(deadline, self._fire, (node, node.epoch, key))

    def _save(self, node: Node, leave: int, effect: Effect) -> None:
        _, path, token, batch = effect
        if node.failing:  # the step ends first: a node does not vanish in the middle of one
            self.engine.call_at(self.engine.now, self._write_failed, (node, node.epoch, leave, effect))
            return
        disk = node.disk
        disk.append(record(batch, disk.synced))
        if node.sync_begins < leave:  # else the sync that is yet to begin takes this along
            node.sync_begins = max(node.synced_at, leave)
            node.synced_at = node.sync_begins + node.cost.fsync_ns + node.sync_extra_ns
        self._sync(node, disk.size, (DURABLE, path, token))

    def _other(self, node: Node, leave: int, effect: Effect) -> None:
        kind = effect[0]
        if kind == p.CANCEL_TIMER:
            node.timers.pop((effect[1], effect[2]), None)
        elif kind == p.REPLY:
            if self.on_reply is not None:
                self.on_reply(leave, node, effect)
        elif kind == p.SUBMIT:
            if self.jobs is not None:
                self.jobs.submit(node, effect[1], effect[2], effect[3])
        elif kind == p.CANCEL:
            if self.jobs is not None:
                self.jobs.cancel(node, effect[2])
        elif kind == p.LIMIT:
            for observe in self.on_limit:
                observe(leave, node, effect)
        elif kind == p.NOTE:
            for observe in self.on_note:
                observe(leave, node, effect)
