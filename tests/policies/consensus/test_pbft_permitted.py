"""PBFT votes for the change of members that the state machine has decided, and for no other."""

from __future__ import annotations

import pytest

from policies.consensus.pbft import messages as m
from policies.consensus.pbft.epochs import command_of
from policies.local import Allow, Reconfigure
from tests.policies.consensus.pbft_hand import One, pre_prepare
from tests.policies.consensus.test_pbft_epochs import MIXED, NEW, OLD, SEVEN, Village, move


@pytest.mark.parametrize("asked_at", ["n0", "n2"])
def test_what_one_member_wants_is_not_what_the_committee_decided(asked_at: str) -> None:
    """No change is voted for but the permitted one: whoever asks for another, the primary too, keeps nobody from it."""
    village = Village(8)
    village.permit(at=tuple(name for name in OLD if name != asked_at))
    village.become(asked_at, NEW)
    village.run(2)
    assert {village.pbft(name).committee.members for name in OLD} == {OLD}

    village.permit(MIXED)
    village.run(0.5)
    village.become("n3", MIXED)
    village.run(3)
    proposed = village.put("n1", 3)
    village.run(1)
    village.require(MIXED, proposed)


def test_a_change_that_is_permitted_late_still_comes() -> None:
    """State machines decide at different times: a member that hears the primary's proposal too early votes later."""
    village = Village(8)
    village.permit()
    village.permit(MIXED, at=("n0", "n2"))
    village.become("n2", MIXED)
    village.run(1)
    assert village.pbft("n0").committee.members == OLD

    village.permit(MIXED, at=("n1", "n3"))
    village.run(3)
    village.require(MIXED, [])


def test_what_was_permitted_is_permitted_once() -> None:
    """After the change nothing is: nobody can have epoch after epoch begin with the members that there are."""
    village = Village(8)
    village.permit(MIXED)
    village.become("n2", MIXED)
    village.run(3)

    village.require(MIXED, [])
    assert {village.pbft(name).permitted for name in OLD[1:]} == {((), ())}


def test_a_change_that_waits_is_forgotten_when_another_is_permitted() -> None:
    """It would keep the permitted one from its place."""
    member = One()
    member.tell(Reconfigure(SEVEN))
    member.tell(Allow(MIXED))
    assert member.pbft.pool.waiting == {}

    member.hear("n0", pre_prepare(0, 1, (("n0", 1, command_of(0, SEVEN, ())),)))
    assert member.said(m.Prepare) == []
    member.hear("n0", pre_prepare(0, 1, move()))
    assert len(member.said(m.Prepare)) > 0
