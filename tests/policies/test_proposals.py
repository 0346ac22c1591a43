"""What a leader asks of its log is asked for again until it is there (`policies.coordination.proposals`)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies.commands import Accept, Command, Complete, Dissolve, Evict, Join, Place, Refuse, decode
from policies.consensus import Raft
from policies.gateway import Answer, Refused
from policies.local import Propose
from tests.policies.small_village import FOR_EVER_S, RULES, ready


def lose_first(kind: type, monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """Let the log lose the first command of a kind that it is asked for, as with a full pool; return what it lost."""
    lost: list[Command] = []
    take = Raft.on_local

    def on_local(log: Raft, sender: str, message: Any) -> None:
        command = decode(message.command) if isinstance(message, Propose) else None
        if isinstance(command, kind) and not lost:
            lost.append(command)
        else:
            take(log, sender, message)

    monkeypatch.setattr(Raft, "on_local", on_local)
    return lost


@pytest.mark.parametrize("kind", [Accept, Complete, Refuse])
def test_what_a_log_has_lost_of_a_request_is_asked_for_again(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has its outcome, and one only, whether its acceptance or its outcome was lost."""
    lost = lose_first(kind, monkeypatch)
    village = ready(1)
    village.take(FOR_EVER_S if kind is Refuse else 1.0)
    village.ask("1", deadline_s=30.0)
    village.run(100.0)

    assert len(lost) == 1
    assert [type(m) for m in village.answers("1")] == [Refused if kind is Refuse else Answer]
    assert village.coordination().efforts.all == {}


@pytest.mark.parametrize("kind", [Join, Place, Dissolve, Evict])
def test_what_a_log_has_lost_of_workers_is_asked_for_again(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members join, liars are put out, and pipelines come and go, whichever of these commands was lost first."""
    lost = lose_first(kind, monkeypatch)
    village = ready(3, rules=msgspec.structs.replace(RULES, audit_share=1.0))
    village.desk.liars = {"w1"}
    for i in range(9):
        village.ask(f"{i}")
        village.run(30.0)
    village.crash("w2")
    village.run(60.0)

    assert len(lost) == 1
    assert village.state.members == {"w1": False, "w2": True, "w3": True}
    assert [place.stages[0].node for place in village.state.placements.values()] == ["w3"]


def test_a_command_that_a_slow_log_does_not_take_is_asked_for_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that is cut off from its committee fills its log with few copies, and asks once where once is enough."""
    village = ready(1)
    asked: list[Command] = []
    monkeypatch.setattr(Raft, "on_local", lambda log, sender, message: asked.append(decode(message.command)))
    for _ in range(3):
        village.ask("1", deadline_s=1000.0)
    village.run(20 * RULES.plan_every_s)

    assert {type(command) for command in asked} == {Accept}
    assert len(asked) == 1 + 4  # after 1, 3, 7 and 15 ticks
