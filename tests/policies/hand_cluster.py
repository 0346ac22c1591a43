"""Raft members driven by hand: every message, timer, sync and crash happens when a test says so, and only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.config import RaftConfig
from policies.consensus import Raft
from policies.local import Propose
from policies.port import NS_PER_S, Policy
from policies.wire import encode
from sim.keys import KeyRing
from tests.policies.raft_watch import Watch, Watched, message

CONFIG = RaftConfig(heartbeat_s=0.1, election_min_s=1.0, election_max_s=2.0)
PAPER = msgspec.structs.replace(CONFIG, pre_vote=False, check_quorum=False)
"""Elections as figure 2 of the paper has them."""
Letter = tuple[str, str, bytes]  # sender, receiver, payload


class Asked(Policy):
    """Mixed into a Raft that runs alone: a client's request is a proposal."""

    requests = (Propose,)

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        """Propose what the client asks."""
        self.on_local(client, operation)


class Member(Asked, Raft):
    """Raft as it is."""


class HandCluster:
    """Members n1, n2, ...

    Attributes:
        post: messages on their way, oldest first.
        disk: member to the batches not durable yet, (token, batch), oldest first.
    """

    def __init__(self, size: int, kind: Callable[..., Raft] = Member, config: RaftConfig = PAPER) -> None:
        self.names = tuple(f"n{i + 1}" for i in range(size))
        self.kind, self.config = kind, config
        self.watch = Watch(self.names)
        self.now = NS_PER_S
        self.post: list[Letter] = []
        self.disk: dict[str, list[tuple[int, Any]]] = {}
        self.saved: dict[str, dict[str, bytes]] = {name: {} for name in self.names}
        self.timers: dict[str, dict[str, int]] = {}
        self.life = dict.fromkeys(self.names, -1)
        self.down: set[str] = set(self.names)
        for name in self.names:
            self.restart(name)

    def raft(self, name: str) -> Raft:
        """Return a member."""
        return self.watch.cells[name].raft

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
            if effect[0] == p.SEND:
                self.post.append((name, effect[2], effect[3]))
            elif effect[0] == p.SAVE:
                self.disk[name].append((effect[2], effect[3]))
            elif effect[0] == p.SET_TIMER:
                self.timers[name][effect[2]] = effect[4]
            elif effect[0] == p.CANCEL_TIMER:
                self.timers[name].pop(effect[2], None)

    def fire(self, name: str, timer: str) -> None:
        """Fire a timer now, whenever it was due."""
        if timer in self.timers[name]:
            self.give(name, (p.TIMER, "", timer, self.timers[name].pop(timer)))

    def propose(self, name: str, command: bytes) -> None:
        """A client asks ``name``."""
        self.watch.proposed.add(command)
        self.give(name, (p.REQUEST, "", "c", "1", encode(Propose(command))))

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
        cell = Cell(self.kind(self.config, self.names), name, peers, seed=1, keys=keys)
        Watched(cell, self.watch)
        self.disk[name], self.timers[name] = [], {}
        self.give(name, (p.START, "", dict(self.saved[name]), self.life[name]))

    # -- for scripts ---------------------------------------------------------------------------------

    def settle(self, *among: str, rounds: int = 50) -> None:
        """Sync and deliver among these members (all, if none is named) until nothing is on its way; drop the rest."""
        group = among or self.names
        for _ in range(rounds):
            for name in group:
                self.sync(name)
            if not self.post:
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
