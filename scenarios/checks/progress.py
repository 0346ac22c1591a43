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
from scenarios.checks.bounds import Holding, held
from scenarios.checks.consensus import CHOSEN, ELECTED
from scenarios.checks.language import Check, Ends, Event, Look, StateCheck, Topic, told
from scenarios.checks.logs import PROPOSED, members

HEALED = told("healed")
"""The faults are over."""
SENT = told("sent")
"""How many messages correct members have sent to one another by now; told when they are over, and at the end."""


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
    """A member never holds more than so much of anything that others make it hold (L5).

    Args:
        holding: what a member holds, with the bounds.
        every: asked at one of so many looks: what has piled up is still there at the next.
    """

    def __init__(self, holding: Holding = held, every: int = 5) -> None:
        super().__init__("memory_is_bounded")
        self.holding, self.every = holding, every

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, member in members(nodes, policy):
            for what, amount, limit in self.holding(member):
                if amount > limit:
                    return f"{node} holds {amount} {what}, at most {limit}"
        return ""


class MessagesPerDecision(Check):
    """After the faults correct members send one another at most so many messages, whatever a liar says (L5).

    Args:
        each: for each place that is decided.
        per_s: for each second, decided or not.
    """

    family = "liveness"

    def __init__(self, each: float, per_s: float) -> None:
        super().__init__("messages_per_decision", SENT, CHOSEN)
        self.each, self.per_s = each, per_s
        self.last = 0  # place
        self.begun: tuple[int, int, int] | None = None  # when the faults ended: time, messages, places

    def take(self, event: Event) -> str:
        if event.kind == CHOSEN.kind:
            self.last = max(self.last, event.value.index)
            return ""
        if self.begun is None:
            self.begun = event.now_ns, event.value, self.last
            return ""
        since_ns, sent, last = self.begun
        took_s, said, decided = (event.now_ns - since_ns) / NS_PER_S, event.value - sent, self.last - last
        most = self.each * decided + self.per_s * took_s
        return f"{said} messages for {decided} decisions in {took_s:g} s, at most {most:.0f}" if said > most else ""
