"""Frames: what nodes put on a link, and the shape every transport has.

A frame is ``length u32 | kind u8 | body``, little endian; the length counts kind and body. Bodies are
MessagePack structs of `policies.wire`, so every size that is metered is the encoded size.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from policies.wire import WIRE_VERSION, Message, WireError, encode

MESSAGE, BLOB_GET, BLOB_PUT, STAGE, STAGE_RESULT, REQUEST, REPLY, CONTROL, HELLO = range(1, 10)
KIND_NAMES = {
    MESSAGE: "message", BLOB_GET: "blob_get", BLOB_PUT: "blob_put", STAGE: "stage",
    STAGE_RESULT: "stage_result", REQUEST: "request", REPLY: "reply", CONTROL: "control", HELLO: "hello",
}  # fmt: skip

FRAME_BYTES_MAX = 80 << 20
"""Assumption: above the executors' largest activation, 64 MiB, with its envelope."""

PIECE_BYTES = 1 << 18  # of a blob: the usual piece, and the largest
RECORD_BYTES = 16_384
"""A TLS record at most (RFC 8446, 5.1): a longer frame is several records anyway, so a piece more costs no copy."""

_HEADER = struct.Struct("<IB")

Receive = Callable[[str, int, bytes], None]
"""Called with (sender, kind, body) for each frame that arrived."""
PeerHint = Callable[[str, str], None]
"""Called with (peer, "up" or "down")."""


class Refused(WireError):
    """A peer said what it may not; ``reason`` is one word for it, the message says what it was."""

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason = reason


class Transport(Protocol):
    """Sends frames to named peers, unreliably; drops are counted, never raised."""

    me: str
    counts: Counter[str]

    async def start(self, receive: Receive, hint: PeerHint) -> None:
        """Begin to deliver."""
        ...

    def send(self, to: str, kind: int, body: bytes) -> bool:
        """Queue a frame; False when it was dropped at once."""
        ...

    async def close(self, flush_s: float = 0.0) -> None:
        """Stop, after at most ``flush_s`` seconds for what is queued."""
        ...


class Envelope(Message, frozen=True):
    """MESSAGE: a policy's message for the policy at ``path``."""

    path: str
    payload: bytes


class BlobGet(Message, frozen=True):
    """BLOB_GET: send me so many bytes of this blob from there on; fewer are its end."""

    digest: str
    begin: int = 0
    count: Annotated[int, Meta(ge=1, le=PIECE_BYTES)] = PIECE_BYTES


class BlobPut(Message, frozen=True):
    """BLOB_PUT: the answer, which is shorter than others at the blob's end; None when the sender does not hold it."""

    digest: str
    data: bytes | None
    begin: int = 0


class Request(Message, frozen=True):
    """REQUEST: a client's operation; ``blob`` is the prompt it names, stored by the node that takes it."""

    path: str
    client: str
    op_id: str
    payload: bytes
    blob: bytes | None = None


class Reply(Message, frozen=True):
    """REPLY: a policy's answer to a client; ``blob`` is the output it names where the node could get it."""

    client: str
    op_id: str
    payload: bytes
    last: bool
    blob: bytes | None = None


class Hello(Message, frozen=True):
    """HELLO: the first frame of a connection."""

    wire: int


class Control(Message, frozen=True):
    """CONTROL: from the village's owner to a node, or a node's answer. ``data`` is plain."""

    command: str
    data: dict[str, Any]


_BODIES: dict[int, type[Message]] = {
    MESSAGE: Envelope, BLOB_GET: BlobGet, BLOB_PUT: BlobPut, REQUEST: Request, REPLY: Reply,
    CONTROL: Control, HELLO: Hello,
}  # fmt: skip
_decoders: dict[int, Any] = {kind: msgspec.msgpack.Decoder(body).decode for kind, body in _BODIES.items()}


def decode(kind: int, body: bytes) -> Any:
    """Return the struct in a frame's body.

    Raises:
        WireError: the kind is unknown or the body malformed.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        raise WireError(f"frame kind {kind}: allowed are {sorted(_decoders)}")
    try:
        return decoder(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"{KIND_NAMES[kind]} frame: {error}") from None


def pack(kind: int, body: bytes) -> bytes:
    """Return the frame's bytes."""
    return b"".join(pieces(kind, body))


def pieces(kind: int, body: bytes) -> tuple[bytes, ...]:
    """Return the frame's bytes in the pieces to write: a short frame as one, a long body uncopied after its header."""
    header = _HEADER.pack(len(body) + 1, kind)
    return (header + body,) if len(body) <= RECORD_BYTES else (header, body)


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return the next (kind, body).

    Raises:
        Refused: an impossible length.
        asyncio.IncompleteReadError: the connection ended.
    """
    length, kind = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if not 1 <= length <= FRAME_BYTES_MAX:
        raise Refused("length", f"frame of {length} bytes: allowed are 1 to {FRAME_BYTES_MAX}")
    return kind, await reader.readexactly(length - 1)


GREETING = pack(HELLO, encode(Hello(wire=WIRE_VERSION)))


def check_greeting(kind: int, body: bytes) -> None:
    """Refuse a first frame that is no greeting of this wire version.

    Raises:
        Refused: why.
    """
    if kind != HELLO:
        raise Refused("greeting", f"first frame: expected a hello, got kind {kind} ({KIND_NAMES.get(kind, 'unknown')})")
    try:
        version = decode(kind, body).wire
    except WireError as error:
        raise Refused("greeting", str(error)) from None
    if version != WIRE_VERSION:
        raise Refused("version", f"wire version {version}: this node's is {WIRE_VERSION}")
