"""The hunt: trials repeat, campaigns find what is planted and nothing else, what is found is shrunk and replays."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.cli import main
from experiments.compose import UsageError
from experiments.hunt import campaign, line
from experiments.hunt.arenas import NAMES, arena
from experiments.hunt.arenas.raft import Door, RaftArena
from experiments.hunt.columns import around, columns, replay
from experiments.hunt.shrink import Shrinker
from experiments.hunt.swarm import draw
from experiments.hunt.verb import verdict
from experiments.opened import OPENED
from policies.port import Policy
from scenarios import faults as f
from scenarios.schema import ScenarioError
from scenarios.trial import Trial, build_trial, plain

RAFT = arena("raft")
SPLIT = (f.Partition(at_s=0.45, for_s=3.0, group=("n0", "n2")),)
QUIET = {"double": 0.0, "failures": 1}


def shape(policy: str = "correct", **fields: Any) -> Trial:
    """Return the committee's trial, another policy or other fields in it."""
    return msgspec.structs.replace(RAFT.shape, policy=policy, **fields)


def no_progress(share: float, text: str) -> None:
    """Say nothing."""


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_is_its_digest_whatever_the_process(name: str) -> None:
    """The same trials give the same digests again here, and in another process under another hash seed."""
    place = arena(name)
    trials = [draw(place, place.shape, seed) for seed in (1, 2)]
    here = [place.run(trial).digest for trial in trials]
    program = (
        "import sys, json; from experiments.hunt.arenas import arena; from experiments.hunt.swarm import draw;"
        f"a = arena({name!r}); print(json.dumps([a.run(draw(a, a.shape, s)).digest for s in (1, 2)]))"
    )
    env = {"PYTHONHASHSEED": "77", "PATH": "/usr/bin:/bin"}
    there = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)

    assert [place.run(trial).digest for trial in trials] == here == json.loads(there.stdout)
    assert len(set(here)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_every_drawn_schedule_is_one_that_the_arena_accepts(name: str) -> None:
    """Over many seeds each kind is drawn, none is always there, and every schedule passes the arena's own check."""
    place = arena(name)
    seen: dict[str, int] = {}
    for seed in range(300):
        trial = draw(place, place.shape, seed)
        place.check(trial)
        for kind in {f.kind_of(fault) for fault in trial.faults}:
            seen[kind] = seen.get(kind, 0) + 1

    assert set(seen) == {f.kind_of(kind) for kind in place.kinds}
    assert max(seen.values()) < 300


def test_a_hunt_for_few_kinds_draws_no_other() -> None:
    """``kinds`` is a bound."""
    drawn = {type(fault) for seed in range(50) for fault in draw(RAFT, shape(), seed, (f.Crash, f.Loss)).faults}

    assert drawn == {f.Crash, f.Loss}


def test_disks_rot_on_a_minority_only() -> None:
    """The majority's disks are the last good copies of what is committed."""
    for seed in range(400):
        struck = {fault.node for fault in draw(RAFT, shape(), seed, (f.Rot,)).faults if isinstance(fault, f.Rot)}
        assert len(struck) <= 2


def test_a_planted_defect_is_found_and_the_correct_policy_raises_no_alarm(tmp_path: Path) -> None:
    """One campaign stops at its first broken promise; the other does every seed, sees all faults, and breaks none."""
    found = campaign.run(
        campaign.Plan(shape("half_is_a_quorum"), range(1, 101), **QUIET), tmp_path / "a", jobs=1, progress=no_progress
    )
    calm = campaign.run(campaign.Plan(shape(), range(1, 76), double=0.1), tmp_path / "b", jobs=2, progress=no_progress)

    assert found.found
    assert found.seeds < 100
    assert (calm.seeds, calm.found, calm.mismatches) == (75, [], [])
    assert calm.canary_seed is not None
    assert set(calm.kinds) >= {f.kind_of(kind) for kind in RAFT.kinds}
    assert 0 < calm.checks_share < 0.3
    assert calm.doubled > 0


def test_a_campaigns_processes_tell_what_they_rest_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs the arena's seeds, the first time and again, is told; sources that are read for the version are not."""
    told = tmp_path / "told.txt"
    monkeypatch.setenv(OPENED, str(told))
    plan = campaign.Plan(shape(requests=5, storm_s=1.0, calm_s=3.0), range(1, 26), double=0.1)
    campaign.run(plan, tmp_path / "hunt", jobs=2, progress=no_progress)
    names = told.read_text().splitlines()
    processes = 2  # a worker for the one chunk, and the one that runs seeds again
    assert names.count("experiments/hunt/arenas/raft.py") == names.count("sim/world.py") == processes
    assert not [name for name in names if name.startswith("sim/fleet/")]


def test_a_campaign_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an interruption in the second chunk the next call does only what is missing, with the same result."""
    plan = campaign.Plan(shape(requests=5, storm_s=1.0, calm_s=3.0), range(1, 76), double=0.0)
    whole = campaign.run(plan, tmp_path / "whole", jobs=1, progress=no_progress)
    real, done = campaign.run_chunk, []

    def interrupted(point: list[str]) -> dict[str, Any]:
        if point[0] == "seeds":
            done.append(point[3])
            if done == ["1", "26"]:
                raise KeyboardInterrupt
        return real(point)

    monkeypatch.setattr(campaign, "run_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt):
        campaign.run(plan, tmp_path / "cut", jobs=1, progress=no_progress)
    again = campaign.run(plan, tmp_path / "cut", jobs=1, progress=no_progress)

    assert done == ["1", "26", "26", "51"]
    assert (again.seeds, again.steps, again.kinds) == (whole.seeds, whole.steps, whole.kinds)


def test_a_digest_that_differs_in_another_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The campaign compares what the second process says with what the first one saw."""
    real = campaign.run_chunk

    def lying(point: list[str]) -> dict[str, Any]:
        result = real(point)
        return {**result, "digests": dict.fromkeys(result["digests"], "0" * 40)}

    monkeypatch.setattr(campaign, "run_chunk", lying)
    done = campaign.run(campaign.Plan(shape(storm_s=1.0), range(1, 11), double=1.0), tmp_path, jobs=1,
                        progress=no_progress)  # fmt: skip

    assert (done.doubled, len(done.mismatches)) == (10, 10)


class Clocked(Door):
    """A door that looks at the clock, once in a while, and keeps what it sees to itself."""

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if operation.command.startswith(b"0003"):
            self.seen = time.monotonic() > 0
        super().on_request(client, op_id, operation)


def test_an_impure_policy_is_named_by_a_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads a clock is named with its place by the first guarded seed; no digest would have shown it."""
    real = RaftArena.mount

    def mount(self: RaftArena, trial: Trial, name: str) -> dict[str, Policy]:
        return {**real(self, trial, name), **({"door": Clocked()} if trial.policy == "correct" else {})}

    monkeypatch.setattr(RaftArena, "mount", mount)
    small = shape(requests=5, storm_s=1.0, calm_s=1.0)
    plan = campaign.Plan(small, range(1, 51), double=0.0, failures=99, guarded=0.2)
    done = campaign.run(plan, tmp_path / "guarded", jobs=1, progress=no_progress)

    assert 0 < done.guarded < done.seeds == 25  # the first chunk ends it
    assert len(done.impure) == done.guarded
    assert f"{Path(__file__).name}:" in done.impure[0].why
    assert "time.monotonic" in done.impure[0].why
    assert f"seed {done.impure[0].seed}: no pure function of its inputs" in verdict(plan, done)[0]


@pytest.mark.parametrize("name", NAMES)
def test_guards_change_no_history_and_find_nothing_in_the_correct_policies(name: str) -> None:
    """A guarded trial has the digest of a bare one."""
    place = arena(name)
    trial = draw(place, place.shape, 5)

    assert place.run(trial, guards=campaign.GUARDS).digest == place.run(trial).digest


def test_shrinking_ends_with_less_that_still_breaks_the_same_promise() -> None:
    """From a dozen faults few are left, none of which can be spared, and the run is short."""
    noisy = (
        *SPLIT, f.Loss(at_s=1.0, share=0.1, for_s=1.0), f.Clock(at_s=0.2, node="n1", offset_s=5.0),
        f.Slow(at_s=2.0, node="n4", factor=3.0, for_s=1.0), f.Duplicate(at_s=0.0, share=0.2, for_s=3.0),
    )  # fmt: skip
    trial = shape("half_is_a_quorum", seed=1, faults=noisy)
    broken = RAFT.run(trial)
    assert broken.broken
    small = Shrinker(RAFT, trial, broken.check).shrink()

    assert RAFT.run(small.trial).check == broken.check
    assert len(small.trial.faults) < len(noisy)
    assert small.trial.end_s < trial.end_s
    for k in range(len(small.trial.faults)):
        fewer = msgspec.structs.replace(small.trial, faults=small.trial.faults[:k] + small.trial.faults[k + 1 :])
        assert RAFT.run(fewer).check != broken.check


@settings(max_examples=30)
@given(st.integers(0, 2**63 - 1), st.integers(0, 200))
def test_a_line_holds_its_whole_trial(seed: int, drawn: int) -> None:
    """Whatever was drawn comes back from the line, wrapped or not."""
    trial = draw(RAFT, shape(), drawn)
    trial = msgspec.structs.replace(trial, seed=seed)
    text = line.write_line(trial)

    assert line.read_line(text) == trial
    assert line.read_line(text[:50] + "\n  " + text[50:]) == trial


def test_a_line_of_other_sources_names_who_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with both versions, unless it may be tried."""
    monkeypatch.setattr(line, "version", lambda: "9.9.9+deadbeef")
    text = line.write_line(shape())
    monkeypatch.undo()

    with pytest.raises(UsageError, match=r"version=9\.9\.9\+deadbeef wrote this line; allowed: 0\."):
        line.read_line(text)
    assert line.read_line(text, any_version=True) == shape()


@pytest.mark.parametrize("spoil", [lambda t: t[:-1], lambda t: t.replace(":1:", ":2:"), lambda t: t[:30] + t[31:]])
def test_a_line_that_was_cut_or_changed_is_refused(spoil: Any) -> None:
    """A lost or changed letter never runs another trial than the one that was written."""
    with pytest.raises(UsageError, match=r"^replay: "):
        line.read_line(spoil(line.write_line(shape())))


def test_a_replay_shows_a_column_for_each_node_around_the_failure() -> None:
    """The columns stand in order, the fault is there, and a rule marks the moment of the breach."""
    trial = shape("ignores_the_log", seed=24, faults=SPLIT, storm_s=0.67, calm_s=0.0, requests=14)
    outcome, events = replay(RAFT, trial)
    shown = columns(around(events, outcome.at_s, 500, 3), trial.names, width=140, broken_at_s=outcome.at_s)
    lines = shown.splitlines()

    assert outcome == RAFT.run(trial) or outcome.digest == RAFT.run(trial).digest
    assert lines[0].split()[2:] == list(trial.names)
    assert any("## partition begins n0,n2" in one for one in lines)
    assert max(map(len, lines)) <= 140


REFUSED = [
    (["hunt", "rafd"], "arena='rafd': allowed: raft, village, "),
    (["hunt", "seeds=3"], "the first word is the arena"),
    (["hunt", "raft", "policy=nice"], "policy='nice': not in arena raft; allowed: correct, "),
    (["hunt", "raft", "seeds=9..3"], "seeds=9..3: expected the first seed before the last"),
    (["hunt", "raft", "seeds=many"], "seeds=many: allowed: whole numbers from 0"),
    (["hunt", "raft", "jobs=0"], "jobs=0: allowed: whole numbers from 1 to 256"),
    (["hunt", "raft", "nodes=2"], "nodes=2: arena raft needs at least 3"),
    (["hunt", "raft", "storm_s=-1"], "storm_s=-1: expected `float` >= 0.001"),
    (["hunt", "raft", "storm_s=nan"], "storm_s=nan: expected"),
    (["hunt", "raft", "kinds=flood"], "kinds='flood': not in this arena; allowed: cascade, "),
    (["hunt", "raft", "double=2"], "double=2: allowed: shares from 0 to 1"),
    (["hunt", "raft", "speed=3"], "'speed=3': no such word; allowed: policy=, "),
    (["replay", "hunt:nonsense"], "is no line of a hunt"),
    (["replay", "nowhere.yaml"], "nowhere.yaml: no such file"),
]


@pytest.mark.parametrize(
    ("words", "why"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_words_get_one_line_and_leave_nothing(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the word and what is allowed; the exit code is 2 and no folder is made."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    assert main(words) == 2
    said = capsys.readouterr().err
    assert why in said
    assert len(said.splitlines()) == 1
    assert list(here.iterdir()) == []


BAD_FAULTS = [
    ({"kind": "crash", "at_s": 1, "node": "n9"}, "faults[0].node='n9': no such node; allowed: leader"),
    ({"kind": "partition", "at_s": 1, "group": ["n1", "n1"]}, "'n1' is there twice; expected each node once"),
    ({"kind": "heat_wave", "at_s": 1}, "faults[0].kind='heat_wave': not in this world; allowed: cascade, "),
    ({"kind": "loss", "at_s": 1, "share": 1.5}, "faults[0].share=1.5: expected `float` <= 1.0"),
    ({"kind": "loss", "at_s": float("inf"), "share": 0.5}, "faults[0].at_s=inf: expected a finite number"),
]


@pytest.mark.parametrize(("fault", "why"), BAD_FAULTS)
def test_a_scenario_file_with_a_bad_fault_is_refused_in_one_line(
    fault: dict[str, Any], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same schema that the hunter writes refuses what no run could carry out."""
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump({"arena": "raft", "faults": [fault]}))

    assert main(["replay", str(file)]) == 2
    assert why in capsys.readouterr().err


def test_a_hunt_from_the_command_line_ends_with_a_line_that_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The finding's file and its line break the same promise with the same digest; the hunt's exit code is 3."""
    words = ["hunt", "raft", "policy=ignores_the_log", "seeds=50", f"out={tmp_path / 'found'}", "--json", "-q"]
    assert main(words) == 3
    found = json.loads(capsys.readouterr().out)
    first = found["shrunk"][0]
    replays = []
    for word in (first["line"], first["file"]):
        assert main(["replay", word, "--json"]) == 3
        replays.append(json.loads(capsys.readouterr().out))

    assert replays[0] == replays[1]
    assert replays[0]["check"] == first["check"]
    assert len(first["trial"]["faults"]) <= 20
    assert build_trial(first["trial"]) == build_trial(replays[0]["trial"])


def test_a_trial_survives_its_file() -> None:
    """Plain data and back is the same trial; an unknown field is refused by name."""
    trial = draw(RAFT, shape(), 5)

    assert build_trial(yaml.safe_load(yaml.safe_dump(plain(trial)))) == trial
    with pytest.raises(ScenarioError, match="storm: no such field; did you mean 'storm_s'"):
        build_trial({"arena": "raft", "storm": 3})


def test_a_shrunk_case_is_about_its_defect() -> None:
    """In it the correct policy keeps the promise that the defect breaks, even one of what must come about."""
    place = arena("tasks")
    check = place.expects["g22"]
    found = next(
        trial
        for seed in range(1, 60)
        if place.run(trial := draw(place, msgspec.structs.replace(place.shape, policy="g22"), seed)).check == check
    )
    small = Shrinker(place, found, check).shrink().trial

    assert place.run(small).check == check
    assert place.run(msgspec.structs.replace(small, policy="correct")).check != check
    assert small.calm_s == found.calm_s
    assert small.requests > 0
