"""What members of a group say to one another about who is alive."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.wire import Message

ALIVE, SUSPECT, DEAD = range(3)
STATUSES = ("alive", "suspect", "dead")

LAST = 2**62
Number = Annotated[int, Meta(ge=0, le=LAST)]
"""An incarnation or a term. Whoever goes on from one counts it up, and must still be able to say what comes of it."""
JUMP_MAX = 2**20
"""So far ahead of what is known may an incarnation or a term be that others speak of: a false one, of a broken counter
or of a liar, would else leave nothing to go on to. Lives a minute apart take two years to it (our own bound)."""
Status = Annotated[int, Meta(ge=ALIVE, le=DEAD)]
Update = tuple[str, Number, Status, str]
"""What is gossiped: member, incarnation, status (an index into `STATUSES`), and who says so."""


class Ping(Message, frozen=True, tag="ping"):
    """Are you there? ``number`` is the sender's."""

    number: int
    updates: tuple[Update, ...]


class Ack(Message, frozen=True, tag="ack"):
    """``target`` is there: the sender itself, or whom it was asked to probe."""

    number: int
    target: str
    updates: tuple[Update, ...]


class PingRequest(Message, frozen=True, tag="ping_request"):
    """Probe ``target`` for me."""

    number: int
    target: str
    updates: tuple[Update, ...]


class Nack(Message, frozen=True, tag="nack"):
    """The target has not answered me either, but I am here and heard you (Lifeguard)."""

    number: int


class Gossip(Message, frozen=True, tag="gossip"):
    """News alone."""

    updates: tuple[Update, ...]


class Sync(Message, frozen=True, tag="sync"):
    """The sender's whole table; ``answer`` asks for the receiver's."""

    answer: bool
    table: tuple[Update, ...]


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """The sender is there, in this life; ``known`` is the receiver's life that it heard last, 0 for none.

    Who has lost its disk counts its lives from one again, and learns so which of them the others take for over.
    """

    incarnation: Annotated[int, Meta(ge=1, le=LAST)]
    known: Number


class AskLease(Message, frozen=True, tag="ask_lease"):
    """Let the sender lead ``term``; ``round`` tells answers apart."""

    term: Number
    round: int


class Grant(Message, frozen=True, tag="grant"):
    """The lease of this term is the asker's for a while, or is not: then ``term`` is the newest this member knows."""

    term: Number
    round: int
    granted: bool
