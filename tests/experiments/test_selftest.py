"""Tests run side by side as cores and memory allow, but those with real processes one at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from experiments import selftest
from experiments.selftest import WORKER_BYTES, side_by_side

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"


@pytest.mark.parametrize(
    ("cores", "gib", "workers"), [(2, 24, "2"), (1, 24, None), (16, 7, "2"), (2, 5, None), (8, 64, "8")]
)
def test_there_are_as_many_processes_as_cores_and_memory_allow(cores: int, gib: int, workers: str | None) -> None:
    """Each has a core and its share of memory; where one alone has room, pytest runs as without xdist."""
    words = side_by_side(cores, gib << 30)
    assert words[:2] == (["-n", workers] if workers else [])
    assert WORKER_BYTES > 2 << 30


@pytest.mark.parametrize("keeps_none", [True, False])
def test_tests_read_compiled_modules_also_where_python_keeps_none(
    keeps_none: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pytest's process, and so all that it starts, has a folder for them, unless Python keeps them by itself."""
    seen = []

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[bytes]:
        seen.append(how["env"])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(sys, "dont_write_bytecode", keeps_none)
    monkeypatch.setattr(subprocess, "run", run)
    assert selftest.test(["--version"]) == 0
    assert ["PYTHONPYCACHEPREFIX" in (environment or {}) for environment in seen] == [keeps_none]


def test_a_linter_s_complaint_is_shown_whole_and_fails_the_tests(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Linters run beside pytest, which speaks as it goes; what they say comes at their end, in one piece."""
    seen = {}

    def run(command: list[str], *, capture_output: bool, **_: Any) -> subprocess.CompletedProcess[str]:
        seen[command[2]] = capture_output
        wrong = "mypy" in command
        return subprocess.CompletedProcess(command, int(wrong), "one.py:1: error\ntwo.py:2: error" if wrong else "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert selftest.test([]) == 1
    said = capfd.readouterr().err
    assert "one.py:1: error\ntwo.py:2: error\ntest: mypy: exit code 1" in said.replace("twin: ", "")
    assert "failed: mypy" in said.splitlines()[-1]
    assert seen["pytest"] is False
    assert seen["mypy"] is seen["ruff"] is True


def test_who_interrupts_the_tests_waits_for_no_further_linter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends pytest and the linter that runs; those after it, which take minutes, are not begun."""
    begun, over, seen = threading.Event(), threading.Event(), []

    class Beside(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            over.set()
            super().shutdown()

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command[2])
        if command[2] == "pytest":
            assert begun.wait(60)
            raise KeyboardInterrupt
        begun.set()
        assert over.wait(60)
        return subprocess.CompletedProcess(command, 1, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(selftest, "ThreadPoolExecutor", Beside)
    with pytest.raises(KeyboardInterrupt):
        selftest.test([])
    assert sorted(seen) == ["pytest", "ruff"]


def test_real_processes_are_left_to_one_worker_and_every_file_is_whole(tmp_path: Path) -> None:
    """Two workers share eight files: the real ones all go to one of them, in order, and each other file to one."""
    pytest.importorskip("xdist")
    source = (
        "import os, pathlib, pytest\n"
        "@pytest.mark.parametrize('k', range(3))\n"
        "def test_it(k):\n"
        "    with (pathlib.Path(os.environ['TOLD']) / os.environ['PYTEST_XDIST_WORKER']).open('a') as told:\n"
        "        told.write(f'{pathlib.Path(__file__).parent.name} {pathlib.Path(__file__).stem} {k}\\n')\n"
    )
    for folder in ("conformance", "real_backends", "setup", "other"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        for name in ("one", "two"):
            (tmp_path / "tests" / folder / f"test_{folder}_{name}.py").write_text(source)
    (tmp_path / "tests" / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "told").mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *side_by_side(2, 8 << 30), "tests"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "VILLAGETWIN_"))}
    subprocess.run(
        command, cwd=tmp_path, env={**plain, "TOLD": str(tmp_path / "told")}, check=True, capture_output=True
    )

    told = [file.read_text().splitlines() for file in (tmp_path / "told").iterdir()]
    assert len(told) == 2
    real = [[line for line in lines if not line.startswith("other")] for lines in told]
    assert sorted(map(len, real)) == [0, 18]
    assert max(real) == sorted(max(real))
    others = [{line.split()[1] for line in lines if line.startswith("other")} for lines in told]
    assert not others[0] & others[1]
