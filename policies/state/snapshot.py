"""A state as bytes: ``VTSTATE`` | BLAKE2b-160 of the body | body, which is [version, applied, a part's bytes, ...].

The form is canonical: who applied the same commands has the same bytes, so members can compare a snapshot by its
digest. It is bounded, and refused in one line when anything about it is wrong: half a state is never taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from policies.state.part import Part
from policies.wire import encode

MAGIC = b"VTSTATE"
VERSION = 3
BYTES_MAX = 64 << 20
"""Our bound, as for a record of the log (`policies.log`)."""
_DIGEST_BYTES = 20
_body = msgspec.msgpack.Decoder(tuple[int, int, tuple[bytes, ...]]).decode


class SnapshotError(ValueError):
    """These bytes are no snapshot that can be used; the message says why in one line."""


def pack(applied: int, parts: Sequence[Part]) -> bytes:
    """Return the snapshot of a state after ``applied`` commands."""
    body = encode((VERSION, applied, tuple(encode(part.saved()) for part in parts)))
    return MAGIC + blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def unpack(data: bytes, parts: Sequence[Part]) -> int:
    """Fill the parts of a new state from a snapshot, and return how many commands it holds.

    Raises:
        SnapshotError: too large, not a snapshot, damaged, of another version, or not lawful.
    """
    if len(data) > BYTES_MAX:
        raise SnapshotError(f"state snapshot of {len(data)} bytes: allowed are {BYTES_MAX}")
    if not data.startswith(MAGIC):
        raise SnapshotError(f"state snapshot of {len(data)} bytes: does not begin with {MAGIC.decode()}")
    start = len(MAGIC) + _DIGEST_BYTES
    if blake2b(data[start:], digest_size=_DIGEST_BYTES).digest() != data[len(MAGIC) : start]:
        raise SnapshotError(f"state snapshot of {len(data)} bytes: damaged, its digest is another")
    try:
        version, applied, bodies = _body(data[start:])
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"state snapshot of {len(data)} bytes: {error}") from None
    if version != VERSION or len(bodies) != len(parts) or applied < 0:
        raise SnapshotError(
            f"state snapshot: version {version}, {len(bodies)} parts; read are version {VERSION}, {len(parts)} parts"
        )
    for part, body in zip(parts, bodies, strict=True):
        try:
            part.load(msgspec.msgpack.decode(body, type=part.form))
        except (ValueError, UnicodeDecodeError) as error:  # msgspec's errors are ValueErrors
            raise SnapshotError(f"state snapshot: {part.name}: {error}") from None
    return applied
