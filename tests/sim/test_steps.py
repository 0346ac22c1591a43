"""Serial servers step by step, against sums and queues worked out by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from models import inference
from policies.jobs import Done, SessionJob, Stage
from policies.wire import encode
from scenarios.hosts import PACED, Ways, step_law
from scenarios.schema import Network, Shaped
from sim.compute import Compute
from sim.laws import measured
from sim.network import Links, MessageNetwork
from sim.world import StepCost, World
from tests.sim.bench_compute import Ear, Heard, last

SHAPE = inference.SHAPES["desk-tiny"]
HOP_S, SESSION_S = 1e-3, 5e-3
LAW = step_law(PACED)


def _run(
    jobs: list[tuple[float, int, int, tuple[int, ...]]], *shaped: Shaped, cores: int = 8, computes: bool = True
) -> dict[int, tuple[float, Any]]:
    """Run sessions (time, prompt, answer, cuts) on devices of these shapes; return each one's time and outcome."""
    shapes = {f"d{k}": shape for k, shape in enumerate(shaped)}
    world = World(MessageNetwork(1, Links.alike(len(shapes), 0.0, 1e9), Network(home="loopback", backbone_s=0.0)))
    laws = {name: measured(PACED, shape, computes=computes) for name, shape in shapes.items()}
    compute = Compute(world, SHAPE, dict(laws), cores, HOP_S, SESSION_S, Ways(shapes))
    world.jobs = compute
    heard: Heard = []
    for name in shapes:
        world.start(world.add(name, lambda: Ear(heard), StepCost(0, 0, 0, 0, 0)))
    for number, (at_s, prompt, new, cuts) in enumerate(jobs):
        stages = tuple(Stage(f"d{k}", a, b) for k, (a, b) in enumerate(pairwise([0, *cuts, SHAPE.layers])))
        job = SessionJob("op", SHAPE.name, stages, "prompt", "", prompt, new, 64)
        world.engine.call_at(
            round(at_s * 1e9),
            lambda _, n=number, j=job: compute.submit(world.by_name["d0"], "worker", n, encode(j)),
            None,
        )
    world.run(1e4)
    assert all(isinstance(outcome, Done) for _, _, outcome in heard)
    return last(heard)


def _alone_s(prompt: int, new: int, cuts: tuple[int, ...], *pacing: float) -> tuple[float, float]:
    """The seconds to the first and to the last token of one session alone."""
    edges = [0, *cuts, SHAPE.layers]
    layers = [(b - a, b == SHAPE.layers) for a, b in pairwise(edges)]
    hops_s = HOP_S * len(layers) if len(layers) > 1 else 0.0
    first_s = sum(f * LAW.step_s(*cut, prompt) for f, cut in zip(pacing, layers, strict=True)) + hops_s + SESSION_S
    token_s = sum(f * LAW.step_s(*cut, 1) for f, cut in zip(pacing, layers, strict=True)) + hops_s
    return first_s, first_s + (new - 1) * token_s


@pytest.mark.parametrize("pacing", [(1.0, 1.0, 1.0), (1.0, 6.0, 2.5)])
@pytest.mark.parametrize("new", [1, 2, 30])
def test_one_session_takes_its_steps_and_hops(pacing: tuple[float, ...], new: int) -> None:
    """Alone, a session takes its prompt's and tokens' steps at its workers' pace, a hop after each, and its opening."""
    first_s, whole_s = _alone_s(16, new, (3, 5), *pacing)
    ended_s, done = _run([(0.0, 16, new, (3, 5))], *(Shaped(pacing=f) for f in pacing))[0]

    assert ended_s == pytest.approx(whole_s, rel=1e-6)
    assert done.first_token_ns * 1e-9 == pytest.approx(first_s, rel=1e-6)


def test_a_stage_serves_whoever_came_first() -> None:
    """Two sessions that begin together take turns at one worker; the second waits for the first one's prompt."""
    step_s = LAW.step_s(SHAPE.layers, True, 1)
    prompt_s = LAW.step_s(SHAPE.layers, True, 16)
    heard = _run([(0.0, 16, 10, ()), (1e-6, 16, 10, ())], Shaped())

    assert heard[0][1].first_token_ns * 1e-9 == pytest.approx(SESSION_S + prompt_s, rel=1e-6)
    assert heard[1][1].first_token_ns * 1e-9 == pytest.approx(SESSION_S + 2 * prompt_s, rel=1e-4)
    assert heard[1][0] == pytest.approx(SESSION_S + 2 * prompt_s + 18 * step_s, rel=1e-4)
    assert heard[0][0] == pytest.approx(heard[1][0] - step_s, rel=1e-4)


def test_waiting_sessions_keep_their_order() -> None:
    """Of three that begin one after another, each has its first token a prompt later than the one before."""
    prompt_s = LAW.step_s(SHAPE.layers, True, 16)
    heard = _run([(k * 1e-6, 16, 4, ()) for k in range(3)], Shaped())

    firsts_s = [heard[k][1].first_token_ns * 1e-9 for k in range(3)]
    assert firsts_s == pytest.approx([SESSION_S + (k + 1) * prompt_s for k in range(3)], rel=1e-4)


def test_two_sessions_fill_two_stages() -> None:
    """Two equal stages and two sessions: both stages are busy all the time, so a token takes as long as for one."""
    tokens, cut = 101, SHAPE.layers // 2
    heard = _run([(0.0, 16, tokens, (cut,)), (0.0, 16, tokens, (cut,))], Shaped(), Shaped())
    _, alone_s = _alone_s(16, tokens, (cut,), 1.0, 1.0)

    assert max(at for at, _ in heard.values()) < 1.1 * alone_s


@pytest.mark.parametrize(("computes", "slower"), [(True, 2.0), (False, 1.0)])
def test_only_what_computes_wants_a_core(computes: bool, slower: float) -> None:
    """On one core, a step beside another takes twice as long; a step that only holds its time does not."""
    each = (0.0, 64, 40, ())
    alone = _run([each], Shaped(), cores=1, computes=computes)[0][0]

    def pair(head: int) -> SessionJob:
        return SessionJob("op", SHAPE.name, (Stage(f"d{head}", 0, SHAPE.layers),), "prompt", "", 64, 40, 64)

    world = World(MessageNetwork(1, Links.alike(2, 0.0, 1e9), Network(home="loopback", backbone_s=0.0)))
    laws = {name: measured(PACED, computes=computes) for name in ("d0", "d1")}
    compute = Compute(world, SHAPE, dict(laws), 1, HOP_S, SESSION_S)
    world.jobs = compute
    heard: Heard = []
    for head in (0, 1):
        world.start(world.add(f"d{head}", lambda: Ear(heard), StepCost(0, 0, 0, 0, 0)))
        compute.submit(world.by_name[f"d{head}"], "worker", head, encode(pair(head)))
    world.run(1e4)

    assert [last(heard)[head][0] for head in (0, 1)] == pytest.approx([slower * alone] * 2, rel=0.01)


def test_pinned_workers_do_not_lend_each_other_their_cores() -> None:
    """Two workers on the first of two cores take twice as long as they would anywhere; the second core stays idle."""
    spans = {}
    for pinned in (False, True):
        world = World(MessageNetwork(1, Links.alike(3, 0.0, 1e9), Network(home="loopback", backbone_s=0.0)))
        laws = {name: measured(PACED) for name in ("d0", "d1", "d2")}
        compute = Compute(world, SHAPE, dict(laws), 2, HOP_S, SESSION_S, pinned=pinned)
        world.jobs = compute
        heard: Heard = []
        for name in laws:
            world.start(world.add(name, lambda heard=heard: Ear(heard), StepCost(0, 0, 0, 0, 0)))
        for head in (0, 2):  # both on core 0
            job = SessionJob("op", SHAPE.name, (Stage(f"d{head}", 0, SHAPE.layers),), "prompt", "", 16, 20, 64)
            compute.submit(world.by_name[f"d{head}"], "worker", head, encode(job))
        world.run(1e4)
        spans[pinned] = max(at for at, _, _ in heard)

    assert spans[True] == pytest.approx(2 * spans[False], rel=1e-3)


def test_a_step_under_way_goes_on_at_its_executors_new_speed() -> None:
    """Halfway through a prompt's step its worker slows down, pauses and goes on: nothing is done or counted twice."""
    prompt_s, begun_s = LAW.step_s(SHAPE.layers, True, 64), SESSION_S
    world = World(MessageNetwork(1, Links.alike(1, 0.0, 1e9), Network(home="loopback", backbone_s=0.0)))
    compute = Compute(world, SHAPE, {"d0": measured(PACED)}, 1, HOP_S, SESSION_S)
    world.jobs = compute
    heard: Heard = []
    world.start(world.add("d0", lambda: Ear(heard), StepCost(0, 0, 0, 0, 0)))
    job = SessionJob("op", SHAPE.name, (Stage("d0", 0, SHAPE.layers),), "prompt", "", 64, 1, 64)
    compute.submit(world.by_name["d0"], "worker", 0, encode(job))
    # Half of it at full speed, a quarter at half of it, nothing for a second, the rest at full speed.
    at_s = [begun_s + prompt_s / 2, begun_s + prompt_s, begun_s + prompt_s + 1.0]
    for when_s, speed in zip(at_s, (0.5, 0.0, 1.0), strict=True):
        world.engine.call_at(round(when_s * 1e9), lambda _, to=speed: compute.set_speed("d0", to), None)
    world.run(1e4)

    assert last(heard)[0][0] == pytest.approx(begun_s + 1.25 * prompt_s + 1.0, rel=1e-6)
    assert compute.executors["d0"].busy_s == pytest.approx(prompt_s, rel=1e-6)


def test_a_shaped_link_is_paid_by_each_token_that_crosses_it() -> None:
    """Its delay comes on top of each hop over it, and a prompt's activations take their bytes at its rate."""
    way_s, rate, tokens = 0.02, 1e5, 11
    plain = _run([(0.0, 32, tokens, (4,))], Shaped(), Shaped())[0]
    slow = _run([(0.0, 32, tokens, (4,))], Shaped(), Shaped(one_way_s=way_s, bytes_per_s=rate))[0]

    prompt_s = 32 * SHAPE.activation_bytes() / rate
    token_s = SHAPE.activation_bytes() / rate
    back_s = 4 / rate
    first_s = 2 * way_s + prompt_s + back_s
    assert (slow[1].first_token_ns - plain[1].first_token_ns) * 1e-9 == pytest.approx(first_s, rel=1e-6)
    whole_s = first_s + (tokens - 1) * (2 * way_s + token_s + back_s)
    assert slow[0] - plain[0] == pytest.approx(whole_s, rel=1e-6)


def test_frames_of_one_sender_queue_for_its_link() -> None:
    """A frame sent while another leaves waits for it; one to a worker without a shape passes at once."""
    ways = Ways({"a": Shaped(bytes_per_s=100.0), "b": Shaped(one_way_s=0.5)})

    assert ways.delay_s(0.0, "a", "c", 50) == pytest.approx(0.5)
    assert ways.delay_s(0.1, "a", "b", 100) == pytest.approx(0.4 + 1.0 + 0.5)
    assert ways.delay_s(0.1, "c", "d", 1e9) == 0.0
    assert ways.delay_s(9.0, "a", "c", 50) == pytest.approx(0.5)
