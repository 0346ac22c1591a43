"""Requests that begin alike, in the twin: which blocks they share, and what need not be computed again.

Prompts have no tokens here: of a workload it is known how many of their first ones all prompts share. Batchers share
blocks themselves (`sim.rounds`); for sessions that step alone the same pool says what a real stage would still have.
Its blocks are filled when a session is submitted: whoever comes later queues behind it at every stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from policies.config import ServingRules, ShardingConfig
from policies.jobs import PreparedJob, SessionJob, Stage
from policies.serving.batching import BLOCK_TOKENS
from policies.serving.blocks import BlockPool, Name
from policies.serving.lanes import reserved_blocks
from sim.sessions import prefilled

Line = tuple[str, tuple[Stage, ...]]


@dataclass(eq=False)
class _Held:
    """A session's blocks: the pool that they are of, their names, and how many are without one."""

    pool: BlockPool
    names: list[Name] = field(default_factory=list)
    unnamed: int = 0


class Alike:
    """What the requests of a world have in common.

    Args:
        serving: whether blocks are shared.
        sharding: what stages have reserved.
        shared_tokens: with which all prompts begin.
    """

    def __init__(self, serving: ServingRules | None, sharding: ShardingConfig | None, shared_tokens: int) -> None:
        self.shares = serving is not None and serving.share_prefixes
        self._blocks = reserved_blocks(sharding) if sharding is not None else 1
        self._shared_tokens = shared_tokens
        self._pools: dict[Line, BlockPool] = {}
        self._held: dict[int, _Held] = {}

    def names(self, job: SessionJob) -> Sequence[Name]:
        """Return the names of a prompt's blocks that others have as well."""
        if not self.shares:
            return ()
        return [("beginning", block) for block in range(min(self._shared_tokens, job.prompt_tokens) // BLOCK_TOKENS)]

    def begin(self, number: int, job: SessionJob) -> int:
        """Let a session that steps alone take its blocks; return how many of its tokens it need not compute."""
        if not self.shares or isinstance(job, PreparedJob):
            return 0
        pool = self._pool(job)
        names, tokens = self.names(job), prefilled(job)
        known = names[: min(pool.known(names), (tokens - 1) // BLOCK_TOKENS)]
        pool.hold(known)
        held = self._held[number] = _Held(pool, list(known))
        if pool.take(missing := -(-tokens // BLOCK_TOKENS) - len(known)):
            held.unnamed = missing
            self._fill(held, [*names[len(known) :], *((number, n) for n in range(len(names), tokens // BLOCK_TOKENS))])
        return len(known) * BLOCK_TOKENS

    def end(self, number: int, tokens: int) -> None:
        """A session is over, or lost, with so many tokens in its cache; what it filled stays until it is needed."""
        held = self._held.pop(number, None)
        if held is None:
            return
        have = len(held.names) + held.unnamed
        if have and held.pool.take(missing := max(0, -(-tokens // BLOCK_TOKENS) - have)):
            held.unnamed += missing
            self._fill(held, [(number, n) for n in range(len(held.names), tokens // BLOCK_TOKENS)])
        held.pool.release(held.names, held.unnamed)

    def node_down(self, name: str) -> None:
        """What a node kept is gone; its sessions have ended."""
        self._forget({name})

    def _pool(self, job: SessionJob) -> BlockPool:
        """Return a pipeline's pool. With a new one ends what its nodes kept of others, whose shards it replaces."""
        line = job.model, job.stages
        if line not in self._pools:
            self._forget({stage.node for stage in job.stages})
            self._pools[line] = BlockPool(self._blocks)
        return self._pools[line]

    def _forget(self, nodes: set[str]) -> None:
        for line in [line for line in self._pools if any(stage.node in nodes for stage in line[1])]:
            del self._pools[line]

    def _fill(self, held: _Held, names: Sequence[Name]) -> None:
        for name in names:
            held.pool.fill(name)
            held.names.append(name)
            held.unnamed -= 1
