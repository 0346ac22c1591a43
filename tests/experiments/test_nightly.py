"""The long suites run in parts, and the file that remembers them claims no more than what was run."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
        stopped: tests that are interrupted.
        commit: the present one.
        changes: what `git status` says.
        names: the tests there are.
    """

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails: set[str] = set()
        self.stopped: set[str] = set()
        self.commit, self.changes = "one", ""
        self.names = NAMES

    def run(self, batch: Sequence[str]) -> nightly.Results:
        """Run tests; one that is stopped tells nothing."""
        self.ran.extend(batch)
        told = [name for name in batch if name not in self.stopped]
        outcome = {name: "failed" if name in self.fails else "passed" for name in told}
        return {name: {"status": outcome[name], "wall_s": 2.0, "seeds": None, "figures": {}} for name in told}

    def git(self, *words: str) -> str:
        """Answer as git does."""
        return self.commit if words[0] == "rev-parse" else self.changes


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    """A night with nothing on file."""
    night = Night()
    monkeypatch.setattr(nightly, "NIGHTLY", tmp_path / "nightly.json")
    monkeypatch.setattr(nightly, "_collected", lambda: night.names)
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


def test_an_interrupted_test_says_nothing_and_is_due_again(night: Night) -> None:
    """What did not end is neither passed nor failed, and the command says so by its exit code."""
    night.stopped = {OTHER}
    assert nightly.nightly([]) == 1
    assert (parts()["hunts"]["outcome"], parts()["hunts"]["not_run"]) == ("incomplete", 1)
    night.stopped = set()
    assert nightly.nightly([]) == 0
    assert night.ran == [*NAMES, OTHER]


def test_tests_of_one_function_share_processes_a_few_at_a_time() -> None:
    """Order stays, other functions begin another process, and none holds more than it may."""
    many = [f"tests/b/test_hunts.py::test_x[{k}]" for k in range(nightly.BATCH + 2)]
    assert nightly.batches([KILL, *many, OTHER]) == [[KILL], many[: nightly.BATCH], many[nightly.BATCH :], [OTHER]]
    assert nightly.batches([]) == []


@pytest.mark.parametrize("jobs", ["jobs=2", "jobs=3"])
def test_processes_run_side_by_side_and_some_alone_at_the_end(night: Night, jobs: str) -> None:
    """Whatever the number of jobs, all tests run once, and the file has them all."""
    night.names = ["tests/c/test_bench.py::test_figures", *NAMES]
    assert nightly.nightly([jobs]) == 0
    assert night.ran[-1] == "tests/c/test_bench.py::test_figures"
    assert sorted(night.ran) == sorted(night.names)
    assert {one["outcome"] for one in parts().values()} == {"passed"}


def test_jobs_are_a_whole_number(
    night: Night, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names what is allowed, before tests are collected, which takes half a minute."""
    monkeypatch.setattr(nightly, "_collected", lambda: pytest.fail("tests were collected"))
    assert nightly.nightly(["jobs=none"]) == 2
    assert "jobs=none: allowed are whole numbers above 0" in capsys.readouterr().err
    assert night.ran == []


def test_outcomes_and_figures_are_what_pytest_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test of a process has its own outcome and figures; where a process dies, its tests have failed."""
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('x', [1, 2])\n"
        "def test_one(x, record_property):\n    record_property('seeds', [x])\n    assert x == 1\n"
        "def test_two():\n    pytest.skip('not here')\n"
    )
    monkeypatch.setattr(nightly, "CHECKOUT", tmp_path)
    found = nightly._run([f"test_some.py::{name}" for name in ("test_one[1]", "test_one[2]", "test_two")])

    assert {name.partition("::")[2]: one["status"] for name, one in found.items()} == {
        "test_one[1]": "passed", "test_one[2]": "failed", "test_two": "skipped",
    }  # fmt: skip
    assert found["test_some.py::test_one[1]"]["seeds"] == [1]
    (tmp_path / "test_dies.py").write_text("import os\ndef test_it():\n    os._exit(1)\n")
    assert nightly._run(["test_dies.py::test_it"])["test_dies.py::test_it"]["status"] == "failed"
