"""What must always hold of Raft, asked after every step: the properties of figure 3 of Ongaro and Ousterhout (2014)
and of what a crash may not undo. `Watched` stands around a Cell in any driver; `Watch` sees the whole cluster.
"""

from __future__ import annotations

from typing import Any

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.consensus.messages import Append, Appended, RequestVote, Vote
from policies.consensus.raft import Raft, majority
from policies.port import Effect, Input

message: Any = msgspec.msgpack.Decoder(RequestVote | Vote | Append | Appended).decode
_entry = msgspec.msgpack.Decoder(tuple[int, bytes]).decode
Entry = tuple[int, bytes]


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
        if raft.term < term or raft.commit < commit or raft.applied > raft.commit or raft.commit > len(raft.log):
            raise Broken(f"monotone: {name} was at term {term}, commit {commit}; is at {raft.term}, {raft.commit}")
        self._votes(name, effects)
        self._leader(name, raft)
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
                if index > len(raft.log) or raft.log[index - 1] != entry:
                    raise Broken(f"leader completeness: {name} leads term {raft.term} without committed {index}")
        elif self.leaders[raft.term] != name:
            raise Broken(f"election safety: {name} and {self.leaders[raft.term]} lead term {raft.term}")

    def _committed(self, name: str, raft: Raft, before: int) -> None:
        if before and raft.log[before - 1] != self.chosen[before]:
            raise Broken(f"immutable: {name} lost its committed entry {before}")
        for index in range(before + 1, raft.commit + 1):
            entry = raft.log[index - 1]
            if entry[1] not in self.proposed:
                raise Broken(f"validity: {name} committed {entry[1]!r}, which nobody proposed")
            if index not in self.chosen:
                self.chosen[index] = entry
                holders = [m for m, other in self.cells.items() if other.durable_entry(index) == entry]
                if len(holders) < majority(len(self.members)):
                    raise Broken(f"durable quorum: {index} was committed by {name} with only {holders} holding it")
            elif self.chosen[index] != entry:
                raise Broken(f"agreement: {name} committed {entry} at {index}, another {self.chosen[index]}")

    def log_matching(self) -> None:
        """Ask that two logs with the same term at an index are the same up to there."""
        logs = [one.raft.log for one in self.cells.values()]
        for number, a in enumerate(logs):
            for b in logs[number + 1 :]:
                common = min(len(a), len(b))
                while common and a[common - 1][0] != b[common - 1][0]:
                    common -= 1
                if a[:common] != b[:common]:
                    raise Broken(f"log matching: logs differ below index {common}, where their terms agree")


class Watched:
    """A Cell with a Raft at ``""``, and what of its saves is durable."""

    def __init__(self, cell: Cell, watch: Watch) -> None:
        self.cell, self.watch, self.crypto_ops = cell, watch, 0
        self.durable: dict[str, bytes] = {}
        self.pending: dict[int, tuple[tuple[str, bytes | None], ...]] = {}
        self.last = (0, 0)  # term, commit
        watch.cells[cell.me] = self

    @property
    def raft(self) -> Raft:
        """The member inside."""
        raft = self.cell.policy("")
        assert isinstance(raft, Raft)
        return raft

    def durable_entry(self, index: int) -> Entry | None:
        """Return the entry that would be there after a crash now."""
        saved = self.durable.get(f"/{index:012d}")
        return None if saved is None else _entry(saved)

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
