"""Records: what is written is what is read, and half a record is never seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scenarios.record import TABLES, Record, frame, write

REQUEST = ("r0", "c0", "high", 0.5, 60.0, 10, 5, "answered", "", 0.1, 1.5, 1, 5, "d", True, "a,b", "m")
LOST = ("r1", "c0", "low", 1.5, 60.0, 10, 5, "lost", "", None, 120.0, 3, 0, "", None, "", "")
DEVICE = (0.0, "phone-0", "phone", 0.5, True, False, 22.0, 22.0, 1.0, False, "idle")


def a_record(seed: int = 1) -> Record:
    """Return a small record."""
    tables = {"requests": [REQUEST, LOST], "devices": [DEVICE], "decisions": [(0.1, "a", "consensus", "leader", "{}")]}
    return Record({"latency_p50_s": float("nan"), "seed": float(seed)}, {"digest": "d" * 40}, tables, {"a": b"\x00j"})


def test_a_record_comes_back_from_its_folder(tmp_path: Path) -> None:
    """Summary, manifest, tables with their columns, and journals are read back; absent tables are empty."""
    folder = write(a_record(), tmp_path / "runs" / "t" / "1")

    assert json.loads((folder / "manifest.json").read_text()) == {"digest": "d" * 40}
    assert json.loads((folder / "summary.json").read_text())["seed"] == 1.0
    assert (folder / "journals" / "a.journal").read_bytes() == b"\x00j"
    for name, columns in TABLES.items():
        table = pd.read_parquet(folder / f"{name}.parquet")
        assert tuple(table.columns) == columns
        pd.testing.assert_frame_equal(table, frame(name, a_record().tables.get(name, ())), check_dtype=len(table) > 0)
    assert a_record().digest == "d" * 40


def test_writing_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    """Nothing of the older record remains, and nothing lies beside the new one."""
    folder = write(a_record(), tmp_path / "run")
    (folder / "note.txt").write_text("old")
    write(a_record(2), folder)

    assert not (folder / "note.txt").exists()
    assert json.loads((folder / "summary.json").read_text())["seed"] == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_failure_leaves_the_old_record_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a table cannot be written, the folder is as it was before."""
    folder = write(a_record(), tmp_path / "run")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="no space"):
        write(a_record(2), folder)

    assert json.loads((folder / "summary.json").read_text())["seed"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_row_of_the_wrong_width_is_not_written() -> None:
    """Rows must have the table's columns."""
    with pytest.raises(ValueError, match="columns"):
        frame("faults", [(0.0, "crash")])
