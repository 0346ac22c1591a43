"""The verdict: what was opened against what a second worker computed, within a tolerance.

Two executors round differently, so equality would accuse the honest. A tolerance belongs to a pair of executors
(`models.inference.tolerances`) and is measured on honest pairs. Whoever opens leaves that are not the committed ones,
or nothing, is as guilty as who opens wrong ones.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from models.inference.tolerances import Tolerance
from policies.verification.commitment import Challenge, Commitment, Opening, belongs
from policies.verification.sketch import BLOCK, Array, project, read_leaf, signs, sketch_error
from policies.wire import Message

KV_CODINGS = {"fp32": "<f4", "int8": "<f4", "fp16": "<f2", "bf16": "<u2"}
"""How the numbers of a cache lie in a leaf, by the executor's format; bfloat16 is the upper half of a float32."""

Word = Literal["honest", "outputs", "cache", "tokens", "opening"]


class Recomputed(NamedTuple):
    """What a second worker found at a challenged place: float32, in order.

    Attributes:
        outputs: [positions with an output, width].
        keys: [positions of the block, key heads x width of a head].
        values: shaped as the keys.
        deficit: by how much the session's tokens fall short of the best ones, over the length of their logits; 0 where
            no token was chosen, and where tokens were drawn rather than taken for the best.
    """

    outputs: Array
    keys: Array
    values: Array
    deficit: float = 0.0


class Verdict(Message, frozen=True):
    """What a check found; the errors are relative, infinite where nothing could be compared."""

    word: Word
    output_error: float
    cache_error: float

    @property
    def honest(self) -> bool:
        """Whether the worker passed."""
        return self.word == "honest"


def cache_leaf(keys: Array, values: Array, dtype: str) -> bytes:
    """Return the bytes that stand for one layer's keys and values of a block in a hash tree."""
    joined = np.ascontiguousarray(np.stack((keys, values)), dtype=np.float32)
    if dtype == "bf16":
        return (joined.view(np.uint32) >> 16).astype("<u2").tobytes()
    return joined.astype(KV_CODINGS[dtype]).tobytes()


def read_cache_leaf(leaf: bytes, dtype: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return keys and values of a leaf as float32 [positions, numbers].

    Raises:
        ValueError: the leaf has another length, or numbers that are not finite.
    """
    raw = np.frombuffer(leaf, KV_CODINGS[dtype]).reshape(2, *shape)
    wide = (raw.astype(np.uint32) << 16).view(np.float32) if dtype == "bf16" else raw.astype(np.float32)
    if not np.isfinite(wide).all():
        raise ValueError("cache: holds values that are not finite")
    return wide[0], wide[1]


def judge(
    commitment: Commitment, challenge: Challenge, opening: Opening, found: Recomputed, tolerance: Tolerance
) -> Verdict:
    """Return the verdict on one opening.

    Args:
        commitment: what the worker had bound itself to.
        challenge: what was drawn after it.
        opening: what the worker showed.
        found: the same place, computed by somebody else.
        tolerance: of the pair of executors.
    """
    try:
        if not belongs(opening, commitment, challenge):
            return Verdict("opening", np.inf, np.inf)
        output, cache = errors(commitment, challenge, opening, found)
    except ValueError:
        return Verdict("opening", np.inf, np.inf)
    if not output <= tolerance.outputs:
        return Verdict("outputs", output, cache)
    if not cache <= tolerance.cache:
        return Verdict("cache", output, cache)
    # Two logits of an honest worker move against each other by sqrt(2) of the whole difference at most; sketches show
    # its length within a few tens of per cent, hence 2.
    return Verdict("honest" if found.deficit <= 2 * tolerance.outputs else "tokens", output, cache)


def errors(commitment: Commitment, challenge: Challenge, opening: Opening, found: Recomputed) -> tuple[float, float]:
    """Return how far an opening is from a recomputation: (outputs, cache).

    The first is the worst position's (`sketch_error`); the second is the difference's length over that of the cache's
    block, of keys or values, the larger.

    Raises:
        ValueError: an opening that cannot be read.
    """
    digest, sketch = read_leaf(opening.sketch, len(commitment.span(challenge.block)))
    onto = signs(commitment.context, digest, found.outputs.shape[1])
    output = sketch_error(sketch, project(found.outputs, onto), found.outputs)
    dtype = commitment.executor.rpartition(" ")[2]
    keys, values = read_cache_leaf(opening.cache, dtype, found.keys.shape)
    return output, max(apart(keys, found.keys), apart(values, found.values))


def apart(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Return the length of the difference over the length of the second."""
    wide = other.astype(np.float64)
    return float(np.linalg.norm(one.astype(np.float64) - wide) / max(float(np.linalg.norm(wide)), 1e-30))


def cache_block(commitment: Commitment, block: int) -> range:
    """Return the positions of a block of the cache."""
    return range(block * BLOCK, min((block + 1) * BLOCK, commitment.positions))
