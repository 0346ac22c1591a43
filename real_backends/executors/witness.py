"""The worker's side of verification: what a shard computed is noted as it passes, so that it can be committed to.

A witness stands in a shard's place and keeps the rows that came in and went out, until the session is committed to;
keys and values are the shard's own cache. What is kept then, until the check is drawn, is the evidence: 64 bytes a
position of sketches, and the cache (`policies.verification`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.verification import (
    BLOCK,
    Challenge,
    Commitment,
    Opening,
    cache_leaf,
    digest_of,
    hash_leaf,
    leaf_of,
    path_to,
    root_of,
    tokens_digest,
)
from policies.verification.commitment import boundary
from policies.verification.hashtree import HASH_BYTES
from real_backends.executors.shard import Part, Shard

Rows = npt.NDArray[np.float32]


class Evidence:
    """A commitment with the leaves under its roots, from which any challenge is answered."""

    def __init__(self, commitment: Commitment, sketches: Sequence[bytes], cache: Sequence[bytes]) -> None:
        self.commitment = commitment
        self._sketches, self._cache = sketches, cache
        self._hashes = [
            [hash_leaf(leaf) for leaf in leaves]
            for leaves in (sketches, [leaf[:HASH_BYTES] for leaf in sketches], cache)
        ]

    @property
    def bytes_kept(self) -> int:
        """What has to be kept until the challenge is drawn."""
        return sum(map(len, self._sketches)) + sum(map(len, self._cache))

    def open(self, challenge: Challenge) -> Opening:
        """Return the leaves at the challenged places, with their paths."""
        commitment = self.commitment
        at = challenge.block - commitment.output_from // BLOCK
        cached = challenge.layer * commitment.blocks + challenge.block
        sketches, outputs, cache = self._hashes
        return Opening(
            self._sketches[at], path_to(sketches, at), path_to(outputs, at), self._cache[cached], path_to(cache, cached)
        )


def blocks_of(rows: Rows, begin: int = 0) -> list[Rows]:
    """Cut rows [n, width], the first of them at position ``begin``, where blocks of positions end."""
    return np.split(rows, range(BLOCK - begin % BLOCK, len(rows), BLOCK))


class Witness:
    """A shard whose work can be committed to; see `Shard`."""

    def __init__(self, shard: Shard) -> None:
        self.inner = shard
        self.spec, self.first, self.last, self.dtype = shard.spec, shard.first, shard.last, shard.dtype
        self.backend, self.device, self.threads = shard.backend, shard.device, shard.threads
        self.warm_up, self.sessions, self.cached, self.drop = (
            shard.warm_up, shard.sessions, shard.cached, shard.drop,
        )  # fmt: skip
        # By session and position. A position that is run again, in a cache that is rebuilt, replaces its row.
        self._inputs: defaultdict[str, dict[int, Any]] = defaultdict(dict)
        self._outputs: defaultdict[str, dict[int, Rows]] = defaultdict(dict)

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> Rows:
        """See `Shard.forward`."""
        return self.step([Part(session, x, position)])[0]

    def step(self, parts: Sequence[Part]) -> list[Rows]:
        """See `Shard.step`."""
        results = self.inner.step(parts)
        for (session, x, position), rows in zip(parts, results, strict=True):
            end = position + len(x)
            self._inputs[session].update(zip(range(position, end), x, strict=True))
            if self.last == self.spec.layers:
                self._outputs[session][end - 1] = rows
            else:
                self._outputs[session].update(zip(range(position, end), rows, strict=True))
        return results

    def inputs(self, session: str) -> npt.NDArray[Any]:
        """What came in, in order of position: token ids [n] or activations [n, hidden]."""
        noted = self._inputs[session]
        return np.stack([noted[position] for position in range(len(noted))])

    def forget(self, session: str) -> None:
        """Drop a session and what was noted of it."""
        self.drop(session)
        self._inputs.pop(session, None)
        self._outputs.pop(session, None)

    def commit(self, session: str, name: str, tokens: npt.NDArray[np.int64], prompt_tokens: int) -> Evidence:
        """Bind this stage to what it did in a session that is still held.

        Args:
            session: the shard's name of it.
            name: the village's.
            tokens: of the session, prompt and answer, one more than the cache has positions.
            prompt_tokens: how many of them were the prompt.

        Raises:
            ValueError: a session that is not there, or a position whose output was never seen.
        """
        keys, values = self.cached(session)
        layers, count = keys.shape[:2]
        begin = prompt_tokens - 1 if self.last == self.spec.layers else 0
        noted = self._outputs[session]
        if absent := [position for position in range(begin, count) if position not in noted]:
            raise ValueError(f"session {session!r}: no output was seen at position {absent[0]}")
        context = boundary(name, self.last)
        outputs = np.stack([noted[position] for position in range(begin, count)])
        sketches = [leaf_of(context, block) for block in blocks_of(outputs, begin)]
        flat = (layers, count, -1)
        cache = [
            cache_leaf(k, v, self.dtype)
            for layer in zip(keys.reshape(flat), values.reshape(flat), strict=True)
            for k, v in zip(*map(blocks_of, layer), strict=True)
        ]
        came = [] if self.first == 0 else blocks_of(self.inputs(session))
        commitment = Commitment(
            session=name,
            executor=f"{self.backend} {self.dtype}",
            tokens=tokens_digest(tokens),
            first=self.first,
            last=self.last,
            positions=count,
            output_from=begin,
            inputs=root_of([hash_leaf(digest_of(block)) for block in came]),
            outputs=root_of([hash_leaf(leaf[:HASH_BYTES]) for leaf in sketches]),
            sketches=root_of([hash_leaf(leaf) for leaf in sketches]),
            cache=root_of([hash_leaf(leaf) for leaf in cache]),
        )
        return Evidence(commitment, sketches, cache)
