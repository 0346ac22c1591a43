"""The record log: how saved batches become bytes, and how bytes become what was saved.

Records are appended to one file a node. A record is ``length u32 | crc32 u32 | body``, little endian; the body is
``[durable bytes, [[key, value or nil], ...]]`` in MessagePack: how much of the file was known to be durable when the
record was written, and one atomic batch. Recovery reads records until the first that is short or whose checksum fails,
and truncates there: what follows was never acknowledged, because a batch is acknowledged only after ``sync`` returned.
Unless a later record says that what is damaged had been durable: then the disk has lost what was promised, and a node
that went on without it could vote twice. It refuses to start (after the protocol-aware recovery of Alagappan et al.,
FAST'18: a crash's torn tail and a disk's damage must be told apart). A whole record that found more durable than stands
before it belongs elsewhere: a write that the disk misdirected. The same code runs over both worlds' disks.

What is superseded stays in the file until somebody compacts it: then another file that holds what this one stands for,
and no more, takes its place at once. It ends with an empty record that found all others durable, so that damage to any
of them is told from a torn tail although nothing was written since.
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
_decode = msgspec.msgpack.Decoder(tuple[int, list[tuple[str, bytes | None]]]).decode


class DamagedLog(Exception):
    """Records that were durable are no longer whole; the message says where and who can tell."""


class NoRoom(OSError):
    """There is no room for a replacement; the file is as it was, and may be appended to."""


class Storage(Protocol):
    """What a log needs of a disk."""

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

    def replace(self, data: bytes) -> None:
        """Let the file hold ``data`` instead, durably: a crash leaves it as it was, or so. Raises NoRoom."""
        ...


def frame(body: bytes) -> bytes:
    """Return ``body`` with its length and checksum before it."""
    return _HEADER.pack(len(body), crc32(body)) + body


def frames(data: bytes, at: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield (body, offset of its end) for every whole frame from ``at``; stop at the first short or damaged one."""
    while at + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, at)
        end = at + _HEADER.size + length
        body = data[at + _HEADER.size : end]
        # No record is empty, and the checksum of nothing is 0: a tail of zeros, as file systems leave one, is damage.
        if not 0 < length <= RECORD_BYTES_MAX or end > len(data) or crc32(body) != checksum:
            return
        yield body, end
        at = end


def record(batch: Batch, durable_bytes: int = 0) -> bytes:
    """Return the bytes of one batch, written when ``durable_bytes`` of the file were known to be durable."""
    return frame(encode((durable_bytes, tuple(batch))))


def recover(storage: Storage) -> dict[str, bytes]:
    """Replay the log into the mapping it stands for, cutting off a torn tail.

    Returns:
        key to value, in order of key: the encoder sorts a mapping, and does so slowly if it is almost sorted.

    Raises:
        DamagedLog: the damage is in what was durable, or a record stands where another belongs.
    """
    data = storage.read()
    saved, end = _replay(data)
    if end < len(data):
        _require_torn(data, end)
        storage.truncate(end)
    return saved


def compact(storage: Storage) -> int:
    """Let the file, all of which is durable, hold what it stands for and no more; return how many bytes that is.

    Raises:
        DamagedLog: a record is no longer whole, or stands where another belongs.
        NoRoom: not now; nothing has changed.
    """
    data = storage.read()
    saved, end = _replay(data)
    if end < len(data):
        raise DamagedLog(f"byte {end}: damaged, and all {len(data)} bytes were durable")
    made = bytearray()
    for item in saved.items():
        made += record((item,), len(made))
    made += record((), len(made))
    storage.replace(bytes(made))
    return len(made)


def _replay(data: bytes) -> tuple[dict[str, bytes], int]:
    """Return what whole records stand for, in order of key, and where they end."""
    saved: dict[str, bytes] = {}
    end = 0
    for body, after in frames(data):
        durable, batch = _decode(body)
        if durable > end:
            raise DamagedLog(f"byte {end}: the record here was written behind byte {durable}")
        end = after
        for key, value in batch:
            if value is None:
                saved.pop(key, None)
            else:
                saved[key] = value
    return dict(sorted(saved.items())), end


def _require_torn(data: bytes, end: int) -> None:
    """Refuse damage that a later record proves to be no torn tail; a damaged length hides where that record begins."""
    at = end + 1
    while at + _HEADER.size <= len(data):
        for body, after in frames(data, at):
            try:
                durable = _decode(body)[0]
            except msgspec.MsgspecError:  # a checksum may fit by chance, or a value hold a frame of something else
                break
            if durable > end:
                raise DamagedLog(f"byte {end}: damaged, and the record that ends at byte {after} found it durable")
        at += 1
