"""The choice between replay, buddy and checkpoint: least cost, the right way round, and bytes within their bound."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies import recovery
from policies.recovery import WAYS, Copying, Exposure, Rules, choose, cover

exposures = st.builds(
    Exposure,
    failures_per_token=st.just(0.0) | st.floats(1e-12, 0.1),  # what is rarer has no square that a float holds
    input_bytes=st.floats(4.0, 2e4),
    kv_bytes=st.floats(1e3, 1e6),
    bytes_per_s=st.floats(1e5, 1e9),
    prefill_s_token=st.floats(1e-5, 0.1),
    step_s=st.floats(0.0, 0.5),
    others_s_token=st.just(0.0) | st.floats(0.0, 0.1),
)
rules = st.builds(Rules, token_s=st.floats(0.01, 2.0), price=st.floats(0.0, 1.0))
helds, lefts = st.floats(0.0, 1e5), st.floats(1.0, 1e4)


@given(exposures, helds, lefts, rules)
def test_the_choice_is_the_cheapest(stage: Exposure, held: float, left: float, rule: Rules) -> None:
    """No way costs less than the chosen one, and no interval of checkpoints less than the one it takes."""
    chosen = choose(stage, held, left, rule)
    assert chosen.cost_s == min(way(stage, held, left, rule).cost_s for way in WAYS.values())
    assert chosen == WAYS[chosen.way](stage, held, left, rule)


claims = st.builds(
    Exposure,
    failures_per_token=st.sampled_from([0.0, 1e-6, 1.0]),
    input_bytes=st.sampled_from([4.0, 8192.0]),
    kv_bytes=st.just(1e4),
    bytes_per_s=st.floats(1e-18, 1e18),
    prefill_s_token=st.floats(0.0, 1e20),
    step_s=st.floats(0.0, 1e20),
    others_s_token=st.floats(0.0, 1e20),
)


@example([Exposure(1e-6, 4.0, 1e4, 1e7, 0.0, 1e18)], 0, 3, 0.0)  # a pass so long that a token's part of it is lost
@given(st.lists(claims, min_size=1, max_size=3), st.integers(0, 4096), st.integers(1, 4096), st.floats(0.0, 1e9))
def test_whatever_workers_claim_there_is_an_answer(
    stages: list[Exposure], held: int, left: int, allowance_bytes: float
) -> None:
    """One that lies within what a renewal may say must not stop the leader: a way is chosen, and a number of tokens."""
    rule = Rules(0.05)
    found = [Copying(stage, choose(stage, held, left, rule), held, 0.0) for stage in stages]
    assert all(0 <= int(tokens) <= held + left for tokens in cover(found, left, rule, allowance_bytes))


@given(exposures, helds, lefts, rules, st.floats(1.0, 10.0))
def test_who_prepares_also_prepares_where_failures_are_more(
    stage: Exposure, held: float, left: float, rule: Rules, factor: float
) -> None:
    """Replay is left once and for all as failures grow, for replay's cost grows with them faster than any other's."""
    more = stage._replace(failures_per_token=min(1.0, stage.failures_per_token * factor))
    if choose(stage, held, left, rule).way != "replay":
        replayed, chosen = recovery.replay(more, held, left, rule), choose(more, held, left, rule)
        assert chosen.way != "replay" or math.isclose(replayed.cost_s, chosen.cost_s)


worsening = st.sampled_from(["failures_per_token", "prefill_s_token", "others_s_token"])


@given(exposures, helds, lefts, rules, worsening, st.floats(1.0, 10.0))
def test_replay_costs_more_where_it_has_more_to_do(
    stage: Exposure, held: float, left: float, rule: Rules, field: str, factor: float
) -> None:
    """With failures, with computing, with the tokens that are held, and on a slower way."""
    cost_s = recovery.replay(stage, held, left, rule).cost_s
    worse = stage._replace(**{field: min(1.0, getattr(stage, field) * factor)})
    slower = stage._replace(bytes_per_s=stage.bytes_per_s / factor)
    for other, tokens in ((worse, held), (slower, held), (stage, held * factor)):
        assert recovery.replay(other, tokens, left, rule).cost_s >= cost_s * (1 - 1e-12)


@given(exposures, helds, lefts, rules)
def test_nobody_prepares_for_what_cannot_happen(stage: Exposure, held: float, left: float, rule: Rules) -> None:
    """Without failures the choice is replay, which then costs nothing."""
    chosen = choose(stage._replace(failures_per_token=0.0), held, left, rule)
    assert (chosen.way, chosen.cost_s) == ("replay", 0.0)


@given(exposures, rules, st.integers(1, 5000))
def test_the_interval_is_young_s(stage: Exposure, rule: Rules, other: int) -> None:
    """No other whole interval costs less than a rounding's worth: a pass every tau, half of tau lost a failure."""

    def cost_s(tokens: int) -> float:
        again_s = recovery.replay_s(stage, 1.0) - stage.step_s
        return rule.price * stage.step_s / tokens + stage.failures_per_token * again_s * tokens / 2.0

    if stage.failures_per_token > 0.0:
        tau = recovery.interval_tokens(stage, 5000.0, rule)
        near = min(cost_s(tau), cost_s(tau + 1), cost_s(max(1, tau - 1)))
        assert near <= cost_s(other) * (1 + 1e-9) + 1e-300


@pytest.mark.parametrize("copied_per_s", [2.0, 10.0, 40.0])
def test_the_backlog_is_what_a_step_by_step_count_gives(copied_per_s: float) -> None:
    """Whether the standby catches up at once, late or never."""
    held, left, rule = 300.0, 100, Rules(token_s=0.2)
    behind, seen = held, []
    for _ in range(100 * left):
        seen.append(behind)
        behind = max(0.0, behind + 0.01 - copied_per_s * rule.token_s / 100)
    assert recovery.backlog_tokens(held, left, rule, copied_per_s) == pytest.approx(np.mean(seen), rel=0.02)


copyings = st.lists(st.tuples(exposures, st.floats(0.0, 5e3), st.floats(0.0, 1.0)), min_size=1, max_size=5)


@given(copyings, st.floats(1.0, 1e3), rules, st.floats(0.0, 1e9))
def test_the_cover_is_the_optimum_within_the_bytes(
    drawn: list[tuple[Exposure, float, float]], left: float, rule: Rules, allowed: float
) -> None:
    """Karush, Kuhn and Tucker: the last byte saves as much of the squared time in each stage that gets any.

    Where a stage gets none it would save less. All that is allowed is used, or nothing is missing; no more is sent, and
    nothing that is copied is given up.
    """
    stages = [Copying(e, choose(e, held, left, rule), held, share * held) for e, held, share in drawn]
    until = cover(stages, left, rule, allowed)

    size = np.array([each.choice.copy_bytes for each in stages])
    most = np.array([each.held + left - each.copied for each in stages])
    more = np.array(until) - [each.copied for each in stages]
    assert (more >= 0.0).all()
    assert (more <= most * (1 + 1e-9)).all()
    sent = float(more @ size)
    assert sent <= allowed * (1 + 1e-6) + 1e-3
    worth = [
        e.choice.way != "replay" and recovery.replay(e.stage, e.held, left, rule).cost_s > e.choice.cost_s
        for e in stages
    ]
    assert (more[~np.array(worth)] == 0.0).all()
    a_token_s = [recovery.replay_s(e.stage, 1.0) - e.stage.step_s for e in stages]
    last = [e.stage.failures_per_token * s**2 for e, s in zip(stages, a_token_s, strict=True)] * (most - more) / size
    wanted = float((most * size)[worth].sum())
    if sent < min(allowed, wanted) * (1 - 1e-6) - 1e-3:
        raise AssertionError("bytes are left")
    if sent < wanted * (1 - 1e-3):  # else what is left is rounding
        for k in np.flatnonzero(worth):
            for other in np.flatnonzero(worth & (more > 1e-6 * most)):
                assert last[k] <= last[other] * (1 + 1e-3) + 1e-6 * max(last)


def test_stages_that_are_alike_are_copied_alike() -> None:
    """Half the bytes of two go to both; one whose tokens are small is copied nearly whole before them."""
    big = Exposure(1e-3, 8192.0, 32768.0, 2.5e6, 5e-3, 0.02)
    small = big._replace(input_bytes=4.0)
    stages = [Copying(e, recovery.checkpoint(e, 1000.0, 200.0, Rules(0.25)), 1000.0, 0.0) for e in (small, big, big)]
    first, *others = cover(stages, 200.0, Rules(0.25), 1200 * 8192.0)
    assert others == pytest.approx([600.0, 600.0], rel=1e-3)
    assert first > 1195.0


def test_each_way_has_its_place() -> None:
    """Rare failures: replay. A thin stage, whose KV is smaller than an activation: a buddy. Else a checkpoint."""
    rare = Exposure(1e-5, 8192.0, 32768.0, 1e6, 5e-3, 0.02)
    thin = Exposure(1e-2, 8192.0, 1024.0, 1e6, 5e-3, 0.02)
    deep = Exposure(1e-2, 8192.0, 32768.0, 1e6, 5e-3, 0.02)
    assert [choose(e, 1024, 200, Rules(0.25)).way for e in (rare, thin, deep)] == ["replay", "buddy", "checkpoint"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"failures_per_token": -0.1}, "failures_per_token is -0.1; allowed: 0 to 1"),
        ({"bytes_per_s": 0.0}, "bytes_per_s is 0.0; allowed: above 0"),
        ({"input_bytes": math.inf}, "input_bytes is inf; allowed: above 0"),
        ({"step_s": -1.0}, "step_s is -1.0; allowed: from 0"),
    ],
)
def test_what_is_no_number_is_one_line(changes: dict[str, float], said: str) -> None:
    """The field, its value and what is allowed."""
    with pytest.raises(ValueError, match=said):
        choose(Exposure(1e-3, 8192.0, 1e4, 1e6, 5e-3, 0.02)._replace(**changes), 10, 10, Rules(0.2))


@given(st.lists(st.floats(0.0, 1e6), max_size=6), st.floats(0.0, 1e7), st.floats(1.0, 3.0))
def test_the_allowance_keeps_the_ratio_whatever_fails(replays: list[float], live: float, ratio: float) -> None:
    """Live traffic and all that is allowed are together the ratio of what plain replay sends, after each failure."""
    for replayed in itertools.accumulate(replays, initial=0.0):
        allowed = recovery.allowance_bytes(live, replayed, ratio)
        assert live + allowed == pytest.approx(ratio * (live + replayed))
