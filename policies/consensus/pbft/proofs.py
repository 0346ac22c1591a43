"""Who may speak, and what a set of signatures proves. Safety: nothing here waits, and nothing is believed unsigned.

Signatures name the kind of statement and the committee, so that none can be used as another, nor elsewhere.
"""

from __future__ import annotations

from policies.consensus.pbft.messages import NULL, NewView, Point, Prepared, Stable, ViewChange, Votes, digest_of
from policies.consensus.quorum import byzantine_quorum, faults
from policies.port import Port
from policies.wire import encode

GENESIS = Stable(Point(0, 0, b""), ())
"""The checkpoint before the first batch, which needs no proof."""


class Committee:
    """The members of one log, and their keys as this node holds them.

    Args:
        members: in the order in which everybody knows them; the primary of a view is the view-th, round and round.

    Raises:
        ValueError: a member is named twice, or there are too few to outvote one liar (n >= 3f + 1 with f >= 1).
    """

    def __init__(self, members: tuple[str, ...]) -> None:
        if len(set(members)) < len(members):
            raise ValueError(f"members={members!r}: a member is named twice; every member votes once")
        if len(members) < 4:
            raise ValueError(f"members={members!r}: PBFT needs 4 or more (n >= 3f + 1, f >= 1)")
        self.members = members
        self.faults = faults(len(members))
        self.quorum = byzantine_quorum(len(members))
        self.name = digest_of(members)
        self.known: dict[bytes, None] = {}  # signatures found right, so that no certificate is verified vote by vote

    def begin(self, port: Port, window: int) -> None:
        """Take this node's keys. ``window`` is the number of batches that may be open at once."""
        self.port, self.window = port, window
        # Every member signs a prepare and a commit for each open batch, and some more for checkpoints.
        self.known_max = 4 * window * len(self.members)

    def primary(self, view: int) -> str:
        """Return who leads ``view``."""
        return self.members[view % len(self.members)]

    def sign(self, kind: str, *fields: object) -> bytes:
        """Return this member's signature of a statement."""
        return self.port.keys.sign(encode((f"pbft {kind}", self.name, *fields)))

    def verify(self, member: str, signature: bytes, kind: str, *fields: object) -> bool:
        """Return whether ``member`` is one and signed this statement."""
        if member not in self.members:
            return False
        data = encode((f"pbft {kind}", self.name, *fields))
        mark = digest_of((member, data, signature))
        if mark in self.known:
            return True
        if not self.port.keys.verify(member, data, signature):
            return False
        self.known[mark] = None
        if len(self.known) > self.known_max:
            del self.known[next(iter(self.known))]
        return True

    # -- certificates --------------------------------------------------------------------------------

    def certifies(self, votes: Votes, needed: int, kind: str, *fields: object) -> bool:
        """Return whether ``needed`` different members or more, and nobody else, signed this statement."""
        names = {member for member, _ in votes}
        if not needed <= len(names) == len(votes) <= len(self.members):
            return False
        return all(self.verify(member, signature, kind, *fields) for member, signature in votes)

    def proves_stable(self, stable: Stable) -> bool:
        """Return whether a quorum stood at the checkpoint."""
        return stable == GENESIS or self.certifies(stable.votes, self.quorum, "checkpoint", stable.point)

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

    def proves_change(self, change: ViewChange) -> bool:
        """Return whether a view change is its member's, and its claims hold."""
        low, seqs = change.stable.point.seq, [p.seq for p in change.prepared]
        in_window = all(low < seq <= low + self.window for seq in seqs) and len(set(seqs)) == len(seqs)
        older = all(0 <= p.view < change.view for p in change.prepared)
        if not (in_window and older and self.signed(change) and self.proves_stable(change.stable)):
            return False
        return all(self.proves_prepared(p) for p in change.prepared)

    def proves_view(self, new: NewView) -> bool:
        """Return whether a quorum moved to the view, and its primary proposes exactly what follows from that."""
        members = {change.member for change in new.changes}
        if not self.quorum <= len(members) == len(new.changes):
            return False
        primary, claims = self.primary(new.view), digest_of((new.changes, new.again))
        if not self.verify(primary, new.signature, "new-view", new.view, claims):
            return False
        if not all(change.view == new.view and self.proves_change(change) for change in new.changes):
            return False
        _, places = again(new.changes)
        signed = zip(places, new.again, strict=False)
        return len(places) == len(new.again) and all(
            self.verify(primary, made, "pre-prepare", new.view, *place) for place, made in signed
        )


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
