"""The worker's side of verification: what a shard computed is noted as it passes, so that it can be committed to.

A witness stands in a shard's place and keeps the rows that came in and went out, until the session is committed to;
keys and values are the shard's own cache. What is kept then, until the check is drawn, is the evidence: 64 bytes a
position of sketches, and the cache (`policies.verification`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

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

    @property
    def bytes_held(self) -> int:
        """What that takes here, with the hashes of all leaves."""
        return self.bytes_kept + HASH_BYTES * sum(map(len, self._hashes))

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
    """A shard whose work can be committed to; see `Shard`.

    Args:
        shard: does the work.
    """

    def __init__(self, shard: Shard) -> None:
        self.inner = shard
        self.spec, self.first, self.last, self.dtype = shard.spec, shard.first, shard.last, shard.dtype
        self.backend, self.device, self.threads = shard.backend, shard.device, shard.threads
        self.warm_up, self.sessions, self.cached, self.restore = (
            shard.warm_up, shard.sessions, shard.cached, shard.restore,
        )  # fmt: skip
        self.kv_bytes, self.pool_bytes, self.table = shard.kv_bytes, shard.pool_bytes, shard.table
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
        return _in_order(self._inputs[session])

    def drop(self, session: str) -> None:
        """Free a session and what was noted of it."""
        self.inner.drop(session)
        self._inputs.pop(session, None)
        self._outputs.pop(session, None)

    def rename(self, session: str, name: str) -> None:
        """See `Shard.rename`; what was noted goes along."""
        self.inner.rename(session, name)
        self._inputs[name], self._outputs[name] = self._inputs.pop(session, {}), self._outputs.pop(session, {})

    def names(self) -> list[str]:
        """Return the sessions of which something was noted."""
        return list(self._inputs)

    def keep(self, session: str) -> Kept:
        """Return a copy of what can be committed to, of a session that is still held.

        Raises:
            ValueError: there is no such session.
        """
        keys, values = self.cached(session)
        executor = f"{self.backend} {self.dtype}"
        noted = dict(self._inputs[session]), dict(self._outputs[session])
        return Kept(executor, self.first, self.last, self.last == self.spec.layers, keys, values, *noted)

    def commit(self, session: str, name: str, tokens: npt.NDArray[np.int64], prompt_tokens: int) -> Evidence:
        """Bind this stage to what it did in a session that is still held; see `Kept.commit`."""
        return self.keep(session).commit(name, tokens, prompt_tokens)


class Kept(NamedTuple):
    """What a stage did in one session: its cache, and the rows that came in and went out, by position."""

    executor: str
    first: int
    last: int
    speaks: bool  # whether these are the model's last layers
    keys: Rows
    values: Rows
    came: dict[int, Any]
    went: dict[int, Rows]

    @property
    def bytes(self) -> int:
        """What all of it takes."""
        rows = sum(np.asarray(row).nbytes for noted in (self.came, self.went) for row in noted.values())
        return self.keys.nbytes + self.values.nbytes + rows

    def after(self, earlier: Kept) -> Kept:
        """Return the same, with the rows of a cache that this one was rebuilt from."""
        return self._replace(went=earlier.went | self.went)

    def inputs(self, count: int) -> npt.NDArray[Any]:
        """What came in at the first ``count`` positions; see `Witness.inputs`."""
        return _in_order(self.came)[:count]

    def outputs(self, count: int) -> Rows:
        """What went out at the first ``count`` positions, of a stage that does not speak: what the next one took."""
        return np.stack([self.went[position] for position in range(count)])

    def commit(self, name: str, tokens: npt.NDArray[np.int64], prompt_tokens: int) -> Evidence:
        """Bind the stage to what it did.

        Args:
            name: the village's name of the session.
            tokens: prompt and answer, one more than are committed to: nothing was computed of the last one.
            prompt_tokens: how many of them were the prompt.

        Raises:
            ValueError: a position that is not held, or whose output was never seen.
        """
        layers, held = self.keys.shape[:2]
        count = len(tokens) - 1
        if held < count:
            raise ValueError(f"session {name!r}: {held} positions are held, {count} were said")
        begin = prompt_tokens - 1 if self.speaks else 0
        if absent := [position for position in range(begin, count) if position not in self.went]:
            raise ValueError(f"session {name!r}: no output was seen at position {absent[0]}")
        context = boundary(name, self.last)
        outputs = np.stack([self.went[position] for position in range(begin, count)])
        sketches = [leaf_of(context, block) for block in blocks_of(outputs, begin)]
        flat = (layers, count, -1)
        cache = [
            cache_leaf(k, v, self.executor.split()[1])
            for layer in zip(self.keys[:, :count].reshape(flat), self.values[:, :count].reshape(flat), strict=True)
            for k, v in zip(*map(blocks_of, layer), strict=True)
        ]
        came = [] if self.first == 0 else blocks_of(self.inputs(count))
        commitment = Commitment(
            session=name,
            executor=self.executor,
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


def _in_order(noted: dict[int, Any]) -> npt.NDArray[Any]:
    return np.stack([noted[position] for position in range(len(noted))])
