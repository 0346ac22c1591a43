"""What devices and the committee's watch say to one another, what operators ask, and what is announced.

Paths: a device answers at ``edge``, a watch at ``edge_watch``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from policies.jobs import LoadJob, SessionJob
from policies.port import NS_PER_S
from policies.wire import Message

RESEND_NS = 2 * NS_PER_S
"""After this long without an answer a deployment or a report is sent again (our choice: far above any round trip)."""

NAMESAKE = "another deployment has this name"
"""Why a deployment is refused: its name stands for another one, whose end would be told as its own."""

Bytes = Annotated[int, Meta(ge=0, le=1 << 60)]  # an exabyte
Millis = Annotated[int, Meta(ge=0, le=1000)]
Tasks = Annotated[int, Meta(ge=0, le=1000)]
Priority = Annotated[int, Meta(ge=1, le=10)]  # documented: 10 is the most important

OUTCOMES = ("done", "failed", "refused", "handed_back", "evicted", "withdrawn", "lost")
"""How a deployment can end. ``handed_back``: the device was taken; ``evicted``: its limits fell; ``lost``: it went
silent, which only a watch can say."""


# device to watch


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """A device is there.

    ``boot`` differs from life to life of the device, and a lease that ran out ends one too. ``number`` counts
    heartbeats and partings of a life, for messages overtake one another. ``sent_ns`` comes back in `Granted`, ``held``
    names every deployment it answers for.
    """

    boot: int
    number: int
    sent_ns: int
    state: str
    held: tuple[str, ...]
    free_memory_bytes: Bytes
    free_compute_millis: Millis
    free_tasks: Tasks


class Accepted(Message, frozen=True, tag="accepted"):
    """Room is reserved and the deployment is being brought; it need not be sent again."""

    deployment: str


class Ended(Message, frozen=True, tag="ended"):
    """A deployment ended and its room is free; repeated until `Noted`. ``outcome`` is one of `OUTCOMES`."""

    deployment: str
    outcome: str
    reason: str
    output: str = ""
    tokens: int = 0


class Parting(Message, frozen=True, tag="parting"):
    """The device goes; nothing more is heard of it until it connects again. Counted as in `Heartbeat`."""

    boot: int
    number: int
    reason: str


# watch to device


class Granted(Message, frozen=True, tag="granted"):
    """A lease, counted from when the device sent the heartbeat of ``sent_ns``."""

    sent_ns: int


class Deploy(Message, frozen=True, tag="deploy"):
    """Bring ``load`` onto the device and hold room for it; then run ``work``, or serve until withdrawn.

    ``memory_bytes``, ``compute_millis`` (thousandths of the device's whole compute) and ``tasks`` are reserved first.
    """

    deployment: str
    priority: Priority
    memory_bytes: Bytes
    compute_millis: Millis
    tasks: Tasks
    load: LoadJob
    work: SessionJob | None = None


class Withdraw(Message, frozen=True, tag="withdraw"):
    """Give the deployment up: nobody is owed it any more."""

    deployment: str


class Noted(Message, frozen=True, tag="noted"):
    """The deployment's end was heard."""

    deployment: str


# requests: of an operator to a device, of a client to a watch


class Maintain(Message, frozen=True, tag="maintain"):
    """Put the device under maintenance, or end it. Answered with `Phase`."""

    on: bool


class Place(Message, frozen=True, tag="place"):
    """Deploy on ``device``. Answered with `Accepted`, then (last) with `Ended`."""

    device: str
    deploy: Deploy


class Recall(Message, frozen=True, tag="recall"):
    """Withdraw a deployment. Answered with `Ended` to whoever placed it, and here."""

    deployment: str


# announced (decide), for records and checks


class Phase(Message, frozen=True, tag="phase"):
    """The device's lifecycle is in ``state``, because of ``event``."""

    state: str
    event: str


class Presence(Message, frozen=True, tag="presence"):
    """A watch believes a device there, or gone (``reason``)."""

    device: str
    there: bool
    reason: Literal["", "silent", "parted"]
