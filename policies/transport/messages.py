"""What the transports and their users say to one another on a node, and what they announce for checks.

A *letter* is one message from end to end. Its sender's node numbers it, by destination, and tells with every copy
the lowest number that may still come (``floor``): the receiver forgets what lies below and yet takes no letter twice.
An ``epoch`` names the sender's memory: a node that lost its disk begins a new one and is not taken for its old self.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.wire import Message

Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]

EVERYONE = "*"
"""The destination of a broadcast, which only the mesh carries."""


class Post(Message, frozen=True, tag="post"):
    """Operation of a client: bring ``body`` to node ``to``. The same op_id is the same letter."""

    to: str
    body: bytes


class Taken(Message, frozen=True, tag="taken"):
    """Answer to `Post`: the letter is durable here and will end in `Acknowledged`, `Spread` or `Dead`."""

    key: str


class Known(Message, frozen=True, tag="known"):
    """Answer to a `Post` whose letter has ended: how, and why if it failed."""

    key: str
    outcome: str
    reason: str


class Refused(Message, frozen=True, tag="refused"):
    """Answer to `Post`: nothing was taken."""

    reason: str


# On one node, between a transport and its user.


class Carry(Message, frozen=True, tag="carry"):
    """user to transport: bring ``body`` to ``to``; the same ``key`` from the same user is the same letter."""

    key: str
    to: str
    body: bytes


class Carried(Message, frozen=True, tag="carried"):
    """transport to user: the letter ended; ``ok`` means that its destination has it, and nothing less."""

    key: str
    ok: bool
    reason: str


class Handed(Message, frozen=True, tag="handed"):
    """transport to consumer: a letter arrived. It is handed ``again`` until the consumer says `Took`."""

    stream: str
    number: Count
    origin: str
    body: bytes
    again: bool


class Took(Message, frozen=True, tag="took"):
    """consumer to transport: what this letter means is safe with me (say it when your own save is durable)."""

    stream: str
    number: Count


# Announced with `port.decide`, kind by kind. ``letter`` is the name that `letter_name` gives.


class Accepted(Message, frozen=True, tag="accepted"):
    """``accepted``: the letter is durable at its origin, which knows it by ``key``."""

    letter: str
    key: str
    to: str


class Tried(Message, frozen=True, tag="tried"):
    """``tried``: a letter was sent for the ``tries``-th time."""

    letter: str
    tries: Count


class Heard(Message, frozen=True, tag="heard"):
    """``heard``: this node took a copy of a letter from ``via``, its neighbour, for itself or to carry it on."""

    letter: str
    via: str


class Delivered(Message, frozen=True, tag="delivered"):
    """``delivered``: a letter is durable at its destination. Only a restart announces it ``again``."""

    letter: str
    body: bytes
    again: bool


class Acknowledged(Message, frozen=True, tag="acknowledged"):
    """``acknowledged``: the origin knows that the destination has the letter."""

    letter: str


class Spread(Message, frozen=True, tag="spread"):
    """``spread``: a broadcast was offered for all its life and is over; who heard it is not known."""

    letter: str


class Dead(Message, frozen=True, tag="dead"):
    """``dead``: the origin gives the letter up. It may have arrived all the same; its acknowledgement has not."""

    letter: str
    reason: str


class Routed(Message, frozen=True, tag="routed"):
    """``routed``: the bus gave a letter to a transport."""

    letter: str
    to: str
    transport: str


class Result(Message, frozen=True, tag="result"):
    """``result``: what a transport answered the bus about a letter; ``ok`` as it was answered."""

    letter: str
    to: str
    transport: str
    ok: bool
    reason: str


ANNOUNCED = Accepted | Tried | Heard | Delivered | Acknowledged | Spread | Dead | Routed | Result
"""Everything that the family announces, as one type to decode."""


def stream_name(origin: str, to: str, epoch: int) -> str:
    """Return the name of one origin's letters to one destination, in one memory of the origin."""
    return f"{origin}>{to}@{epoch}"


def letter_name(origin: str, to: str, epoch: int, number: int) -> str:
    """Return the name of a letter, the same on every node."""
    return f"{stream_name(origin, to, epoch)}/{number}"
