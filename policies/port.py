"""The port: the only thing a policy may touch, and the handlers by which it is called.

A policy is a plain class. It reads like an object and behaves like a function: its handlers are called
one at a time, what it asks of the port only fills an outbox, and the `policies.cell.Cell` around it turns
one input into one tuple of effects. Nothing happens until the handler has returned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from policies.jobs import Job
from policies.rng import Rng
from policies.wire import Message

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

# Inputs: (kind, path, ...). They are plain tuples of MessagePack types, so that a journal holds them as they are.
START, MESSAGE, TIMER, REQUEST, READINGS, DECISION, JOB, PEER, DURABLE = range(9)
INPUT_NAMES = ("start", "message", "timer", "request", "readings", "decision", "job", "peer", "durable")

# Effects: (kind, path, ...), see `policies.cell` for the fields of each.
SEND, SET_TIMER, CANCEL_TIMER, SAVE, SUBMIT, CANCEL, SENSE, LIMIT, REPLY, DECIDE, NOTE, SIGNED = range(12)
EFFECT_NAMES = (
    "send", "set_timer", "cancel_timer", "save", "submit", "cancel",
    "sense", "limit", "reply", "decide", "note", "signed",
)  # fmt: skip

Input = tuple[Any, ...]
Effect = tuple[Any, ...]


class Keys(Protocol):
    """A key handle: whoever holds it can sign as one identity, and verify anybody."""

    def sign(self, data: bytes) -> bytes:
        """Return this identity's 64-byte signature of ``data``."""
        ...

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        """Return whether ``signature`` is ``identity``'s over ``data``."""
        ...


class Port(Protocol):
    """What a policy may do. Every call only fills the outbox of the step."""

    @property
    def me(self) -> str:
        """This node's identity."""
        ...

    @property
    def peers(self) -> tuple[str, ...]:
        """The other nodes this policy was told of, in a fixed order."""
        ...

    @property
    def now(self) -> int:
        """Monotonic nanoseconds, constant within a step."""
        ...

    @property
    def wall(self) -> int:
        """Wall-clock nanoseconds since the epoch; may be wrong and may jump."""
        ...

    @property
    def rng(self) -> Rng:
        """This policy's own random stream."""
        ...

    @property
    def keys(self) -> Keys:
        """This node's key handle."""
        ...

    def send(self, to: str, message: Message, *, early: bool = False) -> None:
        """Send, unreliably and unordered, to the same path on node ``to``, or to ``node/path``.

        It waits for all earlier saves of this policy to be durable, unless ``early``.
        """
        ...

    def broadcast(self, message: Message, *, early: bool = False) -> None:
        """Send to every peer."""
        ...

    def tell(self, path: str, message: Message) -> None:
        """Give a message to another policy of this node; delivered first-in first-out within the step."""
        ...

    def set_timer(self, name: str, after_ns: int) -> None:
        """Fire ``on_timer(name)`` once, ``after_ns`` from now; re-arming replaces."""
        ...

    def cancel_timer(self, name: str) -> None:
        """Disarm a timer; unknown names are ignored."""
        ...

    def save(self, key: str, value: bytes) -> int:
        """Make ``value`` durable later, atomically with the step's other saves; returns the batch's token."""
        ...

    def erase(self, key: str) -> int:
        """Forget ``key``, in the same atomic batch."""
        ...

    def submit(self, job: Job) -> int:
        """Ask for compute; ``on_job`` reports under the returned id."""
        ...

    def cancel(self, job_id: int) -> None:
        """Give a job up; nothing more is heard of it."""
        ...

    def sense(self, every_ns: int) -> None:
        """Ask for ``on_readings`` at this period."""
        ...

    def limit(self, resource: str, share: float) -> None:
        """Hold this node's ``resource`` to ``share``: ``compute``, ``memory``, ``bandwidth_bytes_per_s`` or ``chunk``.

        ``chunk`` is the largest piece of a transfer that is cut in pieces.
        """
        ...

    def reply(self, client: str, op_id: str, part: Message, *, last: bool = True) -> None:
        """Answer a client's request."""
        ...

    def decide(self, kind: str, value: Message) -> None:
        """Announce something decided, for checks and records."""
        ...

    def note(self, name: str, /, **fields: int | float | str | bool) -> None:
        """The only log: a name and plain fields."""
        ...


class Policy:
    """Base of reactive policies: override the handlers you need.

    ``messages`` are the classes that may arrive from the same path on other nodes; anything else is
    dropped and counted before it reaches a handler. ``requests`` are the operations clients may send.
    """

    messages: ClassVar[tuple[type[Message], ...]] = ()
    requests: ClassVar[tuple[type[Message], ...]] = ()
    port: Port

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Begin, with what was durable before the crash, or nothing."""

    def on_message(self, sender: str, message: Any) -> None:
        """A message from the authenticated node ``sender``."""

    def on_local(self, sender: str, message: Any) -> None:
        """A message from the policy at path ``sender`` of this same node."""

    def on_timer(self, name: str) -> None:
        """The timer ``name`` fired."""

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        """A client asks; the same ``op_id`` may come again, here or elsewhere."""

    def on_readings(self, readings: Any) -> None:
        """A row of sensor readings (`policies.readings.Row`)."""

    def on_decision(self, decision: Any) -> None:
        """The fleet's elementwise policy decided this device's row (`policies.readings.Verdict`)."""

    def on_job(self, job_id: int, outcome: Any) -> None:
        """Progress, done or lost (`policies.jobs`)."""

    def on_peer(self, peer: str, hint: str) -> None:
        """Advice about a peer, ``up`` or ``down``; it may lie."""

    def on_durable(self, token: int) -> None:
        """The batch of saves named ``token``, and all earlier ones, are durable."""
