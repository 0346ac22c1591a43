"""The committee with a liar, as everybody runs it: one scenario, whichever protocol is named."""

from __future__ import annotations

import functools
import json

import pytest

from experiments.agreement_plot import accused, views
from experiments.job import prepare
from experiments.results import Run
from scenarios.schema import Scenario
from sim.village import simulate


@functools.cache
def ran(protocol: str) -> Run:
    """Return the scenario's run in the twin, once for all tests."""
    words = ["scenario=byzantine_committee", f"policy/consensus={protocol}", "profile=", "track=none", "seed=1"]
    scenario = prepare(words).scenario
    assert isinstance(scenario, Scenario)
    return Run(simulate(scenario))


def lying(protocol: str, member: int, lie: str) -> Run:
    """Return the scenario's run in the twin with another liar and no other trouble."""
    adversary = f"adversaries=[{{committee: [{member}], behaviours: [{lie}]}}]"
    words = ["scenario=byzantine_committee", f"policy/consensus={protocol}", "profile=", "track=none", "seed=1"]
    scenario = prepare([*words, "faults=none", "adversary=none", "adversaries_max=1", adversary]).scenario
    assert isinstance(scenario, Scenario)
    return Run(simulate(scenario))


@pytest.mark.parametrize("protocol", ["hotstuff", "pbft", "raft_desks"])
def test_every_request_is_answered_and_every_promise_kept(protocol: str) -> None:
    """One word changes the protocol, and nothing else: all checks hold, nobody is left without an answer."""
    run = ran(protocol)

    assert {name: verdict for name, verdict in run.manifest["checks"].items() if verdict is not True} == {}
    assert (run.summary["requests_answered"], run.summary["requests_lost"]) == (60, 0)


@pytest.mark.parametrize("protocol", ["hotstuff", "pbft"])
def test_leaders_that_are_cut_off_silent_or_killed_are_left(protocol: str) -> None:
    """The first leader is parted, the liar falls silent when it leads, the next one is killed: three change of view."""
    leaders = [leader for _, _, leader, _ in views(ran(protocol))]

    assert leaders == ["desk-0", "desk-1", "desk-2", "desk-3"]
    assert len(ran(protocol).commits) > 120


USURP = "{kind: usurp, from_s: 5}"
MEDDLE = "{kind: meddle, from_s: 5}"
HINTS = "{kind: corrupt, tags: [not_leader], field: [1], change: set, to: desk-1, from_s: 5}"


@pytest.mark.parametrize("protocol", ["hotstuff", "pbft"])
@pytest.mark.parametrize("lie", [USURP, HINTS])
def test_a_member_that_says_it_leads_keeps_no_worker_from_its_work(protocol: str, lie: str) -> None:
    """Every request is answered, each within a second, though one of four claims workers."""
    run = lying(protocol, 1, lie)

    assert (run.summary["requests_answered"], run.summary["requests_lost"]) == (60, 0)
    assert run.summary["latency_max_s"] < 1


@pytest.mark.parametrize("protocol", ["hotstuff", "pbft"])
def test_a_member_that_asks_as_if_it_led_has_nothing_done(protocol: str) -> None:
    """It would refuse requests or answer them itself, dissolve pipelines and evict workers: nothing comes of it."""
    run = lying(protocol, 1, MEDDLE)

    assert (run.summary["requests_answered"], run.summary["requests_refused"]) == (60, 0)
    assert {name: verdict for name, verdict in run.manifest["checks"].items() if verdict is not True} == {}
    assert run.summary["latency_max_s"] < 1


@pytest.mark.parametrize("protocol", ["hotstuff", "pbft"])
@pytest.mark.parametrize("path", ["coordination", "gateway"])
def test_a_leader_that_orders_commands_and_does_no_work_is_left(protocol: str, path: str) -> None:
    """It votes and proposes, but gives out nothing, or hears no client: every request is answered all the same."""
    run = lying(protocol, 0, f"{{kind: silent, side: both, path: {path}, from_s: 5}}")

    assert (run.summary["requests_answered"], run.summary["requests_lost"]) == (60, 0)
    assert {name: verdict for name, verdict in run.manifest["checks"].items() if verdict is not True} == {}
    assert run.summary["latency_max_s"] < 12  # leases of 3 s, plans every second: given up after 8, and once


def test_who_voted_twice_is_proved_guilty_and_nobody_else() -> None:
    """HotStuff's members find two votes of one member in one view, and the table holds the proof."""
    run = ran("hotstuff")

    assert {member for _, member in accused(run)} == {"desk-1"}
    proof = run.decisions[run.decisions["kind"] == "evidence"]["detail"].iloc[0]
    assert len(json.loads(proof)) >= 5
