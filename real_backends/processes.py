"""The node processes of a local run: starting, asking, pausing, killing and stopping them.

The launcher holds the other end of each child's standard input: should the launcher die in any way, the
children see its end and stop by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
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
from real_backends.namespaces import Namespaces
from real_backends.node import WARM, NodeConfig
from real_backends.replicas import replicas
from real_backends.transports.frames import CONTROL, REPLY, Control, Receive, decode
from real_backends.transports.tls import TlsTransport
from scenarios.schema import Scenario, to_plain

READY_S = 300.0  # assumption: importing an executor takes seconds on an idle machine; a minute and more on a busy one
ASK_AGAIN_S = 0.25
SETTLE_S = 5.0  # assumption: followers hear of the last commit within a few heartbeats
LOOK_EVERY_S = 0.2
STOP_S = 10.0  # assumption: draining takes well under a second; after this a node is killed

ROOT = Path(__file__).resolve().parents[1]


class NodeFailed(RuntimeError):
    """A node process ended by itself; the message says which one and its last words.

    Attributes:
        code: its exit code; None if it did not end, and was not ready in time.
        said: its last words.
    """

    def __init__(self, text: str, code: int | None = None, said: str = "") -> None:
        super().__init__(text)
        self.code, self.said = code, said


class NodeDown(RuntimeError):
    """A node was taken down, or stopped, by a fault before it answered; the message is its name."""


class Processes:
    """All node processes of one run.

    Args:
        scenario: the run's scenario.
        names: the nodes.
        folder: where everything of the run lies; the caller removes it.
        policy: as in `real_backends.node.NodeConfig`.
        on_reply: called for REPLY frames.
        network: namespaces that the nodes run in; the caller closes it. None: they share this machine's loopback.
    """

    def __init__(
        self, scenario: Scenario, names: Sequence[str], folder: Path, policy: str, on_reply: Receive,
        network: Namespaces | None = None,
    ) -> None:  # fmt: skip
        self.names, self.folder, self.network = tuple(names), folder, network
        self.addresses = free_addresses((*names, OWNER)) if network is None else network.addresses
        self._scenario, self._policy, self._on_reply = scenario, policy, on_reply
        self._begun_ns = 0  # until all are warm
        self.ready_s = 0.0  # from the first launch until all were
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._expected: set[str] = set()  # nodes that should be up
        self._paused: set[str] = set()
        self._full: set[str] = set()  # nodes whose disk is full: that they end is no surprise
        self._answers: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}
        identities = folder / "identities"
        self.registry = make_village(identities, (*names, OWNER))
        self.owner = TlsTransport(Identity(OWNER, identities), self.registry, self.addresses)

    @property
    def begun_ns(self) -> int:
        """When all were warm and the run began, on the monotonic clock; 0 before."""
        return self._begun_ns

    def up(self, name: str) -> bool:
        """Whether a node's process is meant to run."""
        return name in self._expected

    def answers(self, name: str) -> bool:
        """Whether a node is up and not paused."""
        return name in self._expected and name not in self._paused

    async def start_all(self) -> None:
        """Start every node and return once each of them answers.

        The run begins when all are warm, so that liars keep to its times however long that took.

        Raises:
            NodeFailed: a process ended, for example because its port was taken, or did not answer in time.
        """
        await self.owner.start(self._on_frame, lambda peer, hint: None)
        launched_s = time.monotonic()
        for name in self.names:
            await self.start(name)
        silent = set(self.names)
        try:
            async with asyncio.timeout(READY_S):
                await asyncio.gather(*(self._warm(name, silent) for name in self.names))
                self._begun_ns = time.monotonic_ns()
                self.ready_s = self._begun_ns / 1e9 - launched_s
                for name in self.names:
                    stdin = self._running[name].stdin
                    assert stdin is not None
                    stdin.write(b"%d\n" % self._begun_ns)
                await asyncio.gather(*(self.ask(name, "ping") for name in self.names))
        except TimeoutError:
            silent = silent or {name for name, command in self._answers if command == "ping"}
            raise NodeFailed(f"{', '.join(sorted(silent))}: not ready within {READY_S:g} s") from None

    async def _warm(self, name: str, silent: set[str]) -> None:
        """Return when a process that was just started has done what takes long, or raise NodeFailed if it ended."""
        process = self._running[name]
        assert process.stdout is not None
        if await process.stdout.readline() != WARM:
            await process.wait()
            self.check()
        silent.discard(name)

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
            kept_bytes=0,  # the record is made of all that they write
        )
        path = self.folder / f"{name}.json"
        path.write_bytes(msgspec.json.encode(config))
        environment = {**os.environ, **node_environment(self.folder / "jax_programs")}
        inside = () if self.network is None else self.network.enter(name)
        with (self.folder / f"{name}.stderr").open("ab") as stderr:
            self._running[name] = await asyncio.create_subprocess_exec(
                *inside, sys.executable, "-m", "real_backends.node", str(path),
                stdin=asyncio.subprocess.PIPE, stdout=stderr if self._begun_ns else asyncio.subprocess.PIPE,
                stderr=stderr, env=environment,
            )  # fmt: skip
        self._expected.add(name)

    async def ask(self, name: str, command: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a control frame, again and again until the node answers, and return its state.

        Raises:
            NodeFailed: its process ended.
            NodeDown: a fault took it down, or stopped it, before it answered.
        """
        future = self._answers.get((name, command))
        if future is None:
            future = self._answers[(name, command)] = asyncio.get_running_loop().create_future()
        body = encode(Control(command=command, data=data or {}))
        while True:
            self.check()
            if not self.answers(name):
                self._answers.pop((name, command), None)
                raise NodeDown(name)
            self.owner.send(name, CONTROL, body)
            done, _ = await asyncio.wait((future,), timeout=ASK_AGAIN_S)
            if done:
                return future.result()

    async def last_states(self) -> dict[str, dict[str, Any]]:
        """Return the state of every node that answers, once all replicas stand at one command or `SETTLE_S` is over.

        Raises:
            NodeFailed: a process that should run has ended.
        """
        end_s = time.monotonic() + SETTLE_S
        while True:
            up = [name for name in self.names if self.answers(name)]
            found = await asyncio.gather(*(self.ask(name, "state") for name in up), return_exceptions=True)
            for one in found:
                if isinstance(one, BaseException) and not isinstance(one, NodeDown):
                    raise one
            states = {name: one for name, one in zip(up, found, strict=True) if not isinstance(one, BaseException)}
            if len({r.applied for r in replicas(states).values()}) <= 1 or time.monotonic() > end_s:
                return states
            await asyncio.sleep(LOOK_EVERY_S)

    def check(self) -> None:
        """Raise NodeFailed if a process that should run has ended."""
        for name, end in self.fallen().items():
            raise NodeFailed(f"{name} ended with {end}", self._running[name].returncode, self._last_words(name))

    def fallen(self) -> dict[str, str]:
        """Return the nodes that should run and whose process has ended, each with its exit code and last words."""
        codes = {name: self._running[name].returncode for name in self._expected - self._full}
        return {name: f"exit code {code}: {self._last_words(name)}" for name, code in codes.items() if code is not None}

    def runs(self, name: str) -> bool:
        """Whether a node's process is there."""
        return name in self._running and self._running[name].returncode is None

    def pid(self, name: str) -> int:
        """Return the id of a node's process, which has been started."""
        return self._running[name].pid

    async def kill(self, name: str) -> None:
        """Kill a node as a power cut would, SIGKILL, and return when its process is gone."""
        self.gone(name)
        if self._running[name].returncode is None:
            self._running[name].send_signal(signal.SIGKILL)
        await self._running[name].wait()

    def wipe(self, name: str) -> None:
        """Empty the disk of a node that is down: its log and its blobs. What it wrote about itself stays."""
        (self.folder / name / "node.log").unlink(missing_ok=True)
        shutil.rmtree(self.folder / name / "blobs", ignore_errors=True)

    def pause(self, name: str) -> None:
        """Stop a node's process where it is: SIGSTOP."""
        self._paused.add(name)
        self._running[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a paused process go on: SIGCONT. One that was killed meanwhile, and restarted, was never stopped."""
        if name in self._paused:
            self._paused.discard(name)
            self._running[name].send_signal(signal.SIGCONT)

    def fill_disk(self, name: str) -> None:
        """From now on the kernel refuses every write of a node to a file (EFBIG); pipes and sockets still work."""
        self._full.add(name)
        self._limit_files(name, 0)

    def empty_disk(self, name: str) -> None:
        """Let a node write again."""
        self._full.discard(name)
        self._limit_files(name, None)

    async def ended(self, name: str) -> int:
        """Return a node's exit code once its process has ended."""
        return await self._running[name].wait()

    def gone(self, name: str) -> None:
        """Note that a node is down, by a fault."""
        for names in (self._expected, self._paused, self._full):
            names.discard(name)

    async def stop_all(self) -> None:
        """Stop every process: SIGTERM, then SIGKILL for those that do not drain; nothing is left behind."""
        self._expected.clear()
        for name in tuple(self._paused):
            self.resume(name)  # a stopped process hears no SIGTERM
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

    def _limit_files(self, name: str, soft: int | None) -> None:
        """Set the limit on the size of a running node's files, bytes; None is as much as it may have."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            pid = self._running[name].pid
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if soft is None else soft, hard))

    def _last_words(self, name: str) -> str:
        text = (self.folder / f"{name}.stderr").read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"


def node_environment(programs: Path) -> dict[str, str]:
    """Return what a node's process has in its environment: one thread, since nodes of one host share its cores.

    Args:
        programs: where JAX keeps what it compiled: a node that is restarted finds it, and is ready four times as soon.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": str(programs.absolute()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path)),
    }
