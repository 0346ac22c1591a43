"""Promises about members' logs, looked at from outside: what is chosen was asked for, logs match, commits are durable.

A member shows ``term``, ``commit`` and ``applied``; one that keeps a log shows ``log`` as well, with ``start`` (what a
snapshot holds), ``last``, and ``entry(index)``, a (term, command), and ``durable``, the last index that its disk holds.
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

    It is enough that such entries are equal and that the terms before them are: the rest follows index by index.
    """

    def __init__(self) -> None:
        super().__init__("logs_match")
        self.first: dict[tuple[int, int], tuple[str, int, int]] = {}  # (index, term) to (node, term before, checksum)
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
        begin = min(max(log.start, self.seen.get(node, 0)), log.last) + 1  # a log that was cut is for others to judge
        before = log.entry(begin - 1)[0] if begin - 1 > log.start else None
        for index in range(begin, log.last + 1):
            term, command = log.entry(index)
            if before is not None:
                first, *held = self.first.setdefault((index, term), (node, before, crc32(command)))
                if held != [before, crc32(command)]:
                    return f"{node} and {first} hold different logs up to index {index}, term {term}"
            before = term
        self.seen[node] = min(member.commit, log.last)
        return ""


class CommittedIsDurable(StateCheck):
    """What some member knows to be committed is on the disks of a majority, as far as those are up that hold it (S8).

    Args:
        voters: who has a vote, all through the run.
    """

    def __init__(self, voters: Collection[str]) -> None:
        super().__init__("committed_is_durable")
        self.voters = tuple(voters)
        self.asked = 0  # the highest index asked about

    def look(self, nodes: Collection[str], policy: Look) -> str:
        up = {node: member for node, member in members(self.voters, policy) if hasattr(member, "durable")}
        if not up:
            return ""
        node, most = max(up.items(), key=lambda item: int(item[1].commit))
        for index in range(max(self.asked, most.log.start) + 1, min(most.commit, most.log.last) + 1):
            entry = most.log.entry(index)
            lack = [name for name, member in up.items() if not _holds(member, index, entry)]
            if 2 * (len(self.voters) - len(lack)) <= len(self.voters):
                return f"{node} knows index {index} committed, and {', '.join(lack)} do not hold it durably"
        self.asked = max(self.asked, most.commit)
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
            start, last = (0, member.commit) if log is None else (log.start, log.last)
            if not start <= member.applied <= member.commit <= last:
                return f"{node}: snapshot {start}, applied {member.applied}, commit {member.commit}, last {last}"
            now, before = (member.term, member.commit, member.applied), self.seen.get(node, (0, 0, 0))
            if any(new < old for new, old in zip(now, before, strict=True)):
                return f"{node} was at (term, commit, applied) {before} and is at {now}"
            self.seen[node] = now
        return ""


def safety(voters: Collection[str]) -> tuple[Check, ...]:
    """Return what is promised of logs, as far as a protocol shows one, and of every member's numbers."""
    return LogsMatch(), CommittedIsDurable(voters), StateInOrder()
