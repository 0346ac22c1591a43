"""Recordings as sensors: units, what is empty, and one clear line for every malformed row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from policies.readings import Row
from real_backends.sensors import open_sensors
from real_backends.sensors.fields import SENSOR_OF
from real_backends.sensors.trace import MAINS_DESK, TraceSensors, open_trace, read_trace

HEADER = (
    "time_s,has_battery,soc,plugged,die_c,skin_c,battery_c,on_wifi,metered,bandwidth_bytes_per_s,screen_on,idle_s,"
    "local_minute,user_load,memory_free_bytes"
)
GOOD = "0,true,0.9,true,35,30,29.5,1,false,2500000,no,3600,60,0.25,8e9"
S = 1_000_000_000


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    """Write a CSV."""
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def changed(column: str, value: str, row: str = GOOD) -> str:
    """Return a row with one cell changed."""
    cells = row.split(",")
    cells[HEADER.split(",").index(column)] = value
    return ",".join(cells)


def test_a_recording_gives_its_rows(tmp_path: Path) -> None:
    """Field by field, at its times; the last row stays."""
    path = write(tmp_path / "day.csv", GOOD, changed("soc", "0.8", changed("time_s", "60")))
    ((first_s, first), (second_s, second)) = read_trace(path)

    assert (first_s, second_s, second.soc) == (0.0, 60.0, 0.8)
    assert first == Row(True, 0.9, True, 35.0, 30.0, 29.5, True, False, 2.5e6, False, 3600.0, 60.0, 0.25, 8e9)
    sensors = open_sensors(f"trace:{path}")
    assert [sensors.read(5 * S + at * S).soc for at in (0, 59, 60, 9999)] == [0.9, 0.9, 0.8, 0.8]
    assert (sensors.missing, dict(sensors.gone)) == ((), {})


def test_parquet_and_csv_are_the_same_recording(tmp_path: Path) -> None:
    """Written with real types, missing cells included, the rows are equal."""
    path = write(tmp_path / "day.csv", GOOD, changed("metered", "", changed("die_c", "", changed("time_s", "60"))))
    table = pd.DataFrame(
        {field: [getattr(row, field) for _, row in read_trace(path)] for field in SENSOR_OF} | {"time_s": [0.0, 60.0]}
    )
    table["metered"] = pd.array([False, None], dtype="boolean")
    table["die_c"] = [35.0, None]
    table.to_parquet(tmp_path / "day.parquet")

    assert repr(read_trace(tmp_path / "day.parquet")) == repr(read_trace(path))


def test_an_empty_cell_is_unknown_and_counted_as_gone(tmp_path: Path) -> None:
    """Numbers are NaN, answers the careful ones; a column that is always empty is a missing sensor."""
    gap = changed("time_s", "60")
    for column in ("soc", "die_c", "metered", "screen_on"):
        gap = changed(column, "", gap)
    rows = [changed("skin_c", "", row) for row in (GOOD, gap, changed("time_s", "120"))]
    sensors = open_trace(write(tmp_path / "day.csv", *rows))
    first, second, third = (sensors.read(at * S) for at in (0, 60, 120))

    assert math.isnan(second.soc)
    assert math.isnan(second.die_c)
    assert (second.metered, second.screen_on) == (True, True)
    assert (first.soc, third.soc, third.metered) == (0.9, 0.9, False)
    assert sensors.missing == ("skin_c",)
    assert sensors.gone == {"battery": 1, "die_c": 1, "metered": 1, "screen": 1}


def test_other_units_are_converted(tmp_path: Path) -> None:
    """Percent, Mbit/s and minutes, by the column's name."""
    header = HEADER.replace("soc", "soc_percent").replace("bandwidth_bytes_per_s", "bandwidth_mbps")
    header = header.replace("idle_s", "idle_min").replace("user_load", "user_load_percent")
    header = header.replace("memory_free_bytes", "memory_free_mb")
    row = "0,1,100,1,35,30,29.5,1,0,20,0,5,60,25,2048"
    ((_, found),) = read_trace(write(tmp_path / "day.csv", row, header=header))

    assert (found.soc, found.bandwidth_bytes_per_s, found.idle_s, found.user_load) == (1.0, 2.5e6, 300.0, 0.25)
    assert found.memory_free_bytes == 2.0**31


def test_a_column_may_be_assumed(tmp_path: Path) -> None:
    """In so many words, and it is said."""
    header = HEADER.replace(",skin_c", "").replace(",metered", "")
    row = "0,1,0.9,1,35,29.5,1,2500000,0,3600,60,0.25,8e9"
    path = write(tmp_path / "day.csv", row, header=header)
    sensors = open_trace(path, {"skin_c": 30.0, "metered": False})

    assert (sensors.read(0).skin_c, sensors.read(0).metered) == (30.0, False)
    assert (sensors.missing, sensors.assumed) == (("skin_c", "metered"), {"skin_c": 30.0, "metered": False})
    with pytest.raises(ValueError, match=r"day.csv: no column skin_c, metered; a column may be empty, or assumed"):
        open_trace(path)


def test_a_recording_need_not_have_free_memory(tmp_path: Path) -> None:
    """It is then a missing sensor and unknown, unless it is assumed."""
    path = write(tmp_path / "day.csv", GOOD.removesuffix(",8e9"), header=HEADER.removesuffix(",memory_free_bytes"))
    bare, assumed = open_trace(path), open_trace(path, {"memory_free_bytes": 4e9})

    assert math.isnan(bare.read(0).memory_free_bytes)
    assert (bare.missing, assumed.missing) == (("memory",), ("memory",))
    assert (assumed.read(0).memory_free_bytes, assumed.assumed) == (4e9, {"memory_free_bytes": 4e9})


MALFORMED = [
    (changed("memory_free_bytes", "-1"), "row 2: memory_free_bytes is -1; allowed: 0 to"),
    (changed("soc", "1.5"), "row 2: soc is 1.5; allowed: 0 to 1"),
    (changed("soc", "-0.01"), "row 2: soc is -0.01; allowed: 0 to 1"),
    (changed("soc", "inf"), "row 2: soc is inf; allowed: 0 to 1"),
    (changed("soc", "half"), "row 2: soc is 'half'; allowed: a number or empty"),
    (changed("die_c", "-300"), "row 2: die_c is -300; allowed: -40 to 150"),
    (changed("die_c", "308.15"), "row 2: die_c is 308.15; allowed: -40 to 150"),
    (changed("plugged", "maybe"), "row 2: plugged is maybe; allowed: true, false or empty"),
    (changed("local_minute", "1440"), "row 2: local_minute is 1440; allowed: from 0, below 1440"),
    (changed("time_s", "-1"), "row 2: time_s is -1; allowed: from 0"),
    (changed("time_s", ""), "row 2: time_s is nan; allowed: from 0"),
    (changed("time_s", "soon"), "row 2: time_s is 'soon'; allowed: a number or empty"),
    (changed("time_s", "inf"), "row 2: time_s is inf; allowed: from 0, finite"),
]


@pytest.mark.parametrize(("row", "message"), MALFORMED)
def test_a_malformed_row_is_one_line_with_row_and_column(tmp_path: Path, row: str, message: str) -> None:
    """File, row, column, value and what is allowed."""
    with pytest.raises(ValueError, match=message) as caught:
        read_trace(write(tmp_path / "day.csv", GOOD, row))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("day.csv: ")


def test_times_that_fall_are_refused(tmp_path: Path) -> None:
    """With the row where it happens."""
    rows = [changed("time_s", at) for at in ("0", "60", "59")]
    with pytest.raises(ValueError, match="row 3: time_s is 59; allowed: from 60"):
        read_trace(write(tmp_path / "day.csv", *rows))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("soc", "socc"), "unknown column 'socc'; did you mean 'soc'"),
        (HEADER.replace("die_c,", "soc_percent,"), "column 'soc_percent' gives soc a second time"),
        (HEADER.replace("time_s", "t"), "no column time_s; it has t, has_battery"),
        (HEADER.replace("user_load", "colour"), "unknown column 'colour'"),
    ],
)
def test_columns_are_the_policys(tmp_path: Path, header: str, message: str) -> None:
    """Unknown, doubled and missing columns are named."""
    with pytest.raises(ValueError, match=message):
        read_trace(write(tmp_path / "day.csv", GOOD, header=header))


@pytest.mark.parametrize(("name", "text", "message"), [
    ("day.csv", "", "day.csv: No columns"), ("day.csv", HEADER, "day.csv: no rows"), ("day.txt", "", "day.txt: .txt;"),
    ("day.parquet", "no parquet", "day.parquet: "), ("day.csv", HEADER + "\n" + GOOD + ",7,8", "day.csv: "),
])  # fmt: skip
def test_files_that_are_no_recordings_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    """One line each."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_trace(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    """Ours to pass on, not to hide."""
    with pytest.raises(FileNotFoundError):
        open_sensors(f"trace:{tmp_path / 'nowhere.csv'}")


def test_the_desk_of_repeatable_runs_is_as_before() -> None:
    """``trace`` without a file is the cool desk that nobody uses."""
    sensors: Any = open_sensors("trace")

    assert isinstance(sensors, TraceSensors)
    assert msgspec.structs.asdict(sensors.read(0)) == msgspec.structs.asdict(MAINS_DESK)
    assert (sensors.missing, sensors.gone) == ((), {})
