"""Files that users name: whole, or as they were."""

from __future__ import annotations

import errno
import json
import os
import shlex
from pathlib import Path
from typing import Any, cast

import pytest

from experiments.cli import main
from experiments.compose import UsageError
from experiments.nightly_results import write
from experiments.report import write_report
from experiments.results import Run
from experiments.whole import check_file, whole, write_whole

ROWS = "system,model,quant,devices,n_devices,metric,value,unit\n"
ROWS += "llama.cpp,Llama 2 7B,Q4_0,RTX 4090 24GB,1,tg128,150,tok/s\n"
REQUESTS = "input_toks,output_toks,arrival_s\n4,4,0\n"


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each text be cut off in its middle, as on a disk that is full."""
    write = Path.write_text

    def half(path: Path, text: str, *given: Any, **named: Any) -> int:
        write(path, text[: len(text) // 2], *given, **named)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", half)


@pytest.mark.parametrize(
    "words",
    [
        "predict rows.csv --out kept.txt",
        "requests requests.csv --device 'RTX 4090' --model llama-3.1-8b --kv-tokens 2000 --out kept.txt",
        "shard edge.json --model 7b --planner memory_ring --out kept.txt",
    ],
)
def test_a_full_disk_takes_nothing_away(
    words: str, home: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the file; what stood there is whole, and nothing stands beside it."""
    (home / "rows.csv").write_text(ROWS)
    (home / "requests.csv").write_text(REQUESTS)
    (home / "edge.json").write_bytes((data_folder / "testbeds" / "edgeshard.json").read_bytes())
    (home / "kept.txt").write_text("by hand")
    there = sorted(home.iterdir())
    fill_the_disk(monkeypatch)

    assert main([*shlex.split(words), "-q"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "twin: kept.txt: cannot be written: No space left on device"
    assert (home / "kept.txt").read_text() == "by hand"
    assert sorted(home.iterdir()) == there


def test_a_page_that_is_no_text_is_refused_before_anything_is_planned(
    home: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`twin shard --out` keeps what was written by hand below its tables, so it must be able to read it."""
    (home / "page.md").write_bytes(b"\xff\xfe")
    monkeypatch.setattr("experiments.shard.verb.row", lambda *given: pytest.fail("something was planned"))
    testbed = data_folder / "testbeds" / "edgeshard.json"

    assert main(["shard", str(testbed), "--model", "7b", "--planner", "memory_ring", "--out", "page.md"]) == 2
    assert "--out page.md: not a page in UTF-8" in capsys.readouterr().err


def test_what_is_no_file_is_written_through(tmp_path: Path) -> None:
    """A pipe, like /dev/stdout, gets the text and stays what it is; a link goes on pointing where it did."""
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, "text")
    assert os.read(reader, 10) == b"text"
    assert pipe.is_fifo()
    os.close(reader)
    file.write_text("before")
    link.symlink_to(file)
    write_whole(link, json.dumps({}))
    assert (link.is_symlink(), file.read_text()) == (True, "{}")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    """A folder, a file's inside and a folder that takes nothing are named with the option; a device passes."""
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "a.json", tmp_path / "nowhere" / "a.json"):
        with pytest.raises(UsageError, match=f"--out {place}: must be a file in a folder that exists"):
            check_file("--out", place)
    with pytest.raises(UsageError, match=r"--out /proc/a\.json: cannot be written"):
        check_file("--out", Path("/proc/a.json"))
    for free in (None, tmp_path / "file", tmp_path / "new", Path(os.devnull)):
        check_file("--out", free)


def test_what_cannot_be_begun_is_one_line_too(tmp_path: Path) -> None:
    """Nothing can be removed below a file either, and the reason stays that it could not be written."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/a\.json: cannot be written: Not a directory"):
        write_whole(tmp_path / "file" / "a.json", "text")


@pytest.mark.parametrize("kept", ["report.html", "nightly.json"])
def test_a_full_disk_leaves_a_report_and_a_nights_results_as_they_were(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are whole or what they were, and nothing stands beside them."""
    place = tmp_path / kept
    place.write_text("before")
    monkeypatch.setattr("experiments.report.render", lambda run: "report")
    monkeypatch.setattr("experiments.nightly_results.NIGHTLY", place)
    fill_the_disk(monkeypatch)
    with pytest.raises(UsageError, match=f"{kept}: cannot be written: No space left on device"):
        write_report(cast(Run, None), place) if kept == "report.html" else write({})
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [kept]
    assert place.read_text() == "before"


def test_a_figure_keeps_its_ending(tmp_path: Path) -> None:
    """What draws chooses its format by the place's name; one that cannot be filled is not there."""
    with whole(tmp_path / "a.svg") as part:
        assert part.suffix == ".svg"
        part.write_text("drawn")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.svg"]
    with (
        pytest.raises(UsageError, match=r"nowhere/a\.svg: cannot be written: No such file"),
        whole(tmp_path / "nowhere" / "a.svg") as part,
    ):
        part.write_text("drawn")
