"""`twin test nightly`: the long suites, one pytest process a test, and what tests/nightly.json remembers of them.

A file of tests is a part, called as its file: `twin test nightly kill long_hunts` runs two of them, and a piece of a
test's name, with a slash, a bracket or `::` in it, what has that in its name. The file is written after each test, so
that a night can be interrupted: what passed at the same commit is not repeated. Every test keeps the commit, the moment
and the duration of its own last run; a part is no better than the worst of its tests, and no newer than the oldest.
Figures are what tests hand to pytest's ``record_property``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments.progress import say

CHECKOUT = Path(__file__).resolve().parent.parent
NIGHTLY = CHECKOUT / "tests" / "nightly.json"
COVERED = ("models", "policies", "scenarios", "sim", "real_backends", "experiments", "conf")
"""What the nightly tests are about: a change there outdates a result."""
NO_TESTS = 5  # pytest's exit code when it collected nothing
SEVERAL = "several"

Results = dict[str, dict[str, Any]]
"""Test to what its last run came to; one that was never run has status ``not run``."""


def nightly(words: Sequence[str]) -> int:
    """Run all long tests, or those that ``words`` name; return 1 if one fails, 2 if a word names nothing."""
    names = _collected()
    if names is None:
        return 1
    chosen = select(names, words)
    unknown = [word for word in words if not select(names, [word])]
    if unknown:
        say(f"test nightly: {unknown[0]!r} is no part; allowed: {', '.join(sorted({part(name) for name in names}))}")
        return 2
    commit = _git("rev-parse", "HEAD")
    if _git("status", "--porcelain", "--", ".", ":!tests/nightly.json"):
        commit += "+changes"
    earlier = read()
    results = {name: earlier.get(name, {"status": "not run"}) for name in names}  # tests that are gone say nothing
    for number, name in enumerate(chosen, 1):
        last = results[name]
        if last.get("commit") == commit and last["status"] == "passed" and not commit.endswith("+changes"):
            continue
        say(f"test nightly: {number} of {len(chosen)}: {name}")
        begun = datetime.now(UTC).isoformat(timespec="seconds")
        results[name] = {"commit": commit, "date": begun, **_run(name)}
        write(results)
    failed = [name for name in chosen if results[name]["status"] == "failed"]
    for name in failed:
        say(f"test nightly: failed: {name}")
    return 1 if failed else 0


def part(name: str) -> str:
    """Return the part that a test is in: the name of its file, without what all have."""
    return Path(name.partition("::")[0]).stem.removeprefix("test_")


def select(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the tests that any word names, all without words."""

    def named(name: str, word: str) -> bool:
        return word == part(name) or (any(sign in word for sign in ("/", "::", "[")) and word in name)

    return [name for name in names if not words or any(named(name, word) for word in words)]


def summary(results: Results) -> dict[str, dict[str, Any]]:
    """Return what is to be said of each part.

    ``outcome`` is ``failed`` if a test failed, else ``incomplete`` if one was never run, else ``skipped`` if all were,
    else ``passed``; ``commit`` is that of all its tests, or ``several``; ``date`` that of the oldest run, null where
    one is not known; ``wall_s`` the sum of its tests' last runs.
    """
    parts: dict[str, list[dict[str, Any]]] = {}
    for name, result in sorted(results.items()):
        parts.setdefault(part(name), []).append(result)
    return {name: _of_part(tests) for name, tests in parts.items()}


def _of_part(tests: list[dict[str, Any]]) -> dict[str, Any]:
    run = [test for test in tests if test["status"] != "not run"]
    counts = {status: sum(test["status"] == status for test in tests) for status in ("passed", "failed", "skipped")}
    outcome = "passed" if counts["passed"] else "skipped"
    if counts["failed"] or len(run) < len(tests):
        outcome = "failed" if counts["failed"] else "incomplete"
    commits, dates = {test["commit"] for test in run}, [test.get("date") for test in run]
    return {
        "outcome": outcome,
        "commit": next(iter(commits), None) if len(commits) < 2 else SEVERAL,
        "date": min((date for date in dates if date is not None), default=None) if None not in dates else None,
        "wall_s": round(sum(test["wall_s"] for test in run), 1),
        **counts,
        "not_run": len(tests) - len(run),
    }


def status() -> str:
    """Say in one line what tests/nightly.json shows of the present code: only runs at code as it is now count."""
    results = read()
    if not results:
        return "never run here (twin test nightly)"
    parts = json.loads(NIGHTLY.read_text())["parts"]
    count = len(results) + sum(one["not_run"] for one in parts.values())
    current = {commit: _same_code(commit) for commit in {result["commit"] for result in results.values()}}
    counted = [name for name, result in results.items() if current[result["commit"]]]
    failed = sorted(name for name in counted if results[name]["status"] == "failed")
    if failed:
        return f"failed: {', '.join(failed)}"
    return f"{len(counted)} of {count} passed or skipped with the code as it is; of the others none counts"


def _same_code(commit: str) -> bool:
    """Whether nothing that the tests cover has changed since a commit."""
    diff = subprocess.run(["git", "diff", "--quiet", commit, "--", *COVERED], cwd=CHECKOUT, capture_output=True)
    return not commit.endswith("+changes") and diff.returncode == 0


def read() -> Results:
    """Return what is known of each test."""
    results: Results = json.loads(NIGHTLY.read_text())["tests"] if NIGHTLY.exists() else {}
    return results


def write(results: Results) -> None:
    """Write the parts and the tests that were run, at once or not at all."""
    tests = {name: result for name, result in sorted(results.items()) if result["status"] != "not run"}
    content = {"parts": summary(results), "tests": tests}
    temporary = NIGHTLY.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(NIGHTLY)


def _collected() -> list[str] | None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "nightly", "tests"]
    listing = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if listing.returncode not in (0, NO_TESTS):
        say(f"test nightly: collection failed\n{listing.stdout[-2000:]}")
        return None
    return [line for line in listing.stdout.splitlines() if "::" in line]


def _run(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "result.xml"
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", name, f"--junitxml={xml}", "-o", "timeout=0"]
        code = subprocess.run(command, cwd=CHECKOUT, stdout=sys.stderr).returncode
        root = ElementTree.parse(xml).getroot() if xml.exists() else ElementTree.Element("testsuites")
    figures = {item.get("name", ""): _value(item.get("value", "")) for item in root.iter("property")}
    outcome = "failed" if code else "skipped" if root.find(".//skipped") is not None else "passed"
    return {
        "status": outcome,
        "wall_s": round(time.monotonic() - begun, 1),
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
