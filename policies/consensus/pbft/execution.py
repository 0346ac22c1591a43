"""What is agreed, in order: decided batches become indices, checkpoints and snapshots (section 4.3 of the paper).

Each command gets its own index; an empty one and a null request get none. A checkpoint (`Point`) names a batch and the
digest of all batches up to it, so a member that fetches batches knows that they are the same. The state machine's
snapshot is a checkpoint, too, with the digest of its state: once a quorum stood there, batches below it are dropped,
and whoever is further behind gets the state. State machines must therefore take snapshots at the same indices, and
write equal states as equal bytes; one that never does keeps every batch for ever.

Saved keys: ``d`` and the place: what is decided and not in a snapshot yet; ``base``: the snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from policies.consensus.pbft.messages import Checkpoint, Decided, Point, Stable, Transferred, digest_of
from policies.consensus.pbft.proofs import GENESIS, Committee
from policies.port import Port
from policies.wire import Message, encode

PENDING_MAX = 4
"""Own snapshots kept while a quorum for one of them is missing; the oldest goes (our own bound)."""
SAID_MAX = 8
"""Checkpoints remembered of each member; a window holds two, and snapshots come as seldom (our own bound)."""

_decided = msgspec.msgpack.Decoder(Decided).decode
_transferred = msgspec.msgpack.Decoder(Transferred).decode


class Execution:
    """The decided batches of one member, and how far they are executed."""

    def __init__(self) -> None:
        self.base = Transferred(GENESIS, b"")
        self.decided: dict[int, Decided] = {}  # above the base, executed or not
        self.point = GENESIS.point  # after the last executed batch
        self.points: dict[int, Point] = {}  # after each executed batch above the base
        self.applied = 0  # the last index told to the state machine
        self.pending: dict[int, tuple[Point, bytes]] = {}  # index to own snapshots that no quorum shares yet

    def begin(self, port: Port, saved: Mapping[str, bytes]) -> None:
        """Remember what is decided, to execute it from the snapshot on; a place that is missing is fetched."""
        self.port = port
        if "base" in saved:
            self.base = _transferred(saved["base"])
        for key in sorted(key for key in saved if key[0] == "d"):
            entry = _decided(saved[key])
            self.decided[entry.seq] = entry
        self._rebase()

    def _rebase(self) -> None:
        point = self.base.stable.point
        for seq in [seq for seq in self.decided if seq <= point.seq]:
            del self.decided[seq]
            self.points.pop(seq, None)
            self.port.erase(f"d{seq:012d}")
        if point.seq >= self.point.seq:
            self.point = Point(point.seq, point.index, point.chain)
        self.points[point.seq] = Point(point.seq, point.index, point.chain)
        self.points = {seq: p for seq, p in self.points.items() if seq >= point.seq}
        self.applied = max(self.applied, point.applied)

    def add(self, entry: Decided) -> None:
        """Keep what is decided at a place above the last executed one."""
        if entry.seq > self.point.seq and entry.seq not in self.decided:
            self.decided[entry.seq] = entry
            self.port.save(f"d{entry.seq:012d}", encode(entry))

    def ready(self) -> Decided | None:
        """Return the next batch to execute, if it is decided."""
        return self.decided.get(self.point.seq + 1)

    def execute(self, entry: Decided) -> list[tuple[int, bytes]]:
        """Give the batch its indices; return (index, command) of those that the state machine does not hold yet."""
        index, fresh = self.point.index, list[tuple[int, bytes]]()
        for _, _, command in entry.batch:
            if command:
                index += 1
                if index > self.applied:
                    fresh.append((index, command))
        chain = digest_of((self.point.chain, digest_of(entry.batch)))
        self.point = self.points[entry.seq] = Point(entry.seq, index, chain)
        self.applied = max(self.applied, index)
        return fresh

    # -- snapshots -----------------------------------------------------------------------------------

    def snapshot(self, index: int, state: bytes) -> Point | None:
        """Hold the state machine's snapshot, and return the checkpoint to announce; None if it is of no use."""
        if not self.base.stable.point.applied < index <= self.applied:
            return None
        before = max(seq for seq, p in self.points.items() if p.index <= index)
        at = self.points[before]
        point = Point(at.seq, at.index, at.chain, index, digest_of(state))
        self.pending[index] = (point, state)
        while len(self.pending) > PENDING_MAX:
            del self.pending[next(iter(self.pending))]
        return point

    def shared(self, stable: Stable) -> bool:
        """A quorum holds a snapshot: if it is this member's as well, it is the new base, and batches below it go."""
        point, state = self.pending.get(stable.point.applied, (None, b""))
        if point != stable.point or not point.applied > self.base.stable.point.applied:
            return False
        self._take(Transferred(stable, state))
        return True

    def restore(self, given: Transferred) -> bool:
        """Take a proven state that is ahead of this member's."""
        point = given.stable.point
        if not point.applied > self.applied or point.seq < self.point.seq or digest_of(given.state) != point.state:
            return False
        self._take(given)
        return True

    def _take(self, base: Transferred) -> None:
        self.base = base
        self.port.save("base", encode(base))
        self._rebase()
        self.pending = {index: own for index, own in self.pending.items() if index > base.stable.point.applied}

    # -- for those behind ----------------------------------------------------------------------------

    def lacked(self, seq: int, count_max: int, bytes_max: int) -> list[Message]:
        """Return what brings a member that has executed ``seq`` on: the snapshot if batches are gone, else batches.

        Some ``bytes_max`` of them, at least one if there is one, at most ``count_max``.
        """
        if seq < self.base.stable.point.seq:
            return [self.base]
        found, size = list[Message](), 0
        while len(found) < count_max and size < bytes_max and (entry := self.decided.get(seq := seq + 1)):
            found.append(entry)
            size += sum(len(command) + 32 for _, _, command in entry.batch)
        return found


class Checkpoints:
    """Who says to stand where: the newest few points of each member, so that a liar displaces only its own."""

    def __init__(self, committee: Committee) -> None:
        self.committee = committee
        self.said: dict[str, deque[Checkpoint]] = {}

    def add(self, sender: str, m: Checkpoint) -> Stable | None:
        """Count a member's word, once for a place; returns the proof when a quorum stands there."""
        said = self.said.setdefault(sender, deque(maxlen=SAID_MAX))
        if any(_place(old.point) == _place(m.point) for old in said):
            return None
        if not self.committee.verify(sender, m.signature, "checkpoint", m.point):
            return None
        said.append(m)
        equal = ((name, old.signature) for name, olds in self.said.items() for old in olds if old.point == m.point)
        votes = tuple(equal)[: self.committee.quorum]
        return Stable(m.point, votes) if len(votes) == self.committee.quorum else None


def _place(point: Point) -> tuple[int, int]:
    return point.seq, point.applied
