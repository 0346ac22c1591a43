"""Change of members: one voter at a time, or through a joint configuration (section 6; dissertation, chapter 4)."""

from __future__ import annotations

import pytest

from policies.consensus.changes import Membership
from policies.consensus.quorum import Voters
from policies.consensus.raft.configurations import MARK, Configurations, command_of
from policies.consensus.raft.messages import Append, Forward, ForwardChange
from policies.local import Reconfigure
from policies.port import NS_PER_S
from tests.policies.hand_cluster import CONFIG, HandCluster

OLD, NEW = ("n1", "n2", "n3"), ("n4", "n5", "n6")


def led(size: int, voters: int = 3) -> HandCluster:
    """Return a cluster that n1 leads, with its first entry committed everywhere."""
    cluster = HandCluster(size, config=CONFIG, voters=voters)
    cluster.elect("n1")
    beat(cluster)
    return cluster


def beat(cluster: HandCluster, leader: str = "n1", times: int = 3) -> None:
    """Let heartbeats go round until all is told."""
    for _ in range(times):
        cluster.fire(leader, "heartbeat")
        cluster.settle()


def now(cluster: HandCluster, name: str) -> Membership:
    """Return a member's configuration."""
    return cluster.raft(name).configurations.current


def test_three_members_are_replaced_by_three_others() -> None:
    """Through a joint configuration that is left by itself; the old leader steps down, and a new member leads on."""
    cluster = led(6)
    cluster.propose("n1", b"before")
    beat(cluster)
    cluster.ask("n1", Reconfigure(NEW))
    assert now(cluster, "n1").voters == Voters(NEW, OLD)

    beat(cluster)
    assert {now(cluster, name).voters for name in NEW} == {Voters(NEW)}
    assert (cluster.raft("n1").role, cluster.raft("n1").leader) == ("follower", "")
    cluster.now += 3 * NS_PER_S
    cluster.elect("n4", *NEW)
    cluster.propose("n4", b"after")
    beat(cluster, "n4")
    assert [cluster.machine(name).commands for name in NEW] == [[b"before", b"after"]] * 3
    assert [cluster.machine(name).members for name in NEW] == [(NEW, ())] * 3


def test_while_they_change_both_halves_must_agree() -> None:
    """With all of the new members but one of the old ones nothing is committed, and nobody is elected."""
    cluster = led(6)
    cluster.ask("n1", Reconfigure(NEW))
    for name in NEW:
        for _ in range(4):
            cluster.pass_on("n1", name)
            cluster.pass_on(name, "n1")
    assert cluster.raft("n1").progress["n6"].match == 2
    assert cluster.raft("n1").commit == 1

    cluster.post.clear()
    cluster.now += 3 * NS_PER_S
    cluster.fire("n4", "election")
    cluster.settle(*NEW)
    assert cluster.raft("n4").role == "precandidate"
    cluster.fire("n4", "election")
    cluster.settle("n2", "n3", "n4", "n5")
    assert cluster.raft("n4").role == "leader"


def test_a_configuration_counts_from_its_entry_on_and_is_undone_with_it() -> None:
    """A follower acts on what is not committed, and returns to the old members when the entry is cut off."""
    cluster = HandCluster(4, config=CONFIG, voters=3)
    four = Membership(Voters(cluster.names))
    cluster.watch.proposed.add(b"a")
    cluster.tell("n2", "n1", Append(1, 0, 0, 0, ((1, b""), (1, command_of(four)))))
    assert now(cluster, "n1") == four
    assert cluster.raft("n1").others == ("n2", "n3", "n4")

    cluster.tell("n3", "n1", Append(2, 1, 1, 0, ((2, b"a"),)))
    assert now(cluster, "n1") == Membership(Voters(OLD))
    assert cluster.raft("n1").others == ("n2", "n3")


def test_a_restart_finds_the_configuration_in_the_log() -> None:
    """Committed or not."""
    cluster = led(4)
    cluster.ask("n1", Reconfigure(OLD, ("n4",)))
    cluster.sync("n1")
    cluster.crash("n1")
    cluster.restart("n1")

    assert now(cluster, "n1") == Membership(Voters(OLD), ("n4",))


def test_one_voter_more_or_less_needs_no_joint_configuration() -> None:
    """Old and new majorities meet anyway; an addition and a removal at once do need it."""
    cluster = led(4)
    cluster.ask("n1", Reconfigure((*OLD, "n4")))
    assert now(cluster, "n1").voters == Voters((*OLD, "n4"))
    beat(cluster)

    cluster.ask("n1", Reconfigure(("n1", "n2", "n4")))
    assert now(cluster, "n1").voters == Voters(("n1", "n2", "n4"))
    beat(cluster)

    cluster.ask("n1", Reconfigure(OLD))
    assert now(cluster, "n1").voters == Voters(OLD, ("n1", "n2", "n4"))


def test_a_removed_leader_leads_until_that_is_committed() -> None:
    """It does not count itself, and steps down after the commit, of which the others hear."""
    cluster = led(3)
    cluster.ask("n1", Reconfigure(("n2", "n3")))
    cluster.sync("n1")
    cluster.pass_on("n1", "n2")
    cluster.pass_on("n2", "n1")
    assert (cluster.raft("n1").role, cluster.raft("n1").commit) == ("leader", 1)

    cluster.pass_on("n1", "n3")
    cluster.pass_on("n3", "n1")
    assert (cluster.raft("n1").role, cluster.raft("n1").commit) == ("follower", 2)
    cluster.settle()
    assert cluster.raft("n2").commit == 2
    cluster.fire("n1", "election")
    assert cluster.raft("n1").role == "follower"


def test_a_learner_hears_everything_and_counts_for_nothing() -> None:
    """With one of two voters silent, a learner's answer commits nothing; and it does not campaign."""
    cluster = led(3, voters=2)
    cluster.ask("n1", Reconfigure(("n1", "n2"), ("n3",)))
    beat(cluster)
    assert cluster.machine("n3").members == (("n1", "n2"), ("n3",))

    cluster.propose("n1", b"a")
    cluster.settle("n1", "n3")
    assert cluster.raft("n3").log.last == 3
    assert cluster.raft("n1").commit == 2
    cluster.fire("n3", "election")
    assert (cluster.raft("n3").role, cluster.post) == ("follower", [])


def test_a_learner_that_was_promoted_without_its_knowledge_votes() -> None:
    """Else two members of which one does not know that it may vote could elect nobody."""
    cluster = led(2, voters=1)
    cluster.ask("n1", Reconfigure(("n1",), ("n2",)))
    beat(cluster)
    cluster.ask("n1", Reconfigure(("n1", "n2")))
    cluster.sync("n1")
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.post.clear()
    assert not cluster.raft("n2").voting

    cluster.now += 3 * NS_PER_S
    cluster.elect("n1")


def test_no_change_before_an_entry_of_the_term_is_committed() -> None:
    """The published correction of single-server changes: two leaders could else change the members past each other."""
    cluster = HandCluster(4, config=CONFIG, voters=3)
    cluster.fire("n1", "election")
    cluster.settle(rounds=4)
    assert (cluster.raft("n1").role, cluster.raft("n1").commit) == ("leader", 0)

    cluster.ask("n1", Reconfigure(cluster.names))
    assert now(cluster, "n1").voters == Voters(OLD)
    assert "change of members refused for now" in cluster.raft("n1").noted


def test_one_change_at_a_time() -> None:
    """While one is not committed the next is refused; so is one that makes no sense, and one that changes nothing."""
    cluster = led(5)
    cluster.ask("n1", Reconfigure((*OLD, "n4")))
    cluster.ask("n1", Reconfigure((*OLD, "n5")))
    assert now(cluster, "n1").voters == Voters((*OLD, "n4"))

    beat(cluster)
    last = cluster.raft("n1").log.last
    for wish in (Reconfigure(()), Reconfigure(("n1", "n1")), Reconfigure(("n1",), ("n1",)), Reconfigure((*OLD, "n4"))):
        cluster.ask("n1", wish)
    assert cluster.raft("n1").log.last == last


def test_a_wish_told_to_a_follower_reaches_the_leader() -> None:
    """Like any proposal."""
    cluster = led(4)
    cluster.ask("n2", Reconfigure(OLD, ("n4",)))
    assert cluster.said("n2", "n1") == [ForwardChange(OLD, ("n4",))]

    beat(cluster)
    assert cluster.machine("n4").members == (OLD, ("n4",))


def test_a_new_leader_leaves_the_joint_configuration_that_it_finds() -> None:
    """The leader that began the change is gone; its successor ends it."""
    cluster = led(6)
    cluster.ask("n1", Reconfigure(("n2", "n3", "n4")))
    cluster.settle("n1", "n2", "n3", "n4", rounds=2)
    cluster.crash("n1")
    cluster.post.clear()
    assert now(cluster, "n2").voters.joint

    cluster.now += 3 * NS_PER_S
    cluster.elect("n2")
    beat(cluster, "n2")
    assert {now(cluster, name).voters for name in ("n2", "n3", "n4")} == {Voters(("n2", "n3", "n4"))}


def test_a_client_cannot_smuggle_a_configuration_in() -> None:
    """A command that begins as one is refused, proposed here or passed on."""
    cluster = led(3)
    last = cluster.raft("n1").log.last
    smuggled = command_of(Membership(Voters(("n9",))))
    cluster.propose("n1", smuggled)
    cluster.tell("n2", "n1", Forward(smuggled))

    assert cluster.raft("n1").log.last == last
    assert cluster.raft("n1").dropped == 2


@pytest.mark.parametrize("broken", [MARK, MARK + b"\x00", command_of(Membership(Voters(("a",))))[:-1]])
def test_a_configuration_that_cannot_be_read_is_dropped(broken: bytes) -> None:
    """The Append that carries it changes nothing and is not answered."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.tell("n2", "n1", Append(0, 0, 0, 0, ((0, b"a"), (0, broken))))

    assert (cluster.log("n1"), cluster.post, cluster.raft("n1").dropped) == ([], [], 1)


def test_the_history_of_configurations_goes_back_to_the_snapshot() -> None:
    """The one at any index after it is known, cut or not; a snapshot takes those before it along."""
    a, b, c = (Membership(Voters(members)) for members in (("a",), ("a", "b"), ("a", "b", "c")))
    configurations = Configurations(a)
    configurations.add(3, b)
    configurations.add(7, c)
    assert [configurations.at(index) for index in (0, 2, 3, 6, 7, 9)] == [a, a, b, b, c, c]
    assert not configurations.truncate(7)

    configurations.compact(5)
    assert configurations.at(5) == b
    assert configurations.truncate(6)
    assert (configurations.index, configurations.current) == (3, b)
    configurations.reset(9, c)
    assert (configurations.index, configurations.at(9)) == (9, c)
