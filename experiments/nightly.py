"""`twin test nightly`: the long suites, run in parts.

A file of tests is a part, called as its file: `twin test nightly kill long_hunts` runs two of them, and a piece of a
test's name, with a slash, a bracket or `::` in it, what has that in its name. Tests of one function share a pytest
process, a few at a time, but for the longest; `jobs=2` runs two processes side by side. The file is written after each,
so that a night can be interrupted: what passed, and rests on nothing that has changed since, is not repeated.
Figures are what tests hand to pytest's ``record_property``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from experiments.nightly_results import CHECKOUT, Results, counts, part, read, what_it_rests_on, write
from experiments.opened import OPENED
from experiments.progress import say
from experiments.rests_on import RESULTS, Sources

INTERRUPTED, NO_TESTS = 2, 5  # pytest's exit codes when it was stopped, and when it collected nothing
ALONE = ("bench", "long_hunts")
"""Parts beside which nothing runs: figures of one are speeds, and the other takes all cores."""
BATCH = 20
"""Tests in one process at most: what an interruption loses (our choice)."""


def nightly(words: Sequence[str]) -> int:
    """Run all long tests, or those that ``words`` name, ``jobs=N`` processes at a time.

    Return 1 if a test fails or does not end, 2 if a word names nothing.
    """
    jobs = next((word for word in words if word.startswith("jobs=")), "jobs=1").removeprefix("jobs=")
    words = [word for word in words if not word.startswith("jobs=")]
    if not (jobs.isdecimal() and int(jobs) > 0):
        say(f"test nightly: jobs={jobs}: allowed are whole numbers above 0")
        return 2
    names = _collected()
    if names is None:
        return 1
    chosen = select(names, words)
    unknown = [word for word in words if not select(names, [word])]
    if unknown:
        say(f"test nightly: {unknown[0]!r} is no part; allowed: {', '.join(sorted({part(name) for name in names}))}")
        return 2
    commit = _git("rev-parse", "HEAD")
    if _git("status", "--porcelain", "--", ".", f":!{RESULTS}"):
        commit += "+changes"
    earlier = read()
    results = {name: earlier.get(name, {"status": "not run"}) for name in names}  # tests that are gone say nothing
    sources = Sources(CHECKOUT)
    due = [n for n in chosen if not (results[n]["status"] == "passed" and counts(n, results[n], sources))]
    ended = _run_all(batches(due), int(jobs), commit, results)
    failed = [name for name in due if name in ended and results[name]["status"] == "failed"]
    for name in failed:
        say(f"test nightly: failed: {name}")
    for name in due:
        if name not in ended:
            say(f"test nightly: did not end: {name}")
    return 1 if failed or len(ended) < len(due) else 0


def batches(names: Sequence[str]) -> list[list[str]]:
    """Return what is run in one process each: tests of one function, a few, since a process takes seconds to begin.

    Those of `ALONE` have one of their own: an interruption would lose too much.
    """
    found: list[list[str]] = []
    for name in names:
        together = found and part(name) not in ALONE and len(found[-1]) < BATCH
        if together and found[-1][0].partition("[")[0] == name.partition("[")[0]:
            found[-1].append(name)
        else:
            found.append([name])
    return found


def _run_all(todo: Sequence[list[str]], jobs: int, commit: str, results: Results) -> set[str]:
    """Run batches, those of `ALONE` at the end; put down what each came to. Return what ended."""
    ended: set[str] = set()
    writing = Lock()

    def one(batch: list[str]) -> None:
        begun = datetime.now(UTC).isoformat(timespec="seconds")
        found = _run(batch)
        with writing:
            results.update({name: {"commit": commit, "date": begun, **result} for name, result in found.items()})
            ended.update(found)
            write(results)
            say(f"test nightly: {len(ended)} of {sum(map(len, todo))} ended, the last of {batch[0].partition('[')[0]}")

    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(one, [batch for batch in todo if part(batch[0]) not in ALONE]):
            pass
    for batch in todo:
        if part(batch[0]) in ALONE:
            one(batch)
    return ended


def select(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the tests that any word names, all without words."""

    def named(name: str, word: str) -> bool:
        return word == part(name) or (any(sign in word for sign in ("/", "::", "[")) and word in name)

    return [name for name in names if not words or any(named(name, word) for word in words)]


def _collected() -> list[str] | None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "nightly", "tests"]
    listing = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if listing.returncode not in (0, NO_TESTS):
        say(f"test nightly: collection failed\n{listing.stdout[-2000:]}")
        return None
    return [line for line in listing.stdout.splitlines() if "::" in line]


def _run(batch: Sequence[str]) -> Results:
    """Run tests in one process. One that it does not tell of has failed, unless somebody interrupted it."""
    before = Sources(CHECKOUT)
    with tempfile.TemporaryDirectory() as folder:
        xml, opened = Path(folder) / "result.xml", Path(folder) / "opened.txt"
        command = [sys.executable, "-m", "pytest", "-q", *batch, f"--junitxml={xml}", "-o", "timeout=0"]
        environment = {**os.environ, OPENED: str(opened)}
        code = subprocess.run(command, cwd=CHECKOUT, stdout=sys.stderr, env=environment).returncode
        root = ElementTree.parse(xml).getroot() if xml.exists() else ElementTree.Element("testsuites")
        seen = opened.read_text().splitlines() if opened.exists() else []
    after = Sources(CHECKOUT)
    told = {f"{one.get('classname')}::{one.get('name')}": one for one in root.iter("testcase")}
    missing = None if code == INTERRUPTED else {"status": "failed", "wall_s": 0.0, "seeds": None, "figures": {}}
    found = {}
    for name in batch:
        file, _, test = name.partition("::")
        case = told.get(f"{file.removesuffix('.py').replace('/', '.')}::{test}")
        result = missing if case is None else _outcome(case)
        if result is not None:
            # A process that did not live to tell what it opened leaves a result that does not count.
            found[name] = {**result, **(what_it_rests_on(name, seen, before, after) if seen else {})}
    return found


def _outcome(case: ElementTree.Element) -> dict[str, Any]:
    """Return what a test came to, by pytest's report in JUnit's form."""
    figures = {item.get("name", ""): _value(item.get("value", "")) for item in case.iter("property")}
    failed = case.find("failure") is not None or case.find("error") is not None
    return {
        "status": "failed" if failed else "skipped" if case.find("skipped") is not None else "passed",
        "wall_s": round(float(case.get("time", 0.0)), 1),
        "seeds": figures.pop("seeds", None),
        "figures": figures,
    }


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
