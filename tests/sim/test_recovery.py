"""A stage that dies in the middle of an answer, in a whole village: the request goes on from what the leader knows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from experiments.results import load
from policies.coordination.efforts import Effort
from scenarios import faults
from scenarios.record import TABLES
from sim.village import simulate

TOKENS = 2000


def answered(*crashes: faults.Crash) -> dict[str, Any]:
    """Return what became of the only request, which got its true answer."""
    quiet = load("four_desks", seed=3, profile="", duration_s=40.0, workload__requests=1, workload__new_tokens=TOKENS)
    (row,) = simulate(msgspec.structs.replace(quiet, faults=crashes)).tables["requests"]
    told = dict(zip(TABLES["requests"], row, strict=True))
    assert (told["status"], told["tokens"], told["correct"]) == ("answered", TOKENS, True)
    return told


def test_a_request_goes_on_from_the_tokens_of_its_lost_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second stage dies at two thirds of the answer: it ends earlier than begun anew, by most of what was told."""
    whole = answered()
    stage = whole["nodes"].split(",")[1]
    crash = faults.Crash(at_s=whole["arrival_s"] + whole["latency_s"] * 2 / 3, node=stage, down_s=30.0)
    going_on = answered(crash)
    monkeypatch.setattr(Effort, "forced", lambda self, share: ())
    anew = answered(crash)

    assert stage not in going_on["nodes"].split(",")
    assert whole["latency_s"] < going_on["latency_s"] < anew["latency_s"] - whole["latency_s"] / 2
