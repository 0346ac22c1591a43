"""`twin test`: the project's own checks, linters to notebooks (tests/notebooks); `twin test nightly`: the long ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil

from experiments.bytecode import with_bytecode
from experiments.nightly import nightly
from experiments.nightly_results import CHECKOUT, status
from experiments.progress import say

WORKER_BYTES = 3 << 30
"""What a process of tests takes at most, with the processes it starts (measured: 1.5 GB, torch and JAX in it)."""


def test(arguments: Sequence[str]) -> int:
    """Run ``ruff, mypy, lint-imports, pytest`` and the notebooks; with arguments, pytest alone takes them."""
    if not (CHECKOUT / "pyproject.toml").exists():
        say("test: needs a checkout of the project; this is an installed package")
        return 2
    if list(arguments[:1]) == ["nightly"]:
        return nightly(list(arguments[1:]))
    steps = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["importlinter.cli"]]
    steps += [
        ["pytest", "-m", "not nightly", *side_by_side(os.cpu_count() or 1, psutil.virtual_memory().available), "tests"]
    ]
    if arguments:
        steps = [["pytest", *arguments]]
    failed = [step[0] for step in steps if _step(step) != 0]
    if not arguments:
        say(f"test: nightly suites: {status()}")
    say(f"test: failed: {', '.join(failed)}" if failed else "test: everything passed")
    return 1 if failed else 0


def side_by_side(cores: int, free_bytes: int) -> list[str]:
    """Return pytest's words for as many processes as there are cores and memory for; none for one.

    Files stay whole, in their order, so that long ones are not left for the end; tests/conftest.py says which go
    together.
    """
    workers = min(cores, free_bytes // WORKER_BYTES)
    return ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"] if workers > 1 else []


def _step(words: list[str]) -> int:
    begun = time.monotonic()
    if words[0] == "importlinter.cli":
        command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]
    else:
        command = [sys.executable, "-m", *words]
    environment = with_bytecode(os.environ) if sys.dont_write_bytecode else None  # tests start hundreds of processes
    code = subprocess.run(command, cwd=CHECKOUT, env=environment).returncode
    say(f"test: {words[0]}: {f'exit code {code}' if code else 'passed'}, {time.monotonic() - begun:.1f} s")
    return code
