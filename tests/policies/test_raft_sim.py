"""Raft in bad weather: the simulated world, and a machine that Hypothesis drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from models import draws
from policies import port as p
from policies.cell import Cell
from policies.config import RaftConfig
from policies.consensus.raft import Raft
from policies.local import Propose
from policies.port import NS_PER_S
from policies.wire import encode
from scenarios.schema import Network
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.world import StepCost, World
from tests.mutants.raft import VotesForAll
from tests.policies.hand_cluster import Member
from tests.policies.raft_machine import RaftMachine
from tests.policies.raft_watch import Broken, Watch, Watched

NAMES = tuple(f"n{i + 1}" for i in range(5))
STORM_S = 60.0
CALM_S = 20.0


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
