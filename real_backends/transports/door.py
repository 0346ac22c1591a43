"""A node's door: it takes TLS connections of whoever dials, and of those who have not yet proven a key only so many.

Anybody may open a connection and say nothing, which costs a file descriptor until its handshake must have ended; a node
that has none left cannot write its journal. So when too many are unproven the host that has most of them loses its
oldest: who floods a node from one host displaces its own, and who does so from many must do it faster than members
shake hands. (sshd's MaxStartups bounds the same, and drops at random instead; sshd_config(5).)
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, cast

from real_backends.transports.frames import Refused

UNPROVEN_MAX = 256
"""Our choice: a quarter of the 1,024 descriptors that a process usually may have (systemd's DefaultLimitNOFILE).
Up to 100 are taken in a turn of the loop, so that a flood holds up to half of them for a moment."""

Welcome = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Door:
    """Listens at one address.

    Args:
        context: of TLS; it asks for the peer's certificate.
        handshake_s: so long may one take.
        welcome: run for each connection whose handshake is done, until that ends.
        refuse: told of who failed to make one; such a peer has no name.
        counts: of the transport: ``dropped_unproven`` of those that gave way, ``incoming_closed`` of those that left.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        handshake_s: float,
        welcome: Welcome,
        refuse: Callable[[str, Refused], None],
        counts: Counter[str],
    ) -> None:
        self._context, self._handshake_s = context, handshake_s
        self._welcome, self._refuse, self._counts = welcome, refuse, counts
        self._waiting: dict[str, dict[asyncio.Transport, None]] = {}  # host to its unproven connections, oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def unproven(self) -> int:
        """How many connections have not proven a key yet."""
        return sum(map(len, self._waiting.values()))

    async def open(self, host: str, port: int) -> None:
        """Begin to listen. Without a descriptor to take a connection with, asyncio waits a second and tries again.

        Raises:
            OSError: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Visitor(self._arrive), host, port)

    def shut(self) -> None:
        """Listen no more; who is inside stays."""
        if self._server is not None:
            self._server.close()

    async def empty(self) -> None:
        """End every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _arrive(self, transport: asyncio.Transport) -> None:
        host = transport.get_extra_info("peername")[0]
        self._waiting.setdefault(host, {})[transport] = None
        if self.unproven > UNPROVEN_MAX:
            fullest = max(self._waiting, key=lambda each: len(self._waiting[each]))
            oldest = next(iter(self._waiting[fullest]))
            self._counts["dropped_unproven"] += 1
            self._leave(fullest, oldest)
            oldest.abort()
        task = asyncio.get_running_loop().create_task(self._admit(host, transport))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _leave(self, host: str, transport: asyncio.Transport) -> bool:
        """Give up a place; return whether it had one still."""
        if transport not in self._waiting.get(host, ()):
            return False
        del self._waiting[host][transport]
        if not self._waiting[host]:
            del self._waiting[host]
        return True

    async def _admit(self, host: str, transport: asyncio.Transport) -> None:
        try:
            streams = await self._shake_hands(transport)
        except OSError as error:
            if self._leave(host, transport):  # nor did it give way to another
                self._fail(host, error)
        else:
            if self._leave(host, transport) and streams is not None:
                await self._welcome(*streams)
        finally:
            self._leave(host, transport)
            transport.abort()

    def _fail(self, host: str, error: OSError) -> None:
        if isinstance(error, ssl.SSLError):
            self._refuse("", Refused("handshake", f"{host}: {error}"))
        elif isinstance(error, ConnectionAbortedError):  # by asyncio, as no peer's end is
            self._refuse("", Refused("silent", f"{host}: no handshake within {self._handshake_s:g} s"))
        else:
            self._counts["incoming_closed"] += 1

    async def _shake_hands(
        self, transport: asyncio.Transport
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return the streams of a connection that is TLS now; None if it ended without a word.

        Raises:
            OSError: the handshake failed.
        """
        if transport.is_closing():
            return None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        secure = await loop.start_tls(
            transport, protocol, self._context, server_side=True, ssl_handshake_timeout=self._handshake_s
        )
        if secure is None or secure.is_closing():  # asyncio's word for a connection that was aborted meanwhile
            return None
        protocol.connection_made(secure)
        return reader, asyncio.StreamWriter(secure, protocol, reader, loop)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": "at a node's door", "exception": error, "task": task})


class _Visitor(asyncio.Protocol):
    """Who has just connected: nothing of it is read before TLS begins."""

    def __init__(self, arrive: Callable[[asyncio.Transport], None]) -> None:
        self._arrive = arrive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the handshake."""
        connection = cast(asyncio.Transport, transport)
        connection.pause_reading()
        self._arrive(connection)
