"""A small Fast-HotStuff (Jalalzai, Niu, Feng and Gai 2020), so that Twins scenarios have somebody to attack.

A block is certified by a quorum of votes, or its proposer shows a quorum of new views, whose highest certificate it
extends. A block is committed when it and its child in the *next* round are certified. `Careless` forgets that word, as
in asonnino/twins-simulator's file of the attack. Members forget nothing and sign nothing: nobody here forges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

from policies.consensus.messages import Chosen
from policies.port import NS_PER_S, Policy
from policies.wire import Message, digest, encode
from sim.twins import Protocol

FIRST = 3
"""Blocks of rounds 0 to 2 are given, as in the file of the attack."""
TIMEOUT_NS = NS_PER_S


class Certificate(Message, frozen=True, tag="qc"):
    """``voters`` voted for ``block`` of ``number``; its parent is certified for round ``parent``."""

    block: str
    number: int
    voters: tuple[str, ...]


class Block(Message, frozen=True, tag="block"):
    """A block of a round; ``views`` are the new views that excuse an older certificate, ``payload`` is drawn."""

    number: int
    height: int
    certificate: Certificate
    views: tuple[tuple[str, Certificate], ...]
    payload: int


class Vote(Message, frozen=True, tag="vote"):
    """A vote for a block of a round."""

    number: int
    block: str


class NewView(Message, frozen=True, tag="new_view"):
    """The sender waits for ``number`` and knows no higher certificate."""

    number: int
    certificate: Certificate


class Ask(Message, frozen=True, tag="ask"):
    """Asks for a block."""

    block: str


def _given() -> tuple[dict[str, Block], Certificate]:
    blocks, certificate = {}, Certificate("", -1, ())
    for number in range(FIRST):
        block = Block(number, number, certificate, (), 0)
        name = digest(encode(block))
        blocks[name], certificate = block, Certificate(name, number, ("everybody",))
    return blocks, certificate


class FastHotStuff(Policy):
    """One member."""

    messages = (Block, Vote, NewView, Ask)
    direct = True

    def __init__(self, members: tuple[str, ...], leader_of: Callable[[int], str], applier: str) -> None:
        self.members, self.leader_of = members, leader_of
        self.quorum = len(members) - (len(members) - 1) // 3
        self.blocks, self.high = _given()
        self.number, self.voted, self.preferred = FIRST, FIRST - 1, FIRST - 2
        self.commit = FIRST - 2
        self.votes: dict[tuple[int, str], set[str]] = {}
        self.views: dict[int, dict[str, Certificate]] = {}
        self.led: set[int] = set()  # rounds for which it made a block
        self.parked: dict[str, list[tuple[str, Any]]] = {}  # a missing block to the messages that wait for it

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.port.set_timer("timeout", TIMEOUT_NS)
        if self.leader_of(self.number) == self.port.me:
            self._propose(self.high, ())

    def on_timer(self, name: str) -> None:
        self.number += 1
        self.port.set_timer("timeout", TIMEOUT_NS)
        self._to(self.leader_of(self.number), NewView(self.number, self.high))

    def on_message(self, sender: str, message: Any) -> None:
        kind = type(message)
        if kind is Ask:
            if message.block in self.blocks:
                self.port.send(sender, self.blocks[message.block])
        elif kind is Block:
            self._on_block(sender, message)
        elif kind is Vote:
            voters = self.votes.setdefault((message.number, message.block), set())
            voters.add(sender)
            if len(voters) == self.quorum and message.block in self.blocks:
                certificate = Certificate(message.block, message.number, tuple(sorted(voters)))
                self._learn(certificate)
                self._propose(certificate, ())
        elif self._holds(sender, message, message.certificate):
            views = self.views.setdefault(message.number, {})
            views[sender] = message.certificate
            if len(views) == self.quorum:
                self.number = max(self.number, message.number)
                self._propose(max(views.values(), key=lambda one: one.number), tuple(sorted(views.items())))

    def _to(self, name: str, message: Message) -> None:
        if name:
            self.port.send(name, message)  # also to itself, so that what it says is said in the round it is in

    def _holds(self, sender: str, message: Any, certificate: Certificate) -> bool:
        """Whether the certified block is here; else ask for it, and come back."""
        if certificate.block in self.blocks:
            return True
        self.parked.setdefault(certificate.block, []).append((sender, message))
        self.port.send(sender, Ask(certificate.block))
        return False

    def _propose(self, certificate: Certificate, views: tuple[tuple[str, Certificate], ...]) -> None:
        number = self.number if views else max(self.number, certificate.number + 1)
        if self.leader_of(number) != self.port.me or number in self.led:
            return
        self.led.add(number)
        height = self.blocks[certificate.block].height + 1
        block = Block(number, height, certificate, views, self.port.rng.below(1 << 32))
        for name in self.members:
            self._to(name, block)

    def _on_block(self, sender: str, block: Block) -> None:
        if not self._holds(sender, block, block.certificate):
            return
        name = digest(encode(block))
        self.blocks[name] = block
        self._learn(block.certificate)
        self._vote(name, block)
        for waiting in self.parked.pop(name, []):
            self.on_message(*waiting)

    def _vote(self, name: str, block: Block) -> None:
        parent = block.certificate.number
        right = parent + 1 == block.number or (
            len(block.views) >= self.quorum and parent >= max(one.number for _, one in block.views)
        )
        if right and block.number > self.voted and parent >= self.preferred:
            self.voted = block.number
            self.number = max(self.number, block.number + 1)
            self.port.set_timer("timeout", TIMEOUT_NS)
            self._to(self.leader_of(block.number + 1), Vote(block.number, name))

    def _learn(self, certificate: Certificate) -> None:
        block = self.blocks[certificate.block]
        self.preferred = max(self.preferred, block.number)
        if certificate.number > self.high.number:
            self.high = certificate
        parent = block.certificate
        if parent.number + 1 == block.number or not self.direct:
            self._commit(parent.block)

    def _commit(self, name: str) -> None:
        path = []
        while name and self.blocks[name].height > self.commit:
            path.append(name)
            name = self.blocks[name].certificate.block
        for one in reversed(path):
            block = self.blocks[one]
            self.commit = block.height
            self.port.decide("commit", Chosen(block.height - FIRST + 2, block.number, crc32(one.encode())))


class Careless(FastHotStuff):
    """Commits a block when a child of any later round is certified."""

    direct = False


def number_of(policy: Any) -> int:
    """Return the round that a member is in."""
    return int(policy.number)


PATIENCE_S = 5.0
CORRECT = Protocol(FastHotStuff, number_of, PATIENCE_S)
CARELESS = Protocol(Careless, number_of, PATIENCE_S)
