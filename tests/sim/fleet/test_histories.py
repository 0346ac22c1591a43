"""Sampled histories go to disk as the run goes: nothing of them adds up in memory or in checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from policies.readings import HARVEST_STATES
from scenarios import parts
from scenarios.fleet import FleetRecord, FleetScenario
from scenarios.parts import Parts
from scenarios.record import FLEET_TABLES
from sim.fleet.checkpoint import STATE
from sim.fleet.run import run_fleet
from tests.sim.fleet.fleets import HOUR_S, lived, small, table_bytes

WINDOW_ROWS = 8 * 15  # devices and readings


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how many rows were held after each window."""
    seen: list[int] = []
    add = Parts.add

    def noted(self: Parts, rows: object) -> None:
        add(self, rows)
        seen.append(self.held)

    monkeypatch.setattr(Parts, "add", noted)
    return seen


@pytest.mark.parametrize("hours", [2, 5])
def test_rows_in_memory_do_not_grow_with_the_run(hours: int, held: list[int], tmp_path: Path) -> None:
    """However long a run is, no more rows are held than of the windows since its last checkpoint."""
    run_fleet(small(duration_s=hours * HOUR_S, record=FleetRecord(histories=8, checkpoint_h=0.5)), tmp_path)

    assert len(held) == 4 * hours
    assert max(held) == 2 * WINDOW_ROWS


@pytest.mark.parametrize("hours", [2, 5])
def test_rows_are_bounded_without_checkpoints(hours: int, held: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that keeps no checkpoints holds no more rows than the bound either, and loses none."""
    monkeypatch.setattr(parts, "HELD_ROWS", 3 * WINDOW_ROWS)
    result = lived(duration_s=hours * HOUR_S)

    assert max(held) < 3 * WINDOW_ROWS
    assert len(result.histories.frame()) == 4 * hours * WINDOW_ROWS


def stopped(scenario: FleetScenario, folder: Path, share: float) -> None:
    """Run until this share is done, and fail."""

    class Stop(Exception):
        pass

    def stop(done: float, text: str) -> None:
        if done > share:
            raise Stop

    with pytest.raises(Stop):
        run_fleet(scenario, folder, stop)


def test_checkpoints_hold_no_histories(tmp_path: Path) -> None:
    """A checkpoint late in a run has the same files and arrays as one early in it."""
    scenario = small(record=FleetRecord(histories=8, checkpoint_h=1.0))
    sizes = []
    for share in (0.4, 0.7):
        stopped(scenario, tmp_path / str(share), share)
        files = sorted((tmp_path / str(share) / STATE).glob("*.npz"))
        sizes.append({path.name: {name: array.nbytes for name, array in np.load(path).items()} for path in files})

    assert sizes[0] == sizes[1]


def test_a_crash_leaves_no_trace_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written after the checkpoint, whole or half, is written again: the file equals that of a whole run."""
    monkeypatch.setattr(parts, "HELD_ROWS", WINDOW_ROWS)
    scenario = small(record=FleetRecord(histories=8, checkpoint_h=1.0))
    stopped(scenario, tmp_path, 0.6)
    (place,) = tmp_path.glob("histories-*")
    assert len(list(place.iterdir())) == 8
    (place / "000000008-000000009.77.half").write_bytes(b"PAR1")
    resumed = run_fleet(scenario, tmp_path)

    assert resumed.resumed_at_s == HOUR_S
    assert table_bytes(resumed, tmp_path) == table_bytes(run_fleet(scenario), tmp_path)


def test_a_run_whose_part_is_lost_starts_again(tmp_path: Path) -> None:
    """A checkpoint whose histories are not whole is not gone on from, and the table is that of a whole run."""
    scenario = small(record=FleetRecord(histories=8, checkpoint_h=0.5))
    stopped(scenario, tmp_path, 0.6)
    (place,) = tmp_path.glob("histories-*")
    (place / "000000000-000000002.parquet").unlink()
    again = run_fleet(scenario, tmp_path)

    assert again.resumed_at_s == 0.0
    assert table_bytes(again, tmp_path) == table_bytes(run_fleet(scenario), tmp_path)


def test_without_histories_a_run_goes_on_as_well(tmp_path: Path) -> None:
    """No part is missed where none was to be kept."""
    scenario = small(record=FleetRecord(histories=0, checkpoint_h=1.0))
    stopped(scenario, tmp_path, 0.6)

    assert run_fleet(scenario, tmp_path).resumed_at_s == HOUR_S


def test_another_scenario_leaves_the_parts_alone(tmp_path: Path) -> None:
    """A run of another seed in the same folder neither takes nor removes the parts of the one before."""
    scenario = small(record=FleetRecord(histories=8, checkpoint_h=1.0))
    stopped(scenario, tmp_path, 0.6)
    shutil.copytree(tmp_path / STATE, tmp_path / "kept")
    run_fleet(small(seed=2, record=scenario.record), tmp_path)
    (tmp_path / "kept").rename(tmp_path / STATE)
    resumed = run_fleet(scenario, tmp_path)

    assert resumed.resumed_at_s == HOUR_S
    assert table_bytes(resumed, tmp_path) == table_bytes(run_fleet(scenario), tmp_path)


def test_rows_say_when_and_who() -> None:
    """The table has a row a reading and sampled device, readings first, and ends as the devices' totals do."""
    result = lived(duration_s=HOUR_S)
    rows = result.histories.frame()
    who = result.devices["device"][result.sampled]

    assert tuple(rows.columns) == FLEET_TABLES["histories"]
    assert rows["time_s"].tolist() == np.repeat(np.arange(60) * 60.0, 8).tolist()
    assert rows["device"].tolist() == np.tile(who, 60).tolist()
    assert rows["soc"].tolist()[-8:] == result.devices["soc"][result.sampled].tolist()
    assert set(rows["state"]) <= set(HARVEST_STATES)
