"""The state machine in its place: audited work is paid, and a log that compacts loses nothing of it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from policies import port as p
from policies.cell import Cell
from policies.commands import Accept, Command, Join, Place
from policies.config import ShardingConfig
from policies.coordination import Coordination, leader
from policies.jobs import Stage
from policies.local import Committed, Leadership, Restore, Snapshot
from policies.port import Policy
from policies.state.ledger import MINT
from policies.wire import Message, encode
from sim.keys import KeyRing
from tests.policies.small_village import CARD, COMMITTEE, RULES, CoordinationConfig, ready


def test_audited_requests_pay_both_lines_and_every_member_agrees() -> None:
    """Two devices run each request and answer alike: both are paid, on every member the same, and nothing else is."""
    village = ready(3, rules=CoordinationConfig(lease_s=10.0, plan_every_s=5.0, audit_share=1.0))
    for k in range(4):
        village.ask(str(k))
    village.run(30.0)
    state = village.state

    assert len(state.outcomes) == 4
    assert state.credits.wrong() == ""
    # 4 tokens through 4 layers, 16 x 27.8 micro-credits, scarcity 10 / (3 + 1); the executor and its verifier.
    assert -state.balances[MINT] == 4 * (16 * 10_000_000 * 250 // 36_000_000 + 16 * 10_000_000 * 500 // 36_000_000)
    assert len({village.coordination(k).state.digest() for k in COMMITTEE}) == 1


class Log(Policy):
    """Stands where consensus is: says what a test says, and keeps what it is told."""

    requests: ClassVar[tuple[type[Message], ...]] = (Committed, Restore, Leadership)

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_request(self, client: str, op_id: str, operation: Message) -> None:
        """Tell coordination."""
        self.port.tell("coordination", operation)

    def on_local(self, sender: str, message: Any) -> None:
        """Keep it."""
        self.told.append(message)


class Member:
    """One committee member whose log a test writes."""

    def __init__(self) -> None:
        self.log, self.coordination = Log(), Coordination(RULES, ShardingConfig(), CARD)
        policies: dict[str, Policy] = {"consensus": self.log, "coordination": self.coordination}
        self.cell = Cell(policies, "k1", COMMITTEE[1:], seed=1, keys=KeyRing(1).handle("k1"))
        self.cell.step(0, 0, (p.START, "", {}, 0))

    def hears(self, *messages: Message) -> None:
        """Its log tells coordination."""
        for message in messages:
            self.cell.step(1, 1, (p.REQUEST, "consensus", "test", "1", encode(message)))


HISTORY: tuple[Command, ...] = (
    Join("w1"),
    Join("w2"),
    Place(5, "m", (Stage("w1", 0, 4),), 0.1),
    Accept("anna", "1", "m", "p", "n1", 3, 4, 1, 0, 9),
)


def test_a_new_leader_goes_on_from_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many commands the log is given the state; who restores it has the same, soft state included."""
    monkeypatch.setattr(leader, "SNAPSHOT_EVERY", len(HISTORY))
    first = Member()
    first.hears(*(Committed(10 + k, 1, encode(command)) for k, command in enumerate(HISTORY)))
    snapshots = [message for message in first.log.told if isinstance(message, Snapshot)]
    assert [snapshot.index for snapshot in snapshots] == [13]

    second = Member()
    second.hears(Leadership(2, "k1"), Restore(snapshots[0].index, snapshots[0].state))

    assert second.coordination.state.digest() == first.coordination.state.digest()
    assert list(second.coordination.efforts.all) == [("anna", "1")]
    assert list(second.coordination.lines.lines) == [5]
    second.hears(Committed(14, 2, b"\xff"), Committed(15, 2, encode(Join("w3"))))
    assert list(second.coordination.state.members) == ["w1", "w2", "w3"]
