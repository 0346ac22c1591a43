"""Committees of seven real processes: TLS sockets, fsynced logs, Ed25519 signatures, SIGKILL, SIGSTOP, and liars.

Clients ask without a pause, and all is judged when it is over: their history, what honest members announced and sent,
and that every journal replays. `test_committees` and `test_committee_liars` have seven members in one process, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from policies.config import ConsensusRules
from tests.real_backends.committees import Committee
from tests.real_backends.liars import ANSWERS, Seen, judge
from tests.real_backends.registers import PROTOCOLS
from tests.real_backends.test_committee_liars import PLANS, RULES
from tests.real_backends.test_committees import Record, record_away

SEVEN = 7
KILLS = 3  # in a row
AT_ONCE = {"raft": 3, "hotstuff": 2, "pbft": 2}
"""How many of seven may be down at once."""


def _run(
    folder: Path,
    rules: ConsensusRules,
    strike: Callable[[Committee], Awaitable[None]],
    liars: Mapping[int, Sequence[Any]] | None = None,
) -> Committee:
    async def run() -> Committee:
        async with Committee(rules, SEVEN, folder, liars=liars) as committee:
            await strike(committee)
        return committee

    return asyncio.run(run())


def _judge(committee: Committee) -> Seen:
    c = committee
    return judge(c.folder, c.rules, c.names, c.honest, c.clients.history, c.restarts)


@pytest.mark.nightly
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_seven_processes_survive_their_leaders(tmp_path: Path, record_property: Record, protocol: str) -> None:
    """Leaders are killed in a row, then as many as seven bear are down, one is stopped and goes on in the belief that
    it leads, and all are killed at once: no answered write is lost, none is done twice, journals replay."""

    async def strike(committee: Committee) -> None:
        for _ in range(KILLS):
            await committee.kill_leaders()
        await committee.kill_leaders(AT_ONCE[protocol])
        await committee.pause_leader()
        await committee.kill_all()
        await committee.more(ANSWERS)

    committee = _run(tmp_path, PROTOCOLS[protocol], strike)

    committee.require_kept()
    killed = [name for _, name in committee.restarts]
    assert len(set(killed[KILLS:-SEVEN])) == AT_ONCE[protocol]
    assert len(committee.away_s) == len(killed) - SEVEN + 1
    record_away(record_property, committee.away_s, committee.clients)


@pytest.mark.nightly
@pytest.mark.parametrize(("protocol", "plan"), [(p, plan) for p in RULES for plan in (p, "keys")])
def test_two_processes_of_seven_plan_together(tmp_path: Path, protocol: str, plan: str) -> None:
    """Two that share keys, draws and what they hear, and are killed and come back, break nothing and stop nothing."""

    async def strike(committee: Committee) -> None:
        await committee.more(ANSWERS)
        for name in committee.liars:
            await committee.processes.kill(name)
            await committee.restart(name)
        await committee.more(ANSWERS)

    committee = _run(tmp_path, RULES[protocol], strike, dict.fromkeys((0, 1), PLANS[plan]))
    seen = _judge(committee)

    assert seen.deviations > 0
    assert seen.accused <= set(committee.liars)


@pytest.mark.nightly
@pytest.mark.parametrize("protocol", RULES)
def test_one_process_of_seven_lies_and_another_falls(tmp_path: Path, protocol: str) -> None:
    """Beside a liar leaders are killed, and one is stopped: clients are answered, and nobody else is accused."""

    async def strike(committee: Committee) -> None:
        for _ in range(KILLS):
            await committee.kill_leaders()
            await committee.more(ANSWERS)
        await committee.pause_leader()

    committee = _run(tmp_path, RULES[protocol], strike, {1: PLANS[protocol][:-1]})
    seen = _judge(committee)

    assert seen.deviations > 0
    assert seen.accused <= {"desk-1"}
    assert seen.accused or protocol != "hotstuff"
