"""What classes of service promise, and how often the copies of a pipeline keep it.

A stage of k copies is lost if all k are, so a pipeline of s stages is up with (1 - p^k)^s, where p is the chance that a
worker is away when it is needed (independent, an ASSUMPTION: shared causes are the placement's concern, by site).
"""

from __future__ import annotations

AVAILABILITY = {"best_effort": 0.0, "standard": 0.99, "critical": 0.999}
"""What each class promises; our choices, no published agreement."""


def availability(copies: int, stages: int, away: float) -> float:
    """Return the chance that a pipeline is up: of each stage at least one copy is there.

    Args:
        copies: of each stage.
        stages: of the pipeline.
        away: chance that a worker is away when it is needed, 0 to 1.
    """
    return float((1.0 - away**copies) ** stages)
