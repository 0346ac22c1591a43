"""A Run is the same from memory and from its folder, and the report needs nothing but itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from experiments.compose import UsageError
from experiments.plots import fault_spans, leader_spans, ledger_of
from experiments.report import REPORT_BYTES_MAX, render, write_report
from experiments.results import Run, load, number, open_run
from scenarios.fleet import FleetRecord
from scenarios.record import TABLES, Record, write
from sim.fleet.record import simulate_fleet
from tests.sim.fleet.fleets import small


def test_a_record_survives_its_folder(synthetic_record: Callable[..., Record], tmp_path: Path) -> None:
    """What is read from a folder is what was written: numbers, manifest, tables and journals."""
    record = synthetic_record(3)
    record.journals["desk-0"] = b"journal"
    memory, disk = Run(record), Run(folder=write(record, tmp_path / "run"))

    assert disk.summary == memory.summary
    assert disk.manifest == json.loads(json.dumps(memory.manifest))
    assert disk.journals == {"desk-0": b"journal"}
    for name, columns in TABLES.items():
        table = getattr(disk, name)
        assert tuple(table.columns) == columns
        pd.testing.assert_frame_equal(table, getattr(memory, name), check_dtype=False)


def test_a_failed_write_leaves_nothing(
    synthetic_record: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Run that cannot be written whole is not there at all."""
    record = synthetic_record()
    record.tables["faults"] = [("too", "few")]

    with pytest.raises(ValueError):
        write(record, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("manifest.json", '{"config": 3}'),
        ("manifest.json", '{"checks": [1]}'),
        ("manifest.json", '{"seed": "x"}'),
        ("requests.parquet", "faults.parquet"),
        ("requests.parquet", None),
        ("journals/desk-0.journal", None),
    ],
)
def test_a_file_that_is_another_is_named(
    name: str, wrong: str | None, synthetic_record: Callable[..., Record], tmp_path: Path
) -> None:
    """Fields of another type, another table's columns, and folders where files belong are one line with the file."""
    record = synthetic_record(3)
    record.journals["desk-0"] = b"journal"
    folder = write(record, tmp_path / "run")
    if wrong is None:
        (folder / name).unlink()
        (folder / name).mkdir()
    elif name.endswith(".parquet"):
        shutil.copy(folder / wrong, folder / name)
    else:
        (folder / name).write_text(wrong)

    used = "journals" if "journal" in name else "checks"
    with pytest.raises(UsageError, match=rf"{name.partition('/')[0]}: this Run is damaged, run it again: ."):
        getattr(Run(folder=folder), used)


def test_a_run_from_before_a_column_is_read(synthetic_record: Callable[..., Record], tmp_path: Path) -> None:
    """Requests that do not say which model answered are of a Run that was kept before there were several."""
    folder = write(synthetic_record(3), tmp_path / "run")
    requests = pd.read_parquet(folder / "requests.parquet")
    requests.drop(columns="model").to_parquet(folder / "requests.parquet")

    assert len(Run(folder=folder).requests) == len(requests)


@pytest.mark.parametrize(
    "plot", ["timeline", "latency", "fleet", "battery", "temperature", "contributors", "events", "agreement"]
)
def test_every_plot_draws_on_its_own_or_given_axes(plot: str, synthetic_record: Callable[..., Record]) -> None:
    """A plot returns the Axes it drew on, and copes with a run in which nothing happened."""
    from experiments.plots import new_axes

    run, nothing = Run(synthetic_record()), synthetic_record()
    nothing.tables = {}
    ax = new_axes()

    assert getattr(run.plot, plot)(ax) is ax
    assert ax.has_data()
    getattr(Run(nothing).plot, plot)()


def test_the_report_is_one_small_file_without_network(synthetic_record: Callable[..., Record], tmp_path: Path) -> None:
    """No address of another machine, no file beside it, below three megabytes, the verdict before the numbers."""
    path = write_report(Run(synthetic_record(requests=5000, devices=100)), tmp_path / "report.html")
    text = path.read_text()

    assert path.stat().st_size < REPORT_BYTES_MAX
    assert not re.search(r"https?:|//[a-z0-9.-]+\.[a-z]{2,}/|<script|<link|<img|@import|url\((?!#)", text)
    assert text.index("checks passed") < text.index("<h2>Numbers") < text.index("<h2>How to reproduce")
    assert len(re.findall(r"<svg", text)) == 8
    assert len(set(re.findall(r'\bid="([^"]+)"', text))) == len(re.findall(r'\bid="([^"]+)"', text))


def test_the_report_escapes_what_it_shows(synthetic_record: Callable[..., Record]) -> None:
    """A name or reason from outside cannot become markup."""
    record = synthetic_record()
    record.manifest["config"]["name"] = "<script>alert(1)</script>"
    rows = [list(row) for row in record.tables["requests"]]
    for row in rows:
        row[7], row[8] = "refused", "<b>full</b>"
    record.tables["requests"] = [tuple(row) for row in rows]

    text = render(Run(record))

    assert "<script" not in text
    assert "<b>full" not in text


def test_broken_books_fail_the_verdict(synthetic_record: Callable[..., Record]) -> None:
    """A request with two outcomes, a wrong count, a late answer called answered, or a broken check is a failure."""
    good = synthetic_record()
    twice, miscounted, slow, broken, nameless = (synthetic_record() for _ in range(5))
    twice.tables["requests"] = [*twice.tables["requests"], twice.tables["requests"][0]]
    miscounted.summary["requests_answered"] += 1
    rows = slow.tables["requests"]
    done = next(i for i, row in enumerate(rows) if row[7] == "answered")
    slow.tables["requests"] = [*rows[:done], (*rows[done][:10], 301.0, *rows[done][11:]), *rows[done + 1 :]]
    broken.manifest["checks"]["ledger_conserved"] = "desk-0: the ledger sums to 3"
    nameless.manifest["digest"] = ""

    def failed(record: Record) -> list[str]:
        return [check.name for check in Run(record).checks if not check.passed]

    assert failed(good) == []
    assert "every request has one outcome" in failed(twice)
    assert failed(miscounted) == ["the summary counts what the tables hold"]
    assert failed(slow) == ["answered means in time"]
    assert failed(broken) == ["ledger conserved"]
    assert failed(nameless) == ["the run has a digest"]


def test_spans_and_ledger_read_the_tables(synthetic_record: Callable[..., Record]) -> None:
    """A leader reigns until the next one, a fault lasts to its end, and answered tokens are the nodes' earnings."""
    run = Run(synthetic_record(requests=50))
    day = run.config["duration_s"]
    answered = int((run.requests["status"] == "answered").sum())

    assert leader_spans(run) == [(1.0, day / 3, "desk-0"), (day / 3, day, "desk-1")]
    assert [(kind, end - start) for kind, start, end, _ in fault_spans(run)] == [("crash", 10.0), ("loss", 60.0)]
    assert sum(ledger_of(run).values()) == 2 * 50 * answered


def test_load_is_the_command_lines_composition() -> None:
    """A notebook names groups and fields with double underscores and gets the same scenario."""
    scenario = load("four_desks", seed=7, policy__harvest="strict", fleet__desktops=5, duration_s=9.0)

    assert (scenario.seed, scenario.fleet.desktops, scenario.duration_s) == (7, 5, 9.0)
    assert scenario.policy.harvest.idle_min == 30.0
    with pytest.raises(ValueError, match="did you mean 'desktops'"):
        load("four_desks", fleet__desktop=5)


def test_a_run_shows_itself_in_a_notebook(synthetic_record: Callable[..., Record], home: Path) -> None:
    """The rich representation names the run and its verdict; open_run finds it by the start of its name."""
    folder = write(synthetic_record(), home / "runs" / "first_village" / "abcdef-1")

    assert "all 6 checks passed" in open_run("abc")._repr_html_()
    assert open_run(folder).folder == folder


def test_numbers_read_well() -> None:
    """Four significant digits, thousands apart, and a dash for what was not measured."""
    assert [number(v) for v in (5, 1234.0, 0.012345, 12345.6, float("nan"))] == ["5", "1,234", "0.01235", "12,346", "–"]


def test_writing_twice_replaces_the_run(synthetic_record: Callable[..., Record], tmp_path: Path) -> None:
    """The second Run in a folder is there whole, and no part of the first."""
    first = synthetic_record(1)
    first.journals["ghost"] = b"x"
    folder = write(first, tmp_path / "run")
    write(synthetic_record(2), folder)

    assert Run(folder=folder).seed == 2
    assert Run(folder=folder).journals == {}
    shutil.rmtree(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("kept", [0, 3])
def test_a_fleets_histories_outlive_the_folder_they_grew_in(kept: int, tmp_path: Path) -> None:
    """A finished Run shows the same histories, all and of one device, from memory, from its folder, and after both."""
    scenario = small(devices=50, duration_s=3600.0, record=FleetRecord(histories=kept))
    record = simulate_fleet(scenario, tmp_path / "state")
    memory, disk = Run(simulate_fleet(scenario)), Run(record, write(record, tmp_path / "run"))
    shutil.rmtree(tmp_path / "state")

    assert len(memory.histories) == kept * 60
    for run in (disk, Run(folder=tmp_path / "run")):
        pd.testing.assert_frame_equal(run.histories, memory.histories, check_dtype=kept > 0)
        for device in (None, *memory.histories["device"].unique().tolist()):
            one = memory.history(device)
            assert len(one) == 60 * bool(kept)
            pd.testing.assert_frame_equal(run.history(device), one.reset_index(drop=True), check_dtype=kept > 0)
