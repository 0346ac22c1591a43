"""Normal operation: batches get their places, are voted for, executed in order, and checkpoints move the window on.

What may be signed is `safety`'s to say; this file asks it and sends what comes of it (sections 4.2 and 4.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import msgspec

from policies.consensus.messages import Chosen
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.epochs import allowed, changed_by, epoch_of
from policies.consensus.pbft.evidence import Kind
from policies.consensus.pbft.liveness import PRIMARY
from policies.consensus.pbft.requests import BATCH_BYTES, Requests
from policies.local import Committed, Configured, SnapshotDue

APPLY_MAX = 20
"""Commands executed in one step: each may hold two signatures of 0.11 ms; a step stays below 5 ms."""
SNAPSHOT_PERIODS = 32
"""Periods of checkpoints after which a snapshot is asked for, however few commands they brought: 1,024 batches by
default (our choice: as many as commands between two snapshots of a village's own)."""
VOTE_MAX = 8
"""Places voted for in one step when a view begins: two signatures each (our own bound)."""


class Ordering(Requests):
    """A member that orders.

    Attributes:
        votes_from: the place from which on it votes in the next step, when a view has begun.
    """

    def _nothing_yet(self) -> None:
        super()._nothing_yet()
        self.votes_from = 0

    def _propose(self) -> None:
        """As the primary: give waiting requests their places; anybody: expect that somebody does."""
        while self.role == "leader":
            seq, done = self.voter.next_seq(), self.execution.point.seq
            idle = seq == done + 1
            if not self.voter.inside(seq) or seq > done + self.config.in_flight:
                break
            if not idle and self.voter.changing():
                break  # what follows a change is void
            if not (batch := self.pool.take(self.config.max_batch, BATCH_BYTES, idle)):
                break
            self._all(self.voter.propose(batch))
        self._wait()

    def _wait(self) -> None:
        if self.voter.active and self.member:
            idle = b"" if self.role == "leader" else PRIMARY
            self.patience.wait_for(self.pool.oldest() or self._unfinished() or idle)

    def _unfinished(self) -> bytes:
        """Return the name of the next place if it was proposed and not executed, or nothing."""
        seq = self.execution.point.seq + 1
        slot = self.voter.slots.get(seq)
        return b"place %d" % seq if slot is not None and slot.accepted[0] == self.voter.view else b""

    def _on_pre_prepare(self, sender: str, proposal: m.PrePrepare) -> None:
        view, batch = self.voter.view, proposal.batch
        if not self._fits(batch):
            self._drop("pre-prepare")
        elif epoch_of(proposal.view) > self.committee.number:
            self.ahead.propose(sender, proposal)
        elif sender != self.committee.primary(proposal.view):
            self._drop("pre-prepare")
        elif proposal.view > view or (proposal.view == view and not self.voter.active):
            self.ahead.propose(sender, proposal)
        elif self.voter.accept(sender, proposal):
            self._compare(proposal.seq)
            self._vote(proposal.seq)
            self._wait()
        else:
            digest = m.digest_of(batch)
            self._saw(sender, "pre-prepare", proposal.view, proposal.seq, digest, proposal.signature)

    def _fits(self, batch: m.Batch) -> bool:
        size = sum(len(command) for _, _, command in batch)
        whole = len(batch) <= self.config.max_batch and (size <= BATCH_BYTES or len(batch) == 1)
        return whole and allowed(batch, self.committee.number) and self._permits(batch)

    def _on_vote(self, sender: str, vote: m.Prepare | m.Commit) -> None:
        kind: Kind = "prepare" if isinstance(vote, m.Prepare) else "commit"
        self._saw(sender, kind, vote.view, vote.seq, vote.digest, vote.signature)
        if self.voter.hear(sender, vote):
            if kind == "prepare":
                self._show(vote.seq, (sender,))
            self._vote(vote.seq)

    def _compare(self, seq: int) -> None:
        """Remember what the primary signed here, and look whom it told something else."""
        slot = self.voter.slots[seq]
        view, *said = slot.accepted
        self._saw(self.committee.primary(view), "pre-prepare", view, seq, *said)
        self._show(seq, slot.prepares)

    def _show(self, seq: int, backups: Iterable[str]) -> None:
        """Show those who prepare another digest what the primary signed here: then they can prove that it lied."""
        slot = self.voter.slots[seq]
        for name in backups:
            if slot.prepares[name][0] == slot.accepted[0] and slot.prepares[name][1] != slot.accepted[1]:
                self.port.send(name, m.Shown(slot.accepted[0], seq, *slot.accepted[1:]))

    def _on_shown(self, sender: str, shown: m.Shown) -> None:
        """Somebody says what the primary signed; it means nothing unless this member was told something else."""
        slot = self.voter.slots.get(shown.seq)
        if slot is not None and slot.accepted[0] == shown.view and slot.accepted[1] != shown.digest:
            self._saw(self.committee.primary(shown.view), "pre-prepare", *msgspec.structs.astuple(shown))

    def _vote(self, seq: int) -> None:
        for vote in self.voter.vote(seq):
            self._all(vote)
        self._decide(seq)
        self._execute()

    def _vote_from(self, first: int) -> None:
        """Vote for every open place from ``first`` on, a few in a step."""
        seqs = sorted(seq for seq in self.voter.slots if seq >= first) if self.member else []
        for seq in seqs[:VOTE_MAX]:
            if seq in self.voter.slots:  # a vote may have ended the epoch, or moved the window on
                self._compare(seq)
            self._vote(seq)
        if len(seqs) > VOTE_MAX:
            self.votes_from = seqs[VOTE_MAX]
            self.port.set_timer("vote", 0)

    def _decide(self, seq: int) -> None:
        if (entry := self.voter.decide(seq)) is not None:
            self.execution.add(entry)

    def _execute(self) -> None:
        """Execute what is decided, in order: so many commands in a step, and no more after a change of members."""
        done, executed = 0, False
        while (entry := self.execution.ready()) is not None:
            if done >= APPLY_MAX:
                self.port.set_timer("apply", 0)
                break
            done, executed = done + len(entry.batch), True
            for index, command in self.execution.execute(entry):
                self.port.decide("commit", Chosen(index, 0, crc32(command)))
                if self.applier:
                    self.port.tell(self.applier, Committed(index, 0, command))
            if self.applier and entry.seq % (SNAPSHOT_PERIODS * self.config.checkpoint_every) == 0:
                self.port.tell(self.applier, SnapshotDue(self.execution.point.index, entry.seq))
            self.voter.done = entry.seq
            if not self._changed(entry):
                self._executed(entry.batch)
        if executed:
            self.patience.failures = 0
            self.doubts.calm(self.voter.view)
            self._vote_for_a_change()
            self._propose()

    def _vote_for_a_change(self) -> None:
        """Vote for the next place: a change of members there waited until all below it was executed."""
        for vote in self.voter.vote(self.voter.done + 1) if self.member else ():
            self._all(vote)

    def _changed(self, entry: m.Decided) -> bool:
        """Act on a change of members that was executed, if it is one; one of an earlier epoch is only told again."""
        change = changed_by(entry)
        if change is None:
            return False
        if self.applier:
            self.port.tell(self.applier, Configured(self.execution.point.index, *change))
        if entry.seq > self.committee.root.point.seq:
            self._end_epoch(entry)
        return True

    def _executed(self, batch: m.Batch) -> None:
        for item in batch:
            self.pool.executed(item)
            if item[0] == self.port.me and item[1] in self.reads:
                self._readable(self.reads.pop(item[1]), self.execution.applied)
                if self.asked:
                    self._order_reads()
        point = self.execution.point
        if point.seq % self.config.checkpoint_every == 0 and point.seq > self.voter.stable.point.seq and self.member:
            self._attest(point)

    # -- checkpoints ---------------------------------------------------------------------------------

    def _attest(self, point: m.Point) -> None:
        said = m.Checkpoint(point, self.committee.sign("checkpoint", point))
        self._all(said)
        self._on_checkpoint(self.port.me, said)

    def _on_checkpoint(self, sender: str, said: m.Checkpoint) -> None:
        if (stable := self.checkpoints.add(sender, said)) is not None:
            self._stabilise(stable)

    def _on_stable(self, sender: str, stable: m.Stable) -> None:
        if stable.point.seq > self.voter.stable.point.seq:
            if self.committee.proves_stable(stable):
                self._stabilise(stable)
            else:
                self._drop("checkpoint without proof")

    def _stabilise(self, stable: m.Stable) -> None:
        self.execution.shared(stable, self.known)
        if self.voter.stabilise(stable):
            self._propose()
