"""The long suites run in parts, and the file that remembers them claims no more than what was run with this code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments import nightly, nightly_results
from experiments.rests_on import Sources

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

    def __init__(self, root: Path) -> None:
        self._root = root
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
        now = Sources(self._root)
        return {
            name: {"status": outcome[name], "wall_s": 2.0, "seeds": None, "figures": {}}
            | nightly_results.what_it_rests_on(name, [], now, now)
            for name in told
        }

    def edit(self, file: str, content: str) -> None:
        """Write a file of the checkout."""
        (self._root / file).parent.mkdir(parents=True, exist_ok=True)
        (self._root / file).write_text(content)

    def git(self, *words: str) -> str:
        """Answer as git does."""
        return self.commit if words[0] == "rev-parse" else self.changes


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    """A night with nothing on file."""
    night = Night(tmp_path)
    night.edit("tests/a/test_kill.py", "import models.one\n")
    night.edit("tests/b/test_hunts.py", "import models.two\n")
    night.edit("models/one.py", "")
    night.edit("models/two.py", "")
    for module in (nightly, nightly_results):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    monkeypatch.setattr(nightly_results, "NIGHTLY", tmp_path / "tests" / "nightly.json")
    monkeypatch.setattr(nightly, "_collected", lambda: night.names)
    monkeypatch.setattr(nightly, "_run", night.run)
    monkeypatch.setattr(nightly, "_git", night.git)
    return night


def parts() -> dict[str, Any]:
    """What the file says of the parts."""
    found: dict[str, Any] = json.loads(nightly_results.NIGHTLY.read_text())["parts"]
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


def test_what_passed_with_this_code_is_not_repeated(night: Night) -> None:
    """An interrupted night goes on where it was, whatever else was committed; what rests on a change runs again."""
    night.fails = {HUNT}
    nightly.nightly([])
    nightly.nightly([])
    assert night.ran == [*NAMES, HUNT]
    night.commit, night.changes = "two", " M models/one.py"
    night.edit("models/one.py", "changed = 1\n")
    nightly.nightly([])
    assert night.ran[4:] == [KILL, HUNT]
    assert parts()["kill"]["commit"] == "two+changes"


def test_tests_whose_children_tell_rest_on_what_was_told_alone(night: Night) -> None:
    """Of all that their sources name only what a process opened outdates them; one that told nothing proves nothing."""
    campaign, told = "tests/c/test_long_hunts.py::test_x[raft]", "policies/raft.py"
    for name in ("models/named.py", told, "requirements.lock", "conf/config.yaml"):
        night.edit(name, "")
    night.edit("tests/c/test_long_hunts.py", "import models.named\n")
    before = Sources(nightly.CHECKOUT)
    assert nightly_results.what_it_rests_on(campaign, [], before, before) == {}
    result = nightly_results.what_it_rests_on(campaign, [told], before, before)
    assert result["opened"] == [told]
    for name, counts in (("models/named.py", True), ("conf/config.yaml", True), (told, False)):
        night.edit(name, "1")
        assert nightly_results.counts(campaign, result, Sources(nightly.CHECKOUT)) == counts


def test_an_unknown_part_runs_nothing(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the word and the parts there are."""
    assert nightly.nightly(["kill", "huntz"]) == 2
    assert night.ran == []
    assert "'huntz' is no part; allowed: hunts, kill" in capsys.readouterr().err


def test_only_runs_with_the_present_code_count(night: Night) -> None:
    """A result is none, passed or failed, once what its test rests on has changed; another commit alone is none."""
    assert "never run" in nightly_results.status()
    night.fails = {HUNT}
    nightly.nightly(["kill", "[raft]"])
    assert nightly_results.status() == f"failed: {HUNT}"
    night.commit = "two"
    assert nightly_results.status() == f"failed: {HUNT}"
    night.edit("models/two.py", "changed = 1\n")
    assert nightly_results.status().startswith("1 of 3 passed")
    night.edit("conf/config.yaml", "seed: 1\n")
    assert nightly_results.status().startswith("0 of 3 passed")


def test_results_without_a_digest_count_for_nothing(night: Night) -> None:
    """Whoever ran a test before digests were kept, at whatever commit, runs it again."""
    old = {"commit": "one", "status": "passed", "wall_s": 1.0, "seeds": None, "figures": {}}
    nightly_results.write({KILL: old})
    assert nightly_results.status().startswith("0 of 1 passed")
    nightly.nightly(["kill"])
    assert night.ran == [KILL]


def test_an_interrupted_test_says_nothing_and_is_due_again(night: Night) -> None:
    """What did not end is neither passed nor failed, and the command says so by its exit code."""
    night.stopped = {OTHER}
    assert nightly.nightly([]) == 1
    assert (parts()["hunts"]["outcome"], parts()["hunts"]["not_run"]) == ("incomplete", 1)
    night.stopped = set()
    assert nightly.nightly([]) == 0
    assert night.ran == [*NAMES, OTHER]


def test_tests_of_one_function_share_processes_a_few_at_a_time() -> None:
    """Order stays, other functions begin another process, none holds more than it may, and long ones have their own."""
    many = [f"tests/b/test_hunts.py::test_x[{k}]" for k in range(nightly.BATCH + 2)]
    assert nightly.batches([KILL, *many, OTHER]) == [[KILL], many[: nightly.BATCH], many[nightly.BATCH :], [OTHER]]
    long = [f"tests/c/test_long_hunts.py::test_x[{k}]" for k in range(2)]
    assert nightly.batches([KILL, *long]) == [[KILL], *([one] for one in long)]
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
    """Each test of a process has its own outcome and figures; where it dies they have failed, or do not count."""
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
    assert "rests_on" not in found["test_some.py::test_one[1]"]  # nobody told what was opened
    (tmp_path / "conftest.py").write_text("from experiments.opened import tell_at_exit\ntell_at_exit(sources=True)\n")
    assert "rests_on" in nightly._run(["test_some.py::test_one[1]"])["test_some.py::test_one[1]"]
    (tmp_path / "test_dies.py").write_text("import os\ndef test_it():\n    os._exit(1)\n")
    assert nightly._run(["test_dies.py::test_it"])["test_dies.py::test_it"]["status"] == "failed"


OPENS = """
import pathlib
def test_it():
    root = pathlib.Path(__file__).parent.parent.parent
    __import__("mod" + "els.hidden")
    assert (root / "tests" / "data" / "rows.csv").read_text()
def test_meanwhile():
    (pathlib.Path(__file__).parent / "test_some.py").write_text("")
"""


def test_what_a_process_opens_or_imports_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module whose name no source says and a file in another folder count; what changes meanwhile proves nothing."""
    kept = ("tests/conftest.py", "experiments/__init__.py", "experiments/opened.py")
    files = {"tests/a/test_some.py": OPENS, "tests/data/rows.csv": "1"}
    files |= dict.fromkeys(("models/__init__.py", "models/hidden.py", "models/other.py"), "")
    files |= {name: (nightly.CHECKOUT / name).read_text() for name in kept}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(nightly, "CHECKOUT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    one, two = (f"tests/a/test_some.py::{name}" for name in ("test_it", "test_meanwhile"))

    result = nightly._run([one])[one]
    seen = ["models/__init__.py", "models/hidden.py", "tests/data/rows.csv"]
    assert (result["status"], result["opened"]) == ("passed", seen)
    for name in ("models/other.py", *seen):
        (tmp_path / name).write_text("2")
        assert nightly_results.counts(one, result, Sources(tmp_path)) == (name not in seen)
        (tmp_path / name).write_text(files[name])
    result = nightly._run([two])[two]
    assert result["status"] == "passed"
    assert not nightly_results.counts(two, result, Sources(tmp_path))
