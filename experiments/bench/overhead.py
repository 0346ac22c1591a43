"""What real serving adds to the arithmetic: one worker beside a bare loop, and a hop between two workers over TLS.

One worker: `small` (12 layers x 768) in torch, one thread. By turns, the same number of tokens in a bare loop over the
shard and as a session through an executor host, step by step and in batches; the figure is the median ratio of a pair.

A hop: two processes, each pinned to a core of its own, run a session over the project's TLS links. Activations of one
token are 16 KiB, layers nearly none, so that cores idle between steps. Processes of one host share the monotonic clock:
a hop is from the end of the head's step, in its compute thread, to the begin of the next stage's, in that one's.

It takes about a minute, and says little on a machine that does other work.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import msgspec
import numpy as np

from experiments.bench.table import Line
from policies.config import BatchedConfig, OneByOneConfig, PolicyConfig, ServingRules, ShardingConfig
from policies.jobs import Done, Outcome, SessionJob, Stage
from policies.wire import digest, encode
from real_backends.blob_exchange import BlobExchange
from real_backends.clock import SystemClock
from real_backends.cluster import free_addresses
from real_backends.compute import Compute
from real_backends.executors import ModelSpec, Pipeline, make_checkpoint, make_shard
from real_backends.executors.seeded import HEAD_GAIN, RECIPES
from real_backends.executors_host import ExecutorHost
from real_backends.held_shards import Models
from real_backends.identity import Identity, make_village, read_registry
from real_backends.processes import ROOT
from real_backends.stores.blobs import BlobStore
from real_backends.transports.frames import CONTROL, STAGE, STAGE_RESULT, Control, Transport, decode
from real_backends.transports.memory import Hub, MemoryTransport
from real_backends.transports.tls import TlsTransport

SMALL = RECIPES["small"].spec
WIDE = ModelSpec(
    "wide", layers=2, hidden=4096, heads=1, kv_heads=1, head_dim=16, ffn=16, vocab=16, context=1024
)  # 4096 float32 are 16 KiB
HEAD, TAIL = "head", "tail"
HOPS = (Stage(HEAD, 0, 1), Stage(TAIL, 1, 2))
PROMPT_TOKENS = 16
TOKENS, PAIRS = 40, 8  # of one worker: tokens of a run, pairs of runs
HOP_SESSIONS, HOP_TOKENS = 6, 500
STEPS = ("_run",)  # of `real_backends.stages.Stages`; loads and drops are no steps
ANSWER_S = 60.0  # assumption: a process that is slower to import torch has hung

SERVINGS: dict[str, ServingRules] = {"one_by_one": OneByOneConfig(), "batched": BatchedConfig()}
TITLE = "overhead: torch on the CPU, one thread; small (12 x 768); hops of 16 KiB over TLS between two processes"
LINES = (
    Line("bare_tokens_per_s", "one process, bare loop: tokens/s", 1),
    *(Line(f"worker_{name}", f"one worker, {name}: of the bare loop", 3, at_least=0.95) for name in SERVINGS),
    *(
        line
        for name in SERVINGS
        for line in (
            Line(f"hop_{name}_p50_ms", f"a hop of 16 KiB, {name}: p50 (ms)", 3, at_most=1.0),
            Line(f"hop_{name}_p99_ms", f"a hop of 16 KiB, {name}: p99 (ms)", 3, at_most=3.0),
            Line(f"back_{name}_p50_ms", f"the token back, {name}: p50 (ms)", 3),
        )
    ),
)

_outcome: Any = msgspec.msgpack.Decoder(Outcome).decode  # type: ignore[arg-type]
T = TypeVar("T")


class TimedCompute(Compute):
    """A compute thread that notes when each step of a session began and ended, ns of the monotonic clock."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[int, int]] = []

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """See `Compute.run`."""
        if function.__name__ not in STEPS:
            return await super().run(function, *arguments)

        def timed() -> T:
            begun_ns = time.monotonic_ns()
            try:
                return function(*arguments)
            finally:
                self.spans.append((begun_ns, time.monotonic_ns()))

        return await super().run(timed)


class Worker:
    """One worker's links and executor."""

    def __init__(self, transport: Transport, folder: Path, models: Models, serving: ServingRules) -> None:
        self.transport = transport
        self.blobs = BlobExchange(transport, BlobStore(folder / transport.me))
        policy = PolicyConfig(serving=serving, sharding=ShardingConfig(context_tokens=1024))
        self.host = ExecutorHost(transport, self.blobs, models, "torch", {}, SystemClock(), policy=policy)
        self.host.start(lambda path, job, payload: self.outcomes.put_nowait(_outcome(payload)))
        self.outcomes: asyncio.Queue[Any] = asyncio.Queue()
        self.controls: asyncio.Queue[Control] = asyncio.Queue()
        self.spans: list[tuple[int, int]] = []

    def note_times(self) -> None:
        """Note the times of the compute thread from now on."""
        self.host.compute.close()
        timed = self.host.compute = self.host.stages.compute = TimedCompute()
        self.spans = timed.spans

    def on_frame(self, sender: str, kind: int, body: bytes) -> None:
        """Take a frame; a question for the spans is answered, and they begin anew."""
        if kind in (STAGE, STAGE_RESULT):
            self.host.on_frame(sender, kind, body)
        elif kind == CONTROL and self.transport.me == HEAD:
            self.controls.put_nowait(decode(kind, body))
        elif kind == CONTROL:
            told = Control(command=decode(kind, body).command, data={"spans": list(self.spans)})
            self.spans.clear()
            self.transport.send(sender, CONTROL, encode(told))

    async def session(self, model: str, stages: tuple[Stage, ...], new_tokens: int) -> float:
        """Run a session; return its seconds.

        Raises:
            OSError: it was lost.
        """
        prompt = np.arange(PROMPT_TOKENS, dtype="<i4").tobytes()
        self.blobs.store.put(prompt)
        job = SessionJob("bench", model, stages, digest(prompt), self.transport.me, PROMPT_TOKENS, new_tokens, 64)
        begun_s = time.perf_counter()
        self.host.submit("", 0, encode(job))
        while not isinstance(outcome := await self.outcomes.get(), Done):
            if hasattr(outcome, "reason"):
                raise OSError(f"overhead: the session was lost: {outcome.reason}")
        return time.perf_counter() - begun_s


def measure() -> dict[str, float]:
    """Return the figures of `LINES`."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_one_worker(Path(folder)))
        for name in SERVINGS:
            found |= asyncio.run(_hops(Path(folder) / name, name))
    return found


async def _one_worker(folder: Path) -> dict[str, float]:
    weights = make_checkpoint(SMALL, 1, HEAD_GAIN)
    bare = Pipeline([make_shard("torch", SMALL, weights, 0, SMALL.layers)])
    stages = (Stage(HEAD, 0, SMALL.layers),)
    workers = {
        name: Worker(MemoryTransport(Hub(), HEAD), folder, {"small": lambda: (SMALL, weights)}, serving)
        for name, serving in SERVINGS.items()
    }
    for worker in workers.values():
        await worker.host.stages.load("small", 0, SMALL.layers)
    taken: dict[str, list[float]] = {name: [] for name in ("bare", *workers)}
    for pair in range(PAIRS + 1):  # the first one warms up
        begun_s = time.perf_counter()
        bare.generate(list(range(PROMPT_TOKENS)), TOKENS)
        taken["bare"].append(time.perf_counter() - begun_s)
        for name in sorted(workers, reverse=pair % 2 == 1):
            taken[name].append(await workers[name].session("small", stages, TOKENS))
    for worker in workers.values():
        await worker.host.close()
    of = {name: np.array(seconds[1:]) for name, seconds in taken.items()}
    return {
        "bare_tokens_per_s": TOKENS / float(np.median(of["bare"])),
        **{f"worker_{name}": float(np.median(of["bare"] / of[name])) for name in workers},
    }


async def _hops(folder: Path, serving: str) -> dict[str, float]:
    identities, addresses = folder / "identities", free_addresses((HEAD, TAIL))
    make_village(identities, (HEAD, TAIL))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    head = _tls_worker(HEAD, folder, addresses, serving)
    told = msgspec.json.encode([TAIL, str(folder), addresses, serving, cores[-1]]).decode()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))}
    tail = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "experiments.bench.overhead", told, stdin=asyncio.subprocess.PIPE, env=environment
    )
    try:
        await _load_own(head)
        await head.transport.start(head.on_frame, lambda peer, hint: None)
        await _until_there(head)
        out, back = list[float](), list[float]()
        for number in range(HOP_SESSIONS + 1):  # the first one warms up
            await head.session("wide", HOPS, HOP_TOKENS)
            here, there = list(head.spans), await _spans(head)
            head.spans.clear()
            del here[0], there[0]  # the prompt's
            if number:
                out += [(b[0] - a[1]) / 1e6 for a, b in zip(here, there, strict=True)]
                back += [(a[0] - b[1]) / 1e6 for a, b in zip(here[1:], there[:-1], strict=True)]
    finally:
        await head.host.close()
        await head.transport.close()
        tail.terminate()
        await tail.wait()
        os.sched_setaffinity(0, cores)
    return {
        f"hop_{serving}_p50_ms": float(np.percentile(out, 50)),
        f"hop_{serving}_p99_ms": float(np.percentile(out, 99)),
        f"back_{serving}_p50_ms": median(back),
    }


def _tls_worker(name: str, folder: Path, addresses: Any, serving: str) -> Worker:
    identities = folder / "identities"
    links = TlsTransport(Identity(name, identities), read_registry(identities), addresses)
    worker = Worker(links, folder, {"wide": lambda: (WIDE, make_checkpoint(WIDE, 1))}, SERVINGS[serving])
    worker.note_times()
    return worker


async def _load_own(worker: Worker) -> None:
    """Load a worker's layers before it speaks: to import torch must not look like one that is gone."""
    own = next(stage for stage in HOPS if stage.node == worker.transport.me)
    await worker.host.stages.load("wide", own.first, own.last)
    worker.host.stages.gate.admit("wide", HOPS)


async def _until_there(head: Worker) -> None:
    async with asyncio.timeout(ANSWER_S):
        while True:
            try:
                async with asyncio.timeout(0.5):
                    await _spans(head)
                return
            except TimeoutError:
                continue


async def _spans(head: Worker) -> list[tuple[int, int]]:
    asked = str(time.monotonic_ns())
    head.transport.send(TAIL, CONTROL, encode(Control(command=asked, data={})))
    while (found := await head.controls.get()).command != asked:
        pass  # the late answer to a question that was given up
    return [(begun, ended) for begun, ended in found.data["spans"]]


async def _serve(name: str, folder: str, addresses: Any, serving: str, core: int) -> None:
    """Be the other process until the standard input ends."""
    os.sched_setaffinity(0, [core])
    worker, ended = _tls_worker(name, Path(folder), addresses, serving), asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 1) else ended.set())
    await _load_own(worker)
    await worker.transport.start(worker.on_frame, lambda peer, hint: None)
    await ended.wait()
    await worker.host.close()
    await worker.transport.close()


if __name__ == "__main__":
    asyncio.run(_serve(*msgspec.json.decode(sys.argv[1])))
