"""What keeps elections rare: PreVote, CheckQuorum and leadership transfer (Ongaro's dissertation, 3.10, 6.2, 9.6)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from policies.config import RaftConfig
from policies.consensus import Raft
from policies.consensus.raft.messages import Append, Appended, PreVote, RequestPreVote, RequestVote, TimeoutNow, Vote
from policies.local import Propose, Reconfigure, Transfer
from policies.port import NS_PER_S
from scenarios.schema import Network
from sim.cluster import Cluster
from tests.policies.hand_cluster import CONFIG, HandCluster

NAMES = tuple(f"n{i}" for i in range(5))
TIMES = RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.30)
NEITHER = msgspec.structs.replace(TIMES, pre_vote=False, check_quorum=False)
CALM = Network(backbone_s=0.002, loss=0.0, duplicate=0.0)


def committee(config: RaftConfig, seed: int = 1) -> Cluster:
    """Return five members in virtual time, under a leader."""
    cluster = Cluster(lambda: Raft(config, NAMES), seed=seed, network=CALM)
    cluster.run(2)
    assert leaders(cluster)
    return cluster


def leaders(cluster: Cluster) -> list[str]:
    """Return who leads, in whatever term."""
    return [name for name in NAMES if cluster.policy(name).role == "leader"]


def terms(cluster: Cluster) -> set[int]:
    """Return the terms in which members are."""
    return {cluster.policy(name).term for name in NAMES}


# -- PreVote -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "disturbs"), [(NEITHER, True), (TIMES, False)], ids=["without", "with"])
def test_a_member_that_was_cut_off_disturbs_only_without_pre_vote(config: RaftConfig, disturbs: bool) -> None:
    """Alone it counts terms up and deposes the leader when it is back; with PreVote it comes back in its old term."""
    cluster = committee(config)
    (leader,), (term,) = leaders(cluster), terms(cluster)
    alone = next(name for name in NAMES if name != leader)
    cluster.partition([alone])
    cluster.run(5)
    cluster.heal()
    cluster.run(2)

    assert (terms(cluster) != {term}) == disturbs
    if not disturbs:
        assert leaders(cluster) == [leader]
        assert cluster.policy(alone).leader == leader


def test_who_would_not_win_begins_no_term() -> None:
    """A member asks first; refused by a quorum, it is a follower of its old term again."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.fire("n1", "election")
    assert (cluster.raft("n1").role, cluster.raft("n1").term) == ("precandidate", 0)
    assert cluster.said("n1", "n2") == [RequestPreVote(1, 0, 0)]
    assert cluster.disk["n1"] == []

    for name in ("n2", "n3"):
        cluster.tell(name, "n1", PreVote(0, False))
    assert (cluster.raft("n1").role, cluster.raft("n1").term) == ("follower", 0)


def test_who_would_win_campaigns() -> None:
    """A quorum that would vote makes a candidate of the next term, who asks for votes in earnest."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.fire("n1", "election")
    cluster.tell("n2", "n1", PreVote(1, True))
    cluster.sync("n1")

    assert (cluster.raft("n1").role, cluster.raft("n1").term) == ("candidate", 1)
    assert RequestVote(1, 0, 0) in cluster.said("n1", "n3")


def test_to_be_asked_changes_nothing() -> None:
    """No term is begun, no vote is given and no time-out is put off; several may be told yes."""
    cluster = HandCluster(3, config=CONFIG)
    armed = cluster.timers["n1"]["election"]
    for name in ("n2", "n3"):
        cluster.tell(name, "n1", RequestPreVote(8, 0, 0))

    assert cluster.said("n1", "n2") == cluster.said("n1", "n3") == [PreVote(8, True)]
    assert (cluster.raft("n1").term, cluster.raft("n1").voted_for) == (0, "")
    assert cluster.timers["n1"]["election"] == armed


def test_a_short_log_or_an_old_term_is_told_no_with_the_own_term() -> None:
    """So that who asks learns what it missed."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.settle()
    cluster.now += 5 * NS_PER_S
    cluster.tell("n3", "n2", RequestPreVote(9, 0, 0))
    cluster.tell("n3", "n2", RequestPreVote(1, 9, 9))
    cluster.sync("n2")
    assert cluster.said("n2", "n3") == [PreVote(1, False), PreVote(1, False)]

    cluster.tell("n2", "n3", PreVote(4, False))
    assert cluster.raft("n3").term == 4


# -- CheckQuorum -------------------------------------------------------------------------------------------------------


def test_a_leader_without_a_quorum_steps_down_in_its_term() -> None:
    """Within two time-outs of the cut it leads no more; with a quorum it goes on."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.fire("n1", "quorum")  # those who voted count as heard
    cluster.fire("n1", "heartbeat")
    cluster.settle("n1", "n2")
    cluster.fire("n1", "quorum")
    assert cluster.raft("n1").role == "leader"

    cluster.fire("n1", "quorum")
    raft = cluster.raft("n1")
    assert (raft.role, raft.term, raft.leader, raft.voted_for) == ("follower", 1, "", "n1")
    assert set(cluster.timers["n1"]) == {"election"}


def test_a_cut_off_leader_leads_no_more_within_two_time_outs() -> None:
    """Without CheckQuorum it takes itself for the leader until it hears of another."""
    for config, leads in ((TIMES, False), (NEITHER, True)):
        cluster = committee(config)
        (leader,) = leaders(cluster)
        cluster.partition([leader])
        cluster.run(2 * TIMES.election_max_s + 0.05)

        assert (leader in leaders(cluster)) == leads


@pytest.mark.parametrize("ballot", [RequestVote(7, 9, 9), RequestPreVote(7, 9, 9)], ids=lambda b: type(b).__name__)
def test_who_hears_a_leader_takes_no_notice_of_ballots(ballot: RequestVote) -> None:
    """Neither the leader nor a follower of it; a follower that has not heard it for the shortest time-out answers."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.settle()
    for name in ("n1", "n2"):
        cluster.tell("n3", name, ballot)
    assert cluster.post == []
    assert cluster.raft("n2").term == 1

    cluster.now += int(CONFIG.election_min_s * NS_PER_S)
    cluster.tell("n3", "n2", ballot)
    cluster.sync("n2")
    answer = Vote(7, True) if isinstance(ballot, RequestVote) else PreVote(7, True)
    assert cluster.said("n2", "n3") == [answer]


def links(cluster: Cluster, kept: Iterable[tuple[int, int]]) -> None:
    """Cut every link but these."""
    keep = {frozenset(pair) for pair in kept}
    for a in range(5):
        for b in range(a):
            if frozenset((a, b)) not in keep:
                cluster.world.network.sever(a, b)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_leader_stays_where_some_can_hear_only_one_member(seed: int) -> None:
    """Three hear one another, a fourth only one of them and a fifth only another: the fourth and the fifth miss the
    leader for ever, and depose it at every time-out unless members keep to whom they hear (Cloudflare's outage of 2020
    as Howard and Abraham tell it)."""
    counts = {}
    for name, config in (("neither", NEITHER), ("both", TIMES)):
        cluster = Cluster(lambda config=config: Raft(config, NAMES), seed=seed, network=CALM)
        links(cluster, [(0, 1), (0, 2), (1, 2), (3, 1), (4, 2)])
        cluster.run(3)
        before = len(cluster.decisions)
        cluster.run(10)
        counts[name] = sum(decision.kind == "leader" for decision in cluster.decisions[before:])

    assert counts["both"] == 0
    assert counts["neither"] > 5


# -- transfer ----------------------------------------------------------------------------------------------------------


def test_leadership_goes_to_whom_the_leader_names() -> None:
    """It brings the other's log up to date, asks it to campaign, and follows it, although all hear a leader."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.settle()
    cluster.propose("n1", b"a")
    cluster.post.clear()  # n2 lacks it
    cluster.fire("n1", "heartbeat")
    cluster.settle("n1", "n3")
    cluster.ask("n1", Transfer("n2"))
    cluster.fire("n1", "heartbeat")
    cluster.settle()

    assert [cluster.raft(name).role for name in cluster.names] == ["follower", "leader", "follower"]
    assert cluster.raft("n2").term == 2
    assert (1, b"a") in cluster.log("n2")


def test_a_transfer_takes_no_time_out() -> None:
    """In virtual time: from the wish to the new leader it is a few one-way delays, far below an election time-out."""

    class Asked(Raft):
        requests = (Transfer,)

        def on_request(self, client: str, op_id: str, operation: Transfer) -> None:
            self.on_local(client, operation)

    cluster = Cluster(lambda: Asked(TIMES, NAMES), network=CALM)
    cluster.run(2)
    (leader,) = leaders(cluster)
    to = next(name for name in NAMES if name != leader)
    cluster.request(leader, "c", "1", Transfer(to))
    cluster.run(TIMES.election_min_s / 2)

    assert leaders(cluster) == [to]


def test_a_transfer_that_fails_is_given_up() -> None:
    """Meanwhile nothing is proposed; after a time-out the leader serves again."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.settle()
    cluster.crash("n2")
    cluster.ask("n1", Transfer("n2"))
    last = cluster.raft("n1").log.last
    cluster.propose("n1", b"a")
    assert cluster.raft("n1").log.last == last

    cluster.fire("n1", "transfer")
    cluster.propose("n1", b"a")
    assert (cluster.raft("n1").role, cluster.raft("n1").log.last) == ("leader", last + 1)


@pytest.mark.parametrize("to", ["n1", "nobody"])
def test_a_transfer_to_oneself_or_a_stranger_is_refused(to: str) -> None:
    """The leader goes on as if nobody had asked."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.ask("n1", Transfer(to))

    assert (cluster.raft("n1").transferee, cluster.raft("n1").dropped) == ("", 1)


def test_only_the_leader_of_the_term_may_call_an_election() -> None:
    """A late or foreign TimeoutNow starts none."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.settle()
    cluster.tell("n3", "n2", TimeoutNow(1))
    cluster.tell("n1", "n2", TimeoutNow(0))
    assert cluster.raft("n2").role == "follower"

    cluster.tell("n1", "n2", TimeoutNow(1))
    cluster.sync("n2")
    assert cluster.said("n2", "n3") == [RequestVote(2, 1, 1, forced=True)]


def test_two_leaders_of_a_term_cannot_be_and_the_second_is_not_obeyed() -> None:
    """A leader that hears another's Append of its own term drops it, with a note."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.settle()
    cluster.tell("n2", "n1", Append(1, 0, 0, 1, ()))

    assert (cluster.raft("n1").role, cluster.raft("n1").noted) == ("leader", {"another leader of this term"})
    assert not any(isinstance(said, Appended) for said in cluster.said("n1", "n2"))


def test_an_unknown_leader_gets_no_proposals() -> None:
    """Between leaders a proposal is dropped: who proposed comes again."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.ask("n2", Propose(b"a"))

    assert cluster.post == []


def test_an_only_voter_leads_when_its_vote_is_durable() -> None:
    """Else a crash would have it begin the same term again, and its learner hold another command at one index."""
    cluster = HandCluster(2, config=CONFIG, voters=1)
    cluster.elect("n1")
    cluster.settle()
    cluster.ask("n1", Reconfigure(("n1",), ("n2",)))
    cluster.settle()
    assert cluster.log("n2") == cluster.log("n1")
    cluster.crash("n1")
    cluster.restart("n1")
    for command in (b"lost", b"other"):
        cluster.fire("n1", "election")
        assert (cluster.raft("n1").role, cluster.post) == ("candidate", [])
        cluster.propose("n1", command)
        cluster.crash("n1")
        cluster.restart("n1")
    cluster.elect("n1")
    cluster.propose("n1", b"kept")
    cluster.settle()

    assert cluster.log("n2") == cluster.log("n1")
    assert cluster.log("n1")[-1] == (2, b"kept")
