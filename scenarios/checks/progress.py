"""Liveness of agreement: what comes about once the faults have stopped. Numbers are those of
`docs/consensus_checks.md`.

All hear ``healed``, and owe nothing before it. A bound is a bound: where it is missed the run says so, and whoever set
it knows whether it was too tight (for false alarms of such bounds see arXiv 2310.09006).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import Any
from zlib import crc32

from policies.port import NS_PER_S
from scenarios.checks.byzantine import SAID
from scenarios.checks.consensus import CHOSEN, ELECTED
from scenarios.checks.language import Check, Ends, Event, Look, StateCheck, Topic, told
from scenarios.checks.logs import PROPOSED, members

HEALED, RECONFIGURED = told("healed"), told("reconfigured")
"""The faults are over; somebody asked for other members, the value names them."""


class DecidesWithinViews(Check):
    """Something is decided before ``views`` more views have begun (L1)."""

    family = "liveness"

    def __init__(self, views: int) -> None:
        super().__init__("decides_within_views", HEALED, ELECTED, CHOSEN)
        self.views, self.last, self.base, self.owes = views, 0, 0, False

    def take(self, event: Event) -> str:
        if event.kind == HEALED.kind:
            self.base, self.owes = self.last, True
        elif event.kind == CHOSEN.kind:
            self.owes = False
        else:
            self.last = max(self.last, event.value.term)
            if self.owes and self.last > self.base + self.views:
                return f"{self.last - self.base} views have begun since the faults, and nothing was decided"
        return ""

    def end(self) -> str:
        return "nothing was decided after the faults" if self.owes else ""


def proposals_are_chosen() -> Ends:
    """Every command that somebody asked for is chosen by the end (L2)."""

    def key(event: Event) -> int:
        return crc32(event.value) if event.kind == PROPOSED.kind else event.value.checksum

    return Ends("proposals_are_chosen", PROPOSED, CHOSEN, key=key, says="was not chosen")


class EndsWithin(Ends):
    """Whatever begins after the faults ends within a time, whoever leads (L6: a faulty leader starves nobody)."""

    def __init__(self, name: str, begins: Topic, *ends: Topic, key: Callable[[Event], Any], within_s: float) -> None:
        super().__init__(name, begins, *ends, key=key)
        self.within_ns = int(within_s * NS_PER_S)

    def take(self, event: Event) -> str:
        begun = self.open.get(self.key(event))
        super().take(event)
        ended = begun is not None and self.key(event) not in self.open
        if begun is None or not ended or event.now_ns - begun.now_ns <= self.within_ns:
            return ""
        took_s, allowed_s = (event.now_ns - begun.now_ns) / NS_PER_S, self.within_ns / NS_PER_S
        return f"{self.key(event)} took {took_s:g} s, at most {allowed_s:g} s are allowed"


class AtTheEnd(StateCheck):
    """A promise about the states that were last looked at, after the faults."""

    family = "liveness"

    def __init__(self, name: str, *topics: Topic) -> None:
        super().__init__(name, HEALED, *topics)
        self.healed, self.wrong = False, ""

    def take(self, event: Event) -> str:
        self.healed = self.healed or event.kind == HEALED.kind
        return ""

    def look(self, nodes: Collection[str], policy: Look) -> str:
        if self.healed:
            self.wrong = self.lacks(dict(members(nodes, policy)))
        return ""

    @abstractmethod
    def lacks(self, found: dict[str, Any]) -> str:
        """Return what is still missing in these members' states, or ""."""

    def end(self) -> str:
        return self.wrong


class ViewsConverge(AtTheEnd):
    """Members that are up are in one term, or on the step to the next (L3)."""

    def __init__(self) -> None:
        super().__init__("views_converge")

    def lacks(self, found: dict[str, Any]) -> str:
        terms = {node: member.term for node, member in found.items()}
        return f"members are in terms {terms}" if terms and max(terms.values()) > min(terms.values()) + 1 else ""


class EverybodyCatchesUp(AtTheEnd):
    """All members that are up have applied what any of them knew committed when the faults stopped (L4).

    A member that still writes what it was sent owes nothing: a disk that was slow has a backlog when it no longer is.
    """

    def __init__(self) -> None:
        super().__init__("everybody_catches_up")
        self.goal = -1

    def lacks(self, found: dict[str, Any]) -> str:
        if self.goal < 0:
            self.goal = max((member.commit for member in found.values()), default=-1)
        behind = {
            node: member.applied for node, member in found.items() if member.applied < self.goal and not _writes(member)
        }
        return f"{behind} are behind index {self.goal}, committed before the faults stopped" if behind else ""


def _writes(member: Any) -> bool:
    """Whether a member that shows its log and its disk has entries on their way there."""
    return hasattr(member, "durable") and member.durable < member.log.last


class Bounded(StateCheck):
    """A member never holds more than so much (L5).

    Args:
        what: it is.
        amount: of it in a member.
        limit: the bound.
    """

    def __init__(self, what: str, amount: Callable[[Any], int], limit: int) -> None:
        super().__init__(f"bounded_{what}")
        self.what, self.amount, self.limit = what, amount, limit

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, member in members(nodes, policy):
            held = self.amount(member)
            if held > self.limit:
                return f"{node} holds {held} {self.what}, at most {self.limit}"
        return ""


class MessagesPerDecision(Check):
    """Correct members send at most so many messages for each place that is decided, over the whole run (L5)."""

    def __init__(self, limit: float) -> None:
        super().__init__("messages_per_decision", SAID, CHOSEN)
        self.limit, self.sent, self.decided = limit, 0, 0

    def take(self, event: Event) -> str:
        if event.kind == SAID.kind:
            self.sent += 1
        else:
            self.decided = max(self.decided, event.value.index)
        return ""

    def end(self) -> str:
        each = self.sent / max(1, self.decided)
        return (
            f"{each:.0f} messages for each of {self.decided} decisions, at most {self.limit:g}"
            if each > self.limit
            else ""
        )


class ReconfigurationEnds(AtTheEnd):
    """What members were asked for last is what those of them that are up have (L7).

    Args:
        members_of: the members that a member knows.
    """

    def __init__(self, members_of: Callable[[Any], Collection[str]]) -> None:
        super().__init__("reconfiguration_ends", RECONFIGURED)
        self.members_of, self.wanted = members_of, frozenset[str]()

    def take(self, event: Event) -> str:
        if event.kind == RECONFIGURED.kind:
            self.wanted = frozenset(event.value)
        return super().take(event)

    def lacks(self, found: dict[str, Any]) -> str:
        for node, member in found.items():
            has = frozenset(self.members_of(member))
            if self.wanted and node in self.wanted and has != self.wanted:
                return f"{node} has members {sorted(has)}, asked for were {sorted(self.wanted)}"
        return ""
