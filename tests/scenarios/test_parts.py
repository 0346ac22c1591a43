"""A table in parts: the same file however it was cut, and nothing torn in it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from scenarios import parts
from scenarios.parts import Parts


def some(step: int) -> pd.DataFrame:
    """Return the rows of a step: as many as its number, and one."""
    rows = range(step + 1)
    return pd.DataFrame({"step": [step] * len(rows), "share": [i / 7 for i in rows], "name": [f"r{i}" for i in rows]})


def filled(folder: Path, steps: range, flushed: int) -> Parts:
    """Return parts with these steps in them, a part every ``flushed`` steps."""
    table = Parts(folder)
    table.go_on(steps.start)
    for step in steps:
        table.add(some(step))
        if step % flushed == flushed - 1:
            table.flush()
    return table


@pytest.mark.parametrize("flushed", [1, 3, 4, 100])
def test_the_file_is_the_same_however_its_rows_came(
    flushed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte the file that pandas writes of the whole table, for all cuts into parts."""
    monkeypatch.setattr(parts, "GROUP_ROWS", 11)
    whole = pd.concat([some(step) for step in range(10)])
    whole.to_parquet(tmp_path / "whole.parquet", index=False, row_group_size=11)
    table = filled(tmp_path / "parts", range(10), flushed)
    table.save(tmp_path / "joined.parquet")

    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    pd.testing.assert_frame_equal(table.frame(), whole.reset_index(drop=True))


def test_one_group_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joining yields groups of the same size from parts that are smaller and larger than they are."""
    monkeypatch.setattr(parts, "GROUP_ROWS", 11)

    assert [group.num_rows for group in filled(tmp_path, range(10), 4)._groups()] == [11, 11, 11, 3]


def test_rows_are_held_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without anybody asking for it, rows go to disk once they are as many as may be held."""
    monkeypatch.setattr(parts, "HELD_ROWS", 12)
    table = Parts(tmp_path)
    table.go_on(0)
    held = []
    for step in range(20):
        table.add(some(step))
        held.append(table.held)

    assert max(held) < 12
    assert all(after == before + step + 1 or not after for step, (before, after) in enumerate(pairwise([0, *held])))
    assert len(table.frame()) == sum(range(21))


def test_what_came_after_or_is_torn_is_gone(tmp_path: Path) -> None:
    """Going on after four steps removes half a part and the parts of later steps, and the same rows follow."""
    filled(tmp_path / "parts", range(8), 2)
    (tmp_path / "parts" / "000000008-000000010.1.half").write_bytes(b"PAR1")
    table = Parts(tmp_path / "parts")

    assert table.go_on(4)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "000000000-000000002.parquet", "000000002-000000004.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize("lost", ["cut", "absent"])
def test_a_lost_part_is_told(lost: str, tmp_path: Path) -> None:
    """If an earlier part is not whole, nothing is gone on from."""
    filled(tmp_path, range(6), 2)
    part = tmp_path / "000000002-000000004.parquet"
    content = part.read_bytes()
    part.unlink()
    if lost == "cut":
        part.write_bytes(content[: len(content) // 2])

    assert not Parts(tmp_path).go_on(6)


def test_parts_without_a_folder_go_with_their_object() -> None:
    """Parts that nobody placed leave nothing on the disk."""
    table = Parts()
    table.go_on(0)
    folder = table._folder
    assert folder.exists()
    del table

    assert not folder.exists()
