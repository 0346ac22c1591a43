"""Who may speak, and what a set of signatures proves. Safety: nothing here waits, and nothing is believed unsigned.

Signatures name the kind of statement, the committee and the epoch, so that none can be used as another, nor elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from policies.consensus.fields import Votes
from policies.consensus.pbft.epochs import VIEWS, changed_by, epoch_of, problem
from policies.consensus.pbft.messages import (
    NULL,
    Decided,
    NewView,
    Point,
    Prepared,
    Request,
    Stable,
    ViewChange,
    digest_of,
)
from policies.consensus.quorum import byzantine_quorum, faults
from policies.port import Port
from policies.wire import encode

GENESIS = Stable(Point(0, 0, b""), ())
"""The checkpoint before the first batch, which needs no proof; later epochs begin at such a one, too (`after`)."""


Claim = tuple[str, bytes, bytes]
"""Somebody is said to have signed something: (member, what is signed, signature)."""


def statement(kind: str, committee: bytes, *fields: object) -> bytes:
    """Return what a member of the committee of this name signs."""
    return encode((f"pbft {kind}", committee, *fields))


class Committee:
    """The members of one log in one epoch, and their keys as this node holds them.

    Args:
        members: in the order in which everybody knows them; the primary of a view is the view-th, round and round.
        learners: who hears and asks, and does not vote.
        number: of the epoch.
        root: the place at which it begins, whose state needs no proof.
        log: name of the log, for what holds in all its epochs; the first one's is made of the members.

    Raises:
        ValueError: a member is named twice, or there are too few to outvote one liar (n >= 3f + 1 with f >= 1).
    """

    def __init__(
        self,
        members: tuple[str, ...],
        learners: tuple[str, ...] = (),
        number: int = 0,
        root: Stable = GENESIS,
        log: bytes = b"",
    ) -> None:
        if wrong := problem(members, learners):
            raise ValueError(wrong)
        self.members, self.learners, self.number, self.root = members, learners, number, root
        self.first_view = number * VIEWS
        self.faults = faults(len(members))
        self.quorum = byzantine_quorum(len(members))
        self.log = log or digest_of(members)
        self.name = digest_of((self.log, number, members))
        self.known: dict[bytes, None] = {}  # signatures found right, so that no certificate is verified vote by vote
        self.false = 0  # signatures found wrong

    def begin(self, port: Port, window: int) -> None:
        """Take this node's keys. ``window`` is the number of batches that may be open at once."""
        self.port, self.window = port, window
        # Every member signs a prepare and a commit for each open batch, and some more for checkpoints.
        self.known_max = 4 * window * len(self.members)

    def after(self, end: Decided) -> Committee:
        """Return the next epoch's, as a batch that is proven to end this one has it."""
        change = changed_by(end)
        assert change is not None
        return self.later(*change, self.number + 1, Stable(Point(end.seq, 0, b""), ()))

    def later(self, members: tuple[str, ...], learners: tuple[str, ...], number: int, root: Stable) -> Committee:
        """Return the committee of a later epoch of this log, which is believed to have begun at ``root``."""
        committee = Committee(members, learners, number, root, self.log)
        committee.begin(self.port, self.window)
        committee.known = self.known
        return committee

    def ends(self, entry: Decided) -> bool:
        """Return whether a batch is proven to end this epoch."""
        return changed_by(entry) is not None and self.decided(entry)

    def decided(self, entry: Decided) -> bool:
        """Return whether a quorum of this epoch decided a batch."""
        place = (entry.view, entry.seq, digest_of(entry.batch))
        mine = epoch_of(entry.view) == self.number
        return mine and self.certifies(entry.commits, self.quorum, "commit", *place)

    def primary(self, view: int) -> str:
        """Return who leads ``view``."""
        return self.members[view % len(self.members)]

    def sign(self, kind: str, *fields: object) -> bytes:
        """Return this member's signature of a statement; it need not verify it when it comes back."""
        data = self.statement(kind, *fields)
        signature = self.port.keys.sign(data)
        self._remember(digest_of((self.port.me, data, signature)))
        return signature

    def statement(self, kind: str, *fields: object) -> bytes:
        """Return what is signed."""
        return statement(kind, self.name, *fields)

    def sign_request(self, number: int, command: bytes) -> bytes:
        """Return this node's signature of a request, which holds in every epoch of the log."""
        return self.port.keys.sign(encode(("pbft request", self.log, number, command)))

    def asked(self, r: Request) -> bool:
        """Return whether its origin, a member or a learner, signed a request."""
        known = r.origin in self.members or r.origin in self.learners
        data = encode(("pbft request", self.log, r.number, r.command))
        return known and self.right((r.origin, data, r.signature))

    def verify(self, member: str, signature: bytes, kind: str, *fields: object) -> bool:
        """Return whether ``member`` is one and signed this statement."""
        return member in self.members and self.right((member, self.statement(kind, *fields), signature))

    def right(self, claim: Claim) -> bool:
        """Return whether somebody signed what is claimed; each signature is verified once, as long as it is known."""
        mark = digest_of(claim)
        if mark in self.known:
            return True
        if not self.port.keys.verify(*claim):
            self.false += 1
            if self.false == 1:
                self.port.note("dropped", reason="signature")  # false, or of another epoch
            return False
        self._remember(mark)
        return True

    def _remember(self, mark: bytes) -> None:
        self.known[mark] = None
        if len(self.known) > self.known_max:
            del self.known[next(iter(self.known))]

    def known_right(self, claim: Claim) -> bool:
        """Return whether a signature was verified before."""
        return digest_of(claim) in self.known

    # -- certificates --------------------------------------------------------------------------------

    def certifies(self, votes: Votes, needed: int, kind: str, *fields: object) -> bool:
        """Return whether ``needed`` different members or more, and nobody else, signed this statement."""
        names = {member for member, _ in votes}
        if not needed <= len(names) == len(votes) <= len(self.members):
            return False
        return all(self.verify(member, signature, kind, *fields) for member, signature in votes)

    def proves_stable(self, stable: Stable) -> bool:
        """Return whether a quorum stood at the checkpoint."""
        return stable == self.root or self.certifies(stable.votes, self.quorum, "checkpoint", stable.point)

    def proves_prepared(self, p: Prepared) -> bool:
        """Return whether the digest was prepared: its primary proposed it, and a quorum less one of others agreed."""
        primary, place = self.primary(p.view), (p.view, p.seq, p.digest)
        others = all(member != primary for member, _ in p.prepares)
        return (
            others
            and self.verify(primary, p.signature, "pre-prepare", *place)
            and self.certifies(p.prepares, self.quorum - 1, "prepare", *place)
        )

    def signed(self, change: ViewChange) -> bool:
        """Return whether the member it names made this view change, whatever it claims."""
        claims = digest_of((change.stable, change.prepared))
        return self.verify(change.member, change.signature, "view-change", change.view, claims)

    def plausible(self, change: ViewChange) -> bool:
        """Return whether a view change could be right, by its form alone: its epoch, so many places and votes."""
        low, seqs, each = change.stable.point.seq, [p.seq for p in change.prepared], len(self.members)
        in_window = all(low < seq <= low + self.window for seq in seqs) and len(set(seqs)) == len(seqs)
        older = all(self.first_view <= p.view < change.view for p in change.prepared)
        mine = epoch_of(change.view) == self.number
        return mine and in_window and older and all(len(v) <= each for v in (change.stable.votes, *_prepares(change)))

    def proves_change(self, change: ViewChange) -> bool:
        """Return whether a view change is its member's, and its claims hold."""
        if not (self.plausible(change) and self.signed(change) and self.proves_stable(change.stable)):
            return False
        return all(self.proves_prepared(p) for p in change.prepared)

    def plausible_view(self, new: NewView) -> bool:
        """Return whether a new view could be right, by its form alone: changes to it, of a quorum."""
        members = {change.member for change in new.changes}
        if not self.quorum <= len(members) == len(new.changes):
            return False
        return all(change.view == new.view and self.plausible(change) for change in new.changes)

    def proves_view(self, new: NewView) -> bool:
        """Return whether a quorum moved to the view, and its primary proposes exactly what follows from that."""
        primary, claims = self.primary(new.view), digest_of((new.changes, new.again))
        if not (self.plausible_view(new) and self.verify(primary, new.signature, "new-view", new.view, claims)):
            return False
        if not all(self.proves_change(change) for change in new.changes):
            return False
        _, places = again(new.changes)
        signed = zip(places, new.again, strict=False)
        return len(places) == len(new.again) and all(
            self.verify(primary, made, "pre-prepare", new.view, *place) for place, made in signed
        )

    # -- the same signatures one by one, for who would have them verified over several steps (`vetting`) --

    def claims_of_view(self, message: NewView) -> list[Claim]:
        """Return the signatures in a plausible new view."""
        primary, said = self.primary(message.view), digest_of((message.changes, message.again))
        found = [(primary, self.statement("new-view", message.view, said), message.signature)]
        for place, signature in zip(again(message.changes)[1], message.again, strict=False):
            found.append((primary, self.statement("pre-prepare", message.view, *place), signature))
        return found + [claim for change in message.changes for claim in self.claims_of_change(change)]

    def claims_of_change(self, change: ViewChange) -> list[Claim]:
        """Return the signatures in a plausible view change."""
        data = self.statement("view-change", change.view, digest_of((change.stable, change.prepared)))
        found = [(change.member, data, change.signature)]
        found += self.claims_of(change.stable.votes, "checkpoint", change.stable.point)
        for p in change.prepared:
            place = (p.view, p.seq, p.digest)
            found.append((self.primary(p.view), self.statement("pre-prepare", *place), p.signature))
            found += self.claims_of(p.prepares, "prepare", *place)
        return found

    def claims_of_end(self, end: Decided) -> list[Claim]:
        """Return the signatures that decide a batch."""
        return self.claims_of(end.commits, "commit", end.view, end.seq, digest_of(end.batch))

    def claims_of(self, votes: Votes, kind: str, *fields: object) -> list[Claim]:
        """Return the signatures of a certificate, of no more than all members."""
        data = self.statement(kind, *fields)
        return [(member, data, signature) for member, signature in votes[: len(self.members)]]


def _prepares(change: ViewChange) -> Iterator[Votes]:
    return (p.prepares for p in change.prepared)


def again(changes: tuple[ViewChange, ...]) -> tuple[Stable, list[tuple[int, bytes]]]:
    """Return what a new view begins with (section 4.4).

    Args:
        changes: of a quorum, each one's claims proven.

    Returns:
        The latest stable checkpoint, and (seq, digest) of each batch after it: the one prepared in the highest view, or
        the null request where none was prepared.
    """
    stable = max((change.stable for change in changes), key=lambda s: s.point.seq, default=GENESIS)
    best: dict[int, Prepared] = {}
    for change in changes:
        for p in change.prepared:
            if p.seq not in best or p.view > best[p.seq].view:
                best[p.seq] = p
    low = stable.point.seq
    return stable, [
        (seq, best[seq].digest if seq in best else NULL) for seq in range(low + 1, max(best, default=low) + 1)
    ]
