"""JAX in a line that batches: sessions step together in programs that were there before the first of them came."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")
pytest.importorskip("jax", reason="jax is not installed: pip install 'villagetwin[jax]'")

from policies.jobs import Stage
from real_backends.executors import jax_shard
from tests.real_backends.session_nodes import STAGES, Node, run_nodes
from tests.real_backends.test_batches import (
    CROWDED,
    PROMPTS,
    ROOMY,
    all_said,
    alone,
    ask,
    same_where_decided,
    until_free,
)  # fmt: skip

SAID = 20
PROGRAMS = (jax_shard._layer, jax_shard._look_up, jax_shard._logits)


@pytest.fixture(scope="module")
def references() -> list[tuple[list[int], list[float]]]:
    """What torch says to each prompt alone."""
    return [alone(prompt, SAID) for prompt in PROMPTS]


@pytest.mark.parametrize(
    ("backends", "policy", "line"),
    [
        (("jax",), ROOMY, (STAGES[0], Stage("b", 3, 8))),
        (("jax", "torch"), ROOMY, STAGES),
        (("jax",), CROWDED, (Stage("a", 0, 8),)),
    ],
    ids=["jax", "mixed", "few blocks"],
)
def test_sessions_batch_in_jax(
    tmp_path: Path, references: Any, monkeypatch: pytest.MonkeyPatch, backends: Any, policy: Any, line: Any
) -> None:
    """They run in fewer programs than alone, say what torch says alone where that is decided, and none is compiled
    once a stage is ready."""
    ran: list[tuple[int, int]] = []
    before = jax_shard.JaxShard._run

    def noting(self: Any, caches: Any, xs: Any, padded: int, layers: int) -> Any:
        if caches:
            ran.append((len(xs), padded))
        return before(self, caches, xs, padded, layers)

    monkeypatch.setattr(jax_shard.JaxShard, "_run", noting)

    async def act(nodes: dict[str, Node]) -> None:
        for stage in line:
            await nodes[stage.node].host.stages.load("desk-tiny", stage.first, stage.last)
        programs = [f._cache_size() for f in PROGRAMS]
        for job, prompt in enumerate(PROMPTS):
            await ask(nodes["a"], job, prompt, line)
        found = await all_said(nodes["a"], len(PROMPTS))
        assert all(map(same_where_decided, found, references))
        assert [f._cache_size() for f in PROGRAMS] == programs
        await until_free(nodes)

    asyncio.run(run_nodes(tmp_path, act, policy=policy, backends=backends))
    assert max(sessions for sessions, _ in ran) > 1
    assert {padded for sessions, padded in ran if sessions > 1} == {1}
