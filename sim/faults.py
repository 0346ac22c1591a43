"""Faults of the twin: the scenario's schedule, carried out on the world, and every one recorded.

Each spell that begins leaves what ends it in `Faults.active`; `heal` ends them all at once, as after the hunter's first
phase. Draws are keyed by the fault's place in the schedule, so that taking one out moves no other's luck.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from math import inf, prod
from typing import Any, Protocol

import msgspec

from models import draws
from policies.port import NS_PER_S
from scenarios import faults as f
from scenarios.disturbed import added
from scenarios.faults import Fault, kind_of
from scenarios.victims import Roll
from sim.disk import Disk, Draw
from sim.network import Cut, Disturbance
from sim.world import Node, StepCost, World

End = Callable[[], None]


class Around(Protocol):
    """What surrounds devices, for worlds that model it: air, mains, networks and owners."""

    def warm(self, node: Node, by_c: float) -> None:
        """Make the air ``by_c`` warmer, or cooler again."""
        ...

    def mains(self, node: Node, on: bool) -> None:
        """Take the mains away, or give them back."""
        ...

    def switch(self, node: Node, to: str, on: bool) -> None:
        """Put a device on another network, or end that; it is on its own again after the last."""
        ...

    def take(self, node: Node, taken: bool) -> None:
        """Its owner takes a device in hand, or lays it down."""
        ...


class Faults:
    """Schedules a scenario's faults.

    Args:
        world: what they happen to.
        committee: committee members by index.
        workers: names of the other devices.
        groups: members of each named group.
        seed: names the draws.
        duration_s: churn ends here.
        leader: returns the leader's name, or "".
        busy: returns the names of devices that run a session.
        restart: starts a node again.
        parted: called when a cut begins, for who must notice.
        slowed: called with (node, factor) when a node's speed changes; infinite for one that is stopped.
        around: what surrounds the devices.

    Attributes:
        rows: the faults table.
        crashes: nodes taken down.
        active: what is wrong now: (fault's place, victim) to what ends it.
    """

    def __init__(
        self, world: World, committee: Sequence[str], workers: Sequence[str], *, seed: int, duration_s: float,
        restart: Callable[[Node], None], groups: Mapping[str, Sequence[str]] | None = None,
        leader: Callable[[], str] = lambda: "", busy: Callable[[], Collection[str]] = tuple,
        parted: Callable[[], None] = lambda: None, slowed: Callable[[Node, float], None] = lambda node, factor: None,
        around: Around | None = None,
    ) -> None:  # fmt: skip
        self.world, self.committee, self.workers = world, committee, workers
        self.roll = Roll(committee, workers, groups or {}, seed)
        self.seed, self.duration_s = seed, duration_s
        self.leader, self.busy, self.restart = leader, busy, restart
        self.parted, self.slowed, self.around = parted, slowed, around
        self.rows: list[tuple[Any, ...]] = []
        self.crashes = 0
        self.active: dict[tuple[int, str], End] = {}
        self.over = False
        self.on_record: Callable[[str, str, str], None] = lambda kind, node, phase: None
        # What disks that cannot write make of writes, by node: by the key of a spell's draws, the oldest first.
        self._disks: dict[str, dict[int, f.Writes]] = {}
        self._crashed: dict[str, tuple[int, float]] = {}  # by node: the life that a crash ended, and until when (ns)
        self._costs: dict[str, tuple[StepCost, list[float]]] = {}  # what a node's steps cost, and what slows them
        self._pauses: dict[str, list[tuple[int, int]]] = {}  # of a node, those that last: which life, until when (ns)
        world.on_disk_failure = self._disk_failed

    def schedule(self, faults: Sequence[Fault]) -> None:
        """Put every fault into the engine's queue."""
        for number, fault in enumerate(faults):
            if isinstance(fault, f.Churn):
                self._schedule_churn(number, fault)
            else:
                self.world.engine.call_at(int(fault.at_s * NS_PER_S), self._begin, (number, fault))

    def heal(self) -> None:
        """End everything that is wrong, start what is down, and let nothing more begin."""
        self.over = True
        self._crashed.clear()
        for key in list(self.active):
            self._end(key)
        for node in self.world.nodes:
            if not node.up:
                self.restart(node)

    def holds(self, node: Node) -> bool:
        """Whether a crash of the schedule keeps a node down still, whatever else lets it start."""
        life, until_ns = self._crashed.get(node.name, (-1, 0.0))
        return life == node.epoch and not node.up and until_ns > self.world.engine.now

    def slowness(self, node: Node) -> float:
        """How many times as long what runs on a node takes now; infinitely, while its process is stopped."""
        factors = self._costs[node.name][1] if node.name in self._costs else ()
        return inf if self._lasting(node) else prod(factors, start=1.0)

    def record(self, kind: str, node: str, phase: str, detail: Any) -> None:
        """Note what happened now, in the run's faults and its digest."""
        now = self.world.engine.now
        self.rows.append((now / NS_PER_S, kind, node, phase, "model", json.dumps(detail)))
        self.world.mark(kind, node, phase)
        self.on_record(kind, node, phase)

    # -- beginning and ending ------------------------------------------------------------------------

    def _begin(self, argument: tuple[int, Any]) -> None:
        number, fault = argument
        if self.over:
            return
        if isinstance(fault, f.Crash):
            self._crash(number, fault)
        elif isinstance(fault, f.Cascade):
            self._cascade((number, fault, 0))
        elif isinstance(fault, f.Rot):
            self._rot(number, fault)
        else:
            self._spell(number, fault)

    def _spell(self, number: int, fault: Any) -> None:
        """Begin a spell on each of its victims, and put its end into the queue."""
        victims = self._victims(fault)
        detail = {k: v for k, v in msgspec.structs.asdict(fault).items() if k not in ("at_s", "node", "group", "nodes")}
        if not victims:
            self.record(kind_of(fault), _named(fault), "skipped", {"why": "nobody fits"})
            return
        if isinstance(fault, f.Pause):
            victims = self._running(victims)
        for who, end in self._inflict(number, fault, victims).items():
            self.record(kind_of(fault), who, "start", detail)
            self.active[(number, who)] = self._ending(kind_of(fault), who, end)
            at = self.world.engine.now + int(fault.for_s * NS_PER_S)
            self.world.engine.call_at(at, self._end, (number, who))

    def _inflict(self, number: int, fault: Any, victims: list[str]) -> dict[str, End]:
        """Carry a spell out; return victim, or victims, to what ends it."""
        nodes = [self.world.by_name[name] for name in victims]
        if isinstance(fault, f.Partition):
            cuts = self.world.network.cut_off([n.number for n in nodes], one_way=fault.one_way)
            return {",".join(victims): self._cut(cuts)}
        if isinstance(fault, f.Cut):
            # A role that nobody has at the moment cuts nobody off.
            named = [(a, b) for pair in fault.pairs for a in self._resolve(pair[0]) for b in self._resolve(pair[1])]
            pairs = [(self.world.by_name[a].number, self.world.by_name[b].number) for a, b in named if a != b]
            cuts = [cut for a, b in pairs for cut in self.world.network.sever(a, b, one_way=fault.one_way)]
            return {",".join(f"{a}-{b}" for a, b in fault.pairs): self._cut(cuts)}
        if isinstance(fault, f.NETWORKS):
            touched = frozenset(n.number for n in nodes) if fault.nodes else None
            disturbance = Disturbance(touched, **added(fault))
            self.world.network.disturb(disturbance)
            return {",".join(fault.nodes) or "*": lambda: self.world.network.calm(disturbance)}
        return {node.name: self._afflict(number, fault, node) for node in nodes}

    def _afflict(self, number: int, fault: Any, node: Node) -> End:
        """Carry out what befalls one node."""
        if isinstance(fault, f.Pause):
            return self._pause(node, int(fault.for_s * NS_PER_S))
        if isinstance(fault, f.Slow):
            return self._slow(node, fault.factor)
        if isinstance(fault, f.Clock):
            return self._set_clock(node, fault)
        if isinstance(fault, f.SlowDisk):
            extra_ns = int(fault.by_s * NS_PER_S)
            node.sync_extra_ns += extra_ns
            return lambda: setattr(node, "sync_extra_ns", node.sync_extra_ns - extra_ns)
        if isinstance(fault, f.FailingDisk | f.FullDisk):
            node.failing = True
            writes = fault.writes if isinstance(fault, f.FailingDisk) else "torn"
            key = (number << 20) + node.number
            self._disks.setdefault(node.name, {})[key] = writes
            return lambda: self._disk_works(node, key)
        if self.around is None:
            raise f.FaultError(f"{kind_of(fault)}: not in this world")
        return _surround(self.around, fault, node)

    def _ending(self, kind: str, who: str, end: End) -> End:
        def over() -> None:
            end()
            self.record(kind, who, "end", {})

        return over

    def _end(self, key: tuple[int, str]) -> None:
        end = self.active.pop(key, None)
        if end is not None:
            end()

    # -- machines ------------------------------------------------------------------------------------

    def _crash(self, number: int, fault: f.Crash) -> None:
        names = self._resolve(fault.node)
        for index, name in enumerate(names):
            node = self.world.by_name[name]
            if node.up:
                self._take_down(node, fault.down_s, fault.writes, fault.disk, (number << 20) + index)
            else:
                self.record("crash", name, "skipped", {"why": "not up, or nobody fits"})
        if not names:
            self.record("crash", fault.node, "skipped", {"why": "not up, or nobody fits"})

    def _take_down(
        self, node: Node, down_s: float, writes: f.Writes = "lost", disk: str = "kept", key: int = 0
    ) -> None:
        self.crashes += 1
        self.record("crash", node.name, "start", {"down_s": round(down_s, 3), "writes": writes, "disk": disk})
        self.world.crash(node, left=lambda kept: _leave(kept, writes, self._draws(key)))
        if disk == "lost":
            node.disk.wipe()
        self._crashed[node.name] = node.epoch, inf
        if down_s >= 0:
            at = self.world.engine.now + int(down_s * NS_PER_S)
            self._crashed[node.name] = node.epoch, at
            self.world.engine.call_at(at, self._restart, (node, node.epoch))

    def _restart(self, argument: tuple[Node, int]) -> None:
        node, epoch = argument
        if node.up or node.epoch != epoch or node.failing:
            return
        self.record("crash", node.name, "end", {})
        self.restart(node)

    def _pause(self, node: Node, for_ns: int) -> End:
        pauses, held = self._pauses.setdefault(node.name, []), (node.epoch, int(self.world.engine.now) + for_ns)

        def over() -> None:
            pauses.remove(held)
            self._wake(node)
            self.slowed(node, self.slowness(node))

        pauses.append(held)
        self.world.pause(node, held[1])
        self.slowed(node, inf)
        return over

    def _wake(self, node: Node) -> None:
        """Let a node go on, unless another pause lasts."""
        self.world.wake(node)
        if lasting := self._lasting(node):
            self.world.pause(node, max(lasting))

    def _lasting(self, node: Node) -> list[int]:
        """Return until when a node's pauses last; one of an earlier life stopped a process that is gone."""
        return [until_ns for life, until_ns in self._pauses.get(node.name, ()) if life == node.epoch]

    def _slow(self, node: Node, factor: float) -> End:
        own, factors = self._costs.setdefault(node.name, (node.cost, []))

        def change(act: Callable[[float], None]) -> None:
            act(factor)
            node.cost = own.times(prod(factors))
            self.slowed(node, self.slowness(node))

        def faster() -> None:
            change(factors.remove)
            self._wake(node)  # a step that was slowed a thousandfold would outlast the spell

        change(factors.append)
        return faster

    def _set_clock(self, node: Node, fault: f.Clock) -> End:
        offset_ns = int(fault.offset_s * NS_PER_S)
        node.wall_offset += offset_ns
        drift = (fault.drift_ppm * 1e-6, int(self.world.engine.now))
        node.drifts.append(drift)

        def right() -> None:
            node.wall_offset -= offset_ns
            node.drifts.remove(drift)

        return right

    def _schedule_churn(self, number: int, fault: f.Churn) -> None:
        """Weibull gaps for every device; each crash is one event, drawn when the one before has passed."""
        names = self._resolve(fault.group) if fault.group else list(self.workers)
        for device, name in enumerate(names):
            self._next_churn((fault, number, device, 0, 0.0, name))

    def _next_churn(self, state: tuple[f.Churn, int, int, int, float, str]) -> None:
        fault, number, device, index, at_s, name = state
        key = (number << 20) + device
        at_s += f.weibull_s(float(draws.exponential(self.seed, "churn", key, index)), fault)
        if at_s < self.duration_s:
            self.world.engine.call_at(int(at_s * NS_PER_S), self._churn, (fault, number, device, index, at_s, name))

    def _churn(self, state: tuple[f.Churn, int, int, int, float, str]) -> None:
        fault, number, device, index, at_s, name = state
        if self.over:
            return
        key = (number << 20) + device
        down_s = float(draws.lognormal(self.seed, "downtime", key, index, fault.down_median_s, fault.down_sigma))
        node = self.world.by_name[name]
        if node.up:
            self._take_down(node, down_s)
        self._next_churn((fault, number, device, index + 1, at_s, name))

    def _cascade(self, state: tuple[int, f.Cascade, int]) -> None:
        """Take one member down, then, each step, whoever the load of the fallen breaks."""
        number, fault, step = state
        if self.over:
            return
        names = self._resolve(fault.group)
        standing = [k for k, name in enumerate(names) if self.world.by_name[name].up]
        if not standing:
            return
        if step == 0:
            falling = [standing[int(draws.integers(self.seed, "cascade", number << 20, 0, len(standing)))]]
        else:
            chance = min(1.0, fault.chance * (len(names) / len(standing)) ** fault.steepness)
            key = (number << 20) + step
            falling = [k for k in standing if float(draws.uniform(self.seed, "cascade", key, k)) < chance]
        for k in falling:
            self._take_down(self.world.by_name[names[k]], fault.down_s)
        if step < fault.steps:
            at = self.world.engine.now + int(fault.step_s * NS_PER_S)
            self.world.engine.call_at(at, self._cascade, (number, fault, step + 1))

    # -- disks ---------------------------------------------------------------------------------------

    def _disk_failed(self, node: Node, why: str) -> None:
        """A write or a sync failed, so the node stops; or its durable records are damaged, so it does not start."""
        if why == "damaged":
            self.record("damaged_log", node.name, "start", {})
        else:
            key, writes = next(iter(self._disks[node.name].items()))
            self._take_down(node, -1.0, writes, "kept", key)
            del self._crashed[node.name]  # it comes back when it can write again

    def _disk_works(self, node: Node, key: int) -> None:
        """A spell of a disk is over: a node comes back after the last one, unless a crash keeps it down for longer."""
        del self._disks[node.name][key]
        if self._disks[node.name]:
            return
        node.failing = False
        if not node.up and not self.holds(node):
            self.restart(node)

    def _rot(self, number: int, fault: f.Rot) -> None:
        for index, name in enumerate(self._resolve(fault.node)):
            disk = self.world.by_name[name].disk
            strike = disk.rot if fault.damage == "bit" else disk.misdirect
            struck = strike(self._draws((number << 20) + index), last_copy=fault.last_copy)
            detail = {"damage": fault.damage, "last_copy": fault.last_copy}
            self.record("rot", name, "start" if struck else "skipped", detail)

    def _draws(self, key: int) -> Draw:
        """Return draws for the damage that one fault does to one disk."""
        index = -1

        def draw() -> float:
            nonlocal index
            index += 1
            return float(draws.uniform(self.seed, "disk damage", key, index))

        return draw

    # -- networks ------------------------------------------------------------------------------------

    def _cut(self, cuts: list[Cut]) -> End:
        self.parted()
        return lambda: self.world.network.heal(cuts)

    # -- who -----------------------------------------------------------------------------------------

    def _victims(self, fault: Any) -> list[str]:
        """Return the names of a spell's victims, each once."""
        if isinstance(fault, f.Cut):
            return [name for pair in fault.pairs for who in pair for name in self._resolve(who)]
        named: Any = getattr(fault, fault.victims[0])
        if isinstance(named, tuple) and not named:
            return [node.name for node in self.world.nodes]
        whos = named if isinstance(named, tuple) else (named,)
        return list(dict.fromkeys(name for who in whos for name in self._resolve(who)))

    def _running(self, victims: list[str]) -> list[str]:
        """Return those of a pause's victims that have a process to stop; the others are recorded."""
        up = [name for name in victims if self.world.by_name[name].up]
        for name in victims:
            if name not in up:
                self.record("pause", name, "skipped", {"why": "not up"})
        return up

    def _resolve(self, who: int | str) -> list[str]:
        if who == "leader":
            found = [self.leader()]
        elif who == "worker":
            found = [name for name in sorted(self.busy()) if name not in self.committee][:1]
        else:
            found = self.roll.named(who, self.world.engine.now // NS_PER_S)
        return [name for name in found if name in self.world.by_name]


def _surround(around: Around, fault: Any, node: Node) -> End:
    if isinstance(fault, f.HeatWave):
        around.warm(node, fault.by_c)
        return lambda: around.warm(node, -fault.by_c)
    if isinstance(fault, f.PowerCut):
        around.mains(node, False)
        return lambda: around.mains(node, True)
    if isinstance(fault, f.NetworkSwitch):
        around.switch(node, fault.to, True)
        return lambda: around.switch(node, fault.to, False)
    around.take(node, True)
    return lambda: around.take(node, False)


def _leave(disk: Disk, writes: f.Writes, draw: Draw) -> None:
    """Do to a disk what a crash does to its unsynced writes."""
    if writes == "reordered":
        disk.scatter(draw)
    elif writes == "corrupted":
        disk.garble(draw)
    else:
        disk.crash(draw() if writes == "torn" else 0.0)


def _named(fault: Any) -> str:
    named: Any = getattr(fault, fault.victims[0])
    return named if isinstance(named, str) else ",".join(map(str, named))
