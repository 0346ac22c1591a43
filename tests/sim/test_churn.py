"""Requests under churn: closed forms where little dies, bytes within their bound, and the bars of the policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.bench import churn as bench
from models.inference import SHAPES, Device
from policies import recovery
from sim.churn import STRATEGIES, Churn, pipeline, serve

DEVICE = Device(60e9, 5e12, 0.7, 0.6, 0.3, 2e-5, 5e-4)


def churn(chance: float, prompt: str = "code") -> Churn:
    """Return the bench's setting."""
    return bench.setting(bench.PROMPTS[prompt], chance)


@pytest.mark.parametrize("name", ["plain", "replay", "chosen"])
def test_where_nothing_dies_nothing_is_paid(name: str) -> None:
    """Latency and bytes are the request's own: the policy copies nothing for what cannot happen."""
    met = churn(0.0)
    served = serve(met, STRATEGIES[name], 3, seed=1)
    assert served.latency_s == pytest.approx([met.first_token_s + 199 * met.token_s] * 3)
    assert served.sent_bytes == pytest.approx([met.live_bytes] * 3)
    assert served.deaths.tolist() == [0] * 3


def test_deaths_are_as_many_as_the_chance_says() -> None:
    """Each try of a token-hop dies with the chance, retries too: chance / (1 - chance) a token-hop in the mean."""
    met, requests = churn(1e-2), 2000
    deaths = serve(met, STRATEGIES["plain"], requests, seed=1).deaths
    mean = 800 * 1e-2 / (1 - 1e-2)
    assert abs(deaths.mean() - mean) < 4.0 * (mean / (1 - 1e-2) / requests) ** 0.5


@pytest.mark.parametrize("name", ["plain", "replay"])
def test_one_death_costs_its_detection_and_the_tokens_of_its_time(name: str) -> None:
    """What plain replay sends tells how many tokens the stage held, and they tell the whole delay."""
    met = churn(1e-3)
    dying, safe = met.stages[1], [stage._replace(failures_per_token=0.0) for stage in met.stages]
    met = replace(met, stages=(safe[0], dying, safe[2], safe[3]))
    served = serve(met, STRATEGIES[name], 400, seed=3)
    once = served.deaths == 1
    assert once.sum() > 20
    held = (served.plain_bytes - met.live_bytes)[once] / dying.input_bytes
    if name == "plain":
        again_s = held * (dying.input_bytes / dying.bytes_per_s + dying.prefill_s_token) + dying.step_s
    else:
        again_s = np.array([recovery.replay_s(dying, tokens) for tokens in held])
    undisturbed_s = met.first_token_s + 199 * met.token_s
    assert served.latency_s[once] == pytest.approx(undisturbed_s + 1.0 + met.one_way_s + again_s)
    assert served.sent_bytes == pytest.approx(served.plain_bytes)


def test_a_stage_without_a_spare_waits_for_its_worker() -> None:
    """With one worker a stage, a death takes the 30 s it is away, and then its replay."""
    met = replace(churn(1e-3), workers=1)
    more, none = (serve(replace(met, workers=n), STRATEGIES["plain"], 400, seed=3) for n in (9, 1))
    once = more.deaths == 1
    assert (none.latency_s - more.latency_s)[once] == pytest.approx([29.0] * once.sum())


@pytest.mark.parametrize("chance", [1e-4, 1e-3, 1e-2])
def test_the_bytes_are_within_their_bound_after_each_request(chance: float) -> None:
    """Everything sent so far is at most 1.5 times what plain replay would have sent so far, whatever died."""
    served = serve(churn(chance), STRATEGIES["chosen"], 500, seed=2)
    assert (np.cumsum(served.sent_bytes) <= 1.5 * np.cumsum(served.plain_bytes) * (1 + 1e-9)).all()


def test_a_standby_that_holds_all_leaves_only_the_detection() -> None:
    """At 1 % a death of a stage that is copied costs less than half of what replay costs, however it is copied."""
    met = churn(1e-2)
    paid = {name: serve(met, STRATEGIES[name], 300, seed=2).latency_s.mean() for name in STRATEGIES}
    undisturbed_s = met.first_token_s + 199 * met.token_s
    assert paid["checkpoint"] - undisturbed_s < 0.5 * (paid["replay"] - undisturbed_s)
    assert paid["buddy"] - undisturbed_s < 0.5 * (paid["replay"] - undisturbed_s)


def test_the_bars_hold_on_prompts_of_code() -> None:
    """A part of `twin bench churn`: p99, bytes and requests that finish, at the three rates."""
    figures = bench.measure(requests=2500, prompts=("code",))
    lines = {line.key: line for line in bench.LINES}
    assert [key for key, value in figures.items() if not lines[key].meets(value)] == []


def test_more_deaths_than_draws_are_refused() -> None:
    """In one line, before anything is served."""
    with pytest.raises(ValueError, match=r"failures_per_token x new_tokens is 40\.0; allowed: up to 16"):
        serve(churn(0.2), STRATEGIES["plain"], 1, seed=1)
    with pytest.raises(ValueError, match="stages is 5; allowed: a divisor of the model's 32 layers"):
        pipeline(SHAPES["llama-3.1-8b"], DEVICE, 5, 1e6, 0.01, 10, 10, 1e-3)
