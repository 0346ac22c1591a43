"""A local village with the endpoint in front of it, until it is told to stop.

A node whose process ends is started again, so that a worker may be killed while it answers. What was served is left
as the record of a run of ``world=local``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from policies import village
from real_backends.gateway.app import make_app
from real_backends.gateway.asking import Asking
from real_backends.gateway.book import Book
from real_backends.gateway.errors import ApiError
from real_backends.gateway.metrics import Metrics
from real_backends.gateway.own_tokenizer import tokenizer_of
from real_backends.gateway.wanted import Served
from real_backends.gather import gather
from real_backends.models import spec_of
from real_backends.processes import NodeFailed, Processes
from real_backends.specs import node_kinds, node_spec
from scenarios.council import electorate
from scenarios.faults import Crash
from scenarios.record import Record
from scenarios.schema import Scenario

HOST = "127.0.0.1"
"""This machine alone: the endpoint asks nobody who they are."""
DEADLINE_S = 300.0  # the village's documented time-out of inference
FIRST_ANSWER_S = 120.0  # assumption: electing, planning and loading take seconds, and a minute on a busy machine
LOOK_EVERY_S = 0.2
REST_S = 2.0  # before an ended node is started again: one that fails at once must not take a core
DRAIN_S = 3  # answers under way have so long to end when the endpoint stops

Say = Callable[[str], None]


class _Server(uvicorn.Server):
    """Leaves signals to us: the village must stop after the endpoint, not be cut off by it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free one.

    Raises:
        OSError: the port cannot be had; the message is one line for the user.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise OSError(f"--port {port}: {error.strerror or error}; another port is free with --port 0") from None


async def serve(
    scenario: Scenario, folder: Path, listener: socket.socket, ready: Callable[[Any], None], say: Say
) -> Record | None:
    """Serve until SIGINT or SIGTERM, and return what was served; None if that came before the village was ready.

    Args:
        scenario: the village; its workload and faults are not used.
        folder: where the nodes' files go; the caller removes it.
        listener: where clients connect.
        ready: called with each node's process id once the village has answered.
        say: called with one line about what happens.

    Raises:
        ScenarioError: the model, or its tokenizer, cannot be served.
        NodeFailed: a node ended before the village stood.
        ApiError: the village stands and gives no answer.
    """
    spec, context = spec_of(scenario), min(spec_of(scenario, model).context for model in scenario.models)
    tokenizer = tokenizer_of(Path(scenario.checkpoint) if scenario.checkpoint else None, spec.vocab)
    names, metrics, keeper = tuple(node_kinds(scenario)), Metrics(), Keeper()
    processes = Processes(scenario, names, folder, "", lambda *frame: asking.on_frame(*frame))
    asking = Asking(
        processes.owner, electorate(scenario, node_kinds(scenario)).keepers, spec.name, scenario.workload.retry_s,
        DEADLINE_S, metrics,
    )  # fmt: skip

    def health() -> dict[str, dict[str, Any]]:
        return {name: {"up": processes.runs(name), "pid": processes.pid(name)} for name in names}

    served = Served(spec.name, spec.vocab, context, int(time.time()), tokenizer)
    app = make_app(served, asking, metrics, health)
    server = _Server(uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=DRAIN_S))
    async with _stoppable() as stop:
        try:
            say(f"starting {len(names)} processes")
            if not await _unless(stop, processes.start_all()) or not await _unless(stop, first_answer(asking)):
                return None
            asking.book.begin(processes.begun_ns)  # as a run's: electing and planning come first, in the twin as well
            ready({name: processes.pid(name) for name in names})
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            keeping = asyncio.ensure_future(keeper.keep(processes, asking.book, say))
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait((serving, keeping, stopping), return_when=asyncio.FIRST_COMPLETED)
            say("stopping")
            server.should_exit = True
            for task in (keeping, stopping):
                task.cancel()
            outcomes = await asyncio.gather(serving, keeping, stopping, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, Exception):
                    raise outcome
            served_s = (time.monotonic_ns() - asking.book.begun_ns) / 1e9
            states = await keeper.last_states(processes, asking.book)
        finally:
            await processes.stop_all()
        say("writing down what was served")  # another Ctrl-C does not cut it off
        lived = msgspec.structs.replace(scenario, duration_s=served_s, faults=keeper.crashes())
        return gather(
            lived, folder, node_kinds(scenario), village.node(node_spec(scenario, names[0])), asking.book.asked,
            keeper.falls, keeper.restarts, states, asking.book.begun_ns,
        )  # fmt: skip


@contextlib.asynccontextmanager
async def _stoppable() -> AsyncGenerator[asyncio.Event, None]:
    """Yield an event that SIGINT and SIGTERM set; once it is, neither does anything more, also after the end.

    A second Ctrl-C must not cost what was served: it is written down after this. The caller hears signals again.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
            if stop.is_set():
                signal.signal(number, signal.SIG_IGN)


async def _unless(stop: asyncio.Event, work: Any) -> bool:
    """Do ``work`` and return True, or give it up and return False when ``stop`` is set first."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        working.result()
        return True
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def first_answer(asking: Asking) -> None:
    """Return once the village has answered: a leader is elected, and a pipeline holds the model."""
    until_s = time.monotonic() + FIRST_ANSWER_S
    while True:
        try:
            async for _ in asking.ask([0], 1):
                pass
            return
        except ApiError:
            if time.monotonic() > until_s:
                raise


class Keeper:
    """Starts nodes again whose process ended, and keeps what befell them.

    Attributes:
        falls: rows of the record's table ``faults``: who ended a process is not known, and it counts as a crash.
        restarts: (monotonic ns, node) of each start after one.
    """

    def __init__(self) -> None:
        self.falls: list[tuple[Any, ...]] = []
        self.restarts: list[tuple[int, str]] = []

    async def keep(self, processes: Processes, book: Book, say: Say) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for name, last_words in self._fallen(processes, book).items():
                say(f"{name} ended ({last_words}); starting it again")
                await asyncio.sleep(REST_S)
                self._note(book, name, "end", {})
                self.restarts.append((time.monotonic_ns(), name))
                await processes.start(name)
                say(f"{name} is process {processes.pid(name)}")

    def crashes(self) -> tuple[Crash, ...]:
        """Return the falls as faults of a scenario, so that the twin has them as well."""
        ends = {(row[2], row[0]) for row in self.falls if row[3] == "end"}
        found = []
        for time_s, _, name, phase, *_ in self.falls:
            if phase == "start":
                back_s = min((at_s for node, at_s in ends if node == name and at_s >= time_s), default=time_s - 1.0)
                found.append(Crash(at_s=time_s, node=name, down_s=back_s - time_s))
        return tuple(found)

    async def last_states(self, processes: Processes, book: Book) -> dict[str, dict[str, Any]]:
        """Return the last state of each node whose process is there."""
        while True:
            self._fallen(processes, book)
            with contextlib.suppress(NodeFailed):  # one that ended just now is looked for again
                return await processes.last_states()

    def _fallen(self, processes: Processes, book: Book) -> dict[str, str]:
        fallen = processes.fallen()
        for name, last_words in fallen.items():
            processes.gone(name)
            self._note(book, name, "start", {"ended": last_words})
        return fallen

    def _note(self, book: Book, name: str, phase: str, detail: dict[str, str]) -> None:
        time_s = (time.monotonic_ns() - book.begun_ns) / 1e9
        self.falls.append((time_s, "crash", name, phase, "process", json.dumps(detail)))
