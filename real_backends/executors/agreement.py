"""How far two ways to run a model agree: the same tokens are forced through both, and all logits are compared.

Forcing keeps the histories equal, so that one different token is one difference and not the end of the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from real_backends.executors.pipeline import Pipeline
from real_backends.executors.shard import Part

GAP_MIN = (
    1e-3  # two ways must choose the same token wherever its logit leads by more; some 20 times what they differ by
)
STAGGER = 4  # sessions of a step are up to so many positions apart, less one


class Agreement(NamedTuple):
    """What a comparison of two ways found.

    Attributes:
        positions: how many logit vectors were compared.
        close: how many have a lead of at most `GAP_MIN`.
        differing: positions at which another token is chosen.
        wrong: those among them where the lead exceeds `GAP_MIN`; 0 for two exact ways.
        worst: largest difference of a logit.
    """

    positions: int
    close: int
    differing: int
    wrong: int
    worst: float


def draw_streams(vocab: int, sessions: int, length: int, seed: int) -> npt.NDArray[np.int64]:
    """Random tokens [sessions, length], the same on every machine."""
    # The raw words of a bit generator are fixed for ever, its distributions are not (NEP 19).
    raw = np.random.PCG64(np.random.SeedSequence([seed, 0x746F6B])).random_raw(sessions * length)
    return (np.asarray(raw, dtype=np.uint64) % np.uint64(vocab)).astype(np.int64).reshape(sessions, length)


def force(
    line: Pipeline, streams: npt.NDArray[np.int64], *, together: int = 1, rebuild_every: int = 0
) -> npt.NDArray[np.float32]:
    """Logits [sessions, length, vocab] after each token of each stream.

    Args:
        line: the model.
        streams: token ids [sessions, length].
        together: sessions in a step. They begin one after another, so that each has its own length.
        rebuild_every: the cache is thrown away and rebuilt by one prefill of the whole history at every so many
            positions; 0 for never.
    """
    sessions, length = streams.shape
    logits = np.empty((sessions, length, line.shards[0].spec.vocab), np.float32)
    for begin in range(0, sessions, together):
        group = range(begin, min(begin + together, sessions))
        for turn in range(length + (STAGGER if together > 1 else 1) - 1):
            at = {s: turn - (s % STAGGER if together > 1 else 0) for s in group}
            running = {s: position for s, position in at.items() if 0 <= position < length}
            parts = [_part(line, s, streams[s], position, rebuild_every) for s, position in running.items()]
            for (s, position), row in zip(running.items(), line.step(parts), strict=True):
                logits[s, position] = row
        for s in group:
            line.drop(f"forced-{s}")
    return logits


def _part(line: Pipeline, session: int, stream: npt.NDArray[np.int64], position: int, rebuild_every: int) -> Part:
    name, begin = f"forced-{session}", position
    if rebuild_every and position % rebuild_every == 0:
        line.drop(name)
        begin = 0
    return Part(name, stream[begin : position + 1], begin)


def gaps_of(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The lead of the largest over the second largest along the last axis."""
    best = np.partition(logits, -2, axis=-1)
    gaps: npt.NDArray[np.float32] = best[..., -1] - best[..., -2]
    return gaps


def compare(expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> Agreement:
    """Compare logits of the same shape [.., vocab]; the leads are those of `expected`."""
    gaps = gaps_of(expected)
    differs = expected.argmax(-1) != found.argmax(-1)  # argmax takes the lowest id of equal logits
    return Agreement(
        positions=gaps.size,
        close=int((gaps <= GAP_MIN).sum()),
        differing=int(differs.sum()),
        wrong=int((differs & (gaps > GAP_MIN)).sum()),
        worst=float(np.abs(expected - found).max()),
    )


def boundaries(line: Pipeline, parts: Sequence[Part]) -> dict[int, list[npt.NDArray[np.float32]]]:
    """Run one step and return what left each shard, by the layer after its last; the last one's are logits."""
    left: dict[int, list[npt.NDArray[np.float32]]] = {}
    for shard in line.shards:
        results = shard.step(parts)
        left[shard.last] = results
        parts = [part._replace(x=x) for part, x in zip(parts, results, strict=True)]
    return left
