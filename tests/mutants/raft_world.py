"""Published bugs of Raft's reads and of its liveness: by hand, or a few seconds of a simulated committee."""

from __future__ import annotations

from typing import Any

import msgspec

from policies.commands import Put
from policies.config import RaftConfig
from policies.consensus.quorum import majority
from policies.consensus.raft import Raft
from policies.port import NS_PER_S
from policies.registry import Get, Registry
from policies.wire import Message
from scenarios.checks.linear import Operation, check
from scenarios.checks.linear_models import REGISTER
from scenarios.defects.registry import ReadsWhatItHas
from scenarios.schema import Network
from sim.cluster import Cluster
from sim.world import StepCost
from tests.mutants.raft import Kind
from tests.mutants.record import Mutant, require
from tests.policies.hand_cluster import PAPER, HandCluster, Member

NAMES = tuple(f"n{i}" for i in range(5))
TIMES = RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.30)
"""The time-outs of the Raft paper (Ongaro and Ousterhout 2014, section 9.3)."""
CALM = Network(backbone_s=0.002, loss=0.0, duplicate=0.0)
EXACT = Network(backbone_s=0.002, loss=0.0, duplicate=0.0, jitter_sigma=0.0)


def beat(cluster: HandCluster, leader: str = "n1", times: int = 2) -> None:
    """Let heartbeats go round until all is told."""
    for _ in range(times):
        cluster.fire(leader, "heartbeat")
        cluster.settle()


class AsksOneFewer(Member):
    """R6: a read asks a majority less one whether its leader still leads."""

    def _round_has_quorum(self) -> bool:
        answered = sum(progress.round == self.round for progress in self.progress.values())
        return answered + 1 >= majority(len(self.members)) - 1


def two_of_five(kind: Kind) -> None:
    """n1 and n2 do not know that n3 leads the others and commits; a client reads at n1."""
    cluster = HandCluster(5, kind, PAPER)
    cluster.elect("n1")
    beat(cluster)
    cluster.elect("n3", "n3", "n4", "n5")
    cluster.propose("n3", b"a")
    cluster.settle("n3", "n4", "n5")
    cluster.read("n1")
    cluster.settle("n1", "n2")


class TrustsItself(Member):
    """R6: a leader serves reads without asking whether it still leads (openraft d60f1e85, etcd issue 20418)."""

    def _round_has_quorum(self) -> bool:
        return True


class ReadsEarly(Member):
    """A new leader serves reads before it has committed anything of its term (dissertation, section 6.4, step 1)."""

    def _may_read(self) -> bool:
        return True


def cut_off(kind: Kind) -> None:
    """n1 does not know that n2 leads; n2 commits, and a client reads at n1."""
    cluster = HandCluster(3, kind, PAPER)
    cluster.elect("n1")
    beat(cluster)
    cluster.elect("n2", "n2", "n3")
    cluster.propose("n2", b"a")
    cluster.settle("n2", "n3")
    cluster.read("n1")
    cluster.settle("n2", "n3")


def just_elected(kind: Kind) -> None:
    """n1 committed an entry that n2 does not know to be committed; n2 is elected, and a client reads there."""
    cluster = HandCluster(3, kind, PAPER)
    cluster.elect("n1")
    beat(cluster)
    cluster.propose("n1", b"a")
    cluster.sync("n1")
    cluster.pass_on("n1", "n2")
    cluster.pass_on("n2", "n1")
    cluster.post.clear()
    cluster.fire("n2", "election")
    cluster.settle("n2", "n3", rounds=2)
    assert cluster.raft("n2").role == "leader"
    cluster.post.clear()
    cluster.read("n2")
    # n3 answers the round, although it lacks the entries
    cluster.pass_on("n2", "n3")
    cluster.pass_on("n3", "n2", sync=False)


class VotesNeedBothLonger(Member):
    """R14: a log is as complete only if its last term and its length both are: of two logs neither may be."""

    def _up_to_date(self, last_term: int, last_index: int) -> bool:
        return last_term >= self.log.last_term and last_index >= self.log.last


def long_and_late(kind: Kind) -> None:
    """n1 has a long tail of term 1, n2 a short one of term 2; n3 is down, and the two must elect one of them."""
    cluster = HandCluster(3, kind, PAPER)
    cluster.elect("n1")
    for command in (b"a", b"b", b"c"):
        cluster.propose("n1", command)
    cluster.sync("n1")
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.post.clear()
    cluster.ask_votes("n2", "n3")
    cluster.sync("n2")
    cluster.crash("n2")
    cluster.restart("n2")
    cluster.crash("n3")
    cluster.post.clear()
    for name in ("n1", "n2") * 3:
        cluster.now += 3 * NS_PER_S
        cluster.fire(name, "election")
        cluster.settle("n1", "n2")
        if any(cluster.raft(one).role == "leader" for one in ("n1", "n2")):
            return
    require(False, "L1: a majority is up, and nobody is elected")


# -- a simulated committee -----------------------------------------------------------------------------


def read_at_a_lagging_member(kind: type[Registry]) -> None:
    """A follower is cut off before the second of two writes; a client reads there when that is answered."""
    cluster = Cluster(lambda: {"consensus": Raft(TIMES, NAMES, "registry"), "registry": kind()}, network=CALM)
    cluster.run(1)
    (leader,) = [name for name in NAMES if cluster.policy(name, "consensus").role == "leader"]
    follower = next(name for name in NAMES if name != leader)
    asked: dict[tuple[str, str], tuple[tuple[object, ...], float]] = {}

    def ask(node: str, client: str, op_id: str, in_the_model: tuple[object, ...], operation: Message) -> None:
        asked[client, op_id] = (in_the_model, cluster.now_s)
        cluster.request(node, client, op_id, operation, "registry")
        cluster.run(0.5)

    ask(leader, "a", "1", ("write", 1), Put("x", 1))
    cluster.partition([follower])
    ask(leader, "a", "2", ("write", 2), Put("x", 2))
    ask(follower, "b", "1", ("read",), Get("x"))
    answered = {(r.client, r.op_id): r for r in cluster.replies if r.value[0] == "result"}
    history = []
    for (client, op_id), (in_the_model, called_s) in asked.items():
        reply = answered.get((client, op_id))
        heard = () if reply is None else (int(reply.time_s * NS_PER_S), reply.value[2])
        history.append(Operation(client, in_the_model, int(called_s * NS_PER_S), *heard))
    assert len(answered) >= 2, "the writes are answered"
    verdict = check(REGISTER, history)
    require(verdict.linearizable is True, f"S17: {verdict}")


class NeverAsksFirst(Raft):
    """R11: no PreVote, and a member hears whoever asks for votes although its leader lives."""

    def _on_election_timeout(self) -> None:
        self._campaign()

    def _hears_leader(self) -> bool:
        return False


def partly_connected(kind: type[Raft]) -> None:
    """n0, n1, n2 hear one another; n3 hears n1 only, n4 n2 only (Howard and Abraham 2020): leaders must not change."""
    cluster = Cluster(lambda: kind(TIMES, NAMES), network=CALM)
    links = {(0, 1), (0, 2), (1, 2), (1, 3), (2, 4)}
    for a in range(5):
        for b in range(a + 1, 5):
            if (a, b) not in links:
                cluster.world.network.sever(a, b)
    cluster.run(2)
    before = max(cluster.policy(name).term for name in NAMES)
    cluster.run(3)
    after = max(cluster.policy(name).term for name in NAMES)
    require(after <= before + 1, f"L1: {after - before} terms in 3 s, although a quorum is connected")


class WaitsExactly(Raft):
    """R12: all members have one and the same election time-out."""

    def _arm_election(self) -> None:
        self.drawn_for, self.election_ns = self.term, self.lease_ns or int(self.config.election_min_s * NS_PER_S)
        self.port.set_timer("election", self.election_ns)


def elects_within_ten_seconds(kind: type[Raft]) -> None:
    """Five members start at one moment with equal links; without jitter the paper saw no leader for 10 s."""
    rules = msgspec.structs.replace(TIMES, pre_vote=False, check_quorum=False)
    cluster = Cluster(lambda: kind(rules, NAMES), network=EXACT, cost=StepCost(fsync_ns=2_000_000))
    cluster.run(10)
    require(any(d.kind == "leader" for d in cluster.decisions), "L1: no leader within 10 s")


def _raft(id: str, what: str, source: str, property: str, scenario: Any, wrong: Any, broken: str) -> Mutant:
    correct = next(kind for kind in (Member, Raft, Registry) if issubclass(wrong, kind))
    return Mutant(id, what, source, property, scenario, correct, wrong, broken)


MUTANTS = (
    _raft(
        "R6", "a read's quorum is a majority less one", "openraft d60f1e85", "S17", two_of_five, AsksOneFewer,
        "stale read",
    ),
    _raft(
        "R6", "a leader serves reads without asking whether it still leads", "Xraft issue 40; etcd issue 20418", "S17",
        cut_off, TrustsItself, "stale read",
    ),
    _raft(
        "R6", "a new leader serves reads before it has committed anything of its term",
        "Ongaro's dissertation, section 6.4", "S17", just_elected, ReadsEarly, "stale read",
    ),
    _raft(
        "R6", "a member answers reads from what it has applied (in the registry)", "openraft d60f1e85", "S17",
        read_at_a_lagging_member, ReadsWhatItHas, "S17: not linearizable",
    ),
    _raft(
        "R11", "partial connectivity: leaders change for ever without PreVote and CheckQuorum",
        "Howard and Abraham 2020 (Cloudflare's outage)", "L1", partly_connected, NeverAsksFirst, "L1",
    ),
    _raft(
        "R12", "no jitter in election time-outs", "Ongaro's dissertation, chapter 9", "L1", elects_within_ten_seconds,
        WaitsExactly, "L1",
    ),
    _raft(
        "R14", "candidates are not totally ordered", "ZOOKEEPER-1419", "L1", long_and_late, VotesNeedBothLonger, "L1",
    ),
)  # fmt: skip
