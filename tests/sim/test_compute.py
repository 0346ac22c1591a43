"""Simulated compute against closed forms of the cost law: streams, batches, pauses, losses, and the meter."""

from __future__ import annotations

from unittest.mock import ANY

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import inference
from policies.jobs import Done, LoadJob, Lost
from policies.wire import encode
from scenarios.hosts import UNMEASURED
from sim.answers import answer_digest
from sim.bulk import ASK_BYTES
from sim.compute import LOST_AFTER_S
from sim.laws import Roofline, measured
from sim.loads import LOAD_BYTES_PER_S
from tests.sim.bench_compute import (
    BACKBONE_S,
    FAST,
    LAYERS,
    NS,
    ONE_WAY_S,
    RATE,
    SHAPE,
    SLOW,
    Bench,
    prefill_s,
    token_s,
)


@pytest.mark.parametrize("speed", [1.0, 0.5, 0.13])
@pytest.mark.parametrize("new", [1, 2, 100])
def test_one_stream_takes_its_prefill_and_its_steps(speed: float, new: int) -> None:
    """Alone, a session takes the law's prefill, which speaks a token, and new - 1 steps at its mean context."""
    bench = Bench(FAST)
    bench.compute.set_speed("d0", speed)
    job = bench.ask(0, 200, new)
    ended_s, done = bench.run()[job]

    first_s = prefill_s(200, speed=speed)
    assert ended_s == pytest.approx(first_s + (new - 1) * token_s(1, 200 + new / 2, speed=speed), rel=1e-6)
    assert done.first_token_ns * NS == pytest.approx(first_s, rel=1e-6)
    assert (done.tokens, done.output) == (new, answer_digest(SHAPE.name, "prompt", new))


@given(st.integers(1, 131_072), st.integers(1, LAYERS), st.booleans(), st.sampled_from([FAST, SLOW]))
def test_prompts_cost_what_the_law_says(tokens: int, layers: int, last: bool, device: inference.Device) -> None:
    """A prompt's cost is the law's own at any length, though the law is asked three times a stage only."""
    cost = Roofline(SHAPE, device).prefill(layers, last, tokens)

    assert sum(cost) == pytest.approx(prefill_s(tokens, layers, last, device=device), rel=1e-11)


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_equal_streams_share_prefill_and_advance_as_one_batch(streams: int) -> None:
    """n equal sessions prefill in n times the time and then step together over n contexts."""
    bench = Bench(FAST)
    jobs = [bench.ask(0, 300, 50) for _ in range(streams)]
    ended = bench.run()

    step_s = token_s(streams, streams * (300 + 25))
    for job in jobs:
        assert ended[job][0] == pytest.approx(streams * prefill_s(300) + 49 * step_s, rel=1e-6)


def test_a_prefill_beside_a_decode_takes_half_the_device() -> None:
    """While a prompt is taken in, both go at half speed; then two streams step together until one ends."""
    bench = Bench(FAST)
    long, short = bench.ask(0, 100, 400), bench.ask(2.0, 500, 50)
    ended = bench.run()

    alone_s, ours_s, both_s = token_s(1, 300), prefill_s(500), token_s(2, 300 + 525)
    left = 399 - (2.0 - prefill_s(100)) / alone_s  # tokens left when the prompt comes
    left -= 2 * ours_s / (2 * alone_s)
    together_s = 49 * both_s
    assert left * both_s > together_s
    left -= 49
    short_s = 2.0 + 2 * ours_s + together_s
    assert ended[short][0] == pytest.approx(short_s, rel=1e-6)
    assert ended[long][0] == pytest.approx(short_s + left * alone_s, rel=1e-6)


def test_two_stages_add_up_and_hop_for_every_token() -> None:
    """A token costs both stages' steps, the activations' way forward and the token's way back."""
    bench = Bench(FAST, SLOW)
    job = bench.ask(0, 120, 30, 10)
    ended_s, _ = bench.run()[job]

    def hops_s(tokens: int) -> float:
        way_s = 2 * ONE_WAY_S + BACKBONE_S
        return 2 * way_s + (tokens * SHAPE.activation_bytes() + 4) / RATE

    first_s = prefill_s(120, 10, False) + prefill_s(120, LAYERS - 10, True, device=SLOW) + hops_s(120)
    step_s = token_s(1, 135, 10, False) + token_s(1, 135, LAYERS - 10, True, device=SLOW) + hops_s(1)
    assert ended_s == pytest.approx(first_s + 29 * step_s, rel=1e-6)


def test_work_is_conserved_when_the_speed_changes_midway() -> None:
    """What was done before a change of speed stays done; the rest goes at the new speed; 0 pauses, and it goes on."""
    bench = Bench(FAST)
    job = bench.ask(0, 100, 200)
    for at_s, speed in ((1.0, 0.5), (2.0, 0.0), (7.0, 0.25)):
        bench.at(at_s, bench.compute.set_speed, "d0", speed)
    ended_s, _ = bench.run()[job]

    assert prefill_s(100) < 1.0
    left = 199 - (1.0 - prefill_s(100)) / token_s(1, 200) - 1.0 / token_s(1, 200, speed=0.5)
    assert ended_s == pytest.approx(7.0 + left * token_s(1, 200, speed=0.25), rel=1e-6)


def stopped(bench: Bench, name: str, at_s: float, for_s: float) -> None:
    """Let a node's process stand still for a while."""
    node = bench.world.by_name[name]
    silence = bench.compute.silence
    for moment_s, speed, tell in ((at_s, 0.0, silence.stop), (at_s + for_s, 1.0, silence.go_on)):
        bench.at(moment_s, bench.compute.set_speed, name, speed)
        bench.at(moment_s, tell, node)


def test_a_stage_that_is_stopped_for_a_moment_costs_its_time_and_for_longer_the_session() -> None:
    """Work stands still while a process does; a head hears of silence after a while, not while it is stopped."""
    alone = Bench(FAST, FAST)
    job = alone.ask(0, 100, 400, 8)
    whole_s, _ = alone.run()[job]
    for name, for_s in (("d1", 0.9 * LOST_AFTER_S), ("d0", 5 * LOST_AFTER_S)):
        bench = Bench(FAST, FAST)
        job = bench.ask(0, 100, 400, 8)
        stopped(bench, name, 2.0, for_s)
        ended_s, outcome = bench.run()[job]
        assert isinstance(outcome, Done)
        assert ended_s == pytest.approx(whole_s + for_s, rel=1e-6)

    bench = Bench(FAST, FAST, FAST)
    early, late = bench.ask(0, 100, 400, 8), bench.ask(4.0, 100, 400, 8)
    other = bench.ask(0, 100, 40, head=2)
    stopped(bench, "d1", 2.0, 1e3)
    ended = bench.run()
    assert (ended[early][0], ended[late][0]) == (2.0 + LOST_AFTER_S, 4.0 + LOST_AFTER_S)
    assert {(ended[job][1].reason, ended[job][1].node) for job in (early, late)} == {("stage is silent", "d1")}
    assert isinstance(ended[other][1], Done)


@given(st.lists(st.tuples(st.integers(1, 800), st.floats(0, 0.01)), min_size=1, max_size=5), st.floats(0.1, 1))
def test_a_busy_device_ends_when_its_work_is_done(prompts: list[tuple[int, float]], speed: float) -> None:
    """Prompts that share a device keep it busy for the sum of their times, whatever their arrivals."""
    bench = Bench(FAST)
    bench.compute.set_speed("d0", speed)
    for tokens, at_s in prompts:
        bench.ask(at_s, tokens, 1)
    ended = bench.run()

    busy_until_s = 0.0
    for tokens, at_s in sorted(prompts, key=lambda prompt: prompt[1]):
        busy_until_s = max(busy_until_s, at_s) + prefill_s(tokens, speed=speed)
    assert max(time_s for time_s, _ in ended.values()) == pytest.approx(busy_until_s, rel=1e-6, abs=1e-7)
    work_s = sum(prefill_s(tokens, speed=speed) for tokens, _ in prompts)
    assert bench.compute.take_load("d0", 1e5) * 1e5 == pytest.approx(work_s * speed, rel=1e-6)


@pytest.mark.parametrize("streams", [1, 2])
def test_the_meter_reads_the_time_a_stage_works_not_the_time_it_waits(streams: int) -> None:
    """A pipeline's stages are charged for their own steps, once a batch; hops and the other stage charge nobody."""
    bench = Bench(FAST, SLOW, FAST)
    for _ in range(streams):
        bench.ask(0, 120, 30, 10)
    bench.run(60.0)

    context = 135 * streams
    own = streams * prefill_s(120, 10, False) + 29 * token_s(streams, context, 10, False)
    rest = LAYERS - 10
    other = streams * prefill_s(120, rest, device=SLOW) + 29 * token_s(streams, context, rest, device=SLOW)
    assert bench.compute.take_load("d0", 60.0) * 60.0 == pytest.approx(own, rel=1e-6)
    assert bench.compute.take_load("d1", 60.0) * 60.0 == pytest.approx(other, rel=1e-6)
    assert bench.compute.take_load("d2", 60.0) == 0.0
    assert bench.compute.take_load("d0", 60.0) == 0.0  # read once


def test_a_batch_and_a_prefill_keep_a_device_exactly_busy() -> None:
    """However many streams share one device, it is busy for as long as there is one, and no longer."""
    bench = Bench(FAST)
    bench.compute.set_speed("d0", 0.5)
    for at_s in (0.0, 0.2, 0.4):
        bench.ask(at_s, 300, 40)
    last_s = max(time_s for time_s, _ in bench.run().values())

    assert bench.compute.take_load("d0", 1e5) * 1e5 == pytest.approx(last_s * 0.5, rel=1e-6)


def test_a_stage_that_goes_down_is_noticed_by_the_head() -> None:
    """The head hears Lost, with the node, after its time-out; other sessions go on; the device is free again."""
    bench = Bench(FAST, FAST, FAST)
    lost, kept = bench.ask(0, 100, 500, 8), bench.ask(0, 100, 100, head=2)
    bench.at(1.0, bench.world.crash, bench.world.by_name["d1"])
    ended = bench.run()

    assert ended[lost] == (pytest.approx(1.0 + LOST_AFTER_S), Lost("stage went down", "d1", ANY))
    assert isinstance(ended[kept][1], Done)
    assert not bench.compute.sessions
    assert not any(executor.sessions for executor in bench.compute.executors.values())


def test_a_head_that_goes_down_hears_nothing_and_frees_its_stages() -> None:
    """A crashed head's session vanishes: no outcome reaches its next life, and its neighbours speed up."""
    bench = Bench(FAST, FAST)
    bench.ask(0, 100, 500, 8)
    beside = bench.ask(0, 100, 300, head=1)
    bench.at(1.0, bench.world.crash, bench.world.by_name["d0"])
    bench.at(1.5, bench.world.start, bench.world.by_name["d0"])
    ended = bench.run()

    assert set(ended) == {beside}
    assert ended[beside][0] < 2 * prefill_s(100) + 299 * token_s(2, 2 * 250)


def test_a_session_through_a_dead_node_is_lost_after_the_time_out() -> None:
    """Nobody answers for a node that is down or unknown."""
    bench = Bench(FAST, FAST)
    bench.world.crash(bench.world.by_name["d1"])
    job = bench.ask(1.0, 10, 10, 8)

    assert bench.run()[job] == (pytest.approx(1.0 + LOST_AFTER_S), Lost("stage is down", "d1"))


@pytest.mark.parametrize("asked_s", [0.0, 1.5])
def test_a_partition_ends_sessions_across_it_and_lets_none_begin(asked_s: float) -> None:
    """Tokens do not cross a cut, whether the session was there before it or comes while it lasts."""
    bench = Bench(FAST, FAST, FAST, FAST)
    across, beside = bench.ask(asked_s, 100, 900, 8, head=1), bench.ask(asked_s, 100, 200, 8, head=2)

    def begin() -> None:
        bench.world.network.cut_off([0, 1])
        bench.compute.cut()

    bench.at(1.0, begin)
    ended = bench.run()

    assert ended[across] == (pytest.approx(max(1.0, asked_s) + LOST_AFTER_S), Lost("link down", "", ANY))
    assert isinstance(ended[beside][1], Done)


def test_a_cancelled_session_is_heard_of_no_more_and_its_share_returns() -> None:
    """Cancelling frees the device at once; unknown jobs are ignored."""
    bench = Bench(FAST)
    node = bench.world.by_name["d0"]
    gone, kept = bench.ask(0, 400, 100), bench.ask(0, 400, 100)
    half_s = prefill_s(400)  # both are half way through their prompts
    bench.at(half_s, bench.compute.cancel, node, gone)
    bench.at(half_s, bench.compute.cancel, node, 99)
    ended = bench.run()

    assert set(ended) == {kept}
    assert ended[kept][0] == pytest.approx(1.5 * prefill_s(400) + 99 * token_s(1, 450), rel=1e-6)


def test_a_liar_in_the_pipeline_makes_the_answer_wrong_from_its_time_on() -> None:
    """An answer is right before the liar begins and wrong after; two liars do not agree."""
    bench = Bench(FAST, FAST)
    bench.compute.liars = {"d0": range(int(5e9), int(1e15)), "d1": range(int(5e9), int(1e15))}
    jobs = [bench.ask(0, 10, 10), bench.ask(6, 10, 10), bench.ask(6, 10, 10, head=1)]
    ended = bench.run()

    right = answer_digest(SHAPE.name, "prompt", 10)
    outputs = [ended[job][1].output for job in jobs]
    assert outputs[0] == right
    assert len({right, outputs[1], outputs[2]}) == 3


def test_loading_a_shard_takes_its_bytes_from_flash() -> None:
    """A shard is loaded in the time its layers and the head are read."""
    bench = Bench(FAST)
    bench.compute.submit(bench.world.by_name["d0"], "worker", 7, encode(LoadJob(SHAPE.name, 0, 4)))

    size = 4 * SHAPE.layer_bytes() + SHAPE.head_bytes()
    assert bench.run()[7][0] == pytest.approx(size / LOAD_BYTES_PER_S, rel=1e-6)


def test_a_measured_executor_serves_one_step_at_a_time() -> None:
    """Two sessions on one serial server take turns, so that one ends a step before twice one's time."""
    one, two = (Bench(laws=[measured(UNMEASURED)]) for _ in range(2))
    first, *both = one.ask(0, 100, 50), two.ask(0, 100, 50), two.ask(0, 100, 50)
    alone_s, ended = one.run()[first][0], two.run()

    profile = UNMEASURED
    step_s = LAYERS * profile["decode_s_layer"] + profile["decode_s_step"] + profile["decode_s_head"]
    prompt_s = profile["prefill_s_step"] + 100 * LAYERS * profile["prefill_s_token_layer"] + profile["prefill_s_head"]
    assert alone_s == pytest.approx(prompt_s + 49 * step_s, rel=1e-6)
    assert [ended[job][0] for job in both] == pytest.approx([2 * alone_s - step_s, 2 * alone_s], rel=1e-6)
    assert two.compute.take_load("d0", 10.0) * 10.0 == pytest.approx(2 * alone_s, rel=1e-6)


WAY_S = 2 * ONE_WAY_S + BACKBONE_S
ASKED_S = WAY_S + ASK_BYTES / RATE


def test_two_sessions_on_one_uplink_share_it() -> None:
    """Prompts' activations that leave one device at the same time have half of its link up each."""
    bench = Bench(FAST, FAST, FAST)
    jobs = [bench.ask(0, 400, 1, 8), bench.ask(0, 400, 1, 8, step=2)]
    ended = bench.run()

    first_s, second_s = 2 * prefill_s(400, 8, False), prefill_s(400, LAYERS - 8, True)
    activations_s = 2 * 400 * SHAPE.activation_bytes() / RATE
    for job in jobs:  # the tokens come back by the head's link down, together too
        assert ended[job][0] == pytest.approx(first_s + WAY_S + activations_s + second_s + WAY_S + 8 / RATE, rel=1e-6)


def test_sessions_share_links_with_other_transfers() -> None:
    """While a long transfer leaves a stage, its activations have half of the link; what ends leaves all of it."""
    bench = Bench(FAST, FAST, FAST)
    job = bench.ask(0, 400, 1, 8)
    ends: list[float] = []
    begin_s = prefill_s(400, 8, False)
    bench.at(begin_s, bench.compute.bulk.send, 0, 2, 1e8, lambda flow: ends.append(flow.finished_s))
    ended_s, _ = bench.run()[job]

    size = 400 * SHAPE.activation_bytes()
    assert ended_s == pytest.approx(begin_s + WAY_S + 2 * size / RATE + prefill_s(400, 8) + WAY_S + 4 / RATE, rel=1e-6)
    assert ends == [pytest.approx(begin_s + WAY_S + (1e8 + size) / RATE, rel=1e-6)]


def test_a_prompt_comes_to_its_head_over_the_link() -> None:
    """The head asks for the prompt, and its ids, four bytes each, cross to it before it begins."""
    bench = Bench(FAST, FAST)
    job = bench.ask(0, 700, 1, source="d1")

    assert bench.run()[job][0] == pytest.approx(ASKED_S + WAY_S + 4 * 700 / RATE + prefill_s(700), rel=1e-6)


@pytest.mark.parametrize(("tokens", "rounds"), [(700, 0), (5000, 1), (12_000, 2)])
def test_a_short_prompt_pays_slow_start(tokens: int, rounds: int) -> None:
    """With slow start a prompt also waits a round trip for each window of 10 x 1460 x 2^k bytes before its last."""
    bench = Bench(FAST, FAST, slow_start=True)
    job = bench.ask(0, tokens, 1, source="d1")

    assert RATE * 2 * WAY_S > 4 * 12_000  # the data end before a window fills the path
    expected_s = ASKED_S + rounds * 2 * WAY_S + WAY_S + 4 * tokens / RATE + prefill_s(tokens)
    assert bench.run()[job][0] == pytest.approx(expected_s, rel=1e-6)


def test_loss_bounds_a_prompt_by_mathis() -> None:
    """With loss_bound a prompt's rate is MSS / RTT x sqrt(3/2) / sqrt(loss) where that is below the link's."""
    bench = Bench(FAST, FAST, loss=0.02, loss_bound=True)
    job = bench.ask(0, 5000, 1, source="d1")

    rate = 1460 / (2 * WAY_S) * (1.5 / 0.02) ** 0.5
    assert rate < RATE
    asked_s = WAY_S + ASK_BYTES / rate
    assert bench.run()[job][0] == pytest.approx(asked_s + WAY_S + 20_000 / rate + prefill_s(5000), rel=1e-6)


@pytest.mark.parametrize("cut_s", [-1.0, 0.5 * ONE_WAY_S])
def test_a_prompt_comes_over_no_cut(cut_s: float) -> None:
    """Where a head and its prompt's source were parted before, or while it asked, nothing crosses: it is lost."""
    bench = Bench(FAST, FAST)
    job = bench.ask(1.0, 700, 1, source="d1")

    def part() -> None:  # in the direction in which the prompt would come
        bench.world.network.sever(1, 0, one_way=True)
        bench.compute.cut()

    bench.at(1.0 + cut_s, part)
    ended_s, lost = bench.run()[job]
    assert (lost.reason, bench.compute.sessions) == ("link down", {})
    asked_s = 2 * ONE_WAY_S + BACKBONE_S + ASK_BYTES / RATE
    assert ended_s == pytest.approx(1.0 + asked_s + LOST_AFTER_S, rel=1e-6)


@pytest.mark.parametrize("way_s", [0.5 * WAY_S, ASKED_S + WAY_S + 0.01], ids=["asked", "sent"])
@pytest.mark.parametrize("how", ["cut", "down", "switch"])
def test_a_prompt_on_its_way_is_lost_with_its_source(how: str, way_s: float) -> None:
    """A cut between them, a crash of the source or its switch to another network ends what is asked or on its way."""
    bench = Bench(FAST, FAST, FAST)
    job = bench.ask(0, 10_000, 1, source="d1")
    kept = bench.ask(0, 100, 1, source="d2")

    def strike() -> None:
        if how == "down":
            bench.world.crash(bench.world.by_name["d1"])
        elif how == "switch":
            bench.compute.leave("d1")
        else:
            bench.world.network.sever(0, 1)
            bench.compute.cut()

    bench.at(way_s, strike)
    ended = bench.run()

    assert isinstance(ended[job][1], Lost)
    assert ended[job][0] == pytest.approx(way_s + LOST_AFTER_S)
    assert isinstance(ended[kept][1], Done)


def test_a_device_that_moved_carries_at_its_new_rate() -> None:
    """After a switch of networks prompts cross the new link, though its old one was in use before."""
    bench = Bench(FAST, FAST)
    bench.ask(0, 700, 1, source="d1")
    bench.run(10.0)
    network = bench.world.network
    network.relink(1, network.access(1)._replace(up_bytes_per_s=RATE / 8))
    bench.compute.leave("d1")
    job = bench.ask(20.0, 700, 1, source="d1")

    assert bench.run()[job][0] == pytest.approx(
        20.0 + ASKED_S + WAY_S + 4 * 700 / (RATE / 8) + prefill_s(700), rel=1e-6
    )


@pytest.mark.parametrize(("cores", "slower"), [(1, 3.0), (2, 1.5), (3, 1.0), (8, 1.0)])
def test_executors_of_one_host_share_its_cores(cores: int, slower: float) -> None:
    """Three sessions on three executors of a host with c cores take max(1, 3 / c) times as long as one."""
    alone, crowd = Bench(laws=[measured(UNMEASURED)], cores=cores), Bench(laws=[measured(UNMEASURED)] * 3, cores=cores)
    one, three = alone.ask(0, 100, 50), [crowd.ask(0, 100, 50, head=k) for k in range(3)]
    alone_s, ended = alone.run()[one][0], crowd.run()

    assert [ended[job][0] for job in three] == pytest.approx([slower * alone_s] * 3, rel=1e-6)


def test_a_pipeline_runs_no_faster_than_its_slowest_stage() -> None:
    """With many sessions in flight the slowest serial stage is busy all the time, and never more than that."""
    bench, sessions, tokens = Bench(laws=[measured(UNMEASURED)] * 3), 60, 200
    for _ in range(sessions):
        bench.ask(0, 10, tokens, LAYERS - 4, LAYERS - 2)
    last_s = max(time_s for time_s, _ in bench.run().values())

    profile = UNMEASURED
    step_s = profile["decode_s_step"] + (LAYERS - 4) * profile["decode_s_layer"]
    slowest_s = sessions * (tokens - 1) * step_s
    assert slowest_s < last_s < 1.1 * slowest_s  # prompts and the first and last hops come on top


def test_a_session_that_is_cancelled_as_it_ends_has_ended() -> None:
    """At the nanosecond of its end the answer comes first, and the device is free once, not twice."""
    bench, again = Bench(FAST), Bench(FAST)
    first = bench.ask(0, 100, 50)
    ended_s, _ = bench.run()[first]
    node = again.world.by_name["d0"]
    again.at(ended_s, again.compute.cancel, node, 1)
    job = again.ask(0, 100, 50)

    ended = again.run()
    assert ended[job][0] == ended_s
    assert isinstance(ended[job][1], Done)
    assert (again.compute.executors["d0"].streams, again.compute.executors["d0"].contexts) == (0, 0.0)
