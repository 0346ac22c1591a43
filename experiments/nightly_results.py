"""What tests/nightly.json remembers of the long suites, and what of it counts.

Every test keeps the commit, the moment and the duration of its own last run, and a digest of the files it rests on
(`experiments.rests_on`): the result counts as long as these are as they were, at whatever commit. A part is no better
than the worst of its tests, and no newer than the oldest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.rests_on import RESULTS, Sources
from experiments.whole import write_whole

CHECKOUT = Path(__file__).resolve().parent.parent
NIGHTLY = CHECKOUT / RESULTS
SEVERAL = "several"
TOLD = ("long_hunts",)
"""Parts all of whose processes tell what they open (`experiments.opened`): their tests rest on that and on no more.
What their sources name is nearly everything, since one program runs every verb and every arena."""

Results = dict[str, dict[str, Any]]
"""Test to what its last run came to; one that was never run has status ``not run``."""


def counts(name: str, result: Mapping[str, Any], sources: Sources) -> bool:
    """Whether all that a test rests on is as it was when it was run; not known of runs that left no digest."""
    digest = result.get("rests_on")
    return digest is not None and digest == sources.digest(_files(name, result.get("opened", ()), sources))


def what_it_rests_on(name: str, opened: Iterable[str], before: Sources, after: Sources) -> dict[str, Any]:
    """Return what a result keeps of the files its test rests on; nothing if one of them changed while it ran.

    Args:
        name: the test.
        opened: the files that its process opened or imported, and its children where they tell.
        before: the checkout when the test began.
        after: the checkout when it had ended.
    """
    more = sorted(before.known(opened) - _files(name, (), before))
    digest, later = (sources.digest(_files(name, more, sources)) for sources in (before, after))
    silent = part(name) in TOLD and not any(one.startswith("policies/") for one in more)
    if digest != later or silent:
        return {}
    return {"rests_on": digest, **({"opened": more} if more else {})}


def _files(name: str, opened: Iterable[str], sources: Sources) -> set[str]:
    """Return what a test rests on: what its sources name and what was opened besides, or what was told alone."""
    if part(name) in TOLD:
        return sources.beside(file(name)) | set(opened)
    return sources.rests_on(file(name), opened)


def file(name: str) -> str:
    """Return the file that a test is in."""
    return name.partition("::")[0]


def part(name: str) -> str:
    """Return the part that a test is in: the name of its file, without what all have."""
    return Path(file(name)).stem.removeprefix("test_")


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
    """Say in one line what tests/nightly.json shows of the present code: only results that count are named."""
    results = read()
    if not results:
        return "never run here (twin test nightly)"
    parts = json.loads(NIGHTLY.read_text())["parts"]
    number = len(results) + sum(one["not_run"] for one in parts.values())
    sources = Sources(CHECKOUT)
    counted = [name for name, result in results.items() if counts(name, result, sources)]
    failed = sorted(name for name in counted if results[name]["status"] == "failed")
    if failed:
        return f"failed: {', '.join(failed)}"
    return f"{len(counted)} of {number} passed or skipped with the code as it is; of the others none counts"


def read() -> Results:
    """Return what is known of each test."""
    results: Results = json.loads(NIGHTLY.read_text())["tests"] if NIGHTLY.exists() else {}
    return results


def write(results: Results) -> None:
    """Write the parts and the tests that were run, at once or not at all."""
    tests = {name: result for name, result in sorted(results.items()) if result["status"] != "not run"}
    content = {"parts": summary(results), "tests": tests}
    write_whole(NIGHTLY, json.dumps(content, indent=2) + "\n")
