"""Words for an epoch: how who slept through more epochs than anybody keeps proofs of comes to believe in a later one.

Each epoch's end proves who comes next, so the members of one prove those of all later ones; but such a chain grows with
every epoch. Members therefore keep the ends of the last `PROOFS_KEPT` epochs before their stable checkpoint, and those
since. Whoever is further behind asks the members *that it still believes in*: each that kept the log signs which epoch
began where, with whom (`Begun`), and a quorum of them who sign the same is believed. From that epoch on it goes by
proofs again.

Safety: a quorum of those members could have signed the end of their epoch for other members, too, so this adds nobody
who must be trusted, and a correct member signs no epoch but those that it came through itself. What both rest on is
that, of the members of the last epoch that it knew, fewer than a quorum have become liars, or lost their keys, *since*.
Liveness: a quorum of them must still keep the log and answer. With the sleeper among the f that may fail, it does;
where more have left for good, a sleeper cannot come back by itself, and must be given a committee to trust.
"""

from __future__ import annotations

from policies.consensus.fields import Digest, Signature
from policies.consensus.quorum import byzantine_quorum
from policies.jobs import Name
from policies.wire import Message, encode

PROOFS_KEPT = 64
"""Ends of epochs kept before the stable checkpoint's: some 60 kB with four members; half a day of ten minutes each
(our bound; who sleeps no longer needs nobody of the committee that it knew)."""


class Begun(Message, frozen=True):
    """An epoch, and where it began.

    Attributes:
        number: of the epoch.
        members, learners: its own.
        place: HotStuff's view, or PBFT's place, of what ended the epoch before.
        block: HotStuff's block there; empty in PBFT.
    """

    number: int
    members: tuple[Name, ...]
    learners: tuple[Name, ...]
    place: int
    block: Digest


class Vouch(Message, frozen=True, tag="vouch"):
    """The sender came through this epoch itself, and keeps the log."""

    begun: Begun
    signature: Signature


def vouch_bytes(domain: str, log: bytes, begun: Begun) -> bytes:
    """Return what a member signs. An epoch of a log begins once, so it is true for ever, whoever repeats it."""
    return encode((domain, log, begun))


def vouched(stable: int) -> int:
    """Return for which epoch to vouch, the stable checkpoint being of epoch ``stable``.

    One for many checkpoints, so that members whose checkpoints differ say the same; and late enough for proofs to lead
    from it to any stable checkpoint of the next half of `PROOFS_KEPT` epochs.
    """
    return stable - stable % max(1, PROOFS_KEPT // 2)


class Words:
    """What members of one epoch say of later ones: the newest word of each, so that a liar has one place."""

    def __init__(self) -> None:
        self.newest: dict[str, Vouch] = {}

    def news(self, sender: str, vouch: Vouch) -> bool:
        """Return whether somebody says more than before."""
        before = self.newest.get(sender)
        return before is None or vouch.begun.number > before.begun.number

    def add(self, sender: str, vouch: Vouch, members: tuple[str, ...]) -> bool:
        """Take in a member's verified word; return whether a quorum of ``members`` says the same."""
        self.newest[sender] = vouch
        same = sum(said.begun == vouch.begun for name in members if (said := self.newest.get(name)) is not None)
        return same >= byzantine_quorum(len(members))
