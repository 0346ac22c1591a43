"""A study with a stand-in for the local cluster: the twin at a profile that the calibration sees, or does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from experiments import cli
from experiments.calibration import executor as calibration
from experiments.compose import UsageError, build, compose_plain
from experiments.gap import rounds
from experiments.gap.page import text
from experiments.gap.rounds import POLICIES, SCENARIOS, Cell, Plan, check_plan, read_round, run_rounds, sequence
from experiments.gap.study import analyse, cost_s
from experiments.gap.verdict import TOO_LITTLE
from experiments.job import prepare
from experiments.results import Run
from scenarios.hosts import PACED, UNMEASURED
from scenarios.record import Record, write
from sim.village import simulate

CELLS = (Cell("equal", "latency_dp-4"), Cell("equal", "memory_ring-2"), Cell("slow", "latency_dp-4"))
SHORT = ("duration_s=9", "workload.requests=18")
PROFILE = {**UNMEASURED, **PACED, "plan_s": 0.01}


class _Cluster:
    """Stands in for this machine: what a calibration finds, how long hops really take, and who else works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hop_s, self.seen_hop_s = 1e-3, 1e-3
        self.foreign: dict[int, float] = {}  # by the number of the run
        self.after_drift: dict[int, float] = {}  # by the number of the calibration
        self.stop_after: int | None = None
        self.runs: list[str] = []
        self.calibrations = 0
        monkeypatch.setattr(rounds, "_calibrate", self._calibrate)
        monkeypatch.setattr(rounds, "_run_cell", self._run_cell)

    def _calibrate(self, executor: str, out: Path) -> None:
        hop_s = self.seen_hop_s + self.after_drift.get(self.calibrations, 0.0)
        out.write_text(json.dumps({**PROFILE, "hop_s": hop_s, "hash": f"c{self.calibrations}"}))
        self.calibrations += 1

    def _run_cell(self, words: list[str], place: Path) -> None:
        if self.stop_after is not None and len(self.runs) >= self.stop_after:
            raise KeyboardInterrupt
        truth = place.parent / "truth.json"
        truth.write_text(json.dumps({**PROFILE, "hop_s": self.hop_s, "hash": "truth"}))
        kept = [word for word in words if not word.startswith("profile=")]
        job = prepare([*kept, f"profile={truth}", "track=none", f"out={place}", "-q"])
        record = simulate(job.scenario)  # type: ignore[arg-type]
        record.manifest["world"] = record.manifest["config"]["world"] = "local"
        write(Record(record.summary, record.manifest, record.tables), place)
        load: dict[str, Any] = {"foreign": self.foreign.get(len(self.runs), 0.0), "wall_s": 10.0}
        place.with_suffix(".cpu.json").write_text(json.dumps(load))
        self.runs.append(place.name)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, home: Path) -> _Cluster:
    return _Cluster(monkeypatch)


def _plan(folder: Path, wanted: int = 2, cells: tuple[Cell, ...] = CELLS) -> Plan:
    return Plan(folder, "paced", cells, wanted, 2 * wanted, SHORT)


def _quiet(share: float, text: str) -> None:
    assert 0 <= share <= 1


def test_a_study_that_was_stopped_goes_on(cluster: _Cluster, tmp_path: Path) -> None:
    """Nothing that was finished runs again, and every cell runs once a round."""
    plan = _plan(tmp_path / "study")
    cluster.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        run_rounds(plan, _quiet)
    assert read_round(plan, 0) is not None
    assert read_round(plan, 1) is None

    cluster.stop_after = None
    done = run_rounds(plan, _quiet)
    assert [one.void for one in done] == ["", ""]
    assert len(cluster.runs) == 2 * len(CELLS)
    assert sorted(cluster.runs[:3]) == sorted(cluster.runs[3:]) == sorted("--".join(cell) for cell in CELLS)
    assert cluster.calibrations == 4
    assert run_rounds(plan, _quiet)[0].number == 0
    assert len(cluster.runs) == 2 * len(CELLS)


def test_drift_and_foreign_work_void_rounds_and_more_are_run(cluster: _Cluster, tmp_path: Path) -> None:
    """A void round is kept, counted and replaced, until the attempts are used up."""
    cluster.after_drift = {1: 4e-3}
    cluster.foreign = {3: 0.5}
    done = run_rounds(_plan(tmp_path / "study", 2, CELLS[:2]), _quiet)

    assert [one.void[:5] for one in done] == ["drift", "forei", "", ""]
    assert done[1].foreign == pytest.approx(0.25)
    assert done[1].worst == 0.5


def test_another_study_in_the_folder_is_refused(cluster: _Cluster, tmp_path: Path) -> None:
    """Rounds of different cells are never mixed."""
    run_rounds(_plan(tmp_path / "study", 1, CELLS[:1]), _quiet)
    with pytest.raises(UsageError, match="holds another study"):
        run_rounds(_plan(tmp_path / "study", 1, CELLS[:2]), _quiet)


@pytest.mark.parametrize(("error_s", "bias"), [(0.0, 0.0), (1e-3, -0.1)])
def test_the_study_finds_the_bias_that_was_put_in(
    cluster: _Cluster, tmp_path: Path, error_s: float, bias: float
) -> None:
    """With the right profile nothing is off; with hops that the calibration missed, tokens are, by as much."""
    cluster.hop_s = cluster.seen_hop_s + error_s
    plan = _plan(tmp_path / "study", 2, CELLS[:2])
    found = analyse(plan, run_rounds(plan, _quiet), _quiet)

    assert found.errors["tpot_s"].bias == pytest.approx(bias, abs=0.035)
    assert found.noise["tpot_s"].h == pytest.approx(0.0, abs=1e-9)
    assert {verdict.word for verdict in found.verdicts.values()} == {TOO_LITTLE}
    assert found.order is not None
    assert found.order.pairs == 1
    page = text(found, "twin gap")
    assert "too little data" in page
    assert "2 of 2 rounds count" in page


def test_a_request_without_an_answer_costs_its_deadline(cluster: _Cluster, tmp_path: Path) -> None:
    """A policy that refuses is not the fastest."""
    plan = _plan(tmp_path / "study", 1, CELLS[:1])
    (one,) = run_rounds(plan, _quiet)
    run = one.runs[CELLS[0]]
    answered_s = cost_s(run)
    assert run.folder is not None
    refused = Run(folder=run.folder)
    refused.__dict__["requests"] = run.requests.assign(status="refused", latency_s=0.1)

    assert answered_s < 1.0
    assert cost_s(refused) == 60.0


def test_words_are_checked_before_anything_is_measured(
    cluster: _Cluster, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds bring profiles of their own, so none of this machine's is made for the sake of the words."""
    monkeypatch.setattr(calibration, "auto_profile", lambda *asked, **how: pytest.fail("this machine is measured"))
    check_plan(_plan(tmp_path / "study", 1, CELLS[:1]))

    assert list(home.iterdir()) == []
    assert cluster.calibrations == 0


def test_each_round_has_an_order_of_its_own() -> None:
    """The same in every process, and not the same in every round."""
    cells = tuple(Cell(scenario, policy) for scenario in SCENARIOS for policy in POLICIES)
    plan = Plan(Path(), "paced", cells, 7, 14)
    orders = {tuple(sequence(plan, number)) for number in range(7)}

    assert len(cells) == 30
    assert len(orders) == 7
    assert all(sorted(one) == sorted(cells) for one in orders)


def test_every_scenario_and_policy_passes_the_schema() -> None:
    """Their words compose, and shape the workers."""
    cells = [Cell(scenario, "exo_nodes-2") for scenario in SCENARIOS] + [Cell("equal", policy) for policy in POLICIES]
    made = [build(compose_plain(Plan(Path(), "paced", (), 1, 1).words(cell))) for cell in cells]

    assert {one.name for one in made} == {"gap"}
    assert len({msgspec.json.encode(one) for one in made}) == len(set(cells))


def test_the_command_shows_verdicts_and_writes_the_page(
    cluster: _Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with the folder, and the page has its figure beside it; wrong words are one line."""
    words = ["gap", *SHORT, "--rounds", "2", "--policies", "latency_dp-4,latency_dp-2", "-q"]
    assert cli.main([*words, "--page", str(tmp_path / "gap.md"), "--out", str(tmp_path / "study")]) == cli.OK
    out = capsys.readouterr().out
    assert "2 rounds count, 0 void" in out
    assert "too little data" in out
    assert (tmp_path / "gap.png").stat().st_size > 10_000

    cluster.foreign = dict.fromkeys(range(100), 0.3)
    assert cli.main(["gap", *SHORT, "--rounds", "1", "-q", "--out", str(tmp_path / "loud")]) == cli.FAILED_POINTS
    assert "no round counts (foreign CPU 30.0%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--scenarios", "x"], "--scenarios x: allowed: equal, slow"),
        (["--policies", ","], "--policies ,: allowed: latency_dp-2"),
        (["--rounds", "0"], "--rounds 0: allowed: from 1"),
        (["nonsense"], "'nonsense': expected key=value"),
        (["workload.requests=-1"], "workload.requests=-1"),
        (["--show"], "--show: study holds no study"),
        (["--page", "nowhere/gap.md"], "--page nowhere/gap.md: allowed: a file .md in a folder that exists"),
        (["--out", "pyproject.toml"], "out=pyproject.toml: cannot be written"),
    ],
)
def test_wrong_words_are_one_line_and_begin_no_study(
    cluster: _Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    """A folder that was begun in vain would refuse the right words afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert cli.main(["gap", "-q", "--out", "study", *words]) == cli.USER_INPUT
    assert says in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
    assert cluster.calibrations == 0
