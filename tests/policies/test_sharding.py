"""Sharding: the exact planner against brute force, plans that fit, and the memory ring's published rule."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise, permutations

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policies.config import ShardingConfig
from policies.jobs import Stage
from policies.problem import Plan, Problem, Worker
from policies.sharding import PLANNERS, check_plan, first_token_s, token_s
from policies.sharding.memory_ring import ring
from policies.sharding.subsets import best_pipeline
from policies.wire import WireError, encode

decode_plan = msgspec.msgpack.Decoder(Plan).decode


def planned(problem: Problem, planner: str = "latency_dp", budget: int = 1000) -> Plan:
    """Return the planner's answer, through its bytes."""
    return decode_plan(PLANNERS[planner](encode(problem), budget))


def device(node: str, **fields: float | str) -> Worker:
    """Return a worker that holds 4 layers of `problem`'s model, with some fields changed."""
    usual = {
        "memory_bytes": 4000.0,
        "layer_s": 0.01,
        "step_s": 0.001,
        "prefill_s_token_layer": 0.002,
        "bytes_per_s": 1e6,
        "one_way_s": 0.005,
    }
    return Worker(node=node, **(usual | fields))  # type: ignore[arg-type]


def problem(*workers: Worker, layers: int = 4, head_bytes: float = 0.0, **fields: str | int) -> Problem:
    """Return a model whose layers take 1000 bytes each, cache included."""
    return Problem("m", layers, 800.0, 200.0, head_bytes, 4000.0, workers, **fields)  # type: ignore[arg-type]


sites = st.sampled_from(["", "home", "lab"])
workers = st.builds(
    Worker,
    node=st.just(""),
    memory_bytes=st.integers(0, 4500).map(float),
    layer_s=st.sampled_from([0.001, 0.004, 0.005, 0.02]),
    step_s=st.sampled_from([0.0, 0.002, 0.03]),
    prefill_s_token_layer=st.just(0.001),
    bytes_per_s=st.sampled_from([1e4, 1e6]),
    one_way_s=st.sampled_from([0.0, 0.001, 0.02]),
    site=sites,
    backbone_s=st.sampled_from([0.0, 0.01]),
)


@st.composite
def problems(draw: st.DrawFn, workers_max: int = 4, layers_max: int = 6) -> Problem:
    """Draw small villages: named workers, a source of each kind, heads that matter or not."""
    drawn = draw(st.lists(workers, min_size=1, max_size=workers_max))
    named = tuple(msgspec.structs.replace(worker, node=f"n{i}") for i, worker in enumerate(drawn))
    return problem(
        *named,
        layers=draw(st.integers(1, layers_max)),
        head_bytes=draw(st.sampled_from([0.0, 500.0, 1500.0])),
        source=draw(st.sampled_from(["", "n0", "elsewhere"])),
    )


@dataclass
class Naive:
    """The cost of a pipeline and all pipelines there are, written down directly."""

    problem: Problem

    def link_s(self, u: Worker, v: Worker, size_bytes: float) -> float:
        """One hop."""
        if u is v:
            return 0.0
        through = 0.0 if u.site and u.site == v.site else u.backbone_s + v.backbone_s
        return u.one_way_s + v.one_way_s + through + size_bytes / min(u.bytes_per_s, v.bytes_per_s)

    def cost_s(self, order: tuple[Worker, ...], counts: tuple[int, ...]) -> float:
        """Seconds a token, infinite where memory overflows."""
        p, last = self.problem, len(order) - 1
        seconds = 0.0
        for i, (worker, n) in enumerate(zip(order, counts, strict=True)):
            if n * 1000 + p.head_bytes * ((i == 0) + (i == last)) > worker.memory_bytes:
                return float("inf")
            seconds += worker.step_s + n * worker.layer_s
            seconds += self.link_s(worker, order[i + 1], 4000.0) if i < last else 0.0
        seconds += order[-1].layer_s * p.head_bytes / 800.0
        if p.source == "":
            return seconds + self.link_s(order[-1], order[0], 4.0)
        if p.source == "elsewhere":
            ends = (order[0], order[-1])
            return seconds + sum(w.one_way_s + w.backbone_s + 4.0 / w.bytes_per_s for w in ends)
        source = next(w for w in p.workers if w.node == p.source)
        return seconds + self.link_s(source, order[0], 4.0) + self.link_s(order[-1], source, 4.0)

    def best_s(self) -> float:
        """The minimum over every order of every subset and every way to cut the layers."""
        layers = self.problem.layers
        best = float("inf")
        for size in range(1, min(layers, len(self.problem.workers)) + 1):
            for cuts in combinations(range(1, layers), size - 1):
                edges = (0, *cuts, layers)
                counts = tuple(b - a for a, b in pairwise(edges))
                orders = permutations(self.problem.workers, size)
                best = min([best, *(self.cost_s(order, counts) for order in orders)])
        return best


@settings(max_examples=200, deadline=None)
@given(problems())
def test_the_exact_planner_finds_what_brute_force_finds(given_problem: Problem) -> None:
    """No ordered cut over any subset of the devices is faster than the planner's, and it fits."""
    best_s = Naive(given_problem).best_s()

    found = best_pipeline(given_problem, given_problem.workers)

    if best_s == float("inf"):
        assert found == ()
    else:
        assert check_plan(given_problem, Plan((found,), (best_s,))) == []
        assert token_s(given_problem, found) == pytest.approx(best_s, rel=1e-12)


def test_the_fastest_take_all_they_can_hold() -> None:
    """Six layers over two devices of four: the fast one takes four, whichever name comes first."""
    for fast, slow in (("a", "b"), ("b", "a")):
        pool = problem(device(slow, layer_s=0.02), device(fast), layers=6)

        counts = {stage.node: stage.last - stage.first for stage in planned(pool).pipelines[0]}

        assert counts == {fast: 4, slow: 2}


@pytest.mark.parametrize("planner", PLANNERS)
@settings(max_examples=30, deadline=None)
@given(given_problem=problems(workers_max=7))
@example(given_problem=problem())
def test_every_plan_passes_the_checker(planner: str, given_problem: Problem) -> None:
    """Whatever the pool, each planner's plan covers the layers, fits memory and uses a worker once."""
    plan = planned(given_problem, planner)

    assert check_plan(given_problem, plan) == []
    assert list(plan.latency_s) == [token_s(given_problem, stages) for stages in plan.pipelines]


@settings(max_examples=100, deadline=None)
@given(problems(), st.randoms())
def test_the_order_of_workers_does_not_matter(given_problem: Problem, shuffle: object) -> None:
    """The same pool in another order gets the same plan, bit for bit."""
    mixed = list(given_problem.workers)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]

    assert planned(msgspec.structs.replace(given_problem, workers=tuple(mixed))) == planned(given_problem)


def test_equal_workers_are_taken_by_name() -> None:
    """Ties go to the first name."""
    plan = planned(problem(device("c"), device("b"), device("a")), budget=2)

    assert [stages[0].node for stages in plan.pipelines] == ["a", "b"]


def test_the_budget_bounds_the_pipelines() -> None:
    """A budget of one gives one pipeline where three would fit."""
    pool = problem(device("a"), device("b"), device("c"))

    assert [len(planned(pool, budget=n).pipelines) for n in (1, 2, 9)] == [1, 2, 3]


def test_slow_but_roomy_devices_are_used_when_the_useful_ones_cannot_hold_the_model() -> None:
    """Eight fast small candidates do not hide the one slow device without which nothing fits."""
    small = [device(f"s{i}", memory_bytes=1000.0, layer_s=0.001) for i in range(9)]
    pool = problem(*small, device("big", memory_bytes=90_000.0, layer_s=1.0), layers=20, candidates=8)

    plan = planned(pool)

    assert check_plan(pool, plan) == []
    assert {stage.node for stage in plan.pipelines[0]} >= {"big"}


def test_a_model_that_no_eight_devices_hold_is_held_by_twelve() -> None:
    """The village's planner looks at eight candidates, and beyond them rather than say that there is no plan."""
    pool = problem(*(device(f"d{i:02}", memory_bytes=1000.0) for i in range(12)), layers=12, candidates=8)
    plan = planned(pool, "latency_dp", budget=2)

    assert check_plan(pool, plan) == []
    assert [len(stages) for stages in plan.pipelines] == [12]


@pytest.mark.parametrize("planner", PLANNERS)
def test_a_model_that_fits_nowhere_is_said_to(planner: str) -> None:
    """No pipeline, and a line that names the model and its layers."""
    plan = planned(problem(device("a"), layers=5), planner)

    assert plan.pipelines == ()
    assert "5 layers of m" in plan.infeasible


def test_the_ring_cuts_by_memory_in_order_of_memory() -> None:
    """Shares 1/2, 1/3, 1/6 of 12 layers, largest device first, whatever the speeds and links."""
    devices = [device("a", memory_bytes=2e3), device("b", memory_bytes=6e3), device("c", memory_bytes=4e3)]
    pool = problem(*devices, layers=12)

    assert ring(pool, devices) == (Stage("b", 0, 6), Stage("c", 6, 10), Stage("a", 10, 12))


def test_the_exact_planner_beats_the_ring_where_speed_and_memory_disagree() -> None:
    """A slow giant and a fast small box: the ring takes the giant, the exact planner the box."""
    pool = problem(device("giant", memory_bytes=9e3, layer_s=0.1), device("box"))

    assert planned(pool).pipelines[0] == (Stage("box", 0, 4),)
    assert planned(pool, "memory_ring").pipelines[0] == (Stage("giant", 0, 4),)


def test_time_to_first_token_counts_every_prompt_token() -> None:
    """Two stages: steps, 10 tokens through 4 layers, 10 activations over the link, one token back."""
    pool = problem(device("a"), device("b"))
    pipeline = (Stage("a", 0, 2), Stage("b", 2, 4))

    expected_s = 2 * 0.001 + 4 * 10 * 0.002 + (0.01 + 10 * 4000 / 1e6) + (0.01 + 4 / 1e6)

    assert first_token_s(pool, pipeline, 10) == pytest.approx(expected_s, rel=1e-12)


def test_a_pool_of_300_devices_is_served() -> None:
    """A large mixed pool gets many pipelines, all of them feasible and disjoint."""
    pool = problem(
        *(
            device(
                f"n{i:03}",
                memory_bytes=1000.0 * (1 + i % 7),
                layer_s=0.001 * (1 + i % 11),
                one_way_s=1e-3 * (i % 5),
            )
            for i in range(300)
        ),
        layers=16,
        head_bytes=500.0,
    )

    plan = planned(pool)

    assert check_plan(pool, plan) == []
    assert len(plan.pipelines) >= 50


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([("a", 0, 2), ("b", 3, 4)], "expected to go on from 2"),
        ([("a", 0, 3)], "ends at layer 3 of 4"),
        ([("a", 0, 2), ("a", 2, 4)], "used twice"),
        ([("x", 0, 4)], "no such worker"),
        ([("small", 0, 4)], "needs 4000 bytes, has 1000"),
    ],
)
def test_the_checker_names_what_is_wrong(stages: list[tuple[str, int, int]], words: str) -> None:
    """Each kind of broken pipeline gets its own line."""
    pool = problem(device("a"), device("b"), device("small", memory_bytes=1000.0))
    pipeline = tuple(Stage(*stage) for stage in stages)

    assert any(words in line for line in check_plan(pool, Plan((pipeline,), (0.1,))))


def test_bad_input_is_refused_in_one_line() -> None:
    """Bytes that are no problem, a budget of none, and a worker named twice are the caller's errors."""
    good = encode(problem(device("a")))
    plan = PLANNERS["latency_dp"]

    with pytest.raises(WireError, match=r"^problem: "):
        plan(b"\x01", 1)
    with pytest.raises(ValueError, match="budget is 0; allowed: from 1"):
        plan(good, 0)
    with pytest.raises(ValueError, match="a is there twice"):
        plan(encode(problem(device("a"), device("a"))), 1)


def test_planners_are_the_configured_ones() -> None:
    """Every planner a configuration may name exists."""
    names = msgspec.json.schema(ShardingConfig)["$defs"]["ShardingConfig"]["properties"]["planner"]["enum"]

    assert sorted(PLANNERS) == sorted(names)
