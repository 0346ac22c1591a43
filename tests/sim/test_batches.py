"""Tests of sim.batches: an engine's requests in virtual time, by hand, in leaps, and against a real server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engines import KernelTables, Linear
from policies.serving.batching import BatchRules, Request
from sim.batches import Arrival, Engine

LAW = Linear(0.010, 0.001, 1e-5, 1e-6, 1e-4)
RULES = BatchRules(blocks=40, tokens_max=32, requests_max=6, block_tokens=4)
LOAD = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=12)


def arrivals(load: list[tuple[float, int, int]]) -> list[Arrival]:
    """Return a load as arrivals."""
    return [Arrival(at_s, Request(str(key), prompt, wanted)) for key, (at_s, prompt, wanted) in enumerate(load)]


def test_one_request_by_hand() -> None:
    """Its prompt in one iteration that speaks, then a token an iteration over a cache that grows."""
    (one,) = Engine(LAW, RULES).serve([Arrival(2.0, Request("r", 10, 3))]).served

    first = 0.010 + 10 * 0.001 + 0 + 1e-6 * 50 + 1e-4
    rest = sum(0.010 + 0.001 + (1e-5 + 1e-6) * context + 1e-4 for context in (11, 12))
    assert one.ttft_s == pytest.approx(first)
    assert one.tpot_s == pytest.approx(rest / 2)
    assert one.end_to_end_s == pytest.approx(first + rest)


@settings(max_examples=150, deadline=None)
@given(LOAD)
def test_leaps_change_no_time_but_by_rounding(load: list[tuple[float, int, int]]) -> None:
    """Where the law is linear, leaps give every request the times of the reference, in as many iterations."""
    slow, quick = (Engine(LAW, RULES, leaps=leaps).serve(arrivals(load)) for leaps in (False, True))

    assert quick.iterations == slow.iterations
    assert quick.events <= slow.events
    for ours, theirs in zip(quick.served, slow.served, strict=True):
        assert ours.first_s == pytest.approx(theirs.first_s, rel=1e-12)
        assert ours.last_s == pytest.approx(theirs.last_s, rel=1e-12)


def test_long_answers_take_few_events() -> None:
    """Ten requests of a thousand tokens are asked about less than once in fifty iterations."""
    rules = BatchRules(blocks=4000, tokens_max=64, requests_max=10, block_tokens=4)
    outcome = Engine(LAW, rules, leaps=True).serve(arrivals([(0.0, 8, 1000)] * 10))

    assert outcome.events * 50 < outcome.iterations


def test_two_requests_of_one_name_are_refused() -> None:
    """A result must say whose it is."""
    with pytest.raises(ValueError, match="same key"):
        Engine(LAW, RULES).serve([Arrival(0.0, Request("r", 1, 1)), Arrival(1.0, Request("r", 1, 1))])


def test_a_real_servers_requests_are_predicted(data_folder: Path) -> None:
    """vLLM 0.19 on an RTX 4090, from its kernels' tables and nothing fitted: TPOT and end to end within 3 %, the tail
    of the time to first token within 10 %, although its cache is full and requests lose their blocks."""
    from experiments.requests import read

    rows = read(data_folder / "traces/measured_serving/vllm_RTX4090_Llama-3.1-8B_requests.jsonl.gz")
    law = KernelTables(data_folder / "traces/profiles/llmservingsim_RTX4090_Llama-3.1-8B_tp1", 32)
    coming = [Arrival(row.at, Request(row.key, row.prompt, row.wanted)) for row in rows.itertuples()]
    served = Engine(law, BatchRules(41_408 // 16), leaps=True).serve(coming).served

    first, last, at, wanted = (rows[name].to_numpy(float) for name in ("first", "last", "at", "wanted"))
    ours = {name: np.array([getattr(one, name) for one in served]) for name in ("ttft_s", "tpot_s", "end_to_end_s")}
    assert ours["tpot_s"].mean() == pytest.approx(((last - first) / (wanted - 1)).mean(), rel=0.03)
    assert ours["end_to_end_s"].mean() == pytest.approx((last - at).mean(), rel=0.03)
    assert np.quantile(ours["ttft_s"], 0.9) == pytest.approx(np.quantile(first - at, 0.9), rel=0.10)
    assert sum(one.request.preempted for one in served) > 100
