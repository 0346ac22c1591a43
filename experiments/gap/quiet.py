"""Was the machine quiet, and did it stay the same? Foreign CPU from /proc/stat, drift from two calibrations."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOREIGN_MAX = 0.05
DRIFT_MAX = 0.03
"""Shares beyond which a round is void. Ours: about what the bars (`experiments.gap.verdict`) allow a twin to be off."""
_STAT = Path("/proc/stat")
_NOT_WORK = (3, 4)  # idle and iowait, by position in the line ``cpu`` (proc(5)); stolen time is foreign work


class Cpu(NamedTuple):
    """Seconds since some moment: of the wall, of all cores at work, of this process with those it has waited for."""

    wall_s: float
    busy_s: float
    own_s: float


def cpu(stat: str | None = None) -> Cpu:
    """Return the present counters; ``stat`` is the text of /proc/stat.

    Raises:
        OSError: this system has no such file.
    """
    ticks = [int(word) for word in (stat or _STAT.read_text()).splitlines()[0].split()[1:9]]
    busy = sum(count for place, count in enumerate(ticks) if place not in _NOT_WORK)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own_s = sum(one.ru_utime + one.ru_stime for one in used)
    return Cpu(time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), own_s)


def foreign_share(before: Cpu, after: Cpu, cores: int) -> float:
    """Return the share of all cores' time that others worked between two moments; children must have ended."""
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return max(0.0, others_s) / (cores * (after.wall_s - before.wall_s))


def token_s(profile: Mapping[str, Any]) -> float:
    """Return what a profile says of one token of desk-tiny through three stages: what drift is measured by."""
    from real_backends.executors import DESK_TINY, cut_evenly
    from scenarios.hosts import step_law

    law, cuts = step_law(profile), cut_evenly(DESK_TINY, 3)
    steps_s = sum(law.step_s(last - first, last == DESK_TINY.layers, 1) for first, last in cuts)
    return steps_s + len(cuts) * (float(profile["hop_s"]) + law.step_overhead_s)


def drift(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """Return by how much a token takes longer or shorter after a round than before it, as a share."""
    return abs(token_s(after) / token_s(before) - 1)


def void(drifted: float, foreign: float) -> str:
    """Return why a round does not count, or nothing."""
    if drifted > DRIFT_MAX:
        return f"drift {drifted:.1%}"
    return f"foreign CPU {foreign:.1%}" if foreign > FOREIGN_MAX else ""
