"""What a member may sign: the whole of PBFT's safety, apart from all time-outs (Castro and Liskov 1999, section 4).

1. In one view a member prepares one digest at a place, the one its primary signed, and only inside the window.
2. It commits to a digest once it holds a prepared certificate of it, durably.
3. Having left a view it signs nothing in it, or in any before it; what it holds prepared goes with it.
4. A view begins with a proof of what a quorum held prepared, and only what follows from that is proposed again.
5. A batch is decided by the commits of a quorum, whatever else happened.
6. A change of members is prepared only by who has executed every place below it (`epochs` says why).

Two quorums share a correct member, which by 1 makes certificates of one view agree, and by 2, 3 and 4 those of
different views. Everything that a rule asks about is saved in the step that signs, so a crash forgets no promise.

Saved keys: ``view`` (view, active), ``new_view``, ``stable``; and for each place ``a`` what was accepted, ``p`` what
was prepared, ``b`` the batches themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from policies.consensus.pbft.epochs import change_in
from policies.consensus.pbft.messages import (
    NULL,
    Batch,
    Commit,
    Decided,
    NewView,
    Prepare,
    Prepared,
    PrePrepare,
    Stable,
    ViewChange,
    digest_of,
)  # fmt: skip
from policies.consensus.pbft.proofs import Committee, again
from policies.port import Port
from policies.wire import encode

BODIES_MAX = 4
"""Batches kept for one place. Views in which different batches stood there come after lost new views, one at a time;
an older one that is asked for again is fetched from the members that hold its certificate (our own bound)."""

Vote = tuple[int, bytes, bytes]  # view, digest, signature

_view = msgspec.msgpack.Decoder(tuple[int, bool]).decode
_accepted = msgspec.msgpack.Decoder(Vote).decode
_prepared = msgspec.msgpack.Decoder(Prepared).decode
_batch = msgspec.msgpack.Decoder(Batch).decode
_new_view = msgspec.msgpack.Decoder(NewView).decode
_stable = msgspec.msgpack.Decoder(Stable).decode


class Slot:
    """One place in the order, and all that is known of it: a member's vote counts once, in the highest view it cast."""

    def __init__(self) -> None:
        self.accepted: Vote = (-1, b"", b"")  # of the primary
        self.prepares: dict[str, Vote] = {}
        self.commits: dict[str, Vote] = {}
        self.prepared: Prepared | None = None
        self.bodies: dict[bytes, Batch] = {}
        self.own = -1  # the view of this member's last commit
        self.decided = False


class Voter:
    """One member's votes. It signs and saves; sending is its owner's."""

    def __init__(self, committee: Committee) -> None:
        self.committee = committee
        self.view, self.active = committee.first_view, True
        self.stable = committee.root
        self.done = 0  # the last place that this member has executed
        self.slots: dict[int, Slot] = {}
        self.newest: NewView | None = None  # by which this member entered its view, to show to others
        self.writing: dict[int, list[tuple[int, Vote]]] = {}  # save token to own commits that it makes durable

    def begin(self, port: Port, saved: Mapping[str, bytes], window: int, committee: Committee) -> None:
        """Remember every promise of the epoch of ``committee``."""
        self.port, self.window, self.committee = port, window, committee
        self.view, self.stable = committee.first_view, committee.root
        if "view" in saved:
            self.view, self.active = _view(saved["view"])
        if "new_view" in saved:
            self.newest = _new_view(saved["new_view"])
        if "stable" in saved:
            self.stable = _stable(saved["stable"])
        for key, value in saved.items():
            kind, seq = key[0], key[1:13]
            if not seq.isdecimal() or int(seq) <= self.stable.point.seq:
                continue
            if kind == "a":
                self._slot(int(seq)).accepted = _accepted(value)
            elif kind == "p":
                self._slot(int(seq)).prepared = _prepared(value)
            elif kind == "b":
                batch = _batch(value)
                self._slot(int(seq)).bodies[digest_of(batch)] = batch

    # -- the window ----------------------------------------------------------------------------------

    def inside(self, seq: int) -> bool:
        """Return whether a place is open: above the stable checkpoint, and within the window."""
        return 0 < seq - self.stable.point.seq <= self.window

    def _slot(self, seq: int) -> Slot:
        if seq not in self.slots:
            self.slots[seq] = Slot()
        return self.slots[seq]

    def next_seq(self) -> int:
        """Return the first place at which the primary of this view has proposed nothing."""
        mine = (seq for seq, slot in self.slots.items() if slot.accepted[0] == self.view)
        return max(mine, default=self.stable.point.seq) + 1

    # -- rules 1 and 2: normal operation -------------------------------------------------------------

    def propose(self, batch: Batch) -> PrePrepare:
        """As the primary of an active view: give a batch the next place, which must be inside the window."""
        seq, digest = self.next_seq(), digest_of(batch)
        signature = self.committee.sign("pre-prepare", self.view, seq, digest)
        self._accept(seq, digest, signature)
        self.keep(seq, batch)
        return PrePrepare(self.view, seq, batch, signature)

    def accept(self, sender: str, m: PrePrepare) -> bool:
        """Take the primary's word for a place, once a view; returns whether it stands."""
        if not (self.active and m.view == self.view and sender == self.committee.primary(m.view)):
            return False
        if not self.inside(m.seq):
            return False
        slot, digest = self._slot(m.seq), digest_of(m.batch)
        if slot.accepted[0] == m.view:
            if slot.accepted[1] != digest:
                return False
        elif self.committee.verify(sender, m.signature, "pre-prepare", m.view, m.seq, digest):
            self._accept(m.seq, digest, m.signature)
        else:
            return False
        self.keep(m.seq, m.batch)
        return True

    def _accept(self, seq: int, digest: bytes, signature: bytes) -> None:
        slot = self._slot(seq)
        slot.accepted = (self.view, digest, signature)
        self.port.save(f"a{seq:012d}", encode(slot.accepted))
        if digest == NULL:
            self.keep(seq, ())

    def keep(self, seq: int, batch: Batch) -> None:
        """Hold a batch that a certificate may name, at a place inside the window."""
        digest = digest_of(batch)
        if digest in self.slots[seq].bodies:
            return
        slot = self.slots[seq]
        needed = {slot.accepted[1], slot.prepared.digest if slot.prepared else b""}
        for other in [d for d in slot.bodies if d not in needed][: max(0, len(slot.bodies) + 1 - BODIES_MAX)]:
            del slot.bodies[other]
            self.port.erase(body_key(seq, other))
        slot.bodies[digest] = batch
        self.port.save(body_key(seq, digest), encode(batch))

    def lacking(self) -> list[tuple[int, bytes]]:
        """Return (seq, digest) of what was accepted in this view without its batch."""
        here = ((seq, s) for seq, s in sorted(self.slots.items()) if s.accepted[0] == self.view)
        return [(seq, s.accepted[1]) for seq, s in here if s.accepted[1] not in s.bodies]

    def hear(self, sender: str, m: Prepare | Commit) -> bool:
        """Count a vote, once a member and view; returns whether it was counted."""
        if not self.inside(m.seq):
            return False
        slot = self._slot(m.seq)
        preparing = isinstance(m, Prepare)
        votes = slot.prepares if preparing else slot.commits
        if m.view < 0 or (sender in votes and votes[sender][0] >= m.view):
            return False
        if not self.committee.verify(
            sender, m.signature, "prepare" if preparing else "commit", m.view, m.seq, m.digest
        ):
            return False
        votes[sender] = (m.view, m.digest, m.signature)
        return True

    def vote(self, seq: int) -> list[Prepare | Commit]:
        """Sign all that the rules allow at a place by now, and has not been signed yet."""
        slot, made = self.slots.get(seq), list[Prepare | Commit]()
        if slot is None or slot.accepted[0] != self.view:  # nothing is accepted in a view that has not begun
            return made
        view, digest, signature = slot.accepted
        if digest not in slot.bodies:
            return made  # who prepares holds the batch, so that a certificate's batch is never lost
        if self._changes(slot.bodies[digest]) and seq != self.done + 1:
            return made  # it is voted for as soon as what is below it is executed
        me, place, primary = self.port.me, (view, seq, digest), self.committee.primary(view)
        if me != primary and slot.prepares.get(me, (-1,))[0] != view:
            made.append(Prepare(*place, self.committee.sign("prepare", *place)))
            slot.prepares[me] = (view, digest, made[-1].signature)
        prepares = tuple(
            (name, vote[2]) for name, vote in slot.prepares.items() if vote[:2] == place[::2] and name != primary
        )
        holds, token = slot.prepared is not None and slot.prepared.view == view, 0
        if not holds and len(prepares) >= self.committee.quorum - 1:
            slot.prepared = Prepared(*place, signature, prepares[: self.committee.quorum - 1])
            token = self.port.save(f"p{seq:012d}", encode(slot.prepared))
            holds = True
        if holds and slot.own != view:
            made.append(Commit(*place, self.committee.sign("commit", *place)))
            slot.own, own = view, (view, digest, made[-1].signature)
            if token:
                self.writing.setdefault(token, []).append((seq, own))
            else:  # prepared in an earlier life
                slot.commits[me] = own
        return made

    def repeated(self, seq: int) -> list[PrePrepare | Prepare | Commit]:
        """Return what this member has said at a place in this view."""
        slot, made = self.slots[seq], list[PrePrepare | Prepare | Commit]()
        view, digest, signature = slot.accepted
        if view != self.view:
            return made
        me, place = self.port.me, (view, seq, digest)
        if me == self.committee.primary(view) and digest in slot.bodies:
            made.append(PrePrepare(view, seq, slot.bodies[digest], signature))
        if slot.prepares.get(me, (-1,))[0] == view:
            made.append(Prepare(*place, slot.prepares[me][2]))
        if slot.commits.get(me, (-1,))[0] == view:
            made.append(Commit(*place, slot.commits[me][2]))
        return made

    def durable(self, token: int) -> list[int]:
        """Count this member's own commits, now that a crash cannot undo them; returns their places."""
        counted = list[int]()
        for done in [t for t in self.writing if t <= token]:
            for seq, own in self.writing.pop(done):
                if seq in self.slots:
                    self.slots[seq].commits[self.port.me] = own
                    counted.append(seq)
        return counted

    # -- rule 5: decision ----------------------------------------------------------------------------

    def decide(self, seq: int) -> Decided | None:
        """Return the proof that a place is decided, once; the batch must be here."""
        slot = self.slots.get(seq)
        if slot is None or slot.decided:
            return None
        for view, digest, _ in slot.commits.values():
            votes = tuple((name, vote[2]) for name, vote in slot.commits.items() if vote[:2] == (view, digest))
            if len(votes) >= self.committee.quorum and digest in slot.bodies:
                slot.decided = True
                return Decided(view, seq, slot.bodies[digest], votes[: self.committee.quorum])
        return None

    # -- rule 6: epochs ------------------------------------------------------------------------------

    def _changes(self, batch: Batch) -> bool:
        return change_in(batch, self.committee.number) is not None

    def changing(self) -> bool:
        """Return whether a change of members is proposed in this view and not executed: what follows would be void."""
        open_ = (slot for seq, slot in self.slots.items() if seq > self.done and slot.accepted[0] == self.view)
        return any(self._changes(slot.bodies.get(slot.accepted[1], ())) for slot in open_)

    def begin_epoch(self, committee: Committee) -> None:
        """Begin an epoch: all that was promised in the one before is void with it."""
        self._forget(max(self.slots, default=0))
        self.committee, self.stable, self.newest = committee, committee.root, None
        self.view, self.active = committee.first_view, True
        self.writing.clear()
        self.port.save("view", encode((self.view, True)))
        self.port.save("stable", encode(self.stable))
        self.port.erase("new_view")

    # -- rules 3 and 4: views ------------------------------------------------------------------------

    def leave(self, view: int) -> ViewChange:
        """Leave for a higher view, for good, and return what is held prepared."""
        self.view, self.active = view, False
        self.port.save("view", encode((view, False)))
        return self.change()

    def change(self) -> ViewChange:
        """Return this member's view change to the view it is moving to."""
        prepared = tuple(s.prepared for _, s in sorted(self.slots.items()) if s.prepared is not None)
        claims = digest_of((self.stable, prepared))
        signature = self.committee.sign("view-change", self.view, claims)
        return ViewChange(self.port.me, self.view, self.stable, prepared, signature)

    def new_view(self, changes: tuple[ViewChange, ...], made: tuple[bytes, ...]) -> NewView:
        """As the primary of the view this member moves to: begin it, from proven changes of a quorum.

        ``made`` are its pre-prepares of what follows from them (`again`).
        """
        return NewView(self.view, changes, made, self.committee.sign("new-view", self.view, digest_of((changes, made))))

    def enter(self, new: NewView) -> bool:
        """Enter a view that is proven and not older than this one; accept what it proposes again."""
        if new.view < self.view or (new.view == self.view and self.active) or not self.committee.proves_view(new):
            return False
        self.view, self.active, self.newest = new.view, True, new
        self.port.save("view", encode((new.view, True)))
        self.port.save("new_view", encode(new))
        stable, places = again(new.changes)
        self.stabilise(stable)
        for (seq, digest), signature in zip(places, new.again, strict=True):
            if self.inside(seq):
                self._accept(seq, digest, signature)
        return True

    def stabilise(self, stable: Stable) -> bool:
        """Move the window to a proven checkpoint; forget the votes below it."""
        low = stable.point.seq
        if low <= self.stable.point.seq:
            return False
        self.stable = stable
        self.port.save("stable", encode(stable))
        self._forget(low)
        return True

    def _forget(self, low: int) -> None:
        for seq in [seq for seq in self.slots if seq <= low]:
            slot = self.slots.pop(seq)
            self.port.erase(f"a{seq:012d}")
            self.port.erase(f"p{seq:012d}")
            for digest in slot.bodies:
                self.port.erase(body_key(seq, digest))


def body_key(seq: int, digest: bytes) -> str:
    """Return the key under which a batch is saved."""
    return f"b{seq:012d}{digest.hex()[:16]}"
