"""Frames over TLS 1.3 between nodes that know one another by key.

Each node dials each peer once and sends on that connection only; what it accepts it only reads, but for one
greeting. After the handshake the peer's key must be the one the registry has under a name (the dialled name,
or any name for an accepted connection); otherwise the connection is closed. Of each peer the newest connection
is read and no other: one whose peer lost its power would stay for ever, and a liar could open them without end.
A send never blocks and never fails loudly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping

from real_backends.identity import Identity, peer_public_key
from real_backends.transports.door import Door
from real_backends.transports.frames import (
    FRAME_BYTES_MAX,
    GREETING,
    KIND_NAMES,
    PeerHint,
    Receive,
    Refused,
    check_greeting,
    pieces,
    read_frame,
)

Address = tuple[str, int]

QUEUE_FRAMES_MAX = 1024  # assumption: many heartbeats of backlog, few megabytes
UNSENT_BYTES_MAX = 64 << 10  # asyncio's own high-water mark: with more unsent than this a frame waits its turn
QUEUE_BYTES_MAX = 128 << 20  # one frame of the largest size and as much again
BACKOFF_FIRST_S = 0.05  # assumptions: quick after a blip, and calm while a peer is gone
BACKOFF_MAX_S = 1.0
HANDSHAKE_S = 10.0  # assumption: a peer that is slower than this is treated as absent
SILENT_S = 3.0  # assumption: longer than a busy radio is silent; a link that acknowledges nothing for as long is dead
WHY_MAX = 200  # our choice of a note's length: the words may quote what a peer sent
_CONNECTION_ERRORS = (OSError, ssl.SSLError, asyncio.IncompleteReadError, TimeoutError, ValueError)


class TlsTransport:
    """One node's links.

    Args:
        identity: this node's key and certificates.
        registry: name to raw public key; looked up at each handshake, so it may be changed while running.
        addresses: name to (host, port), this node's own included; may be changed while running.

    Attributes:
        on_refused: told of a peer, the reason and the words, the first time; every time is counted. Who is nobody of
            the registry has no name, so that of all strangers one is told of for each reason.
    """

    def __init__(self, identity: Identity, registry: Mapping[str, bytes], addresses: Mapping[str, Address]) -> None:
        self.me = identity.name
        self.counts: Counter[str] = Counter()
        self.registry, self.addresses = registry, addresses
        self.on_refused: Callable[[str, str, str], None] = lambda peer, reason, why: None
        self._told: set[tuple[str, str]] = set()
        self._client_context = identity.context(server=False)
        self._links: dict[str, _Link] = {}
        self._heard: dict[str, asyncio.Task[None]] = {}  # by peer, whoever reads its newest connection
        self._closed = False
        self.door = Door(identity.context(server=True), HANDSHAKE_S, self._accept, self.refuse, self.counts)

    async def start(self, receive: Receive, hint: PeerHint) -> None:
        """Listen at this node's address.

        Raises:
            OSError: the address cannot be used; the message names it.
        """
        self._receive, self.hint = receive, hint
        host, port = self.addresses[self.me]
        try:
            await self.door.open(host, port)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            reason = f"port {port} on {host} cannot be used by {self.me}: {why}"
            raise OSError(error.errno, reason) from None

    def send(self, to: str, kind: int, body: bytes) -> bool:
        """Queue a frame for ``to``; dropped and counted if that is nobody, its queue is full or the frame too long."""
        if to not in self.addresses or to not in self.registry:
            self.counts["dropped_unknown_peer"] += 1
            return False
        if len(body) >= FRAME_BYTES_MAX:  # its receiver would end the connection, and lose what is on its way
            self.counts["dropped_too_long"] += 1
            return False
        if self._closed:
            self.counts["dropped_closed"] += 1
            return False
        link = self._links.get(to)
        if link is None:
            link = self._links[to] = _Link(self, to)
        return link.put(kind, pieces(kind, body))

    async def close(self, flush_s: float = 0.0) -> None:
        """Stop listening, give what was sent ``flush_s`` seconds to leave, close every connection."""
        self.door.shut()
        self._closed = True
        if flush_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(flush_s):
                    await asyncio.gather(*(link.flush() for link in self._links.values()))
        await self.door.empty()
        tasks = [link.task for link in self._links.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._links.clear()

    def check_key(self, writer: asyncio.StreamWriter, expected: str | None) -> str:
        """Return the name the registry has for the peer's key.

        Raises:
            Refused: nobody of the registry, or not ``expected``.
        """
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        key = peer_public_key(tls.getpeercert(binary_form=True))
        name = next((n for n, k in self.registry.items() if k == key), None)
        if name is None or (expected is not None and name != expected):
            found = "under no name" if name is None else f"under the name {name}"
            raise Refused("key", f"{writer.get_extra_info('peername')[0]}: its key is {found} of the registry")
        return name

    def refuse(self, peer: str, refused: Refused) -> None:
        """Count what a peer may not say, and tell of it the first time."""
        self.counts[f"refused_{refused.reason}"] += 1
        if (peer, refused.reason) not in self._told:
            self._told.add((peer, refused.reason))
            self.on_refused(peer, refused.reason, str(refused)[:WHY_MAX])

    def encrypt_with(self) -> ssl.SSLContext:
        """Return the context for dialling."""
        return self._client_context

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._closed:  # its handshake outlived `close()`: nobody is here to read
            writer.transport.abort()
            return
        sender = ""
        try:
            sender = self.check_key(writer, None)
            key = self.registry[sender]
            if (older := self._heard.get(sender)) is not None:
                older.cancel()
            self._heard[sender] = task
            async with asyncio.timeout(HANDSHAKE_S):
                check_greeting(*await read_frame(reader))
            writer.write(GREETING)
            while True:
                kind, body = await read_frame(reader)
                if self.registry.get(sender) != key:  # left the village while connected, or another has its name
                    raise Refused("left", "its key is no longer its name's in the registry")
                self.counts[f"received_{KIND_NAMES.get(kind, 'unknown')}"] += 1
                try:
                    self._receive(sender, kind, body)
                except ValueError as error:
                    raise Refused("body", str(error)) from None
        except _CONNECTION_ERRORS as error:
            self.counts["incoming_closed"] += 1
            if isinstance(error, Refused):
                self.refuse(sender, error)
        except asyncio.CancelledError:
            pass  # by close() or a newer connection; asyncio's server would report it as an error
        finally:
            if self._heard.get(sender) is task:
                del self._heard[sender]
            writer.transport.abort()


def _give_up_early(writer: asyncio.StreamWriter) -> None:
    """End a connection whose bytes nobody acknowledges (RFC 5482), where the system can.

    TCP doubles the time between its attempts, so a village whose network was cut for a minute would stay apart for up
    to another one after it has healed, and then hear what was said long ago. Dialling again takes a second at most.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENT_S * 1000))


class _Link:
    """The sending side towards one peer: a bounded queue and a task that keeps one connection.

    A frame goes to an open connection at once if none waits before it: the task would come some turns later.
    """

    def __init__(self, transport: TlsTransport, peer: str) -> None:
        self._transport, self._peer = transport, peer
        self._queue: deque[tuple[int, tuple[bytes, ...]]] = deque()
        self._queued_bytes = 0
        self._writer: asyncio.StreamWriter | None = None  # of the open connection
        self._wake = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.task = asyncio.get_running_loop().create_task(self._run())

    def put(self, kind: int, data: tuple[bytes, ...]) -> bool:
        counts, length = self._transport.counts, sum(map(len, data))
        writer = self._writer
        open_ = writer is not None and not self._queue and not writer.is_closing()
        if writer and open_ and writer.transport.get_write_buffer_size() <= UNSENT_BYTES_MAX:
            self._write(writer, kind, data, length)
            return True
        if len(self._queue) >= QUEUE_FRAMES_MAX or self._queued_bytes + length > QUEUE_BYTES_MAX:
            counts["dropped_queue_full"] += 1
            return False
        self._queue.append((kind, data))
        self._queued_bytes += length
        self.idle.clear()
        self._wake.set()
        return True

    async def flush(self) -> None:
        """Return when all that was put has arrived, or the connection is lost; nothing more can be put then."""
        await self.idle.wait()
        if self._writer is not None:
            # What was written may still lie in this process. The peer says that it heard the end of it.
            self._writer.close()
            with contextlib.suppress(*_CONNECTION_ERRORS):
                await self._writer.wait_closed()

    async def _run(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        while True:
            await self._wait_for_frames()
            try:
                reader, writer = await self._dial()
            except _CONNECTION_ERRORS as error:
                if isinstance(error, Refused):
                    self._transport.refuse(self._peer, error)
                # Sends are unreliable: a burst of stale frames at reconnection would help nobody.
                self._discard()
                self._transport.hint(self._peer, "down")
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
                continue
            backoff_s = BACKOFF_FIRST_S
            self._transport.hint(self._peer, "up")
            try:
                await self._pump(reader, writer)
            finally:
                writer.transport.abort()
            self._transport.hint(self._peer, "down")

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if (address := self._transport.addresses.get(self._peer)) is None:
            raise ValueError(f"{self._peer} has no address any more")
        host, port = address
        async with asyncio.timeout(HANDSHAKE_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=self._transport.encrypt_with())
            try:
                self._transport.check_key(writer, self._peer)
                _give_up_early(writer)
                writer.write(GREETING)
                # In TLS 1.3 a client is done before the server has judged it: only an answer says yes.
                check_greeting(*await read_frame(reader))
            except BaseException:
                writer.transport.abort()
                raise
            return reader, writer

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Write what is queued until the peer, which writes nothing after its greeting, closes."""
        closed: asyncio.Future[bytes] | asyncio.Future[None] = asyncio.ensure_future(reader.read(1))
        waiting = closed
        self._writer = writer
        try:
            while not closed.done():
                waiting = asyncio.ensure_future(self._wait_for_frames())
                await asyncio.wait((closed, waiting), return_when=asyncio.FIRST_COMPLETED)
                if closed.done():
                    break
                try:
                    while self._queue:  # as much at a time as the connection takes: the rest is bounded here
                        kind, data = self._queue.popleft()
                        length = sum(map(len, data))
                        self._queued_bytes -= length
                        self._write(writer, kind, data, length)
                        await writer.drain()
                except _CONNECTION_ERRORS:
                    break
        finally:
            self._writer = None
            waiting.cancel()
            closed.cancel()
            with contextlib.suppress(asyncio.CancelledError, *_CONNECTION_ERRORS):
                await closed

    def _write(self, writer: asyncio.StreamWriter, kind: int, data: tuple[bytes, ...], length: int) -> None:
        for piece in data:
            writer.write(piece)
        self._transport.counts[f"sent_{KIND_NAMES[kind]}"] += 1
        self._transport.counts["sent_bytes"] += length

    async def _wait_for_frames(self) -> None:
        while not self._queue:
            self.idle.set()
            self._wake.clear()
            await self._wake.wait()

    def _discard(self) -> None:
        self._transport.counts["dropped_unreachable"] += len(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
