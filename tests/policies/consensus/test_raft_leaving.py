"""A removed member learns that it is out (dissertation, section 4.2.3), whatever it has missed, at a bounded cost."""

from __future__ import annotations

import msgspec
import pytest

from policies.consensus.changes import Membership
from policies.consensus.quorum import Voters
from policies.consensus.raft.leaving import LEAVING_MAX
from policies.consensus.raft.messages import Append, RequestPreVote
from policies.local import Reconfigure
from policies.port import NS_PER_S
from tests.policies.consensus.test_raft_changes import beat, led, now
from tests.policies.consensus.test_replicated_log import Committee, commands
from tests.policies.hand_cluster import CONFIG, HandCluster

STAY = Membership(Voters(("n1", "n2")))


def removed(compacted: bool = False, batches: int = 0) -> HandCluster:
    """Return three members, the last of which was cut off while the two others removed it, and went on."""
    cluster = led(3)
    for k in range(batches):
        cluster.propose("n1", b"%d" % k * 40)
        cluster.settle("n1", "n2")
    cluster.ask("n1", Reconfigure(STAY.voters.incoming))
    cluster.settle("n1", "n2")
    cluster.propose("n1", b"on")
    cluster.settle("n1", "n2")
    beat(cluster)
    assert (now(cluster, "n1"), cluster.raft("n1").commit) == (STAY, 3 + batches)
    if compacted:
        cluster.compact("n1")
        cluster.sync("n1")
    cluster.post.clear()
    cluster.now += 3 * NS_PER_S
    return cluster


def asks(cluster: HandCluster, rounds: int = 40) -> None:
    """Let the removed member's time run out, and everybody speak."""
    cluster.fire("n3", "election")
    cluster.settle(rounds=rounds)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_removed_member_that_asks_for_votes_is_sent_what_removes_it(compacted: bool) -> None:
    """By entries or by a snapshot: it tells its state machine who the members are, and asks no more."""
    cluster = removed(compacted)
    term = cluster.raft("n1").term
    assert now(cluster, "n3") == Membership(Voters(("n1", "n2", "n3")))
    asks(cluster)

    assert now(cluster, "n3") == STAY
    assert cluster.machine("n3").members == (("n1", "n2"), ())
    assert cluster.machine("n3").commands == cluster.machine("n1").commands
    assert (cluster.raft("n1").role, {cluster.raft(n).term for n in cluster.names}) == ("leader", {term})
    assert cluster.raft("n1").leaving == {}
    asks(cluster)
    assert (cluster.raft("n3").role, cluster.raft("n3").leader, cluster.post) == ("follower", "", [])


def test_what_it_lacks_is_sent_in_bounded_messages_one_after_another() -> None:
    """Each is sent when the one before is answered; nothing more is sent once it knows."""
    cluster = removed(batches=12)
    cluster.raft("n1").config = msgspec.structs.replace(CONFIG, max_batch=4)
    cluster.fire("n3", "election")
    cluster.settle("n3", "n1", rounds=1)
    (first,) = [m for m in cluster.said("n1", "n3") if isinstance(m, Append)]
    assert len(first.entries) == 4
    cluster.settle()

    assert now(cluster, "n3") == STAY
    cluster.post.clear()
    beat(cluster)
    assert cluster.said("n1", "n3") == []


def test_what_is_lost_it_asks_for_again() -> None:
    """The answer to its question is lost twice; the third is not."""
    cluster = removed()
    for _ in range(2):
        cluster.fire("n3", "election")
        cluster.settle("n3", "n1", rounds=1)
        cluster.post.clear()
    assert list(cluster.raft("n1").leaving) == ["n3"]
    asks(cluster)

    assert (now(cluster, "n3"), cluster.raft("n1").leaving) == (STAY, {})


def test_a_log_that_went_astray_is_put_right() -> None:
    """It led a term alone, so its log is longer than the others' and wrong after the first entry."""
    cluster = led(3)
    cluster.post.clear()
    for k in range(9):
        cluster.propose("n1", b"astray %d" % k)
    cluster.sync("n1")
    cluster.post.clear()
    cluster.now += 3 * NS_PER_S
    cluster.elect("n2", "n2", "n3")
    cluster.settle("n2", "n3")
    cluster.ask("n2", Reconfigure(("n2", "n3")))
    cluster.settle("n2", "n3")
    cluster.post.clear()
    cluster.now += 3 * NS_PER_S
    for timer in ("quorum", "quorum", "election"):
        cluster.fire("n1", timer)
    cluster.settle()

    assert now(cluster, "n1") == Membership(Voters(("n2", "n3")))
    assert cluster.log("n1") == cluster.log("n2")


def test_so_many_are_shown_out_at_a_time() -> None:
    """Whoever asks beyond the bound takes the place of who asked first, and a member is none of them.

    Else some that never come back would keep all others out for as long as the leader leads.
    """
    cluster = removed()
    leader = cluster.raft("n1")
    for k in range(3 * LEAVING_MAX):
        leader._show_out(f"gone{k}", RequestPreVote(2, 0, 0))
    leader._show_out("n2", RequestPreVote(2, 0, 0))

    assert list(leader.leaving) == [f"gone{k}" for k in range(2 * LEAVING_MAX, 3 * LEAVING_MAX)]


def test_nobody_is_shown_out_before_its_removal_is_committed() -> None:
    """The entry may yet be undone, and then it is a member."""
    cluster = led(3)
    cluster.post.clear()
    cluster.ask("n1", Reconfigure(STAY.voters.incoming))
    cluster.raft("n1")._show_out("n3", RequestPreVote(2, 1, 1))

    assert cluster.raft("n1").leaving == {}


def test_in_virtual_time_the_removed_member_falls_silent() -> None:
    """Cut off while it is removed, and healed: after some time-outs it knows the members, and says nothing any more."""
    committee = Committee("raft", n=4, snapshot_every=10)
    gone = next(name for name in committee.names if name != committee.leader)
    stay = tuple(name for name in committee.names if name != gone)
    committee.cluster.partition([gone])
    committee.do(*commands("a"), at=lambda number: stay[number % 3])
    for _ in range(10):
        committee.ask(committee.leader, Reconfigure(stay))
        committee.run(0.5)
    committee.cluster.heal()
    committee.run(3)
    assert committee.machine(gone).members == stay

    term, begun = committee.cluster.policy(gone, "consensus").term, committee.cluster.now_s
    committee.run(3)
    said = [
        e for e in committee.cluster.events
        if e.node == gone and e.now_ns > begun * NS_PER_S and any(effect[0] == 0 for effect in e.effects)
    ]  # fmt: skip
    assert said == []
    assert committee.cluster.policy(gone, "consensus").term == term
