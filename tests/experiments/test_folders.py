"""The key of a Run: everything that decides a result changes it, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import folders
from experiments.results import load
from scenarios.schema import Scenario


@pytest.fixture(name="code")
def _code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of sources in the project's place."""
    for name in ("models", "policies", "scenarios", "sim", "real_backends", "experiments"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "code.py").write_text("x = 1\n")
    (tmp_path / "requirements.lock").write_text("numpy==2\n")
    monkeypatch.setattr(folders, "CODE", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("models/code.py", True),
        ("policies/code.py", True),
        ("scenarios/code.py", True),
        ("sim/code.py", True),
        ("requirements.lock", True),
        ("real_backends/code.py", False),
        ("experiments/code.py", False),
    ],
)
def test_the_key_follows_the_sources_of_its_world(file: str, changes: bool, code: Path) -> None:
    """An edited policy, model or simulator never finds yesterday's result; the other world's code is no matter."""
    before = folders.run_key(Scenario(name="x"))
    (code / file).write_text("x = 2\n")

    assert (folders.run_key(Scenario(name="x")) != before) is changes


def test_the_key_follows_the_scenario_but_not_the_seed(code: Path) -> None:
    """Repeats share a key; another value has its own."""
    key = folders.run_key(load("four_desks", seed=1))

    assert folders.run_key(load("four_desks", seed=2)) == key
    assert folders.run_key(load("four_desks", duration_s=91.0)) != key


def test_the_key_follows_the_files_that_a_scenario_reads(code: Path, tmp_path: Path) -> None:
    """A new executor profile under the same name is a new key."""
    profile = tmp_path / "profile.json"
    profile.write_text("1")
    scenario = load("four_desks", profile=str(profile))
    before = folders.run_key(scenario)
    profile.write_text("2")

    assert folders.run_key(scenario) != before


def test_a_real_run_takes_a_new_number(home: Path) -> None:
    """The simulator's folder is its key and seed; each real run has a number beside."""
    real = load("four_desks", seed=3, world="local")

    assert folders.run_folder(load("four_desks", seed=3), "k").name == "k-3"
    assert folders.run_folder(real, "k").name == "k-3-1"
    (home / "runs" / "four_desks" / "k-3-1").mkdir(parents=True)
    assert folders.run_folder(real, "k").name == "k-3-2"
