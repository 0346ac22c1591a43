"""Fetching blobs from other nodes over the links of messages; every blob is checked against its digest."""

from __future__ import annotations

import asyncio

from policies.wire import digest, encode
from real_backends.stores.blobs import BlobStore
from real_backends.transports.frames import BLOB_GET, BLOB_PUT, BlobGet, BlobPut, Transport, decode

FETCH_TRIES = 3
FETCH_TRY_S = 2.0  # assumption: a prompt or an answer of kilobytes; three tries outlast a short loss


class BlobExchange:
    """One node's blobs and the way to those of others."""

    def __init__(self, transport: Transport, store: BlobStore) -> None:
        self._transport, self.store = transport, store
        self._waiting: dict[str, asyncio.Future[bytes | None]] = {}

    async def get(self, name: str, holder: str) -> bytes | None:
        """Return a blob from here, or else from ``holder``; None when it cannot be had."""
        data = self.store.get(name)
        if data is not None or holder in ("", self._transport.me):
            return data
        for _ in range(FETCH_TRIES):
            future = self._waiting.get(name)
            if future is None or future.done():
                future = self._waiting[name] = asyncio.get_running_loop().create_future()
            self._transport.send(holder, BLOB_GET, encode(BlobGet(digest=name)))
            try:
                data = await asyncio.wait_for(asyncio.shield(future), FETCH_TRY_S)
            except TimeoutError:
                continue
            self._waiting.pop(name, None)
            return data
        self._waiting.pop(name, None)
        return None

    def on_frame(self, sender: str, kind: int, body: bytes) -> None:
        """Serve a BLOB_GET or take a BLOB_PUT that is awaited."""
        frame = decode(kind, body)
        if kind == BLOB_GET:
            answer = BlobPut(digest=frame.digest, data=self.store.get(frame.digest))
            self._transport.send(sender, BLOB_PUT, encode(answer))
            return
        future = self._waiting.get(frame.digest)
        if future is None or future.done():
            return  # nobody asked, or it came twice
        if frame.data is None:
            future.set_result(None)
        elif digest(frame.data) == frame.digest:
            self.store.put(frame.data)
            future.set_result(frame.data)
