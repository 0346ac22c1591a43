"""Measuring what this machine adds to an executor's own steps: hops, live steps, sessions, commits and messages.

Three processes, as many as desk-tiny needs in a village of desks, run one session after another over the project's own
TLS links, stages and compute threads, by turns one of many tokens and one of a single token. Each process counts the
time its thread works. What the long session takes more is decoding alone, of ``n`` tokens through three stages:

    hop_s           = (time - work of all threads) / (3 n)
    step_overhead_s = (work of all threads - the same steps in a tight loop) / (3 n)
    session_s       = time to the first token - its steps in a tight loop - 3 (hop_s + step_overhead_s)

A live step takes longer than one in a tight loop because its core did other things before: caches are cold and clocks
are down. All are medians, so that a slow spell of the machine does not count.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from models.inference import SHAPES
from policies import village
from policies.config import PolicyConfig, ShardingConfig
from policies.coordination.lines import candidate
from policies.jobs import Done, Outcome, SessionJob, Stage
from policies.sharding import PLANNERS
from policies.wire import digest, encode
from real_backends.blob_exchange import BlobExchange
from real_backends.clock import SystemClock
from real_backends.cluster import free_addresses
from real_backends.committer import Committer
from real_backends.executors import DEFAULT_SEED, DESK_TINY, make_checkpoint
from real_backends.executors.paced import maker
from real_backends.executors_host import ExecutorHost
from real_backends.identity import Identity, make_village, read_registry
from real_backends.keys import Ed25519Keys
from real_backends.processes import ROOT
from real_backends.stores.blobs import BlobStore
from real_backends.stores.file import FileStorage
from real_backends.transports.frames import BLOB_GET, BLOB_PUT, CONTROL, STAGE, STAGE_RESULT, Control, decode
from real_backends.transports.tls import TlsTransport
from scenarios.hosts import PACED, UNMEASURED, capability, step_law

HEAD, OTHERS = "head", ("middle", "tail")
STAGES = (Stage(HEAD, 0, 3), Stage("middle", 3, 5), Stage("tail", 5, DESK_TINY.layers))
PROMPT_TOKENS, NEW_TOKENS = 16, 24  # the requests of conf/workload/desks.yaml
DESKS, PLANS = 4, 5  # workers of the problem that is planned, and how often
PINGS = 50  # round trips, commits and signatures timed for one median
PAUSE_S = 0.02  # before each, and each session: a village's come seldom, to cores that have gone idle
PAIRS_MIN = 5  # a median of fewer is not worth the name
COMMIT_BYTES = 400  # order of one log entry with its frame
SIGNED_BYTES = 200  # order of a vote or a receipt; a kilobyte more takes 2 us longer
READY_S = 120.0  # assumption: importing an executor's framework on a busy machine takes tens of seconds at most
ANSWER_S = 10.0  # assumption: a process that is slower than this has hung
SESSION_S = 30.0  # assumption: a session of 24 tokens that takes longer will not end

_outcome: Any = msgspec.msgpack.Decoder(Outcome).decode


class _Party:
    """One of the processes: its links and its executor."""

    def __init__(self, name: str, identities: Path, folder: Path, addresses: Any, backend: str) -> None:
        self.transport = TlsTransport(Identity(name, identities), read_registry(identities), addresses)
        self.blobs = BlobExchange(self.transport, BlobStore(folder / name))
        models = {DESK_TINY.name: lambda: (DESK_TINY, make_checkpoint(DESK_TINY, DEFAULT_SEED))}
        law = step_law(PACED)
        made = maker(lambda _: law, paced=backend == "paced", pacing=1.0, seed=0)
        self.host = ExecutorHost(self.transport, self.blobs, models, backend, {}, SystemClock(), make=made)
        self.asked = 0
        self.controls: asyncio.Queue[Control] = asyncio.Queue()
        self.outcomes: asyncio.Queue[Any] = asyncio.Queue()
        self.host.start(lambda path, job, payload: self.outcomes.put_nowait(_outcome(payload)))

    async def start(self) -> None:
        await self.host.stages.warm_up()
        own = next(stage for stage in STAGES if stage.node == self.transport.me)
        await self.host.stages.load(DESK_TINY.name, own.first, own.last)
        self.host.stages.gate.admit(DESK_TINY.name, STAGES)
        await self.transport.start(self._on_frame, lambda peer, hint: None)

    def _on_frame(self, sender: str, kind: int, body: bytes) -> None:
        if kind in (STAGE, STAGE_RESULT):
            self.host.on_frame(sender, kind, body)
        elif kind in (BLOB_GET, BLOB_PUT):
            self.blobs.on_frame(sender, kind, body)
        elif kind == CONTROL:
            self._on_control(sender, decode(kind, body))

    def _on_control(self, sender: str, control: Control) -> None:
        if self.transport.me != HEAD:
            busy = Control(command=control.command, data={"busy_s": self.host.compute.busy_s})
            self.transport.send(sender, CONTROL, encode(busy))
        else:
            self.controls.put_nowait(control)

    async def busy_s(self) -> float:
        """Return how long all threads have worked so far."""
        return self.host.compute.busy_s + sum([await self.ask(name) for name in OTHERS])

    async def ask(self, name: str, wait_s: float = ANSWER_S) -> float:
        """Return how long another process's thread has worked so far.

        Raises:
            TimeoutError: it did not answer.
        """
        self.asked += 1
        self.transport.send(name, CONTROL, encode(Control(command=str(self.asked), data={})))
        async with asyncio.timeout(wait_s):
            while (control := await self.controls.get()).command != str(self.asked):
                pass  # the late answer to a question that was given up
        return float(control.data["busy_s"])

    async def close(self) -> None:
        await self.host.close()
        await self.transport.close()


def core_count() -> int:
    """Return how many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def measure_host(backend: str, law: Mapping[str, Any], folder: Path, seconds: float) -> dict[str, Any]:
    """Measure this machine.

    Args:
        backend: ``torch``, ``jax``, or ``paced``: stages that only hold their time.
        law: the executor's profile, whose steps in a tight loop are taken off.
        folder: on the disk whose commits are to be timed; nothing is left there.
        seconds: time for sessions, after all processes have started; at least `PAIRS_MIN` pairs are run.

    Returns:
        The fields of `scenarios.hosts.HOST_FIELDS` but ``input_s``, and of `SIGNATURE_FIELDS`, seconds, and
        ``probe_pairs``, how many pairs of sessions ran.

    Raises:
        OSError: another process ended, or did not answer.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probe-") as work:
        return asyncio.run(_measure(backend, law, Path(work), seconds))


async def _measure(backend: str, law: Mapping[str, Any], folder: Path, seconds: float) -> dict[str, Any]:
    identities, addresses = folder / "identities", free_addresses((HEAD, *OTHERS))
    make_village(identities, (HEAD, *OTHERS))
    head = _Party(HEAD, identities, folder, addresses, backend)
    search = os.pathsep.join((str(ROOT), *sys.path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": search}
    others: dict[str, asyncio.subprocess.Process] = {}
    try:
        for name in OTHERS:
            config = msgspec.json.encode([name, str(identities), str(folder), addresses, backend]).decode()
            others[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "real_backends.host_probe", config, stdin=asyncio.subprocess.PIPE, env=environment
            )
        await head.start()
        for name, process in others.items():
            await _until_answered(head, name, process)
        found = await _sessions(head, law, seconds)
        client_s = await _message_s(head)
        blob_s = max(0.0, await _fetch_s(head, folder) - 2 * client_s)
        fsync_s = await _commit_s(folder)
        signatures = await _signatures(Ed25519Keys(Identity(HEAD, identities).private_key(), read_registry(identities)))
        plan_s = await _plan_s()
    finally:
        await head.close()
        for process in others.values():
            if process.returncode is None:
                process.terminate()
            await process.wait()
    alone = {"fsync_s": fsync_s, "client_s": client_s, "blob_s": blob_s, "plan_s": plan_s, "cores": core_count()}
    return {**found, **alone, **signatures}


async def _until_answered(head: _Party, name: str, process: asyncio.subprocess.Process) -> None:
    end_s = time.monotonic() + READY_S
    while process.returncode is None and time.monotonic() < end_s:
        try:
            await head.ask(name, 1.0)
        except TimeoutError:
            continue
        return
    raise OSError(f"calibrate: the probe's process {name!r} did not answer")


class _Timed(NamedTuple):
    """One session: its whole time, the work of all threads, and the time to its first token, seconds."""

    whole_s: float
    busy_s: float
    first_s: float


async def _sessions(head: _Party, law: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return ``hop_s``, ``step_overhead_s``, ``session_s`` and the number of pairs of sessions."""
    prompt = np.arange(PROMPT_TOKENS, dtype="<i4").tobytes()
    head.blobs.store.put(prompt)
    pairs: list[tuple[_Timed, _Timed]] = []
    end_s = time.monotonic() + seconds
    while len(pairs) <= PAIRS_MIN or time.monotonic() < end_s:
        pairs.append((await _session(head, prompt, 1), await _session(head, prompt, NEW_TOKENS)))
    short, long = (np.array(side) for side in zip(*pairs[1:], strict=True))  # the first pair still warms up
    steps = (NEW_TOKENS - 1) * len(STAGES)
    whole_s, busy_s, _ = (long - short).T
    hop_s = max(0.0, float(np.median(whole_s - busy_s)) / steps)
    overhead_s = max(0.0, float(np.median(busy_s) - (NEW_TOKENS - 1) * pass_law_s(law, 1)) / steps)
    first_s = float(np.median(np.concatenate((short, long))[:, 2]))
    session_s = max(0.0, first_s - pass_law_s(law, PROMPT_TOKENS) - len(STAGES) * (hop_s + overhead_s))
    return {"hop_s": hop_s, "step_overhead_s": overhead_s, "session_s": session_s, "probe_pairs": len(short)}


async def _session(head: _Party, prompt: bytes, new_tokens: int) -> _Timed:
    job = SessionJob(
        op="probe", model=DESK_TINY.name, stages=STAGES, prompt=digest(prompt), source=HEAD,
        prompt_tokens=PROMPT_TOKENS, new_tokens=new_tokens, report_every=NEW_TOKENS,
    )  # fmt: skip
    before_s = await head.busy_s()
    await asyncio.sleep(PAUSE_S)
    begun_s = time.perf_counter()
    head.host.submit("", 0, encode(job))
    outcome = await asyncio.wait_for(head.outcomes.get(), SESSION_S)
    whole_s = time.perf_counter() - begun_s
    if not isinstance(outcome, Done):
        raise OSError(f"calibrate: the probe's session was lost: {outcome.reason}")
    return _Timed(whole_s, await head.busy_s() - before_s, outcome.first_token_ns / 1e9)


def pass_law_s(law: Mapping[str, Any], tokens: int) -> float:
    """Return what one pass of ``tokens`` new tokens through all stages takes in a tight loop, by the executor's law."""
    alone = step_law(law)
    return sum(alone.step_s(stage.last - stage.first, stage.last == DESK_TINY.layers, tokens) for stage in STAGES)


async def _message_s(head: _Party) -> float:
    taken = []
    for _ in range(PINGS):
        await asyncio.sleep(PAUSE_S)
        begun_s = time.perf_counter()
        await head.ask(OTHERS[-1])
        taken.append(time.perf_counter() - begun_s)
    return float(np.median(taken)) / 2


async def _fetch_s(head: _Party, folder: Path) -> float:
    """Return what fetching a prompt from another process takes, until it is kept here."""
    there, taken = BlobStore(folder / OTHERS[-1]), []
    for number in range(PINGS):
        name = there.put(np.arange(number, number + PROMPT_TOKENS, dtype="<i4").tobytes())
        await asyncio.sleep(PAUSE_S)
        begun_s = time.perf_counter()
        if await head.blobs.get(name, OTHERS[-1]) is None:
            raise OSError("calibrate: the probe's process did not have its blob")
        taken.append(time.perf_counter() - begun_s)
    return float(np.median(taken))


async def _commit_s(folder: Path) -> float:
    storage = FileStorage(folder / "node.log")
    committer = Committer(storage, lambda path, token: None, _raise, lambda what, fields: None)
    taken = []
    for number in range(PINGS):
        await asyncio.sleep(PAUSE_S)
        begun_s = time.perf_counter()
        committer.add("", number, [("k", bytes(COMMIT_BYTES))])
        await committer.wait()
        taken.append(time.perf_counter() - begun_s)
    storage.close()
    return float(np.median(taken))


async def _signatures(keys: Ed25519Keys) -> dict[str, float]:
    """Return what the thread of a node works for a signature, ``sign_s``, and to verify one, ``verify_s``.

    Work alone, as the twin charges it to the node: whom the cores serve meanwhile does not count.
    """
    said = bytes(SIGNED_BYTES)
    signature, right = keys.sign(said), True
    made, verified = list[float](), list[float]()
    for _ in range(PINGS):
        await asyncio.sleep(PAUSE_S)
        begun_s = time.thread_time()
        right &= keys.sign(said) == signature
        made.append(time.thread_time() - begun_s)
        await asyncio.sleep(PAUSE_S)
        begun_s = time.thread_time()
        right &= keys.verify(HEAD, said, signature)
        verified.append(time.thread_time() - begun_s)
    if not right:
        raise OSError("calibrate: the probe's own signature does not verify")
    return {"sign_s": float(np.median(made)), "verify_s": float(np.median(verified))}


async def _plan_s() -> float:
    """Return what the default planner takes, in a thread as on a node, for four equal desks."""
    one = capability(UNMEASURED)
    desks = tuple(candidate(f"desk-{k}", one) for k in range(DESKS))
    problem = encode(msgspec.structs.replace(village.card(SHAPES[DESK_TINY.name], PolicyConfig()), workers=desks))
    taken = []
    for _ in range(PLANS):
        begun_s = time.perf_counter()
        await asyncio.to_thread(PLANNERS[ShardingConfig().planner], problem, 1)
        taken.append(time.perf_counter() - begun_s)
    return float(np.median(taken))


def _raise(error: Exception) -> None:
    raise error


async def _serve(name: str, identities: str, folder: str, addresses: Any, backend: str) -> None:
    """Run another process until its standard input ends: the first one holds the other end."""
    party, ended = _Party(name, Path(identities), Path(folder), addresses, backend), asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 1) else ended.set())
    await party.start()
    await ended.wait()
    await party.close()


if __name__ == "__main__":
    asyncio.run(_serve(*msgspec.json.decode(sys.argv[1])))
