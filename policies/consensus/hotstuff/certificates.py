"""Certificates: what is signed, when enough of the right members have signed, and a memory of what was verified.

Quorums count distinct members of one epoch, never signatures. Safety rests on this file as much as on `safety`.
Whatever is signed names its log, which is the first epoch's block: whoever sits in two with one key votes for a block
in each, and neither may take the other's vote for one of its own, or for a second one.
"""

from __future__ import annotations

from hashlib import blake2b

from policies.consensus.hotstuff.messages import (
    Block,
    Certificate,
    CheckpointVote,
    Entry,
    StableCheckpoint,
    TimeOut,
    TimeOutCertificate,
    Vote,
)
from policies.consensus.quorum import byzantine_quorum
from policies.port import Keys
from policies.wire import encode

KNOWN_MAX = 256
"""Certificates remembered as verified, so that each is verified once however often it comes."""


def block_digest(block: Block) -> bytes:
    """Return a block's name. It covers its certificate with the signatures.

    So whoever fetches a certified block holds the certificate in it that a quorum verified, and can show it to others:
    as the end of an epoch, or under a checkpoint.
    """
    whole = ("hotstuff block", block.epoch, block.view, block.height, block.qc, block.entries)
    return blake2b(encode(whole), digest_size=32).digest()


def entry_key(entry: Entry) -> bytes:
    """Return the name under which pools know an entry: all of it, so that nobody takes another's number."""
    return blake2b(encode(entry), digest_size=16).digest()


def vote_bytes(log: bytes, epoch: int, view: int, block: bytes) -> bytes:
    """Return what a vote signs."""
    return encode(("hotstuff vote", log, epoch, view, block))


def time_out_bytes(log: bytes, epoch: int, term: int, high_view: int) -> bytes:
    """Return what a time-out vote signs."""
    return encode(("hotstuff time-out", log, epoch, term, high_view))


def checkpoint_bytes(log: bytes, point: CheckpointVote | StableCheckpoint) -> bytes:
    """Return what a checkpoint vote signs. ``block`` chains over all that was committed before it."""
    c = point
    return encode(("hotstuff checkpoint", log, c.epoch, c.index, c.first, c.height, c.block, c.state))


class Verifier:
    """Verifies certificates of a log, each once.

    ``known`` is bounded by `KNOWN_MAX`; the oldest is forgotten first.
    """

    def __init__(self, log: bytes) -> None:
        self.log = log
        self.known: dict[Certificate | TimeOutCertificate, None] = {}

    def remember(self, certificate: Certificate | TimeOutCertificate) -> None:
        """Note one that was made here of votes verified one by one."""
        self.known[certificate] = None
        if len(self.known) > KNOWN_MAX:
            del self.known[next(iter(self.known))]

    def certificate(self, keys: Keys, members: tuple[str, ...], qc: Certificate) -> bool:
        """Whether a quorum of ``members`` signed it."""
        if qc in self.known:
            return True
        data = vote_bytes(self.log, qc.epoch, qc.view, qc.block)
        if not signed(keys, members, data, qc.votes):
            return False
        self.remember(qc)
        return True

    def time_outs(self, keys: Keys, members: tuple[str, ...], tc: TimeOutCertificate) -> bool:
        """Whether a quorum of ``members`` gave the term up; the certificate in it is verified apart."""
        if tc in self.known:
            return True
        signers = {name for name, _, _ in tc.votes}
        if not _enough(members, len(tc.votes), signers) or tc.high.view != max(high for _, high, _ in tc.votes):
            return False
        for name, high, signature in tc.votes:
            if not keys.verify(name, time_out_bytes(self.log, tc.epoch, tc.term, high), signature):
                return False
        self.remember(tc)
        return True

    def stable(self, keys: Keys, members: tuple[str, ...], checkpoint: StableCheckpoint) -> bool:
        """Whether a quorum of ``members`` signed a checkpoint."""
        return signed(keys, members, checkpoint_bytes(self.log, checkpoint), checkpoint.votes)


def signed(keys: Keys, members: tuple[str, ...], data: bytes, votes: tuple[tuple[str, bytes], ...]) -> bool:
    """Whether ``votes`` are a quorum of distinct ``members``, each with its signature of ``data``."""
    if not _enough(members, len(votes), {name for name, _ in votes}):
        return False
    return all(keys.verify(name, data, signature) for name, signature in votes)


def _enough(members: tuple[str, ...], count: int, signers: set[str]) -> bool:
    """Whether the signers are members, a quorum, and none of them stands there twice."""
    return byzantine_quorum(len(members)) <= len(signers) == count and signers <= set(members)


class Votes:
    """The newest vote of each member, verified; so a flood of votes for views to come costs its sender's own place."""

    def __init__(self) -> None:
        self.latest: dict[str, Vote] = {}

    def counted(self, voter: str, vote: Vote) -> bool:
        """Whether this is the voter's newest vote, which was verified and need not be again."""
        return self.latest.get(voter) == vote

    def add(self, voter: str, vote: Vote, members: tuple[str, ...]) -> Certificate | None:
        """Take in a verified vote; return the certificate that it completes."""
        before = self.latest.get(voter)
        if before is not None and before.view >= vote.view:
            return None
        self.latest[voter] = vote
        latest, view, block = self.latest, vote.view, vote.block
        same = [
            (m, v.signature)
            for m in members
            if (v := latest.get(m)) and v.view == view and v.block == block and v.epoch == vote.epoch
        ]
        if len(same) != byzantine_quorum(len(members)):
            return None
        return Certificate(vote.epoch, view, block, tuple(same))


def time_out_certificate(
    time_outs: dict[str, TimeOut], term: int, members: tuple[str, ...]
) -> TimeOutCertificate | None:
    """Return the certificate that verified time-outs of ``term`` make, or None while they are too few."""
    same = [(name, t) for name in members if (t := time_outs.get(name)) and t.term == term]
    if len(same) < byzantine_quorum(len(members)):
        return None
    same = same[: byzantine_quorum(len(members))]
    high = max((t.high for _, t in same), key=lambda qc: qc.view)
    votes = tuple((name, t.high.view, t.signature) for name, t in same)
    return TimeOutCertificate(same[0][1].epoch, term, votes, high)
