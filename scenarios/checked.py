"""What the law of spot checks says of a run: the probability that a cheat is noticed, and what the checks cost.

Both follow from the policy's numbers and from what the run served, in either world alike; what was found in fact, and
took, stands beside them (`scenarios.summary.checking_summary`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low
from typing import Any

from models.inference.shapes import Shape
from models.inference.tolerances import pair_of, stored_found
from policies.config import SpotChecksConfig
from policies.coordination.trust import HARM
from policies.verification.law import check_cost, found_within, spot_checks
from scenarios.record import TABLES

CHEATS = {"always": 1.0, "tenth": 0.1}
"""Shares of its sessions that a worker falsifies, by the name that the summary gives them."""
_STAGES = TABLES["sessions"].index("stages")
_STATUS, _PROMPT, _TOKENS, _MODEL = (
    TABLES["requests"].index(name) for name in ("status", "prompt_tokens", "tokens", "model")
)


def least_found(formats: Iterable[str]) -> float:
    """Return the share of checks that find the cheat which is found least, between executors of these formats.

    Args:
        formats: framework and format of each executor, as ``torch fp32``.
    """
    names, stored = sorted(set(formats)), stored_found()
    return min(min(stored[pair_of(one, other)].values()) for one in names for other in names)


def law_summary(
    rules: SpotChecksConfig,
    models: Mapping[str, Shape],
    found: float,
    bound: int,
    requests: Sequence[tuple[Any, ...]],
    sessions: Sequence[tuple[Any, ...]],
) -> dict[str, float]:
    """Return what the law gives for a worker of whom nothing is known.

    Args:
        rules: how often is checked.
        models: served, by name.
        found: share of checks of a falsified session that notice it.
        bound: sessions whose commitments were agreed; no other is checked.
        requests, sessions: rows of the record's tables.

    Returns:
        ``checking_worker_sessions``: of the worker in the middle, how many were bound; ``checking_noticed_...``: the
        probability that within those at least one check notices a worker that falsifies all sessions, or a tenth of
        them; ``checking_cost_share``: operations of checks, of all that executors do. The share is NaN where nothing
        was answered.
    """
    cost = _again(models, requests)
    law = spot_checks(
        0.0, harm=HARM, cost=cost or 1.0, found=found, horizon=max(1, bound), strikes=rules.strikes, floor=rules.share
    )
    took_part = Counter(stage.rpartition(":")[0] for row in sessions for stage in row[_STAGES].split(","))
    middle = median_low(took_part.values()) if took_part else 0
    middle = middle * min(bound, len(sessions)) // max(1, len(sessions))
    return {
        "checking_worker_sessions": float(middle),
        **{f"checking_noticed_{name}": found_within(middle, share, law.noticed) for name, share in CHEATS.items()},
        "checking_cost_share": law.cost / (1.0 + law.cost) if cost else float("nan"),
    }


def _again(models: Mapping[str, Shape], requests: Sequence[tuple[Any, ...]]) -> float:
    """Return the operations of a check in those of serving the session, for each model's mean answered request."""
    again = served = 0.0
    for name, shape in models.items():
        rows = [
            row for row in requests if row[_STATUS] in ("answered", "late") and row[_MODEL] == name and row[_TOKENS]
        ]
        if rows:
            prompt, new = (max(1, round(sum(row[k] for row in rows) / len(rows))) for k in (_PROMPT, _TOKENS))
            each = check_cost(shape, shape.layers, prompt, new, from_tokens=True)
            again, served = again + len(rows) * each.flops, served + len(rows) * each.served_flops
    return again / served if served else 0.0
