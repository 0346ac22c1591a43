"""Requests that begin alike, in the twin: what is shared is not computed again, in times worked out by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from models import inference
from policies.config import BatchedConfig, OneByOneConfig, PolicyConfig, ServingRules, ShardingConfig
from policies.jobs import Lost, PreparedJob, SessionJob, Stage
from policies.wire import encode
from scenarios.hosts import PACED, step_law
from scenarios.schema import Network
from sim.alike import Alike
from sim.compute import Compute
from sim.laws import Roofline, measured
from sim.network import Links, MessageNetwork
from sim.world import StepCost, World
from tests.sim.bench_compute import FAST, Ear, Heard, last

SHAPE = inference.SHAPES["desk-tiny"]
HOP_S, SESSION_S = 1e-3, 5e-3
LAW = step_law(PACED)
ALONE, BATCHED = OneByOneConfig(share_prefixes=True), BatchedConfig(sessions=16, share_prefixes=True)
BOTH = pytest.mark.parametrize("serving", [ALONE, BATCHED], ids=["one by one", "batched"])


class Desks:
    """Devices that serve prompts of which the first ``shared`` tokens are the same; of one host, or by a data sheet."""

    def __init__(
        self, serving: ServingRules, devices: int = 1, slots: int = 4, shared: int = 40, *, sheet: bool = False
    ) -> None:
        self.world = World(MessageNetwork(1, Links.alike(devices, 0.0, 1e9), Network(home="loopback", backbone_s=0.0)))
        policy = PolicyConfig(sharding=ShardingConfig(slots=slots, context_tokens=256), serving=serving)
        names = [f"d{k}" for k in range(devices)]
        laws: dict[str, Any] = {n: Roofline(SHAPE, FAST) if sheet else measured(PACED, computes=False) for n in names}
        host = (None,) if sheet else (8, HOP_S, SESSION_S)
        self.compute = Compute(self.world, SHAPE, laws, *host, policy=policy, shared_tokens=shared)
        self.world.jobs = self.compute
        self.heard: Heard = []
        for name in names:
            self.world.start(self.world.add(name, lambda: Ear(self.heard), StepCost(0, 0, 0, 0, 0)))
        self._jobs = 0

    def ask(self, time_s: float, prompt: int, new: int, *cuts: int, kind: Any = SessionJob, **fields: Any) -> int:
        """Submit a session through d0, d1 .. cut at these layers."""
        self._jobs += 1
        stages = tuple(Stage(f"d{k}", a, b) for k, (a, b) in enumerate(pairwise([0, *cuts, SHAPE.layers])))
        job = kind(f"op{self._jobs}", SHAPE.name, stages, "prompt", "", prompt, new, 64, **fields)
        arguments = (self.world.by_name["d0"], "worker", self._jobs, encode(job))
        self.world.engine.call_at(round(time_s * 1e9), lambda _: self.compute.submit(*arguments), None)
        return self._jobs

    def first_tokens_s(self) -> dict[int, float]:
        """Run to the end; return each job's time to its first token."""
        self.world.run(1e4)
        return {job: outcome.first_token_ns * 1e-9 for job, (_, outcome) in last(self.heard).items()}


def first_s(tokens: int, *cuts: int) -> float:
    """The time to the first token of a session alone that computes so many tokens of its prompt."""
    edges = [0, *cuts, SHAPE.layers]
    steps = [LAW.step_s(b - a, b == SHAPE.layers, tokens) for a, b in pairwise(edges)]
    return SESSION_S + sum(steps) + (HOP_S * len(steps) if cuts else 0.0)


@BOTH
@pytest.mark.parametrize("cuts", [(), (3, 5)])
def test_a_later_prompt_is_shorter_by_the_shared_blocks(serving: ServingRules, cuts: tuple[int, ...]) -> None:
    """The first computes its whole prompt; one that comes later begins behind two whole blocks of the forty tokens."""
    desks = Desks(serving, len(cuts) + 1)
    jobs = [desks.ask(at_s, 70, 5, *cuts) for at_s in (0, 10, 20)]
    found = desks.first_tokens_s()
    assert [found[job] for job in jobs] == pytest.approx([first_s(tokens, *cuts) for tokens in (70, 38, 38)])


@BOTH
def test_without_the_switch_every_prompt_is_whole(serving: ServingRules) -> None:
    """What begins alike is computed each time where the policy does not share, and where nothing is alike."""
    off = OneByOneConfig() if serving is ALONE else BatchedConfig()
    for desks in (Desks(off), Desks(serving, shared=15)):
        jobs = [desks.ask(at_s, 70, 5) for at_s in (0, 10)]
        found = desks.first_tokens_s()
        assert [found[job] for job in jobs] == pytest.approx([first_s(70)] * 2)


@BOTH
def test_the_last_token_of_a_prompt_is_computed(serving: ServingRules) -> None:
    """A prompt that is all there, in whole blocks, computes its last block again."""
    desks = Desks(serving, shared=64)
    jobs = [desks.ask(at_s, 64, 5) for at_s in (0, 10)]
    assert desks.first_tokens_s()[jobs[1]] == pytest.approx(first_s(16))


@BOTH
def test_what_a_node_kept_goes_down_with_it(serving: ServingRules) -> None:
    """After a stage crashed and came back, the next prompt is whole, and the one after it is short again."""
    desks = Desks(serving, 2)
    jobs = [desks.ask(at_s, 70, 5, 4) for at_s in (0, 30, 40)]
    node = desks.world.by_name["d1"]
    desks.world.engine.call_at(10 * 10**9, lambda _: desks.world.crash(node), None)
    desks.world.engine.call_at(20 * 10**9, lambda _: desks.world.start(node), None)
    found = desks.first_tokens_s()
    assert not any(isinstance(outcome, Lost) for _, _, outcome in desks.heard)
    assert [found[job] for job in jobs] == pytest.approx([first_s(tokens, 4) for tokens in (70, 70, 38)])


@BOTH
def test_what_a_pipeline_kept_ends_where_its_nodes_serve_in_another(serving: ServingRules) -> None:
    """Who cuts the model elsewhere and comes back begins whole, as workers do that load other layers in between."""
    desks = Desks(serving, 2)
    jobs = [desks.ask(at_s, 70, 5, cut) for at_s, cut in ((0, 3), (10, 3), (20, 4), (30, 3))]
    found = desks.first_tokens_s()
    expected = [first_s(tokens, cut) for tokens, cut in ((70, 3), (38, 3), (70, 4), (70, 3))]
    assert [found[job] for job in jobs] == pytest.approx(expected)


def test_a_device_by_its_data_sheet_shares_as_well() -> None:
    """A fluid prompt takes the law's time for what is not shared, behind what is."""
    desks = Desks(BATCHED, sheet=True)
    jobs = [desks.ask(at_s, 70, 5) for at_s in (0, 10)]
    found = desks.first_tokens_s()
    law = [float(inference.prefill_s(SHAPE, SHAPE.layers, FAST, 70 - at, at, True, 1.0)) for at in (0, 32)]
    assert [found[job] for job in jobs] == pytest.approx(law, rel=1e-3)


def test_a_prepared_session_shares_nothing() -> None:
    """Its cache is copied and goes back: it computes its prompt whole, and nobody begins behind its blocks."""
    desks = Desks(ALONE)
    kept = {"kept": "r", "standbys": (), "resume": False}
    jobs = [desks.ask(0, 70, 5, kind=PreparedJob, **kept), desks.ask(10, 70, 5), desks.ask(20, 70, 5)]
    found = desks.first_tokens_s()
    assert [found[job] for job in jobs] == pytest.approx([first_s(tokens) for tokens in (70, 70, 38)])


def test_blocks_that_others_need_are_given_up() -> None:
    """In a pool of two contexts a shared beginning is lost to sessions that need its place; nothing else is."""
    alike = Alike(ALONE, ShardingConfig(slots=1, context_tokens=64), 32)
    stages = (Stage("d0", 0, 8),)

    def job(prompt: int, new: int = 1) -> SessionJob:
        return SessionJob("op", "m", stages, "prompt", "", prompt, new, 64)

    assert alike.begin(1, job(40)) == 0
    alike.end(1, 40)
    assert alike.begin(2, job(40)) == 32
    alike.end(2, 64)
    assert alike.begin(3, job(15)) == 0
    alike.end(3, 64)  # a session without the beginning grew over all four blocks
    assert alike.begin(4, job(40)) == 0
