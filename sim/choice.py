"""What goes into an exploration and what comes out: requests, decisions, properties, choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from policies.port import Input
from policies.wire import Message
from sim.trace import input_text

KINDS = ("deliver", "durable", "fire", "request", "restart", "crash", "duplicate", "drop")


class Decision(NamedTuple):
    """Something that a policy announced with ``port.decide``."""

    node: str
    path: str
    kind: str
    value: Any  # the message, of a class that the policy declares


class Request(NamedTuple):
    """A client's operation, which may come at any time, once."""

    node: str
    operation: Message
    client: str = "client"
    op_id: str = "1"
    path: str = ""


class Choice(NamedTuple):
    """One thing that happened, so that another driver can make it happen again."""

    kind: str  # one of `KINDS`
    node: str  # whose step it is; of a message, the receiver
    given: Input = ()  # the message, timer (its generation reads 0) or request
    kept: int = 0  # of a crash: saves that reached the disk unacknowledged, oldest first

    def __str__(self) -> str:
        what = input_text(self.given) if self.given else self.kind
        if self.kind in ("drop", "duplicate"):
            return f"-- {self.kind} {what} to {self.node}"
        return f"{self.node} {what}" + (f", keeping {self.kept} saves" if self.kept else "")


@dataclass(frozen=True)
class Safety:
    """A property of every state.

    Attributes:
        broken: given the policies of the nodes that are up (the one policy, or the policies by path; only to look at),
            and the memory, returns what is broken, or "".
        remember: folds a decision into the memory. The memory is part of the state, so the less it tells apart, the
            fewer states there are; it must be a value (never changed in place).
        empty: the memory before anything was decided.
    """

    broken: Callable[[Mapping[str, Any], Any], str]
    remember: Callable[[Any, Decision], Any] = lambda memory, decision: memory
    empty: Any = None
