"""A village that serves a model: a committee that leads, workers that hold shards, and clients that ask.

The policies are the village's own, with its documented times divided by `FASTER`; executors work in fixed times.
Constants of the protocols themselves (a report is sent again after 2 s, a busy gateway asks for 2 s) are not divided,
so a lost message costs more of a lease here than in a real village.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from experiments.hunt.arena import CORRECT, MessageArena, Play
from models import draws
from policies.commands import is_leaders
from policies.config import ConsensusRules, CoordinationConfig, GatewayConfig, RaftConfig, ShardingConfig
from policies.consensus import bears_liars, replicated_log
from policies.local import Lend
from policies.port import NS_PER_S, Policy
from policies.problem import Problem
from policies.problem import Worker as Candidate
from policies.sharding import over_bytes
from policies.work import Capability
from scenarios import faults as f
from scenarios.checks import Check, Sometimes, consensus, leader, requests, told
from scenarios.checks.state import EqualStates, LedgerConserved, NoOverdraft, credited_once
from scenarios.defects.village import DEFECTS, EXPECTS, Village
from scenarios.trial import Trial
from scenarios.workload import Request
from sim.clients import Asked, Clients
from sim.desk import Desk, Times
from sim.world import Jobs

FASTER = 20.0
TIMES = RaftConfig(heartbeat_s=0.1, election_min_s=0.5, election_max_s=1.0)
"""The documented ones divided by 10 only, as heartbeats are most of a run's steps: an election stays within a lease."""
RULES = CoordinationConfig(
    lease_s=60.0 / FASTER, plan_every_s=30.0 / FASTER, ageing_s=60.0 / FASTER, queue_max=10, audit_share=0.0
)
"""The queue is a hundredth of the documented one, as clients are few. Nobody lies here, so nothing is audited."""
SLOTS = 2
GATE = GatewayConfig(requests_per_min=60.0, burst=5)
"""A request a second: a tenth of the documented burst, at a rate that a client of this arena can reach."""
DESK = Times(session_s=1.5, load_s=0.15, plan_s=0.025, lost_s=0.25)
"""As in `sim.compute`, divided; a session takes half a lease (assumption: 30 s)."""

CARD = Problem("m", layers=8, layer_bytes=900.0, kv_bytes_layer=100.0, head_bytes=500.0, activation_bytes=1000.0)
MEMORY = (2500.0, 2500.0, 2500.0, 5000.0, 4500.0, 4000.0, 4000.0)
"""Bytes that nodes lend, in turn: a committee member holds 2 layers, a worker 3 or 4 beside an end of the model. Two
pipelines fit, the second with a member's help: memory is tight."""
ONE_WAY_S = (0.001, 0.001, 0.001, 0.002, 0.010, 0.002, 0.005)
"""What links add, in turn: wired and wireless ones (assumption)."""

CLIENTS, EAGER_EVERY, EAGER_ASKS, EAGER_GAP_S = 3, 10, 12, 0.04
"""Every tenth request is of a client that asks for much more than its rate at once."""
SHORT_S, PATIENT_S = 4.0, 300.0
RETRY_S = 1.0
SETTLED_AFTER_S = 13.0
"""After healing: an election, a lease of whoever is gone, two ticks of planning, and the backlog of a full queue."""
FRESH_DEADLINE_S = 6.0


def problem(trial: Trial) -> Problem:
    """Return the model with every node as a worker that lends all it has."""
    workers = tuple(
        Candidate(name, **msgspec.structs.asdict(capability(number))) for number, name in enumerate(trial.names)
    )
    return msgspec.structs.replace(CARD, workers=workers)


def capability(number: int) -> Capability:
    """Return what a node can do."""
    kind = number % len(MEMORY)
    return Capability(MEMORY[kind], 0.01, 0.001, 0.001, 1e7, ONE_WAY_S[kind])


class Lender(Policy):
    """Stands where harvest is: the device is always lent."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Lend all of it."""
        self.port.tell("worker", Lend(True, 1.0, 1.0, "idle"))


class VillageArena(MessageArena):
    """Three members and four workers, all lent; a request every half second, and bursts."""

    name = "village"
    what = "a village that serves a model, under crashes, partitions, bad links, bad clocks and bad disks"
    villages: ClassVar[Mapping[str, Village]] = DEFECTS
    defects: ClassVar[Mapping[str, str]] = {name: village.what for name, village in DEFECTS.items()}
    expects: ClassVar[Mapping[str, str]] = {name: EXPECTS[name] for name in DEFECTS}
    canary = "g06"
    shape = Trial(arena="village", nodes=7, requests=40, storm_s=16.0, calm_s=20.0)
    seats: ClassVar[int] = 3  # of the committee
    rules: ClassVar[ConsensusRules] = TIMES
    settled_after_s: ClassVar[float] = SETTLED_AFTER_S
    fewest = 3
    kinds = (f.Crash, f.Pause, f.Slow, f.Clock, f.Cascade, *f.NETWORKS, *f.DISKS)
    faults_max = 8

    def committee(self, trial: Trial) -> int:
        """Return the members' number."""
        return self.seats

    def village(self, trial: Trial) -> Village:
        """Return the parts that the trial mounts."""
        return Village() if trial.policy == CORRECT else self.villages[trial.policy]

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a worker, and a member's policies where it is one."""
        village = self.village(trial)
        members, liars = trial.names[: self.seats], bears_liars(self.rules)
        device = capability(trial.names.index(name))
        policies: dict[str, Policy] = {
            "harvest": Lender(), "worker": village.worker(members, device, RULES.lease_s, liars=liars),
        }  # fmt: skip
        if name in members:
            watchers = ("coordination", "gateway")
            policies["consensus"] = replicated_log(self.rules, members, "coordination", watchers, is_leaders)
            policies["coordination"] = village.coordination(
                RULES, ShardingConfig(slots=SLOTS), CARD, seats=members if liars else ()
            )
            policies["gateway"] = village.gateway(GATE, liars=liars)
        return policies

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises to clients, of the leader, and of consensus.

        Of those that are asked at the end the cause stands before its consequences: the first to break is reported.
        """
        whole = problem(trial)
        return (
            *consensus.safety(), LedgerConserved(), NoOverdraft(), EqualStates(), credited_once(),
            leader.CapacityRecovers(whole, RULES.lease_s + 2 * RULES.plan_every_s),
            requests.fresh_requests_are_answered(), requests.every_request_ends(), requests.one_outcome_per_request(),
            requests.shards_cover_the_model(CARD.layers), requests.shards_fit_the_memory(whole),
            requests.LostOnlyAfterAllTries(RULES.tries),
            requests.AdmitsWithinItsRate(GATE.requests_per_min / 60.0, GATE.burst),
            leader.LeasesEnd(slack_s=1.0), leader.PipelinesHaveWorkers(), leader.PlannedLatency(whole),
            leader.FreeSlotsAreUsed(), leader.NobodyIsOvertaken(RULES.ageing_s),
            leader.QueuesAreBounded(RULES.queue_max, SLOTS * trial.nodes, GATE.burst * (CLIENTS + 1)),
            Sometimes("a_node_came_back", told("restart"), when=lambda e: True), *requests.rare(), *consensus.rare(),
        )  # fmt: skip

    def jobs(self, play: Play) -> Jobs:
        """Return the desk; clients are there from the start as well, and ask once more when all is well again."""
        trial = play.trial
        village = self.village(trial)
        members = list(trial.names[: self.seats])
        play.memory["clients"] = Clients(
            play.world, members, CARD.model, RETRY_S, self.one_way_s, lambda asked: self._ended(play, asked)
        )
        if trial.calm_s >= self.settled_after_s + FRESH_DEADLINE_S:
            at_ns = int((trial.storm_s + self.settled_after_s) * NS_PER_S)
            play.world.engine.call_at(at_ns, lambda _: self._ask_afresh(play), None)
        return Desk(play.world, DESK, {"latency_dp": over_bytes(village.plan)})

    def ask(self, play: Play, number: int) -> None:
        """Let one of the clients ask, or the eager one ask for much."""
        seed, now_s = play.trial.seed, play.now_ns / NS_PER_S
        at_s = now_s + 0.01 + 2.5 * float(draws.uniform(seed, "arrival", number, 0))
        priority = int(draws.integers(seed, "priority", number, 0, 5))
        if number % EAGER_EVERY == EAGER_EVERY - 1:
            for k in range(EAGER_ASKS):
                self._submit(play, "eager", f"{number}.{k}", priority, at_s + k * EAGER_GAP_S, SHORT_S)
        else:
            patience_s = PATIENT_S if number % 2 else SHORT_S
            self._submit(play, f"c{number % CLIENTS}", str(number), priority, at_s, patience_s)

    def _ask_afresh(self, play: Play) -> None:
        play.checks.tell(play.now_ns, "", "asked_afresh", ("fresh", "1"))
        self._submit(play, "fresh", "1", 2, play.now_ns / NS_PER_S + 0.01, FRESH_DEADLINE_S)

    def _submit(self, play: Play, client: str, op_id: str, priority: int, at_s: float, deadline_s: float) -> None:
        play.checks.tell(play.now_ns, "", "asked", (client, op_id))
        play.memory["clients"].schedule([Request(op_id, client, priority, at_s, deadline_s, 8, 4)])

    def _ended(self, play: Play, asked: Asked) -> None:
        value = (asked.request.client, asked.request.op_id)
        play.checks.tell(play.now_ns, "", "ended", value)
        if asked.finish is not None and asked.finish.status == "answered":
            play.checks.tell(play.now_ns, "", "answered", value)
