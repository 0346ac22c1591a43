"""A simulated village of two models: two of four workers die and return, and every request has an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import to_builtins

from experiments import results
from experiments.report import render
from experiments.results import load
from models.inference import SHAPES
from policies.coordination.offers import Offers
from policies.port import NS_PER_S
from scenarios.record import TABLES, Record
from scenarios.schema import Scenario, ScenarioError, build, to_plain
from sim.village import simulate
from tests.sim.test_village import desk_plain

DIES_S, BACK_S = 40.0, 70.0
SLACK_S = 15.0  # a lease, the dwell, draining and loading
CRASHES = [{"kind": "crash", "node": name} for name in ("desk-2", "desk-3")]


def scenario(changes: Mapping[str, Any] | None = None, **words: Any) -> Scenario:
    """The scenario that a newcomer runs, with assumed times; ``changes`` are of its plain data."""
    return build(to_plain(load("degraded", profile="", **words)) | dict(changes or {}))


def asked(record: Record) -> list[dict[str, Any]]:
    """The requests by time of arrival."""
    rows = [dict(zip(TABLES["requests"], row, strict=True)) for row in record.tables["requests"]]
    return sorted(rows, key=lambda row: row["arrival_s"])


def test_large_small_large_and_nobody_is_refused() -> None:
    """Every request is answered, rightly for the model that did; none by the small one once the large can serve."""
    record = simulate(scenario())
    rows = asked(record)
    assert {row["status"] for row in rows} == {"answered"}
    assert all(row["correct"] for row in rows)
    models = {
        "before": {row["model"] for row in rows if row["arrival_s"] < DIES_S - 1},
        "while": {row["model"] for row in rows if DIES_S + SLACK_S < row["arrival_s"] < BACK_S},
        "after": {row["model"] for row in rows if row["arrival_s"] > BACK_S + SLACK_S},
    }
    assert models == {"before": {"desk-tiny"}, "while": {"desk-mini"}, "after": {"desk-tiny"}}
    by = [row["model"] for row in rows]
    assert record.summary["answered_by_desk-tiny"] == by.count("desk-tiny")
    assert record.summary["answered_by_desk-mini"] == by.count("desk-mini")
    assert record.summary["answered_by_two_models"] == 0
    assert {name: verdict for name, verdict in record.manifest["checks"].items() if verdict is not True} == {}
    assert record.manifest["check_events"]["served_as_well_as_possible"] > 100
    assert simulate(scenario()).digest == record.digest


@pytest.mark.parametrize("deaf_to", ["_consider", "_ask_for_plan"])
def test_a_leader_that_does_not_ask_is_found(monkeypatch: pytest.MonkeyPatch, deaf_to: str) -> None:
    """One that never looks for something better, or never at what is left, serves worse than it could for too long."""
    real = getattr(Offers, deaf_to)
    monkeypatch.setattr(Offers, deaf_to, lambda self: None if self.port.now > 39 * NS_PER_S else real(self))
    verdicts = simulate(scenario()).manifest["checks"]
    assert "has served worse than its workers allow for" in verdicts["served_as_well_as_possible"]


def test_without_a_smaller_model_the_same_loss_leaves_nobody_to_answer() -> None:
    """The same faults, one model: what is asked while two workers are away waits until they are back."""
    record = simulate(scenario({"smaller": []}))
    waited = [row for row in asked(record) if DIES_S + 1 < row["arrival_s"] < BACK_S]
    assert all(row["arrival_s"] + row["latency_s"] > BACK_S for row in waited)
    assert "answered_by_desk-mini" not in record.summary


@pytest.mark.parametrize(("service", "after"), [("critical", "desk-mini"), ("standard", "desk-tiny")])
def test_classes_part_ways(service: str, after: str) -> None:
    """One worker in twenty is away: three and one keep no critical promise, four small ones do."""
    degrade = {"policy__coordination__degrade__services": [service], "policy__coordination__degrade__away": 0.05}
    rows = asked(simulate(scenario({"faults": []}, duration_s=40.0, workload__requests=20, **degrade)))
    assert {row["model"] for row in rows} == {after}


def test_what_either_model_needs_is_fetched_once() -> None:
    """Desks begin with nothing and hold the large model on one of four; it is lost, and comes back without a byte."""
    large, small = "llama-3.2-3b-f16", "llama-3.2-1b"
    plain = desk_plain(0.0, 3)
    plain |= {"model": large, "smaller": [{"model": small}], "duration_s": 3000.0}
    plain["policy"]["harvest"] = {**plain["policy"]["harvest"], "max_memory": 0.15}
    plain["policy"]["coordination"]["degrade"] = {"dwell_s": 60.0, "drain_s": 20.0}  # far less than a fetch takes
    plain["fleet"] |= {"desktops": 4, "dedicated": 4}
    plain["network"] = {"home": "cable", "shards": "fetched"}
    plain["workload"] |= {"requests": 60}
    plain["faults"] = [fault | {"at_s": 1200.0, "down_s": 300.0} for fault in CRASHES]
    record = simulate(build(plain))

    assert {row["status"] for row in asked(record)} == {"answered"}
    offered = [row[4] for row in record.tables["decisions"] if row[3] == "offered"]
    assert [large in one for one in offered[-3:]] == [False, False, True]
    once_bytes = SHAPES[large].total_bytes() + 4 * SHAPES[small].total_bytes()
    assert record.summary["fetched_bytes"] == pytest.approx(once_bytes, rel=1e-6)
    assert {name: verdict for name, verdict in record.manifest["checks"].items() if verdict is not True} == {}


def test_pipelines_of_several_models_move_and_every_promise_holds() -> None:
    """Crashes and better plans: what stands is worth as much as it can be, nothing flaps, and it repeats itself."""
    rules = {"dwell_s": 5.0, "horizon_s": 60.0, "drain_s": 5.0, "load_bytes_per_s": 1e9, "service": "standard"}
    plain = to_plain(load("degraded", profile="", fleet__desktops=6, workload__requests=200))
    plain["policy"]["coordination"] |= {"replan": rules}
    record, again = simulate(build(plain)), simulate(build(plain))

    assert {row["status"] for row in asked(record)} == {"answered"}
    assert {name: verdict for name, verdict in record.manifest["checks"].items() if verdict is not True} == {}
    gone = [json.loads(row[4])["reason"] for row in record.tables["decisions"] if row[3] == "gone"]
    assert gone.count("a better plan") <= 4
    assert record.digest == again.digest


def test_the_report_counts_answers_by_model_and_class() -> None:
    """A column for each model that answered, the one that was asked for first; none where there is one model."""
    made = results.simulate(scenario())
    page = render(made)
    assert page.index("<th class=n>by desk-tiny") < page.index("<th class=n>by desk-mini")
    assert "<th class=n>by " not in render(results.simulate(scenario({"smaller": []}, duration_s=20.0)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"smaller": [{"model": "gpt"}]}, r"smaller\[0\].model='gpt': allowed: desk-mini, desk-tiny, "),
        ({"smaller": [{"model": "desk-tiny"}]}, r"smaller\[0\].model='desk-tiny': expected a name of its own"),
        ({"smaller": [{"model": "llama-3.2-1b"}]}, r"'llama-3.2-1b' has 128256 tokens, expected 512 as the first"),
        ({"smaller": [{"model": "x", "checkpoint": "d"}]}, r"smaller\[0\].model='x': allowed: "),
        (
            {"model": "desk-mini", "smaller": [{"model": "desk-tiny"}]},
            "model='desk-tiny': its weights take 6291456 bytes, expected fewer than the 884736 of 'desk-mini' be",
        ),
        (
            {"smaller": [{"model": "desk-mini"}, {"model": "twin", "shape": to_builtins(SHAPES["desk-mini"])}]},
            r"smaller\[1\].model='twin': its weights take 884736 bytes, expected fewer than the 884736 of 'desk-mini'",
        ),
    ],
)
@pytest.mark.parametrize("world", ["sim", "local"])
def test_models_that_cannot_stand_in_for_one_another_are_one_line(
    world: str, changes: dict[str, Any], said: str
) -> None:
    """The field, its value and what is allowed, in either world: each is smaller than the one before it."""
    with pytest.raises(ScenarioError, match=said):
        scenario({"world": world, **changes})
