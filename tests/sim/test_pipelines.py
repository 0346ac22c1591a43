"""Tests of sim.pipelines and sim.speed: rings and chains against closed forms, caches that run out, speeds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.engines import Linear, Phases
from policies.jobs import Stage
from policies.serving.batching import BatchRules, Request
from policies.serving.caches import Caches, Holder
from policies.sharding.routes import Fixed
from sim.batches import Arrival, Engine
from sim.pipelines import Host, Outcome, Pipelines, Sizes
from sim.speed import Speed

HOP_S = 0.01
ALONE = Sizes(requests_max=1, tokens_max=1, chunk_max=1)


def serve(
    stages_s: list[float], requests: int, wanted: int, sizes: Sizes = ALONE, blocks: int = 10**6, prompt: int = 1
) -> Outcome:
    """Serve requests that come at once over one pipeline, each stage one layer of so many seconds."""
    stages = tuple(Stage(f"n{i}", i, i + 1) for i in range(len(stages_s)))
    hosts = {
        stage.node: Host(stage, Phases({0: s, 1: s}, {0: s, 1: s}), blocks)
        for stage, s in zip(stages, stages_s, strict=True)
    }
    coming = [Arrival(0.0, Request(f"r{i}", prompt, wanted)) for i in range(requests)]
    return Pipelines(hosts, lambda a, b: (1e12, HOP_S), Fixed([stages], [1.0]), sizes).serve(coming)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.01, 0.02, 0.05]), min_size=1, max_size=5), st.integers(1, 12))
def test_a_ring_passes_what_its_slowest_stage_or_its_requests_let_through(stages_s: list[float], m: int) -> None:
    """One item an iteration and m in flight: min(1 / slowest stage, m / (stages + hops)) tokens a second."""
    outcome = serve(stages_s, m, wanted=300)

    end_s = min(one.last_s or 0.0 for one in outcome.served)
    tokens = sum(count for at_s, count in outcome.emitted if end_s / 2 < at_s <= end_s)
    expected = min(1 / max(stages_s), m / (sum(stages_s) + HOP_S * (len(stages_s) + 1)))
    assert tokens / (end_s / 2) == pytest.approx(expected, rel=0.02)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 40))
def test_a_request_alone_on_one_stage_is_the_batching_engines(prompt: int, wanted: int) -> None:
    """A pipeline of one node without delays gives it the times of `sim.batches`, contexts counted."""
    law, stage = Linear(0.010, 0.001, 1e-5, 1e-6, 0.0), Stage("n", 0, 1)
    (theirs,) = Engine(law, BatchRules(10**6)).serve([Arrival(1.0, Request("r", prompt, wanted))]).served

    nodes = Pipelines({"n": Host(stage, law, 10**6)}, lambda a, b: (1e15, 0.0), Fixed([(stage,)], [1.0]), Sizes())
    (ours,) = nodes.serve([Arrival(1.0, Request("r", prompt, wanted))]).served

    assert ours.first_s == pytest.approx(theirs.first_s)
    assert ours.last_s == pytest.approx(theirs.last_s)


def test_a_request_by_hand() -> None:
    """Two chunks pass one behind the other, then each token waits for the one before to be back."""
    outcome = serve([0.1, 0.2], 1, 3, Sizes(chunk_max=4, tokens_max=4), prompt=8)

    (one,) = outcome.served
    assert one.first_s == pytest.approx(0.1 + 2 * 0.2 + 3 * HOP_S)  # the second chunk waits for the first at node 1
    assert one.tpot_s == pytest.approx(0.1 + 0.2 + 3 * HOP_S)
    assert outcome.iterations == 2 * 2 + 2 * 2


def test_a_cache_that_runs_out_costs_time_and_no_token() -> None:
    """Requests that lose their blocks begin again, and all emit what they should, none twice."""
    outcome = serve([0.01, 0.01], 6, 60, Sizes(), blocks=12)

    assert outcome.preempted > 0
    assert [one.request.emitted for one in outcome.served] == [60] * 6
    assert all(one.last_s is not None for one in outcome.served)
    assert sum(tokens for _, tokens in outcome.emitted) <= 6 * 59


def test_what_never_fits_fails_alone() -> None:
    """A request that no cache could ever hold is failed, and those behind it are served."""
    stage = Stage("n", 0, 2)
    hosts = {"n": Host(stage, Phases({1: 0.1}, {1: 0.1}), 8)}
    coming = [Arrival(0.0, Request("long", 16, 100)), Arrival(0.0, Request("short", 16, 2))]

    served = Pipelines(hosts, lambda a, b: (1e9, 0.0), Fixed([(stage,)], [1.0]), Sizes()).serve(coming).served

    assert [one.request.state for one in served] == ["failed", "done"]


def test_a_layer_that_only_some_need_is_computed_for_those() -> None:
    """A request that enters a node at its second layer does not take part in the first."""
    law = Phases({1: 1.0}, {1: 1.0, 2: 3.0})
    held, late = Stage("b", 0, 2), (Stage("a", 0, 1), Stage("b", 1, 2))
    hosts = {"a": Host(Stage("a", 0, 1), Phases({1: 0.5}, {1: 0.5}), 1000), "b": Host(held, law, 1000)}
    coming = [Arrival(0.0, Request("r", 1, 2))]

    (one,) = Pipelines(hosts, lambda a, b: (1e9, 0.0), Fixed([late], [1.0]), Sizes()).serve(coming).served

    assert one.tpot_s == pytest.approx(0.5 + 1.0)


def test_a_link_carries_one_message_after_another() -> None:
    """What a link takes for its bytes bounds the tokens a second, whatever nodes compute."""
    stages = (Stage("a", 0, 1), Stage("b", 1, 2))
    hosts = {s.node: Host(s, Phases({1: 1e-4}, {1: 1e-4}), 10**6) for s in stages}
    sizes = Sizes(activation_bytes=1000.0, token_bytes=0.0)
    coming = [Arrival(0.0, Request(f"r{i}", 1, 100)) for i in range(20)]

    outcome = Pipelines(hosts, lambda a, b: (1e4, 0.0), Fixed([stages], [1.0]), sizes).serve(coming)

    assert 20 * 100 / max(one.last_s or 0.0 for one in outcome.served) == pytest.approx(10.0, rel=0.02)


def test_admission_looks_at_the_tightest_stage() -> None:
    """A node is full as soon as its own layers times the blocks do not fit, and free again when they are released."""
    caches = Caches({"small": 12, "large": 100})
    held = {"small": 2, "large": 2}
    first = Holder("r", (Stage("small", 0, 2), Stage("large", 2, 4)), 40, 40)

    assert caches.full(held, 40, 40) == set()
    assert caches.hold(first)
    assert caches.full(held, 40, 40) == {"small"}
    assert not caches.hold(Holder("s", first.stages, 40, 40))
    caches.release(first)
    assert caches.free == caches.blocks
    assert caches.counted == {"small": 0, "large": 0}


@given(
    st.lists(st.tuples(st.floats(0.1, 5.0), st.floats(0.1, 3.0)), max_size=5),
    st.floats(0.0, 10.0),
    st.floats(0.01, 10.0),
    st.floats(0.01, 10.0),
)
def test_work_may_be_cut_anywhere(gaps: list[tuple[float, float]], now_s: float, one_s: float, other_s: float) -> None:
    """Two pieces of work in a row end when both as one would, and the integral of the factor is the work."""
    at_s, steps = 0.0, []
    for gap_s, factor in gaps:
        at_s += gap_s
        steps.append((at_s, factor))
    speed = Speed(steps)

    first_s = speed.spent_s(now_s, one_s)
    whole_s = speed.spent_s(now_s, one_s + other_s)

    assert first_s + speed.spent_s(now_s + first_s, other_s) == pytest.approx(whole_s, rel=1e-9)
    edges = [now_s, *(t for t, _ in steps if now_s < t < now_s + whole_s), now_s + whole_s]
    factors = [([1.0, *(f for t, f in steps if t <= a)])[-1] for a in edges[:-1]]
    done = sum((b - a) * f for a, b, f in zip(edges, edges[1:], factors, strict=False))
    assert done == pytest.approx(one_s + other_s, rel=1e-9)


def test_a_node_that_throttles_slows_what_is_under_way() -> None:
    """At half the speed from 1.0 s on, tokens of 0.3 s take 0.6 s, and that which is cut by the change in between."""
    stage = Stage("n", 0, 1)
    host = Host(stage, Phases({1: 0.3}, {1: 0.3}), 1000, speed=Speed([(1.0, 0.5)]))
    pipelines = Pipelines({"n": host}, lambda a, b: (1e15, 0.0), Fixed([(stage,)], [1.0]), Sizes())

    (one,) = pipelines.serve([Arrival(0.0, Request("r", 1, 6))]).served

    assert one.last_s == pytest.approx(1.0 + (6 * 0.3 - 1.0) / 0.5)


def test_a_device_that_stands_still_takes_up_its_work_again() -> None:
    """Unplugged between 1 and 3 s, it ends two seconds later; never to come back, it never ends."""
    assert Speed([(1.0, 0.0), (3.0, 1.0)]).spent_s(0.5, 1.0) == pytest.approx(3.0)
    assert Speed([(1.0, 0.0)]).spent_s(0.5, 1.0) == float("inf")


@pytest.mark.parametrize("steps", [[(1.0, -0.5)], [(2.0, 1.0), (1.0, 1.0)], [(float("nan"), 1.0)]])
def test_speeds_that_are_none_are_refused(steps: list[tuple[float, float]]) -> None:
    """Factors from 0, times one after another."""
    with pytest.raises(ValueError, match="allowed"):
        Speed(steps)
