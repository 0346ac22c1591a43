"""The village whose committee is re-elected, as everybody runs it: one word, whichever protocol is named."""

from __future__ import annotations

import functools
import json
from itertools import pairwise
from typing import Any

import pytest

from experiments.compose import compose
from experiments.results import Run
from scenarios.schema import ScenarioError, build
from sim.village import simulate

WORDS = ("scenario=council", "profile=", "track=none", "seed=1")
DOUBLE_VOTE = {
    "committee": [1],
    "behaviours": [
        {
            "kind": "double_vote",
            "path": "consensus",
            "tags": ["vote", "prepare"],
            "field": [2],
            "resign": True,
            "from_s": 20.0,
        }
    ],
}


@functools.cache
def ran(*words: str, **fields: str) -> Run:
    """Return a run in the twin, once for all tests; ``fields`` are JSON, beyond what words can say."""
    plain, _ = compose([*WORDS, *words])
    return Run(simulate(build({**plain, **{name: json.loads(text) for name, text in fields.items()}})))


def kept(run: Run) -> None:
    """Require that every check holds and every request is answered."""
    assert {name: verdict for name, verdict in run.manifest["checks"].items() if verdict is not True} == {}
    assert run.summary["requests_answered"] == run.summary["requests_total"]


def decisions(run: Run) -> list[dict[str, Any]]:
    """Return each epoch's decision, in order."""
    told = run.decisions[run.decisions["kind"] == "decision"]
    found = {d["epoch"]: d for d in map(json.loads, told["detail"])}
    return [found[epoch] for epoch in sorted(found)]


@pytest.mark.parametrize("protocol", ["hotstuff", "raft_desks", "pbft"])
def test_the_village_works_on_while_its_committee_changes(protocol: str) -> None:
    """Epoch after epoch others sit and lead, all promises of the council are asked, and nobody waits in vain."""
    run = ran(f"policy/consensus={protocol}", "policy.committee.epoch_s=8", "duration_s=60")
    committees = [set(d["members"]) for d in decisions(run)]

    kept(run)
    assert len(committees) >= 5
    assert len({frozenset(c) for c in committees}) >= 3
    assert {"one_committee_per_epoch", "only_the_chosen_sit", "committees_take_office"} <= set(run.manifest["checks"])
    assert run.decisions[run.decisions["kind"] == "leader"]["node"].nunique() >= 2


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["hotstuff", "raft_desks"])
def test_a_member_that_is_killed_is_elected_around(protocol: str) -> None:
    """desk-1 stays down: it loses its seat for want of stability, and requests are answered before and after."""
    crash = '[{"kind": "crash", "at_s": 14, "node": "desk-1", "down_s": -1}]'
    run = ran(f"policy/consensus={protocol}", "policy.committee.epoch_s=5", faults=crash)
    committees = [d["members"] for d in decisions(run)]

    kept(run)
    assert "desk-1" in committees[0]
    assert all("desk-1" not in members for members in committees[8:])
    assert len(committees) >= 12


@pytest.mark.parametrize("protocol", ["hotstuff", "pbft"])
def test_a_proved_liar_is_struck_off_at_once_and_never_sits_again(protocol: str) -> None:
    """The evidence of two votes goes through the village's own log; the seat is filled before the epoch is over."""
    run = ran(f"policy/consensus={protocol}", adversaries=json.dumps([DOUBLE_VOTE]))
    convicted = run.decisions[run.decisions["kind"] == "convicted"]
    at = json.loads(convicted["detail"].iloc[0])["command"]

    kept(run)
    assert {json.loads(d)["node"] for d in convicted["detail"]} == {"desk-1"}
    after = [d for d in decisions(run) if d["command"] > at]
    assert len(after) >= 3
    assert all("desk-1" not in d["members"] + d["learners"] for d in after)


@pytest.mark.slow
def test_workers_that_keep_no_log_follow_a_committee_none_of_which_they_knew() -> None:
    """Only laptops have room, and it takes all three. One is cut off while all founders leave, and works on afterwards:
    members whom it knew tell it who sits, and those whom it has never heard of may give it work."""
    desks = {f"desktop-{k}": {"memory_bytes": 1} for k in range(10)}
    fleet = {**compose([*WORDS])[0]["fleet"], "desktops": 10, "laptops": 3, "shaped": desks}
    cut = {"kind": "partition", "at_s": 12, "group": ["laptop-0"], "for_s": 30}
    run = ran(
        "policy.committee.seats.rotate=3", "policy.committee.epoch_s=6", "duration_s=70", "workload.requests=140",
        fleet=json.dumps(fleet), faults=json.dumps([cut]),
    )  # fmt: skip
    founders = set(run.manifest["committee"])
    told = run.decisions[run.decisions["kind"] == "decision"].drop_duplicates("detail")
    begun = [(float(t), set(json.loads(d)["members"])) for t, d in zip(told["time_s"], told["detail"], strict=True)]
    spans = [(t, until) for (t, members), (until, _) in pairwise(begun) if t > 42 and not members & founders]
    answered = run.requests["arrival_s"] + run.requests["latency_s"]
    lease_s = 3

    kept(run)
    assert spans
    for begin, end in spans:  # past the leases that others gave
        within = run.requests[(answered > begin + lease_s) & (answered < end)]
        assert len(within) > 0
        assert all("laptop-0" in nodes for nodes in within["nodes"])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"fleet": {"desktops": 3}}, "fleet.committee=4"),
        ({"policy": {"committee": {"seats": {"size": 3}}}}, "policy.committee.seats.size=3: committee=3: to bear f=1"),
        (
            {"policy": {"committee": {"seats": {"size": 8}}}},
            "policy.committee.seats.size=8: committee=8: the",
        ),
        ({"policy": {"committee": {"alive_s": 15.0}}}, "policy.committee.alive_s=15.0: expected < epoch_s=15.0"),
        (
            {"policy": {"committee": {"epoch_s": 1.9}}},
            "policy.committee.epoch_s=1.9: expected >= 2.0, twice policy.coordination.plan_every_s=1.0",
        ),
        (
            {"policy": {"committee": {"seats": {"min_networks": 5}}}},
            "policy.committee.seats: nobody could ever fill them: committee=4: no choice of 7 devices has 5 network",
        ),
        (
            {"policy": {"committee": {"seats": {"min_trust": 0.91}}}},
            "policy.committee.seats: nobody could ever fill them: committee=4: 0 of 7 devices qualify (trust of 0.91",
        ),
        (
            {"policy": {"committee": {"seats": {"min_stability": 0.95}}}},
            "policy.committee.seats: nobody could ever fill them: committee=4: 0 of 7 devices qualify (trust of 0.7",
        ),
        ({"policy": {"committee": {"rule": "vote"}}}, "policy.committee.rule='vote': expected one of"),
        ({"fleet": {"desktops": 300}}, "policy.committee.rule='council': 300 machines on the mains; allowed: up to"),
    ],
)
def test_a_council_that_cannot_be_is_refused_in_one_line(fields: dict[str, Any], says: str) -> None:
    """The field, the value and what is allowed."""
    plain = compose([*WORDS])[0]

    def merged(into: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        return {**into, **{k: merged(into[k], v) if isinstance(v, dict) else v for k, v in more.items()}}

    with pytest.raises(ScenarioError) as caught:
        build(merged(plain, fields))
    assert str(caught.value).startswith(says)
