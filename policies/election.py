"""Leader election in some twenty lines: the tutorial's policy, and the smallest one that is not trivial.

A node that hears no leader for a random while votes for itself in a new term and asks the others. A node votes
once a term, for whoever asked first, and saves its vote; the port lets the answer leave only when the vote is
durable, so that a crash cannot make it vote twice. Two majorities share a node, so a term has at most one leader.
This is section 5.2 of Ongaro and Ousterhout (ATC 2014) without the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from policies.port import NS_PER_S, Policy
from policies.wire import Message, encode

Term = Annotated[int, Meta(ge=0, le=2**62)]
"""Any other is malformed, and the Cell drops it; the bound leaves room to count on within MessagePack's 64 bits."""


class AskVote(Message, frozen=True, tag="ask_vote"):
    """Vote for me in this term."""

    term: Term


class Vote(Message, frozen=True, tag="vote"):
    """You have my vote in this term."""

    term: Term


class Lead(Message, frozen=True, tag="lead"):
    """I lead this term. Sent as a heartbeat, and decided once."""

    term: Term


class Election(Policy):
    """One node of the electorate, which is ``port.me`` and ``port.peers``."""

    messages = (AskVote, Vote, Lead)

    # Assumption: ten heartbeats to a time-out, and both far above a round trip and an fsync, as the paper asks
    # (section 5.6: broadcast time << election time-out).
    beat_s = 0.1
    patience_s = (0.5, 1.0)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Remember the last vote, and wait for a leader."""
        last = saved.get("vote", encode((0, "")))
        self.term, self.voted_for = msgspec.msgpack.decode(last, type=tuple[int, str])
        self.votes: set[str] = set()
        self.wait()

    def wait(self) -> None:
        """Give a leader a new random while to be heard."""
        self.port.set_timer("campaign", int(self.port.rng.uniform(*self.patience_s) * NS_PER_S))

    def vote(self, term: int, candidate: str) -> None:
        """Enter ``term`` with a vote for ``candidate``; whatever was in an older term is over."""
        self.term, self.voted_for, self.votes = term, candidate, set()
        self.port.save("vote", encode((term, candidate)))
        self.port.cancel_timer("lead")
        self.wait()

    def on_timer(self, name: str) -> None:
        """``campaign``: nobody leads, so try it. ``lead``: be heard."""
        if name == "campaign":
            self.vote(self.term + 1, self.port.me)
            self.port.broadcast(AskVote(self.term))
            self.count(self.port.me)
        else:
            self.port.broadcast(Lead(self.term))
            self.port.set_timer("lead", int(self.beat_s * NS_PER_S))

    def on_message(self, sender: str, message: AskVote | Vote | Lead) -> None:
        """Follow newer terms, ignore older ones, and answer the candidate who has this node's vote."""
        if message.term > self.term:
            self.vote(message.term, sender)
        if message.term < self.term:
            return
        if isinstance(message, Vote):
            self.count(sender)
        elif sender == self.voted_for and isinstance(message, AskVote):
            self.port.send(sender, Vote(self.term))
        elif isinstance(message, Lead):
            self.wait()

    def count(self, voter: str) -> None:
        """Count a vote once; the one that completes a majority makes this node the leader."""
        if voter in self.votes:
            return
        self.votes.add(voter)
        if len(self.votes) == (len(self.port.peers) + 1) // 2 + 1:
            self.port.cancel_timer("campaign")
            self.port.decide("leader", Lead(self.term))
            self.on_timer("lead")
