"""Committees whose members are processes, clients that ask them without a pause, and what is done to the leaders."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from policies.config import ConsensusRules
from policies.registry import Get
from policies.wire import Message, encode
from real_backends.cluster import until
from real_backends.namespaces import Namespaces
from real_backends.node_files import read_events, read_journal
from real_backends.processes import Processes
from real_backends.transports.frames import REQUEST, Request, decode
from tests.real_backends import registers
from tests.real_backends.beating import desks
from tests.real_backends.registers import BOUND_S, KEYS, Clients, require_kept, require_linearizable, require_safe

LOAD = 3  # clients


class Committee:
    """Processes of a committee under load, and what is done to its leaders.

    Args:
        rules: of its protocol.
        n: members.
        folder: where everything lies.
        network: namespaces that the processes run in, if any.
        liars: member to what it does; nobody asks those. They share keys and a plan if there is more than one.
    """

    def __init__(
        self, rules: ConsensusRules, n: int, folder: Path, network: Namespaces | None = None,
        liars: Mapping[int, Sequence[Any]] | None = None,
    ) -> None:  # fmt: skip
        self.rules, self.folder, liars = rules, folder, liars or {}
        self.names = tuple(f"desk-{k}" for k in range(n))
        self.liars = tuple(self.names[k] for k in liars)
        self.honest = tuple(name for name in self.names if name not in self.liars)
        ring = {"coalition": "ring"} if len(liars) > 1 else {}
        scenario = desks(n, n, policy={"consensus": msgspec.to_builtins(rules)}, adversaries=[
            {"committee": [k], "behaviours": msgspec.to_builtins(does), **ring} for k, does in liars.items()
        ])  # fmt: skip
        where = f"{registers.__file__}:member"
        self.processes = Processes(scenario, self.names, folder, where, self._on_reply, network)
        self.clients = Clients(self.honest, self._send, seed=n)
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
        await until(lambda: self.clients.answers > LOAD, BOUND_S)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *error: BaseException | TracebackType | None) -> None:
        try:
            if kind is None:
                await self.clients.end(self.honest)
        finally:
            await self.processes.stop_all()

    def leader(self) -> str:
        """Return who of the honest has said that it leads the highest term."""
        told = [
            (event["detail"][1], name)
            for name in self.honest
            for event in read_events(self.folder / name / "events.jsonl")
            if event["kind"] == "decide" and event["name"] == "leader"
        ]
        return max(told)[1]

    async def without_leader(self, struck_s: float) -> None:
        """Return when a write was answered that began after the leader was struck, which was at ``struck_s``."""
        self.clients.mark()

        def back() -> bool:
            self.processes.check()
            return self.clients.resumed_ns > 0

        await until(back, BOUND_S)
        self.away_s.append(self.clients.resumed_ns / 1e9 - struck_s)

    async def more(self, answers: int) -> None:
        """Return when clients have heard so many more answers."""
        goal = self.clients.answers + answers
        await until(lambda: self.clients.answers >= goal, BOUND_S)

    async def kill_leaders(self, count: int = 1) -> None:
        """SIGKILL whoever leads, and the next, while all before are down; then they start again, and catch up."""
        fallen: list[str] = []
        for _ in range(count):
            fallen.append(self.leader())
            assert self.processes.up(fallen[-1])
            struck_s = time.monotonic()
            await self.processes.kill(fallen[-1])
            await self.without_leader(struck_s)
        await self.restart(*fallen)

    async def kill_all(self) -> None:
        """SIGKILL everybody at once; they start again, and nothing is left but what their disks hold."""
        await asyncio.gather(*map(self.processes.kill, self.names))
        await self.restart(*self.names)
        for k in range(KEYS):
            await self.clients.ask("reader", Get(f"key-{k}"))
        require_linearizable(self.clients.history)  # now: a client whose last write is lost is never answered again

    async def restart(self, *names: str) -> None:
        """Start members again that were killed, and return when the honest ones hold all that was agreed before."""
        for name in names:
            self.restarts.append((time.monotonic_ns(), name))
            await self.processes.start(name)
        for name in names:
            if name in self.honest:
                await self.clients.ask("reader", Get("key-0"), [name])

    async def pause_leader(self) -> None:
        """SIGSTOP; when service is back the member goes on, in the belief that it leads."""
        name = self.leader()
        struck_s = time.monotonic()
        self.processes.pause(name)
        await self.without_leader(struck_s)
        self.processes.resume(name)
        await self.clients.ask("reader", Get("key-0"), [name])

    async def part_leader(self) -> None:
        """The kernel cuts it off from all other members, not from clients; when service is back it hears them again."""
        network = self.processes.network
        assert network is not None
        name = self.leader()
        pairs = {(min(name, other), max(name, other)) for other in self.names if other != name}
        struck_s = time.monotonic()
        network.part(pairs)
        await self.without_leader(struck_s)
        network.join(pairs)
        await self.clients.ask("reader", Get("key-0"), [name])

    def require_kept(self) -> None:
        """Require all promises of what was done, said and seen."""
        require_linearizable(self.clients.history)
        require_safe(self.folder, self.names, self.restarts)
        journals = {name: read_journal(self.folder / name / "node.journal") for name in self.names}
        require_kept(journals, self.rules, self.names, self.clients.history)
