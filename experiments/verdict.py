"""The verdict on a run: what the world checked while it ran, and whether the Run's own books agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.results import Run

HOLDS = "holds"
STATUSES = ("answered", "late", "refused", "lost")


@dataclass(frozen=True)
class Check:
    """One promise and whether it held."""

    name: str
    passed: bool
    detail: str = ""


def verdict(run: Run) -> list[Check]:
    """Return every check of a Run: those in its manifest first, then those of its tables."""
    return [*_from_manifest(run.manifest), *_books(run)]


def passed(run: Run) -> bool:
    """Tell whether every check of a Run passed."""
    return all(check.passed for check in run.checks)


def _from_manifest(manifest: Mapping[str, Any]) -> list[Check]:
    """Read the world's checks: name to ``holds`` or true, else to what broke it; and how many events each saw."""
    events = manifest.get("check_events", {})
    found = []
    for name, outcome in manifest.get("checks", {}).items():
        holds = outcome is True or outcome == HOLDS
        seen = f"{events[name]:,} events" if name in events else ""
        found.append(Check(name.replace("_", " "), holds, seen if holds else str(outcome)))
    return found


def _books(run: Run) -> list[Check]:
    if run.is_fleet:
        return [Check("the run has a digest", bool(run.digest), run.digest[:16])]
    requests = run.requests
    found = []
    twice = int(requests.duplicated(["client", "op_id"]).sum())
    unknown = sorted(set(requests["status"]) - set(STATUSES))
    found.append(Check(
        "every request has one outcome", not twice and not unknown,
        f"{twice} twice, unknown outcomes {unknown}" if twice or unknown else f"{len(requests):,} requests",
    ))  # fmt: skip
    wrong = [
        f"{status}: table {count:,}, summary {run.summary[name]:,.0f}"
        for status in STATUSES
        if (name := f"requests_{status}") in run.summary
        and (count := int((requests["status"] == status).sum())) != run.summary[name]
    ]
    found.append(Check("the summary counts what the tables hold", not wrong, "; ".join(wrong)))
    answered = requests[requests["status"] == "answered"]
    slow = int((answered["latency_s"].astype(float) > answered["deadline_s"].astype(float) + 1e-6).sum())
    found.append(Check("answered means in time", not slow, f"{slow:,} after their deadline" if slow else ""))
    found.append(Check("the run has a digest", bool(run.digest), run.digest[:16]))
    return found
