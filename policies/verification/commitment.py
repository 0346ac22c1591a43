"""What a worker binds itself to before it knows what will be looked at, what is looked at, and what it shows then.

A commitment is some 250 bytes, whatever the length of the session: roots over leaves that the worker keeps. A leaf of
the inputs and of the outputs is a block's digest, so that neighbours can be held against each other without opening
anything; a leaf of the sketches is the digest and the sketch (`policies.verification.sketch`); a leaf of the cache is
the keys and values of one layer in one block of positions. The challenge is drawn from a secret that was decided after
the commitment was, so that work must be as good everywhere as where it will be looked at.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from policies.verification.hashtree import HASH_BYTES, is_in
from policies.verification.sketch import BLOCK, PROJECTIONS
from policies.wire import Message, encode

Count = Annotated[int, Meta(ge=0, le=2**32)]
Root = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
Name = Annotated[str, Meta(max_length=64)]
"""Longer than any executor's: every word stands in the log, and a liar's must not fill it (our bound)."""

CACHE_LEAF_BYTES_MAX = 1 << 21
"""Our bound: keys and values of 16 positions, 16,384 numbers wide each, in float32. A liar may commit to any bytes, and
the leader holds what it opens, and sends it to every verifier again and again."""
Path = Annotated[tuple[Root, ...], Meta(max_length=64)]  # our bound: the leaves of a tree are counted in 64 bits


class Commitment(Message, frozen=True):
    """One stage's word for one session.

    Attributes:
        session: client, operation and attempt, as the village names them.
        executor: framework and format, as ``torch fp16``: chooses the tolerance.
        tokens: digest of all tokens of the session, prompt and answer, the last of which no cache holds.
        first: first layer.
        last: layer after the last.
        positions: filled in the cache.
        output_from: first position whose output counts; 0 but for the last stage, which speaks from the prompt's last
            token on (at earlier ones nobody uses what leaves the last layer).
        inputs: root over the digests of what came in, by block; of nothing for the first stage, which takes tokens.
        outputs: root over the digests of what went out.
        sketches: root over the same digests, each with the sketch of its block.
        cache: root over the cache's blocks, those of the first layer first.
    """

    session: str
    executor: Name
    tokens: Root
    first: Count
    last: Count
    positions: Count
    output_from: Count
    inputs: Root
    outputs: Root
    sketches: Root
    cache: Root

    @property
    def blocks(self) -> int:
        """Blocks of the session."""
        return -(-self.positions // BLOCK)

    @property
    def context(self) -> bytes:
        """What seeds the signs, beside each block's digest."""
        return boundary(self.session, self.last)

    def span(self, block: int) -> range:
        """Return the positions of a block that have an output."""
        return range(max(block * BLOCK, self.output_from), min((block + 1) * BLOCK, self.positions))


class Challenge(Message, frozen=True):
    """Show this block's sketch, and this layer's part of the cache in it; ``layer`` counts from the stage's first."""

    block: Count
    layer: Count


class Opening(Message, frozen=True):
    """The answer to a challenge: two leaves with their paths to the roots, and the path of the sketch's digest."""

    sketch: Annotated[bytes, Meta(max_length=HASH_BYTES + 4 * PROJECTIONS * BLOCK)]
    sketch_path: Path
    output_path: Path
    cache: Annotated[bytes, Meta(max_length=CACHE_LEAF_BYTES_MAX)]
    cache_path: Path


def boundary(session: str, layer: int) -> bytes:
    """Return the name of what passes between two stages of a session, before layer ``layer``."""
    return encode((session, layer))


def tokens_digest(tokens: npt.NDArray[np.int64]) -> bytes:
    """Return the SHA-256 of token ids as little-endian 64-bit integers."""
    return sha256(np.ascontiguousarray(tokens, dtype="<i8").data).digest()


def draw_challenge(secret: bytes, commitment: Commitment) -> Challenge:
    """Return what to look at: a block with an output and a layer, each as likely as any other (bias below 2**-32).

    Args:
        secret: 16 random bytes or more that were decided after the commitment was, and that its worker could neither
            know nor choose before. A digest of what carries the commitment would not do: the worker could vary its
            words until it liked the challenge.
        commitment: what was decided.

    Raises:
        ValueError: the secret is short, or nothing can be looked at.
    """
    if len(secret) < 16:
        raise ValueError(f"secret: {len(secret)} bytes, allowed are 16 or more")
    low = commitment.output_from // BLOCK
    if not (low < commitment.blocks and commitment.first < commitment.last):
        raise ValueError(f"commitment of {commitment.session}: no position or no layer to look at")
    drawn = sha256(secret + encode(commitment)).digest()
    words = (int.from_bytes(drawn[:8], "little"), int.from_bytes(drawn[8:16], "little"))
    return Challenge(low + words[0] % (commitment.blocks - low), words[1] % (commitment.last - commitment.first))


def belongs(opening: Opening, commitment: Commitment, challenge: Challenge) -> bool:
    """Whether what was opened is what the commitment holds at the challenged places."""
    low, blocks = commitment.output_from // BLOCK, commitment.blocks
    at, count = challenge.block - low, blocks - low
    cached, layers = challenge.layer * blocks + challenge.block, commitment.last - commitment.first
    return (
        is_in(commitment.sketches, opening.sketch, at, count, opening.sketch_path)
        and is_in(commitment.outputs, opening.sketch[:HASH_BYTES], at, count, opening.output_path)
        and is_in(commitment.cache, opening.cache, cached, layers * blocks, opening.cache_path)
    )


def follows(left: Commitment, right: Commitment) -> bool:
    """Whether two neighbours agree on what went from one to the other, bit for bit; if not, one of them lies."""
    return (left.session, left.tokens, left.positions, left.last) == (
        right.session, right.tokens, right.positions, right.first,
    ) and left.outputs == right.inputs  # fmt: skip
