"""The desk: sessions end well where their stages stay, and are lost to their heads where one does not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.jobs import Done, LoadJob, Lost, SessionJob, Stage
from policies.port import NS_PER_S, Effect, Input
from policies.wire import encode
from scenarios.schema import Network
from sim.answers import answer_digest
from sim.desk import Desk, Times
from sim.network import Links, MessageNetwork
from sim.world import World

STAGES = (Stage("a", 0, 2), Stage("b", 2, 4))
_outcome: Any = msgspec.msgpack.Decoder(Done | Lost).decode


class Listener:
    """A Cell that only remembers which jobs' outcomes it heard, and when (s)."""

    crypto_ops = 0

    def __init__(self) -> None:
        self.heard: list[tuple[float, int, Any]] = []

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Take in one input."""
        if given[0] == p.JOB:
            self.heard.append((now / NS_PER_S, given[2], _outcome(given[3])))
        return ()


class Office:
    """Two nodes and a desk: a session takes 1 s, a load 0.5 s, a loss is noticed after 0.25 s."""

    def __init__(self) -> None:
        self.world = World(MessageNetwork(1, Links.alike(2, 0.001, 1e7), Network()))
        self.desk = self.world.jobs = Desk(self.world, Times(session_s=1.0, load_s=0.5, plan_s=0.1, lost_s=0.25))
        self.cell = Listener()
        self.a, self.b = self.world.add("a", lambda: self.cell), self.world.add("b", Listener)
        for node, stage in zip((self.a, self.b), STAGES, strict=True):
            self.world.start(node)
            self.desk.submit(node, "worker", 1, encode(LoadJob("m", stage.first, stage.last)))
        self.world.run(0.6)
        self.cell.heard.clear()

    def session(self) -> None:
        """Let a begin a session through both."""
        job = SessionJob("op", "m", STAGES, "p", "a", 8, 4, 64)
        self.desk.submit(self.a, "worker", 2, encode(job))

    def run(self, until_s: float) -> list[tuple[float, int, Any]]:
        """Run to a time; return what a heard."""
        self.world.run(until_s)
        return self.cell.heard


def test_a_session_answers_as_an_honest_pipeline_would() -> None:
    """After its time, with the answer that is a function of the question."""
    office = Office()
    office.session()

    ((at_s, job_id, outcome),) = office.run(5.0)
    assert (at_s, job_id) == (1.6, 2)
    assert outcome == Done(answer_digest("m", "p", 4), 4, NS_PER_S)


def test_a_stage_that_goes_down_loses_the_session_to_its_head() -> None:
    """Soon after, and once; that it is back by then changes nothing."""
    office = Office()
    office.session()
    office.world.run(1.0)
    office.world.crash(office.b)
    office.world.start(office.b)

    assert office.run(5.0) == [(1.25, 2, Lost("stage went down", "b"))]


def test_a_stage_without_its_layers_cannot_run() -> None:
    """A restarted machine holds nothing until it has loaded again."""
    office = Office()
    office.world.crash(office.b)
    office.world.start(office.b)
    office.session()

    assert [outcome for _, _, outcome in office.run(5.0)] == [Lost("stage holds other layers", "b")]


@pytest.mark.parametrize("healed_s", [1.2, 9.0])
def test_a_session_across_a_cut_is_lost_if_the_cut_lasts(healed_s: float) -> None:
    """What counts is whether its stages reach one another at its start and at its end."""
    office = Office()
    office.session()
    office.world.run(1.0)
    cuts = office.world.network.cut_off([office.b.number])
    office.world.run(healed_s)
    office.world.network.heal(cuts)

    ((_, _, outcome),) = office.run(10.0)
    assert isinstance(outcome, Done if healed_s < 1.6 else Lost)


def test_a_cancelled_session_says_nothing() -> None:
    """Nor does one whose head went down."""
    office = Office()
    office.session()
    office.desk.cancel(office.a, 2)

    assert office.run(5.0) == []
    office.session()
    office.world.crash(office.a)
    office.world.start(office.a)
    assert office.run(10.0) == []
    assert office.desk.sessions == {}
