"""Sketches: random projections of activations, small enough to be kept, that no worker can prepare for.

A block of up to `BLOCK` positions is projected on `PROJECTIONS` vectors of random signs in float32 (Achlioptas,
"Database-friendly random projections", JCSS 66, 2003: the squared length of a projection is that of the vector, on
average, and its spread is that of a chi square with `PROJECTIONS` degrees of freedom). The signs come from SHAKE-128
(FIPS 202), seeded with the check's context and *the digest of the block itself*.

What is sound. A worker that has not computed the block cannot sketch it: the digest, and with it the signs, would have
to be known first. To send a block on that differs from the right one, and yet fits the sketch of the right one, it
would have to find a difference that all signs cancel while each try draws new signs: a difference d times the tolerance
passes with a chance below (0.8 / d) ** PROJECTIONS a try. Who receives the block sketches what came, so that sender and
receiver must have committed to the same digest.

What is not. A worker may do all the work and then lie about something that no leaf holds. It may cheat in few
blocks and hope that others are drawn: see `policies.verification.law`. Neighbours that lie together count as one
stage: between them anything may be sent. And a worker that holds the right activations and somebody else's
cheap ones passes, since it did the work.
"""

from __future__ import annotations

from hashlib import sha256, shake_128

import numpy as np
import numpy.typing as npt

from policies.verification.hashtree import HASH_BYTES

Array = npt.NDArray[np.float32]

BLOCK = 16
"""Positions of a block: as many as a block of the cache has (`policies.serving.batching.BLOCK_TOKENS`)."""
PROJECTIONS = 16
"""Our choice: 64 bytes a position, and a chance of 1e-6 that a sketch shows less than a third of a difference."""


def digest_of(block: Array) -> bytes:
    """Return the SHA-256 of a block's values as little-endian float32, in order."""
    return sha256(np.ascontiguousarray(block, dtype="<f4").data).digest()


def signs(context: bytes, digest: bytes, width: int) -> Array:
    """Return the projections of a block: [width, PROJECTIONS] of +1 and -1.

    Args:
        context: what is checked, the same for all who check it.
        digest: of the block that is projected.
        width: numbers of one position.
    """
    count = width * PROJECTIONS
    stream = shake_128(sha256(context).digest() + digest).digest(-(-count // 8))
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=count)
    return (bits.astype(np.float32) * 2 - 1).reshape(width, PROJECTIONS)


def project(block: Array, onto: Array) -> Array:
    """Return the sketch [n, PROJECTIONS] of a block [n, width], in float32, scaled to the block's own length."""
    sketch: Array = block.astype(np.float32, copy=False) @ onto * np.float32(PROJECTIONS**-0.5)
    return sketch


def leaf_of(context: bytes, block: Array) -> bytes:
    """Return what a worker commits to of a block: its digest, then its sketch as little-endian float32."""
    digest = digest_of(block)
    return digest + project(block, signs(context, digest, block.shape[1])).astype("<f4").tobytes()


def read_leaf(leaf: bytes, positions: int) -> tuple[bytes, Array]:
    """Return digest and sketch [positions, PROJECTIONS] of a leaf.

    Raises:
        ValueError: another length, or numbers that are not finite.
    """
    expected = HASH_BYTES + 4 * positions * PROJECTIONS
    if len(leaf) != expected:
        raise ValueError(f"sketch: {len(leaf)} bytes, {positions} positions have {expected}")
    sketch = np.frombuffer(leaf, "<f4", offset=HASH_BYTES).astype(np.float32).reshape(positions, PROJECTIONS)
    if not np.isfinite(sketch).all():
        raise ValueError("sketch: holds values that are not finite")
    return leaf[:HASH_BYTES], sketch


def sketch_error(sketch: Array, expected: Array, block: Array) -> float:
    """Return the largest difference of two sketches of a position, over that position's own length.

    Args:
        sketch: what was committed to [n, PROJECTIONS].
        expected: what a recomputation gives, by the same signs.
        block: the recomputed activations [n, width].
    """
    apart = np.linalg.norm(sketch.astype(np.float64) - expected, axis=1)
    return float(np.max(apart / np.maximum(np.linalg.norm(block.astype(np.float64), axis=1), 1e-30)))
