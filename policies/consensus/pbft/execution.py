"""What is agreed, in order: decided batches become indices, checkpoints and snapshots (section 4.3 of the paper).

Each command gets its own index; an empty one, a null request and a change of members get none. A checkpoint (`Point`)
names a batch and the digest of all batches up to it, so a member that fetches batches knows that they are the same. The
state machine's snapshot is a checkpoint, too, with the digest of its state: once a quorum stood there, batches below it
are dropped, and whoever is further behind gets the state. State machines must therefore take snapshots at the same
indices, and write equal states as equal bytes; one that never does keeps every batch for ever. Where batches bring no
command, as reads do not, state machines are asked for snapshots at the same places.

Saved keys: ``d`` and the place: what is decided and not in a snapshot yet; ``base``: the snapshot; ``e`` and a number:
the batch that ended an epoch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from policies.consensus import vouching
from policies.consensus.chunks import fits, manifest_of, state_digest
from policies.consensus.pbft.epochs import MARK, Members, changed_by
from policies.consensus.pbft.messages import Checkpoint, Decided, Point, Stable, Transferred, digest_of
from policies.consensus.pbft.proofs import GENESIS, Committee
from policies.consensus.vouching import Begun
from policies.port import Port
from policies.wire import Message, encode

PENDING_MAX = 4
"""Own snapshots kept while a quorum for one of them is missing; the oldest goes (our own bound)."""
SAID_MAX = 8
"""Checkpoints remembered of each member; a window holds two, and snapshots come as seldom (our own bound)."""

Place = tuple[int, int]
"""Of a checkpoint: the index that its state holds, and its batch."""


class Base(Message, frozen=True):
    """A snapshot: a stable checkpoint, its state, and the ends of the last epochs before it.

    ``since`` is the epoch that the first of them ends, or the checkpoint's own; None for the log's first. ``known`` are
    the nodes that were members or learners before.
    """

    stable: Stable
    state: bytes
    ends: tuple[Decided, ...]
    since: Begun | None = None
    known: tuple[str, ...] = ()

    def members(self) -> Members | None:
        """Return whom the checkpoint's epoch has for members and learners; None for the log's first ones."""
        if self.ends:
            return changed_by(self.ends[-1])
        return None if self.since is None else (self.since.members, self.since.learners)


_decided = msgspec.msgpack.Decoder(Decided).decode
_base = msgspec.msgpack.Decoder(Base).decode


class Execution:
    """The decided batches of one member, and how far they are executed.

    Args:
        chunk_bytes: of a state that is sent.

    Attributes:
        since: the oldest epoch that is known; None for the log's first.
        ends: the batch that ended that epoch, and each after it.
    """

    def __init__(self, chunk_bytes: int) -> None:
        self.chunk_bytes = chunk_bytes
        self.base = Base(GENESIS, b"", ())
        self.offer = Transferred(GENESIS, manifest_of(b"", chunk_bytes), ())  # of the base
        self.since: Begun | None = None
        self.ends: list[Decided] = []
        self.decided: dict[int, Decided] = {}  # above the base, executed or not
        self.point = GENESIS.point  # after the last executed batch
        self.points: dict[int, Point] = {}  # after each executed batch above the base
        self.applied = 0  # the last index told to the state machine
        self.pending: dict[Place, tuple[Point, bytes]] = {}  # own snapshots that no quorum shares yet

    def begin(self, port: Port, saved: Mapping[str, bytes]) -> None:
        """Remember what is decided, to execute it from the snapshot on; a place that is missing is fetched."""
        self.port = port
        if "base" in saved:
            self._stand_on(_base(saved["base"]))
            self.since = self.base.since
        for key in sorted(key for key in saved if key[0] == "d"):
            entry = _decided(saved[key])
            self.decided[entry.seq] = entry
        self.ends = [_decided(saved[key]) for key in sorted(key for key in saved if key[0] == "e")]
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
            if command and not command.startswith(MARK):
                index += 1
                if index > self.applied:
                    fresh.append((index, command))
        chain = digest_of((self.point.chain, digest_of(entry.batch)))
        self.point = self.points[entry.seq] = Point(entry.seq, index, chain)
        self.applied = max(self.applied, index)
        return fresh

    # -- epochs --------------------------------------------------------------------------------------

    def end_epoch(self, end: Decided) -> None:
        """An epoch is over: what it decided after its end is void, and its members sign no checkpoint any more."""
        self.port.save(_end_key(self.first + len(self.ends)), encode(end))
        self.ends.append(end)
        self.pending.clear()
        for seq in [seq for seq in self.decided if seq > end.seq]:
            del self.decided[seq]
            self.port.erase(f"d{seq:012d}")

    @property
    def first(self) -> int:
        """Number of the oldest epoch that is known."""
        return 0 if self.since is None else self.since.number

    @property
    def based(self) -> int:
        """Number of the snapshot's epoch."""
        return self.first + len(self.base.ends)

    def epoch(self, number: int) -> Begun | None:
        """Return how an epoch began, if that is known; the log's first one never is, as it need not be."""
        if self.since is not None and number == self.since.number:
            return self.since
        at = number - 1 - self.first
        change = changed_by(self.ends[at]) if 0 <= at < len(self.ends) else None
        return None if change is None else Begun(number, *change, self.ends[at].seq, b"")

    def leap(self, since: Begun) -> None:
        """Know nothing before this epoch, for which a quorum of ours has vouched."""
        self._forget_ends(len(self.ends))
        self.since = since

    def _forget_ends(self, count: int) -> None:
        for number in range(self.first, self.first + count):
            self.port.erase(_end_key(number))
        self.since = self.epoch(self.first + count)
        del self.ends[:count]

    # -- snapshots -----------------------------------------------------------------------------------

    @property
    def place(self) -> Place:
        """What the state machine was told, and the last executed place."""
        return self.applied, self.point.seq

    def snapshot(self, index: int, state: bytes, seq: int = 0) -> Point | None:
        """Hold the state machine's snapshot, and return the checkpoint to announce; None if it is of no use.

        One within an epoch that is over is of none: who must sign it are members no more. It stands on the batch that
        brought ``index`` as its last, else on the one before, unless it was asked for at a place ``seq``: what follows
        without an index may be executed before the state machine speaks or not, and what goes before may be kept or
        not, differently from member to member, and their checkpoints must not.
        """
        begun = self.ends[-1].seq if self.ends else 0 if self.since is None else self.since.place
        below = [p for p in self.points.values() if p.seq >= begun and p.index <= index and seq in (0, p.seq)]
        if not below or not fits(len(state), self.chunk_bytes):
            return None
        at = min(below, key=lambda p: (-p.index, p.seq if p.index == index else -p.seq))
        if not place_of(self.base.stable.point) < (index, at.seq) <= self.place:
            return None
        point = Point(at.seq, at.index, at.chain, index, state_digest(state, self.chunk_bytes))
        self.pending[index, at.seq] = (point, state)
        while len(self.pending) > PENDING_MAX:
            del self.pending[next(iter(self.pending))]
        return point

    def shared(self, stable: Stable, known: set[str]) -> bool:
        """A quorum holds a snapshot: if it is this member's as well, it is the new base, and batches below it go."""
        point, state = self.pending.get(place_of(stable.point), (None, b""))
        if point != stable.point or not place_of(point) > place_of(self.base.stable.point):
            return False
        self._take(stable, state, known)
        return True

    def restore(self, stable: Stable, state: bytes, known: set[str]) -> bool:
        """Take a proven state if it is ahead of this member's; epochs that it ends must be ended here already."""
        if not place_of(stable.point) > self.place or stable.point.seq < self.point.seq:
            return False
        self._take(stable, state, known)
        return True

    def _take(self, stable: Stable, state: bytes, known: set[str]) -> None:
        """Stand on a snapshot of the present epoch; the ends of epochs long before it go."""
        if (count := len(self.ends) - vouching.PROOFS_KEPT) > 0:
            self._forget_ends(count)
        # Ends that were shown with a state may be false below our own epoch: those held here were all verified.
        base = Base(stable, state, tuple(self.ends), self.since, tuple(sorted(known)))
        self._stand_on(base)
        self.port.save("base", encode(base))
        self._rebase()
        self.pending = {place: own for place, own in self.pending.items() if place > place_of(stable.point)}

    def _stand_on(self, base: Base) -> None:
        self.base = base
        self.offer = Transferred(base.stable, manifest_of(base.state, self.chunk_bytes), base.ends)

    # -- for those behind ----------------------------------------------------------------------------

    def lacked(self, seq: int, count_max: int, bytes_max: int) -> list[Message]:
        """Return what brings a member that has executed ``seq`` on: the snapshot if batches are gone, else batches.

        Some ``bytes_max`` of them, at least one if there is one, at most ``count_max``.
        """
        if seq < self.base.stable.point.seq:
            return [self.offer]
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
        """Count a member's word, once for a place; returns the proof when a quorum stands there.

        Where no command came yet, the log's own checkpoint and a snapshot have one place: each is counted.
        """
        said = self.said.setdefault(sender, deque(maxlen=SAID_MAX))
        of_a_state = bool(m.point.state)
        if any(place_of(old.point) == place_of(m.point) and bool(old.point.state) == of_a_state for old in said):
            return None
        if not self.committee.verify(sender, m.signature, "checkpoint", m.point):
            return None
        said.append(m)
        equal = ((name, old.signature) for name, olds in self.said.items() for old in olds if old.point == m.point)
        votes = tuple(equal)[: self.committee.quorum]
        return Stable(m.point, votes) if len(votes) == self.committee.quorum else None


def place_of(point: Point) -> Place:
    """Return where a checkpoint stands: of two snapshots in one log, one is ahead in both or equal in one."""
    return point.applied, point.seq


def _end_key(number: int) -> str:
    return f"e{number:09d}"
