"""A stage that dies in the middle of an answer, in a whole village: the request goes on from what the leader knows."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from experiments.results import load
from policies.coordination.efforts import Effort
from scenarios import faults
from scenarios.record import TABLES
from scenarios.schema import build, to_plain
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


LONG = 20_000  # tokens of a prompt: 3.2 s through the three stages


def long_prompt(rule: str, smaller: list[dict[str, str]], *crashes: faults.Crash) -> dict[str, Any]:
    """Return what became of the only request of five desks, two of which stand by where deaths are prepared for."""
    quiet = load("four_desks", seed=3, profile="", duration_s=60.0, fleet__desktops=5, fleet__committee=1)
    plain = to_plain(quiet)
    plain["workload"].update(requests=1, prompt_tokens=LONG, new_tokens=1000, retry_s=30.0)
    plain["smaller"], plain["policy"]["coordination"]["degrade"] = smaller, {"services": ["standard"]}
    plain["policy"]["recovery"] = {"rule": rule} | (
        {"deaths_per_h": 60.0, "bytes_ratio": 3.0} if rule == "prepared" else {}
    )
    record = simulate(msgspec.structs.replace(build(plain), faults=crashes))
    (row,) = record.tables["requests"]
    told = dict(zip(TABLES["requests"], row, strict=True))
    assert (told["status"], told["tokens"], told["correct"]) == ("answered", 1000, True)
    return told | record.summary


@pytest.mark.parametrize("smaller", [[], [{"model": "desk-mini"}]], ids=["one model", "two models"])
def test_preparing_spares_a_long_prompt_its_second_prefill(smaller: list[dict[str, str]]) -> None:
    """Its second stage dies near the end: with standbys it ends earlier by what the prompt takes, and by a plan.

    Undisturbed it ends as without them: the copies leave over links that nothing else needs here.
    """
    whole: dict[str, dict[str, Any]] = {}
    rules: tuple[Literal["replay", "prepared"], ...] = ("replay", "prepared")
    for rule in rules:
        whole[rule] = long_prompt(rule, smaller)
    assert whole["prepared"]["latency_s"] == pytest.approx(whole["replay"]["latency_s"], rel=0.01)
    prompt_s = whole["replay"]["first_token_s"]
    assert prompt_s > 3.0
    at_s = whole["replay"]["arrival_s"] + 0.9 * whole["replay"]["latency_s"]
    crash = faults.Crash(at_s=at_s, node=whole["replay"]["nodes"].split(",")[1], down_s=300.0)
    replayed, prepared = (long_prompt(rule, smaller, crash) for rule in rules)
    assert prepared["latency_s"] < replayed["latency_s"] - 0.9 * prompt_s
    assert "resumed_attempts" not in replayed
    assert (prepared["resumed_attempts"], prepared["resumed_known_tokens"] > LONG) == (1.0, True)
    assert prepared["resumed_again_tokens"] < 100 < LONG < prepared["copied_tokens"]
    assert prepared["first_token_s"] < 0.1  # of the attempt that went on: there was next to nothing to take in
