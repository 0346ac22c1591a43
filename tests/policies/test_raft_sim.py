"""Raft in bad weather: the simulated world, and a machine that Hypothesis drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from models import draws
from policies import port as p
from policies.cell import Cell
from policies.config import RaftConfig
from policies.consensus.raft import Raft
from policies.local import Propose, Reconfigure, Transfer
from policies.port import NS_PER_S
from policies.wire import encode
from scenarios.schema import Network
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.world import StepCost, World
from tests.mutants.raft import ONE_ENTRY, VotesForAll
from tests.policies.hand_cluster import CONFIG, HandCluster, Member
from tests.policies.raft_watch import Broken, Watch, Watched

NAMES = tuple(f"n{i + 1}" for i in range(5))
STORM_S = 60.0
CALM_S = 20.0
TINY = msgspec.structs.replace(CONFIG, max_batch=2, window=2, chunk_bytes=8)
"""Everything on, and every bound within reach."""
MEMBERS = (NAMES[:3], NAMES[:2], NAMES[1:4], NAMES[2:4], NAMES[:4])


class Storm:
    """Five members under loss, duplicates, crashes with torn disks and partitions for a minute; then it is calm."""

    def __init__(self, seed: int, kind: Callable[..., Raft] = Member) -> None:
        self.seed = seed
        network = Network(backbone_s=0.02, loss=0.1, jitter_sigma=1.0, duplicate=0.1)
        self.world = World(MessageNetwork(seed, Links.alike(5, 0.005, 1e7), network))
        self.watch = Watch(NAMES, log_matching_every=50)
        self.crashes = 0
        config = RaftConfig(heartbeat_s=0.25, election_min_s=1.0, election_max_s=2.0, max_batch=4)
        for name in NAMES:
            self.world.add(name, self._make(kind, config, name), StepCost(fsync_ns=20_000_000))
        for node in self.world.nodes:
            self.world.start(node)
        self.world.engine.call_at(NS_PER_S, self._weather, 0)
        self.world.engine.call_at(NS_PER_S, self._ask, 0)

    def _make(self, kind: Callable[..., Raft], config: RaftConfig, name: str) -> Callable[[], Watched]:
        peers = tuple(n for n in NAMES if n != name)
        keys = KeyRing(self.seed).handle(name)
        return lambda: Watched(Cell(kind(config, NAMES), name, peers, seed=self.seed, keys=keys), self.watch)

    def _draw(self, what: str, index: int, high: int) -> int:
        return int(draws.integers(self.seed, what, 0, index, high))

    def _ask(self, number: int) -> None:
        """Every 200 ms a client asks somebody, who takes it in or passes it on."""
        command = b"command %d" % number
        self.watch.proposed.add(command)
        node = self.world.nodes[self._draw("whom", number, 5)]
        self.world.give(node, (p.REQUEST, "", "c", str(number), encode(Propose(command))))
        self.world.engine.call_at(self.world.engine.now + NS_PER_S // 5, self._ask, number + 1)

    def _weather(self, number: int) -> None:
        """About every second something breaks or heals."""
        now, network = self.world.engine.now, self.world.network
        if now > STORM_S * NS_PER_S:
            network.heal(network.cuts)
            network.config = Network(backbone_s=0.02, loss=0.0, jitter_sigma=0.3, duplicate=0.0)
            for node in self.world.nodes:
                if not node.up:
                    self.world.start(node)
            return
        node = self.world.nodes[self._draw("who", number, 5)]
        if (what := self._draw("what", number, 5)) == 0:
            network.heal(network.cuts)
            island = [self._draw("island", 2 * number + k, 5) for k in range(2)]
            network.cut_off(island, one_way=self._draw("one way", number, 2) == 1)
        elif what == 1:
            network.heal(network.cuts)
        elif node.up:
            self.crashes += 1
            self.watch.seen |= {"crash with writes in flight"} if node.disk.size > node.disk.synced else set()
            self.world.crash(node, torn_share=self._draw("torn", number, 3) / 2)
        else:
            self.world.start(node)
        self.world.engine.call_at(now + (1 + self._draw("gap", number, 20)) * NS_PER_S // 10, self._weather, number + 1)

    def run(self) -> None:
        """Storm and calm."""
        self.world.run(STORM_S + CALM_S)
        self.watch.log_matching()


def test_nothing_committed_is_lost_in_thirty_storms_and_the_calm_heals_them() -> None:
    """Every property holds after every step, and afterwards all five commit new entries under one leader."""
    seen: set[str] = set()
    commits = []
    for seed in range(30):
        storm = Storm(seed)
        storm.run()
        rafts = [one.raft for one in storm.watch.cells.values()]
        seen |= storm.watch.seen
        commits.append(max(storm.watch.chosen))

        assert len({raft.leader for raft in rafts} - {""}) == 1, seed
        assert max(r.commit for r in rafts) - min(r.commit for r in rafts) <= 10, seed  # two seconds' requests
        assert any(b"command 39" in entry[1] for entry in storm.watch.chosen.values()), seed  # asked in the calm

    assert seen == {"leader changed", "crash with writes in flight"}
    assert min(commits) > 100


# -- a machine that looks for trouble ----------------------------------------------------------------


class RaftMachine(RuleBasedStateMachine):
    """Any order of deliveries, losses, copies, time-outs, syncs, crashes and requests; the watch asks at each step."""

    kind: Callable[..., Raft] = Member

    @initialize(config=st.sampled_from([ONE_ENTRY, TINY]))
    def begin(self, config: RaftConfig) -> None:
        """Three members, and one of them leads, so that short programs get somewhere."""
        self.cluster = HandCluster(4, self.kind, config, voters=3)
        self.cluster.elect("n1")
        self.commands = 4
        for number in range(self.commands):  # so that there is something to compact, which n3 lacks
            self.cluster.propose("n1", b"%d" % number)
            self.cluster.settle("n1", "n2")

    @precondition(lambda self: self.cluster.post)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """A message arrives, perhaps out of order."""
        self.cluster.deliver(data.draw(st.integers(0, len(self.cluster.post) - 1)))

    @precondition(lambda self: self.cluster.post)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """A message is lost."""
        self.cluster.post.pop(data.draw(st.integers(0, len(self.cluster.post) - 1)))

    @precondition(lambda self: 0 < len(self.cluster.post) < 40)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        """A message arrives and will arrive again."""
        letter = self.cluster.post[data.draw(st.integers(0, len(self.cluster.post) - 1))]
        self.cluster.post.append(letter)

    @rule(name=st.sampled_from(NAMES[:3]), timer=st.sampled_from(["election", "heartbeat", "quorum", "transfer"]))
    def fire(self, name: str, timer: str) -> None:
        """A timer fires, however early."""
        self.cluster.now += NS_PER_S
        self.cluster.fire(name, timer)

    @rule(name=st.sampled_from(NAMES[:3]), batches=st.integers(1, 4))
    def sync(self, name: str, batches: int) -> None:
        """Some writes become durable."""
        self.cluster.sync(name, batches)

    @rule(name=st.sampled_from(NAMES[:3]))
    def crash_or_restart(self, name: str) -> None:
        """A member loses its memory and unsynced writes, or comes back."""
        if name in self.cluster.down:
            self.cluster.restart(name)
        else:
            self.cluster.crash(name)

    @rule(name=st.sampled_from(NAMES[:3]))
    def propose(self, name: str) -> None:
        """A client asks."""
        self.commands += 1
        self.cluster.propose(name, b"%d" % self.commands)

    @rule(name=st.sampled_from(NAMES[:3]))
    def compact(self, name: str) -> None:
        """A state machine offers a snapshot."""
        if name not in self.cluster.down:
            self.cluster.compact(name)

    @rule(name=st.sampled_from(NAMES[:3]))
    def read(self, name: str) -> None:
        """A client reads."""
        if name not in self.cluster.down:
            self.cluster.read(name)

    @rule(name=st.sampled_from(NAMES[:3]), to=st.sampled_from(NAMES[:3]))
    def transfer(self, name: str, to: str) -> None:
        """A leader is asked to let another lead."""
        self.cluster.ask(name, Transfer(to))

    @rule(name=st.sampled_from(NAMES[:3]), members=st.sampled_from(MEMBERS), learner=st.booleans())
    def reconfigure(self, name: str, members: tuple[str, ...], learner: bool) -> None:
        """Other members are asked for, one more or less or two others at once, and perhaps a learner."""
        learners = tuple(n for n in NAMES[:4] if n not in members) if learner else ()
        self.cluster.ask(name, Reconfigure(members, learners))

    @rule(name=st.sampled_from(NAMES[:4]))
    def quiet(self, name: str) -> None:
        """For a while everything works for all but one."""
        others = [n for n in NAMES[:4] if n != name]
        self.cluster.settle(*others)

    def teardown(self) -> None:
        """Once all is well again, a leader is elected and commits."""
        cluster = self.cluster
        for name in sorted(cluster.down):
            cluster.restart(name)
        cluster.settle()
        leader = ""
        for name in NAMES[:4] * 3:
            cluster.now += 3 * NS_PER_S
            cluster.fire(name, "election")
            cluster.settle()
            leader = next((n for n in NAMES[:4] if cluster.raft(n).role == "leader"), leader)
            if leader:
                cluster.fire(leader, "transfer")
                cluster.fire(leader, "heartbeat")
                cluster.settle()
        token = cluster.read(leader)
        cluster.propose(leader, b"last")
        cluster.settle()
        for _ in range(2):
            cluster.now += NS_PER_S
            cluster.fire(leader, "heartbeat")
            cluster.settle()
        members = cluster.raft(leader).configurations.current
        assert not members.voters.joint
        assert {cluster.machine(n).commands[-1] for n in members.everybody} == {b"last"}
        assert cluster.machine(leader).readable[token] > 0


MODEST = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,  # a pull request is judged by the same programs every time; the night looks for new ones
    suppress_health_check=list(HealthCheck),
)


def test_no_short_program_breaks_raft() -> None:
    """Hypothesis looks for an order of events that breaks a property, or that leaves the members stuck."""
    run_state_machine_as_test(RaftMachine, settings=MODEST)


NIGHT = settings(MODEST, max_examples=3000, stateful_step_count=120, derandomize=False, print_blob=True)


@pytest.mark.nightly
def test_no_long_program_breaks_raft(record_property: Callable[[str, Any], None]) -> None:
    """The same, with many more and longer programs."""
    record_property("seeds", "fresh every night; Hypothesis prints the line that repeats a failure")
    record_property("programs", 3000)
    record_property("steps_a_program_max", 120)
    run_state_machine_as_test(RaftMachine, settings=NIGHT)


def test_the_machine_finds_a_planted_bug() -> None:
    """It is not blind: a member that votes for all is caught, with a short program."""

    class Planted(RaftMachine):
        kind = VotesForAll

    with pytest.raises(Broken):
        run_state_machine_as_test(Planted, settings=settings(MODEST, max_examples=1000, phases=[Phase.generate]))
