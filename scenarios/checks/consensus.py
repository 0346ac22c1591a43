"""Promises of consensus by a replicated log: those of figure 3 of Ongaro and Ousterhout (2014), and what is rare."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from zlib import crc32

from policies.consensus.messages import Chosen, Elected, Restored
from scenarios.checks.language import Check, Event, Happens, InOrder, Look, Same, Sometimes, StateCheck, decided, told

ELECTED = decided("consensus", "leader", Elected)
CHOSEN = decided("consensus", "commit", Chosen)
RESTORED = decided("consensus", "restore", Restored)


def one_leader_per_term() -> Same:
    """At most one node leads a term."""
    return Same(
        "one_leader_per_term", ELECTED, key=lambda e: e.value.term, value=lambda e: e.node,
        says=lambda e, first: f"{e.node} leads term {e.value.term}, as {first} did",
    )  # fmt: skip


class CommittedEntriesAgree(Check):
    """No two nodes commit different entries at one index, and none commits another one later."""

    def __init__(self) -> None:
        super().__init__("committed_entries_agree", CHOSEN)
        self.first: dict[int, Chosen] = {}

    def take(self, event: Event) -> str:
        chosen = event.value
        first = self.first.setdefault(chosen.index, chosen)
        if first.term == chosen.term and first.checksum == chosen.checksum:
            return ""
        now, then = (chosen.term, chosen.checksum), (first.term, first.checksum)
        return f"{event.node} commits {now} at index {chosen.index}, another committed {then}"


def committed_entries_agree() -> CommittedEntriesAgree:
    """No two nodes commit different entries at one index, and none commits another one later."""
    return CommittedEntriesAgree()


class CommitsInOrder(InOrder):
    """A node commits one index after another; a snapshot that it takes over goes on where it ends, and never back."""

    def __init__(self) -> None:
        super().__init__(
            "commits_in_order", CHOSEN, RESTORED, number=lambda e: int(e.value.index), says="commits index"
        )  # fmt: skip

    def take(self, event: Event) -> str:
        node, index = event.node, event.value.index
        last = self.last.get(node, 0)
        self.last[node] = index
        if event.kind == CHOSEN.kind:
            return f"{node} {self.says} {index} after {last}" if index != last + 1 else ""
        return f"{node} goes back to a snapshot of index {index} after {last}" if index < last else ""


def commits_in_order() -> InOrder:
    """A node commits one index after another."""
    return CommitsInOrder()


class CommittedStays(StateCheck):
    """What a member has committed stays in its log, terms and commits only grow, and a leader holds all that is chosen.

    Entries are compared as they are committed, and the last one again at every look. What a member's snapshot holds is
    not looked at: it was when it was committed, there or where the snapshot was made.
    """

    def __init__(self) -> None:
        super().__init__("committed_stays")
        self.chosen: list[Any] = [None]  # entries by index; what only snapshots held when it was looked at is not known
        self.known_in: dict[int, int] = {}  # term of the member that was first seen with it: no earlier than the choice
        self.last = 0  # the highest index that was seen chosen
        self.seen: dict[str, tuple[int, int]] = {}  # node to (term, commit) when last looked at

    def restarted(self, node: str) -> None:
        self.seen.pop(node, None)  # a term that was not durable yet is forgotten, and a commit index found again

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node in nodes:
            raft: Any = policy(node, "consensus")
            if raft is None or not hasattr(raft, "log"):  # a log of entries; blocks are judged by what is decided
                continue
            why = self._member(node, raft)
            if why:
                return why
        return ""

    def _member(self, node: str, raft: Any) -> str:
        term, commit = self.seen.get(node, (0, 0))
        log = raft.log
        if raft.term < term or raft.commit < commit or raft.commit > log.last:
            return f"{node} was at term {term}, commit {commit}; is at {raft.term}, {raft.commit} of {log.last}"
        self.seen[node] = (raft.term, raft.commit)
        first = max(log.start + 1, commit)
        held = log.entries[first - log.start - 1 : raft.commit - log.start]
        if held != self.chosen[first : raft.commit + 1]:
            why = self._choose(node, raft.term, first, held)
            if why:
                return why
        last = self.last
        # A leader of an older term, paused or cut off, owes nothing to what was chosen after it.
        owes = raft.role == "leader" and last > log.start and raft.term > self.known_in[last]
        if owes and (last > log.last or self.chosen[last] != log.entry(last)):
            return f"{node} leads term {raft.term} without committed index {last}"
        return ""

    def _choose(self, node: str, term: int, first: int, held: list[Any]) -> str:
        """Take in committed entries from index ``first`` on."""
        self.chosen += [None] * (first + len(held) - len(self.chosen))
        for index, entry in enumerate(held, first):
            chosen = self.chosen[index]
            if chosen is None:
                self.chosen[index], self.known_in[index] = entry, term
                self.last = max(self.last, index)
            elif chosen != entry:
                return f"{node} holds {_short(entry)} at committed index {index}, {_short(chosen)} was chosen"
        return ""


def _short(entry: tuple[int, bytes]) -> tuple[int, int]:
    """Return term and checksum, as announcements have them."""
    return entry[0], crc32(entry[1])


def commits_after_healing() -> Happens:
    """Once the faults have stopped, the committee commits again."""
    return Happens(
        "commits_after_healing", CHOSEN, after=told("healed"), says="after the faults an entry was committed"
    )


def safety() -> tuple[Check, ...]:
    """Return what no fault may break."""
    return one_leader_per_term(), committed_entries_agree(), commits_in_order(), CommittedStays()


def rare() -> tuple[Check, ...]:
    """Return what a campaign must have seen."""
    return (
        Sometimes("another_leader", ELECTED, when=lambda e: e.value.term > 1),
        Sometimes("a_leader_crashed", told("leader_down"), when=lambda e: True),
        Sometimes("a_crash_with_writes_in_flight", told("writes_lost"), when=lambda e: True),
    )
