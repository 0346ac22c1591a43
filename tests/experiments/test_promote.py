"""Tracking and promotion: one batch a run, and a registry that only green gates can change."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments import cli, promote
from experiments.replay import Divergence, Replayed
from experiments.results import Run
from experiments.track import log_run, open_client, open_parent
from policies.consensus import raft
from scenarios.digests import policies_manifest
from scenarios.record import Record, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
Make = Callable[..., Record]


@pytest.fixture(name="green")
def _green(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the replay be green: these made-up Runs have no journals."""
    monkeypatch.setattr("experiments.replay.replay", lambda journals: Replayed({"desk-0": 10}, ()))


def _candidate(make: Make, home: Path, seed: int = 1, *, name: str = "a", slower: float = 1.0) -> Run:
    record = make(seed, slower=slower)
    record.manifest["policies"] = policies_manifest({"consensus": raft.Raft})
    record.manifest["digest"] = f"{name}-{seed}-{slower}"
    return Run(folder=write(record, home / "runs" / name))


def test_a_run_is_tracked_whole(tracked_home: Path, synthetic_record: Make) -> None:
    """Config is params, summary is metrics, files are artifacts, and a sweep's points are children."""
    run = _candidate(synthetic_record, tracked_home)
    client = open_client()
    parent = open_parent(client, run.name, "sweep", ["seed=1..2"])
    found = client.get_run(log_run(run, parent=parent, client=client))

    assert found.data.metrics == pytest.approx(run.summary)
    assert found.data.params["fleet.phones"] == "400"
    assert found.data.params["policy.harvest.hour_start"] == "22.0"
    assert found.data.tags["mlflow.parentRunId"] == parent
    assert found.info.status == "FINISHED"
    assert {"manifest.json", "requests.parquet"} <= {f.path for f in client.list_artifacts(found.info.run_id)}
    assert (tracked_home / "mlartifacts").is_dir()
    with sqlite3.connect(tracked_home / "mlflow.db") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_green_gates_make_a_candidate(
    tracked_home: Path, synthetic_record: Make, green: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A promoted Run's policies are under the alias, and these very sources may then run under it."""
    _candidate(synthetic_record, tracked_home)

    assert cli.main(["promote", "runs/a", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["alias"], shown["version"]) == ("candidate", 1)
    assert [gate["name"] for gate in shown["gates"]] == ["checks", "replay", "compare"]
    promote.require_alias("candidate")
    promote.require_alias("candidate", policies_manifest({"consensus": raft.Raft}))


def test_other_digests_are_refused(tracked_home: Path, synthetic_record: Make, green: None) -> None:
    """Under an alias nothing else runs: not another source, not one policy more, and not an unknown alias."""
    promote.promote(_candidate(synthetic_record, tracked_home))
    registered = policies_manifest({"consensus": raft.Raft})
    other = {"consensus": {**registered["consensus"], "source_sha256": "0" * 64}}

    for policies in (other, {}, {**registered, "more": registered["consensus"]}):
        with pytest.raises(promote.GateRefused, match="other digests"):
            promote.require_alias("candidate", policies)
    with pytest.raises(promote.GateRefused, match="nothing is registered"):
        promote.require_alias("champion")


def test_the_verb_run_refuses_an_edited_policy(
    tracked_home: Path,
    synthetic_record: Make,
    green: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`twin run policy.alias=candidate` is exit code 4 once a source differs, before anything is written."""
    promote.promote(_candidate(synthetic_record, tracked_home))
    monkeypatch.setattr("scenarios.digests.source_sha256", lambda subject: "edited")
    before = sorted(tracked_home.rglob("manifest.json"))

    assert cli.main(["run", "scenario=four_desks", "policy.alias=candidate"]) == 4
    assert "other digests than the sources here (consensus)" in capsys.readouterr().err
    assert sorted(tracked_home.rglob("manifest.json")) == before


def test_each_red_gate_refuses_and_changes_nothing(
    tracked_home: Path, synthetic_record: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed check, missing journals, a divergence, changed sources or a worse result is exit code 4."""
    run = _candidate(synthetic_record, tracked_home)
    slow = _candidate(synthetic_record, tracked_home, name="slow", slower=1.5)

    assert cli.main(["promote", "runs/a"]) == 4
    assert "promote: replay: the run has no journals" in capsys.readouterr().err

    diverged = Replayed({"desk-0": 3}, (Divergence("desk-0", 4, 10**9, "timer(consensus)", "now no effects"),))
    monkeypatch.setattr("experiments.replay.replay", lambda journals: diverged)
    assert cli.main(["promote", "runs/a"]) == 4
    assert "desk-0: step 4 at 1.000000 s" in capsys.readouterr().err

    monkeypatch.setattr("experiments.replay.replay", lambda journals: Replayed({"desk-0": 3}, (), ("consensus",)))
    assert cli.main(["promote", "runs/a"]) == 4
    assert "sources changed since the run: consensus" in capsys.readouterr().err

    monkeypatch.setattr("experiments.replay.replay", lambda journals: Replayed({"desk-0": 3}, ()))
    run.manifest["checks"]["ledger_conserved"] = "broken"
    with pytest.raises(promote.GateRefused, match="checks: failed: ledger conserved"):
        promote.promote(run)
    with pytest.raises(promote.GateRefused, match="compare: worse in latency_mean_s"):
        promote.promote(slow, against="runs/a")
    with pytest.raises(promote.GateRefused, match="nothing is registered"):
        promote.require_alias("candidate")


def test_the_present_candidate_is_the_baseline(tracked_home: Path, synthetic_record: Make, green: None) -> None:
    """Without --against, a Run must not be worse than the candidate's own Run."""
    promote.promote(_candidate(synthetic_record, tracked_home))

    with pytest.raises(promote.GateRefused, match="worse in latency_mean_s"):
        promote.promote(_candidate(synthetic_record, tracked_home, name="slow", slower=1.5))
    better = promote.promote(_candidate(synthetic_record, tracked_home, name="fast", slower=0.8))
    assert better["version"] == 2
