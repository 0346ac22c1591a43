"""Promises of the transports, asked of everything that nodes announced, in order of time.

Each returns "" while it is kept, else one line that names the first event that broke it. The safety promises hold of
every prefix of a run; those that end in ``_at_the_end`` are asked after the faults have stopped for long enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from policies.transport.messages import (
    ANNOUNCED,
    EVERYONE,
    Accepted,
    Acknowledged,
    Dead,
    Delivered,
    Heard,
    Result,
    Routed,
    Tried,
)


class Decided(Protocol):
    """One announcement: when, by which node, from which path, and what (a message, or its plain list)."""

    @property
    def time_s(self) -> float:
        """Time since the start."""
        ...

    @property
    def node(self) -> str:
        """Who announced it."""
        ...

    @property
    def path(self) -> str:
        """Which of its policies did."""
        ...

    @property
    def value(self) -> Any:
        """What was announced."""
        ...


Events = Sequence[Decided]
M = TypeVar("M")


def announced(events: Iterable[Decided], kind: type[M], path: str) -> Iterator[tuple[Decided, M]]:
    """Yield the events of one class that the policies at ``path`` announced, each with its message."""
    for event in events:
        if event.path == path:
            value = msgspec.convert(event.value, ANNOUNCED)
            if isinstance(value, kind):
                yield event, value


def nothing_accepted_is_lost_at_the_end(events: Events, path: str = "") -> str:
    """Every accepted letter was delivered, or its origin announced with a reason that it gave it up."""
    ended = {value.letter for _, value in announced(events, Delivered, path)}
    ended |= {value.letter for _, value in announced(events, Dead, path) if value.reason}
    for event, value in announced(events, Accepted, path):
        if value.letter not in ended:
            return f"t={event.time_s:g}s: {event.node} accepted {value.letter}, which neither arrived nor was given up"
    return ""


def nothing_is_delivered_twice(events: Events, path: str = "") -> str:
    """A node announces a letter's delivery once; after a restart it may say it ``again``, and marks it so."""
    seen: set[tuple[str, str]] = set()
    for event, value in announced(events, Delivered, path):
        if not value.again:
            if (event.node, value.letter) in seen:
                return f"t={event.time_s:g}s: {event.node} delivers {value.letter} a second time"
            seen.add((event.node, value.letter))
    return ""


def acknowledged_is_delivered(events: Events, path: str = "") -> str:
    """Whoever says that a letter is acknowledged says so after its destination announced the delivery."""
    delivered = {value.letter: event.time_s for event, value in reversed([*announced(events, Delivered, path)])}
    for event, value in announced(events, Acknowledged, path):
        if not delivered.get(value.letter, float("inf")) <= event.time_s:
            return f"t={event.time_s:g}s: {event.node} takes {value.letter} for delivered, which it is not"
    return ""


def acknowledged_is_delivered_at_the_end(events: Events, path: str = "") -> str:
    """Every acknowledged letter is delivered in the end; for a bus, whose transports acknowledge before it has it."""
    delivered = {value.letter for _, value in announced(events, Delivered, path)}
    for event, value in announced(events, Acknowledged, path):
        if value.letter not in delivered:
            return f"t={event.time_s:g}s: {event.node} takes {value.letter} for delivered, which it never is"
    return ""


def tries_back_off(events: Events, first_s: float, max_s: float, tries: int, path: str = "") -> str:
    """A letter's k-th try is followed by ``first_s`` x 2^(k-1) of patience, ``max_s`` at most; there are ``tries``."""
    last: dict[str, tuple[int, float]] = {}
    for event, value in announced(events, Tried, path):
        before, at_s = last.get(value.letter, (0, float("-inf")))
        wait_s = min(first_s * 2.0 ** (before - 1), max_s) - 1e-9  # announced times are rounded to their float
        if value.tries != before + 1 or value.tries > tries:
            return f"t={event.time_s:g}s: {event.node} counts try {value.tries} of {value.letter} after {before}"
        if event.time_s - at_s < wait_s:
            return f"t={event.time_s:g}s: {event.node} tries {value.letter} again after {event.time_s - at_s:g} s"
        last[value.letter] = (value.tries, event.time_s)
    return ""


def everyone_hears_at_the_end(events: Events, nodes: Collection[str], path: str = "") -> str:
    """Every accepted broadcast was delivered at every other node."""
    heard: dict[str, set[str]] = {}
    for event, value in announced(events, Delivered, path):
        heard.setdefault(value.letter, {event.node}).add(event.node)
    for event, accepted in announced(events, Accepted, path):
        deaf = sorted(set(nodes) - {event.node} - heard.get(accepted.letter, set()))
        if accepted.to == EVERYONE and deaf:
            return f"t={event.time_s:g}s: {accepted.letter} was never heard by {len(deaf)} nodes, {deaf[0]} among them"
    return ""


def delivered_in_time(events: Events, within_s: float, until_s: float, path: str = "") -> str:
    """Every letter accepted by ``until_s - within_s`` was delivered ``within_s`` later at most."""
    delivered = {value.letter: event.time_s for event, value in reversed([*announced(events, Delivered, path)])}
    for event, accepted in announced(events, Accepted, path):
        due_s = event.time_s + within_s
        if due_s <= until_s and delivered.get(accepted.letter, float("inf")) > due_s:
            return f"t={due_s:g}s: {accepted.letter} has not arrived {within_s:g} s after {event.node} accepted it"
    return ""


def no_letter_goes_too_far(events: Events, hops_max: int, path: str = "") -> str:
    """A letter makes ``hops_max`` hops at most, counted from who gave it to whom and not by what copies say."""
    hops: dict[tuple[str, str], int] = {}
    for event, value in announced(events, Heard, path):
        origin = value.letter.partition(">")[0]
        made = 1 + (0 if value.via == origin else hops[value.letter, value.via])
        hops[value.letter, event.node] = min(made, hops.get((value.letter, event.node), made))
        if made > hops_max:
            return f"t={event.time_s:g}s: {value.letter} reaches {event.node} on its hop {made}"
    return ""


def an_open_breaker_rests(events: Events, failures: int, open_s: float, path: str = "bus") -> str:
    """After ``failures`` negative results in a row a transport gets nothing for that destination for ``open_s``."""
    row: dict[tuple[str, str, str], int] = {}
    open_until: dict[tuple[str, str, str], float] = {}
    for event in events:
        if event.path != path:
            continue
        value = msgspec.convert(event.value, ANNOUNCED)
        if isinstance(value, Result):
            key = (event.node, value.transport, value.to)
            row[key] = 0 if value.ok else row.get(key, 0) + 1
            if row[key] >= failures:
                open_until.setdefault(key, event.time_s + open_s)
        elif isinstance(value, Routed):
            key = (event.node, value.transport, value.to)
            if event.time_s < open_until.pop(key, float("-inf")):
                return f"t={event.time_s:g}s: {event.node} gives {value.letter} to {value.transport}, which has failed"
    return ""
