"""Journals: every input of one node with the digest of its effects, enough to step fresh Cells again.

A journal is a stream of checksummed frames (`policies.log.frame`): a `Header`, then one row a step,
``[now_ns, wall_ns, input, crc32 of the effects, [signatures and verdicts]]``. A restart begins with a START input.

A node that runs for months cannot keep every step: its journal may begin later, and its header says after how many,
with the Cell's state then. Where that has no form as bytes, the journal can be replayed from its next START on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import msgspec

from policies.log import frame, frames
from policies.port import SIGNED, Effect, Input
from policies.wire import WIRE_VERSION, encode


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who wrote the journal and what is needed to build the same Cell again.

    Attributes:
        steps_before: steps of this node that the journal no longer has.
        state: of the Cell after these (`policies.cell.Cell.freeze`); empty where there is none.
    """

    node: str
    peers: tuple[str, ...]
    seed: int
    world: str
    policies: dict[str, dict[str, str]]  # path to {class, source_sha256}
    config: dict[str, Any]  # the scenario, plain
    wire: int = msgspec.field(default_factory=lambda: WIRE_VERSION)  # a factory's value is never left out
    steps_before: int = 0
    state: bytes = b""


Row = tuple[int, int, Input, int, list[Any]]

_header = msgspec.msgpack.Decoder(Header).decode
_row: Any = msgspec.msgpack.Decoder(tuple[int, int, tuple[Any, ...], int, list[Any]]).decode


class Journal:
    """Collects one node's rows."""

    def __init__(self, header: Header) -> None:
        self._parts = bytearray(frame(encode(header)))
        self.rows = 0

    def add(self, now: int, wall: int, given: Input, effects: tuple[Effect, ...]) -> None:
        """Append one step."""
        signed = [e[2] for e in effects if e[0] == SIGNED]
        self._parts += frame(encode((now, wall, given, effects_checksum(effects), signed)))
        self.rows += 1

    def take(self) -> bytes:
        """Return what was added since the last call, for appending to a file."""
        data = bytes(self._parts)
        self._parts.clear()
        return data


def read(data: bytes) -> tuple[Header, Iterator[Row]]:
    """Return a journal's header and its rows; a torn last row ends it.

    Raises:
        ValueError: the data is not a journal.
    """
    bodies = frames(data)
    try:
        header = _header(next(bodies)[0])
    except (StopIteration, msgspec.MsgspecError) as error:
        raise ValueError(f"not a journal: {str(error) or 'no header'}") from None
    return header, (_row(body) for body, _ in bodies)


def effects_checksum(effects: tuple[Effect, ...]) -> int:
    """Return the checksum a journal keeps of one step's effects."""
    return crc32(encode(effects))
