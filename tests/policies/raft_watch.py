"""What must always hold of Raft, asked after every step: the properties of figure 3 of Ongaro and Ousterhout (2014)
and of what a crash may not undo. `Watched` stands around a Cell in any driver; `Watch` sees the whole cluster.
"""

from __future__ import annotations

from typing import Any, Union

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.consensus.quorum import vote_result
from policies.consensus.raft import Raft
from policies.consensus.raft.configurations import MARK
from policies.consensus.raft.log import Entry, Log
from policies.consensus.raft.messages import MESSAGES, RequestVote, Vote
from policies.consensus.raft.progress import SNAPSHOT, Progress
from policies.consensus.raft.state import Saved
from policies.port import Effect, Input

_any: Any = Union[MESSAGES]  # noqa: UP007  (built at run time)
message: Any = msgspec.msgpack.Decoder(_any).decode
_entry = msgspec.msgpack.Decoder(tuple[int, bytes]).decode
_snapshot = msgspec.msgpack.Decoder(Saved).decode


class Broken(AssertionError):
    """A safety property does not hold; the first words name it."""


class Watch:
    """Sees every step of every member.

    Attributes:
        proposed: commands that clients gave.
        chosen: index to the entry that some member committed there.
        leaders: term to the member that won it.
        votes: (voter, term) to the candidate that heard of a vote.
        seen: names of the rare states that happened.
    """

    def __init__(self, members: tuple[str, ...], *, log_matching_every: int = 1) -> None:
        self.members = members
        self.every, self.steps = log_matching_every, 0
        self.cells: dict[str, Watched] = {}
        self.proposed: set[bytes] = {b""}
        self.chosen: dict[int, Entry] = {}
        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[str, int], str] = {}
        self.seen: set[str] = set()

    def after(self, one: Watched, effects: tuple[Effect, ...]) -> None:
        """Ask everything that this step may have changed.

        Raises:
            Broken: a property does not hold.
        """
        raft, name = one.raft, one.cell.me
        term, commit = one.last
        if raft.term < term or raft.commit < commit or raft.applied > raft.commit or raft.commit > raft.log.last:
            raise Broken(f"monotone: {name} was at term {term}, commit {commit}; is at {raft.term}, {raft.commit}")
        self._votes(name, effects)
        self._leader(name, raft)
        self._progress(one, raft)
        self._committed(name, raft, commit)
        one.last = (raft.term, raft.commit)
        self.steps += 1
        if self.steps % self.every == 0:
            self.log_matching()

    def _votes(self, name: str, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if effect[0] != p.SEND:
                continue
            said = message(effect[3])
            if isinstance(said, RequestVote):
                candidate = name
            elif isinstance(said, Vote) and said.granted:
                candidate = effect[2]
            else:
                continue
            if self.votes.setdefault((name, said.term), candidate) != candidate:
                raise Broken(f"one vote a term: {name} voted for {candidate} in term {said.term} as well")

    def _leader(self, name: str, raft: Raft) -> None:
        if raft.role != "leader":
            return
        if raft.term not in self.leaders:
            self.leaders[raft.term] = name
            if len(self.leaders) > 1:
                self.seen.add("leader changed")
            for index, entry in self.chosen.items():
                if index > raft.log.last or _held(raft, index) not in (None, entry):
                    raise Broken(f"leader completeness: {name} leads term {raft.term} without committed {index}")
        elif self.leaders[raft.term] != name:
            raise Broken(f"election safety: {name} and {self.leaders[raft.term]} lead term {raft.term}")

    def _progress(self, one: Watched, raft: Raft) -> None:
        """What a leader knows a peer to hold only grows in a term, and it goes on sending behind that."""
        for peer, progress in raft.progress.items():
            known, held = one.believed.get(peer, (None, 0))
            if known is progress and progress.match < held:
                raise Broken(f"monotone: {one.cell.me} knew {peer} to hold {held}, and now {progress.match}")
            if progress.next <= progress.match and progress.state != SNAPSHOT:
                raise Broken(f"monotone: {peer} holds {progress.match}, and is sent {progress.next} next")
            one.believed[peer] = (progress, progress.match)

    def _committed(self, name: str, raft: Raft, before: int) -> None:
        if before and _held(raft, before) not in (None, self.chosen[before]):
            raise Broken(f"immutable: {name} lost its committed entry {before}")
        if raft.log.start > before:
            self.seen.add("snapshot installed")
        for index in range(max(before, raft.log.start) + 1, raft.commit + 1):
            entry = raft.log.entry(index)
            if entry[1] not in self.proposed and not entry[1].startswith(MARK):
                raise Broken(f"validity: {name} committed {entry[1]!r}, which nobody proposed")
            if index not in self.chosen:
                self.chosen[index] = entry
                holders = [m for m, other in self.cells.items() if other.holds(index, entry)]
                if vote_result(raft.configurations.current.voters, dict.fromkeys(holders, True)) != "won":
                    raise Broken(f"durable quorum: {index} was committed by {name} with only {holders} holding it")
            elif self.chosen[index] != entry:
                raise Broken(f"agreement: {name} committed {entry} at {index}, another {self.chosen[index]}")

    def log_matching(self) -> None:
        """Ask that two logs with the same term at an index are the same up to there."""
        logs = [one.raft.log for one in self.cells.values()]
        for number, a in enumerate(logs):
            for b in logs[number + 1 :]:
                common, start = min(a.last, b.last), max(a.start, b.start)
                while common > start and a.term_at(common) != b.term_at(common):
                    common -= 1
                if common > start and _between(a, start, common) != _between(b, start, common):
                    raise Broken(f"log matching: logs differ below index {common}, where their terms agree")


def _held(raft: Raft, index: int) -> Entry | None:
    """Return a member's entry, None if a snapshot holds it."""
    return raft.log.entry(index) if index > raft.log.start else None


def _between(log: Log, start: int, last: int) -> list[Entry]:
    return log.entries[start - log.start : last - log.start]


class Watched:
    """A Cell with a Raft at ``""``, and what of its saves is durable."""

    def __init__(self, cell: Cell, watch: Watch) -> None:
        self.cell, self.watch, self.crypto_ops = cell, watch, 0
        self.durable: dict[str, bytes] = {}
        self.pending: dict[int, tuple[tuple[str, bytes | None], ...]] = {}
        self.last = (0, 0)  # term, commit
        self.believed: dict[str, tuple[Progress, int]] = {}  # peer, as a leader sees it, and what it holds
        watch.cells[cell.me] = self

    @property
    def raft(self) -> Raft:
        """The member inside."""
        raft = self.cell.policy("")
        assert isinstance(raft, Raft)
        return raft

    def holds(self, index: int, entry: Entry) -> bool:
        """Whether the entry, or a snapshot that holds it, would be there after a crash now."""
        if (saved := self.durable.get(f"/{index:012d}")) is not None:
            return bool(_entry(saved) == entry)
        snapshot = self.durable.get("/snapshot")
        return snapshot is not None and _snapshot(snapshot).index >= index

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input; the watch looks on."""
        if given[0] == p.START:
            self.durable = dict(given[2])
        elif given[0] == p.DURABLE:
            for token in sorted(t for t in self.pending if t <= given[2]):
                for key, value in self.pending.pop(token):
                    if value is None:
                        self.durable.pop(key, None)
                    else:
                        self.durable[key] = value
        effects = self.cell.step(now, wall, given)
        for effect in effects:
            if effect[0] == p.SAVE:
                self.pending[effect[2]] = effect[3]
        self.watch.after(self, effects)
        return effects
