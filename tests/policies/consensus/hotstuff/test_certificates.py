"""Certificates: quorums of distinct members over the right bytes, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.consensus.hotstuff.certificates import (
    KNOWN_MAX,
    Verifier,
    Votes,
    block_digest,
    time_out_bytes,
    time_out_certificate,
    vote_bytes,
)
from policies.consensus.hotstuff.messages import Block, Certificate, TimeOut, TimeOutCertificate, Vote
from policies.consensus.hotstuff.sync import Sync
from policies.consensus.quorum import byzantine_quorum
from sim.keys import KeyRing

MEMBERS = ("a", "b", "c", "d")
RING = KeyRing(1)
KEYS = RING.handle("a")
BLOCK = b"x" * 32
LOG = b"log"


def signed(name: str, view: int = 7, epoch: int = 0, block: bytes = BLOCK, log: bytes = LOG) -> tuple[str, bytes]:
    """Return a member and its vote's signature."""
    return name, RING.signature(name, vote_bytes(log, epoch, view, block))


def of(*votes: tuple[str, bytes], view: int = 7, epoch: int = 0, block: bytes = BLOCK) -> Certificate:
    """Return a certificate."""
    return Certificate(epoch, view, block, votes)


GOOD = of(signed("a"), signed("b"), signed("c"))
FALSE: dict[str, Certificate] = {
    "below quorum": of(signed("a"), signed("b")),
    "nobody": of(),
    "one signer three times": of(signed("a"), signed("a"), signed("a")),
    "one signer twice beside a quorum": of(signed("a"), signed("b"), signed("c"), signed("c")),
    "an unknown signer": of(signed("a"), signed("b"), signed("e")),
    "an unknown signer beside a quorum": of(signed("a"), signed("b"), signed("c"), signed("e")),
    "a signature of another": of(signed("a"), signed("b"), ("c", signed("d")[1])),
    "an empty signature": of(signed("a"), signed("b"), ("c", b"")),
    "another view": of(signed("a"), signed("b"), signed("c"), view=8),
    "another epoch": of(signed("a"), signed("b"), signed("c"), epoch=1),
    "another block": of(signed("a"), signed("b"), signed("c"), block=b"y" * 32),
    "votes in another log": of(signed("a"), signed("b"), signed("c", log=b"another")),
    "votes of another view": of(signed("a"), signed("b"), signed("c", view=6)),
}


def test_a_quorum_of_distinct_members_makes_a_certificate() -> None:
    """Three of four signatures of one vote are believed, and so are four."""
    assert Verifier(LOG).certificate(KEYS, MEMBERS, GOOD)
    assert Verifier(LOG).certificate(KEYS, MEMBERS, of(*map(signed, MEMBERS)))


@pytest.mark.parametrize("why", FALSE)
def test_a_certificate_that_certifies_nothing_is_not_believed(why: str) -> None:
    """Duplicates, strangers, too few, wrong bytes: refused, and refused again."""
    verifier = Verifier(LOG)

    assert not verifier.certificate(KEYS, MEMBERS, FALSE[why])
    assert not verifier.certificate(KEYS, MEMBERS, FALSE[why])


class Counting:
    """A key handle that counts what it verifies."""

    def __init__(self) -> None:
        self.count = 0

    def sign(self, data: bytes) -> bytes:
        return KEYS.sign(data)

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        self.count += 1
        return KEYS.verify(identity, data, signature)


def test_a_certificate_is_verified_once_and_what_is_remembered_is_bounded() -> None:
    """The second time costs no signature; after `KNOWN_MAX` others it is verified anew."""
    keys, verifier = Counting(), Verifier(LOG)
    for _ in range(5):
        assert verifier.certificate(keys, MEMBERS, GOOD)
    assert keys.count == 3

    for view in range(KNOWN_MAX):
        verifier.remember(of(view=view))
    assert len(verifier.known) == KNOWN_MAX
    assert verifier.certificate(keys, MEMBERS, GOOD)
    assert keys.count == 6


def time_out(name: str, high: int, term: int = 3, epoch: int = 0) -> TimeOut:
    """Return a member's time-out."""
    signature = RING.signature(name, time_out_bytes(LOG, epoch, term, high))
    return TimeOut(epoch, term, of(view=high), signature, (0, b"", b"", b""))


def test_a_time_out_certificate_carries_the_highest_view_and_each_signers_own() -> None:
    """Built of the newest time-outs of one term; the certificate in it is of the highest view that one reports."""
    given_up = {name: time_out(name, high) for name, high in (("a", 4), ("b", 6), ("d", 5))}
    tc = time_out_certificate(given_up, 3, MEMBERS)

    assert tc is not None
    assert (tc.high.view, [vote[:2] for vote in tc.votes]) == (6, [("a", 4), ("b", 6), ("d", 5)])
    assert Verifier(LOG).time_outs(KEYS, MEMBERS, tc)
    assert not Verifier(b"another").time_outs(KEYS, MEMBERS, tc)
    assert time_out_certificate(given_up, 2, MEMBERS) is None
    assert time_out_certificate({k: v for k, v in given_up.items() if k != "a"}, 3, MEMBERS) is None


FORGERIES: dict[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]] = {
    "below quorum": lambda votes: votes[:2],
    "one signer twice": lambda votes: (votes[0], votes[0], votes[1]),
    "a stranger": lambda votes: (*votes[:2], ("e", 4, votes[2][2])),
    "a lower report": lambda votes: ((votes[0][0], 3, votes[0][2]), *votes[1:]),
}


@pytest.mark.parametrize("how", FORGERIES)
def test_a_forged_time_out_certificate_is_not_believed(how: str) -> None:
    """Signers are counted once, and what each reports is signed."""
    tc = time_out_certificate({name: time_out(name, 4) for name in "abc"}, 3, MEMBERS)
    assert tc is not None
    forged = TimeOutCertificate(tc.epoch, tc.term, FORGERIES[how](tc.votes), tc.high)

    assert not Verifier(LOG).time_outs(KEYS, MEMBERS, forged)


def test_a_time_out_certificate_must_show_its_highest_report() -> None:
    """A leader may not hide what a signer reported behind an older certificate."""
    tc = time_out_certificate(
        {name: time_out(name, high) for name, high in zip("abc", (4, 4, 6), strict=True)}, 3, MEMBERS
    )
    assert tc is not None

    assert not Verifier(LOG).time_outs(KEYS, MEMBERS, TimeOutCertificate(0, 3, tc.votes, of(view=4)))


@given(st.lists(st.tuples(st.sampled_from(MEMBERS), st.integers(1, 3), st.sampled_from((b"x", b"y"))), max_size=40))
def test_votes_make_a_certificate_exactly_when_a_quorum_of_newest_votes_agree(
    votes: list[tuple[str, int, bytes]],
) -> None:
    """Whatever comes in whatever order, what is completed is a quorum of distinct members; a place is one vote."""
    counted, newest = Votes(), dict[str, tuple[int, bytes]]()
    for name, view, block in votes:
        qc = counted.add(name, Vote(0, view, block, b"s"), MEMBERS)
        if newest.get(name, (0, b""))[0] < view:
            newest[name] = (view, block)
            agree = [member for member in MEMBERS if newest.get(member) == (view, block)]
            assert (qc is not None) == (len(agree) == byzantine_quorum(4))
            assert qc is None or {name for name, _ in qc.votes} == set(agree)
        else:
            assert qc is None
    assert len(counted.latest) <= len(MEMBERS)


def test_blocks_that_are_fetched_bring_the_certificates_that_a_quorum_verified() -> None:
    """With other signatures they are other blocks; else whoever believed them could prove the end of no epoch."""
    votes = tuple((name, b"signed by " + name.encode()) for name in ("n0", "n1", "n2"))
    block = Block(0, 2, 2, Certificate(0, 1, b"parent", votes), ())
    forged = msgspec.structs.replace(block, qc=Certificate(0, 1, b"parent", ()))
    sync = Sync()
    sync.want(Certificate(0, 2, block_digest(block), votes))

    assert not sync.take((forged,))
    assert sync.take((block,))
