"""Promises about members' logs, looked at from outside: what is chosen was asked for, logs match, commits are durable.

A member shows ``term``, ``commit`` and ``applied``; one that keeps a log shows ``log`` as well, with ``start`` (what a
snapshot holds), ``last``, ``entry(index)``, a (term, command), and ``entries`` from ``start + 1`` on, and ``durable``,
the last index that its disk holds.
What a protocol does not show is not asked. Numbers S1 to S19 are those of the catalogue of properties in
`docs/consensus_checks.md`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any
from zlib import crc32

from scenarios.checks.consensus import CHOSEN
from scenarios.checks.language import Check, Event, Look, StateCheck, told

PROPOSED = told("proposed")
"""A client gave a command; the value is the command."""


class OnlyWhatWasAskedFor(Check):
    """What is chosen was asked for by somebody; a protocol's own commands are empty (S2)."""

    def __init__(self) -> None:
        super().__init__("only_what_was_asked_for", PROPOSED, CHOSEN)
        self.asked = {crc32(b"")}

    def take(self, event: Event) -> str:
        if event.kind == PROPOSED.kind:
            self.asked.add(crc32(event.value))
            return ""
        chosen = event.value
        return "" if chosen.checksum in self.asked else f"{event.node} commits {chosen}, which nobody asked for"


def members(nodes: Collection[str], policy: Look) -> Iterator[tuple[str, Any]]:
    """Yield the members that are up, by name."""
    for node in nodes:
        found: Any = policy(node, "consensus")
        if found is not None and hasattr(found, "commit"):
            yield node, found


class LogsMatch(StateCheck):
    """Two logs with an entry of one index and term hold the same command there, and the same entries before it (S6).

    It is enough that such entries are equal and that the terms before them are: the rest follows index by index. What a
    member committed it is not asked again; the rest is, as a log changes at its end.

    Args:
        every: asked at one of so many looks: entries that differ stay, unless a later leader cuts them.
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__("logs_match")
        self.every = every
        self.first: dict[tuple[int, int], tuple[str, int, bytes]] = {}  # (index, term) to (node, term before, command)
        self.known: list[Any] = []  # a whole log that was compared: who holds the same has nothing new
        self.seen: dict[str, int] = {}  # node to the committed index up to which its entries were compared

    def restarted(self, node: str) -> None:
        self.seen.pop(node, None)

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, member in members(nodes, policy):
            if hasattr(member, "log"):
                why = self._compare(node, member)
                if why:
                    return why
        return ""

    def _compare(self, node: str, member: Any) -> str:
        log = member.log
        start, last = log.start, log.last
        begin = self.seen.get(node, 0)
        if not start < begin <= last:  # a log that was cut is for others to judge
            begin = start + 1 if begin <= start else max(start + 1, last)
        self.seen[node] = member.commit
        if log.entries[begin - start - 1 :] == self.known[begin - 1 : last]:
            return ""
        before = None
        for index in range(begin, last + 1):
            term, command = log.entry(index)
            if before is not None:
                first, *held = self.first.setdefault((index, term), (node, before, command))
                if held != [before, command]:
                    return f"{node} and {first} hold different logs up to index {index}, term {term}"
            before = term
        self.known = [None] * start + log.entries
        return ""


class CommittedIsDurable(StateCheck):
    """What some member knows to be committed is on the disks of a majority, as far as those are up that hold it (S8).

    The last such entry speaks for those before it, as far as `LogsMatch` holds.

    Args:
        voters: who has a vote, all through the run.
    """

    def __init__(self, voters: Collection[str]) -> None:
        super().__init__("committed_is_durable")
        self.voters = tuple(voters)
        self.asked = 0  # the highest index asked about

    def look(self, nodes: Collection[str], policy: Look) -> str:
        up = [(node, member) for node, member in members(self.voters, policy) if hasattr(member, "durable")]
        index, most = self.asked, None
        for node, member in up:
            if member.commit > index:
                index, most, who = member.commit, member, node
        if most is None:
            return ""
        self.asked, index = index, min(index, most.log.last)
        if index > most.log.start:
            entry = most.log.entry(index)
            lack = [name for name, member in up if not _holds(member, index, entry)]
            if 2 * (len(self.voters) - len(lack)) <= len(self.voters):
                return f"{who} knows index {index} committed, and {', '.join(lack)} do not hold it durably"
        return ""


def _holds(member: Any, index: int, entry: tuple[int, bytes]) -> bool:
    if index <= member.log.start:
        return True  # its snapshot does
    return bool(index <= min(member.durable, member.log.last) and member.log.entry(index) == entry)


class StateInOrder(StateCheck):
    """A member's snapshot is not past what it applied, that not past what it knows committed, that not past its log,
    and none of term, commit and applied falls in a life (S10, S11)."""

    def __init__(self) -> None:
        super().__init__("state_in_order")
        self.seen: dict[str, tuple[int, int, int]] = {}

    def restarted(self, node: str) -> None:
        self.seen.pop(node, None)

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, member in members(nodes, policy):
            log = getattr(member, "log", None)
            term, commit, applied = now = member.term, member.commit, member.applied
            start, last = (0, commit) if log is None else (log.start, log.last)
            if not start <= applied <= commit <= last:
                return f"{node}: snapshot {start}, applied {applied}, commit {commit}, last {last}"
            before = self.seen.get(node, now)
            if term < before[0] or commit < before[1] or applied < before[2]:
                return f"{node} was at (term, commit, applied) {before} and is at {now}"
            self.seen[node] = now
        return ""


def safety(voters: Collection[str], every: int = 1) -> tuple[Check, ...]:
    """Return what is promised of logs, as far as a protocol shows one, and of every member's numbers.

    Args:
        voters: who has a vote, all through the run.
        every: as in `LogsMatch`.
    """
    return LogsMatch(every), CommittedIsDurable(voters), StateInOrder()
