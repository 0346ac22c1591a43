"""Runs of one stage that are compared to learn how far honest workers are apart, and cheats from them.

A worker decodes, one token of a session a step, in some batch; a verifier recomputes as `recheck` does. Both leave the
same things: outputs, keys and values by position. Comparing is `policies.verification`'s, as in a check.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from policies.verification.sketch import BLOCK, Array, digest_of, project, signs, sketch_error
from policies.verification.verdict import apart
from real_backends.executors.shard import Part, Shard
from real_backends.executors.witness import blocks_of

Inputs = npt.NDArray[Any]
CONTEXT = b"calibration"


class Run(NamedTuple):
    """One stage's work on some sessions of equal length.

    Attributes:
        begin: first position with an output.
        outputs: [sessions, positions from begin on, width].
        cache: keys and values, each [sessions, layers, positions, numbers].
    """

    begin: int
    outputs: Array
    cache: tuple[Array, Array]


def work(shard: Shard, inputs: Inputs, begin: int, together: int, rebuild_every: int) -> Run:
    """Decode: a prompt of ``begin`` + 1 tokens, then one token of each session a step.

    Args:
        shard: a stage.
        inputs: token ids [sessions, n] or activations [sessions, n, hidden].
        begin: first position whose output counts; the prompt ends there.
        together: sessions in a step.
        rebuild_every: the cache is dropped and rebuilt by one prefill at every so many positions; 0 for never.
    """
    sessions, length = inputs.shape[:2]
    rows: list[list[Array]] = [[] for _ in range(sessions)]
    cache = []
    for low in range(0, sessions, together):
        group = range(low, min(low + together, sessions))
        for at in range(begin, length):
            fresh = at == begin or (rebuild_every > 0 and at % rebuild_every == 0)
            if fresh:
                for s in group:
                    shard.drop(f"work-{s}")
            first = 0 if fresh else at
            found = shard.step([Part(f"work-{s}", inputs[s, first : at + 1], first) for s in group])
            for s, out in zip(group, found, strict=True):
                rows[s].append(out if out.ndim == 1 else out[-1])
        cache += [_cache_of(shard, f"work-{s}") for s in group]
        for s in group:
            shard.drop(f"work-{s}")
    return Run(begin, np.stack([np.stack(r) for r in rows]), _joined(cache))


def again(shard: Shard, inputs: Inputs, begin: int, together: int) -> Run:
    """Recompute as a verifier does: one prefill, and for logits a prefill up to each block and its tokens one by one.

    ``together`` sessions are rechecked in a step.
    """
    outputs, cache = [], []
    names = [f"again-{s}" for s in range(len(inputs))]
    for name, stream in zip(names, inputs, strict=True):
        rows = shard.forward(name, stream, 0)
        cache.append(_cache_of(shard, name))
        shard.drop(name)
        outputs.append(rows[begin:] if rows.ndim == 2 else rows)
    if shard.last < shard.spec.layers:
        return Run(begin, np.stack(outputs), _joined(cache))
    spoken = []
    for low in range(0, len(inputs), together):
        group = range(low, min(low + together, len(inputs)))
        steps = []
        for at in range(begin, inputs.shape[1]):
            first = 0 if at == begin or at % BLOCK == 0 else at
            steps.append(shard.step([Part(names[s], inputs[s, first : at + 1], first) for s in group]))
        spoken += [np.stack(rows) for rows in zip(*steps, strict=True)]
        for s in group:
            shard.drop(names[s])
    return Run(begin, np.stack(spoken), _joined(cache))


def _cache_of(shard: Shard, session: str) -> tuple[Array, Array]:
    keys, values = (part.reshape(*part.shape[:2], -1) for part in shard.cached(session))
    return keys, values


def _joined(caches: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.stack([keys for keys, _ in caches]), np.stack([values for _, values in caches])


def some(run: Run, sessions: int) -> Run:
    """Return the first so many sessions of a run."""
    keys, values = run.cache
    return Run(run.begin, run.outputs[:sessions], (keys[:sessions], values[:sessions]))


class Sketched(NamedTuple):
    """A worker's blocks with their signs and sketches, by session, to be held against several verifiers."""

    run: Run
    blocks: list[list[tuple[Array, Array]]]


def sketched(run: Run) -> Sketched:
    """Sketch every block of a worker's outputs."""
    found = []
    for outputs in run.outputs:
        row = []
        for block in blocks_of(outputs, run.begin):
            onto = signs(CONTEXT, digest_of(block), block.shape[1])
            row.append((onto, project(block, onto)))
        found.append(row)
    return Sketched(run, found)


def compare(worker: Sketched, verifier: Run) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the errors of every check that could be drawn: outputs [sessions, blocks], cache [.., blocks, layers].

    Blocks before the first output are left out of both, since no check is drawn there.
    """
    low = verifier.begin // BLOCK
    outputs = [
        [
            sketch_error(sketch, project(block, onto), block)
            for (onto, sketch), block in zip(row, blocks_of(found, verifier.begin), strict=True)
        ]
        for row, found in zip(worker.blocks, verifier.outputs, strict=True)
    ]
    shape = verifier.cache[0].shape
    cache = np.zeros((shape[0], -(-shape[2] // BLOCK) - low, shape[1]))
    for s, block, layer in np.ndindex(*cache.shape):
        at = (s, layer, slice((block + low) * BLOCK, (block + low + 1) * BLOCK))
        pairs = zip(worker.run.cache, verifier.cache, strict=True)
        cache[s, block, layer] = max(apart(ours[at], theirs[at]) for ours, theirs in pairs)
    return np.array(outputs), cache
