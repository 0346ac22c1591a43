"""The promise of checks: whatever befalls an honest worker, it is not convicted."""

from __future__ import annotations

from collections.abc import Collection

from policies.checking.messages import Checked
from policies.work import FoundFalse
from scenarios.checks.language import Check, Event, decided

CHECKED = decided("examiner", "checked", Checked)
FOUND_FALSE = decided("coordination", "found_false", FoundFalse)
CHECKING = ("examiner", "prover")
"""Paths whose messages are those of checks."""


class NoHonestWorkerConvicted(Check):
    """Workers that are evicted because checks found them false are liars; asked of every place that was checked.

    Args:
        liars: who may be.
    """

    def __init__(self, liars: Collection[str]) -> None:
        super().__init__("no_honest_worker_convicted", CHECKED, FOUND_FALSE)
        self.liars = liars

    def take(self, event: Event) -> str:
        if event.kind == "checked" or event.value.node in self.liars:
            return ""
        return f"{event.node} has {event.value.node} evicted, which does what it says"
