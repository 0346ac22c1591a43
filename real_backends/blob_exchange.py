"""Fetching blobs from other nodes over the links of messages, in pieces; every blob is checked against its digest.

A piece is asked for again until it comes or its holder says that there is none. That is believed of the holder alone:
what others say of a blob that was not asked of them is nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from policies.wire import digest, encode
from real_backends.stores.blobs import BlobStore
from real_backends.transports.frames import BLOB_GET, BLOB_PUT, PIECE_BYTES, BlobGet, BlobPut, Transport, decode

FETCH_TRIES = 3
FETCH_TRY_S = 2.0  # assumption: a link of 1 Mbit/s carries a piece in that; three tries outlast a short loss
BLOB_BYTES_MAX = 1 << 29  # our bound: what a stage took of 16,384 tokens of 8,192 numbers


class _Asked(NamedTuple):
    """A piece that is awaited: what it will be, the bytes that were asked for, and how many wait."""

    future: asyncio.Future[bytes | None]
    size_bytes: int
    waiting: int


class WrongSize(ValueError):
    """A blob has not the size that it must have."""


class BlobExchange:
    """One node's blobs and the way to those of others.

    Attributes:
        chunk_share: of `PIECE_BYTES`, what a piece that is fetched has.
    """

    def __init__(self, transport: Transport, store: BlobStore) -> None:
        self._transport, self.store = transport, store
        self.chunk_share = 1.0
        # By holder, name and begin. One that is given up leaves the piece to the others who wait for it.
        self._waiting: dict[tuple[str, str, int], _Asked] = {}

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
            piece, count = await self._piece(holder, name, size)
            if piece is None:
                return None
            pieces.append(piece)
            size += len(piece)
            if len(piece) < count:
                data = b"".join(pieces)
                if digest(data) != name:
                    return None
                return data
        if bytes_max < BLOB_BYTES_MAX:
            raise WrongSize(f"blob {name}: more than {bytes_max} bytes come from {holder}")
        return None

    async def _piece(self, holder: str, name: str, begin: int) -> tuple[bytes | None, int]:
        """Return a piece, or None, and how many bytes of it were asked for: who joins takes what was."""
        key, usual = (holder, name, begin), max(1, int(PIECE_BYTES * self.chunk_share))
        asked = self._waiting.get(key) or _Asked(asyncio.get_running_loop().create_future(), usual, 0)
        self._waiting[key] = asked._replace(waiting=asked.waiting + 1)
        try:
            for _ in range(FETCH_TRIES):
                self._transport.send(holder, BLOB_GET, encode(BlobGet(name, begin, asked.size_bytes)))
                done, _ = await asyncio.wait((asked.future,), timeout=FETCH_TRY_S)
                if done:
                    return asked.future.result(), asked.size_bytes
            return None, asked.size_bytes
        finally:
            waiting = self._waiting.pop(key).waiting
            if waiting > 1:
                self._waiting[key] = asked._replace(waiting=waiting - 1)

    def on_frame(self, sender: str, kind: int, body: bytes) -> None:
        """Serve a BLOB_GET or take a BLOB_PUT that is awaited."""
        frame = decode(kind, body)
        if kind == BLOB_GET:
            self._serve(sender, frame)
            return
        asked = self._waiting.get((sender, frame.digest, frame.begin))
        if asked is not None and not asked.future.done():  # else nobody asked, or it came twice
            asked.future.set_result(None if frame.data is None else frame.data[: asked.size_bytes])

    def _serve(self, sender: str, wanted: BlobGet) -> None:
        piece = self.store.piece(wanted.digest, wanted.begin, wanted.count)
        self._transport.send(sender, BLOB_PUT, encode(BlobPut(wanted.digest, piece, wanted.begin)))


class HandsOutNothing(BlobExchange):
    """A liar's: it takes what it needs and answers nobody (`scenarios.adversaries.behaviours.Shirk`)."""

    def _serve(self, sender: str, wanted: BlobGet) -> None:
        """Say nothing."""
