"""A village of two models whose pipelines move: each model's own cut gets better, and no class is served worse."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from policies.config import CoordinationConfig, DegradeConfig, ReplanConfig, Service
from policies.coordination.lines import Pipeline
from policies.jobs import Stage
from policies.local import Lend
from policies.problem import Plan, Problem
from policies.work import Capability, Gone, Placed, PlacedOf
from tests.policies.small_village import LEND, RULES, TWO_HOLD_ALL, SmallVillage

REPLAN = ReplanConfig(dwell_s=30.0, horizon_s=600.0, drain_s=20.0, load_bytes_per_s=100.0)
SMALL = Problem("s", 2, 450.0, 50.0, 0.0, 50.0)
FAST = Capability(TWO_HOLD_ALL, 0.001, 0.001, 0.001, 1e7, 0.01)
AWAY = Lend(False, 0.0, 0.0, "owner")
HALF_HOLDS_SMALL = 550.0  # memory_bytes: a layer of the small model, none of the large one


def rules(*services: Service, copies: Service = "best_effort") -> CoordinationConfig:
    """The leader's rules, for these classes; idle workers hold as many copies as a class asks for."""
    degrade = DegradeConfig(services=services, dwell_s=40.0, drain_s=20.0)
    return msgspec.structs.replace(RULES, degrade=degrade, replan=msgspec.structs.replace(REPLAN, service=copies))


def village(
    *services: Service, workers: int = 3, late: str = "w3", copies: Service = "best_effort",
    memory_bytes: float = TWO_HOLD_ALL,
) -> SmallVillage:  # fmt: skip
    """A village where two hold the large model and one the small; a faster worker is not lent yet."""
    made = SmallVillage(
        workers, rules=rules(*services, copies=copies), smaller=(SMALL,), memory_bytes=memory_bytes,
        others={late: msgspec.structs.replace(FAST, memory_bytes=memory_bytes)},
    )  # fmt: skip
    made.lend(late, AWAY)
    made.run(40.0)
    return made


def pipelines(of: SmallVillage) -> dict[str, set[str]]:
    """The workers of each model's pipelines, all of them loaded."""
    lines = of.coordination().lines
    assert all(lines.ready(line) for line in lines.lines.values())
    found: dict[str, set[str]] = {}
    for line in lines.lines.values():
        found.setdefault(line.model, set()).update(line.nodes)
    return found


def demand(of: SmallVillage, tokens: int) -> None:
    """Clients ask for so many tokens, of which the village expects as many again."""
    for k in range(4):
        of.ask(f"demand {k}", new_tokens=tokens // 4)
    of.run(5.0)


@pytest.mark.parametrize(("tokens", "moves"), [(40, False), (40_000, True)])
def test_a_model_moves_to_a_better_device_when_that_pays(tokens: int, moves: bool) -> None:
    """As with one model: reading takes 18 s, a token saves 18 ms; 40 of them do not pay for it, 40,000 do."""
    v = village("standard")
    assert pipelines(v) == {"m": {"w1", "w2"}}
    demand(v, tokens)
    v.lend("w3", LEND)
    v.run(110.0)
    assert ("w3" in pipelines(v)["m"]) is moves
    assert len({one.pipeline for one in v.seen(Gone)}) == moves  # and there it stays
    v.ask("after")
    v.run(5.0)
    assert type(v.answers("after")[-1]).__name__ == "Answer"


def test_the_small_model_moves_too() -> None:
    """Where two workers hold but the small model a fast one takes the place of a slow one, as that is asked for."""
    v = village("standard", memory_bytes=HALF_HOLDS_SMALL)
    assert pipelines(v) == {"s": {"w1", "w2"}}
    demand(v, 40_000)
    leader = v.coordination()
    assert [round(leader.outlooks[model].count, -2) for model in ("m", "s")] == [0, 40_000]
    v.lend("w3", LEND)
    v.run(110.0)
    assert "w3" in pipelines(v)["s"]
    assert len({one.pipeline for one in v.seen(Gone)}) == 1


def test_no_move_is_made_that_is_worth_less_to_the_classes() -> None:
    """Of two pipelines one would be left: the planner may like that better, the classes do not."""
    v = village("standard", workers=5, late="w5")
    leader = v.coordination()
    assert Counter(line.model for line in leader.lines.lines.values()) == Counter(m=2)
    leader.planned = leader.card
    going = set(leader.lines.lines)
    fewer = (Pipeline("m", (Stage("w1", 0, 2), Stage("w2", 2, 4)), 0.1),)
    as_many = (*fewer, Pipeline("m", (Stage("w3", 0, 2), Stage("w4", 2, 4)), 0.1))
    assert [leader._no_worse(coming, going) for coming in (fewer, as_many)] == [False, True]
    leader._move(fewer, going, 20.0)
    assert (leader.coming, leader.lines.leaving) == ((), set())
    leader._move(as_many, going, 20.0)
    assert leader.lines.leaving == going


def test_idle_workers_hold_copies_and_mend_what_breaks() -> None:
    """No class needs the small model: the third worker holds a copy of the large one's stage, and takes its place."""
    v = village("standard", copies="standard", workers=4, late="w4")
    v.run(60.0)
    ((spare, hold),) = v.coordination().lines.spares.items()
    assert (spare, hold.model) == ("w3", "m")
    line = next(iter(v.seen(Placed)))
    kept = {(stage.first, stage.last): stage.node for stage in line.stages}
    lost = kept[hold.stage.first, hold.stage.last]
    v.crash(lost)
    v.run(40.0)
    (after,) = [placed.stages for placed in v.state.placements.values()]
    assert {(s.first, s.last): s.node for s in after} == kept | {(hold.stage.first, hold.stage.last): spare}
    assert not v.seen(PlacedOf)


def test_copies_of_the_better_model_come_first() -> None:
    """An idle worker that holds a copy of the small model gives it up for one of the large, and not the other way."""
    v = village("standard", copies="standard", workers=4, late="w4")
    v.run(60.0)
    leader = v.coordination()
    before = leader.lines.spares["w3"]
    leader.planned = SMALL
    leader._hold_copies(Plan((), (), replicas=(Stage("w3", 0, 2),)))
    assert leader.lines.spares["w3"] == before
    leader.lines.spares["w3"] = before._replace(model="s")
    leader.planned = leader.card
    leader._hold_copies(Plan((), (), replicas=(before.stage,)))
    assert (leader.lines.spares["w3"].model, leader.lines.spares["w3"].stage) == ("m", before.stage)


@pytest.mark.parametrize("change", ["broken", "on_disk"])
def test_what_is_known_of_workers_is_known_by_model(change: str) -> None:
    """Layers [0, 2) of the small model are not those of the large one, whether on disk or in a pipeline that broke."""
    v = village("standard")
    leader = v.coordination()
    pool = leader.lines.free_workers(set(), leader.state.members)
    if change == "on_disk":
        leader.lines.on_disk = {"w1": {("s", 0, 2): None}}
        found = {m: leader._already(m, {"w1": FAST} | pool, ()).held for m in ("m", "s")}
        assert [len(held) for held in found.values()] == [0, 1]
    else:
        leader.broken = [("s", (Stage("w1", 0, 2),))]
        assert [leader._broken_of(model) for model in ("m", "s")] == [(), ((Stage("w1", 0, 2),),)]
