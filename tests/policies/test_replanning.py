"""Replanning: what serves is kept or mended unless moving pays, little moves; replicas follow the class of service."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.jobs import Stage
from policies.problem import Held, Link, Mover, Plan, Problem, State, Worker
from policies.promises import AVAILABILITY
from policies.sharding import PLANNERS, check_plan, end_to_end_s
from policies.sharding.replan import moved_bytes, moving_s
from policies.sharding.replicas import copies, replicas
from policies.wire import encode

decode_plan = msgspec.msgpack.Decoder(Plan).decode


def worker(node: str, **fields: float | str) -> Worker:
    """Return a worker that holds 4 layers of 1000 bytes."""
    usual = {"memory_bytes": 4000.0, "layer_s": 0.01, "step_s": 0.001, "prefill_s_token_layer": 0.002}
    return Worker(node=node, **(usual | {"bytes_per_s": 1e5, "one_way_s": 0.0} | fields))  # type: ignore[arg-type]


def problem(*workers: Worker, layers: int = 4, **fields: object) -> Problem:
    """Return a model of ``layers`` layers that asks for a token."""
    return Problem("m", layers, 1000.0, 0.0, 0.0, 100.0, workers, **fields)  # type: ignore[arg-type]


def replanned(given_problem: Problem, budget: int = 1, planner: str = "exact") -> Plan:
    """Return a planner's answer through its bytes, as a job gets it."""
    return decode_plan(PLANNERS[planner](encode(given_problem), budget))


def serving(node: str, requests_ahead: int, **fields: object) -> State:
    """Return the state of one worker that holds all four layers and serves."""
    held = (Held(node, 0, 4, loaded=True),)
    return State(((Stage(node, 0, 4),),), held, requests_ahead=requests_ahead, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("requests_ahead", "node"), [(1, "slow"), (1000, "fast")])
def test_a_plan_in_force_is_kept_until_moving_pays(requests_ahead: int, node: str) -> None:
    """4000 bytes at 100 kB/s take 40 ms; a request saves 20 ms: one does not pay for the move, a thousand do."""
    pool = (worker("slow", layer_s=0.015), worker("fast"))

    plan = replanned(problem(*pool, state=serving("slow", requests_ahead)))

    assert [stages[0].node for stages in plan.pipelines] == [node]


def test_the_cost_of_a_move_is_fetching_and_loading() -> None:
    """Two layers come over the link, two are on the disk: 20 ms and 3 layers not in memory at 1 MB/s."""
    given_problem = problem(worker("a"), worker("b"))
    state = State(
        held=(Held("a", 0, 4, loaded=True), Held("b", 0, 1, loaded=True), Held("b", 1, 2, loaded=False)),
        movers=(Mover("b", 1e6),),
    )

    assert moving_s(given_problem, state, [(Stage("b", 0, 4),)]) == pytest.approx(2 * 1000 / 1e5 + 3 * 1000 / 1e6)
    assert moved_bytes(given_problem, state, [(Stage("b", 0, 4),)]) == 2000.0


def test_a_battery_that_cannot_pay_keeps_the_plan() -> None:
    """The faster worker may spend 3 J, its layers cost 4 J to fetch: what serves goes on, and alone it is said."""
    pool = (worker("slow", layer_s=0.015), worker("fast"))
    poor = (Mover("fast", 1e9, fetch_j_per_byte=1e-3, spare_j=3.0),)

    kept = replanned(problem(*pool, state=serving("slow", 10**6, movers=poor)))
    alone = replanned(problem(pool[1], state=State(movers=poor)))

    assert kept.pipelines == ((Stage("slow", 0, 4),),)
    assert alone.infeasible == "fast fetches for 4 J of the 3 J that its battery may spend"


def test_a_lost_worker_is_replaced_and_nothing_else_moves() -> None:
    """Of three stages one is gone: the spare takes its range, the others keep theirs."""
    stages = (Stage("a", 0, 4), Stage("gone", 4, 8), Stage("c", 8, 12))
    held = tuple(Held(stage.node, stage.first, stage.last, loaded=True) for stage in stages)
    pool = (worker("a"), worker("c"), worker("d"))

    plan = replanned(problem(*pool, layers=12, state=State((stages,), held)))

    assert plan.pipelines == ((Stage("a", 0, 4), Stage("d", 4, 8), Stage("c", 8, 12)),)


def test_equal_workers_keep_what_they_have() -> None:
    """A new plan over equal workers gives each the range that it has already, whatever the names say."""
    held = (Held("a", 4, 8, loaded=True), Held("b", 0, 4, loaded=True))

    plan = replanned(problem(worker("a"), worker("b"), layers=8, state=State(held=held)))

    assert set(plan.pipelines[0]) == {Stage("b", 0, 4), Stage("a", 4, 8)}


@settings(max_examples=60, deadline=None)
@given(
    speeds=st.lists(st.sampled_from([0.01, 0.02, 0.05]), min_size=2, max_size=5),
    lost=st.integers(0, 4),
    requests_ahead=st.sampled_from([1, 10**6]),
    layers=st.integers(1, 8),
)
def test_replanning_again_changes_nothing(speeds: list[float], lost: int, requests_ahead: int, layers: int) -> None:
    """After a loss the new plan is whole, and asked again with it in force and loaded it is the answer again."""
    pool = [worker(f"n{i}", layer_s=layer_s) for i, layer_s in enumerate(speeds)]
    before = replanned(problem(*pool, layers=layers))
    left = [one for i, one in enumerate(pool) if i != lost % len(pool)]

    def state(plan: Plan) -> State:
        held = tuple(Held(s.node, s.first, s.last, loaded=True) for stages in plan.pipelines for s in stages)
        return State(plan.pipelines, held, requests_ahead=requests_ahead)

    after = replanned(problem(*left, layers=layers, state=state(before)))
    again = replanned(problem(*left, layers=layers, state=state(after)))

    assert check_plan(problem(*left, layers=layers), after) == []
    assert bool(after.pipelines) == bool(replanned(problem(*left, layers=layers)).pipelines)
    assert again.pipelines == after.pipelines


@settings(max_examples=60, deadline=None)
@given(
    speeds=st.lists(st.sampled_from([0.01, 0.02, 0.05]), min_size=2, max_size=4),
    first=st.integers(0, 3),
    requests_ahead=st.integers(1, 50),
)
def test_a_replan_is_never_dearer_than_staying(speeds: list[float], first: int, requests_ahead: int) -> None:
    """Serving and moving together cost at most what serving on would."""
    pool = [worker(f"n{i}", layer_s=layer_s) for i, layer_s in enumerate(speeds)]
    state = serving(f"n{first % len(pool)}", requests_ahead)
    given_problem = problem(*pool, state=state)

    plan = replanned(given_problem)

    def cost_s(pipelines: tuple[tuple[Stage, ...], ...]) -> float:
        serving_s = requests_ahead * end_to_end_s(given_problem, pipelines[0])
        return serving_s + moving_s(given_problem, state, pipelines)

    assert cost_s(plan.pipelines) <= cost_s(state.in_force) + 1e-12


def test_a_state_that_is_no_pipeline_is_refused() -> None:
    """A plan in force with a gap, and a link to nowhere, are the caller's errors in one line."""
    with pytest.raises(ValueError, match=r"state: in_force \[0, 2\]; allowed"):
        replanned(problem(worker("a"), state=State(((Stage("a", 0, 2),),))))
    with pytest.raises(ValueError, match="links: a-x; allowed: between workers and the source"):
        replanned(problem(worker("a"), links=(Link("a", "x", 1.0, 0.0),)))


def test_copies_are_the_fewest_that_keep_the_promise() -> None:
    """At 5 % away, four stages alone are up 81 %: best effort takes one copy, 99 % two and 99.9 % three."""
    assert [copies(service, 4, 0.05) for service in AVAILABILITY] == [1, 2, 3]
    assert (1 - 0.05**2) ** 4 >= 0.99 > (1 - 0.05) ** 4
    assert copies("critical", 4, 0.0) == 1
    with pytest.raises(ValueError, match="service is 'gold'; allowed: best_effort, standard, critical"):
        copies("gold", 1, 0.1)
    with pytest.raises(ValueError, match=r"away is 1\.0; allowed"):
        copies("standard", 1, 1.0)


def test_a_replica_holds_its_stage_at_another_site() -> None:
    """The spare elsewhere is taken before the faster one of the same site, the one too small never."""
    pipeline = (Stage("a", 0, 4),)
    spares = (worker("b", site="home", layer_s=0.001), worker("c", site="lab"), worker("d", memory_bytes=1000.0))
    given_problem = problem(worker("a", site="home"), *spares)

    assert replicas(given_problem, pipeline, 2, ()) == (Stage("c", 0, 4),)
    assert replicas(given_problem, pipeline, 3, ()) == (Stage("c", 0, 4), Stage("b", 0, 4))
    assert replicas(given_problem, pipeline, 4, ("b",)) == (Stage("c", 0, 4),)
