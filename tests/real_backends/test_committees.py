"""Real committees: processes, TLS sockets, fsynced logs, and clients whose histories are judged when all is over.

Leaders are killed (SIGKILL), stopped (SIGSTOP) and cut off by the kernel while clients ask without a pause. Nothing
here depends on how fast the machine is; how long service was away is told to the record of the night.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import msgspec
import pytest

from policies.commands import Add
from policies.registry import Get
from policies.state.configuration import Result
from policies.wire import Message, encode
from real_backends.cluster import until
from real_backends.namespaces import Namespaces, NotPermitted
from real_backends.node_files import read_events
from real_backends.processes import Processes
from real_backends.transports.frames import REQUEST, Request, decode
from scenarios.checks.linear import Operation
from tests.real_backends import registers
from tests.real_backends.beating import desks
from tests.real_backends.registers import (
    ELECTION_S,
    PROTOCOLS,
    Clients,
    require_kept,
    require_linearizable,
    require_safe,
)

LOAD = 3  # clients
AWAY_MAX = 10  # election time-outs within which service is back (the bar)
Record = Callable[[str, Any], None]


class Committee:
    """Processes of a committee under load, and what is done to its leaders.

    Args:
        protocol: a key of `registers.PROTOCOLS`.
        n: members.
        folder: where everything lies.
        network: namespaces that the processes run in, if any.
    """

    def __init__(self, protocol: str, n: int, folder: Path, network: Namespaces | None = None) -> None:
        self.rules, self.folder = PROTOCOLS[protocol], folder
        self.names = tuple(f"desk-{k}" for k in range(n))
        scenario = desks(n, n, policy={"consensus": msgspec.to_builtins(self.rules)})
        where = f"{registers.__file__}:member"
        self.processes = Processes(scenario, self.names, folder, where, self._on_reply, network)
        self.clients = Clients(self.names, self._send, seed=n)
        self.restarts: list[tuple[int, str]] = []
        self.away_s: list[float] = []

    def _send(self, name: str, client: str, op_id: str, asked: Message) -> None:
        self.processes.owner.send(name, REQUEST, encode(Request("registry", client, op_id, encode(asked))))

    def _on_reply(self, sender: str, kind: int, body: bytes) -> None:
        self.clients.on_reply(decode(kind, body))

    async def __aenter__(self) -> Committee:
        try:
            await self.processes.start_all()
        except BaseException:
            await self.processes.stop_all()
            raise
        self.clients.begin(LOAD)
        await until(lambda: self.clients.answers > LOAD)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *error: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                await self.clients.end(self.names)
        finally:
            await self.processes.stop_all()

    def leader(self) -> str:
        """Return who has said that it leads the highest term."""
        told = [
            (event["detail"][1], name)
            for name in self.names
            for event in read_events(self.folder / name / "events.jsonl")
            if event["kind"] == "decide" and event["name"] == "leader"
        ]
        return max(told)[1]

    async def without(self, name: str) -> None:
        """Return when a write was answered that began after ``name`` was struck, just now."""
        struck_ns = self.clients.mark()
        await until(lambda: self.clients.resumed_ns > 0)
        self.away_s.append((self.clients.resumed_ns - struck_ns) / 1e9)

    async def kill_leader(self) -> None:
        """SIGKILL; when service is back the member starts again, and catches up."""
        name = self.leader()
        await self.processes.kill(name)
        await self.without(name)
        self.restarts.append((self.clients.mark(), name))
        await self.processes.start(name)
        await self.clients.ask("reader", Get("key-0"), [name])

    async def pause_leader(self) -> None:
        """SIGSTOP; when service is back the member goes on, in the belief that it leads."""
        name = self.leader()
        self.processes.pause(name)
        await self.without(name)
        self.processes.resume(name)
        await self.clients.ask("reader", Get("key-0"), [name])

    async def part_leader(self) -> None:
        """The kernel cuts it off from all other members, not from clients; when service is back it hears them again."""
        network = self.processes.network
        assert network is not None
        name = self.leader()
        pairs = {tuple(sorted((name, other))) for other in self.names if other != name}
        network.part(pairs)  # type: ignore[arg-type]
        await self.without(name)
        network.join(pairs)  # type: ignore[arg-type]
        await self.clients.ask("reader", Get("key-0"), [name])

    def require_kept(self) -> None:
        """Require all promises of what was done, said and seen."""
        require_linearizable(self.clients.history)
        require_safe(self.folder, self.names, self.restarts)
        journals = {name: (self.folder / name / "node.journal").read_bytes() for name in self.names}
        require_kept(journals, self.rules, self.names, self.clients.history)


def _kill(protocol: str, n: int, kills: int, folder: Path) -> Committee:
    async def run() -> Committee:
        async with Committee(protocol, n, folder) as committee:
            for _ in range(kills):
                await committee.kill_leader()
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
@pytest.mark.parametrize(("n", "kills"), [(4, 50), (7, 10)])
def test_leaders_are_killed_many_times_in_a_row(
    tmp_path: Path, record_property: Record, protocol: str, n: int, kills: int
) -> None:
    """No answered write is lost, none is done twice; the record tells how long service was away."""
    committee = _kill(protocol, n, kills, tmp_path)

    committee.require_kept()
    away = [s / ELECTION_S for s in committee.away_s]
    assert len(away) == kills
    record_property("seeds", [3])
    record_property("operations", len(committee.clients.history))
    record_property("away_median_in_election_timeouts", median(away))
    record_property("away_max_in_election_timeouts", max(away))
    record_property("away_longer_than_the_bar", sum(one > AWAY_MAX for one in away))


NIGHTLY = [pytest.param(protocol, marks=pytest.mark.nightly) for protocol in ("hotstuff", "pbft")]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["raft", *NIGHTLY])
def test_leaders_that_come_back_in_the_belief_that_they_lead_break_nothing(tmp_path: Path, protocol: str) -> None:
    """One leader is stopped, the next is cut off by the kernel, the third is killed; the history is linearizable."""

    async def run(network: Namespaces) -> Committee:
        async with Committee(protocol, 4, tmp_path, network) as committee:
            await committee.pause_leader()
            await committee.part_leader()
            await committee.kill_leader()
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
