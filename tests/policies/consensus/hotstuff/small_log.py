"""A small replicated log in the simulated world: members, a state machine that appends, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import msgspec

from policies.config import HotstuffConfig
from policies.consensus.hotstuff import HotStuff
from policies.local import (
    Committed,
    Configured,
    Leadership,
    Propose,
    Read,
    Readable,
    Reconfigure,
    Restore,
    Snapshot,
    SnapshotDue,
)  # fmt: skip
from policies.port import NS_PER_S, Policy
from policies.wire import Message, encode
from scenarios.adversaries.behaviours import Behaves
from scenarios.schema import Network
from sim.cluster import BYTES_PER_S, Cluster, Factory
from sim.world import StepCost

FAST: dict[str, Any] = {"timeout_s": 0.2, "timeout_max_s": 10.0, "heartbeat_s": 0.2, "tenure": 32}
"""Times for a network of milliseconds, so that tests see many changes of view in little time."""
AGAIN_NS = NS_PER_S // 2  # what was ordered after a state comes meanwhile
CALM = Network(backbone_s=0.002, loss=0.0, duplicate=0.0, jitter_sigma=0.0)


class Put(Message, frozen=True, tag="put"):
    """A client's command."""

    command: bytes


class Get(Message, frozen=True, tag="get"):
    """A client's read."""

    token: int


class Members(Message, frozen=True, tag="members"):
    """A client's change of the members."""

    members: tuple[str, ...]
    learners: tuple[str, ...] = ()


class Appender(Policy):
    """A state machine that appends what is committed, and takes a snapshot every so many commands.

    Given a state in place of commands, it proposes again, after a pause, what is not held of what it proposed.
    """

    requests = (Put, Get, Members)

    def __init__(self, snapshot_every: int = 0) -> None:
        self.snapshot_every = snapshot_every
        self.index = 0
        self.state: list[bytes] = []
        self.proposed: list[bytes] = []
        self.read: dict[int, tuple[int, int]] = {}  # token to (index answered, commands held then)
        self.configured: list[Configured] = []
        self.leaderships: list[Leadership] = []
        self.restored = 0

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if isinstance(operation, Put):
            self.proposed.append(operation.command)
            self.port.tell("consensus", Propose(operation.command))
        elif isinstance(operation, Get):
            self.port.tell("consensus", Read(operation.token))
        else:
            self.port.tell("consensus", Reconfigure(operation.members, operation.learners))

    def on_timer(self, name: str) -> None:
        for command in self.proposed:
            if command not in self.state:
                self.port.tell("consensus", Propose(command))

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            assert message.index == self.index + 1, "told out of order"
            self.index = message.index
            self.state.append(message.command)
            if self.snapshot_every and self.index % self.snapshot_every == 0:
                self.port.tell("consensus", Snapshot(self.index, encode(self.state)))
        elif isinstance(message, SnapshotDue):
            assert message.index == self.index, "asked out of order"
            self.port.tell("consensus", Snapshot(self.index, encode(self.state), message.place))
        elif isinstance(message, Restore):
            self.index, self.state = message.index, msgspec.msgpack.decode(message.state)
            self.restored += 1
            self.port.set_timer("again", AGAIN_NS)
        elif isinstance(message, Readable):
            self.read[message.token] = (message.index, len(self.state))
        elif isinstance(message, Configured):
            self.configured.append(message)
        elif isinstance(message, Leadership):
            self.leaderships.append(message)


class SmallLog:
    """``n`` nodes, the first ``members`` of which (all, by default) make up the log's first epoch."""

    def __init__(
        self,
        n: int = 4,
        chain: Literal[2, 3] = 2,
        seed: int = 1,
        network: Network | None = None,
        *,
        members: int = 0,
        snapshot_every: int = 0,
        adversaries: Mapping[str, Sequence[Behaves]] | None = None,
        coalition: Collection[str] = (),
        others: Mapping[str, Factory] | None = None,
        cost: StepCost | None = None,
        one_way_s: float = 0.001,
        bytes_per_s: float = BYTES_PER_S,
        kind: type[HotStuff] = HotStuff,
        app: type[Appender] = Appender,
        **config: Any,
    ) -> None:
        rules = HotstuffConfig(**{"chain": chain, **FAST, **config})
        names = tuple(f"n{i}" for i in range(members or n))

        def make() -> dict[str, Policy]:
            return {"consensus": kind(rules, names, "app", ("app",)), "app": app(snapshot_every)}

        self.cluster = Cluster(
            make, n, seed, network, adversaries=adversaries, coalition=coalition, others=others, cost=cost,
            one_way_s=one_way_s, bytes_per_s=bytes_per_s,
        )  # fmt: skip
        self.members = names
        self.liars = set(adversaries or ())
        self.asked = 0

    def put(self, name: str, command: bytes = b"") -> bytes:
        """Let a client of a node ask for a command, by default a new one."""
        self.asked += 1
        command = command or b"command %d" % self.asked
        self.cluster.request(name, "client", str(self.asked), Put(command), "app")
        return command

    def run(self, seconds: float, every: float = 0.0, at: Sequence[str] = ()) -> list[bytes]:
        """Let time pass; with ``every`` a client asks one of ``at`` after another so often. Return what was asked."""
        if not every:
            self.cluster.run(seconds)
            return []
        asked = []
        for k in range(round(seconds / every)):
            asked.append(self.put(at[k % len(at)]))
            self.cluster.run(every)
        return asked

    def member(self, name: str) -> Any:
        """Return a node's member of the log."""
        return self.cluster.policy(name, "consensus")

    def app(self, name: str) -> Any:
        """Return a node's state machine."""
        return self.cluster.policy(name, "app")

    def require_safe(self) -> None:
        """No two honest members committed different commands at an index, and each told them in order."""
        chosen: dict[int, tuple[int, str]] = {}
        for decision in self.cluster.decisions:
            if decision.kind == "commit" and decision.node not in self.liars:
                _, index, _, checksum = decision.value
                before = chosen.setdefault(index, (checksum, decision.node))
                assert before[0] == checksum, (index, before, decision)
        held = [self.app(name).state for name in self.cluster.names if name not in self.liars]
        longest = max(held, key=len)
        assert all(state == longest[: len(state)] for state in held)

    def require_live(self, asked: Sequence[bytes], at: Sequence[str]) -> None:
        """All of ``asked`` is committed at each of ``at``, whose states are equal."""
        for name in at:
            missing = [command for command in asked if command not in self.app(name).state]
            assert not missing, (name, missing[:3], len(missing))
        assert len({encode(self.app(name).state) for name in at}) == 1

    def evidence(self) -> list[Any]:
        """Return what honest members announced as evidence: (culprit, epoch, view, ...)."""
        return [d.value for d in self.cluster.decisions if d.kind == "evidence" and d.node not in self.liars]
