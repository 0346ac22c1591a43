"""The harvest agent in a cell: limits, announcements and the worker hear of a change once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from policies import port as p
from policies.cell import Cell
from policies.config import BoincConfig, FederatedConfig, HarvestConfig, PredecessorConfig, PredictiveConfig
from policies.harvest import HarvestAgent, HarvestReceipt, Session
from policies.local import Lend
from policies.port import NS_PER_S, Policy
from policies.readings import Readings, Row, Verdict
from policies.wire import encode

MBPS = 125_000.0
GOOD = Readings(True, 0.9, True, 30.0, 28.0, 28.0, True, False, 20 * MBPS, False, 3600.0, 120.0, 0.0)


class Listener(Policy):
    """Stands where the worker will be."""

    def __init__(self) -> None:
        self.heard: list[Lend] = []

    def on_local(self, sender: str, message: Any) -> None:
        """Keep what harvest says."""
        self.heard.append(message)


class Node:
    """A cell with the agent and a listener."""

    def __init__(self, agent: HarvestAgent, **others: Policy) -> None:
        self.worker = Listener()
        policies = {"harvest": agent, "worker": self.worker, **others}
        self.cell = Cell(policies, "n", (), seed=1, keys=None)  # type: ignore[arg-type]
        self.effects = [e[0::2] for e in self.cell.step(0, 0, (p.START, "", {}, 0))]

    def read(self, at_s: int, **changes: Any) -> list[tuple[Any, ...]]:
        """Feed one row of readings and return the effects, less their path."""
        row = Row(*GOOD._replace(**changes))
        return self.feed(at_s, (p.READINGS, "harvest", encode(row)))

    def feed(self, at_s: int, given_: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Feed one input."""
        return [(e[0], *e[2:]) for e in self.cell.step(at_s * NS_PER_S, 0, given_)]


def test_the_agent_carries_out_what_changed_and_only_that() -> None:
    """It asks for readings, then limits, announces and tells the worker once a change."""
    node = Node(HarvestAgent(HarvestConfig(), 60 * NS_PER_S))

    assert node.effects == [(p.SENSE, 60 * NS_PER_S)]
    assert node.read(60) == [
        (p.LIMIT, "compute", 0.5),
        (p.LIMIT, "memory", 0.3),
        (p.LIMIT, "bandwidth_bytes_per_s", 1.25e6),
        (p.DECIDE, "harvest", encode(Session(True, 0.5, 0.3, 1))),
    ]
    assert node.read(120) == []
    assert node.read(180, die_c=56.0) == [
        (p.LIMIT, "compute", 0.25),
        (p.DECIDE, "harvest", encode(Session(True, 0.25, 0.3, 3))),
    ]
    assert node.read(240, screen_on=True) == [
        (p.LIMIT, "compute", 0.0),
        (p.LIMIT, "memory", 0.0),
        (p.DECIDE, "harvest", encode(Session(False, 0.0, 0.0, 4))),
        (p.DECIDE, "harvest_receipt", encode(HarvestReceipt(60.0, 240.0, 75.0, 4))),  # 120 s x 0.5 + 60 s x 0.25
    ]
    assert node.worker.heard == [
        Lend(True, 0.5, 0.3, "harvesting"),
        Lend(True, 0.25, 0.3, "thermal_throttle"),
        Lend(False, 0.0, 0.0, "user_active"),
    ]


def test_a_session_that_ends_in_order_hands_back_before_it_gives_back() -> None:
    """At 07:00 the worker hears that it is over with its memory still held, a drain later that nothing is."""
    node = Node(HarvestAgent(HarvestConfig(), 60 * NS_PER_S))
    node.read(60)

    assert node.read(120, local_minute=420.0) == [
        (p.LIMIT, "compute", 0.0),
        (p.DECIDE, "harvest", encode(Session(False, 0.0, 0.3, 7))),
        (p.DECIDE, "harvest_receipt", encode(HarvestReceipt(60.0, 120.0, 30.0, 7))),
    ]
    assert node.read(180, local_minute=421.0) == [
        (p.LIMIT, "memory", 0.0),
        (p.DECIDE, "harvest", encode(Session(False, 0.0, 0.0, 0))),
    ]
    assert node.worker.heard[1:] == [Lend(False, 0.0, 0.3, "draining"), Lend(False, 0.0, 0.0, "idle")]


def test_every_session_has_a_receipt_of_its_own() -> None:
    """A second session's receipt starts at its own start and counts its own compute."""
    node = Node(HarvestAgent(HarvestConfig(cooldown_min=0.0), 60 * NS_PER_S))
    node.read(0)
    node.read(100, screen_on=True)
    node.read(1000)

    last = node.read(1200, plugged=False)[-1]

    assert last == (p.DECIDE, "harvest_receipt", encode(HarvestReceipt(1000.0, 1200.0, 100.0, 2)))


def test_the_agent_measures_time_by_its_own_clock() -> None:
    """The cool-down of thirty minutes passes between two readings, however many come between."""
    node = Node(HarvestAgent(HarvestConfig(), 60 * NS_PER_S))
    node.read(60)
    node.read(120, screen_on=True)

    assert node.read(120 + 1799) == []
    assert node.read(120 + 1800) != []


def test_a_handed_verdict_has_the_same_effects_as_a_reading() -> None:
    """A row decided by the fleet's policy ends in the effects of the same row decided here."""
    by_readings = Node(HarvestAgent(HarvestConfig(), NS_PER_S))
    by_verdict = Node(HarvestAgent(HarvestConfig(), NS_PER_S))
    verdict = Verdict(True, 0.5, 0.3, 1.25e6, 1)

    assert by_verdict.feed(1, (p.DECISION, "harvest", encode(verdict))) == by_readings.read(1)
    assert by_verdict.worker.heard == by_readings.worker.heard


def test_a_restarted_agent_begins_at_rest() -> None:
    """After a crash nothing is lent until a reading says so, and every limit is set anew."""
    node = Node(HarvestAgent(HarvestConfig(), NS_PER_S))
    before = node.read(1)

    node.feed(2, (p.START, "", {}, 1))

    assert node.read(3) == before


@pytest.mark.parametrize("config", [PredecessorConfig(), BoincConfig(), FederatedConfig(), PredictiveConfig()])
def test_the_agent_carries_out_any_rule(config: Any) -> None:
    """Whatever rule the configuration names is the one that is carried out."""
    node = Node(HarvestAgent(config, NS_PER_S))
    for at in range(4 * 3600, 8 * 3600, 600):
        node.read(at)

    assert node.worker.heard[0].on
    node.read(9 * 3600, screen_on=True)
    assert node.worker.heard[-1].on is isinstance(config, PredecessorConfig)


def test_another_policy_can_be_told_instead_of_the_worker() -> None:
    """Where somebody stands between harvest and the worker, only that one hears what is lent."""
    between = Listener()
    node = Node(HarvestAgent(HarvestConfig(), NS_PER_S, to="edge"), edge=between)
    node.read(60)

    assert between.heard == [Lend(True, 0.5, 0.3, "harvesting")]
    assert node.worker.heard == []


def test_a_period_of_nothing_is_refused() -> None:
    """The reading period is positive."""
    with pytest.raises(ValueError, match="every_ns is 0; allowed: from 1"):
        HarvestAgent(HarvestConfig(), 0)


def test_the_agent_counts_what_no_sensor_can_mean() -> None:
    """Such a reading ends the session; it is counted, and noted once a row; a missing number is not one of them."""
    agent = HarvestAgent(HarvestConfig(), 60 * NS_PER_S)
    node = Node(agent)
    node.read(60)
    notes = []
    for minute, soc in ((2, 1.5), (3, math.inf), (4, math.nan), (5, 0.9), (6, -math.inf)):
        effects = node.read(60 * minute, soc=soc)
        notes += [effect[1:] for effect in effects if effect[0] == p.NOTE]
        assert ((p.LIMIT, "compute", 0.0) in effects) is (minute == 2)

    assert agent.nonsense == 3
    assert [dict(fields)["readings"] for _, fields in notes] == [1, 3]
    assert all((name, dict(fields)["field"]) == ("harvest_nonsense", "soc") for name, fields in notes)
    node.read(420, has_battery=False, soc=math.inf)
    assert agent.nonsense == 3
