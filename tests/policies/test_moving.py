"""The running village moves to a better plan when that pays, without losing work, and not for who comes and goes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies.config import CoordinationConfig, ReplanConfig
from policies.coordination.outlook import Outlook
from policies.local import Lend
from policies.port import NS_PER_S
from policies.work import Capability, Gone, Placed
from tests.policies.small_village import LEND, RULES, TWO_HOLD_ALL, SmallVillage, ready

REPLAN = ReplanConfig(dwell_s=30.0, horizon_s=600.0, drain_s=20.0, load_bytes_per_s=100.0)
FAST = Capability(TWO_HOLD_ALL, 0.001, 0.001, 0.001, 1e7, 0.01)
AWAY = Lend(False, 0.0, 0.0, "owner")


def moving(replan: ReplanConfig | None = REPLAN, **fields: Any) -> SmallVillage:
    """Return a village of two that hold the model together, and of a faster third that is not lent."""
    rules = msgspec.structs.replace(RULES, replan=replan)
    village = SmallVillage(3, memory_bytes=TWO_HOLD_ALL, rules=rules, others={"w3": FAST}, **fields)
    village.lend("w3", AWAY)
    village.run(20.0)
    assert pipelines(village) == [{"w1", "w2"}]
    return village


def pipelines(village: SmallVillage) -> list[set[str]]:
    """Return the workers of each pipeline that stands."""
    return [{stage.node for stage in placed.stages} for placed in village.state.placements.values()]


def demand(village: SmallVillage, tokens: int) -> None:
    """Clients ask for so many tokens, of which the village expects as many again."""
    for k in range(4):
        village.ask(f"demand {k}", new_tokens=tokens // 4)
    village.run(5.0)


@pytest.mark.parametrize(("tokens", "moves"), [(40, False), (40_000, True)])
def test_a_better_device_is_moved_to_when_that_pays(tokens: int, moves: bool) -> None:
    """Moving takes 18 s of reading from flash; a token saves 18 ms: 40 of them do not pay for it, 40,000 do."""
    village = moving()
    demand(village, tokens)
    village.lend("w3", LEND)
    village.run(60.0)

    assert ("w3" in pipelines(village)[0]) is moves
    assert len(pipelines(village)) == 1
    village.ask("after")
    village.run(20.0)
    assert type(village.answers("after")[-1]).__name__ == "Answer"


def test_without_replanning_what_serves_is_left_alone() -> None:
    """The choice that was there before: a pipeline stands until it loses a worker."""
    village = moving(None)
    demand(village, 40_000)
    village.lend("w3", LEND)
    village.run(120.0)

    assert pipelines(village) == [{"w1", "w2"}]
    assert village.seen(Gone) == []


def test_who_comes_and_goes_moves_nothing() -> None:
    """A fast worker that stays for less than the dwell, twenty times, changes no pipeline."""
    village = moving()
    demand(village, 40_000)
    for _ in range(20):
        village.lend("w3", LEND)
        village.run(25.0)
        village.lend("w3", AWAY)
        village.run(5.0)

    assert pipelines(village) == [{"w1", "w2"}]
    assert len({placed.pipeline for placed in village.seen(Placed)}) == 1


def test_a_plan_that_was_moved_to_is_kept() -> None:
    """After one move the village rests: asked again, of the same pool, the planner's answer is what stands."""
    village = moving()
    demand(village, 40_000)
    village.lend("w3", LEND)
    village.run(700.0)  # a horizon and more

    assert len({gone.pipeline for gone in village.seen(Gone)}) == 1
    assert "w3" in pipelines(village)[0]


def test_work_ends_before_its_pipeline_gives_way() -> None:
    """A session that runs when the move is decided ends where it began, in its first attempt."""
    village = moving()
    demand(village, 40_000)
    village.lend("w3", LEND)
    village.run(25.0)
    village.take(12.0)
    village.ask("long")
    village.run(60.0)

    assert "w3" in pipelines(village)[0]
    assert village.desk.ran.count("anna/long/1") == 1
    assert "anna/long/2" not in village.desk.ran
    assert type(village.answers("long")[-1]).__name__ == "Answer"


def test_a_move_that_would_wait_too_long_is_called_off() -> None:
    """A session that does not end within the drain keeps its pipeline, which then takes work again."""
    village = moving()
    demand(village, 40_000)
    village.lend("w3", LEND)
    village.run(20.0)
    village.take(100.0)
    village.ask("very long")
    village.run(80.0)
    village.take(1.0)
    village.ask("next")
    village.run(10.0)

    assert pipelines(village) == [{"w1", "w2"}]
    assert type(village.answers("next")[-1]).__name__ == "Answer"


def test_a_broken_pipeline_is_mended_with_what_workers_have() -> None:
    """A worker is gone: the spare takes its layers, the other keeps those that it has on disk."""
    village = moving(msgspec.structs.replace(REPLAN, dwell_s=1e6))
    kept = {stage.node: stage for stage in village.seen(Placed)[0].stages}
    village.lend("w3", LEND)
    village.run(10.0)
    village.crash("w1")
    village.run(60.0)

    (stages,) = [placed.stages for placed in village.state.placements.values()]
    assert {stage.node: (stage.first, stage.last) for stage in stages} == {
        "w2": (kept["w2"].first, kept["w2"].last),
        "w3": (kept["w1"].first, kept["w1"].last),
    }


def test_idle_workers_hold_copies_of_stages() -> None:
    """Best effort asks for none; a standard service has the idle worker hold a stage, under no pipeline's name."""
    for service, layers in (("best_effort", None), ("standard", 2)):
        rules = msgspec.structs.replace(RULES, replan=msgspec.structs.replace(REPLAN, service=service))
        village = SmallVillage(3, memory_bytes=TWO_HOLD_ALL, rules=rules)
        village.run(90.0)
        (idle,) = {"w1", "w2", "w3"} - pipelines(village)[0]

        first, last = village.desk.held.get(idle, (0, 0))
        assert last - first == (layers or 0)
        assert village.worker(idle).loaded not in village.state.placements


def test_a_copy_is_given_up_for_a_pipeline() -> None:
    """A worker that holds a copy is free: when its like arrives the two of them serve."""
    rules = msgspec.structs.replace(RULES, replan=msgspec.structs.replace(REPLAN, service="standard"))
    village = SmallVillage(4, memory_bytes=TWO_HOLD_ALL, rules=rules)
    village.lend("w4", AWAY)
    village.run(90.0)
    village.lend("w4", LEND)
    village.run(30.0)

    assert len(pipelines(village)) == 2


def test_the_outlook_is_rate_times_horizon() -> None:
    """Ten tokens a second for long are 6000 in ten minutes, to a percent; after ten more minutes of nothing, 1/e."""
    outlook = Outlook()
    for second in range(6000):
        outlook.take(second * NS_PER_S, 600.0, 10)

    assert outlook.tokens(5999 * NS_PER_S, 600.0) == pytest.approx(6000, rel=0.01)
    assert outlook.tokens(6599 * NS_PER_S, 600.0) == pytest.approx(6000 / 2.718281828, rel=0.01)


def test_a_village_without_moves_plans_as_before() -> None:
    """The problem that a planner is asked carries a state only where moves are allowed."""
    assert CoordinationConfig().replan is None
    village = ready(2)
    assert len(pipelines(village)) == 2
