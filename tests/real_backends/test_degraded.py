"""Real workers with two models: two of four processes die and return, and each answer is the named model's own."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.results import load
from policies.gateway import Answer, AnswerBy, Part
from policies.wire import encode
from real_backends.clock import SystemClock
from real_backends.compute import Compute
from real_backends.executors import Pipeline, make_shard
from real_backends.local import run_local
from real_backends.models import open_model
from real_backends.node import answer_blob
from real_backends.stages import Stages
from scenarios.record import TABLES
from scenarios.schema import build, to_plain

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

CRASHES = [{"kind": "crash", "at_s": 9.0, "node": node, "down_s": 3.0} for node in ("desk-2", "desk-3")]


def test_a_worker_loads_either_model_by_layer_range_and_keeps_one() -> None:
    """Asked for layers of the other model it lets the first one's go, and computes what that model alone computes."""
    scenario = load("degraded", profile="", world="local")
    stages = Stages(
        None, Compute(), {name: partial(open_model, scenario, name) for name in scenario.models}, "torch", SystemClock()  # type: ignore[arg-type]
    )  # fmt: skip

    async def run() -> None:
        x = np.array([5, 6, 7])
        for model, shape in scenario.models.items():
            edges = (0, shape.layers // 2, shape.layers)
            out = x
            for first, last in pairwise(edges):
                await stages.load(model, first, last)
                shard = stages.shards.held[(model, first, last)]
                out = shard.forward(f"{model}-{first}", out, 0)
            assert {key[0] for key in stages.shards.held} == {model}
            spec, weights = open_model(scenario, model)
            whole = make_shard("torch", spec, weights, 0, spec.layers)
            np.testing.assert_allclose(out, whole.forward("all", x, 0), atol=1e-4)
            assert Pipeline([whole]).generate([5, 6, 7], 1) == [int(np.argmax(out))]

    asyncio.run(run())
    stages.compute.close()


def test_an_answer_s_blob_is_found_whoever_answered() -> None:
    """A node fetches what either model answered for the client; a part names no blob."""
    assert answer_blob(encode(Answer("digest", 4, 7, "w1"))) == ("digest", "w1", 16)
    assert answer_blob(encode(AnswerBy("digest", 4, 7, "w1", "desk-mini"))) == ("digest", "w1", 16)
    assert answer_blob(encode(Part(0, (1,)))) is None


REPLAN = {"dwell_s": 5.0, "horizon_s": 60.0, "drain_s": 2.0, "load_bytes_per_s": 1e9, "service": "standard"}


@pytest.mark.nightly
@pytest.mark.parametrize("replan", [None, REPLAN], ids=["chosen", "chosen and moved"])
def test_large_small_large_for_real(tmp_path: Path, replan: dict[str, Any] | None) -> None:
    """Torch workers load both by layer range. What the small model answered is what one process alone says with it."""
    quick: dict[str, Any] = {
        "policy__coordination__degrade__dwell_s": 3.0,
        "policy__coordination__degrade__drain_s": 2.0,
    }
    plain = to_plain(load("degraded", profile="", world="local", duration_s=60.0, workload__requests=60, **quick))
    plain["policy"]["coordination"]["replan"] = replan
    record = run_local(build(plain | {"faults": CRASHES}), tmp_path)
    rows = [dict(zip(TABLES["requests"], row, strict=True)) for row in record.tables["requests"]]
    rows.sort(key=lambda row: row["arrival_s"])
    assert {row["status"] for row in rows} == {"answered"}
    assert all(row["correct"] for row in rows)
    models = [row["model"] for row in rows]
    assert models[0] == models[-1] == "desk-tiny"
    assert "desk-mini" in models
    assert record.summary["answered_by_desk-mini"] == models.count("desk-mini")
    assert {name: verdict for name, verdict in record.manifest["checks"].items() if verdict is not True} == {}
    shown = [row[4] for row in record.tables["decisions"] if row[3] == "offered"]
    assert any("desk-tiny" not in one for one in shown)
