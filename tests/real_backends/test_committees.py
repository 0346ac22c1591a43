"""Real committees: processes, TLS sockets, fsynced logs, and clients whose histories are judged when all is over.

Leaders are killed (SIGKILL), stopped (SIGSTOP) and cut off by the kernel while clients ask without a pause. Nothing
here depends on how fast the machine is; how long service was away is told to the record of the night.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from policies.commands import Add
from policies.registry import Get
from policies.state.configuration import Result
from real_backends.cluster import LocalCluster, until
from real_backends.namespaces import Namespaces, NotPermitted
from real_backends.transports.faulty import Cut, LinkFaults
from scenarios.checks.linear import Operation
from tests.real_backends.committees import LOAD, Committee
from tests.real_backends.registers import (
    BOUND_S,
    ELECTION_S,
    PROTOCOLS,
    Clients,
    clients_of,
    members,
    require_kept,
    require_linearizable,
    require_safe,
)

KILLS = 50  # in a row
AWAY_MAX = 10  # election time-outs within which service is back (the bar)
Record = Callable[[str, Any], None]


def _kill(protocol: str, n: int, kills: int, folder: Path) -> Committee:
    async def run() -> Committee:
        async with Committee(PROTOCOLS[protocol], n, folder) as committee:
            for _ in range(kills):
                await committee.kill_leaders()
        return committee

    return asyncio.run(run())


@pytest.mark.slow
def test_killed_leaders_cost_time_and_nothing_else(tmp_path: Path) -> None:
    """SIGKILL of the leader under load, three times: what was answered is kept, once, and journals replay."""
    committee = _kill("hotstuff", 4, 3, tmp_path)

    committee.require_kept()
    assert len(committee.away_s) == 3
    assert len({name for _, name in committee.restarts}) > 1


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_leaders_are_killed_many_times_in_a_row(tmp_path: Path, record_property: Record, protocol: str) -> None:
    """No answered write is lost, none is done twice; the record tells how long service was away."""
    committee = _kill(protocol, 4, KILLS, tmp_path)

    committee.require_kept()
    assert len(committee.away_s) == KILLS
    record_away(record_property, committee.away_s, committee.clients)


def record_away(record_property: Record, away_s: list[float], clients: Clients) -> None:
    away = [s / ELECTION_S for s in away_s]
    record_property("seeds", [clients.seed])
    record_property("operations", len(clients.history))
    record_property("away_median_in_election_timeouts", median(away))
    record_property("away_max_in_election_timeouts", max(away))
    record_property("away_longer_than_the_bar", sum(one > AWAY_MAX for one in away))


async def _crash(protocol: str, n: int, crashes: int, folder: Path) -> tuple[Clients, list[float]]:
    """Crash the leader again and again in a committee of one process, and judge all of it."""
    names = tuple(f"desk-{k}" for k in range(n))
    cluster = LocalCluster(lambda name: members(PROTOCOLS[protocol], names), names, folder)
    restarts, away_s = [], []
    async with cluster, clients_of(cluster, names, LOAD) as clients:
        await until(lambda: clients.answers > LOAD, BOUND_S)
        for _ in range(crashes):
            logs: dict[str, Any] = {name: cluster.nodes[name].cell.policy("consensus") for name in names}
            leader = max(logs, key=lambda name: (logs[name].role == "leader", logs[name].term))
            struck_s = time.monotonic()
            await cluster.crash(leader)
            clients.mark()
            await until(lambda: clients.resumed_ns > 0, BOUND_S)
            away_s.append(clients.resumed_ns / 1e9 - struck_s)
            restarts.append((time.monotonic_ns(), leader))
            await cluster.start(leader)
            await clients.ask("reader", Get("key-0"), [leader])
    require_linearizable(clients.history)
    require_safe(folder, names, restarts)
    require_kept({name: cluster.journal(name) for name in names}, PROTOCOLS[protocol], names, clients.history)
    return clients, away_s


GRAPH = {"desk-3": "desk-1", "desk-4": "desk-2"}
"""Who hears one other member alone; the other three hear one another (Howard and Abraham, 2020, after Cloudflare)."""


@pytest.mark.nightly
def test_a_leader_stays_where_not_all_hear_all(tmp_path: Path) -> None:
    """Five members of Raft, two of whom hear one other only: clients of the three are answered, and neither of the two
    leads or makes terms run away, which PreVote and CheckQuorum are for."""
    names = tuple(f"desk-{k}" for k in range(5))
    whole = names[:3]
    parted = [{one, other} for one, hears in GRAPH.items() for other in names if other not in (one, hears)]
    cuts = tuple(Cut(sources=(a,), targets=(b,)) for a in names for b in names if {a, b} in parted)
    cluster = LocalCluster(lambda name: members(PROTOCOLS["raft"], names), names, tmp_path)

    async def run() -> int:
        async with cluster, clients_of(cluster, whole, LOAD) as clients:
            await until(lambda: clients.answers > LOAD, BOUND_S)
            for name in names:
                cluster.set_faults(name, LinkFaults(cuts=cuts))
            logs: dict[str, Any] = {name: cluster.nodes[name].cell.policy("consensus") for name in names}
            await until(lambda: any(logs[name].role == "leader" for name in whole), BOUND_S)
            begun, goal, until_ns = logs["desk-0"].term, clients.answers + 200, time.monotonic_ns() + 10**10 // 2
            await until(lambda: clients.answers >= goal and time.monotonic_ns() > until_ns, BOUND_S)
            grown = logs["desk-0"].term - begun
            assert not any(logs[name].role == "leader" for name in GRAPH)
            for name in names:
                cluster.set_faults(name, LinkFaults())
        require_linearizable(clients.history)
        return int(grown)

    grown = asyncio.run(run())
    require_safe(tmp_path, names, ())
    assert grown <= 2  # a machine that stalls may cost a leader its quorum; without PreVote it is one in each time-out


SEVEN_AT_NIGHT = [
    pytest.param(protocol, KILLS, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)]) for protocol in PROTOCOLS
]


@pytest.mark.parametrize(("protocol", "crashes"), [("pbft", 2), *SEVEN_AT_NIGHT])
def test_seven_survive_their_leaders(tmp_path: Path, record_property: Record, protocol: str, crashes: int) -> None:
    """Seven members in one process, with sockets and disks of their own: leaders crash in a row and come back."""
    clients, away_s = asyncio.run(_crash(protocol, 7, crashes, tmp_path))

    assert len(away_s) == crashes
    record_away(record_property, away_s, clients)


NIGHTLY = [pytest.param(protocol, marks=pytest.mark.nightly) for protocol in ("hotstuff", "pbft")]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", *NIGHTLY])
def test_leaders_that_come_back_in_the_belief_that_they_lead_break_nothing(tmp_path: Path, protocol: str) -> None:
    """One leader is stopped, the next is cut off by the kernel, the third is killed; the history is linearizable."""

    async def run(network: Namespaces) -> Committee:
        async with Committee(PROTOCOLS[protocol], 4, tmp_path, network) as committee:
            await committee.pause_leader()
            await committee.part_leader()
            await committee.kill_leaders()
        return committee

    try:
        network = Namespaces(tuple(f"desk-{k}" for k in range(4)))
    except NotPermitted as error:
        pytest.skip(f"network namespaces are not permitted here: {error}")
    with network:
        asyncio.run(run(network)).require_kept()


@pytest.mark.parametrize("seen", [Result(False, None, 0), Result(True, 2, 2)], ids=["lost", "twice"])
def test_the_verdict_sees_an_answered_write_that_is_lost_or_done_twice(seen: Result) -> None:
    """One addition was answered; whoever reads afterwards must find it, once."""
    added = Operation("a", Add("x", 1), 0, 10, Result(True, 1, 1))
    require_linearizable([added, Operation("b", Get("x"), 20, 30, Result(True, 1, 1))])

    with pytest.raises(AssertionError, match="not linearizable: b's"):
        require_linearizable([added, Operation("b", Get("x"), 20, 30, seen)])
