"""Raft members driven by hand: every message, timer, sync and crash happens when a test says so, and only then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.config import RaftConfig
from policies.consensus import Raft
from policies.local import Committed, Configured, Propose, Read, Readable, Reconfigure, Restore, Snapshot, Transfer
from policies.port import NS_PER_S, Effect, Policy
from policies.wire import Message, encode
from sim.keys import KeyRing
from tests.policies.raft_watch import Broken, Watch, Watched, message

CONFIG = RaftConfig(heartbeat_s=0.1, election_min_s=1.0, election_max_s=2.0)
PAPER = msgspec.structs.replace(CONFIG, pre_vote=False, check_quorum=False)
"""Elections as figure 2 of the paper has them."""
ONE_ENTRY = msgspec.structs.replace(PAPER, max_batch=1)
Letter = tuple[str, str, bytes]  # sender, receiver, payload


class Asked(Policy):
    """Mixed into a Raft that a client asks what a state machine would."""

    requests = (Propose, Read, Snapshot, Reconfigure, Transfer)

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        """Hand on what the client asks."""
        self.on_local(client, operation)


class Member(Asked, Raft):
    """Raft as it is."""


class Machine(Policy):
    """The state machine beside a member: it keeps what it is told.

    Attributes:
        index: the last index that it applied, or that its snapshot holds.
        commands: everything applied, in order.
        readable: read's token to the index at which it may be answered.
        fresh: those that were not looked at yet.
        looked_at: the index at which its state was compared with others' last.
        members: the last configuration that was told, (members, learners).
    """

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Begin empty."""
        self.index, self.commands = 0, []
        self.looked_at = 0
        self.readable: dict[int, int] = {}
        self.fresh: list[tuple[int, int]] = []
        self.members: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def on_local(self, sender: str, message: Any) -> None:
        """Take in what the log tells."""
        if isinstance(message, Committed):
            assert message.index > self.index, "told twice, or out of order"
            self.index = message.index
            self.commands.append(message.command)
        elif isinstance(message, Restore):
            self.index, self.commands = message.index, msgspec.msgpack.decode(message.state)
        elif isinstance(message, Readable):
            assert message.token not in self.readable, "a read answered twice"
            self.readable[message.token] = message.index
            self.fresh.append((message.token, message.index))
        elif isinstance(message, Configured):
            self.members = (message.members, message.learners)


class HandCluster:
    """Members n1, n2, ...

    Args:
        size: how many there are.
        kind: what they are.
        config: their parameters.
        voters: how many of them are members at first; None is all.

    Attributes:
        post: messages on their way, oldest first.
        disk: member to the batches not durable yet, (token, batch), oldest first.
        island: members that are parted from all others: what is said between the two meanwhile is lost.
        on_effect: is told every effect with its member.
    """

    def __init__(
        self, size: int, kind: Callable[..., Raft] = Member, config: RaftConfig = PAPER, voters: int | None = None
    ) -> None:
        self.names = tuple(f"n{i + 1}" for i in range(size))
        self.kind, self.config = kind, config
        self.members = self.names[:voters]
        self.watch = Watch(self.names)
        self.island: frozenset[str] = frozenset()
        self.on_effect: Callable[[str, Effect], object] = lambda name, effect: None
        self.now = NS_PER_S
        self.post: list[Letter] = []
        self.disk: dict[str, list[tuple[int, Any]]] = {}
        self.saved: dict[str, dict[str, bytes]] = {name: {} for name in self.names}
        self.timers: dict[str, dict[str, int]] = {}
        self.life = dict.fromkeys(self.names, -1)
        self.down: set[str] = set(self.names)
        self.reads: dict[int, tuple[str, int]] = {}  # token to who reads, and what was committed when it began
        self.states: dict[int, list[bytes]] = {}  # index to what a machine had applied there
        for name in self.names:
            self.restart(name)

    def raft(self, name: str) -> Raft:
        """Return a member."""
        return self.watch.cells[name].raft

    def machine(self, name: str) -> Machine:
        """Return the state machine beside a member."""
        machine = self.watch.cells[name].cell.policy("machine")
        assert isinstance(machine, Machine)
        return machine

    def log(self, name: str) -> list[tuple[int, bytes]]:
        """Return the entries of a member's log, those after its snapshot."""
        return self.raft(name).log.entries

    # -- what may happen -----------------------------------------------------------------------------

    def give(self, name: str, given: tuple[Any, ...]) -> None:
        """Feed one input and keep what leaves."""
        if name in self.down:
            return
        self.now += 1_000_000  # a millisecond a step
        for effect in self.watch.cells[name].step(self.now, self.now, given):
            self.on_effect(name, effect)
            if effect[0] == p.SEND and (name in self.island) == (effect[2] in self.island):
                self.post.append((name, effect[2], effect[3]))
            elif effect[0] == p.SAVE:
                self.disk[name].append((effect[2], effect[3]))
            elif effect[0] == p.SET_TIMER:
                self.timers[name][effect[2]] = effect[4]
            elif effect[0] == p.CANCEL_TIMER:
                self.timers[name].pop(effect[2], None)
        self._look_at(self.machine(name), name)

    def _look_at(self, machine: Machine, name: str) -> None:
        """Ask that machines agree, and that no read misses what was committed before it began."""
        if machine.index != machine.looked_at:
            machine.looked_at = machine.index
            if self.states.setdefault(machine.index, list(machine.commands)) != machine.commands:
                raise Broken(f"state: {name} differs from another at index {machine.index}")
        while machine.fresh:
            token, index = machine.fresh.pop()
            if index >= 0 and not self.reads[token][1] <= index <= self.raft(name).applied:
                raise Broken(f"stale read: {name} may read at {index}, {self.reads[token][1]} was committed before")

    def fire(self, name: str, timer: str) -> None:
        """Fire a timer now, whenever it was due."""
        if timer in self.timers[name]:
            self.give(name, (p.TIMER, "", timer, self.timers[name].pop(timer)))

    def propose(self, name: str, command: bytes) -> None:
        """A client asks ``name``."""
        self.watch.proposed.add(command)
        self.ask(name, Propose(command))

    def ask(self, name: str, what: Message) -> None:
        """The state machine of ``name`` asks its log."""
        self.give(name, (p.REQUEST, "", "c", "1", encode(what)))

    def read(self, name: str) -> int:
        """The state machine of ``name`` asks for a read; return its token."""
        token = len(self.reads) + 1
        self.reads[token] = (name, max(self.watch.chosen, default=0))
        self.ask(name, Read(token))
        return token

    def compact(self, name: str) -> None:
        """The state machine of ``name`` offers a snapshot of all that it applied."""
        machine = self.machine(name)
        self.ask(name, Snapshot(machine.index, encode(machine.commands)))

    def deliver(self, index: int = 0) -> None:
        """Deliver one message that is on its way."""
        sender, to, payload = self.post.pop(index)
        self.give(to, (p.MESSAGE, "", sender, payload))

    def sync(self, name: str, batches: int = 1 << 30) -> None:
        """Make the oldest batches of a member durable, one by one."""
        for token, batch in self.disk[name][:batches]:
            self.disk[name].pop(0)
            for key, value in batch:
                if value is None:
                    self.saved[name].pop(key, None)
                else:
                    self.saved[name][key] = value
            self.give(name, (p.DURABLE, "", token))

    def crash(self, name: str) -> None:
        """Lose what is not durable; what was sent stays on its way."""
        self.down.add(name)

    def restart(self, name: str) -> None:
        """Start a member, with what was durable."""
        self.down.discard(name)
        self.life[name] += 1
        peers = tuple(n for n in self.names if n != name)
        keys = KeyRing(1).handle(name)
        policies = {"": self.kind(self.config, self.members, "machine"), "machine": Machine()}
        cell = Cell(policies, name, peers, seed=1, keys=keys)
        Watched(cell, self.watch)
        self.disk[name], self.timers[name] = [], {}
        self.give(name, (p.START, "", dict(self.saved[name]), self.life[name]))

    # -- for scripts ---------------------------------------------------------------------------------

    def settle(self, *among: str, rounds: int = 50) -> None:
        """Sync and deliver among these members (all, if none is named) until all is done; drop what goes elsewhere."""
        group = among or self.names
        for _ in range(rounds):
            for name in group:
                self.sync(name)
            if not self.post and not any(self.disk[name] for name in group):
                return
            letters, self.post = self.post, []
            for sender, to, payload in letters:
                if sender in group and to in group:
                    self.give(to, (p.MESSAGE, "", sender, payload))

    def elect(self, name: str, *among: str) -> None:
        """Let ``name`` campaign and win among these members."""
        self.fire(name, "election")
        self.settle(*among)
        assert self.raft(name).role == "leader", f"{name} did not win"

    def pass_on(self, sender: str, to: str, *, sync: bool = True) -> None:
        """Deliver all that is on its way from one member to another, and sync the receiver."""
        letters = [letter for letter in self.post if letter[:2] == (sender, to)]
        self.post = [letter for letter in self.post if letter[:2] != (sender, to)]
        for _, _, payload in letters:
            self.give(to, (p.MESSAGE, "", sender, payload))
        if sync:
            self.sync(to)

    def ask_votes(self, name: str, *voters: str) -> None:
        """Let ``name`` campaign, and only ``voters`` hear of it and answer."""
        self.fire(name, "election")
        self.sync(name)
        for voter in voters:
            self.pass_on(name, voter)
        for voter in voters:
            self.pass_on(voter, name, sync=False)

    def said(self, sender: str, to: str) -> list[Any]:
        """Return the messages on their way from one to another."""
        return [message(payload) for s, t, payload in self.post if (s, t) == (sender, to)]

    def tell(self, sender: str, to: str, what: Any) -> None:
        """Deliver a message that a test wrote."""
        self.give(to, (p.MESSAGE, "", sender, encode(what)))
