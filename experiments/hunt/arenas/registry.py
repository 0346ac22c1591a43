"""Replicated registers and their clients, beside each protocol in turn: what clients saw must be linearizable."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec

from experiments.hunt.arena import CORRECT, MessageArena, Play
from policies.commands import Add, CompareAndSet, Put
from policies.config import ConsensusRules, HotstuffConfig, PbftConfig, RaftConfig
from policies.consensus import replicated_log
from policies.port import NS_PER_S, Effect, Policy
from policies.registry import Get, Refused, Registry
from policies.rng import Rng
from policies.state.configuration import Result
from policies.wire import Message, encode
from scenarios import faults as f
from scenarios.checks import Check, Ends, Sometimes, byzantine, consensus, logs, told
from scenarios.checks.histories import ANSWERED, CALLED, Linearizable
from scenarios.checks.linear_models import VERSIONED
from scenarios.checks.progress import Bounded, EverybodyCatchesUp, ViewsConverge
from scenarios.checks.state import EqualStates, done_once
from scenarios.defects.registry import ReadsWhatItHas
from scenarios.trial import Trial
from sim.world import Node

PROTOCOLS: tuple[ConsensusRules, ...] = (
    RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.30),
    HotstuffConfig(tenure=16, timeout_s=0.2, timeout_max_s=1.6, heartbeat_s=0.2, checkpoint_every=16, batch_max=8),
    PbftConfig(timeout_s=0.25, resend_s=0.2, checkpoint_every=4, in_flight=4, max_batch=8, pool_max=50),
)
"""A trial's seed says which: three seeds in a row have the three."""
DEFECTS: dict[str, type[Registry]] = {"reads_what_it_has": ReadsWhatItHas}
CLIENTS, KEYS, AGAIN_S = 4, 2, 0.5
"""Few registers, so that clients are in one another's way; who hears nothing asks elsewhere after that time."""
ASKED_AGAIN = told("asked_again")

_reply: Any = msgspec.msgpack.Decoder(Result | Refused).decode


class Call(NamedTuple):
    """An operation of a client, and how checks know it."""

    op_id: str
    operation: Message
    asked: tuple[Any, ...]


class Clients:
    """Clients with one operation under way each; a write that is asked again, anywhere, is the same operation."""

    def __init__(self, play: Play) -> None:
        self.play, self.rng = play, Rng(play.trial.seed, "registry", "clients", 0)
        self.waiting: dict[str, deque[Call]] = {f"c{k}": deque() for k in range(CLIENTS)}
        self.writes = dict.fromkeys(self.waiting, 0)

    def ask(self, number: int) -> None:
        """Let a client begin another operation, or note it for when the one before has ended."""
        client, queue = f"c{number % CLIENTS}", self.waiting[f"c{number % CLIENTS}"]
        queue.append(self._draw(client, number))
        if len(queue) == 1:
            self._begin(client)

    def _draw(self, client: str, number: int) -> Call:
        key, verb, value = f"k{self.rng.below(KEYS)}", self.rng.choice(("get", "put", "add", "cas")), number
        if verb == "get":
            return Call(f"get {number}", Get(key), (verb, key))
        self.writes[client] += 1
        op_id = str(self.writes[client])
        if verb == "cas":
            old = self.rng.below(number + 1)
            return Call(op_id, CompareAndSet(key, old, value), (verb, key, old, value))
        return Call(
            op_id, Put(key, value) if verb == "put" else Add(key, 1), (verb, key, value if verb == "put" else 1)
        )

    def _begin(self, client: str) -> None:
        call = self.waiting[client][0]
        self.play.checks.tell(self.play.now_ns, client, CALLED.kind, (client, call.op_id, call.asked))
        self._send((client, call))

    def _send(self, argument: tuple[str, Call]) -> None:
        client, call = argument
        queue, play = self.waiting[client], self.play
        if not queue or queue[0] is not call:
            return  # it has ended
        play.request(self.rng.choice(play.trial.names), "registry", client, call.op_id, encode(call.operation))
        play.world.engine.call_at(play.now_ns + int(AGAIN_S * NS_PER_S), self._again, argument)

    def _again(self, argument: tuple[str, Call]) -> None:
        client, call = argument
        if self.waiting[client] and self.waiting[client][0] is call:
            self.play.checks.tell(self.play.now_ns, client, ASKED_AGAIN.kind)
            self._send(argument)

    def heard(self, now: int, client: str, op_id: str, reply: Result | Refused) -> None:
        """A client hears; of one that gives up it asks again in its own time."""
        if isinstance(reply, Refused):
            return
        queue = self.waiting[client]
        ends = bool(queue) and queue[0].op_id == op_id
        if ends or op_id.isdecimal():  # a write has one answer, however late; a late read is another read
            answer = (client, op_id, (reply.ok, reply.value, reply.version))
            self.play.checks.tell(now, client, ANSWERED.kind, answer)
        if ends:
            queue.popleft()
            if queue:
                self._begin(client)


class RegistryArena(MessageArena):
    """Five members, four clients who each do one thing after another, two registers.

    Disks do not rot here: a member whose log is damaged stays down for good, and a Byzantine five bear only one.
    """

    name = "registry"
    what = "replicated registers over Raft, HotStuff and PBFT in turn, under crashes, partitions, bad links and disks"
    defects: ClassVar[Mapping[str, str]] = {"reads_what_it_has": "a member answers reads without asking the log"}
    expects: ClassVar[Mapping[str, str]] = {"reads_what_it_has": "linearizable"}
    canary = "reads_what_it_has"
    shape = Trial(arena="registry", nodes=5, requests=80, storm_s=4.0, calm_s=6.0)
    fewest = 4
    timeouts_s = (0.05, 0.2, 0.3, AGAIN_S)
    kinds = (f.Crash, f.Pause, f.Slow, f.Clock, f.Churn, f.Cascade, *f.NETWORKS, f.SlowDisk, f.FailingDisk, f.FullDisk)

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a log and registers beside it."""
        kind = Registry if trial.policy == CORRECT else DEFECTS[trial.policy]
        rules = PROTOCOLS[trial.seed % len(PROTOCOLS)]
        return {
            "consensus": replicated_log(rules, trial.names, "registry"),
            "registry": kind(retry_s=0.3, snapshot_every=16),
        }

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises to clients, of the state machine and of the log."""
        return (
            *consensus.safety(), *logs.safety(trial.names), EqualStates("registry"), done_once(),
            Linearizable(VERSIONED), consensus.commits_after_healing(), every_operation_ends(), EverybodyCatchesUp(),
            ViewsConverge(), Bounded(),
            Sometimes("an_operation_was_asked_again", ASKED_AGAIN, when=lambda e: True),
            *consensus.rare(), *byzantine.rare(evidence=False),
        )  # fmt: skip

    def ask(self, play: Play, number: int) -> None:
        """Let a client ask."""
        if "clients" not in play.memory:
            play.memory["clients"] = Clients(play)
        play.memory["clients"].ask(number)

    def replied(self, play: Play, now: int, node: Node, effect: Effect) -> None:
        """A client hears an answer."""
        _, _, client, op_id, payload, _ = effect
        play.memory["clients"].heard(now, client, op_id, _reply(payload))


def every_operation_ends() -> Ends:
    """Every operation of a client is answered by the end; clients go on asking."""
    return Ends("every_operation_ends", CALLED, ANSWERED, key=lambda e: e.value[:2], says="was not answered")
