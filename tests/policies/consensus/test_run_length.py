"""What a log holds, writes and says for a decision does not grow with the run, whoever sits and however often."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from policies.config import ConsensusRules, HotstuffConfig, PbftConfig, RaftConfig
from policies.consensus import replicated_log, vouching
from policies.consensus.hotstuff import pool, trunk
from policies.consensus.pbft import liveness, ordering
from policies.local import (
    Committed,
    Configured,
    Propose,
    Read,
    Readable,
    Reconfigure,
    Restore,
    Snapshot,
    SnapshotDue,
)  # fmt: skip
from policies.log import recover
from policies.port import Policy
from policies.wire import Message
from scenarios.schema import Network
from sim.cluster import Cluster

PROTOCOLS: dict[str, ConsensusRules] = {
    "raft": RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.30),
    "hotstuff": HotstuffConfig(chain=2, timeout_s=0.2, heartbeat_s=0.2, checkpoint_every=20, tenure=32),
    "hotstuff, three-chain": HotstuffConfig(chain=3, timeout_s=0.2, heartbeat_s=0.2, checkpoint_every=20, tenure=32),
    "pbft": PbftConfig(timeout_s=0.3, resend_s=0.1, checkpoint_every=8),
}
FIVE = tuple(f"n{k}" for k in range(5))
SNAPSHOT_EVERY = 20
NOT_OURS = frozenset(("port", "node", "config"))
"""Attributes that lead out of a log: to the world, to what holds it, to what never changes."""


class Do(Message, frozen=True, tag="do"):
    """A client's command."""

    command: bytes


class Look(Message, frozen=True, tag="look"):
    """A client's read."""


class Sit(Message, frozen=True, tag="sit"):
    """Who is to sit and who to learn."""

    members: tuple[str, ...]
    learners: tuple[str, ...]


class Counter(Policy):
    """A state machine whose state has one size, so that all growth is the log's."""

    requests = (Do, Look, Sit)

    def __init__(self) -> None:
        self.index = self.epochs = self.answered = 0

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if isinstance(operation, Do):
            self.port.tell("consensus", Propose(operation.command))
        elif isinstance(operation, Look):
            self.port.tell("consensus", Read(0))
        else:
            self.port.tell("consensus", Reconfigure(operation.members, operation.learners))

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed | Restore):
            self.index = message.index
        elif isinstance(message, Configured):
            self.epochs += 1
        elif isinstance(message, Readable):
            self.answered += message.index >= 0
        if isinstance(message, Committed) and self.index % SNAPSHOT_EVERY == 0:
            self.port.tell("consensus", Snapshot(self.index, b"%0100d" % self.index))
        elif isinstance(message, SnapshotDue):
            assert message.index == self.index
            self.port.tell("consensus", Snapshot(self.index, b"%0100d" % self.index, message.place))


def held_bytes(thing: Any, seen: set[int]) -> int:
    """Return the bytes of all strings that something leads to, and eight for every place in what holds them."""
    if id(thing) in seen or isinstance(thing, int | float | type(None)) or callable(thing):
        return 0
    seen.add(id(thing))
    if isinstance(thing, bytes | str):
        return len(thing)
    if isinstance(thing, dict):
        return sum(8 + held_bytes(key, seen) + held_bytes(value, seen) for key, value in thing.items())
    if isinstance(thing, list | tuple | set | frozenset | deque):
        return sum(8 + held_bytes(part, seen) for part in thing)
    names = getattr(thing, "__struct_fields__", None) or [*vars(thing)]
    return sum(held_bytes(getattr(thing, name), seen) for name in names if name not in NOT_OURS)


class Run:
    """Five nodes, four of which sit, in another order or another four in each epoch; the fifth learns."""

    def __init__(self, protocol: str) -> None:
        def mount() -> dict[str, Policy]:
            log = replicated_log(PROTOCOLS[protocol], FIVE[:4], "app", ("app",))
            return {"consensus": log, "app": Counter()}

        calm = Network(backbone_s=0.002, loss=0.0, duplicate=0.0, jitter_sigma=0.0)
        self.cluster = Cluster(mount, 5, 1, calm)
        self.raft, self.asked, self.turns, self.said = protocol == "raft", 0, 0, 0
        self.cluster.world.on_send.append(self._say)
        self._change()
        self.cluster.run(2)

    def _say(self, now: int, node: Any, effect: Any) -> None:
        self.said += len(effect[3])

    def _ask(self, operation: Message) -> None:
        self.asked += 1
        self.cluster.request("n0", "client", str(self.asked), operation, path="app")

    def _change(self) -> None:
        self.turns += 1
        turn = self.turns % 4
        members = (*FIVE[turn:4], *FIVE[:turn]) if not self.raft else FIVE[: 3 + self.turns % 2]
        self._ask(Sit(members, tuple(name for name in FIVE if name not in members)))

    def stretch(self, epochs: int) -> tuple[int, int, int]:
        """Let epochs of ten commands pass; return bytes held at most, on a disk at most, and said in all."""
        self.said = held = saved = 0
        for epoch in range(epochs):
            self._change()
            self.cluster.run(0.1)
            for _ in range(10):
                self._ask(Do(b"%020d" % self.asked))
                self.cluster.run(0.02)
            if epoch % 2 == 0:  # every second one is looked at
                held, saved = max(held, self._held()), max(saved, self._saved())
        return held, saved, self.said

    def reads(self, count: int) -> tuple[int, int, int]:
        """Let so many reads be answered and nothing else happen; return the same."""
        self.said = held = saved = 0
        for number in range(count):
            self._ask(Look())
            self.cluster.run(0.02)
            if number % 4 == 0 and number >= count // 2:
                held, saved = max(held, self._held()), max(saved, self._saved())
        return held, saved, self.said

    def _held(self) -> int:
        return max(held_bytes(self.cluster.policy(name, "consensus"), set()) for name in FIVE)

    def _saved(self) -> int:
        disks = (recover(self.cluster.world.by_name[name].disk) for name in FIVE)
        return max(sum(map(len, disk.values())) for disk in disks)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_log_holds_writes_and_says_as_much_after_sixty_epochs_as_after_forty(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty epochs and two hundred commands more: nobody holds more, members and learner alike."""
    monkeypatch.setattr(vouching, "PROOFS_KEPT", 4)
    monkeypatch.setattr(pool, "DONE_MAX", 64)
    monkeypatch.setattr(liveness, "DONE_MAX", 64)
    run = Run(protocol)
    _, before, after = (run.stretch(20) for _ in range(3))

    counters = [run.cluster.policy(name, "app") for name in FIVE]
    assert min(counter.index for counter in counters) >= 590
    assert max(counter.epochs for counter in counters) >= 55
    for bytes_before, bytes_after in zip(before, after, strict=True):
        assert bytes_after <= 1.05 * bytes_before, (before, after)


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_log_of_reads_alone_holds_writes_and_says_no_more_as_it_grows(
    protocol: str, epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command comes after the tenth, or none at all, so no state machine takes a snapshot of its own accord; yet
    nothing grows."""
    monkeypatch.setattr(pool, "DONE_MAX", 64)
    monkeypatch.setattr(liveness, "DONE_MAX", 64)
    monkeypatch.setattr(trunk, "SNAPSHOT_PERIODS", 2)  # 40 blocks
    monkeypatch.setattr(ordering, "SNAPSHOT_PERIODS", 5)  # 40 batches
    run = Run(protocol)
    run.stretch(epochs)
    _, before, after = (run.reads(100) for _ in range(3))

    assert {run.cluster.policy(name, "app").index for name in FIVE} == {run.cluster.policy("n0", "app").index}
    assert run.cluster.policy("n0", "app").index < SNAPSHOT_EVERY
    assert run.cluster.policy("n0", "app").answered >= 290
    for bytes_before, bytes_after in zip(before, after, strict=True):
        assert bytes_after <= 1.05 * bytes_before, (before, after)
