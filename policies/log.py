"""The record log: how saved batches become bytes, and how bytes become what was saved.

One append-only file a node. A record is ``length u32 | crc32 u32 | body``, little endian; the body is one atomic
batch ``[[key, value or nil], ...]`` in MessagePack. Recovery reads records until the first that is short or
whose checksum fails, and truncates there: what follows was never acknowledged, because a batch is
acknowledged only after ``sync`` returned. The same code runs over the simulated disk and the real one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Protocol
from zlib import crc32

import msgspec

from policies.wire import encode

_HEADER = struct.Struct("<II")
RECORD_BYTES_MAX = 64 << 20
"""A length above this is damage, not a record (our own bound, far above any batch of a policy)."""

Batch = Iterable[tuple[str, bytes | None]]
_decode = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]]).decode


class Storage(Protocol):
    """The four things a log needs of a disk."""

    def read(self) -> bytes:
        """Return the whole file."""
        ...

    def append(self, data: bytes) -> None:
        """Write at the end; may be lost or torn until ``sync`` returns."""
        ...

    def sync(self) -> None:
        """Return once all that was appended is durable."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes, durably."""
        ...


def frame(body: bytes) -> bytes:
    """Return ``body`` with its length and checksum before it."""
    return _HEADER.pack(len(body), crc32(body)) + body


def frames(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield (body, offset of its end) for every whole frame; stop at the first short or damaged one."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        body = data[at + _HEADER.size : end]
        # No record is empty, and the checksum of nothing is 0: a tail of zeros, as file systems leave one, is damage.
        if not 0 < length <= RECORD_BYTES_MAX or end > len(data) or crc32(body) != checksum:
            return
        yield body, end
        at = end


def record(batch: Batch) -> bytes:
    """Return the bytes of one batch."""
    return frame(encode(tuple(batch)))


def recover(storage: Storage) -> dict[str, bytes]:
    """Replay the log into the mapping it stands for, cutting off a torn tail.

    Returns:
        key to value, in order of key: the encoder sorts a mapping, and does so slowly if it is almost sorted.
    """
    data = storage.read()
    saved: dict[str, bytes] = {}
    end = 0
    for body, end in frames(data):  # noqa: B007  (the last end is where the log is whole)
        for key, value in _decode(body):
            if value is None:
                saved.pop(key, None)
            else:
                saved[key] = value
    if end < len(data):
        storage.truncate(end)
    return dict(sorted(saved.items()))
