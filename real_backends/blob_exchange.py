"""Fetching blobs from other nodes over the links of messages, in pieces; every blob is checked against its digest.

A piece is asked for again until it comes or its holder says that there is none. That is believed of the holder alone:
what others say of a blob that was not asked of them is nothing.
"""

from __future__ import annotations

import asyncio
import contextlib

from policies.wire import digest, encode
from real_backends.stores.blobs import BlobStore
from real_backends.transports.frames import BLOB_GET, BLOB_PUT, BlobGet, BlobPut, Transport, decode

FETCH_TRIES = 3
FETCH_TRY_S = 2.0  # assumption: a link of 1 Mbit/s carries a piece in that; three tries outlast a short loss
PIECE_BYTES = 1 << 18
BLOB_BYTES_MAX = 1 << 29  # our bound: what a stage took of 16,384 tokens of 8,192 numbers


class WrongSize(ValueError):
    """A blob has not the size that it must have."""


class BlobExchange:
    """One node's blobs and the way to those of others."""

    def __init__(self, transport: Transport, store: BlobStore) -> None:
        self._transport, self.store = transport, store
        # By holder, name and begin; with how many wait for it: one that is given up leaves it to the others.
        self._waiting: dict[tuple[str, str, int], tuple[asyncio.Future[bytes | None], int]] = {}

    async def get(self, name: str, holder: str, size_bytes: int | None = None) -> bytes | None:
        """Return a blob from here, or else from ``holder``; None when it cannot be had.

        Args:
            name: of the blob.
            holder: who has it.
            size_bytes: what it must have. No more than a piece beyond that is taken from a holder.

        Raises:
            WrongSize: it has another size.
        """
        data, kept = self.store.get(name), True
        if data is None and holder not in ("", self._transport.me):
            data, kept = await self._from(holder, name, BLOB_BYTES_MAX if size_bytes is None else size_bytes), False
        if data is not None and size_bytes is not None and len(data) != size_bytes:
            raise WrongSize(f"blob {name}: {len(data)} bytes, expected {size_bytes}")
        if data is not None and not kept:
            with contextlib.suppress(OSError):  # a disk that is full keeps nothing for later; this is wanted now
                self.store.put(data, "fetched", holder)
        return data

    async def _from(self, holder: str, name: str, bytes_max: int) -> bytes | None:
        pieces, size = [], 0
        while size <= min(bytes_max, BLOB_BYTES_MAX):
            piece = await self._piece(holder, name, size)
            if piece is None:
                return None
            pieces.append(piece)
            size += len(piece)
            if len(piece) < PIECE_BYTES:
                data = b"".join(pieces)
                if digest(data) != name:
                    return None
                return data
        if bytes_max < BLOB_BYTES_MAX:
            raise WrongSize(f"blob {name}: more than {bytes_max} bytes come from {holder}")
        return None

    async def _piece(self, holder: str, name: str, begin: int) -> bytes | None:
        key = holder, name, begin
        future, waiting = self._waiting.get(key) or (asyncio.get_running_loop().create_future(), 0)
        self._waiting[key] = future, waiting + 1
        try:
            for _ in range(FETCH_TRIES):
                self._transport.send(holder, BLOB_GET, encode(BlobGet(name, begin)))
                done, _ = await asyncio.wait((future,), timeout=FETCH_TRY_S)
                if done:
                    return future.result()
            return None
        finally:
            _, waiting = self._waiting.pop(key)
            if waiting > 1:
                self._waiting[key] = future, waiting - 1

    def on_frame(self, sender: str, kind: int, body: bytes) -> None:
        """Serve a BLOB_GET or take a BLOB_PUT that is awaited."""
        frame = decode(kind, body)
        if kind == BLOB_GET:
            self._serve(sender, frame)
            return
        future, _ = self._waiting.get((sender, frame.digest, frame.begin), (None, 0))
        if future is not None and not future.done():  # else nobody asked, or it came twice
            future.set_result(None if frame.data is None else frame.data[:PIECE_BYTES])

    def _serve(self, sender: str, wanted: BlobGet) -> None:
        piece = self.store.piece(wanted.digest, wanted.begin, PIECE_BYTES)
        self._transport.send(sender, BLOB_PUT, encode(BlobPut(wanted.digest, piece, wanted.begin)))


class HandsOutNothing(BlobExchange):
    """A liar's: it takes what it needs and answers nobody (`scenarios.adversaries.behaviours.Shirk`)."""

    def _serve(self, sender: str, wanted: BlobGet) -> None:
        """Say nothing."""
