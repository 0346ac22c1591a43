"""Batches in virtual time, against sums worked out by hand: the schedule is the batcher's, the times are the law's."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from models import inference
from policies.config import BatchedConfig, PolicyConfig, ShardingConfig
from policies.jobs import EXPIRED, Done, Lost, SessionJob, Stage
from policies.serving.batching import Batcher
from policies.wire import encode
from scenarios.hosts import PACED, step_law
from scenarios.schema import Network
from sim.compute import Compute
from sim.laws import measured
from sim.network import Links, MessageNetwork
from sim.rounds import Rounds
from sim.world import StepCost, World
from tests.sim.bench_compute import Ear, Heard, last

SHAPE = inference.SHAPES["desk-tiny"]
HOP_S, SESSION_S = 1e-3, 5e-3
LAW = step_law(PACED)


class Desks:
    """Devices of one host that serve in batches."""

    def __init__(self, devices: int = 1, slots: int = 4, context_tokens: int = 256, tokens_max: int = 256) -> None:
        self.world = World(MessageNetwork(1, Links.alike(devices, 0.0, 1e9), Network(home="loopback", backbone_s=0.0)))
        policy = PolicyConfig(
            sharding=ShardingConfig(slots=slots, context_tokens=context_tokens),
            serving=BatchedConfig(sessions=16, tokens_max=tokens_max),
        )
        names = [f"d{k}" for k in range(devices)]
        laws: dict[str, Any] = {name: measured(PACED, computes=False) for name in names}
        self.compute = Compute(self.world, SHAPE, laws, 8, HOP_S, SESSION_S, policy=policy)
        self.world.jobs = self.compute
        self.heard: Heard = []
        for name in names:
            self.world.start(self.world.add(name, lambda: Ear(self.heard), StepCost(0, 0, 0, 0, 0)))
        self._jobs = 0

    def at(self, time_s: float, *call: Any) -> None:
        """Call later."""
        function, *arguments = call
        self.world.engine.call_at(round(time_s * 1e9), lambda _: function(*arguments), None)

    def ask(self, time_s: float, prompt: int, new: int, *cuts: int, rank: int = 0, deadline_s: float = 1e4) -> int:
        """Submit a session through d0, d1 .. cut at these layers."""
        self._jobs += 1
        stages = tuple(Stage(f"d{k}", a, b) for k, (a, b) in enumerate(pairwise([0, *cuts, SHAPE.layers])))
        job = SessionJob(
            "op", SHAPE.name, stages, "prompt", "", prompt, new, 64, (), None, rank, round(deadline_s * 1e9)
        )
        self.at(time_s, self.compute.submit, self.world.by_name["d0"], "worker", self._jobs, encode(job))
        return self._jobs

    def run(self) -> dict[int, tuple[float, Any]]:
        """Run to the end: nothing is left of any session, lane or queue."""
        self.world.run(1e4)
        rounds = self.compute.steps
        assert isinstance(rounds, Rounds)
        assert not rounds._lines
        assert not rounds._requests
        assert not rounds._walks
        assert not any(rounds._queues.values())
        return last(self.heard)


@pytest.mark.parametrize("sessions", [1, 2, 7])
def test_sessions_of_one_stage_step_together(sessions: int) -> None:
    """n equal sessions take one step for all prompts, but for the first one's, and then one step a token for all."""
    desks = Desks(slots=8)
    jobs = [desks.ask(0, 20, 30) for _ in range(sessions)]
    ended = desks.run()

    layers = SHAPE.layers
    first_s = SESSION_S + LAW.batch_s(layers, True, [20])
    if sessions == 1:
        assert ended[jobs[0]][0] == pytest.approx(first_s + 29 * LAW.batch_s(layers, True, [1]))
        return
    # The first comes a moment before the others; its second token comes with their prompts.
    others_s = first_s + LAW.batch_s(layers, True, [1, *[20] * (sessions - 1)])
    together_s = LAW.batch_s(layers, True, [1] * sessions)
    assert ended[jobs[0]][0] == pytest.approx(others_s + 28 * together_s)
    alone_s = LAW.batch_s(layers, True, [1] * (sessions - 1))
    assert [ended[job][0] for job in jobs[1:]] == pytest.approx([others_s + 28 * together_s + alone_s] * (sessions - 1))
    assert ended[jobs[1]][1].first_token_ns * 1e-9 == pytest.approx(others_s)


def test_lanes_keep_two_stages_busy() -> None:
    """Two sessions through two equal stages take hardly longer than one: each is a lane's batch, at another stage."""
    one, two = Desks(2), Desks(2)
    alone, *both = one.ask(0, 20, 60, 4), two.ask(0, 20, 60, 4), two.ask(0, 20, 60, 4)
    alone_s, ended = one.run()[alone][0], two.run()

    assert max(ended[job][0] for job in both) < 1.1 * alone_s


def test_too_few_blocks_cost_time_and_lose_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that lose their blocks to one another are computed again, and all end."""
    lost: list[int] = []
    before = Batcher._preempt
    monkeypatch.setattr(Batcher, "_preempt", lambda self: (lost.append(1), before(self))[1])
    roomy, crowded = Desks(slots=8), Desks(slots=1, context_tokens=80)
    ended = []
    for desks in (roomy, crowded):
        jobs = [desks.ask(0.01 * k, 14 + k, 40) for k in range(6)]
        heard = desks.run()
        assert all(heard[job][1].tokens == 40 for job in jobs)
        ended.append(max(heard[job][0] for job in jobs))

    assert lost
    assert ended[1] > ended[0]


def test_who_leaves_disturbs_nobody_and_its_lane_serves_the_next() -> None:
    """A cancelled session's lane is free at once, even in the middle of its batch; others end as they would have."""
    kept, cancelled = Desks(2), Desks(2)
    for desks in (kept, cancelled):
        desks.ask(0, 20, 60, 4)
        desks.ask(0, 20, 400, 4)
    head = cancelled.world.by_name["d0"]
    cancelled.at(0.1, cancelled.compute.cancel, head, 2)
    next_one = cancelled.ask(0.1, 20, 10, 4)
    ended = cancelled.run()

    assert set(ended) == {1, next_one}
    assert ended[1][0] == pytest.approx(kept.run()[1][0], rel=0.01)  # another session opens meanwhile
    assert isinstance(ended[next_one][1], Done)


def test_a_lost_stage_loses_its_batches() -> None:
    """When a stage goes down, every session of the line hears of it, and a later line is served."""
    desks = Desks(2)
    for _ in range(3):
        desks.ask(0, 20, 400, 4)
    desks.at(0.2, desks.world.crash, desks.world.by_name["d1"])
    alone = desks.ask(0.3, 20, 10)
    ended = desks.run()

    assert all(isinstance(ended[job][1], Lost) and ended[job][1].node == "d1" for job in (1, 2, 3))
    assert isinstance(ended[alone][1], Done)


def test_a_session_that_can_never_run_is_lost_with_its_reason() -> None:
    """A session that is too long for the cache of a lane says so, as in the real world."""
    desks = Desks(slots=1, context_tokens=64)
    job = desks.ask(0, 20, 60)
    _, lost = desks.run()[job]

    assert "allowed: up to 64" in lost.reason
    assert lost.node == "d0"


def test_whoever_waits_is_admitted_by_class() -> None:
    """Where the cache is full, a session of a class that goes first is served before one that came earlier."""
    desks = Desks(slots=1, context_tokens=64)
    running, low, high = (desks.ask(0.01 * k, 20, 40, rank=rank) for k, rank in enumerate((0, 3, 1)))
    ended = desks.run()

    assert ended[running][0] < ended[high][0] < ended[low][0]


def test_the_lowest_class_loses_its_blocks() -> None:
    """Where two sessions outgrow the cache, the one of the lower class gives way, although it came first."""
    desks = Desks(slots=1, context_tokens=80)
    low, high = desks.ask(0, 14, 60, rank=3), desks.ask(0.01, 14, 60, rank=1)
    ended = desks.run()

    assert ended[high][0] < ended[low][0]
    assert ended[low][1].tokens == 60


def test_whoever_waits_beyond_its_deadline_is_told_while_others_go_on() -> None:
    """A session that found no room by its deadline is lost for that, by nobody's fault; who runs is let finish."""
    desks = Desks(slots=1, context_tokens=64)
    running = desks.ask(0, 20, 40, deadline_s=0.02)
    late, patient = desks.ask(0.01, 20, 40, deadline_s=0.03), desks.ask(0.01, 20, 40)
    lone = desks.ask(60.0, 20, 40, deadline_s=59.0)
    ended = desks.run()

    assert ended[late][1] == Lost(EXPIRED)
    assert 0.03 < ended[late][0] < ended[running][0]
    assert [type(ended[job][1]) for job in (running, patient)] == [Done, Done]
    assert ended[lone] == (pytest.approx(60.0 + SESSION_S), Lost(EXPIRED))
