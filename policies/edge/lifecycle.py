"""The life of a lent device, as data.

Rule 1: every state and every transition stands in `TRANSITIONS`; nothing else in the family changes a state.
Rule 2: this file knows no ports, clocks or messages; it says *what* follows, `policies.edge.agent` does it.

Theory of operation
===================

Two parties pull at a device. Harvest lends it (`lend`) and takes it back (`take`); an operator puts it under
maintenance (`maintain`) and ends that (`resume`). In between the device must be believed by somebody else: a member of
the committee answers its heartbeats with a lease, and without a lease (`silence`) the device counts as gone *on both
sides*, at the device first. So a deployment is never worked on by two devices because one of them was not told.

::

    offline --lend--> connecting --lease--> online --fetch--> deploying --serve--> running
       ^                  ^                   ^                  |  ^                 |
       |                  +-----silence-------+------<-----------+--fetch--<----------+
       |                                                         |                    |
       +----empty, drained, silence---- draining <--take, maintain--------------------+
       +----retry---- error <--fault (too many jobs lost in a row)
       +----resume--- maintenance <--maintain

The events ``fetch``, ``serve`` and ``empty`` say what the device holds after a change: something that is still being
brought, only what is there, nothing. Draining ends when nothing is held and every hand-back was heard, or
after its time.

A device that drains is not stopped half way: what was asked meanwhile is done from ``offline``, where `wanted` turns
what the two parties want now into the next event.

An event that has no row in the current state is *refused*: the state stays, the caller is told, and it is counted.
The diagram and the table in the documentation are made from `TRANSITIONS` by `table`.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

OFFLINE: Final = "offline"  # not lent, or nobody to talk to; nothing is held
CONNECTING: Final = "connecting"  # lent; heartbeats go out and nobody has answered yet
ONLINE: Final = "online"  # leased, and holds nothing
DEPLOYING: Final = "deploying"  # something is being brought onto the device
RUNNING: Final = "running"  # everything that is held is there
DRAINING: Final = "draining"  # takes nothing new; what is held ends or goes back
ERROR: Final = "error"  # too many jobs were lost one after another; waits
MAINTENANCE: Final = "maintenance"  # an operator has it
STATES: Final = (OFFLINE, CONNECTING, ONLINE, DEPLOYING, RUNNING, DRAINING, ERROR, MAINTENANCE)

LEND: Final = "lend"
TAKE: Final = "take"
LEASE: Final = "lease"
SILENCE: Final = "silence"
FETCH: Final = "fetch"
SERVE: Final = "serve"
EMPTY: Final = "empty"
DRAINED: Final = "drained"
FAULT: Final = "fault"
RETRY: Final = "retry"
MAINTAIN: Final = "maintain"
RESUME: Final = "resume"
EVENTS: Final = (
    LEND, TAKE, LEASE, SILENCE, FETCH, SERVE, EMPTY, DRAINED, FAULT, RETRY, MAINTAIN, RESUME,
)  # fmt: skip

# Effects: what the agent does on the way, in this order.
HAIL: Final = "hail"  # say hello to the committee, and go on saying it
PART: Final = "part"  # say goodbye and fall silent
DROP: Final = "drop"  # give everything up at once; the lease is gone, so nobody is owed a word
HAND_BACK: Final = "hand_back"  # give everything back at once and say so until it is heard
EASE_OUT: Final = "ease_out"  # let work that runs end, for a while; hand the rest back
COOL: Final = "cool"  # wait before the next try
EFFECTS: Final = (HAIL, PART, DROP, HAND_BACK, EASE_OUT, COOL)


class Move(NamedTuple):
    """A row of the table: where an event leads, and what is done on the way."""

    to: str
    effects: tuple[str, ...] = ()


TRANSITIONS: Final[dict[str, dict[str, Move]]] = {
    OFFLINE: {
        LEND: Move(CONNECTING, (HAIL,)),
        TAKE: Move(OFFLINE),
        MAINTAIN: Move(MAINTENANCE),
    },
    CONNECTING: {
        LEND: Move(CONNECTING),
        LEASE: Move(ONLINE),
        TAKE: Move(OFFLINE, (PART,)),
        MAINTAIN: Move(MAINTENANCE, (PART,)),
    },
    ONLINE: {
        LEND: Move(ONLINE),
        LEASE: Move(ONLINE),
        SILENCE: Move(CONNECTING),
        FETCH: Move(DEPLOYING),
        TAKE: Move(OFFLINE, (PART,)),
        MAINTAIN: Move(MAINTENANCE, (PART,)),
    },
    DEPLOYING: {
        LEND: Move(DEPLOYING),
        LEASE: Move(DEPLOYING),
        SILENCE: Move(CONNECTING, (DROP,)),
        FETCH: Move(DEPLOYING),
        SERVE: Move(RUNNING),
        EMPTY: Move(ONLINE),
        FAULT: Move(ERROR, (HAND_BACK, PART, COOL)),
        TAKE: Move(DRAINING, (HAND_BACK,)),
        MAINTAIN: Move(DRAINING, (EASE_OUT,)),
    },
    RUNNING: {
        LEND: Move(RUNNING),
        LEASE: Move(RUNNING),
        SILENCE: Move(CONNECTING, (DROP,)),
        FETCH: Move(DEPLOYING),
        SERVE: Move(RUNNING),
        EMPTY: Move(ONLINE),
        FAULT: Move(ERROR, (HAND_BACK, PART, COOL)),
        TAKE: Move(DRAINING, (HAND_BACK,)),
        MAINTAIN: Move(DRAINING, (EASE_OUT,)),
    },
    DRAINING: {
        LEND: Move(DRAINING),
        LEASE: Move(DRAINING),
        SILENCE: Move(OFFLINE, (DROP, PART)),
        SERVE: Move(DRAINING),
        EMPTY: Move(OFFLINE, (PART,)),
        DRAINED: Move(OFFLINE, (HAND_BACK, PART)),
        FAULT: Move(DRAINING),
        TAKE: Move(DRAINING, (HAND_BACK,)),
        MAINTAIN: Move(DRAINING),
        RESUME: Move(DRAINING),
    },
    ERROR: {
        LEND: Move(ERROR),
        TAKE: Move(ERROR),
        RETRY: Move(OFFLINE),
        MAINTAIN: Move(MAINTENANCE),
    },
    MAINTENANCE: {
        LEND: Move(MAINTENANCE),
        TAKE: Move(MAINTENANCE),
        MAINTAIN: Move(MAINTENANCE),
        RESUME: Move(OFFLINE),
    },
}


class Lifecycle:
    """Where one device is.

    Attributes:
        state: one of `STATES`.
        refused: (state, event) to how often it was refused.
    """

    def __init__(self) -> None:
        self.state: str = OFFLINE
        self.refused: Counter[tuple[str, str]] = Counter()

    def allows(self, event: str) -> bool:
        """Return whether the event has a row in the current state."""
        return event in TRANSITIONS[self.state]

    def feed(self, event: str) -> tuple[str, ...] | None:
        """Take an event; return the effects to carry out, or None where it is refused and nothing changed."""
        move = TRANSITIONS[self.state].get(event)
        if move is None:
            self.refused[(self.state, event)] += 1
            return None
        self.state = move.to
        return move.effects


def wanted(state: str, *, lent: bool, maintenance: bool) -> str | None:
    """Return the event that what harvest and the operator want now gives to a device at rest, if any."""
    if state != OFFLINE:
        return None
    if maintenance:
        return MAINTAIN
    return LEND if lent else None


def table() -> str:
    """Return `TRANSITIONS` as a Markdown table: a row a state and event, with the next state and the effects."""
    lines = ["| state | event | next | effects |", "|---|---|---|---|"]
    lines += [
        f"| {state} | {event} | {move.to} | {', '.join(move.effects) or '-'} |"
        for state, moves in TRANSITIONS.items()
        for event, move in moves.items()
    ]
    return "\n".join(lines)
