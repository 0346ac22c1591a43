"""What happened around a failure: one column a node, one line an event, time running down."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from experiments.hunt.arena import Arena
from experiments.hunt.outcome import Outcome
from policies.port import NS_PER_S
from scenarios.trial import Trial
from sim.trace import FAULT, Event, input_text, said

KEPT = 4000
"""Events kept while a trial runs; the oldest are forgotten."""
NAMES_MAX = 8
"""Nodes up to which each has its column; of more, only those that did something."""


def replay(arena: Arena, trial: Trial) -> tuple[Outcome, list[Event]]:
    """Run a trial again and keep its last events."""
    events: deque[Event] = deque(maxlen=KEPT)
    return arena.run(trial, events.append), list(events)


def around(events: Sequence[Event], at_s: float, before: int, after: int) -> list[Event]:
    """Return the events around a moment."""
    first_after = next((k for k, event in enumerate(events) if event.now_ns / NS_PER_S > at_s), len(events))
    return list(events[max(0, first_after - before) : first_after + after])


def columns(events: Sequence[Event], names: Sequence[str], *, width: int = 100, broken_at_s: float = -1.0) -> str:
    """Return the events as text: a column a node with what reached it, and behind it what it did.

    The line ``=====`` stands where a promise broke.
    """
    if len(names) > NAMES_MAX:
        names = [name for name in names if any(event.node == name for event in events)]
    column = max(8, min(20, (width - 12) // max(1, len(names)) - 1))
    lines = [f"{'time s':>10}  " + " ".join(f"{name:<{column}}" for name in names)]
    rule = "=" * min(width, 12 + len(names) * (column + 1))
    marked = broken_at_s < 0
    for event in events:
        at_s = event.now_ns / NS_PER_S
        if not marked and at_s > broken_at_s:
            lines.append(rule)
            marked = True
        lines.append(_line(event, names, column, at_s, width))
    if not marked:
        lines.append(rule)
    return "\n".join(lines)


def _line(event: Event, names: Sequence[str], column: int, at_s: float, width: int) -> str:
    if event.given[0] == FAULT:
        return f"{at_s:10.4f}  ## {event.given[1]} {event.node}".rstrip()
    reached = input_text(event.given)[:column]
    cells = " ".join(f"{reached if name == event.node else '.':<{column}}" for name in names)
    did = "; ".join(said(event.effects))
    return f"{at_s:10.4f}  {cells} {did}".rstrip()[:width]
