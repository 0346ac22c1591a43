"""PBFT's rules one by one: what a member signs, what it believes, and what it remembers after a crash."""

from __future__ import annotations

from itertools import combinations, permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.epochs import VIEWS
from policies.consensus.pbft.proofs import GENESIS, Committee, again
from policies.consensus.pbft.safety import BODIES_MAX
from tests.policies.consensus.pbft_hand import (
    BATCH,
    NAMES,
    OTHER,
    RING,
    SIGN,
    Keys,
    One,
    bare,
    change,
    commit,
    new_view,
    pre_prepare,
    prepare,
    prepared,
    signer,
    stable_at,
)

# -- rule 1: one digest at a place of a view ----------------------------------------------------------


def test_a_backup_prepares_one_digest_at_a_place_of_a_view_also_after_a_crash() -> None:
    """The primary's first pre-prepare counts; another one at the place is not prepared in this life or the next."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH), pre_prepare(0, 1, OTHER))
    assert [v.digest for v in member.said(m.Prepare)] == [m.digest_of(BATCH)]

    risen = member.again()
    risen.hear("n0", pre_prepare(0, 1, OTHER))
    assert [v.digest for v in risen.said(m.Prepare)] == [m.digest_of(BATCH)]


def test_a_prepare_leaves_only_when_what_it_promises_is_durable() -> None:
    """Nobody can hear of a promise that a crash would undo."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH), durable=False)

    assert member.said(m.Prepare) == []


@pytest.mark.parametrize(
    ("sender", "proposal"),
    [
        ("n1", pre_prepare(0, 1, BATCH, by="n1")),
        ("n0", pre_prepare(0, 1, BATCH, by="n1")),
        ("n0", pre_prepare(0, 0, BATCH)),
        ("n0", pre_prepare(0, 9, BATCH)),
        ("n0", pre_prepare(0, 1, tuple(("n0", i, b"a") for i in range(9)))),
        ("n0", pre_prepare(0, 1, (("n0", 1, b"a" * 200_000), ("n0", 2, b"a" * 200_000)))),
        ("n1", pre_prepare(1, 1, BATCH)),
    ],
    ids=[
        "not the primary",
        "another's signature",
        "below the window",
        "above it",
        "too many",
        "too large",
        "later view",
    ],
)
def test_a_proposal_that_breaks_a_rule_is_not_prepared(sender: str, proposal: m.PrePrepare) -> None:
    """Only the primary of this view proposes, inside the window, within the bounds of a batch."""
    member = One()
    member.hear(sender, proposal)

    assert member.said(m.Prepare) == []
    assert all(slot.accepted[0] == -1 for slot in member.pbft.voter.slots.values())


# -- rule 2 and rule 5: quorums -----------------------------------------------------------------------


def test_a_commit_follows_matching_prepares_of_a_quorum_less_one() -> None:
    """The pre-prepare and 2f prepares, this member's own among them, of the same view and digest."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH))
    member.hear("n1", prepare("n1", 0, 1, OTHER))
    member.hear("n0", prepare("n0", 0, 1, BATCH))
    assert member.said(m.Commit) == []

    member.hear("n2", prepare("n2", 0, 1, BATCH))
    assert len(member.said(m.Commit)) == 1
    assert "p000000000001" in member.disk


def test_votes_are_counted_by_member_and_not_by_message() -> None:
    """One member's commits, however often they come and whatever they say, are one vote."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH))
    for _ in range(3):
        member.hear("n1", commit("n1", 0, 1, BATCH), commit("n1", 0, 1, OTHER))
        member.hear("n2", commit("n1", 0, 1, BATCH))
    assert member.pbft.applied == 0

    member.hear("n2", commit("n2", 0, 1, BATCH))
    member.hear("n0", commit("n0", 0, 1, BATCH))
    assert member.pbft.applied == 1


def test_commits_of_different_views_do_not_add_up() -> None:
    """A certificate is of one view, even where all name one digest."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH))
    member.hear("n0", commit("n0", 1, 1, BATCH))
    for name in ("n1", "n2"):
        member.hear(name, commit(name, 0, 1, BATCH))
    assert member.pbft.applied == 0

    member.hear("n0", commit("n0", 0, 1, BATCH))  # of the view before its last one: it has moved on
    assert member.pbft.applied == 0


def test_a_members_own_commit_counts_only_when_it_is_durable() -> None:
    """With two others' commits the third is this member's own, which a crash could still undo."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH))
    member.hear("n1", commit("n1", 0, 1, BATCH))
    member.hear("n2", commit("n2", 0, 1, BATCH))
    member.hear("n2", prepare("n2", 0, 1, BATCH), durable=False)
    assert member.pbft.applied == 0

    member.step((p.DURABLE, "", 10))
    assert member.pbft.applied == 1


@given(st.lists(st.sampled_from(NAMES), max_size=6))
def test_a_certificate_needs_a_quorum_of_different_members(names: list[str]) -> None:
    """It holds exactly if at least three of four signed, each once."""
    point = m.Point(4, 9, b"chain")
    votes = tuple((name, SIGN[name]("checkpoint", point)) for name in names)

    assert signer("n0").proves_stable(m.Stable(point, votes)) == (len(names) == len(set(names)) >= 3)


def test_a_signature_means_one_thing_in_one_committee() -> None:
    """A prepare is no commit, and what was signed for one committee is worth nothing in another."""
    place = (0, 1, m.digest_of(BATCH))
    other = Committee((*NAMES, "n4"))
    other.begin(Keys("n0"), 8)  # type: ignore[arg-type]
    signature = SIGN["n0"]("prepare", *place)

    assert signer("n1").verify("n0", signature, "prepare", *place)
    assert not signer("n1").verify("n0", signature, "commit", *place)
    assert not other.verify("n0", signature, "prepare", *place)
    assert not signer("n1").verify("n4", RING.signature("n4", b""), "prepare", *place)


def test_remembered_signatures_are_bounded() -> None:
    """Signatures found right are remembered for a window's votes and no longer."""
    committee = signer("n0")
    for seq in range(1000):
        committee.verify("n1", SIGN["n1"]("prepare", seq), "prepare", seq)

    assert len(committee.known) == committee.known_max == 4 * 8 * 4


# -- rules 3 and 4: views -----------------------------------------------------------------------------


def test_who_left_a_view_signs_nothing_in_it_also_after_a_crash() -> None:
    """What would have completed a certificate of the old view comes too late."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH))
    member.hear("n1", change("n1", 1))
    member.hear("n2", change("n2", 1))
    assert member.said(m.ViewChange)[-1].view == 1
    assert not member.pbft.voter.accept("n1", pre_prepare(1, 1, OTHER))  # the new view has not begun

    for life in (member, member.again()):
        life.sent.clear()
        life.hear("n2", prepare("n2", 0, 1, BATCH))
        life.hear("n0", pre_prepare(0, 2, OTHER))
        assert life.said(m.Commit) == life.said(m.Prepare) == []


def test_what_is_prepared_goes_along_also_after_a_crash() -> None:
    """A view change holds the prepared certificate of the life before."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH))
    member.hear("n2", prepare("n2", 0, 1, BATCH))
    risen = member.again()
    risen.hear("n1", change("n1", 1))
    risen.hear("n2", change("n2", 1))

    (held,) = risen.said(m.ViewChange)[-1].prepared
    assert (held.view, held.seq, held.digest) == (0, 1, m.digest_of(BATCH))
    assert signer("n0").proves_prepared(held)


def test_f_plus_one_view_changes_pull_a_member_along_and_f_do_not() -> None:
    """It joins the smallest view that one correct member at least has moved to."""
    member = One()
    member.hear("n1", change("n1", 9))
    assert member.pbft.term == 0
    member.hear("n1", change("n1", 12))
    assert member.pbft.term == 0

    member.hear("n2", change("n2", 5))
    assert member.pbft.term == 5


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.booleans()), max_size=4), max_size=4))
def test_what_is_proposed_again_is_what_a_naive_reading_says(sets: list[list[tuple[int, int, bool]]]) -> None:
    """Every place from the first to the last prepared one: the digest of the highest view, else the null request."""
    chosen = [{seq: (view, seq, BATCH if which else OTHER) for view, seq, which in own} for own in sets]
    changes = tuple(
        m.ViewChange(NAMES[i], 4, GENESIS, tuple(bare(*claim) for claim in own.values()), b"")
        for i, own in enumerate(chosen)
    )
    claims = [claim for own in chosen for claim in own.values()]
    top = max((seq for _, seq, _ in claims), default=0)
    _, places = again(changes)

    assert [seq for seq, _ in places] == list(range(1, top + 1))
    for seq, digest in places:
        views = [view for view, at, _ in claims if at == seq]
        allowed = {m.digest_of(b) for view, at, b in claims if at == seq and view == max(views)}
        assert digest in (allowed or {m.NULL})


HELD = (prepared(0, 2, BATCH),)
GOOD = (change("n0", 1, HELD), change("n1", 1), change("n2", 1))


def test_a_new_view_proposes_again_what_was_prepared_and_fills_gaps() -> None:
    """Members fetch the batch, prepare it, and give the null request no index."""
    member = One()
    member.hear("n1", new_view(GOOD))
    assert (member.pbft.term, member.pbft.leader) == (1, "n1")
    assert [v.seq for v in member.said(m.Prepare)] == [1]  # of place 2 it lacks the batch
    assert member.said(m.Missing) == [m.Missing(2, m.digest_of(BATCH))]

    member.hear("n0", m.Body(2, OTHER), m.Body(2, BATCH))
    assert [v.seq for v in member.said(m.Prepare)] == [1, 2]
    for seq, batch in ((1, ()), (2, BATCH)):
        for name in ("n0", "n1", "n2"):
            member.hear(name, commit(name, 1, seq, batch))
    assert (member.pbft.execution.point.seq, member.pbft.applied) == (2, 1)


def test_a_member_rises_again_in_the_view_it_had_entered() -> None:
    """It goes on there, and can show others the proof by which they enter it, too."""
    member = One()
    member.hear("n1", new_view(GOOD))
    risen = member.again()
    assert (risen.pbft.term, risen.pbft.leader, risen.pbft.voter.newest) == (1, "n1", new_view(GOOD))

    risen.hear("n1", pre_prepare(1, 3, OTHER))
    assert [v.seq for v in risen.said(m.Prepare)] == [1, 3]


def unproposed(view: int, seq: int, batch: m.Batch) -> m.Prepared:
    """Return a certificate of backups alone, whose primary proposed nothing."""
    return msgspec.structs.replace(prepared(view, seq, batch), signature=SIGN["n3"]("pre-prepare", view, seq, b""))


def twice(view: int, seq: int, batch: m.Batch) -> m.Prepared:
    """Return a certificate in which the primary's prepare stands for a backup's."""
    place = (view, seq, m.digest_of(batch))
    votes = tuple((name, SIGN[name]("prepare", *place)) for name in NAMES[:2])
    return m.Prepared(*place, SIGN[NAMES[view]]("pre-prepare", *place), votes)


IMPOSSIBLE = {
    "a certificate of a later view": lambda name: change(name, 1, (prepared(1, 2, BATCH),)),
    "a certificate of a view before the epoch's": lambda name: change(name, 5, (prepared(-4, 2, BATCH),)),
    "a place beyond the window": lambda name: change(name, 5, (prepared(0, 9, BATCH),)),
    "a place below the checkpoint": lambda name: change(name, 5, HELD, stable_at(m.Point(4, 4, b"c"))),
    "a place twice": lambda name: change(name, 5, HELD * 2),
    "more votes than members": lambda name: change(name, 5, (), m.Stable(m.Point(4, 4, b"c"), (("n0", b""),) * 5)),
    "a view of another epoch": lambda name: change(name, VIEWS),
}


@pytest.mark.parametrize("why", IMPOSSIBLE)
def test_a_view_change_that_cannot_be_is_neither_kept_nor_counted(why: str) -> None:
    """Though its member signed it: f + 1 of them pull nobody to their view, and each is counted."""
    member = One()
    for name in ("n1", "n2"):
        member.hear(name, IMPOSSIBLE[why](name))

    assert (member.pbft.term, member.pbft.ahead.changes) == (0, {})
    assert member.pbft.dropped == {"view change that cannot be": 2}


def test_a_view_change_without_proof_is_dropped_by_who_is_to_begin_the_view() -> None:
    """It is no part of the quorum, nor verified again with each that comes; the view begins by three others."""
    member = One("n1")
    false = change("n3", 1, (bare(0, 2, BATCH),))
    member.hear("n3", false)
    member.hear("n0", change("n0", 1, HELD))
    assert not member.pbft.voter.active
    assert (member.pbft.dropped, "n3" in member.pbft.ahead.changes) == ({"view change without proof": 1}, False)

    wrong = member.pbft.committee.false
    member.hear("n2", change("n2", 1))
    assert (member.pbft.role, member.pbft.committee.false) == ("leader", wrong)


FORGED = {
    "below quorum": new_view(GOOD[:2]),
    "a member twice": new_view((GOOD[0], GOOD[1], GOOD[1])),
    "another view's change": new_view((GOOD[0], GOOD[1], change("n2", 2))),
    "a prepared batch left out": new_view(GOOD, places=[]),
    "another batch": new_view(GOOD, places=[(1, m.NULL), (2, m.digest_of(OTHER))]),
    "one place more": new_view(GOOD, places=[*again(GOOD)[1], (3, m.NULL)]),
    "a change that is not signed": new_view((*GOOD[:2], msgspec.structs.replace(GOOD[2], signature=bytes(64)))),
    "not the primary's": msgspec.structs.replace(new_view(GOOD), signature=SIGN["n2"]("new-view", 1, b"")),
    "a forged certificate": new_view((change("n0", 1, (bare(0, 2, BATCH),)), *GOOD[1:])),
    "a certificate without the primary": new_view((change("n0", 1, (unproposed(0, 2, BATCH),)), *GOOD[1:])),
    "a certificate in which the primary votes twice": new_view((change("n0", 1, (twice(0, 2, BATCH),)), *GOOD[1:])),
    "a certificate of this view": new_view((change("n0", 1, (prepared(1, 2, BATCH),)), *GOOD[1:])),
    "a place beyond the window": new_view((change("n0", 1, (prepared(0, 9, BATCH),)), *GOOD[1:])),
    "a place without end": new_view((change("n0", 1, (prepared(0, 2**60, BATCH),)), *GOOD[1:]), places=[]),
    "a forged checkpoint": new_view((change("n0", 1, (), m.Stable(m.Point(4, 4, b"c"), ())), *GOOD[1:]), places=[]),
    "a checkpoint of two": new_view((change("n0", 1, (), stable_at(m.Point(4, 4, b"c"), NAMES[:2])), *GOOD[1:])),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_new_view_that_does_not_follow_from_its_proofs_is_not_entered(forged: str) -> None:
    """Every member computes the set O itself and believes no certificate that it has not checked."""
    member = One()
    member.hear("n1", FORGED[forged])

    assert (member.pbft.term, member.said(m.Prepare)) == (0, [])


def test_a_new_view_begins_at_the_latest_stable_checkpoint() -> None:
    """What was prepared at or below it is not proposed again, whoever's checkpoint it is and whatever the order."""
    stable = stable_at(m.Point(2, 2, b"chain"))
    ahead = (prepared(0, 4, OTHER),)
    for order in permutations((change("n0", 1, HELD), change("n1", 1, ahead, stable), change("n2", 1))):
        assert again(order) == (stable, [(3, m.NULL), (4, m.digest_of(OTHER))])


def test_a_decided_batch_is_in_every_new_view() -> None:
    """Whichever quorum moves on, one of it was in the quorum that held the batch prepared."""
    for holders in combinations(NAMES, 3):
        for movers in permutations(NAMES, 3):
            changes = tuple(change(name, 1, HELD if name in holders else ()) for name in movers)
            assert (2, m.digest_of(BATCH)) in again(changes)[1]


def test_the_batches_kept_for_one_place_are_bounded_and_the_needed_ones_stay() -> None:
    """A place that stood for another batch in many views keeps the prepared one, the accepted one and few others."""
    member = One("n0")
    voter = member.pbft.voter
    member.hear("n1", new_view((change("n1", 5, HELD), change("n2", 5), change("n3", 5)), 5))
    member.hear("n1", m.Body(2, BATCH))
    for i in range(20):
        voter.keep(2, (("n0", 100 + i, b""),))

    assert len(voter.slots[2].bodies) <= BODIES_MAX
    assert m.digest_of(BATCH) in voter.slots[2].bodies
