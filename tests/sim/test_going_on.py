"""Attempts that follow a lost one in simulated compute: what was told goes in with the prompt, and costs no step."""

from __future__ import annotations

import pytest

from policies.jobs import Progress
from sim import answers
from sim.answers import answer_digest
from tests.sim.bench_compute import FAST, NS, REPORT_EVERY, SHAPE, Bench, prefill_s, token_s


def test_a_lost_session_tells_the_tokens_it_had() -> None:
    """As many as the law decodes up to the loss, and they are the first ones of the answer; a prefill has none yet."""
    bench = Bench(FAST, FAST, FAST, FAST)
    decoding, prefilling = bench.ask(0, 100, 500, 8), bench.ask(0, 100_000, 500, 8, head=2)
    for name in ("d1", "d3"):
        bench.at(1.0, bench.world.crash, bench.world.by_name[name])
    ended = bench.run()

    alone = Bench(FAST, FAST)
    job = alone.ask(0, 100, 500, 8)
    whole_s, done = alone.run()[job]
    round_s = (whole_s - done.first_token_ns * NS) / 499
    count = 1 + int((1.0 - done.first_token_ns * NS) / round_s)
    assert ended[decoding][1].emitted == answers.tokens(SHAPE.name, "prompt", 0, count)
    told = count - count % REPORT_EVERY
    assert (1.0, decoding, Progress(told, answers.tokens(SHAPE.name, "prompt", 0, told))) in bench.heard
    assert ended[prefilling][1].emitted == ()


@pytest.mark.parametrize("known", [1, 57, 299])
def test_forced_tokens_go_in_with_the_prompt_and_cost_no_step(known: int) -> None:
    """Prompt and forced tokens take one prefill, the rest a step each; the answer is the undisturbed one's."""
    bench = Bench(FAST)
    forced = answers.tokens(SHAPE.name, "prompt", 0, known)
    job = bench.ask(0, 200, 300, forced=forced)
    ended_s, done = bench.run()[job]

    steps_s = (300 - known - 1) * token_s(1, 200 + known + (300 - known) / 2)
    assert ended_s == pytest.approx(prefill_s(200 + known) + steps_s, rel=1e-6)
    assert (done.tokens, done.output) == (300, answer_digest(SHAPE.name, "prompt", 300))


def test_going_on_is_sooner_than_beginning_anew() -> None:
    """Each time the session is lost it goes on from what it told; the answer is the same, whichever stage died."""
    took = {}
    for going_on in (True, False):
        bench = Bench(*[FAST] * 6)
        forced: tuple[int, ...] = ()
        for attempt in (0, 2):
            job = bench.ask(20.0 * attempt, 100, 400, 8, head=attempt, forced=forced)
            bench.at(20.0 * attempt + 12.0, bench.world.crash, bench.world.by_name[f"d{attempt + 1}"])
            lost = bench.run(20.0 * attempt + 18.0)[job][1]
            assert len(lost.emitted) > len(forced)
            forced = lost.emitted if going_on else ()
        job = bench.ask(80.0, 100, 400, 8, head=4, forced=forced)
        ended_s, done = bench.run()[job]
        assert done.output == answer_digest(SHAPE.name, "prompt", 400)
        took[going_on] = ended_s - 80.0

    assert took[True] < 0.7 * took[False]


def test_a_liar_s_tokens_stay_a_lie_in_the_attempt_that_goes_on_from_them() -> None:
    """What a dishonest stage told is not the true answer's beginning, and what begins with them is another answer."""
    bench = Bench(FAST, FAST, FAST)
    bench.compute.liars["d1"] = range(1 << 62)
    job = bench.ask(0, 100, 400, 8)
    bench.at(1.0, bench.world.crash, bench.world.by_name["d1"])
    lost = bench.run(19.0)[job][1]
    assert lost.emitted != answers.tokens(SHAPE.name, "prompt", 0, len(lost.emitted))

    job = bench.ask(20.0, 100, 400, head=2, forced=lost.emitted)
    done = bench.run()[job][1]
    assert done.output != answer_digest(SHAPE.name, "prompt", 400)
