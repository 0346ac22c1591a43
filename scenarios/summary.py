"""Numbers of a run that every world computes the same way from its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from policies.config import RecoveryRules, ReplayConfig
from policies.coordination.examined import IF_THERE, PROVED
from scenarios.checks import VillageChecks
from scenarios.record import TABLES

_COLUMN = {name: k for k, name in enumerate(TABLES["requests"])}


def request_summary(rows: Sequence[tuple[Any, ...]], duration_s: float) -> dict[str, float]:
    """Return counts by status, latency and time-to-first-token quantiles (s), and throughput.

    Latencies are of answered requests, late ones included; the worst stands beside the median. The time to the first
    token counts from the start of the session that answered (`scenarios.record`).
    """

    def column(name: str) -> list[Any]:
        return [row[_COLUMN[name]] for row in rows]

    status = column("status")
    ended = [s in ("answered", "late") for s in status]
    latency = np.array([x for x, ok in zip(column("latency_s"), ended, strict=True) if ok])
    first = np.array([x for x, ok in zip(column("first_token_s"), ended, strict=True) if ok and x is not None])
    tokens = sum(x for x, ok in zip(column("tokens"), ended, strict=True) if ok)
    total = max(1, len(rows))
    summary = {
        "requests_total": float(len(rows)),
        **{f"requests_{name}": float(status.count(name)) for name in ("answered", "late", "refused", "lost")},
        "answered_in_time_share": status.count("answered") / total,
        "refused_share": status.count("refused") / total,
        "wrong_answers": float(sum(x is False for x in column("correct"))),
        "attempts_mean": float(np.mean(column("attempts"))) if rows else 0.0,
        "tokens_total": float(tokens),
        "throughput_tokens_per_s": tokens / duration_s,
    }
    for name, values in (("latency", latency), ("ttft", first)):
        for label, q in (("p50", 50), ("p95", 95), ("max", 100)):
            summary[f"{name}_{label}_s"] = float(np.percentile(values, q)) if len(values) else float("nan")
        summary[f"{name}_mean_s"] = float(values.mean()) if len(values) else float("nan")
    return summary


def model_summary(rows: Sequence[tuple[Any, ...]], models: Sequence[str]) -> dict[str, float]:
    """Return how many requests each model answered, and how many two of them did; nothing of a village with one."""
    if len(models) < 2:
        return {}
    by = [row[_COLUMN["model"]] for row in rows]
    found = {f"answered_by_{model}": float(by.count(model)) for model in models}
    return {**found, "answered_by_two_models": float(sum("+" in model for model in by))}


COPIES = ("resumed", "known", "again", "copied")


def recovery_summary(rules: RecoveryRules, nodes: Iterable[Mapping[str, int]]) -> dict[str, float]:
    """Return what preparing for deaths came to (docs/recovery.md); nothing where nobody prepares.

    Args:
        nodes: each node's counts by `COPIES`: attempts that asked what their stages have, the tokens that they began
            with, those of them that went through the stages again, and tokens that were copied to standbys.
    """
    if isinstance(rules, ReplayConfig):
        return {}
    counts = list(nodes)
    total = {name: float(sum(each.get(name, 0) for each in counts)) for name in COPIES}
    return {
        "resumed_attempts": total["resumed"],
        "resumed_known_tokens": total["known"],
        "resumed_again_tokens": total["again"],
        "copied_tokens": total["copied"],
    }


def detection_summary(checks: VillageChecks, sent_bytes: int, nodes: int, duration_s: float) -> dict[str, float]:
    """Return what the failure detector did, or nothing in a run without one.

    Times are from a fall to the first node that declares it, of falls that anybody noticed. *While up*: how often a
    node was suspected or declared dead although it was up, cut off or not, once at each that held it so. Bytes are
    those of the detector's own messages, without what carries them.
    """
    if not checks.detection:
        return {}
    fallen, living, _ = checks.detection
    took_s = np.array(fallen.took_ns) / 1e9
    return {
        "detection_falls_noticed": float(len(took_s)),
        "detection_p50_s": float(np.median(took_s)) if len(took_s) else float("nan"),
        "detection_max_s": float(took_s.max()) if len(took_s) else float("nan"),
        "detection_suspected_while_up": float(living.wrongly["suspect"]),
        "detection_dead_while_up": float(living.wrongly["dead"]),
        "detection_bytes_per_node_per_s": sent_bytes / nodes / duration_s,
    }


def checking_summary(
    words: Sequence[str], convicted: int, sessions: int, sent_bytes: float, worked_s: float
) -> dict[str, float]:
    """Return what checks of workers found and cost.

    *False* are places proved false, *unclear* those without a verdict (silence, restarts, nobody to compute again).

    Args:
        words: what was said of each place.
        convicted: workers evicted for false places.
        sessions: whose commitments were agreed.
        sent_bytes: of the checks' own messages, and what verifiers fetched.
        worked_s: seconds of executors, for commitments and for computing again.
    """
    false = sum(word in PROVED and word not in IF_THERE for word in words)
    return {
        "checking_sessions": float(sessions),
        "checking_places": float(len(words)),
        "checking_false": float(false),
        "checking_unclear": float(len(words) - false - sum(word == "honest" for word in words)),
        "checking_convicted": float(convicted),
        "checking_bytes": float(sent_bytes),
        "checking_s": float(worked_s),
    }
