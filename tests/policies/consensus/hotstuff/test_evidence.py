"""Evidence: whoever signs two blocks in one view is named, and nobody else ever is."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.consensus.hotstuff.certificates import vote_bytes
from policies.consensus.hotstuff.evidence import VIEWS_MAX, Witness, proves
from policies.consensus.hotstuff.messages import Evidence
from scenarios.adversaries import behaviours as b
from scenarios.schema import Network
from sim.keys import KeyRing
from tests.policies.consensus.hotstuff.small_log import CALM, SmallLog

RING = KeyRing(1)
KEYS = RING.handle("a")
LOG = b"log"


def vote(name: str, view: int, block: bytes) -> tuple[bytes, bytes]:
    """Return a block and a member's signature of its vote."""
    return block, RING.signature(name, vote_bytes(LOG, 0, view, block))


def test_two_blocks_in_one_view_are_evidence_that_anybody_verifies() -> None:
    """The witness reports the two signatures once; they verify, and any change in them does not."""
    witness = Witness(LOG)
    assert witness.saw("b", 0, 3, *vote("b", 3, b"x"), KEYS) is None
    assert witness.saw("b", 0, 3, *vote("b", 3, b"x"), KEYS) is None
    evidence = witness.saw("b", 0, 3, *vote("b", 3, b"y"), KEYS)

    assert evidence is not None
    assert proves(evidence, KEYS.verify)
    assert witness.saw("b", 0, 3, *vote("b", 3, b"z"), KEYS) is None
    first, second = evidence.first, evidence.second
    for wrong in (
        Evidence("c", LOG, 0, 3, first, second), Evidence("b", b"another", 0, 3, first, second),
        Evidence("b", LOG, 1, 3, first, second), Evidence("b", LOG, 0, 4, first, second),
        Evidence("b", LOG, 0, 3, first, first), Evidence("b", LOG, 0, 3, first, (second[0], first[1])),
    ):  # fmt: skip
        assert not proves(wrong, KEYS.verify)


def test_nobody_is_accused_by_a_vote_that_it_did_not_sign_nor_shielded_by_one() -> None:
    """A false signature beside a true one is no evidence, whichever came first, and hides no later contradiction."""
    for order in ((b"false", b"x"), (b"x", b"false")):
        witness = Witness(LOG)
        for block in order:
            signature = b"no signature" if block == b"false" else vote("b", 3, block)[1]
            assert witness.saw("b", 0, 3, block, signature, KEYS) is None
        assert witness.saw("b", 0, 3, *vote("b", 3, b"y"), KEYS) is not None


def test_a_witness_remembers_a_bounded_number_of_views() -> None:
    """A thousand views of votes leave `VIEWS_MAX`, the newest."""
    witness = Witness(LOG)
    for view in range(1000):
        witness.saw("b", 0, view, *vote("b", view, b"x"), KEYS)

    assert sorted(witness.seen["b"]) == list(range(1000 - VIEWS_MAX, 1000))


def culprits(log: SmallLog) -> set[str]:
    """Return whom honest members accuse; each accusation must verify."""
    keys = KeyRing(log.cluster.seed).handle("n0")
    for _, culprit, name, epoch, view, first, second in log.evidence():
        assert proves(Evidence(culprit, name, epoch, view, tuple(first), tuple(second)), keys.verify)
    return {fields[1] for fields in log.evidence()}


EQUIVOCATORS = {
    "a leader's twin for one": ("n0", b.Twins(peers=("n3",))),
    "a leader's twin for two": ("n0", b.Twins(peers=("n2", "n3"))),
    "another leader's twin": ("n1", b.Twins(peers=("n2", "n3"))),
    "two votes a view": ("n0", b.DoubleVote(path="consensus", tags=("vote",), field=(2,), resign=True)),
    "two votes of another": ("n1", b.DoubleVote(path="consensus", tags=("vote",), field=(2,), resign=True)),
}


@pytest.mark.parametrize("chain", [2, 3])
@pytest.mark.parametrize("who", EQUIVOCATORS)
def test_an_equivocator_is_found_out(who: str, chain: Literal[2, 3]) -> None:
    """A leader with a twin, and a member that votes for two blocks, are named; the log stays safe."""
    liar, wrong = EQUIVOCATORS[who]
    log = SmallLog(4, chain, network=CALM, adversaries={liar: [wrong]}, tenure=4)
    log.run(2, every=0.05, at=[name for name in log.members if name != liar])
    log.run(2)

    log.require_safe()
    assert culprits(log) == {liar}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    chain=st.sampled_from([2, 3]),
    liar=st.sampled_from(["n0", "n1", "n2", "n3"]),
    half=st.sets(st.sampled_from(["n0", "n1", "n2", "n3"]), min_size=1, max_size=2),
    cuts=st.lists(st.sets(st.sampled_from(["n0", "n1", "n2", "n3"]), max_size=2), max_size=5),
    crash=st.sampled_from(["", "n0", "n1", "n2", "n3"]),
    tenure=st.sampled_from([1, 4]),
)
def test_twins_under_random_cuts_and_a_crash_break_nothing_and_only_the_twin_is_named(
    seed: int, chain: Literal[2, 3], liar: str, half: set[str], cuts: list[set[str]], crash: str, tenure: int
) -> None:
    """Whatever the schedule: agreement, evidence that verifies and names only the twin, progress once it is calm."""
    network = Network(backbone_s=0.002, loss=0.05, duplicate=0.05, jitter_sigma=0.5)
    peers = tuple(sorted(half - {liar}))
    log = SmallLog(4, chain, seed, network, adversaries={liar: [b.Twins(peers=peers)]}, tenure=tenure)
    honest = [name for name in log.members if name != liar]
    for cut in cuts:
        log.cluster.partition(cut)
        log.run(0.4, every=0.1, at=honest)
    if crash:
        log.cluster.crash(crash, torn=0.3)
        log.run(0.3)
        log.cluster.restart(crash)
    log.cluster.heal()
    asked = log.run(0.6, every=0.2, at=honest)
    log.run(20)

    log.require_safe()
    assert culprits(log) <= {liar}
    log.require_live(asked, honest)
