"""SWIM: each member probes one other a period, so its load does not grow with the group.

After Das, Gupta and Motivala, DSN 2002. A period: ping one member, the next of a shuffled round (section 4.3: so that
detection is bounded in time); without an answer ask others to ping it; without an answer by the end of the period
suspect it. A suspicion that is not refuted becomes a verdict. News rides on pings and acks, and on gossip of its own as
in memberlist. Whole tables are exchanged seldom, also with a member held dead, which is how two halves of a group find
together after a partition. With `SwimConfig.lifeguard` time-outs follow `lifeguard`.

Members are trusted: a liar could refute for itself alone, but suspect anybody. Saved key: ``incarnation``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from policies.config import SwimConfig
from policies.local import Seen
from policies.membership.lifeguard import Health, Suspicion, shortest_suspicion_ns
from policies.membership.messages import (
    ALIVE,
    DEAD,
    JUMP_MAX,
    STATUSES,
    SUSPECT,
    Ack,
    Gossip,
    Nack,
    Ping,
    PingRequest,
    Sync,
    Update,
)
from policies.membership.spread import News
from policies.membership.table import Table, softened
from policies.port import NS_PER_S, Policy
from policies.wire import encode

RELAYS_MAX = 256
"""Probes for others under way at once (our own bound: a member is asked for a few a period)."""
NACK_SHARE = 0.8
"""Of the ack time-out: when a member that probes for another says that it hears nothing either (memberlist)."""


class Probe:
    """The probe of this period."""

    def __init__(self, number: int, target: str, life: int) -> None:
        self.number, self.target, self.life = number, target, life
        self.acked = False
        self.asked: set[str] = set()  # others that shall probe it
        self.nacks: set[str] = set()  # of these, who heard nothing either


class Swim(Policy):
    """One member of a group.

    Args:
        config: its parameters.
        members: who is expected, this member included or not.
        watchers: paths of this node that are told who is seen how (`Seen`).
    """

    messages = (Ping, Ack, PingRequest, Nack, Gossip, Sync)

    def __init__(self, config: SwimConfig, members: tuple[str, ...], watchers: tuple[str, ...] = ()) -> None:
        self.config, self.members, self.watchers = config, members, watchers
        self.probe_ns, self.ack_ns = int(config.probe_s * NS_PER_S), int(config.ack_s * NS_PER_S)
        self.table = Table(members, config.members_max)
        self.news = News(config.packet_bytes, config.retransmit_mult)
        self.health = Health(config.awareness_max)
        self.incarnation = self.number = 0
        self.round: list[str] = []
        self.probe: Probe | None = None
        self.relays: dict[int, tuple[str, int, str]] = {}  # own number to (asker, its number, target)
        self.suspicions: dict[str, Suspicion] = {}

    # -- life cycle ----------------------------------------------------------------------------------

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        if "incarnation" in saved:
            self.incarnation = msgspec.msgpack.decode(saved["incarnation"], type=int)
        self.table.entries.pop(self.port.me, None)  # nobody else knows better
        self._live_again(self.incarnation + 1)
        for name, every_ns in (("probe", self.probe_ns), ("gossip", self._gossip_ns), ("sync", self._sync_ns)):
            self.port.set_timer(name, 1 + self.port.rng.below(every_ns))  # members do not fall into step
        self._sync(self.table.of(ALIVE))

    @property
    def _gossip_ns(self) -> int:
        return int(self.config.gossip_s * NS_PER_S)

    @property
    def _sync_ns(self) -> int:
        return int(self.config.push_pull_s * NS_PER_S)

    def alive(self) -> tuple[str, ...]:
        """Return who is not held dead, this member included, sorted."""
        return tuple(sorted((self.port.me, *self.table.of(ALIVE, SUSPECT))))

    def on_timer(self, name: str) -> None:
        if name == "probe":
            self._end_probe()
            self._begin_probe()
        elif name == "ack":
            self._ask_others()
        elif name == "gossip":
            self.port.set_timer("gossip", self._gossip_ns)
            self._gossip()
        elif name == "sync":
            self.port.set_timer("sync", self._sync_ns)
            self._sync(self.table.of(ALIVE))
            self._sync(self.table.of(DEAD))
        elif name.startswith("nack "):
            self._nack(int(name[5:]))
        else:
            self._verdict(name.removeprefix("suspect "))

    def on_message(self, sender: str, message: Any) -> None:
        if isinstance(message, Sync):
            self._on_sync(sender, message)
        elif isinstance(message, Nack):
            if self.probe is not None and message.number == self.probe.number and sender in self.probe.asked:
                self.probe.nacks.add(sender)
        else:
            for update in message.updates:
                self._learn(update, sender)
            if isinstance(message, Ping):
                self.port.send(sender, Ack(message.number, self.port.me, self._updates(sender)))
            elif isinstance(message, PingRequest):
                self._relay(sender, message)
            elif isinstance(message, Ack):
                self._on_ack(sender, message)

    # -- probing -------------------------------------------------------------------------------------

    def _stretched(self, time_ns: int) -> int:
        return time_ns * (1 + self.health.score) if self.config.lifeguard else time_ns

    def _begin_probe(self) -> None:
        self.port.set_timer("probe", self._stretched(self.probe_ns))
        target = self._next()
        if target is None:
            return
        self.number += 1
        self.probe = Probe(self.number, target, self.table.entries[target][0])
        self.port.set_timer("ack", self._stretched(self.ack_ns))
        self.port.send(target, Ping(self.number, self._updates(target)))

    def _next(self) -> str | None:
        """Return the next of a shuffled round of all that are not held dead."""
        for _ in range(2):
            while self.round:
                target = self.round.pop()
                if target in self.table.entries and self.table.entries[target][1] != DEAD:
                    return target
            self.round = self._shuffled(self.table.of(ALIVE, SUSPECT))
        return None

    def _shuffled(self, names: Sequence[str]) -> list[str]:
        names, rng = list(names), self.port.rng
        for i in range(len(names) - 1, 0, -1):
            j = rng.below(i + 1)
            names[i], names[j] = names[j], names[i]
        return names

    def _some(self, names: Iterable[str], count: int) -> list[str]:
        """Return up to ``count`` different names."""
        pool, rng, chosen = list(names), self.port.rng, list[str]()
        while pool and len(chosen) < count:
            k = rng.below(len(pool))
            pool[k], pool[-1] = pool[-1], pool[k]
            chosen.append(pool.pop())
        return chosen

    def _ask_others(self) -> None:
        probe = self.probe
        if probe is None or probe.acked:
            return
        for name in self._some((n for n in self.table.of(ALIVE) if n != probe.target), self.config.indirect):
            probe.asked.add(name)
            self.port.send(name, PingRequest(probe.number, probe.target, self._updates(name)))

    def _end_probe(self) -> None:
        """The period is over: judge the target by it, and oneself."""
        probe, self.probe = self.probe, None
        if probe is None:
            return
        if probe.acked:
            self.health.change(-1)
            return
        # Who was asked and says nothing at all speaks against this member's own links, not the target's.
        self.health.change(len(probe.asked) - len(probe.nacks) if probe.asked else 1)
        self._learn((probe.target, probe.life, SUSPECT, self.port.me))  # a life that began meanwhile has answered

    def _on_ack(self, sender: str, ack: Ack) -> None:
        if self.probe is not None and ack.number == self.probe.number and ack.target == self.probe.target:
            self.probe.acked = True
        elif (relay := self.relays.get(ack.number)) is not None and relay[2] == sender:
            asker, number, target = self.relays.pop(ack.number)
            self.port.cancel_timer(f"nack {ack.number}")
            self.port.send(asker, Ack(number, target, self._updates(asker)))

    def _relay(self, sender: str, request: PingRequest) -> None:
        if len(self.relays) >= RELAYS_MAX:
            del self.relays[next(iter(self.relays))]
        self.number += 1
        self.relays[self.number] = (sender, request.number, request.target)
        self.port.send(request.target, Ping(self.number, self._updates(request.target)))
        self.port.set_timer(f"nack {self.number}", int(NACK_SHARE * self.ack_ns))

    def _nack(self, number: int) -> None:
        if number in self.relays and self.config.lifeguard:  # an answer that still comes is handed on all the same
            asker, asked, _ = self.relays[number]
            self.port.send(asker, Nack(asked))

    # -- news ----------------------------------------------------------------------------------------

    def _updates(self, to: str) -> tuple[Update, ...]:
        """Return what rides on a message; whoever is not held alive is told so first, to refute it."""
        entry = self.table.entries.get(to)
        first = (to, *entry, self.port.me) if entry is not None and entry[1] != ALIVE else None
        if first is not None and first[2] == SUSPECT and not self.config.lifeguard:
            first = None
        return self.news.take(len(self.table) + 1, first)

    def _gossip(self) -> None:
        if not self.news.waiting:
            return
        for name in self._some(self.table.of(ALIVE, SUSPECT), self.config.gossip_to):
            if updates := self._updates(name):
                self.port.send(name, Gossip(updates))

    def _sync(self, among: list[str]) -> None:
        for name in self._some(among, 1):
            self.port.send(name, Sync(True, self._whole()))

    def _whole(self) -> tuple[Update, ...]:
        """Return the table, each suspicion as its first accuser's: who repeats it has not found it out again."""
        me = (self.port.me, self.incarnation, ALIVE, self.port.me)
        return (me, *self.table.updates(self.port.me, {name: s.first for name, s in self.suspicions.items()}))

    def _on_sync(self, sender: str, sync: Sync) -> None:
        for update in sync.table:
            self._learn(softened(update), sender)
        if sync.answer:
            self.port.send(sender, Sync(False, self._whole()))

    def _learn(self, update: Update, sender: str = "") -> None:
        member, life, status, by = update
        if member == self.port.me:
            self._hear_of_oneself(life, status)
            return
        suspicion = self.suspicions.get(member)
        if suspicion is not None and status == SUSPECT and life == self.table.entries[member][0]:
            if suspicion.confirm(by):
                self.news.add(update)
                self._arm(member, suspicion)
            return
        if not self.table.learn(member, life, status, own=member == sender):
            return
        self.news.add(update)
        if self.suspicions.pop(member, None) is not None:
            self.port.cancel_timer(f"suspect {member}")
        if status == SUSPECT:
            self.suspicions[member] = self._suspicion(by)
            self._arm(member, self.suspicions[member])
        self._tell(member, life, status)

    def _hear_of_oneself(self, life: int, status: int) -> None:
        """Refute by a new life; hearing ill of oneself also speaks of being slow (Lifeguard).

        A life so far ahead never was: this member's own word is enough, and no later life is used up.
        """
        if life > self.incarnation + JUMP_MAX:
            self._say_alive()
        elif life > self.incarnation or (life == self.incarnation and status != ALIVE):
            if status != ALIVE:
                self.health.change(1)
            self._live_again(life + 1)

    def _live_again(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.port.save("incarnation", encode(incarnation))
        self._say_alive()

    def _say_alive(self) -> None:
        self.news.add((self.port.me, self.incarnation, ALIVE, self.port.me))

    # -- suspicion -----------------------------------------------------------------------------------

    def _suspicion(self, by: str) -> Suspicion:
        n = len(self.table) + 1
        shortest = shortest_suspicion_ns(self.config.suspicion_mult, n, self.probe_ns)
        others = self.config.suspicion_mult - 2  # confirmations expected (memberlist)
        if not self.config.lifeguard or n - 2 < others:
            others = 0
        return Suspicion(self.port.now, by, shortest, shortest * self.config.suspicion_max_mult, others)

    def _arm(self, member: str, suspicion: Suspicion) -> None:
        self.port.set_timer(f"suspect {member}", max(0, suspicion.due_ns() - self.port.now))

    def _verdict(self, member: str) -> None:
        if member in self.suspicions:
            life, _ = self.table.entries[member]
            self._learn((member, life, DEAD, self.port.me))

    def _tell(self, member: str, life: int, status: int) -> None:
        seen = Seen(member, STATUSES[status], life)
        self.port.decide("seen", seen)
        for path in self.watchers:
            self.port.tell(path, seen)
