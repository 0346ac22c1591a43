"""A state that travels in chunks, each believed on its own: what both Byzantine protocols' state transfer is made of.

Members sign the digest of a `Manifest`, which names the digest of every chunk. So whoever shows a manifest shows what a
quorum signed or is found out at once; a chunk is right or wrong whoever sends it, whatever its sender promised; and
what one sender began another goes on with. It is the tree of digests of PBFT's state transfer (Castro and Liskov, TOCS
20(4), 2002), of one level, which is enough for states of this size.

One chunk is under way at a time, and whoever waits asks for it: a flood of chunks finds nobody who asked. Bounds: a
state of `STATE_BYTES_MAX`, a manifest of `CHUNKS_MAX` digests, one state that arrives at a time, and `CHUNKS_PER_S`
sent to anybody who asks.
"""

from __future__ import annotations

from hashlib import blake2b

from policies.port import NS_PER_S
from policies.wire import Message, encode

STATE_BYTES_MAX = 32 << 20
"""Largest state that a snapshot may hold: half of what `policies.log` takes for one record (our bound)."""
CHUNKS_MAX = 4096
"""Chunks of one state at most, so that its manifest is a message of some 140 kB (our bound)."""

CHUNKS_PER_S = 64
"""Chunks sent to one node in a second, so that a flood of questions is no flood of answers (our bound)."""


class Manifest(Message, frozen=True):
    """What a state is made of: its size in bytes and the digest of each chunk; all but the last are equally long."""

    size: int
    chunks: tuple[bytes, ...]


class GetChunk(Message, frozen=True, tag="get_chunk"):
    """Please send the chunk of this number of the state whose manifest has this digest."""

    state: bytes
    number: int


class Chunk(Message, frozen=True, tag="chunk"):
    """Answer to `GetChunk`."""

    state: bytes
    number: int
    data: bytes


def fits(size: int, chunk_bytes: int) -> bool:
    """Return whether a state of ``size`` bytes may travel."""
    return 0 <= size <= min(STATE_BYTES_MAX, CHUNKS_MAX * chunk_bytes)


def piece(state: bytes, number: int, chunk_bytes: int) -> bytes:
    """Return the chunk of this number, empty if there is none."""
    return state[number * chunk_bytes : (number + 1) * chunk_bytes] if number >= 0 else b""


def manifest_of(state: bytes, chunk_bytes: int) -> Manifest:
    """Return what ``state`` is made of."""
    starts = range(0, len(state), chunk_bytes)
    return Manifest(len(state), tuple(_digest(state[at : at + chunk_bytes]) for at in starts))


def digest_of(manifest: Manifest) -> bytes:
    """Return the 32 bytes that stand for a state: what members sign (BLAKE2b, RFC 7693)."""
    return blake2b(encode(manifest), digest_size=32, person=b"village state").digest()


def state_digest(state: bytes, chunk_bytes: int) -> bytes:
    """Return the digest of the manifest of ``state``."""
    return digest_of(manifest_of(state, chunk_bytes))


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=32, person=b"village chunk").digest()


class Arriving:
    """A state that arrives.

    Args:
        manifest: what it is made of, as a quorum signed it.
        chunk_bytes: length of a chunk, the same at all members.
        before: another that was arriving; chunks that are the same need not come again.

    Attributes:
        digest: what stands for the state.
        parts: chunks that are here, by digest.
    """

    def __init__(self, manifest: Manifest, chunk_bytes: int, before: Arriving | None = None) -> None:
        self.manifest, self.chunk_bytes = manifest, chunk_bytes
        self.digest = digest_of(manifest)
        wanted, held = set(manifest.chunks), {} if before is None else before.parts
        self.parts: dict[bytes, bytes] = {digest: data for digest, data in held.items() if digest in wanted}

    @property
    def possible(self) -> bool:
        """Whether such a state may be: of a size within the bounds, and of so many chunks as that size takes."""
        size, each = self.manifest.size, self.chunk_bytes
        return fits(size, each) and len(self.manifest.chunks) == -(-size // each)

    @property
    def due(self) -> int | None:
        """The number of the chunk to ask for; None once all are here."""
        return next((k for k, digest in enumerate(self.manifest.chunks) if digest not in self.parts), None)

    def ask(self) -> GetChunk | None:
        """Return what to ask for now, whomever; None once all is here."""
        due = self.due
        return None if due is None else GetChunk(self.digest, due)

    def take(self, chunk: Chunk) -> bool:
        """Take a chunk of this state in; return whether it is what its place asks for."""
        if not 0 <= chunk.number < len(self.manifest.chunks) or len(chunk.data) > self.chunk_bytes:
            return False
        digest = _digest(chunk.data)
        if digest != self.manifest.chunks[chunk.number]:
            return False
        self.parts[digest] = chunk.data
        return True

    def state(self) -> bytes:
        """Return the whole, once nothing is due."""
        return b"".join(self.parts[digest] for digest in self.manifest.chunks)


class Serving:
    """Who was sent chunks lately: node to the second, on this node's clock, and how many in it."""

    def __init__(self) -> None:
        self.sent: dict[str, tuple[int, int]] = {}

    def allows(self, peer: str, now_ns: int) -> bool:
        """Count a question; return whether it is answered."""
        second, count = now_ns // NS_PER_S, 0
        if peer in self.sent and self.sent[peer][0] == second:
            count = self.sent[peer][1]
        self.sent[peer] = (second, count + 1)
        return count < CHUNKS_PER_S
