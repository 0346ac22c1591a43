"""The node processes of a local run: starting, asking, killing and stopping them.

The launcher holds the other end of each child's standard input: should the launcher die in any way, the
children see its end and stop by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from policies.wire import encode
from real_backends.cluster import free_addresses
from real_backends.identity import OWNER, Identity, make_village
from real_backends.node import NodeConfig
from real_backends.transports.frames import CONTROL, REPLY, Control, Receive, decode
from real_backends.transports.tls import TlsTransport
from scenarios.schema import Scenario, to_plain

READY_S = 120.0  # assumption: importing an executor's framework on a busy machine takes tens of seconds at most
ASK_AGAIN_S = 0.25
STOP_S = 10.0  # assumption: draining takes well under a second; after this a node is killed

ROOT = Path(__file__).resolve().parents[1]


class NodeFailed(RuntimeError):
    """A node process ended by itself; the message says which one and its last words."""


class Processes:
    """All node processes of one run.

    Args:
        scenario: the run's scenario.
        names: the nodes.
        folder: where everything of the run lies; the caller removes it.
        policy: as in `real_backends.node.NodeConfig`.
        on_reply: called for REPLY frames.
    """

    def __init__(self, scenario: Scenario, names: Sequence[str], folder: Path, policy: str, on_reply: Receive) -> None:
        self.names, self.folder = tuple(names), folder
        self.addresses = free_addresses((*names, OWNER))
        self._scenario, self._policy, self._on_reply = scenario, policy, on_reply
        self._begun_ns = time.monotonic_ns()
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._expected: set[str] = set()  # nodes that should be up
        self._answers: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}
        identities = folder / "identities"
        self.registry = make_village(identities, (*names, OWNER))
        self.owner = TlsTransport(Identity(OWNER, identities), self.registry, self.addresses)

    def up(self, name: str) -> bool:
        """Whether a node's process is meant to run."""
        return name in self._expected

    async def start_all(self) -> None:
        """Start every node and return once each of them answers.

        Raises:
            NodeFailed: a process ended, for example because its port was taken, or did not answer in time.
        """
        await self.owner.start(self._on_frame, lambda peer, hint: None)
        for name in self.names:
            await self.start(name)
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*(self.ask(name, "ping") for name in self.names))
        except TimeoutError:
            silent = ", ".join(name for name, command in self._answers if command == "ping")
            raise NodeFailed(f"{silent}: not ready within {READY_S:g} s") from None

    async def start(self, name: str) -> None:
        """Start a node's process; after a kill it finds its log."""
        config = NodeConfig(
            name=name,
            addresses=self.addresses,
            folder=str(self.folder / name),
            identities=str(self.folder / "identities"),
            backend=self._scenario.backends[self.names.index(name) % len(self._scenario.backends)],
            scenario=to_plain(self._scenario),
            policy=self._policy,
            begun_ns=self._begun_ns,
        )
        path = self.folder / f"{name}.json"
        path.write_bytes(msgspec.json.encode(config))
        # One thread a process: nodes of one host must not fight for its cores.
        search = os.pathsep.join((str(ROOT), *sys.path))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": search}
        with (self.folder / f"{name}.stderr").open("ab") as stderr:
            self._running[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "real_backends.node", str(path),
                stdin=asyncio.subprocess.PIPE, stdout=stderr, stderr=stderr, env=environment,
            )  # fmt: skip
        self._expected.add(name)

    async def ask(self, name: str, command: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a control frame, again and again until the node answers, and return its state.

        Raises:
            NodeFailed: its process ended.
        """
        future = self._answers.get((name, command))
        if future is None:
            future = self._answers[(name, command)] = asyncio.get_running_loop().create_future()
        body = encode(Control(command=command, data=data or {}))
        while True:
            self.check()
            self.owner.send(name, CONTROL, body)
            done, _ = await asyncio.wait((future,), timeout=ASK_AGAIN_S)
            if done:
                return future.result()

    def check(self) -> None:
        """Raise NodeFailed if a process that should run has ended."""
        for name in self._expected:
            code = self._running[name].returncode
            if code is not None:
                raise NodeFailed(f"{name} ended with exit code {code}: {self._last_words(name)}")

    def kill(self, name: str) -> None:
        """Kill a node as a power cut would: SIGKILL."""
        self._expected.discard(name)
        if self._running[name].returncode is None:
            self._running[name].send_signal(signal.SIGKILL)

    async def stop_all(self) -> None:
        """Stop every process: SIGTERM, then SIGKILL for those that do not drain; nothing is left behind."""
        self._expected.clear()
        alive = [process for process in self._running.values() if process.returncode is None]
        for process in alive:
            process.terminate()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await asyncio.gather(*(process.wait() for process in alive))
        finally:
            for process in alive:
                if process.returncode is None:
                    process.kill()
            await asyncio.gather(*(process.wait() for process in alive))
            await self.owner.close()

    def _on_frame(self, sender: str, kind: int, body: bytes) -> None:
        if kind == CONTROL:
            control = decode(kind, body)
            future = self._answers.pop((sender, control.command), None)
            if future is not None and not future.done():
                future.set_result(control.data)
        elif kind == REPLY:
            self._on_reply(sender, kind, body)

    def _last_words(self, name: str) -> str:
        text = (self.folder / f"{name}.stderr").read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"
