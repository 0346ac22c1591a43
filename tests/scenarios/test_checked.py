"""What the law says of a run with spot checks: held against draws played out one by one, and against sums by hand."""

from __future__ import annotations

from math import isnan, sqrt
from typing import Any

import numpy as np
import pytest

from models.inference import SHAPES
from policies.config import SpotChecksConfig
from policies.verification.law import check_cost
from scenarios.checked import CHEATS, law_summary, least_found

MODEL = "llama-3.2-1b"
MODELS = {MODEL: SHAPES[MODEL]}
PLAYED = 40_000


def rows(sessions: int, prompt: int = 100, tokens: int = 50) -> tuple[list[Any], list[Any]]:
    """Return tables of so many answered requests, all of them by a, half of them by b and c."""
    request = ("r", "c", "high", 0.0, 9.0, prompt, tokens, "answered", "", 0.1, 1.0, 1, tokens, "d", True, "a", MODEL)
    lost = (*request[:7], "lost", *request[8:])
    stages = ("a:0-8,b:8-16", "a:0-8,c:8-16")
    return [request] * sessions + [lost], [("op", "a", 0.0, 0.1, 1.0, tokens, stages[k % 2]) for k in range(sessions)]


@pytest.mark.parametrize("cheats", CHEATS)
@pytest.mark.parametrize(
    ("share", "found", "bound"), [(0.02, 1.0, 80), (0.3, 0.5, 80), (0.1, 0.97, 40), (0.0, 1.0, 80)]
)
def test_a_cheat_is_noticed_as_often_as_in_draws_played_out(
    cheats: str, share: float, found: float, bound: int
) -> None:
    """Of 40,000 workers that each falsify, are drawn and are found by lot, within four standard errors as many."""
    requests, sessions = rows(80)
    summary = law_summary(SpotChecksConfig(share=share), MODELS, found, bound, requests, sessions)
    theirs = int(summary["checking_worker_sessions"])
    draws = np.random.default_rng(7).random((3, PLAYED, theirs))
    noticed = ((draws[0] < CHEATS[cheats]) & (draws[1] < share) & (draws[2] < found)).any(axis=1).mean()
    error = sqrt(max(noticed * (1 - noticed), 1e-9) / PLAYED)

    assert theirs == bound // 2  # of a, b and c the one in the middle, which has a stage in every other session
    assert summary[f"checking_noticed_{cheats}"] == pytest.approx(noticed, abs=4 * error)


def test_the_cost_is_the_share_of_the_operations_that_checks_take() -> None:
    """A check's operations, as often as sessions are checked, over those and the serving's; unknown with no answer."""
    requests, sessions = rows(10)
    one = check_cost(SHAPES[MODEL], 16, 100, 50, from_tokens=True)
    rules = SpotChecksConfig(share=0.25)
    checks = 0.25 * one.flops

    cost = law_summary(rules, MODELS, 1.0, 10, requests, sessions)["checking_cost_share"]
    none = law_summary(rules, MODELS, 1.0, 0, requests[-1:], [])

    assert cost == pytest.approx(checks / (checks + one.served_flops))
    assert isnan(none["checking_cost_share"])
    assert [none[f"checking_{name}"] for name in ("worker_sessions", "noticed_always", "noticed_tenth")] == [0, 0, 0]


def test_what_a_check_finds_is_what_the_worst_pair_finds_of_the_worst_cheat() -> None:
    """Float32 finds every calibrated cheat; two bfloat16 executors miss four bits in some of a hundred blocks."""
    assert least_found(["torch fp32", "jax fp32"]) == 1.0
    assert least_found(["torch bf16", "jax bf16"]) == pytest.approx(0.974, abs=0.001)
    assert least_found(["torch fp32", "torch bf16"]) == least_found(["torch bf16"]) < 1.0
