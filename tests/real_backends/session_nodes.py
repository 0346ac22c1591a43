"""Three hosts on a hub that run sessions of desk-tiny: what the tests of sessions and of batches share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from policies.config import PolicyConfig
from policies.jobs import Done, Job, Lost, Outcome, PreparedJob, Progress, SessionJob, Stage
from policies.wire import digest, encode
from real_backends.blob_exchange import BlobExchange
from real_backends.clock import SystemClock
from real_backends.cluster import until
from real_backends.executors import DEFAULT_SEED, DESK_TINY, make_checkpoint
from real_backends.executors import encode as tokens_of
from real_backends.executors_host import ExecutorHost
from real_backends.stores.blobs import BlobStore
from real_backends.transports.faulty import FaultyTransport
from real_backends.transports.frames import BLOB_GET, BLOB_PUT
from real_backends.transports.memory import Hub, MemoryTransport

WEIGHTS = make_checkpoint(DESK_TINY, DEFAULT_SEED)
PROMPT = tokens_of("Hello, village.")
NEW_TOKENS = 12
STAGES = (Stage("a", 0, 3), Stage("b", 3, 5), Stage("c", 5, 8))


class Node:
    """A host with its blobs on a hub, and the outcomes it reported."""

    def __init__(
        self, name: str, hub: Hub, folder: Path, coding: str, policy: PolicyConfig | None, backend: str
    ) -> None:
        self.transport = FaultyTransport(MemoryTransport(hub, name), 1)
        self.blobs = BlobExchange(self.transport, BlobStore(folder / name))
        models = {
            "desk-tiny": lambda: (DESK_TINY, WEIGHTS),
            "namesake": lambda: (DESK_TINY, make_checkpoint(DESK_TINY, DEFAULT_SEED + 1)),  # it calls itself alike
        }
        planners = {"upper": lambda problem, budget: problem.upper() * budget}
        self.host = ExecutorHost(
            self.transport, self.blobs, models, backend, planners, SystemClock(), coding, policy=policy
        )
        self.host.start(self._hear)
        self.outcomes: list[Any] = []
        self.ends: dict[int, Any] = {}  # job to how it ended
        self.village: dict[str, Node] = {}

    async def start(self) -> None:
        await self.transport.start(self._on_frame, lambda peer, hint: None)

    def _on_frame(self, sender: str, kind: int, body: bytes) -> None:
        target = self.blobs if kind in (BLOB_GET, BLOB_PUT) else self.host
        target.on_frame(sender, kind, body)

    def _hear(self, path: str, job: int, payload: bytes) -> None:
        outcome = msgspec.msgpack.decode(payload, type=Outcome)
        self.outcomes.append(outcome)
        if isinstance(outcome, Done | Lost):
            self.ends[job] = outcome

    async def close(self) -> None:
        await self.host.close()
        await self.transport.close()


class Brake:
    """Holds a head's session before its next step once it has told so many tokens."""

    def __init__(self, node: Node, after: int) -> None:
        self.node, self.after, self._step = node, after, node.host._step
        node.host._step = self._braked  # type: ignore[method-assign]

    def told(self) -> tuple[int, ...]:
        """Return the tokens that there are."""
        return tuple(token for each in self.node.outcomes if isinstance(each, Progress) for token in each.emitted)

    async def _braked(self, *arguments: Any) -> int:
        await until(lambda: len(self.told()) < self.after)
        return await self._step(*arguments)


async def run_nodes(
    folder: Path, act: Callable[[dict[str, Node]], Any], coding: str = "f32", policy: PolicyConfig | None = None,
    backends: tuple[str, ...] = ("torch",), names: str = "abc",
) -> Any:  # fmt: skip
    """Start nodes a, b and c, or others, with backends in turn, put the prompt on c; return what ``act`` returns."""
    hub = Hub()
    nodes = {
        name: Node(name, hub, folder, coding, policy, backends[number % len(backends)])
        for number, name in enumerate(names)
    }
    for node in nodes.values():
        node.village = nodes
        await node.start()
    nodes["c"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
    try:
        return await act(nodes)
    finally:
        for node in nodes.values():
            await node.close()


async def place(nodes: dict[str, Node], stages: tuple[Stage, ...] = STAGES, model: str = "desk-tiny") -> None:
    """Have nodes take part in a pipeline alone, and hold its layers."""
    await hold(nodes, stages, model)
    for stage in stages:
        if stage.node in nodes:
            nodes[stage.node].host.stages.gate.admit(model, stages)


async def hold(nodes: dict[str, Node], stages: tuple[Stage, ...], model: str) -> None:
    """Have nodes hold layers, in place of what they held and nobody uses."""
    for stage in stages:
        held = nodes[stage.node].host.stages if stage.node in nodes else None
        if held is not None and (model, stage.first, stage.last) not in held.shards.held:
            with suppress(ValueError):  # what cannot be held is the test's to see in a job
                await held.load(model, stage.first, stage.last)


def session_job(stages: tuple[Stage, ...] = STAGES, **changes: Any) -> bytes:
    fields = {
        "op": "client/op", "model": "desk-tiny", "stages": stages, "prompt": digest(np.array(PROMPT, "<i4").tobytes()),
        "source": "c", "prompt_tokens": len(PROMPT), "new_tokens": NEW_TOKENS, "report_every": 5,
    }  # fmt: skip
    kind = PreparedJob if "kept" in changes else SessionJob
    return encode(kind(**{**fields, **changes}))


async def submit(node: Node, number: int, job: bytes) -> None:
    """Submit a job whose stages and standbys hold their layers and know of one another, as a leader sees to it."""
    session = msgspec.msgpack.decode(job, type=Job)
    if isinstance(session, SessionJob):
        await place(node.village, session.stages, session.model)
    for each in session.standbys if isinstance(session, PreparedJob) else ():
        stage = session.stages[each.index]
        await hold(node.village, (msgspec.structs.replace(stage, node=each.node),), session.model)
        node.village[each.node].host.stages.gate.expect(session.kept, 1, stage.node)
    node.host.submit("worker", number, job)


async def end_of(node: Node, job: bytes) -> list[Any]:
    """Submit a job and return what is reported until it ends."""
    before = len(node.outcomes)
    await submit(node, before + 1, job)
    await until(lambda: any(isinstance(o, Done | Lost) for o in node.outcomes[before:]))
    return node.outcomes[before:]


def said(node: Node, done: Any) -> list[int]:
    assert isinstance(done, Done), done
    blob = node.blobs.store.get(done.output)
    assert blob is not None
    return np.frombuffer(blob, "<i4").tolist()
