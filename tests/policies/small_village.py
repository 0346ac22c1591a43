"""A small village for tests: three committee members and some workers in the simulated world, with a desk that answers
jobs as a test says. Messages can be lost by their tag; everything else is the policies' own doing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from models.inference import Shape
from policies import gateway as g
from policies import port as p
from policies.cell import Cell
from policies.checking import Examiner, Prover
from policies.checking.messages import Checked
from policies.config import CoordinationConfig, GatewayConfig, RaftConfig, RecoveryRules, ReplayConfig, ShardingConfig
from policies.consensus import Raft
from policies.coordination import Coordination
from policies.coordination.attempts import TERM_SHIFT
from policies.gateway import Gateway, Submit
from policies.jobs import Job, Outcome, SessionJob
from policies.local import Lend, Seen
from policies.port import NS_PER_S, Effect, Input, Policy
from policies.problem import Problem
from policies.serving import Worker
from policies.state import VillageState
from policies.wire import encode
from policies.work import Capability, FoundFalse, Gone, Offered, Placed, PlacedOf, SettledBy, SettledOp
from scenarios.schema import Network
from sim.desk import Desk, Times
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.proofs import Proofs
from sim.world import Node, World

COMMITTEE = ("k1", "k2", "k3")
SHAPE = Shape("m", 4, 64, 4, 4, 16, 128, 256)
CARD = Problem("m", SHAPE.layers, 900.0, 100.0, 0.0, 100.0)
KV_BYTES = 500.0  # of a token in a layer
ONE_HOLDS_ALL, TWO_HOLD_ALL = 4000.0, 2000.0  # memory_bytes of a worker
RULES = CoordinationConfig(lease_s=10.0, plan_every_s=5.0, audit_share=0.0)
FOR_EVER_S = 1e9
LEND = Lend(True, 1.0, 1.0, "idle")
_reply: Any = msgspec.msgpack.Decoder(
    g.Accepted | g.Answer | g.AnswerBy | g.Refused | g.Redirect | g.Come | g.Part | g.PartBy
).decode
_decided: dict[str, Any] = {
    "settled": SettledOp | SettledBy, "placed": Placed | PlacedOf, "gone": Gone, "offered": Offered,
    "checked": Checked, "found_false": FoundFalse,
}  # fmt: skip


def rules(**changes: Any) -> CoordinationConfig:
    """Return the village's rules, changed."""
    return msgspec.structs.replace(RULES, **changes)


class Lender(Policy):
    """Stands where harvest is: lends the device when a test says so."""

    requests = (Lend,)

    def on_request(self, client: str, op_id: str, operation: Lend) -> None:
        """Tell the worker."""
        self.port.tell("worker", operation)


class Seer(Policy):
    """Stands where a failure detector is: says of a node what a test says."""

    requests = (Seen,)

    def on_request(self, client: str, op_id: str, operation: Seen) -> None:
        """Tell coordination."""
        self.port.tell("coordination", operation)


class Tap:
    """A Cell whose messages a test may lose."""

    def __init__(self, cell: Cell, village: SmallVillage) -> None:
        self.cell, self.village, self.crypto_ops = cell, village, 0

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input; keep what the village does not lose."""
        lose = self.village.lose
        effects = self.cell.step(now, wall, given)
        return tuple(
            e for e in effects if e[0] != p.SEND or not lose(self.cell.me, e[2], msgspec.msgpack.decode(e[3])[0])
        )


class Bench(Desk):
    """The desk, with liars whose sessions answer wrongly, and a list of what it was asked."""

    def __init__(self, world: World, models: tuple[str, ...]) -> None:
        super().__init__(world, Times(session_s=1.0, load_s=0.5, plan_s=0.5, lost_s=0.0))
        self.ran: list[str] = []
        self.liars: set[str] = set()
        self.cheats: dict[str, tuple[str, range]] = {}
        self.withholds: dict[str, tuple[str, range]] = {}
        self.proofs = Proofs(1, dict.fromkeys(models, SHAPE), self.cheats, self.withholds)
        self.prove: Callable[[Node, Any], Outcome] = lambda node, job: self.proofs.outcome(node, job, 0)

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None:
        """Take a job; those of checks take a tenth of a second."""
        if path in ("prover", "examiner"):
            said = (p.JOB, path, job_id, encode(self.prove(node, msgspec.msgpack.decode(payload, type=Job))))
            self.world.give_at(self.world.engine.now + NS_PER_S // 10, node, said)
            return
        if msgspec.msgpack.decode(payload)[0] == "session":
            op, _, attempt = msgspec.msgpack.decode(payload, type=SessionJob).op.rpartition("/")
            self.ran.append(f"{op}/{int(attempt) % (1 << TERM_SHIFT)}")
        super().submit(node, path, job_id, payload)

    def answer(self, job: SessionJob) -> str:
        """Return the answer, or a lie."""
        lied = sorted(self.liars & {stage.node for stage in job.stages})
        return f"lie of {lied[0]}" if lied else f"answer to {job.prompt}"


class SmallVillage:
    """Workers w1, w2, ... all lent from the start.

    Args:
        others: workers that can do something else than the rest.
        ring: the nodes' keys.

    Attributes:
        replies: (gateway, client, op_id, message) in order.
        decided: (node, value) of settled, placed, gone and offered, in order.
        desk: does the jobs; ``ran`` has client/op_id/count of every session that was started, in order (an attempt
            counts from 1 in its term), ``liars`` are nodes whose sessions give a wrong answer, ``cheats`` those whose
            work checks find false, ``withholds`` those who do not hand out all (`sim.proofs`), ``prove`` answers a job
            of a check.
        lose: (sender, receiver, tag) to whether the message is lost.
    """

    def __init__(
        self,
        workers: int = 2,
        memory_bytes: float = ONE_HOLDS_ALL,
        rules: CoordinationConfig = RULES,
        gateway: GatewayConfig | None = None,
        slots: int = 4,
        others: Mapping[str, Capability] | None = None,
        seed: int = 1,
        smaller: tuple[Problem, ...] = (),
        ring: KeyRing | None = None,
        recovery: RecoveryRules = ReplayConfig(),  # noqa: B008
    ) -> None:
        self.recovery = recovery
        self.seed, self.smaller = seed, smaller  # of the policies' draws; models beside CARD's
        self.ring = ring or KeyRing(1)
        self.workers = tuple(f"w{i + 1}" for i in range(workers))
        names = COMMITTEE + self.workers
        self.rules, self.slots, self.gateway = rules, slots, gateway or GatewayConfig()
        self.capability = Capability(memory_bytes, 0.01, 0.001, 0.001, 1e7, 0.01)
        self.others = others or {}
        self.replies: list[tuple[str, str, str, Any]] = []
        self.decided: list[tuple[str, Any]] = []
        self.lose: Callable[[str, str, str], bool] = lambda sender, to, tag: False
        network = Network(backbone_s=0.01, loss=0.0, jitter_sigma=0.3, duplicate=0.0)
        self.world = World(MessageNetwork(1, Links.alike(len(names), 0.005, 1e7), network))
        self.world.jobs = self.desk = Bench(self.world, ("m", *(card.model for card in smaller)))
        self.world.on_reply = lambda now, node, e: self.replies.append((node.name, e[2], e[3], _reply(e[4])))
        self.world.on_decide.append(self._on_decide)
        for name in names:
            self.world.add(name, lambda name=name: Tap(self._cell(name, names), self))  # type: ignore[misc]
        for node in self.world.nodes:
            self.world.start(node)
        for name in self.workers:
            self.lend(name, LEND)

    def _cell(self, name: str, names: tuple[str, ...]) -> Cell:
        can = self.others.get(name, self.capability)
        policies: dict[str, Policy] = {"harvest": Lender(), "worker": Worker(COMMITTEE, can, self.rules.lease_s)}
        if name in COMMITTEE:
            timing = RaftConfig(heartbeat_s=0.25, election_min_s=1.0, election_max_s=2.0)
            sharding = ShardingConfig(slots=self.slots)
            watchers = ("coordination", "gateway", *(("examiner",) if self.rules.spot_checks is not None else ()))
            policies["consensus"] = Raft(timing, COMMITTEE, "coordination", watchers)
            policies["coordination"] = Coordination(
                self.rules, sharding, CARD, self.smaller, recovery=self.recovery, kv_bytes_token_layer=KV_BYTES
            )
            policies["gateway"] = Gateway(self.gateway)
            policies["membership"] = Seer()
        if self.rules.spot_checks is not None:
            policies["prover"] = Prover(COMMITTEE)
            if name in COMMITTEE:
                policies["examiner"] = Examiner(self.rules.spot_checks)
        peers = tuple(n for n in names if n != name)
        return Cell(policies, name, peers, seed=self.seed, keys=self.ring.handle(name))

    def _on_decide(self, now: int, node: Node, effect: Effect) -> None:
        if effect[2] in _decided:
            self.decided.append((node.name, msgspec.msgpack.decode(effect[3], type=_decided[effect[2]])))

    # -- what a test does ----------------------------------------------------------------------------

    def lend(self, name: str, lend: Lend) -> None:
        """A device's owner gives or takes it."""
        self.world.give(self.world.by_name[name], (p.REQUEST, "harvest", "owner", "1", encode(lend)))

    def crash(self, name: str) -> None:
        """A machine stops."""
        self.world.crash(self.world.by_name[name])

    def restart(self, name: str) -> None:
        """It comes back, and a worker is lent again."""
        self.world.start(self.world.by_name[name])
        if name in self.workers:
            self.lend(name, LEND)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(self.world.engine.now / NS_PER_S + seconds)

    def see(self, peer: str, status: str) -> None:
        """Every member's failure detector holds a node to be so from now on."""
        for name in COMMITTEE:
            seen = (p.REQUEST, "membership", "test", "1", encode(Seen(peer, status, 1)))
            self.world.give(self.world.by_name[name], seen)

    def take(self, session_s: float = FOR_EVER_S) -> None:
        """Let sessions that begin from now on take so long."""
        self.desk.times = replace(self.desk.times, session_s=session_s)

    def ask(self, op_id: str, at: str = "", *, client: str = "anna", **fields: Any) -> None:
        """A client asks the leader's gateway, or another."""
        usual = {"model": "m", "prompt": f"p{op_id}", "prompt_tokens": 8, "new_tokens": 4, "priority": 2}
        submit = Submit(**(usual | {"deadline_s": 300.0} | fields))
        node = self.world.by_name[at or self.leader]
        self.world.give(node, (p.REQUEST, "gateway", client, op_id, encode(submit)))

    # -- what a test sees ----------------------------------------------------------------------------

    @property
    def leader(self) -> str:
        """The member that leads."""
        (name,) = [k for k in COMMITTEE if self.world.by_name[k].up and self.coordination(k).leading]
        return name

    @property
    def running(self) -> dict[tuple[str, int], SessionJob]:
        """(node, job id) to the session that the desk works on."""
        return {key: job for key, (_, job) in self.desk.sessions.items()}

    def attempt(self, count: int) -> int:
        """The number of an attempt of the present leader."""
        return (self.coordination().term << TERM_SHIFT) + count

    def coordination(self, name: str = "") -> Coordination:
        """A member's coordination, the leader's if none is named."""
        policy = self._policy(name or self.leader, "coordination")
        assert isinstance(policy, Coordination)
        return policy

    def worker(self, name: str) -> Worker:
        """A worker."""
        policy = self._policy(name, "worker")
        assert isinstance(policy, Worker)
        return policy

    def _policy(self, name: str, path: str) -> Policy:
        tap = self.world.by_name[name].cell
        assert isinstance(tap, Tap)
        return tap.cell.policy(path)

    @property
    def state(self) -> VillageState:
        """The leader's replicated state."""
        return self.coordination().state

    def answers(self, op_id: str) -> list[Any]:
        """What a request's client heard."""
        return [message for _, _, op, message in self.replies if op == op_id]

    def seen(self, kind: type) -> list[Any]:
        """Decided values of a kind, in order."""
        return [value for _, value in self.decided if isinstance(value, kind)]


def ready(workers: int = 2, **fields: Any) -> SmallVillage:
    """Return a village after 20 s: a leader, and its pipelines loaded."""
    village = SmallVillage(workers, **fields)
    village.run(20.0)
    return village
