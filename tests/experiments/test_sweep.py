"""A sweep goes on after a failure, and after a kill it does only what is missing."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from experiments import cli
from experiments.sweep import read_journal, sweep, sweep_folder
from scenarios.record import Record

ROOT = Path(__file__).resolve().parents[2]
GRID = [[f"seed={seed}"] for seed in range(1, 7)]


def key_of(words: list[str]) -> str:
    """Name a point's sources; here they never change."""
    return words[0]


def test_a_failed_point_keeps_its_error_and_the_sweep_goes_on(tmp_path: Path) -> None:
    """Every point is tried; run again, only the failed one is."""
    done: list[str] = []

    def work(words: list[str]) -> dict[str, Any]:
        done.append(words[0])
        if words == ["seed=3"] and len(done) < 7:
            raise RuntimeError("no luck\nsecond line")
        return {"run": words[0]}

    first = sweep(GRID, tmp_path, work=work, key_of=key_of)
    second = sweep(GRID, tmp_path, work=work, key_of=key_of)

    assert [point.status for point in first] == ["done", "done", "failed", "done", "done", "done"]
    assert first[2].result == {"error": "RuntimeError: no luck"}
    assert done[6:] == ["seed=3"]
    assert [(point.status, point.fresh) for point in second] == [("done", i == 2) for i in range(6)]


def test_an_edited_source_repeats_its_points(tmp_path: Path) -> None:
    """A point counts as done only under the key of today's sources."""
    done: list[str] = []

    def work(words: list[str]) -> dict[str, Any]:
        done.append(words[0])
        return {}

    sweep(GRID[:2], tmp_path, work=work, key_of=key_of)
    sweep(GRID[:2], tmp_path, work=work, key_of=lambda words: "edited" if words == ["seed=2"] else words[0])

    assert done == ["seed=1", "seed=2", "seed=2"]


@pytest.fixture(name="script")
def _script(tmp_path: Path) -> Path:
    """A program that sweeps, whose work can die, fail or be killed with its parent."""
    script = tmp_path / "program.py"
    script.write_text(
        "import json, os, signal, sys\n"
        "from pathlib import Path\n"
        "from experiments.sweep import sweep\n"
        "def key_of(words): return words[0]\n"
        "def work(words):\n"
        "    with open('log', 'a') as log: log.write(words[0] + '\\n')\n"
        "    mode = os.environ.get('MODE', '')\n"
        "    if words == ['seed=4'] and mode == 'kill': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if words == ['seed=4'] and mode == 'interrupt': os.kill(os.getppid(), signal.SIGINT); signal.pause()\n"
        "    return {'run': words[0]}\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job is born deaf to it
        "    grid = [[f'seed={i}'] for i in range(1, 7)]\n"
        "    try: points = sweep(grid, Path('sweep'), jobs=int(sys.argv[1]), work=work, key_of=key_of)\n"
        "    except KeyboardInterrupt: sys.exit(130)\n"
        "    print(json.dumps([p.status + ' ' + p.result.get('error', '') for p in points]))\n"
    )
    return script


def _program(script: Path, jobs: int, mode: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{script.parent}", "MODE": mode}
    words = [sys.executable, str(script), str(jobs)]
    return subprocess.run(words, cwd=script.parent, env=environ, capture_output=True, text=True, timeout=60)


def test_a_killed_sweep_resumes_where_it_was(script: Path, tmp_path: Path) -> None:
    """After SIGKILL in the fourth point, and a torn last line, the next call does the rest and nothing twice."""
    assert _program(script, 1, "kill").returncode == -signal.SIGKILL
    with (tmp_path / "sweep" / "points.jsonl").open("a") as journal:
        journal.write('{"point": ["se')

    assert json.loads(_program(script, 1).stdout) == ["done "] * 6
    assert (tmp_path / "log").read_text().split() == [f"seed={i}" for i in (1, 2, 3, 4, 4, 5, 6)]
    assert len(read_journal(tmp_path / "sweep" / "points.jsonl")) == 6


def test_a_dead_worker_costs_its_own_point_only(script: Path) -> None:
    """A worker process that is killed is a failed point; the others are done."""
    statuses = json.loads(_program(script, 2, "kill").stdout)

    assert sorted(statuses) == ["done "] * 5 + ["failed worker died with exit code -9"]


def test_ctrl_c_saves_what_is_finished(script: Path, tmp_path: Path) -> None:
    """An interrupt ends the workers and keeps the finished points; the next call completes the grid."""
    assert _program(script, 2, "interrupt").returncode == 130
    saved = len(read_journal(tmp_path / "sweep" / "points.jsonl"))

    assert 1 <= saved < 6
    assert json.loads(_program(script, 2).stdout) == ["done "] * 6


def test_an_interruption_between_points_ends_the_workers(tmp_path: Path) -> None:
    """Whoever is interrupted while a point is written down leaves no process behind that the exit would wait for."""

    def interrupted(share: float, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as held:  # as whoever exits because of it does
        sweep(GRID, tmp_path, jobs=2, work=dict.fromkeys, key_of=key_of, progress=interrupted)

    assert multiprocessing.active_children() == []
    assert held.tb is not None
    assert len(read_journal(tmp_path / "points.jsonl")) == 1


def test_the_same_words_find_their_sweep_again(home: Path) -> None:
    """A sweep's folder follows from its grid."""
    assert sweep_folder(GRID) == sweep_folder([list(point) for point in GRID])
    assert sweep_folder(GRID) != sweep_folder(GRID[:-1])


def test_the_verb_reports_failed_points(
    synthetic_record: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3 with failed points, 0 without; a wrong word anywhere in the grid runs nothing."""
    ran: list[int] = []

    def simulate(scenario: Any, *, progress: Any = None, policy: Any = None) -> Record:
        ran.append(scenario.seed)
        if scenario.seed == 2 and len(ran) < 4:
            raise RuntimeError("the world broke")
        return synthetic_record(scenario.seed, requests=30, devices=3)

    module = ModuleType("sim.village")
    module.simulate = simulate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sim.village", module)
    monkeypatch.setattr("experiments.report.render", lambda run: "a report")

    assert cli.main(["sweep", "seed=1..3", "track=none", "fleet=small_50,smal", "-q"]) == 2
    assert ran == []
    assert cli.main(["sweep", "seed=1..3", "track=none", "-q", "--json"]) == 3
    capsys.readouterr()
    assert cli.main(["sweep", "seed=1..3", "track=none", "-q", "--json"]) == 0
    assert [point["fresh"] for point in json.loads(capsys.readouterr().out)["points"]] == [False, True, False]
    assert cli.main(["sweep", "seed=1", "jobs=0"]) == 2


def test_a_sweep_outlives_its_tracker(
    synthetic_record: Callable[..., Record], home: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Where MLflow's database is damaged, the points are done and shown, and one line says what was not logged."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    module = ModuleType("sim.village")
    module.simulate = lambda scenario, **given: synthetic_record(scenario.seed, requests=30, devices=3)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sim.village", module)
    monkeypatch.setattr("experiments.report.render", lambda run: "a report")
    (home / "mlflow.db").write_text("not a database, but long enough to be taken for one" * 9)

    assert cli.main(["sweep", "seed=1..2", "-q", "--json"]) == 0
    told = capsys.readouterr()
    assert [point["status"] for point in json.loads(told.out)["points"]] == ["done", "done"]
    assert told.err.startswith("twin: mlflow: UsageError: mlflow.db: cannot be used")
    assert told.err.count("\n") == 1


@pytest.mark.slow
def test_one_and_two_workers_leave_the_same_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A point's event history does not depend on how many processes the sweep has, nor on which ran it."""
    digests = {}
    for jobs in (1, 2):
        home = tmp_path / f"jobs{jobs}"
        home.mkdir()
        monkeypatch.setenv("VILLAGETWIN_HOME", str(home))
        words = ["scenario=four_desks", "seed=1..2", "duration_s=8", "workload.requests=4", "profile=", f"jobs={jobs}"]
        assert cli.main(["sweep", *words, "track=none", "-q", "--json"]) == 0
        points = json.loads(capsys.readouterr().out)["points"]
        manifests = [json.loads((home / point["run"] / "manifest.json").read_text()) for point in points]
        digests[jobs] = [manifest["digest"] for manifest in manifests]

    assert digests[1] == digests[2]
    assert len(set(digests[1])) == 2
