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
from typing import Generic, TypeVar

from policies.consensus.fields import Digest
from policies.port import NS_PER_S
from policies.wire import Message, encode

STATE_BYTES_MAX = 32 << 20
"""Largest state that a snapshot may hold: half of what `policies.log` takes for one record (our bound)."""
CHUNKS_MAX = 4096
"""Chunks of one state at most, so that its manifest is a message of some 140 kB (our bound)."""

CHUNKS_PER_S = 64
"""Chunks sent to one node in a second, so that a flood of questions is no flood of answers (our bound)."""
BYTES_PER_S = 64 << 20
"""Bytes of blocks, or of batches, sent to one node that asks for them in a second: as many as so many chunks of a
mebibyte, which is half of what a link of a gigabit a second takes (our bound)."""

ROUNDS = 2
"""Times that every holder is asked in vain before a state is given up: who has another shows it (our own bound)."""


class Manifest(Message, frozen=True):
    """What a state is made of: its size in bytes and the digest of each chunk; all but the last are equally long."""

    size: int
    chunks: tuple[Digest, ...]


class GetChunk(Message, frozen=True, tag="get_chunk"):
    """Please send the chunk of this number of the state whose manifest has this digest."""

    state: Digest
    number: int


class Chunk(Message, frozen=True, tag="chunk"):
    """Answer to `GetChunk`."""

    state: Digest
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


Given = TypeVar("Given")


class Arriving(Generic[Given]):
    """A state that arrives, and whom to ask for it.

    Args:
        given: what a member showed of it, with the proof that a quorum signed it.
        manifest: what it is made of.
        chunk_bytes: length of a chunk, the same at all members.

    Attributes:
        digest: what stands for the state.
        parts: chunks that are here, by digest.
        holders: who may have it, the one to be asked next first.
        vain: how often somebody was asked in a row without a chunk coming.
    """

    def __init__(self, given: Given, manifest: Manifest, chunk_bytes: int) -> None:
        self.given, self.manifest, self.chunk_bytes = given, manifest, chunk_bytes
        self.digest = digest_of(manifest)
        self.parts: dict[bytes, bytes] = {}
        self.holders: tuple[str, ...] = ()
        self.vain = 0

    @property
    def possible(self) -> bool:
        """Whether such a state may be: of a size within the bounds, and of so many chunks as that size takes."""
        size, each = self.manifest.size, self.chunk_bytes
        return fits(size, each) and len(self.manifest.chunks) == -(-size // each)

    def begin(self, holders: tuple[str, ...], before: Arriving[Given] | None) -> None:
        """It is proven: these may have it. Chunks of a state that arrived ``before`` need not come again."""
        wanted = set(self.manifest.chunks)
        self.holders = holders
        self.parts = {} if before is None else {d: data for d, data in before.parts.items() if d in wanted}

    @property
    def due(self) -> int | None:
        """The number of the chunk to ask for; None once all are here."""
        return next((k for k, digest in enumerate(self.manifest.chunks) if digest not in self.parts), None)

    def asks(self, chunk: Chunk) -> bool:
        """Return whether this chunk is what is asked for; any other is late, comes twice, or was never wanted."""
        return chunk.state == self.digest and chunk.number == self.due

    def take(self, sender: str, chunk: Chunk) -> bool:
        """Take the chunk that is due; return whether it is right. Whoever sent a wrong one is asked no more.

        Another is to be asked then only if the sender was in ``holders``: else a flood of wrong ones would use up all
        the asking in vain before a right one comes.
        """
        digest = _digest(chunk.data)
        if digest != self.manifest.chunks[chunk.number]:
            self.holders = tuple(name for name in self.holders if name != sender)
            return False
        self.parts[digest], self.vain = chunk.data, 0
        return True

    def another(self) -> str | None:
        """Return whom to ask now that nothing has come; None after all were asked `ROUNDS` times in vain."""
        self.vain += 1
        if self.vain > ROUNDS * len(self.holders):
            return None
        self.holders = (*self.holders[1:], self.holders[0])
        return self.holders[0]

    def state(self) -> bytes:
        """Return the whole, once nothing is due."""
        return b"".join(self.parts[digest] for digest in self.manifest.chunks)


class Serving:
    """Who was sent something lately: node to the second, on this node's clock, and how much in it.

    Args:
        per_s: chunks, or bytes, that are sent to one node in a second; the last answer may go beyond it.
    """

    def __init__(self, per_s: int) -> None:
        self.per_s = per_s
        self.sent: dict[str, tuple[int, int]] = {}

    def allows(self, peer: str, now_ns: int) -> bool:
        """Return whether a question is answered."""
        second, amount = self.sent.get(peer, (0, 0))
        return second != now_ns // NS_PER_S or amount < self.per_s

    def count(self, peer: str, now_ns: int, amount: int = 1) -> None:
        """Count what is sent."""
        second, before = self.sent.get(peer, (0, 0))
        now_s = now_ns // NS_PER_S
        self.sent[peer] = (now_s, amount + (before if second == now_s else 0))
