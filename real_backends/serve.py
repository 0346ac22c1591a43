"""Serve: the asyncio driver of one Cell over real sockets, a real disk and real clocks.

The loop turns frames, timers, readings, outcomes and syncs into inputs and feeds them to the Cell one at a
time. The effects of a step are executed in their order. A batch of saves is appended and synced in a thread,
several batches with one sync, and only then its DURABLE input follows: the Cell itself holds what must wait
for it. A disk that fails stops the node, because a failed fsync may have lost data that later ones would not
report (Rebello et al. 2020, USENIX ATC).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.frozen import FreezeError
from policies.jobs import Lost
from policies.log import DamagedLog, Storage, record, recover
from policies.readings import Row
from policies.wire import encode
from real_backends.blob_exchange import BlobExchange, WrongSize
from real_backends.clock import Clock, SystemClock
from real_backends.committer import Committer
from real_backends.damage import UNKNOWN, told
from real_backends.identity import OWNER
from real_backends.node_files import Cut, EventFile, JournalFile
from real_backends.timers import Timers
from real_backends.transports import frames as f
from real_backends.transports.frames import Transport
from scenarios.journal import Header

INCARNATION_KEY = "incarnation"
"""The driver's own key in the record log: it has no path, so no policy can write it."""
STEPS_PER_TURN = 64  # assumption: at 5 ms a step at most, sockets wait a third of a second at worst
WAITING_BYTES_MAX = 16 << 20
"""Of one sender's frames that wait for their steps, our choice: far above any message (states come in chunks), and
below what a journal's row can hold (`policies.log.RECORD_BYTES_MAX`). More are dropped, as a link may drop them."""
WAITING_EACH_BYTES = 512  # what a waiting input takes beside its payload: tuples, strings and their headers, at most
TOLD_MAX = 1024
"""Peers and clients of whom a dropped frame is told (our choice: clients are whoever the owner says)."""

Report = Callable[[str, int, bytes], None]
"""Called with (path, job id, encoded outcome)."""


class JobRunner(Protocol):
    """Runs jobs for the Cell (`real_backends.executors_host`)."""

    def start(self, report: Report) -> None: ...
    def submit(self, path: str, job_id: int, payload: bytes) -> None: ...
    def cancel(self, path: str, job_id: int) -> None: ...
    def limit(self, resource: str, share: float) -> None: ...
    def on_frame(self, sender: str, kind: int, body: bytes) -> None: ...
    def on_peer(self, peer: str, hint: str) -> None: ...
    async def close(self) -> None: ...


class Sensors(Protocol):
    """Reads this device (`real_backends.sensors`)."""

    def read(self, now_ns: int) -> Row: ...


class Serve:
    """Drives one Cell.

    Args:
        cell: makes the Cell, perhaps with adversaries around it; called once at each `start`.
        transport: this node's links.
        storage: the record log's disk, ``node.log`` of the folder.
        blobs: this node's blobs and the way to others'.
        header: opens the journal.
        folder: where ``node.journal`` and ``events.jsonl`` go, too.
        kept_bytes: of each of these at least the newest so many are kept, and at most twice as many; 0 for all.
        advice: said to the owner of a record log that is damaged (`real_backends.damage`).
        executor: runs jobs; without one every job is lost at once.
        sensors: read when a policy asks; without any no readings arrive.
        answer_blob: given a reply's payload, the (digest, holder, bytes) of the output it names, if it names one.
        on_control: called with each CONTROL frame of the owner's.
        clock: real clocks.
    """

    def __init__(
        self,
        cell: Callable[[], Cell],
        transport: Transport,
        storage: Storage,
        blobs: BlobExchange,
        *,
        header: Header,
        folder: Path,
        kept_bytes: int = 0,
        advice: str = UNKNOWN,
        executor: JobRunner | None = None,
        sensors: Sensors | None = None,
        answer_blob: Callable[[bytes], tuple[str, str, int] | None] = lambda payload: None,
        on_control: Callable[[f.Control], None] = lambda control: None,
        clock: Clock | None = None,
    ) -> None:
        self.transport, self.blobs, self.executor = transport, blobs, executor
        self.counts: Counter[str] = Counter()
        self.incarnation = -1
        self.step_max_ns = 0
        self.driving_ns = 0  # all steps, with their effects and their lines of the journal
        self._make_cell, self._storage, self._sensors = cell, storage, sensors
        self._answer_blob, self._on_control = answer_blob, on_control
        self._clock: Clock = clock or SystemClock()
        self._log, self._advice = folder / "node.log", advice
        self._journal = JournalFile(folder / "node.journal", header, kept_bytes)
        self._events = EventFile(folder / "events.jsonl", kept_bytes)
        self._inputs: deque[p.Input] = deque()
        self._told: set[tuple[str, str]] = set()
        self._waiting_bytes: Counter[str] = Counter()  # by sender, of frames among them
        self._scheduled = True  # until START may run
        self._closing = False
        self._timers = Timers(self._clock, lambda *timer: self.put((p.TIMER, *timer)))
        self.committer = Committer(
            storage, lambda *batch: self.put((p.DURABLE, *batch)), self._fail_saving,
            lambda what, fields: self.tell(self._clock.now(), "note", "log", what, fields),
        )  # fmt: skip
        self._readings: dict[str, asyncio.Handle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._peer_state: dict[str, str] = {}
        self._execute: tuple[Callable[[p.Effect], None], ...] = (
            self._send, self._set_timer, self._cancel_timer, self._save, self._submit, self._cancel,
            self._sense, self._limit, self._reply, self._decide, self._note, lambda effect: None,
        )  # fmt: skip

    async def start(self) -> None:
        """Recover, open the links, and give the Cell its START.

        Raises:
            OSError: the address or the disk cannot be used.
            DamagedLog: the disk has lost what it held; the message names the file, and says what to do.
        """
        self._loop = asyncio.get_running_loop()
        self.stopped: asyncio.Future[None] = self._loop.create_future()
        self._tell_cut(self._journal.cut)
        self._tell_cut(self._events.cut)
        try:
            saved, cut = await asyncio.to_thread(self._recover)
        except (DamagedLog, ValueError) as error:  # a record may be whole, and be none of ours
            raise told(error, self._log, self._advice) from error
        self._tell_cut(cut)
        self.cell = self._make_cell()
        if self.executor is not None:
            self.executor.start(lambda *outcome: self.put((p.JOB, *outcome)))
        self._inputs.append((p.START, "", saved, self.incarnation))
        await self.transport.start(self._on_frame, self._on_hint)
        self._loop.call_soon(self._drain)

    def _recover(self) -> tuple[dict[str, bytes], Cut]:
        """Return what is saved, and what was cut off behind it.

        By then that and a new incarnation are durable: no random stream is ever used twice.
        """
        found_bytes = len(self._storage.read())
        saved = recover(self._storage)
        self.incarnation = int.from_bytes(saved.pop(INCARNATION_KEY, b""), "little")
        # What a killed process wrote is there, perhaps in the system's cache alone. Once it is durable, the record
        # says so: else damage to it would look like a torn tail to the next life.
        self._storage.sync()
        size_bytes = len(self._storage.read())
        following = record([(INCARNATION_KEY, (self.incarnation + 1).to_bytes(8, "little"))], size_bytes)
        self._storage.append(following)
        self._storage.sync()
        self.committer.begin(size_bytes + len(following))
        self.committer.vouch()
        return saved, Cut(self._log.name, found_bytes, size_bytes)

    def _tell_cut(self, cut: Cut) -> None:
        if lost_bytes := cut.from_bytes - cut.to_bytes:
            self.counts["cut_tails"] += 1
            self.tell(self._clock.now(), "note", "disk", "cut_tail", {**cut._asdict(), "bytes": lost_bytes})

    def tell(self, now_ns: int, kind: str, path: str, name: str, detail: Any) -> None:
        """Write down something that happened beside the policies."""
        try:
            self._events.add(now_ns, kind, path, name, detail)
        except OSError as error:  # whoever tells is a link or a session as often as not, which has no part in it
            self._fail(error)

    def _drop(self, what: str, sender: str) -> None:
        """Count what a peer or a client sent and nobody takes, and tell of it the first time."""
        self.counts[what] += 1
        if (what, sender) not in self._told and len(self._told) < TOLD_MAX:
            self._told.add((what, sender))
            self.tell(self._clock.now(), "note", "frames", what, {"peer": sender})

    def put(self, given: p.Input) -> None:
        """Queue one input. After `stop` has begun only syncs still count."""
        if self._closing and given[0] != p.DURABLE:
            return
        self._inputs.append(given)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    async def stop(self, flush_s: float = 1.0) -> None:
        """Take no more inputs, finish what is being saved, let replies leave, write everything down."""
        self._closing = True
        while self._inputs or self.committer.busy:
            self._drain()
            await self.committer.wait()
        await self._close(flush_s)

    async def kill(self) -> None:
        """Stop as a crash would: what is queued or not yet synced is dropped, nothing is flushed to peers."""
        self._closing = True
        self._inputs.clear()
        await self.committer.drop()
        await self._close(0.0)

    async def _close(self, flush_s: float) -> None:
        self._timers.clear()
        for handle in self._readings.values():
            handle.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.executor is not None:
            await self.executor.close()
        await self.transport.close(flush_s)
        self._journal.close()
        self._events.close()

    def _drain(self) -> None:
        for _ in range(STEPS_PER_TURN):
            if not self._inputs:
                self._scheduled = False
                self._flush()
                return
            given = self._inputs.popleft()
            try:
                self._step(given)
            except Exception as error:  # a policy's own fault stops its node, with the trace, and no other
                # Of values that cannot be, at its start, only what was saved can be the cause.
                found_amiss = given[0] == p.START and given[2] and isinstance(error, DamagedLog | ValueError)
                self._fail(told(error, self._log, self._advice) if found_amiss else error)
                return
        self._flush()
        self._loop.call_soon(self._drain)

    def _flush(self) -> None:
        try:
            self._journal.flush()
            if self._journal.full:
                self._turn()
        except OSError as error:  # a disk that takes no journal takes no commit either
            self._fail(error)

    def _turn(self) -> None:
        """Begin another journal where this Cell stands now, between two steps."""
        why = ""
        try:
            state = self.cell.freeze() if isinstance(self.cell, Cell) else b""  # a liar is more than its Cell
        except FreezeError as error:
            state, why = b"", str(error)
        self._journal.turn(state)
        self.tell(self._clock.now(), "note", "journal", "turned", {"state_bytes": len(state), "why": why})

    def _step(self, given: p.Input) -> None:
        now_ns = self._clock.now()
        wall_ns = self._clock.wall()
        if given[0] in (p.MESSAGE, p.REQUEST):
            self._took(given)
        malformed = self.cell.malformed
        effects = self.cell.step(now_ns, wall_ns, given)
        if self.cell.malformed > malformed and given[0] in (p.MESSAGE, p.REQUEST):
            self._drop("malformed", given[2])
        self.step_max_ns = max(self.step_max_ns, self._clock.now() - now_ns)
        self.counts["steps"] += 1
        self._journal.add(now_ns, wall_ns, given, effects)
        for effect in effects:
            self._execute[effect[0]](effect)
        self.driving_ns += self._clock.now() - now_ns

    def _fail(self, error: BaseException) -> None:
        self._closing = True
        self._inputs.clear()
        if not self.stopped.done():
            self.stopped.set_exception(error)

    def _fail_saving(self, error: Exception) -> None:
        self._fail(told(error, self._log, self._advice) if isinstance(error, DamagedLog) else error)

    # Inputs from the world.

    def _on_frame(self, sender: str, kind: int, body: bytes) -> None:
        if kind == f.MESSAGE:
            envelope = f.decode(kind, body)
            self._put_frame(sender, (p.MESSAGE, envelope.path, sender, envelope.payload))
        elif kind == f.REQUEST:
            if sender != OWNER:  # any name of a client may be said; whose it is, the owner alone knows
                self._drop("refused_requests", sender)
                return
            request = f.decode(kind, body)
            if request.blob is not None:
                try:
                    self.blobs.store.put(request.blob, "brought", sender)
                except OSError:  # no room for it: the client hears nothing, and asks another gateway
                    self._drop("unkept_blobs", sender)
                    return
            self._put_frame(sender, (p.REQUEST, request.path, request.client, request.op_id, request.payload))
        elif kind in (f.BLOB_GET, f.BLOB_PUT):
            self.blobs.on_frame(sender, kind, body)
        elif kind in (f.STAGE, f.STAGE_RESULT):
            if self.executor is not None:
                self.executor.on_frame(sender, kind, body)
        elif kind == f.CONTROL:
            if sender != OWNER:  # not even decoded: its data is as deep and as large as whoever sent it likes
                self._drop("refused_control", sender)
                return
            self._on_control(f.decode(kind, body))
        else:
            self._drop("unknown_frames", sender)

    def _put_frame(self, sender: str, given: p.Input) -> None:
        """Queue what a peer or a client sent, unless too much of its sender waits: it may send faster than we step."""
        waiting_bytes = self._waiting_bytes[sender] + _size_bytes(given)
        if waiting_bytes > WAITING_BYTES_MAX:
            self._drop("dropped_waiting", sender)
        elif not self._closing:
            self._waiting_bytes[sender] = waiting_bytes
            self.put(given)

    def _took(self, given: p.Input) -> None:
        sender = OWNER if given[0] == p.REQUEST else given[2]
        if sender != self.transport.me:  # what a node says to itself is bounded by what it does
            self._waiting_bytes[sender] -= _size_bytes(given)

    def _on_hint(self, peer: str, hint: str) -> None:
        if self.executor is not None:
            self.executor.on_peer(peer, hint)
        if self._peer_state.get(peer) != hint and peer in self.cell.peers:
            self._peer_state[peer] = hint
            for path in self.cell.paths:
                self.put((p.PEER, path, peer, hint))

    # Effects on the world.

    def _send(self, effect: p.Effect) -> None:
        _, path, to, payload = effect
        if "/" in to:  # another path than the sender's own
            to, _, path = to.partition("/")
        if to == self.transport.me:
            self.put((p.MESSAGE, path, to, payload))
        else:
            self.transport.send(to, f.MESSAGE, encode(f.Envelope(path=path, payload=payload)))

    def _set_timer(self, effect: p.Effect) -> None:
        if not self._closing:
            self._timers.set(*effect[1:])

    def _cancel_timer(self, effect: p.Effect) -> None:
        self._timers.cancel(effect[1], effect[2])

    def _save(self, effect: p.Effect) -> None:
        _, path, token, batch = effect
        self.committer.add(path, token, batch)

    def _submit(self, effect: p.Effect) -> None:
        _, path, job_id, payload = effect
        if self.executor is None:
            lost = Lost(reason="this node runs no jobs", node=self.transport.me)
            self.put((p.JOB, path, job_id, encode(lost)))
        else:
            self.executor.submit(path, job_id, payload)

    def _cancel(self, effect: p.Effect) -> None:
        if self.executor is not None:
            self.executor.cancel(effect[1], effect[2])

    def _sense(self, effect: p.Effect) -> None:
        _, path, every_ns = effect
        if (old := self._readings.pop(path, None)) is not None:
            old.cancel()
        if self._sensors is not None and every_ns > 0:
            self._readings[path] = self._loop.call_soon(self._read, path, every_ns)

    def _read(self, path: str, every_ns: int) -> None:
        assert self._sensors is not None
        try:
            row = self._sensors.read(self._clock.now())
            self._events.add(self._clock.now(), "readings", path, "row", msgspec.structs.asdict(row))
        except Exception as error:  # a node that went on would harvest by its last readings for ever
            self._fail(error)
            return
        self._readings[path] = self._loop.call_later(every_ns / 1e9, self._read, path, every_ns)
        self.put((p.READINGS, path, encode(row)))

    def _limit(self, effect: p.Effect) -> None:
        _, path, resource, share = effect
        self._events.add(self.cell.now, "limit", path, resource, share)
        if self.executor is not None:
            self.executor.limit(resource, share)

    def _reply(self, effect: p.Effect) -> None:
        _, _, client, op_id, payload, last = effect
        wanted = self._answer_blob(payload)
        if wanted is None:
            self._answer(f.Reply(client=client, op_id=op_id, payload=payload, last=last))
        else:
            self._spawn(self._reply_with_blob(client, op_id, payload, last, *wanted))

    async def _reply_with_blob(
        self, client: str, op_id: str, payload: bytes, last: bool, name: str, holder: str, size: int
    ) -> None:
        try:
            blob = await self.blobs.get(name, holder, size)
        except WrongSize:  # its holder said of something else that it is the answer
            blob = None
        self._answer(f.Reply(client=client, op_id=op_id, payload=payload, last=last, blob=blob))

    def _answer(self, reply: f.Reply) -> None:
        self.transport.send(OWNER, f.REPLY, encode(reply))

    def _decide(self, effect: p.Effect) -> None:
        _, path, kind, payload = effect
        self._events.add(self.cell.now, "decide", path, kind, msgspec.msgpack.decode(payload))

    def _note(self, effect: p.Effect) -> None:
        _, path, name, fields = effect
        self._events.add(self.cell.now, "note", path, name, fields)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)


def _size_bytes(given: p.Input) -> int:
    """Return about what an input of a frame takes in memory; all after its kind is text or bytes."""
    return sum(map(len, given[1:])) + WAITING_EACH_BYTES
