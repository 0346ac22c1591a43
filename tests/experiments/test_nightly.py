"""The long suites run in parts, and the file that remembers them claims no more than what was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import nightly

KILL, HUNT, OTHER = (
    "tests/a/test_kill.py::test_one",
    "tests/b/test_hunts.py::test_x[raft]",
    "tests/b/test_hunts.py::test_y",
)
NAMES = [KILL, HUNT, OTHER]


class Night:
    """A checkout in which tests run in no time.

    Attributes:
        ran: tests that were run, in order.
        fails: tests that fail.
        commit: the present one.
        changes: what `git status` says.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails: set[str] = set()
        self.commit, self.changes = "one", ""

    def run(self, name: str) -> dict[str, Any]:
        """Run a test."""
        self.ran.append(name)
        outcome = "failed" if name in self.fails else "passed"
        return {"status": outcome, "wall_s": 2.0, "seeds": None, "figures": {}}

    def git(self, *words: str) -> str:
        """Answer as git does."""
        return self.commit if words[0] == "rev-parse" else self.changes


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    """A night with nothing on file."""
    night = Night()
    monkeypatch.setattr(nightly, "NIGHTLY", tmp_path / "nightly.json")
    monkeypatch.setattr(nightly, "_collected", lambda: NAMES)
    monkeypatch.setattr(nightly, "_run", night.run)
    monkeypatch.setattr(nightly, "_git", night.git)
    monkeypatch.setattr(nightly, "_same_code", lambda commit: commit == night.commit)
    return night


def parts() -> dict[str, Any]:
    """What the file says of the parts."""
    found: dict[str, Any] = json.loads(nightly.NIGHTLY.read_text())["parts"]
    return found


def test_a_part_runs_by_its_name_and_says_when_and_at_which_commit(night: Night) -> None:
    """Only its tests run; of the others the file says that they were not run."""
    assert nightly.nightly(["kill"]) == 0
    assert night.ran == [KILL]
    kill, hunts = parts()["kill"], parts()["hunts"]
    assert (kill["outcome"], kill["commit"], kill["wall_s"], kill["passed"]) == ("passed", "one", 2.0, 1)
    assert kill["date"].endswith("+00:00")
    assert (hunts["outcome"], hunts["commit"], hunts["date"], hunts["not_run"]) == ("incomplete", None, None, 2)


def test_a_part_is_no_better_than_its_worst_test_and_of_one_commit_only_if_all_are(night: Night) -> None:
    """A failure makes it failed, a test that was not run incomplete; runs at two commits are no run at one."""
    nightly.nightly(["[raft]"])
    assert parts()["hunts"]["outcome"] == "incomplete"
    night.commit, night.fails = "two", {OTHER}
    assert nightly.nightly(["::test_y"]) == 1
    assert (parts()["hunts"]["outcome"], parts()["hunts"]["commit"]) == ("failed", "several")


def test_what_passed_at_this_commit_is_not_repeated_but_all_is_with_changes(night: Night) -> None:
    """An interrupted night goes on where it was; code that is not committed proves nothing for later."""
    night.fails = {HUNT}
    nightly.nightly([])
    nightly.nightly([])
    assert night.ran == [*NAMES, HUNT]
    night.changes = " M policies/cell.py"
    nightly.nightly(["kill"])
    assert night.ran[-1] == KILL
    assert parts()["kill"]["commit"] == "one+changes"


def test_an_unknown_part_runs_nothing(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the word and the parts there are."""
    assert nightly.nightly(["kill", "huntz"]) == 2
    assert night.ran == []
    assert "'huntz' is no part; allowed: hunts, kill" in capsys.readouterr().err


def test_only_runs_with_the_present_code_count(night: Night) -> None:
    """A result of another commit is no result, passed or failed."""
    assert "never run" in nightly.status()
    night.fails = {HUNT}
    nightly.nightly(["[raft]"])
    assert nightly.status() == f"failed: {HUNT}"
    night.commit = "two"
    assert nightly.status().startswith("0 of 3 passed")
    nightly.nightly(["kill"])
    assert nightly.status().startswith("1 of 3 passed")
