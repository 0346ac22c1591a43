"""One node of a real village, as a process: ``python -m real_backends.node CONFIG.json``.

It runs until SIGTERM, or until its standard input ends: the launcher holds the other end, so no node outlives
it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import stat
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import msgspec

from policies import village
from policies.cell import Cell
from policies.gateway import Answer, AnswerBy
from policies.jobs import SessionJob
from policies.log import DamagedLog
from policies.port import Keys, Policy
from policies.sharding import JOBS
from policies.village import NodeSpec
from policies.wire import digest, encode
from real_backends import replicas, specs
from real_backends.blob_exchange import BlobExchange, HandsOutNothing
from real_backends.clock import SystemClock
from real_backends.damage import advice
from real_backends.executors.cheats import cheating
from real_backends.executors.paced import maker
from real_backends.executors_host import ExecutorHost
from real_backends.identity import OWNER, Identity, Registry, read_registry
from real_backends.keys import Ed25519Keys
from real_backends.lent_memory import LentMemory
from real_backends.models import law_of, open_model
from real_backends.node_files import require_version
from real_backends.sensors import Sensors, open_sensors, report
from real_backends.serve import Serve
from real_backends.stores.blobs import BlobStore
from real_backends.stores.file import FileStorage
from real_backends.transports.faulty import FaultyTransport, LinkFaults
from real_backends.transports.frames import CONTROL, Control
from real_backends.transports.tls import TlsTransport
from scenarios import hosts
from scenarios.adversaries.choose import play, with_role
from scenarios.adversaries.work import cheat_of, withheld_by
from scenarios.digests import policies_manifest
from scenarios.journal import Header
from scenarios.raised import line_of
from scenarios.record import stages_text
from scenarios.schema import Scenario, Shaped, build

POLICY_RAISED = 3
"""Exit code of a node whose user's own policy raised; its last words are the line in its file, and what was raised."""
KEPT_BYTES = 64 << 20  # our choice: hours of a busy node's steps; with the events a quarter of a gigabyte at most
WARM = b"warm\n"
"""Said on standard output by a node that was launched and could begin at once."""


_answer = msgspec.msgpack.Decoder(Answer | AnswerBy).decode


class NodeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a node process is told.

    Attributes:
        name: which node this is.
        addresses: (host, port) of every node and of the owner.
        folder: where this node keeps its log, blobs, journal and events.
        identities: folder of `real_backends.identity`.
        backend: executor of this node, "torch" or "jax".
        scenario: the whole scenario, plain.
        policy: what every node runs instead of the village's policies, as ``file.py:Name`` (`load_policy`).
        begun_ns: the run's start, from which adversaries count, on the monotonic clock, which processes of one host
            share; 0 where it has not begun yet: a node that was launched says that it is warm, and is told then.
        kept_bytes: of its journal and of its events at least the newest so many are kept, and at most twice as many;
            0 for all, which a launcher asks for that makes a record of the whole run.
    """

    name: str
    addresses: dict[str, tuple[str, int]]
    folder: str
    identities: str
    backend: str
    scenario: dict[str, Any]
    policy: str = ""
    begun_ns: int = 0
    kept_bytes: int = KEPT_BYTES


def load_policy(where: str) -> Callable[[NodeSpec], dict[str, Policy]]:
    """Return what ``file.py:Name`` makes of a node: one policy alone, of class Name, or what function Name returns.

    Raises:
        ValueError: no such file or name, or neither a policy nor a function.
    """
    file, _, name = where.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"policy={where!r}: expected FILE.py:Name, and no file {file!r} exists")
    # A module name of its own, so that no module of that name is hidden by it.
    spec = importlib.util.spec_from_file_location(f"user_policy_{digest(file.encode())[:8]}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, Policy):
        return lambda node_spec: {"": found()}
    if isinstance(found, FunctionType):
        return found
    classes = [n for n, v in vars(module).items() if isinstance(v, type) and Policy in v.__mro__[1:]]
    raise ValueError(f"policy={where!r}: no such policy; the file has {', '.join(classes) or 'none'}")


def make_sensors(scenario: Scenario) -> Sensors:
    """Return the sensors the scenario asks for.

    Raises:
        ValueError, OSError: as `real_backends.sensors.open_sensors`.
    """
    return open_sensors(scenario.sensors, assume=scenario.assume)


def answer_blob(payload: bytes) -> tuple[str, str, int] | None:
    """Return (digest, holder, bytes) of the output a gateway's reply names, if it is an `Answer`."""
    try:
        answer = _answer(payload)
    except msgspec.MsgspecError:
        return None
    return answer.output, answer.holder, 4 * answer.tokens


class Parts(NamedTuple):
    """What a node has before its part in the run begins."""

    scenario: Scenario
    identity: Identity
    registry: Registry
    links: TlsTransport
    transport: FaultyTransport
    blobs: BlobExchange
    executor: ExecutorHost
    clock: SystemClock


def make_parts(config: NodeConfig) -> Parts:
    """Make a node's links and executor; nothing runs yet."""
    scenario = build(config.scenario)
    identity = Identity(config.name, Path(config.identities))
    registry = read_registry(identity.folder)
    clock = SystemClock()
    links = TlsTransport(identity, registry, config.addresses)
    fleet = scenario.fleet
    transport = FaultyTransport(links, scenario.seed, exempt=(OWNER,), ways=hosts.Ways(fleet.shaped))
    role = specs.roles(scenario).get(config.name)
    withheld, _ = (withheld_by(role.behaviours) if role is not None else None) or ("nothing", range(0))
    exchange = HandsOutNothing if withheld == "output" else BlobExchange
    blobs = exchange(transport, BlobStore(Path(config.folder) / "blobs"))
    models = {name: partial(open_model, scenario, name) for name in scenario.models}
    make = maker(
        partial(law_of, scenario), paced=scenario.executor == "paced",
        pacing=fleet.shaped.get(config.name, Shaped()).pacing, seed=scenario.seed,
    )  # fmt: skip
    if role is not None and (cheat := cheat_of(role.behaviours)) is not None:
        make = cheating(make, cheat[0])
    spec = specs.node_spec(scenario, config.name)
    cards = {card.model: card for card in (spec.card, *spec.smaller)}
    memory = LentMemory(spec.capability.memory_bytes, cards, scenario.policy.sharding.slots)
    executor = ExecutorHost(
        transport, blobs, models, config.backend, JOBS, clock, scenario.activations, make, scenario.policy, memory
    )
    if withheld == "input" and executor.proofs is not None:
        executor.proofs.share = digest  # it says what it is called, and has it no more
    return Parts(scenario, identity, registry, links, transport, blobs, executor, clock)


def make_serve(config: NodeConfig, parts: Parts, begun_ns: int) -> Serve:
    """Put one node together from its configuration and its parts; ``begun_ns`` as in `NodeConfig`."""
    scenario, identity, registry, links, transport, blobs, executor, clock = parts
    folder = Path(config.folder)
    node_spec = specs.node_spec(scenario, config.name)
    mount = load_policy(config.policy) if config.policy else village.node
    policies = mount(node_spec)
    role = specs.roles(scenario, begun_ns).get(config.name)
    header = Header(
        node=config.name,
        peers=node_spec.peers,
        seed=scenario.seed,
        world="local",
        policies=policies_manifest(dict(policies)),
        config=with_role(village.to_plain(node_spec), role),
    )

    sensors = make_sensors(scenario)

    def on_control(control: Control) -> None:
        if control.command == "faults":
            transport.faults = msgspec.convert(control.data, LinkFaults)
        state = {
            "active": executor.active,
            "steps": serve.counts["steps"],
            "step_max_s": serve.step_max_ns / 1e9,
            "driving_s": serve.driving_ns / 1e9,
            "syncs": serve.committer.syncs,
            "compute_busy_s": executor.compute.busy_s,
            "kv_peak_bytes": executor.stages.kv_peak_bytes,
            "kv_pool_bytes": executor.stages.shards.pool_bytes,
            "recovery": {**executor.resuming.counts, "copied": executor.stages.copies.sent_tokens},
            **({} if (proofs := executor.proofs) is None else {"checking": [proofs.worked_s, proofs.fetched_bytes]}),
            "malformed": serve.cell.malformed,
            "refused_frames": sum(executor.stages.gate.refused.values()) + serve.counts["refused_requests"],
            "replica": replicas.report(policies),
            "sensors": report(sensors),
            "links": dict(transport.counts),
            "faults": dict(transport.done),
        }
        transport.send(OWNER, CONTROL, encode(Control(command=control.command, data=state)))

    def on_session(path: str, job: SessionJob, tokens: int, begun_ns: int, first_ns: int, ended_ns: int) -> None:
        serve.tell(ended_ns, "session", path, job.op, [begun_ns, first_ns, tokens, stages_text(job.stages)])

    def on_refused(kind: str, peer: str) -> None:
        serve.tell(clock.now(), "note", "stages", "refused_frame", {"kind": kind, "peer": peer})

    def on_refused_link(peer: str, reason: str, why: str) -> None:
        serve.tell(clock.now(), "note", "links", "refused", {"peer": peer, "reason": reason, "why": why})

    executor.on_session, executor.stages.gate.on_refused, links.on_refused = on_session, on_refused, on_refused_link
    unmounted = [policies]  # a twin mounts policies of its own

    def make_cell(keys: Keys) -> Cell:
        mounted = unmounted.pop() if unmounted else mount(node_spec)
        return Cell(mounted, config.name, node_spec.peers, seed=scenario.seed, keys=keys)

    def key_of(name: str) -> Keys:
        return Ed25519Keys(Identity(name, identity.folder).private_key(), registry)

    require_version(folder)
    serve = Serve(
        lambda: play(role, make_cell, me=config.name, peers=node_spec.peers, seed=scenario.seed, key_of=key_of),
        transport,
        FileStorage(folder / "node.log"),
        blobs,
        header=header,
        folder=folder,
        kept_bytes=config.kept_bytes,
        advice=advice(node_spec, own=bool(config.policy)),
        executor=executor,
        sensors=sensors,
        answer_blob=answer_blob,
        on_control=on_control,
        clock=clock,
    )
    return serve


def pin(config: NodeConfig) -> None:
    """Keep this process to one core, in turn by its place in the village, where the scenario asks for it."""
    scenario = build(config.scenario)
    if scenario.pinned:
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[list(specs.node_kinds(scenario)).index(config.name) % len(allowed)]})


def hear_launcher(stop: asyncio.Event, begun: asyncio.Future[int]) -> None:
    """Read standard input: one line when the run begins, with the time, and its end when the launcher is gone."""
    said = os.read(0, 64)  # a line is shorter, and a pipe never splits what was written at once
    if not said:
        stop.set()
    elif not begun.done():
        begun.set_result(int(said))


async def run(config: NodeConfig) -> None:
    """Serve until told to stop, then drain and write everything down.

    Raises:
        OSError: the port or the disk cannot be used.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # Ctrl-C reaches the whole process group; the launcher decides what it means.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    launched = stat.S_ISFIFO(os.fstat(0).st_mode)  # by hand, standard input is a terminal or nothing
    begun: asyncio.Future[int] = loop.create_future()
    if launched:
        loop.add_reader(0, hear_launcher, stop, begun)
    pin(config)  # before any thread is there
    parts = make_parts(config)
    if not config.policy:
        await parts.executor.stages.warm_up()
    stopping = loop.create_task(stop.wait())
    if launched and not config.begun_ns:
        os.write(1, WARM)
        os.dup2(2, 1)  # nobody reads what else is printed
        await asyncio.wait((stopping, begun), return_when=asyncio.FIRST_COMPLETED)
        if not begun.done():
            return
    serve = make_serve(config, parts, begun.result() if begun.done() else config.begun_ns)
    await serve.start()
    await asyncio.wait((stopping, serve.stopped), return_when=asyncio.FIRST_COMPLETED)
    if launched:
        loop.remove_reader(0)
    stopping.cancel()
    # A node that failed ends at once: a peer that is silent now would hold it up for as long as last words may take.
    await serve.stop(flush_s=0.0 if serve.stopped.done() else 1.0)
    if serve.stopped.done():
        serve.stopped.result()  # raises what stopped it


def main(arguments: list[str]) -> int:
    """Run one node.

    Exit codes: 0 after a clean stop, 1 after a fault of its own, 2 for a bad configuration, a disk or a port that
    cannot be used, or a damaged log, and `POLICY_RAISED`.
    """
    if len(arguments) != 1:
        print("usage: python -m real_backends.node CONFIG.json", file=sys.stderr)
        return 2
    path = ""  # of the user's policy
    try:
        config = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=NodeConfig)
        path = config.policy.rpartition(":")[0]
        asyncio.run(run(config))
    except Exception as error:
        raised = error.__cause__ or error if isinstance(error, DamagedLog) else error
        if path and (line := line_of(raised, path)):
            print(f"{line}: {type(raised).__name__}: {' '.join(str(raised).split())}", file=sys.stderr)
            return POLICY_RAISED
        if isinstance(error, OSError):
            print(error.strerror or error, file=sys.stderr)
            return 2
        if isinstance(error, ValueError | DamagedLog):
            print(error, file=sys.stderr)
            return 2
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
