"""Checks: promises asked in every run, incrementally, and of real histories too."""

from scenarios.checks.language import (
    AtMost,
    Check,
    Checks,
    Each,
    Ends,
    Event,
    Happens,
    InOrder,
    Look,
    Same,
    Sometimes,
    StateCheck,
    Topic,
    decided,
    said,
    told,
)  # fmt: skip
from scenarios.checks.village import VillageChecks

__all__ = [
    "AtMost", "Check", "Checks", "Each", "Ends", "Event", "Happens", "InOrder", "Look", "Same", "Sometimes",
    "StateCheck", "Topic", "VillageChecks", "decided", "said", "told",
]  # fmt: skip
