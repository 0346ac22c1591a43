"""The schema refuses every bad input in one line that names the field, the value and what is allowed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scenarios.schema import PRIORITIES, Scenario, ScenarioError, build, to_plain

AZURE = {"kind": "azure_conv", "path": "x.csv"}
SYNTHETIC = {"kind": "synthetic"}
CRASH = {"kind": "crash", "at_s": 1}
CUT = {"kind": "partition", "at_s": 10, "group": [0], "for_s": 60}
TINY = {"phones": 1, "tablets": 0, "laptops": 0, "desktops": 1, "gpu_boxes": 0, "committee": 1, "dedicated": 0}

SHAPE = {"name": "t", "layers": 2, "hidden": 8, "heads": 2, "kv_heads": 1, "head_dim": 4, "ffn": 16, "vocab": 9}
BAD = [
    # One field: a name, a type, a range, a choice.
    ({"sead": 3}, "sead: no such field; did you mean 'seed'?"),
    ({"fleet": {"fones": 1}}, "fleet.fones: no such field; did you mean 'phones'?"),
    ({"policy": {"harvest": {"xyzzy": 1}}}, "policy.harvest.xyzzy: no such field; allowed: allow_metered, "),
    ({"faults": [{**CRASH, "node": "leader", "tron": 1}]}, "faults[0].tron: no such field; allowed: at_s, disk, "),
    ({"seed": -1}, "seed=-1: expected `int` >= 0"),
    ({"seed": "a"}, "seed='a': expected `int`, got `str`"),
    ({"fleet": {"phones": 100_000_000_000}}, "fleet.phones=100000000000: expected `int` <= 100000"),
    (
        {"workload": {"kind": "synthetic", "clients": 1_000_000_000_000}},
        "workload.clients=1000000000000: expected `int` <= 100000",
    ),
    (
        {"workload": {"kind": "synthetic", "burst": 1_000_000_000_000}},
        "workload.burst=1000000000000: expected `int` <= 100000",
    ),
    ({"reading_s": 1e-9}, "reading_s=1e-09: expected `float` >= 0.1"),
    ({"reading_s": 0.1, "duration_s": 1.1e6}, "reading_s=0.1: expected at most 10,000,000 readings in duration_s="),
    ({"fleet": {"phones": 1.5}}, "fleet.phones=1.5: expected `int`, got `float`"),
    ({"fleet": 3}, "fleet=3: expected `object`, got `int`"),
    ({"fleet": {"committee": 0}}, "fleet.committee=0: expected `int` >= 1"),
    ({"fleet": {"time_zones_h": [0, 99]}}, "fleet.time_zones_h[1]=99: expected `float` <= 14.0"),
    ({"duration_s": 0}, "duration_s=0: expected `float` >= 0.1"),
    ({"duration_s": float("nan")}, "duration_s=nan: expected `float` >= 0.1"),
    ({"duration_s": float("inf")}, "duration_s=inf: expected a finite number"),
    ({"start_minute": 1440}, "start_minute=1440: expected `int` <= 1439"),
    ({"owners": {"top_ups_per_day": 9}}, "owners.top_ups_per_day=9: expected `float` <= 3.0"),
    ({"world": "moon"}, "world='moon': expected one of sim, local"),
    ({"network": {"home": "dsl"}}, "network.home='dsl': expected one of cable, fibre, loopback"),
    ({"network": {"loss": 1.5}}, "network.loss=1.5: expected `float` <= 1.0"),
    (
        {"policy": {"membership": {"detector": "swin"}}},
        "policy.membership.detector='swin': expected one of none, swim, phi",
    ),
    (
        {"policy": {"membership": {"detector": "none", "probe_s": 1}}},
        "policy.membership.probe_s: no such field; detector=none has none",
    ),
    (
        {"policy": {"membership": {"detector": "swim", "heartbeat_s": 1}}},
        "policy.membership.heartbeat_s: no such field; ",
    ),
    (
        {"policy": {"membership": {"detector": "swim", "probe_s": 0}}},
        "policy.membership.probe_s=0: expected `float` >= 0.001",
    ),
    (
        {"policy": {"membership": {"probe_s": 1}}},
        "policy.membership={'probe_s': 1}: object missing required field `detector`",
    ),
    (
        {"policy": {"membership": {"detector": "swim", "ack_s": 1, "probe_s": 1}}},
        "policy.membership.ack_s=1.0: expected < probe_s=1.0",
    ),
    (
        {"policy": {"membership": {"detector": "swim", "members_max": 9}}},
        "policy.membership.members_max=9: expected >= the fleet's 500 devices",
    ),
    (
        {"policy": {"membership": {"detector": "phi", "dead_phi": 1}}},
        "policy.membership.dead_phi=1.0: expected >= suspect_phi=3.0",
    ),
    (
        {"policy": {"membership": {"detector": "phi", "suspect_phi": 1e-17}}},
        "policy.membership.suspect_phi=1e-17: expected `float` >= 0.01",
    ),
    ({"record": {"journals": "some"}}, "record.journals='some': expected one of none, committee, all"),
    ({"edge": 3}, "edge=3: expected `bool`, got `int`"),
    ({"sensors": "hots"}, "sensors='hots': did you mean 'host'? allowed: host, trace, trace:FILE, sysfs, "),
    ({"sensors": ["sysfs", "psutl"]}, "sensors='psutl': did you mean 'psutil'? allowed: host, "),
    ({"sensors": "trace:"}, "sensors='trace:': did you mean 'trace'? allowed: host, "),
    ({"sensors": ["host", "nvml"]}, "sensors=host, nvml: host stands alone"),
    ({"sensors": ["nvml", "nvml"]}, "sensors=nvml, nvml: one of them is named twice"),
    ({"sensors": []}, "sensors=[]: allowed: host, "),
    ({"sensors": 3}, "sensors=3: expected `str | array`, got `int`"),
    ({"sensors": "host", "assume": {"skn_c": 30}}, "assume: 'skn_c' is no reading; did you mean 'skin_c'? allowed: "),
    ({"sensors": "host", "assume": {"die_c": 400}}, "assume: die_c is 400.0; allowed: -40 to 150"),
    ({"sensors": "host", "assume": {"metered": 0}}, "assume: metered is 0.0; allowed: true or false"),
    ({"sensors": "host", "assume": {"die_c": float("nan")}}, "assume.die_c=nan: expected a finite number"),
    ({"assume": {"die_c": 40}}, "assume={'die_c': 40.0}: sensors=trace lacks nothing; assume it of another reader"),
    ({"backends": ["tpu"]}, "backends[0]='tpu': expected one of torch, jax"),
    ({"backends": []}, "backends=[]: expected at least one of torch, jax"),
    (
        {"adversaries": [{"behaviour": "rude"}]},
        "adversaries[0].behaviour='rude': expected one of silent, wrong_results",
    ),
    ({"workload": {"kind": "poisson"}}, "workload.kind='poisson': expected one of synthetic, azure_conv"),
    ({"workload": {"requests": 3}}, "workload={'requests': 3}: object missing required field `kind`"),
    ({"workload": {**SYNTHETIC, "requests": 10**11}}, "workload.requests=100000000000: expected `int` <= 10000000"),
    (
        {"workload": {**SYNTHETIC, "mix": {"vip": 1}}},
        "workload.mix={'vip': 1}: 'vip' is none of them; expected one of ",
    ),
    ({"workload": {**SYNTHETIC, "mix": {"low": -1}}}, "workload.mix.low=-1: expected `float` >= 0.0"),
    (
        {"fleet": {"shaped": {"desk-0": {}, "desk-1": {"pacing": 0}}}},
        "fleet.shaped.desk-1.pacing=0: expected `float` >=",
    ),
    (
        {"fleet": {"shaped": {"desk-0": {"pace": 2}}}},
        "fleet.shaped.desk-0.pace: no such field; did you mean 'pacing'?",
    ),
    (
        {"fleet": {"shaped": {"[...]": {"pacing": 9}}}},
        "fleet.shaped.[...].pacing={'[...]': {'pacing': 9}}: expected `float` <= 6.0",
    ),
    ({"shape": {**SHAPE, "layers": 0}}, "shape.layers=0: expected at least 1"),
    ({"shape": {**SHAPE, "bytes_per_kv": 0}}, "shape.bytes_per_kv=0.0: expected above 0"),
    ({"workload": {**AZURE, "thin": 0}}, "workload.thin=0: expected `float` > 0.0"),
    ({"faults": [{"kind": "flood"}]}, "faults[0].kind='flood': expected one of crash, pause, slow, clock, churn, "),
    ({"faults": {"kind": "crash"}}, "faults={'kind': 'crash'}: expected `array`, got `object`"),
    ({"faults": [{"kind": "crash", "node": "x"}]}, "object missing required field `at_s`"),
    # Several fields that contradict one another.
    ({"model": "gpt-9"}, "model='gpt-9': allowed: desk-mini, desk-tiny, llama-3.1-8b, "),
    ({"fleet": {**TINY, "phones": 0, "desktops": 0}}, "fleet.size=0: expected at least one device"),
    (
        {"fleet": {**TINY, "committee": 2}},
        "fleet.committee=2: the fleet has 1 devices that may sit on it",
    ),
    ({"fleet": {**TINY, "dedicated": 2}}, "fleet.dedicated=2: needs machines on the mains, the fleet has 1"),
    (
        {"fleet": {**TINY, "shaped": {"desk-0": {"pacing": 2.0}}}},
        "fleet.shaped=['desk-0']: expected network.home=loopback",
    ),
    ({"executor": "paced"}, "executor='paced': expected network.home=loopback, not 'cable'"),
    (
        {"policy": {"serving": {"rule": "batched", "share_prefixes": True}, "coordination": {"spot_checks": {}}}},
        "policy.serving.share_prefixes=true: with spot_checks every stage must have computed all of it",
    ),
    ({"cores": 2}, "cores=2: expected network.home=loopback, not 'cable'"),
    ({"pinned": True}, "pinned=True: expected network.home=loopback, not 'cable'"),
    ({"fleet": {"time_zones_h": []}}, "fleet.time_zones_h=[]: expected at least one, e.g. [0.0]"),
    (
        {"adversaries": [{"behaviour": "silent", "count": 5, "kind": "gpu_box"}]},
        "adversaries: 5 of kind gpu_box; the fleet has 4 outside the committee",
    ),
    (
        {"fleet": TINY, "adversaries": [{"behaviour": "silent", "count": 2}]},
        "adversaries: 2 of them; allowed: up to 1, the devices on no committee",
    ),
    ({"policy": {"harvest": {"hour_start": 7}}}, "policy.harvest.hour_start=7.0: expected another hour than hour_end"),
    ({"policy": {"harvest": {"throttle_temp_c": 40}}}, "=(45.0, 40.0, 65.0): expected values that do not fall"),
    ({"policy": {"harvest": {"max_cpu": float("nan")}}}, "policy.harvest.max_cpu=nan: expected `float`"),
    (
        {"policy": {"consensus": {"election_min_s": 10.0}}},
        "policy.consensus.election_min_s=10.0: expected < election_max_s=10.0",
    ),
    ({"policy": {"consensus": {"heartbeat_s": 5}}}, "policy.consensus.heartbeat_s=5.0: expected < election_min_s=5.0"),
    (
        {"policy": {"consensus": {"protocol": "pbft", "in_flight": 9, "checkpoint_every": 4}}},
        "policy.consensus.in_flight=9: expected <= 2 * checkpoint_every=8",
    ),
    (
        {"fleet": {"committee": 3}, "policy": {"consensus": {"protocol": "pbft"}}},
        "fleet.committee=3: to bear f=1 liars it needs n >= 3f + 1 = 4 members",
    ),
    (
        {"policy": {"edge": {"hot_c": 70}}},
        "policy.edge: warm_c, hot_c, critical_c are 45, 70, 65; allowed: values that do not fall",
    ),
    ({"policy": {"edge": {"heartbeat_s": 500}}}, "policy.edge: heartbeat_s, offline_after_s are 500, 120; allowed: "),
    ({"workload": {**SYNTHETIC, "mix": {"low": 0}}}, "workload.mix={'low': 0.0}: expected a weight above 0"),
    ({"workload": {**SYNTHETIC, "mix": {}}}, "workload.mix={}: expected a weight above 0 for at least one class"),
    (
        {"workload": {**SYNTHETIC, "deadline_s": {"low": 9}}},
        "workload.deadline_s={'low': 9.0}: expected one for every class, not critical",
    ),
    ({"workload": {"kind": "azure_conv"}}, "workload.path='': the trace's file is needed"),
    *(
        ({"workload": {**AZURE, "start": start}}, f"workload.start={start!r}: expected HH:MM, from 00:00 to 23:59")
        for start in ("25:00", "12:60", "1", "noon", "-1:00", "12:5", "1:2:3", "")
    ),
    (
        {"workload": {**SYNTHETIC, "deadline_s": {**dict.fromkeys(PRIORITIES, 9.0), "low": 1e300}}},
        "workload.deadline_s.low=1e+300: expected at most 1e+09 seconds",
    ),
    (
        {"workload": {**SYNTHETIC, "deadline_s": {**dict.fromkeys(PRIORITIES, 9.0), "low": 1e8}}},
        "workload.deadline_s.low=100000000.0: expected at most 3.16224e+07, a year",
    ),
    ({"workload": {**SYNTHETIC, "retry_s": 1e300}}, "workload.retry_s=1e+300: expected at most 1e+09 seconds"),
    (
        {"policy": {"coordination": {"degrade": {"dwell_s": 1e300}}}},
        "policy.coordination.degrade.dwell_s=1e+300: expected at most 1e+09 seconds",
    ),
    ({"faults": [{**CUT, "group": [5]}]}, "faults[0].group=5: committee has members 0..4"),
    ({"faults": [{**CUT, "group": []}]}, "faults[0].group=[]: expected somebody on both sides"),
    (
        {"fleet": {**TINY, "phones": 0, "desktops": 2, "committee": 2}, "faults": [{**CUT, "group": [0, 1, 0]}]},
        "faults[0].group=[0, 1, 0]: 0 is there twice; expected each node once",
    ),
    (
        {"fleet": {**TINY, "phones": 0, "desktops": 2, "committee": 2}, "faults": [{**CUT, "group": [0, 1]}]},
        "faults[0].group=[0, 1]: expected somebody on both sides",
    ),
    ({"faults": [{"kind": "cut", "at_s": 1, "pairs": [["phone-0", "phone-0"]]}]}, "expected two different nodes"),
    ({"faults": [{"kind": "cut", "at_s": 1, "pairs": []}]}, "faults[0].pairs=[]: expected `array` of length >= 1"),
    ({"faults": [{"kind": "loss", "at_s": 1, "share": 0.1, "nodes": ["x"]}]}, "faults[0].nodes='x': no such node"),
    ({"faults": [{"kind": "cascade", "at_s": 1, "group": "phone-1"}]}, "expected a group of at least two nodes"),
    ({"faults": [{"kind": "slow", "at_s": 1, "node": "leader", "factor": 0.5}]}, "factor=0.5: expected `float` >= 1.0"),
    # Numbers that no run of theirs ends with: powers and sums that overflow, draws that have no key.
    ({"faults": [{"kind": "slow", "at_s": 1, "node": "leader", "factor": 1e300}]}, "factor=1e+300: expected"),
    ({"faults": [{"kind": "clock", "at_s": 1, "node": "leader", "drift_ppm": -1e9}]}, "drift_ppm=-1000000000.0:"),
    ({"faults": [{"kind": "churn", "shape": 0.005}]}, "faults[0].shape=0.005: expected `float` >= 0.1"),
    ({"faults": [{"kind": "churn", "down_sigma": 1e3}]}, "faults[0].down_sigma=1000.0: expected `float` <= 10.0"),
    (
        {"faults": [{"kind": "cascade", "at_s": 1, "group": "group:phone", "steepness": 1e4}]},
        "faults[0].steepness=10000.0: expected `float` <= 20.0",
    ),
    ({"faults": [{**CRASH, "node": "phone-0"}] * 4097}, "faults: there are 4097; expected at most 4096"),
    ({"network": {"jitter_sigma": 300.0}}, "network.jitter_sigma=300.0: expected `float` <= 5.0"),
    ({"owners": {"spread_min": 1e308}}, "owners.spread_min=1e+308: expected `float` <= 1440.0"),
    ({"owners": {"screen_minutes_per_day": 1441}}, "owners.screen_minutes_per_day=1441: expected `float` <= 1440.0"),
    ({"workload": {"kind": "synthetic", "mix": {"low": 1e308, "high": 1e308}}}, "workload.mix.low=1e+308: "),
    ({"workload": {"kind": "synthetic", "prompt_tokens": 10**30}}, "workload.prompt_tokens=100000000000000000000"),
    ({"workload": {"kind": "synthetic", "new_tokens": 2**62}}, "workload.new_tokens=4611686018427387904: expected"),
    ({"network": {"bursts": "fog"}}, "network.bursts='fog': allowed: 5g.ucc, "),
    ({"world": "local", "faults": [{"kind": "heat_wave", "at_s": 1}]}, "faults[0].kind='heat_wave': not in this world"),
    *(
        ({"faults": [{**CRASH, "node": node}]}, f"faults[0].node={node!r}: no such node; allowed: leader, worker, ")
        for node in ("phone-400", "phone", "desk-0", "Leader", "committee:5", "committee:", "phone--1", "phone-01", "")
    ),
    (
        {"fleet": {**TINY, "phones": 0}, "faults": [{**CRASH, "node": "random"}]},
        "faults[0].node='random': no such node; allowed: leader, committee:0..0, desk-0, group:",
    ),
]


@pytest.mark.parametrize(("bad", "says"), BAD, ids=[says[:60] for _, says in BAD])
def test_a_bad_input_is_one_line_that_says_what_is_allowed(bad: dict[str, Any], says: str) -> None:
    """The line names the field and its value and says what would do; nothing else is raised."""
    with pytest.raises(ScenarioError) as refused:
        build({"name": "t", **bad})

    message = str(refused.value)
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize("bad", [{}, [], {"name": 3}])
def test_what_is_no_scenario_at_all_is_refused_too(bad: Any) -> None:
    """A missing name, or no mapping, is the user's error, not a traceback."""
    with pytest.raises(ScenarioError, match=r"^(scenario=|name=3)"):
        build(bad)


GOOD = [
    {},
    {"faults": [{**CRASH, "node": node} for node in ("leader", "worker", "random", "committee:4", "gpu-box-3")]},
    {"faults": [CUT, {**CUT, "at_s": 70}, {"kind": "churn"}, {"kind": "loss", "at_s": 0, "share": 1}]},
    {"fleet": TINY, "faults": [CUT]},
    {"workload": {**AZURE, "start": "23:59", "repeat": 3}},
    {"policy": {"harvest": {"hour_start": 0, "hour_end": 24}}},
    {"adversaries": [{"behaviour": "silent", "count": 495}]},
    {"edge": True, "sensors": "trace:day.csv", "assume": {"metered": False, "die_c": 40}},
    {"sensors": ["sysfs", "psutil", "nvml"]},
]


@pytest.mark.parametrize("good", GOOD)
def test_a_good_scenario_survives_its_own_plain_form(good: dict[str, Any]) -> None:
    """What was built is equal after a trip through plain data, with every default filled in."""
    scenario = build({"name": "t", **good})

    assert build(to_plain(scenario)) == scenario
    assert set(to_plain(scenario)) == {field.name for field in msgspec.structs.fields(Scenario)}


def test_names_follow_the_fleet() -> None:
    """Desktops are desks where there is nothing else."""
    mixed, desks = build({"name": "t", "fleet": TINY}), build({"name": "t", "fleet": {**TINY, "phones": 0}})

    assert mixed.fleet.names == {"phone": 1, "tablet": 0, "laptop": 0, "desktop": 1, "gpu-box": 0}
    assert desks.fleet.names["desk"] == 1
