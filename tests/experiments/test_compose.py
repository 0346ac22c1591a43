"""conf/ says exactly what the schema says, and every wrong word gets one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from experiments.compose import CONF, UsageError, compose, compose_plain, groups, points, root_of, split
from experiments.folders import named_files
from scenarios.schema import Scenario, build, to_plain

BAD_WORDS = [
    (["scenario=frist_village"], "did you mean 'first_village'"),
    (
        ["scenario=../../etc/passwd"],
        "allowed: alone, byzantine_committee, council, degraded, first_village, fleet_week, four_desks, gap, million_",
    ),
    (["fleet=default_50"], "did you mean 'default_500'"),
    (["fleet=null"], "no such choice"),
    (["policy/harvest=genrous"], "did you mean 'generous'"),
    (["polcy/harvest=generous"], "did you mean 'policy/harvest'"),
    (["policy=generous"], "choose in policy/committee"),
    (["world=locl"], "did you mean 'local'"),
    (["sed=3"], "did you mean 'seed'"),
    (["fleet.phonez=3"], "did you mean 'phones'"),
    (["policy.harvest.min_batery=1"], "did you mean 'min_battery'"),
    (["policy.harvest=3"], "policy.harvest=3"),
    (["seed=abc"], "seed='abc': expected `int`"),
    (["seed=-1"], "seed=-1: expected `int` >= 0"),
    (["seed.x=1"], "seed="),
    (["seed=1,2"], "twin sweep"),
    (["duration_s=24h"], "duration_s='24h': expected `float`"),
    (["fleet.phones=-3"], "fleet.phones=-3"),
    (["fleet.committee=9", "fleet=desks_4"], "the fleet has 4"),
    (["workload=azure_conv"], "workload.path=''"),
    (["workload=azure_conv", "workload.path=nowhere.csv"], "workload.path=nowhere.csv: no such file"),
    (["sensors=hots"], "did you mean 'host'"),
    (["sensors=trace:nowhere.csv"], "nowhere.csv: no such file"),
    (["sensors=host", "assume.skn_c=3"], "did you mean 'skin_c'"),
    (["policy.edge.hot_c=70"], "warm_c, hot_c, critical_c are 45, 70, 65; allowed: values that do not fall"),
    (["profile=nowhere.json"], "nowhere.json: no such file"),
    (["faults=[1]"], "no such choice"),
    (["faults.9.at_s=3"], "list index out of range"),
    (["name=${nope}"], "'nope' not found"),
    (["name=../escape"], "names a folder"),
    (["model=[[["], "cannot read the value"),
    (["fleet.phones"], "expected key=value"),
    (["=3"], "expected key=value"),
    (["a b=3"], "is no field's name"),
    (["+seed=3"], "is no field's name"),
    (["track=wandb"], "allowed: mlflow, none"),
    (["out="], "a folder is needed"),
    (["--frsh"], "did you mean '--fresh'"),
    (["-p"], "a file is needed"),
    (["-p", "nowhere.py"], "nowhere.py: no such file"),
    (["world=local", "duration_s=601"], "without --really"),
]


@pytest.mark.parametrize(
    ("words", "says"), BAD_WORDS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_wrong_word_is_one_line_exit_2_and_nothing_written(
    words: list[str], says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong, the user reads one line with the reason, and no file appears."""
    code = main(["run", *words])
    out, err = capsys.readouterr()

    assert (code, out) == (2, "")
    assert err.startswith("twin: ")
    assert err.count("\n") == 1
    assert says in err
    assert list(home.iterdir()) == []


def test_a_fleets_files_compose_on_a_root_of_their_own() -> None:
    """A scenario that says ``kind: fleet`` has the fleet's fields and groups, and no village's."""
    fleets = {name for name in groups()["scenario"] if root_of([f"scenario={name}"]) == "fleet"}
    week = compose_plain(["scenario=fleet_week", "policy/harvest=boinc", "devices=9"])

    assert fleets == {"fleet_week", "million_day"}
    assert (week["kind"], week["devices"], week["policy"]["harvest"]["rule"]) == ("fleet", 9, "boinc")
    assert root_of(["seed=2"]) == root_of(["scenario=four_desks"]) == root_of(["scenario=nowhere"]) == "config"
    with pytest.raises(UsageError, match="a fleet has no such group; allowed: policy/harvest, scenario"):
        compose_plain(["scenario=million_day", "network=lossy"])


def test_readers_and_assumptions_are_reachable_from_the_command_line() -> None:
    """A list, a recording with a path, and one assumption after another."""
    words = ["scenario=four_desks", "world=local"]
    merged = build(compose_plain([*words, "sensors=[sysfs,psutil]", "assume.die_c=40", "assume.metered=false"]))
    replayed = build(compose_plain([*words, "sensors=trace:days/monday-1.csv", "edge=true"]))

    assert (merged.sensors, merged.assume) == (("sysfs", "psutil"), {"die_c": 40.0, "metered": False})
    assert (replayed.sensors, replayed.edge) == ("trace:days/monday-1.csv", True)
    assert named_files(replayed)["sensors"] == Path("days/monday-1.csv")


def test_conf_names_every_field_of_the_schema() -> None:
    """The composed files hold the schema's fields and no others, so conf/ can be read as the whole truth."""

    def keys(data: Any, prefix: str = "") -> set[str]:
        if not isinstance(data, dict):
            return {prefix}
        return {found for key, value in data.items() for found in keys(value, f"{prefix}.{key}")}

    plain = compose_plain(["faults=none", "adversary=none"])

    assert keys(to_plain(build(plain))) == keys(plain)


def test_the_documented_harvest_of_conf_is_the_schemas_default() -> None:
    """The documented policy is written twice, in conf/ and in the schema, and both say the same."""
    plain = compose_plain([])

    assert build(plain).policy == Scenario(name="x").policy


def test_scenarios_choose_their_groups_and_the_user_has_the_last_word() -> None:
    """A scenario overrides groups and values; what is typed overrides the scenario."""
    desks = build(compose_plain(["scenario=four_desks"]))
    typed = build(compose_plain(["scenario=four_desks", "fleet=small_50", "duration_s=5", "faults=desks_kill"]))

    assert (desks.fleet.size, desks.fleet.committee, desks.duration_s, desks.record.journals) == (4, 3, 90.0, "all")
    assert (desks.model, desks.policy.coordination.lease_s, desks.network.home) == ("desk-tiny", 3.0, "loopback")
    assert (typed.fleet.size, typed.duration_s, len(typed.faults)) == (50, 5.0, 2)


def test_the_default_is_the_first_village_with_its_hard_day() -> None:
    """`twin run` alone is the scenario that the README describes."""
    scenario = build(compose([])[0])

    assert (scenario.name, scenario.fleet.size, scenario.duration_s) == ("first_village", 500, 86_400.0)
    assert [type(fault).__name__ for fault in scenario.faults] == ["Crash", "Partition", "Loss", "Churn"]
    assert [adversary.behaviour for adversary in scenario.adversaries] == ["silent", "wrong_results"]


def test_an_element_of_a_list_can_be_changed() -> None:
    """One fault of a schedule can be moved without writing the schedule again."""
    plain = compose_plain(["faults.0.at_s=5"])

    assert plain["faults"][0]["at_s"] == 5


def test_options_are_kept_out_of_the_scenario() -> None:
    """Keys that are no fields of the schema are read as options of the run."""
    overrides, options = split(
        ["seed=3", "-q", "out=x/y", "track=none", "policy.alias=candidate", "--fresh", "-p", "f.py"]
    )

    assert overrides == ["seed=3"]
    assert (str(options.out), options.track, options.policy_alias) == ("x/y", "none", "candidate")
    assert (options.fresh, options.quiet, options.policy_file) == (True, True, "f.py")


def test_lists_and_ranges_become_points() -> None:
    """A grid is the product of its axes, the last one fastest."""
    assert points(["seed=1..2", "fleet=small_50,default_500"]) == [
        ["seed=1", "fleet=small_50"],
        ["seed=1", "fleet=default_500"],
        ["seed=2", "fleet=small_50"],
        ["seed=2", "fleet=default_500"],
    ]
    assert points(["backends=[torch,jax]"]) == [["backends=[torch,jax]"]]
    with pytest.raises(UsageError, match="range is empty"):
        points(["seed=8..1"])


@pytest.mark.parametrize("words", ["seed=1..100001", "seed=0..999999999999999999", "seed=1..1000 fleet.phones=1..1000"])
def test_a_grid_that_nobody_can_wait_for_is_refused(words: str) -> None:
    """Its points are counted before they are made."""
    with pytest.raises(UsageError, match=r"allowed: up to 100,000 in one grid"):
        points(words.split())


def test_a_scenario_whose_name_no_file_can_have_is_refused() -> None:
    """A name that is longer than names of files may be is one that is not there."""
    with pytest.raises(UsageError, match=r"no such choice"):
        compose_plain([f"scenario={'a' * 300}"])


def test_no_file_of_conf_names_code() -> None:
    """conf/ holds data: no key lets a file choose what is imported."""
    assert not [file for file in CONF.rglob("*.yaml") if "_target_" in file.read_text()]
