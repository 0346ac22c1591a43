"""Tests of sim.fluid: by hand, in closed form, and against iteration-level batching."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engines import KernelTables, Linear
from policies.serving.batching import BatchRules, Request
from sim.batches import Arrival, Engine, Fidelity, Outcome
from sim.fidelity import engine
from sim.fluid import Fluid

LAW = Linear(0.010, 0.001, 1e-5, 1e-6, 1e-4)
RULES = BatchRules(blocks=40, tokens_max=32, requests_max=6, block_tokens=4)
WAYS: tuple[Fidelity, ...] = ("fluid", "leaps")
A100 = Linear(9.2e-3, 5.9e-5, 1.8e-7, 2.2e-9, 4.4e-6)
"""About what an A100 takes for Llama-3.1-8B (`experiments.bench.batches`)."""
LOAD = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=12)


def arrivals(load: list[tuple[float, int, int]]) -> list[Arrival]:
    """Return a load as arrivals."""
    return [Arrival(at_s, Request(str(key), prompt, wanted)) for key, (at_s, prompt, wanted) in enumerate(load)]


def drawn(seed: int, count: int, rate_per_s: float, prompt: float, wanted: float) -> list[Arrival]:
    """Return requests that come by a Poisson process, of lognormal prompts and geometric answers."""
    rng = np.random.default_rng(seed)
    at_s = np.cumsum(rng.exponential(1.0 / rate_per_s, count))
    prompts = np.clip(rng.lognormal(np.log(prompt), 0.8, count), 1, 6000).astype(int)
    return arrivals(
        list(zip(at_s.tolist(), prompts.tolist(), rng.geometric(1.0 / wanted, count).tolist(), strict=True))
    )


def errors(ours: Outcome, reference: Outcome) -> dict[str, float]:
    """Return how far off mean TPOT, median end to end and the tail of the time to first token are, as shares."""
    kinds: dict[str, Callable[..., Any]] = {
        "tpot_s": np.mean,
        "end_to_end_s": np.median,
        "ttft_s": lambda values: np.quantile(values, 0.9),
    }
    found = {}
    for name, of in kinds.items():
        values = [[v for one in run.served if (v := getattr(one, name)) is not None] for run in (ours, reference)]
        found[name] = abs(float(of(values[0])) / float(of(values[1])) - 1.0)
    return found


def test_one_request_by_hand() -> None:
    """A prompt of three iterations and a bit, its pairs of tokens counted, then a token an iteration."""
    law = Linear(0.010, 0.001, 0.0, 1e-6, 1e-4)
    (one,) = Fluid(law, RULES).serve([Arrival(2.0, Request("r", 100, 3))]).served

    first = 4 * 0.010 + 100 * 0.001 + 1e-6 * 100 * 100 / 2 + 1e-4
    rest = sum(0.010 + 0.001 + 1e-6 * context + 1e-4 for context in (101, 102))
    assert one.ttft_s == pytest.approx(first)
    assert one.tpot_s == pytest.approx(rest / 2)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(2, 20))
def test_streams_alike_advance_by_the_law(streams: int, prompt: int, wanted: int) -> None:
    """All n take a + b n + c (sum of contexts) for each token, summed in closed form over their answer."""
    served = Fluid(LAW, RULES).serve(arrivals([(0.0, prompt, wanted)] * streams)).served

    b, c = LAW.token_s + LAW.spoken_s, LAW.context_s + LAW.pair_s
    mean = prompt + wanted / 2  # contexts from prompt + 1 to prompt + wanted - 1
    for one in served:
        assert one.tpot_s == pytest.approx(LAW.base_s + b * streams + c * streams * mean)


def test_decodes_come_before_prompts() -> None:
    """Of eight tokens an iteration of a second, four streams leave a prompt of twelve four: it takes three seconds."""
    rules = BatchRules(blocks=100, tokens_max=8, requests_max=8)
    coming = arrivals([(0.0, 1, 50)] * 4 + [(1.5, 12, 1)])
    served = Fluid(Linear(1.0, 0.0, 0.0, 0.0, 0.0), rules).serve(coming).served

    assert served[0].first_s == pytest.approx(1.0)
    assert served[4].first_s == pytest.approx(2.0 + 3.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 100)), min_size=1, max_size=12))
def test_prompts_alone_in_windows_of_one_iteration_are_the_reference(load: list[tuple[float, int]]) -> None:
    """Where nothing decodes and no window has a second iteration, all times are those of iteration by iteration."""
    rules = BatchRules(blocks=1000, tokens_max=32, requests_max=32, block_tokens=4)
    given_load = [(at_s, prompt, 1) for at_s, prompt in load]
    ours, reference = (
        Fluid(LAW, rules, mixed=1).serve(arrivals(given_load)),
        Engine(LAW, rules).serve(arrivals(given_load)),
    )

    assert ours.iterations == reference.iterations
    for one, other in zip(ours.served, reference.served, strict=True):
        assert one.last_s == pytest.approx(other.last_s, rel=1e-9)


@settings(max_examples=200, deadline=None)
@given(LOAD)
def test_everyone_is_served_to_the_end_and_never_early(load: list[tuple[float, int, int]]) -> None:
    """Although the cache is short: all tokens are emitted, and hardly sooner than to a request that is alone."""
    outcome = Fluid(LAW, RULES).serve(arrivals(load))

    assert outcome.token_steps == sum(wanted for _, _, wanted in load)
    for one in outcome.served:
        assert one.request.state == "done"
        (alone,) = Fluid(LAW, RULES).serve([Arrival(0.0, Request("r", one.request.prompt, one.request.wanted))]).served
        assert one.first_s is not None
        assert one.last_s is not None
        assert one.at_s < one.first_s <= one.last_s
        assert one.last_s - one.at_s > 0.75 * (alone.last_s or 0.0)


@pytest.mark.parametrize(
    ("rate_per_s", "prompt", "wanted", "blocks"),
    [(2.0, 800, 150, 27_000), (5.0, 1200, 200, 27_000), (7.0, 1500, 25, 27_000), (6.0, 600, 200, 1_500)],
    ids=["calm", "busy", "more than it can take", "too small a cache"],
)
def test_it_comes_near_the_reference(rate_per_s: float, prompt: float, wanted: float, blocks: int) -> None:
    """TPOT within 2 %, end to end within 3 %, the tail of the time to first token within 10 %, in fewer events."""
    rules = BatchRules(blocks)
    ours, reference = (
        engine(A100, rules, fidelity).serve(drawn(7, 500, rate_per_s, prompt, wanted)) for fidelity in WAYS
    )
    off = errors(ours, reference)

    assert off["tpot_s"] < 0.02
    assert off["end_to_end_s"] < 0.03
    assert off["ttft_s"] < 0.10
    assert ours.events < reference.events
    assert (ours.fidelity, reference.fidelity) == ("fluid", "leaps")


def test_bursts_of_prompts_take_few_events(data_folder: Path) -> None:
    """Half an hour of a code assistant: more than 50 tokens an event within the bars, where leaps make 23."""
    from experiments.requests import read

    rows = read(data_folder / "traces/azure_llm_2023_code.csv.gz").iloc[:4000]
    coming = list(zip(rows["at"], rows["prompt"], rows["wanted"], strict=True))
    rules = BatchRules(26_875)
    ours, reference = (engine(A100, rules, kind).serve(arrivals(coming)) for kind in WAYS)
    off = errors(ours, reference)

    assert ours.token_steps / ours.events > 50 > reference.token_steps / reference.events
    assert off["tpot_s"] < 0.02
    assert off["end_to_end_s"] < 0.03
    assert off["ttft_s"] < 0.10


def test_who_lost_their_blocks_find_what_is_left_of_them() -> None:
    """In a cache that is too small about as many tokens are found again as with blocks one by one."""
    ours, reference = (engine(A100, BatchRules(1_500), kind).serve(drawn(7, 500, 6.0, 600, 200)) for kind in WAYS)
    found, expected = (sum(one.request.shared for one in run.served) for run in (ours, reference))
    lost, others = (sum(one.request.preempted for one in run.served) for run in (ours, reference))

    assert lost == pytest.approx(others, rel=0.25)
    assert found == pytest.approx(expected, rel=0.25)
    unshared = Fluid(A100, BatchRules(1_500, share=False)).serve(drawn(7, 500, 6.0, 600, 200))
    assert not any(one.request.shared for one in unshared.served)


def test_a_real_servers_requests_are_predicted(data_folder: Path) -> None:
    """vLLM 0.19 on an RTX 4090 with a full cache, tables that are not linear: as true as `sim.batches` must be."""
    from experiments.requests import read

    rows = read(data_folder / "traces/measured_serving/vllm_RTX4090_Llama-3.1-8B_requests.jsonl.gz")
    law = KernelTables(data_folder / "traces/profiles/llmservingsim_RTX4090_Llama-3.1-8B_tp1", 32)
    coming = list(zip(rows["at"], rows["prompt"], rows["wanted"], strict=True))
    served = Fluid(law, BatchRules(41_408 // 16)).serve(arrivals(coming)).served

    first, last, at, wanted = (rows[name].to_numpy(float) for name in ("first", "last", "at", "wanted"))
    ours = {name: np.array([getattr(one, name) for one in served]) for name in ("ttft_s", "tpot_s", "end_to_end_s")}
    assert ours["tpot_s"].mean() == pytest.approx(((last - first) / (wanted - 1)).mean(), rel=0.03)
    assert ours["end_to_end_s"].mean() == pytest.approx((last - at).mean(), rel=0.03)
    assert np.quantile(ours["ttft_s"], 0.9) == pytest.approx(np.quantile(first - at, 0.9), rel=0.10)


def test_the_same_requests_give_the_same_times() -> None:
    """Two runs agree to the bit."""
    first, again = (Fluid(A100, BatchRules(1_500)).serve(drawn(3, 200, 6.0, 600, 100)) for _ in range(2))

    assert [(one.first_s, one.last_s) for one in first.served] == [(one.first_s, one.last_s) for one in again.served]
    assert first.events == again.events


def test_classes_and_deadlines_count() -> None:
    """Of those that wait the lower class goes first, and whose deadline has passed is not begun."""
    rules = BatchRules(blocks=40, tokens_max=32, requests_max=1, block_tokens=4)
    late = Request("late", 10, 2, deadline_ns=1_000_000)
    coming = [
        Arrival(0.0, Request("runs", 10, 20)),
        Arrival(0.001, Request("second", 10, 2, rank=1)),
        Arrival(0.002, Request("first", 10, 2)),
        Arrival(0.003, late),
    ]
    served = {one.request.key: one for one in Fluid(LAW, rules).serve(coming).served}

    assert (served["runs"].last_s or 0.0) < (served["first"].first_s or 0.0) < (served["second"].first_s or 0.0)
    assert late.state == "expired"
    assert served["late"].first_s is None


@pytest.mark.parametrize("fidelity", ["iterations", "leaps", "fluid"])
@pytest.mark.parametrize(
    ("turn_s", "deadline_ns", "state"),
    [(0.5, 500_000_000, "done"), (0.5, 499_999_999, "expired"), (1.5e-9, 1, "done"), (1.5e-9, 0, "expired")],
    ids=["at its deadline", "a nanosecond later", "within the nanosecond", "in the next one"],
)
def test_a_deadline_passes_at_the_same_nanosecond_in_every_fidelity(
    turn_s: float, deadline_ns: int, state: str, fidelity: Fidelity
) -> None:
    """Who waits is begun until the clock, of whole nanoseconds, is past the deadline; whichever way it is computed."""
    rules = BatchRules(blocks=40, tokens_max=32, requests_max=1, block_tokens=4)
    waits = Request("waits", 1, 1, deadline_ns=deadline_ns)
    law = Linear(turn_s, 0.0, 0.0, 0.0, 0.0)

    engine(law, rules, fidelity).serve([Arrival(0.0, Request("runs", 1, 1)), Arrival(0.0, waits)])

    assert waits.state == state


def test_who_loses_their_blocks_begins_again_and_says_nothing_twice() -> None:
    """Two streams outgrow a cache that held both: one is computed again, and keeps the time of its first token."""
    rules = BatchRules(blocks=12, tokens_max=32, requests_max=2, block_tokens=4)
    outcome = Fluid(LAW, rules).serve(arrivals([(0.0, 8, 30), (0.0, 8, 30)]))
    reference = Engine(LAW, rules).serve(arrivals([(0.0, 8, 30), (0.0, 8, 30)]))

    assert [one.request.preempted for one in outcome.served] == [0, 1]
    assert [one.request.preempted for one in reference.served] == [0, 1]
    assert outcome.served[0].first_s == outcome.served[1].first_s
    assert outcome.token_steps == 60


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("r", 10, 2, names=("a",)), "request r shares its beginning"),
        (Request("r", 0, 2), "request r: 0 tokens in, 2 out; allowed: from 1"),
        (Request("r", 160, 1), r"request r: 160 \+ 1 tokens; allowed: up to 160"),
    ],
)
def test_what_it_cannot_serve_is_refused(request_: Request, message: str) -> None:
    """In one line that names the request and what is allowed."""
    with pytest.raises(ValueError, match=message):
        Fluid(LAW, RULES).serve([Arrival(0.0, request_)])


def test_windows_of_no_iteration_are_refused() -> None:
    """A window moves on."""
    with pytest.raises(ValueError, match="mixed is 0; allowed: from 1"):
        Fluid(LAW, RULES, mixed=0)
