"""A village with a failure detector in the twin: its record, its promises, and what it is good for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experiments.replay import replay
from experiments.report import render
from experiments.results import Run
from scenarios.record import TABLES, Record
from scenarios.schema import build
from sim.village import simulate
from tests.sim.test_village import desk_plain

SWIM = {"detector": "swim"}
PHI = {"detector": "phi"}
CRASHES = [
    {"kind": "crash", "at_s": 100, "node": "worker", "down_s": 60},
    {"kind": "crash", "at_s": 250, "node": "leader", "down_s": 60},
    {"kind": "partition", "at_s": 350, "group": ["desk-5"], "for_s": 30},
]


def seven_desks(detector: dict[str, Any] | None, *, journals: str = "none") -> Record:
    """Run ten minutes of seven desks: a busy worker crashes, the leader, and one is cut off for a while."""
    plain = desk_plain(audit_share=0.0, seed=3)
    if detector is not None:
        plain["policy"]["membership"] = detector
    plain["workload"].update(requests=400, new_tokens=400)  # so that whoever crashes has sessions
    return simulate(build({**plain, "faults": CRASHES, "record": {"journals": journals}}))


@pytest.fixture(name="alone", scope="module")
def _alone() -> Record:
    return seven_desks(None)


def recovered_s(record: Record) -> float:
    """Return when the last request was answered that was under way when the worker crashed, counted from the crash."""
    rows = [dict(zip(TABLES["requests"], row, strict=True)) for row in record.tables["requests"]]
    ends = [row["arrival_s"] + row["latency_s"] - 100 for row in rows if row["arrival_s"] < 100]
    return max(ends)


@pytest.mark.parametrize("detector", [SWIM, PHI], ids=["swim", "phi"])
def test_a_village_with_a_detector_keeps_its_promises(detector: dict[str, Any], alone: Record) -> None:
    """Crashes are noticed, all checks hold and were asked, and a lost session runs again long before the lease ends."""
    record = seven_desks(detector, journals="all")
    s = record.summary

    assert all(verdict is True for verdict in record.manifest["checks"].values()), record.manifest["checks"]
    assert record.manifest["check_events"]["the_fallen_are_declared_dead"] > 50
    assert (s["detection_falls_noticed"], s["crashes"]) == (2, 2)
    assert 1 < s["detection_p50_s"] <= s["detection_max_s"] < 25
    assert s["detection_dead_while_up"] >= 6  # whoever is cut off is held dead by all the others
    assert 10 < s["detection_bytes_per_node_per_s"] < 1000
    gone = [json.loads(row[4])["reason"] for row in record.tables["decisions"] if row[3] == "gone"]
    assert any(reason.endswith(": declared dead") for reason in gone)
    assert recovered_s(record) < recovered_s(alone) / 2
    assert replay(record.journals).passed
    assert "detection max (s)" in render(Run(record))


def test_views_are_recorded_with_their_lives(alone: Record) -> None:
    """The table of decisions says who saw whom how in which life; without a detector there is no such row."""
    record = seven_desks(SWIM)
    seen = [(row[1], json.loads(row[4])) for row in record.tables["decisions"] if row[3] == "seen"]
    crashed = next(row[2] for row in record.tables["faults"] if row[1] == "crash")
    lives = [(view["status"], view["incarnation"]) for by, view in seen if by == "desk-1" and view["peer"] == crashed]

    assert lives == sorted(lives, key=lambda item: item[1])
    assert {status for status, _ in lives} == {"alive", "suspect", "dead"}
    assert lives[-1][0] == "alive"
    assert lives[-1][1] > lives[0][1]
    assert not any(row[3] == "seen" for row in alone.tables["decisions"])
    assert not any(name.startswith("detection") for name in alone.summary)
