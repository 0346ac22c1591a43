"""Evidence under PBFT: whoever signs two digests at one place is named by its own signatures, and nobody else ever."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies import port as p
from policies.consensus import convicts
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.evidence import Evidence, Kind, Witness, proves
from policies.wire import encode
from scenarios.adversaries import behaviours as b
from scenarios.schema import Network
from sim.keys import KeyRing
from tests.policies.consensus.pbft_cluster import Committee
from tests.policies.consensus.pbft_hand import (
    BATCH,
    NAMES,
    OTHER,
    RING,
    SIGN,
    One,
    change,
    new_view,
    pre_prepare,
    prepare,
    prepared,
    signer,
)

VERIFY = RING.handle("n3").verify
WINDOW = 8


def statement(name: str, kind: Kind, view: int, seq: int, batch: m.Batch) -> tuple[str, Kind, int, int, bytes, bytes]:
    """What a witness hears."""
    place = (view, seq, m.digest_of(batch))
    return (name, kind, *place, SIGN[name](kind, *place))


def contradiction(first: Kind = "prepare", second: Kind = "prepare") -> Evidence:
    """Evidence of n1's guilt."""
    witness = Witness(signer("n3"), WINDOW)
    assert witness.saw(statement("n1", first, 5, 2, BATCH)) is None
    found = witness.saw(statement("n1", second, 5, 2, OTHER))
    assert found is not None
    return found


@pytest.mark.parametrize("first", ["pre-prepare", "prepare", "commit"])
@pytest.mark.parametrize("second", ["pre-prepare", "prepare", "commit"])
def test_two_digests_at_one_place_prove_guilt_to_anybody(first: Kind, second: Kind) -> None:
    """Of whichever kinds the signatures are: who reads the evidence needs the keys, and neither committee nor log."""
    evidence = contradiction(first, second)

    assert evidence.culprit == "n1"
    assert proves(evidence, VERIFY)
    assert convicts(encode(evidence), VERIFY) == "n1"


@pytest.mark.parametrize(
    "change",
    [
        {"culprit": "n2"}, {"committee": bytes(32)}, {"view": 6}, {"seq": 3}, {"first": contradiction().second},
        {"first": ("commit", *contradiction().first[1:])}, {"second": ("prepare", bytes(32), bytes(64))},
    ],
)  # fmt: skip
def test_evidence_that_was_changed_convicts_nobody(change: dict[str, Any]) -> None:
    """Another name, committee, place or kind, one statement twice, a signature of nobody; nor what is no evidence."""
    assert convicts(encode(msgspec.structs.replace(contradiction(), **change)), VERIFY) == ""
    assert convicts(encode(contradiction())[:-1], VERIFY) == ""


@settings(deadline=None)  # signatures are verified, on a machine that may be busy
@given(
    st.lists(
        st.tuples(st.sampled_from(["pre-prepare", "prepare", "commit"]), st.integers(0, 3), st.integers(1, WINDOW)),
        max_size=40,
    ),
    st.randoms(use_true_random=False),
)
def test_whoever_names_one_digest_a_place_is_never_named(said: list[tuple[Kind, int, int]], random: Any) -> None:
    """In any order, again and again, also where a stranger's false words in its name stand between: no evidence."""
    witness = Witness(signer("n3"), WINDOW)
    for kind, view, seq in said:
        true = statement("n1", kind, view, seq, BATCH if (view + seq) % 2 else OTHER)
        false = (*statement("n1", kind, view, seq, (("n1", 9, b"false"),))[:5], bytes(64))
        for heard in random.sample([true, true, false], 3):
            assert witness.saw(heard) is None


def test_false_words_hide_no_later_contradiction() -> None:
    """What was heard first and is signed by nobody gives way to what is signed; then the second digest is seen."""
    witness = Witness(signer("n3"), WINDOW)
    false = (*statement("n1", "commit", 0, 1, (("n1", 9, b"false"),))[:5], bytes(64))

    assert witness.saw(false) is None
    assert witness.saw(statement("n1", "commit", 0, 1, BATCH)) is None
    assert witness.saw(statement("n1", "commit", 0, 1, OTHER)) is not None
    assert witness.saw(statement("n1", "commit", 0, 2, OTHER)) is None  # it is named once


def test_a_witness_remembers_no_more_than_the_window() -> None:
    """Of each member a statement a place, the lowest places forgotten first; of strangers nothing."""
    witness = Witness(signer("n3"), WINDOW)
    for seq in range(1, 100):
        witness.saw(statement("n1", "prepare", 0, seq, BATCH))
        witness.saw(("stranger", "prepare", 0, seq, bytes(32), bytes(64)))

    assert {name: sorted(places) for name, places in witness.seen.items()} == {"n1": [*range(92, 100)]}


def test_a_primary_that_names_two_batches_is_seen_at_once_or_by_the_next_view() -> None:
    """Both pre-prepares at one member; or one here, and the other in a certificate that the new view shows."""
    at_once, later = One("n2"), One("n2")
    at_once.hear("n0", pre_prepare(0, 1, BATCH))
    kinds = at_once.step((p.MESSAGE, "", "n0", encode(pre_prepare(0, 1, OTHER))))
    later.hear("n0", pre_prepare(0, 1, BATCH))
    changes = (change("n1", 1), change("n3", 1, (prepared(0, 1, OTHER),)), change("n2", 1))
    seen = later.step((p.MESSAGE, "", "n1", encode(new_view(changes))))

    assert "evidence" in kinds
    assert "evidence" in seen


def test_a_backup_shows_what_it_was_told_to_whom_was_told_something_else() -> None:
    """n2 and n3 hear different batches: n3 hears n2's prepare, before or after its own batch, and shows n2 the
    signature that makes two. To one who prepares the same nothing is shown, and false signatures prove nothing."""
    for first in (True, False):
        told = One("n3")
        words = [("n0", pre_prepare(0, 1, BATCH)), ("n2", prepare("n2", 0, 1, OTHER))]
        for sender, word in words if first else words[::-1]:
            told.hear(sender, word)
        told.hear("n1", prepare("n1", 0, 1, BATCH))
        shown = [(name, word) for name, word in told.sent if isinstance(word, m.Shown)]
        assert [name for name, _ in shown] == ["n2"]

    other = One("n2")
    other.hear("n0", pre_prepare(0, 1, OTHER))
    false = msgspec.structs.replace(shown[0][1], signature=bytes(64))
    assert "evidence" not in other.step((p.MESSAGE, "", "n3", encode(false)))
    assert "evidence" in other.step((p.MESSAGE, "", "n3", encode(shown[0][1])))


def test_what_a_primary_proposed_before_its_view_began_here_or_in_an_earlier_life_convicts_it_as_well() -> None:
    """n1 gives n2 one batch and n3 another: n2 finds out by the other batch, or by n3's word, however it got its own.
    n3 says so to n2 where it heard n2's prepare before the view began."""
    begun = new_view((change("n0", 1), change("n1", 1), change("n3", 1)))
    mine, other = pre_prepare(1, 1, BATCH), pre_prepare(1, 1, OTHER)
    word = m.Shown(1, 1, m.digest_of(OTHER), other.signature)
    for sender, said in (("n1", other), ("n3", word)):
        early, restarted = One("n2"), One("n2")
        early.hear("n1", mine, begun)
        restarted.hear("n1", begun, mine)
        for told in (early, restarted.again()):
            assert "evidence" in told.step((p.MESSAGE, "", sender, encode(said)))

    told = One("n3")
    told.hear("n1", other)
    told.hear("n2", prepare("n2", 1, 1, BATCH))
    told.hear("n1", begun)
    assert [(name, said) for name, said in told.sent if isinstance(said, m.Shown)] == [("n2", word)]


def test_votes_of_a_view_that_has_not_begun_are_not_remembered() -> None:
    """Else a liar's word for far views would push out what it said in this one."""
    member = One("n3")
    member.hear("n1", prepare("n1", 4, 1, BATCH))

    assert member.pbft.witness.seen == {}


# -- in a cluster -------------------------------------------------------------------------------------


def culprits(committee: Committee) -> set[str]:
    """Whom honest members accuse; each accusation must verify."""
    keys = KeyRing(committee.cluster.seed).handle("n0")
    told = [d.value for d in committee.cluster.decisions if d.kind == "evidence" and d.node in committee.honest]
    for fields in told:
        assert convicts(msgspec.msgpack.encode(fields), keys.verify) == fields[1]
    return {fields[1] for fields in told}


EQUIVOCATORS = {
    "a primary's twin for two": ("n0", b.Twins(peers=("n2", "n3"))),
    "two prepares": ("n1", b.DoubleVote(path="consensus", tags=("prepare",), field=(2,), resign=True)),
    "two commits": ("n2", b.DoubleVote(path="consensus", tags=("commit",), field=(2,), resign=True)),
}


@pytest.mark.parametrize("who", EQUIVOCATORS)
def test_an_equivocator_is_found_out(who: str) -> None:
    """A twin and a member that votes for two digests are named, and the log stays safe."""
    liar, wrong = EQUIVOCATORS[who]
    committee = Committee(4, adversaries={liar: [wrong]})
    for k in range(12):
        committee.put(committee.honest[k % 3], every_s=0.1)
    committee.run(2)

    committee.require_agreement()
    assert culprits(committee) == {liar}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10_000),
    liar=st.sampled_from(NAMES),
    half=st.sets(st.sampled_from(NAMES), min_size=1, max_size=2),
    cuts=st.lists(st.sets(st.sampled_from(NAMES), max_size=2), max_size=4),
    crash=st.sampled_from(["", *NAMES]),
)
def test_twins_under_random_cuts_and_a_crash_break_nothing_and_only_the_twin_is_named(
    seed: int, liar: str, half: set[str], cuts: list[set[str]], crash: str
) -> None:
    """Whatever the schedule: agreement, evidence that verifies and names only the twin, progress once it is calm."""
    rough = Network(backbone_s=0.005, jitter_sigma=1.0, loss=0.1, duplicate=0.1)
    committee = Committee(4, seed, network=rough, adversaries={liar: [b.Twins(peers=tuple(sorted(half - {liar})))]})
    for cut in cuts:
        committee.cluster.partition(cut)
        committee.put(committee.honest[0], 3, every_s=0.1)
        committee.run(0.8)
    if crash:
        committee.crash(crash, torn=0.3)
        committee.put(committee.honest[1], 2)
        committee.run(0.5)
        committee.restart(crash)
    committee.cluster.heal()
    committee.require_live(30)

    assert culprits(committee) <= {liar}
