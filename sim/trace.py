"""The trace: what happened in a cluster, one line an event, with a column of marks a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.port import NS_PER_S, Effect, Input, Policy
from policies.wire import Codec, WireError
from scenarios.adversaries.wrapped import Steps

FAULT = -1
"""Kind of an event that is no step: its input is ``(FAULT, what)``."""


class Event(NamedTuple):
    """One step, or a fault, as the trace shows it."""

    now_ns: int
    node: str
    given: Input
    effects: tuple[Effect, ...]
    up: str  # one mark a node, in order


def line(event: Event) -> str:
    """Return the event's line: time, a mark a node, the node and its input, and what left it."""
    head = f"{event.now_ns / NS_PER_S:10.4f} s  {event.up}  "
    if event.given[0] == FAULT:
        return f"{head}-- {event.given[1]} {event.node}".rstrip()
    done = ", ".join(said(event.effects))
    return f"{head}{event.node} {input_text(event.given)}" + (f" -> {done}" if done else "")


def decoded(policy: Policy, payload: bytes) -> Any:
    """Return the message that ``policy`` announced, or its plain list if the policy does not declare its class."""
    try:
        return Codec((*policy.messages, *policy.requests)).decode(payload)
    except (WireError, TypeError):  # TypeError: messages and requests that share a tag
        return msgspec.msgpack.decode(payload)


def input_text(given: Input) -> str:
    """Return what a node was given, in a few words."""
    kind, path = given[0], given[1]
    at = f" [{path}]" if path else ""
    if kind == p.START:
        return f"start (life {given[3]}, {len(given[2])} keys)"
    if kind == p.MESSAGE:
        return f"{_text(given[3])} from {given[2]}{at}"
    if kind == p.REQUEST:
        return f"request {_text(given[4])} from {given[2]}{at}"
    rest = f" {given[2]}" if kind in (p.TIMER, p.DURABLE, p.PEER) else ""
    return f"{p.INPUT_NAMES[kind]}{rest}{at}"


def said(effects: tuple[Effect, ...]) -> list[str]:
    """Return what to say of each effect; sends of one message to several nodes become one."""
    sends: dict[str, list[str]] = {}
    texts: list[str] = []
    for effect in effects:
        kind = effect[0]
        if kind == p.SEND:
            sends.setdefault(_text(effect[3]), []).append(effect[2])
        elif kind == p.SAVE:
            texts.append("save " + " ".join(key.rpartition("/")[2] for key, _ in effect[3]))
        elif kind == p.DECIDE:
            texts.append(f"decide {effect[2]} {_text(effect[3])}")
        elif kind == p.REPLY:
            texts.append(f"reply {_text(effect[4])} to {effect[2]}")
        elif kind == p.NOTE:
            texts.append(f"note {effect[2]}")
        elif kind not in (p.SET_TIMER, p.CANCEL_TIMER):
            texts.append(p.EFFECT_NAMES[kind])
    return texts + [f"{text} to {' '.join(to)}" for text, to in sends.items()]


def _text(payload: bytes) -> str:
    plain = msgspec.msgpack.decode(payload)
    if isinstance(plain, list) and plain and isinstance(plain[0], str):
        return f"{plain[0]}({', '.join(map(repr, plain[1:]))})"
    return repr(plain)


class Traced:
    """A Cell, or one among adversaries, whose steps are reported: who, when, what came in, and what left."""

    def __init__(self, seen: Callable[[str, int, Input, tuple[Effect, ...]], None], name: str, inside: Steps) -> None:
        self._seen, self._name, self._inside, self.crypto_ops = seen, name, inside, 0

    @property
    def cell(self) -> Cell:
        """The Cell within."""
        return innermost(self._inside)

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input."""
        effects = self._inside.step(now, wall, given)
        self.crypto_ops, self._inside.crypto_ops = self._inside.crypto_ops, 0
        self._seen(self._name, now, given, effects)
        return effects


def innermost(steps: Any) -> Cell:
    """Return the Cell inside whatever stands around it."""
    while not isinstance(steps, Cell):
        steps = steps.cell if isinstance(steps, Traced) else steps.innermost
    return steps
