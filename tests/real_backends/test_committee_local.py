"""The committee with a liar as everybody runs it, with real processes: one command, and a report that shows it all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments import cli
from experiments.agreement_plot import accused, views
from experiments.plots import fault_spans
from experiments.replay import replay
from experiments.results import open_run


@pytest.mark.nightly
@pytest.mark.parametrize("protocol", ["hotstuff", "pbft"])
def test_a_committee_with_a_liar_runs_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    """All checks hold, every request is answered as one process alone answers it, journals replay, and the report has
    views that changed, both faults, and commits on one timeline."""
    monkeypatch.setenv("VILLAGETWIN_HOME", str(tmp_path))
    words = ["scenario=byzantine_committee", f"policy/consensus={protocol}", "world=local", "profile=", "track=none"]

    assert cli.main(["run", *words, f"out={tmp_path / 'run'}", "-q"]) == 0
    run = open_run(tmp_path / "run")
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    assert [check.name for check in run.checks if not check.passed] == []
    assert run.summary["answers_correct"] == run.summary["requests_answered"] == run.summary["requests_total"] == 60
    replayed = replay(run.journals)
    assert replayed.passed, [str(one) for one in replayed.divergences]
    assert set(replayed.steps) == {f"desk-{k}" for k in range(4)}
    assert f"All {len(run.checks)} checks passed" in report
    timeline = report.partition("<h2>Agreement: views, leaders, faults, commits</h2>")[2].partition("</svg>")[0]
    assert {"view", "desk-1 (liar)", "partition", "crash", "commits"} <= set(re.findall(">([^<]*)</text>", timeline))
    assert {kind for kind, *_ in fault_spans(run)} == {"partition", "crash"}
    assert len({leader for _, _, leader, _ in views(run)}) > 1
    assert {member for _, member in accused(run)} <= {"desk-1"}
    assert accused(run) or protocol != "hotstuff"
    assert len(run.commits) > 60
