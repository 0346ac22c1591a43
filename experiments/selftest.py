"""`twin test`: the project's own checks, linters to notebooks (tests/notebooks); `twin test nightly`: the long ones."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from experiments.bytecode import with_bytecode
from experiments.nightly import nightly
from experiments.nightly_results import CHECKOUT, status
from experiments.progress import say

WORKER_BYTES = 3 << 30
"""What a process of tests takes at most, with the processes it starts (measured: 1.5 GB, torch and JAX in it)."""


LINTERS = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["importlinter.cli"])


def test(arguments: Sequence[str]) -> int:
    """Run ``ruff, mypy, lint-imports`` beside ``pytest`` and the notebooks; with arguments, pytest alone takes them."""
    if not (CHECKOUT / "pyproject.toml").exists():
        say("test: needs a checkout of the project; this is an installed package")
        return 2
    if list(arguments[:1]) == ["nightly"]:
        return nightly(list(arguments[1:]))
    if arguments:
        failed = ["pytest"] if _step(["pytest", *arguments]) else []
    else:
        beside = ThreadPoolExecutor(1)  # linters keep one core busy, and pytest's processes wait at times
        try:
            linting = [(step[0], beside.submit(_step, step, held_back=True)) for step in LINTERS]
            workers = side_by_side(os.cpu_count() or 1, psutil.virtual_memory().available)
            tested = _step(["pytest", "-m", "not nightly", *workers, "tests"])
            failed = [name for name, code in linting if code.result()] + (["pytest"] if tested else [])
        finally:
            beside.shutdown(cancel_futures=True)  # whoever interrupts pytest waits for no further linter
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


def _step(words: list[str], *, held_back: bool = False) -> int:
    """Run a step; what it says is held back to its end where another one is speaking."""
    begun = time.monotonic()
    if words[0] == "importlinter.cli":
        command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]
    else:
        command = [sys.executable, "-m", *words]
    environment = with_bytecode(os.environ) if sys.dont_write_bytecode else None  # tests start hundreds of processes
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=held_back, text=True)
    if held_back and done.returncode:
        say(f"\n{done.stdout}{done.stderr}".rstrip())
    took_s = time.monotonic() - begun
    say(f"test: {words[0]}: {f'exit code {done.returncode}' if done.returncode else 'passed'}, {took_s:.1f} s")
    return done.returncode
