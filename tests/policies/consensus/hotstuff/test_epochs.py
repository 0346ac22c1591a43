"""Epochs: other members take over, votes of another epoch count for nothing, and newcomers find their way in."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from policies.consensus.hotstuff.certificates import Verifier, vote_bytes
from policies.consensus.hotstuff.epoch import TERMS, Epoch, ends, genesis
from policies.consensus.hotstuff.messages import Handover, Vote
from policies.consensus.vouching import PROOFS_KEPT
from policies.local import Configured, Leadership
from policies.wire import encode
from scenarios.adversaries.behaviours import Silent
from sim.keys import KeyRing
from tests.policies.consensus.hotstuff.small_log import CALM, Members, SmallLog

CHAINS = pytest.mark.parametrize("chain", [2, 3])
OLD, NEW = tuple(f"n{k}" for k in range(4)), tuple(f"n{k}" for k in range(4, 8))


def changed(chain: Literal[2, 3], **more: Any) -> SmallLog:
    """Return a log that has passed from the old four to the new four."""
    log = SmallLog(8, chain, network=CALM, members=4, **more)
    log.run(1, every=0.05, at=OLD)
    log.cluster.request("n1", "client", "change", Members(NEW), "app")
    log.run(2)
    return log


@CHAINS
@pytest.mark.parametrize("every", [0, 5])
def test_four_hand_over_to_four_others_with_all_that_was_agreed(every: int, chain: Literal[2, 3]) -> None:
    """The new four hold what the old ones agreed on, by blocks or by a checkpoint, and go on; the old ones stop."""
    log = changed(chain, snapshot_every=every, checkpoint_every=5)
    before = log.app("n0").state
    asked = log.run(1, every=0.05, at=NEW)
    log.run(1)

    log.require_safe()
    log.require_live([*before, *asked], NEW)
    assert [log.member(name).epoch.number for name in (*OLD, *NEW)] == [1] * 8
    assert log.app("n0").state == before
    assert log.app("n0").configured == [Configured(20, NEW, ())]
    assert log.app("n5").configured[-1] == Configured(log.app("n5").configured[-1].index, NEW, ())


@CHAINS
def test_a_term_has_one_leader_across_epochs(chain: Literal[2, 3]) -> None:
    """Terms of the next epoch begin where none of the one before can reach."""
    log = changed(chain)
    log.run(1, every=0.05, at=NEW)
    leaders: dict[int, set[str]] = {}
    for decision in log.cluster.decisions:
        if decision.kind == "leader":
            leaders.setdefault(decision.value[1], set()).add(decision.node)

    assert all(len(names) == 1 for names in leaders.values())
    assert min(term for term, names in leaders.items() if names <= set(NEW)) == TERMS
    assert {log.member(name).pace.given_up for name in NEW} == {-1}  # and nobody gives one of them up


@CHAINS
def test_both_epochs_survive_a_power_cut_of_everybody(chain: Literal[2, 3]) -> None:
    """All eight restart: the members of the new epoch know that they are, and promise nothing twice."""
    log = changed(chain)
    log.run(0.5, every=0.05, at=NEW)
    for name in (*OLD, *NEW):
        log.cluster.crash(name)
    for name in (*OLD, *NEW):
        log.cluster.restart(name)
    asked = log.run(0.5, every=0.05, at=NEW)
    log.run(5)

    log.require_safe()
    log.require_live(asked, NEW)
    assert log.evidence() == []


@CHAINS
def test_a_member_that_slept_through_the_change_is_told(chain: Literal[2, 3]) -> None:
    """n3 stays a member, was down during the change, and takes part after it."""
    log = SmallLog(5, chain, network=CALM, members=4)
    log.run(0.5, every=0.05, at=OLD)
    log.cluster.crash("n3")
    log.cluster.request("n1", "client", "change", Members(("n1", "n2", "n3", "n4")), "app")
    log.run(2)
    log.cluster.restart("n3")
    asked = log.run(1, every=0.1, at=("n1", "n2", "n4"))
    log.run(5)
    asked += log.run(0.5, every=0.1, at=("n3",))
    log.run(2)

    log.require_safe()
    log.require_live(asked, ("n1", "n2", "n3", "n4"))


@CHAINS
@pytest.mark.parametrize("away", ["n0", "n3"])
def test_who_is_given_a_state_of_a_later_epoch_knows_who_leads_there(chain: Literal[2, 3], away: str) -> None:
    """It heard nothing for two epochs; it may have led the one that it knew, and does not go on as if it did.

    A term lasts, so that none that begins later tells it.
    """
    spell = [Silent(path="consensus", side="both", from_s=0.5, until_s=3.0)]
    log = SmallLog(
        4, chain, network=CALM, snapshot_every=2, checkpoint_every=2, tenure=65_536, adversaries={away: spell}
    )  # fmt: skip
    log.run(1)
    first, *rest = [name for name in OLD if name != away]
    for members in ((first, away, *rest), (*rest, away, first)):
        log.cluster.request(first, "client", members[0], Members(members), "app")
        log.run(0.3)
        log.run(0.3, every=0.05, at=(first,))
    log.run(3)

    member = log.member(away)
    assert (member.epoch.number, log.app(away).restored) == (2, 1)
    assert (member.leader, member.role) == (rest[0], "follower")
    assert log.app(away).leaderships[-1] == Leadership(member.term, rest[0])


@CHAINS
def test_a_learner_hears_everything_and_does_not_vote(chain: Literal[2, 3]) -> None:
    """n4 learns; with one of four members down the quorum of three still needs each of the others."""
    log = SmallLog(5, chain, network=CALM, members=4)
    log.cluster.request("n1", "client", "change", Members(OLD, ("n4",)), "app")
    log.run(1)
    asked = log.run(1, every=0.1, at=(*OLD, "n4"))
    log.run(1)
    log.require_live(asked, (*OLD, "n4"))
    for name in ("n2", "n3"):
        log.cluster.crash(name)
    log.run(0.1)
    before = log.member("n0").commit
    log.run(3, every=0.1, at=("n0", "n1", "n4"))

    assert log.member("n0").commit == before


@CHAINS
def test_learners_of_whom_all_become_members_at_once_learn_that_they_are(chain: Literal[2, 3]) -> None:
    """The old four have nothing to say any more, and the new four ask: they take over."""
    log = SmallLog(8, chain, network=CALM, members=4)
    log.cluster.request("n1", "client", "listen", Members(OLD, NEW), "app")
    log.run(1)
    log.cluster.request("n1", "client", "change", Members(NEW, OLD), "app")
    log.run(3)
    asked = log.run(0.5, every=0.1, at=NEW)
    log.run(2)

    log.require_safe()
    log.require_live(asked, NEW)
    assert [log.member(name).epoch.number for name in (*OLD, *NEW)] == [2] * 8


@CHAINS
def test_a_block_wanted_above_the_end_of_an_epoch_keeps_nobody_from_the_next(chain: Literal[2, 3]) -> None:
    """All others gave it up with the epoch: whoever wants it fetches the block that ends the epoch instead."""
    log = SmallLog(4, chain, network=CALM)
    log.run(0.5, every=0.05, at=OLD[:3])
    log.cluster.partition(["n3"])
    log.cluster.request("n1", "client", "change", Members((*OLD[1:], "n0")), "app")
    log.run(1)
    end = log.member("n0").catch_up.history.handovers[-1]
    log.member("n3").catch_up.sync.want(end.blocks[2].qc if chain == 3 else end.qc)
    log.cluster.heal()
    asked = log.run(1, every=0.1, at=OLD[:3])
    log.run(2)

    assert log.member("n3").epoch.number == 1
    log.require_live(asked, OLD)


@CHAINS
def test_votes_of_another_epoch_count_for_nothing(chain: Literal[2, 3]) -> None:
    """A vote says its epoch in what it signs: one of epoch 0 is not counted in epoch 1, whoever resends it."""
    log = changed(chain)
    member, ring = log.member("n4"), KeyRing(1)
    view, block = member.pace.view, b"x" * 32
    for name in ("n5", "n6", "n7"):
        signature = ring.signature(name, vote_bytes(member.log_name, 0, view, block))
        member.on_message(name, Vote(0, view, block, signature))
        member.on_message(name, Vote(1, view, block, signature))

    assert all(vote.block != block for vote in member.votes.latest.values())
    assert member.refused["a vote with a false signature"] == 3


@CHAINS
def test_a_handover_is_believed_only_with_its_certificates(chain: Literal[2, 3]) -> None:
    """Blocks that do not follow one another, too few of them, or another epoch's members prove nothing."""
    log = changed(chain)
    handover: Handover = log.member("n4").catch_up.history.handovers[0]
    keys, epoch = KeyRing(1).handle("n0"), genesis(OLD)[1]
    strangers = genesis(NEW)[1]

    def proven(shown: Handover, of: Epoch, name: bytes = epoch.root.block) -> bool:
        return ends(shown, of, chain, Verifier(name), keys)

    assert proven(handover, epoch)
    assert not proven(handover, strangers)
    assert not proven(handover, epoch, b"another log")
    assert not proven(Handover(handover.blocks[:-1], handover.qc), epoch)
    assert not proven(Handover(handover.blocks[:1], handover.blocks[1].qc), epoch)
    assert not proven(Handover(handover.blocks[1:], handover.qc), epoch)


@CHAINS
def test_a_newcomer_verifies_one_epochs_end_a_step(chain: Literal[2, 3], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many epochs lie behind it, a quorum's signatures for each: no step of it is long."""
    verified: list[int] = []

    def counted(handover: Handover, epoch: Any, *rest: Any) -> bool:
        verified.append(log.member("n4").port.now)
        return ends(handover, epoch, *rest)

    log = SmallLog(5, chain, network=CALM, members=4, snapshot_every=5, checkpoint_every=5)
    for turn in (1, 2, 3):
        log.cluster.request("n1", "client", f"turn {turn}", Members((*OLD[turn:], *OLD[:turn])), "app")
        log.run(1, every=0.05, at=OLD)
    monkeypatch.setattr("policies.consensus.hotstuff.transfer.ends", counted)
    log.cluster.request("n1", "client", "newcomer", Members((*OLD, "n4")), "app")
    log.run(3, every=0.1, at=OLD)
    log.run(1)

    assert log.app("n4").restored > 0
    assert log.app("n4").state == log.app("n0").state
    assert len(set(verified)) == len(verified) >= 3


def three_epochs_later() -> SmallLog:
    """Return a log whose four members have changed their order three times, beside a fifth node that is none."""
    log = SmallLog(5, 2, network=CALM, members=4, snapshot_every=5, checkpoint_every=5)
    for turn in (1, 2, 3):
        log.cluster.request("n1", "client", f"turn {turn}", Members((*OLD[turn:], *OLD[:turn])), "app")
        log.run(1, every=0.05, at=OLD)
    return log


@pytest.mark.parametrize("broken", [0, 2])
def test_a_state_behind_an_end_that_proves_nothing_is_refused(broken: int) -> None:
    """Whichever of the epochs' ends it is; and the next state that is shown is looked at again."""
    log = three_epochs_later()
    member, transfer = log.member("n4"), log.member("n4").catch_up.transfer
    offer = log.member("n0").catch_up.transfer.offer
    ends_of = list(offer.handovers)
    ends_of[broken] = Handover(ends_of[broken].blocks, ends_of[broken - 1].qc)
    member.catch_up.sync.want(log.member("n0").safety.high)

    transfer.on_transferred("n0", msgspec.structs.replace(offer, handovers=tuple(ends_of)))
    for _ in range(5):
        transfer.prove()
    assert (transfer.proving, transfer.arriving) == ({}, None)
    assert member.refused["a state that nothing proves"] == 1

    transfer.on_transferred("n0", offer)
    for _ in range(5):
        transfer.prove()
    assert transfer.arriving.given == offer


def test_whoever_shows_false_states_all_the_time_keeps_no_other_from_being_looked_at() -> None:
    """Each of its states has true ends but the last: a true one of another member is proven in turn."""
    log = three_epochs_later()
    member, transfer = log.member("n4"), log.member("n4").catch_up.transfer
    offer = log.member("n0").catch_up.transfer.offer
    *true, last = offer.handovers
    false = msgspec.structs.replace(offer, handovers=(*true, Handover(last.blocks, true[-1].qc)))
    member.catch_up.sync.want(log.member("n0").safety.high)
    for _ in range(2 * len(offer.handovers) + 2):
        transfer.on_transferred("n1", false)
        transfer.on_transferred("n0", offer)
        transfer.prove()

    assert transfer.arriving.given == offer
    assert member.refused == {"a state that nothing proves": 1}


def test_a_state_behind_more_ends_than_are_kept_is_refused() -> None:
    """No member keeps so many: nobody has them verified, nor held in memory until then."""
    log = SmallLog(5, 2, network=CALM, members=4, snapshot_every=5, checkpoint_every=5)
    log.cluster.request("n1", "client", "turn", Members((*OLD[1:], *OLD[:1])), "app")
    log.run(1, every=0.05, at=OLD)
    member, offer = log.member("n4"), log.member("n0").catch_up.transfer.offer
    member.catch_up.sync.want(log.member("n0").safety.high)
    long = msgspec.structs.replace(offer, handovers=offer.handovers * (PROOFS_KEPT + 1))
    member.catch_up.transfer.on_transferred("n1", long)

    assert not member.catch_up.transfer.proving
    assert member.refused == {"a state that nothing proves": 1}


def test_members_that_cannot_be_are_never_ordered() -> None:
    """Nobody, or somebody twice: refused where it is asked, with a note."""
    log = SmallLog(4, network=CALM)
    for k, members in enumerate(((), ("n0", "n0", "n1", "n2"))):
        log.cluster.request("n1", "client", str(k), Members(members), "app")
    log.run(1)

    assert log.member("n1").refused == {"a command that is too large, or members that are none": 2}
    assert encode(log.member("n0").epoch) == encode(genesis(OLD)[1])
