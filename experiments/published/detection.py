"""Failure detection against the size of the group, beside what is expected of it (`experiments.bench.membership`).

Expected of SWIM (Das, Gupta and Motivala, DSN 2002, section 3): a member that probes a random other each period finds
a crash after e / (e - 1) periods in the mean, whatever n, and sends as much whatever n. A suspicion that nobody
confirms lasts as memberlist's (``util.go``, suspicionTimeout) times Lifeguard's six; confirmed ones end earlier.

python -m experiments.published.detection docs/membership.csv
"""

from __future__ import annotations

import csv
import math
import sys
from itertools import product
from pathlib import Path

from experiments.bench.membership import DETECTORS, SIZES, SPANS_S, of_size
from experiments.progress import progress
from policies.config import SwimConfig

KEYS = ("first_s", "all_s", "false_suspect_per_h", "false_dead", "bytes_per_s")


def first_suspicion_s(config: SwimConfig) -> float:
    """Return the expected time from a crash to the first suspicion: SWIM's e / (e - 1) periods."""
    return config.probe_s * math.e / (math.e - 1)


def suspicion_s(config: SwimConfig, n: int) -> tuple[float, float]:
    """Return the shortest and the longest time from suspicion to death, in a group of ``n`` (memberlist)."""
    shortest = config.suspicion_mult * max(1.0, math.log10(max(1, n))) * config.probe_s
    return shortest, config.suspicion_max_mult * shortest


def write(out: Path) -> None:
    """Simulate every size under every detector, and write the table."""
    cases = list(product(DETECTORS, SIZES))
    with out.open("w", newline="") as file, progress("detection") as report:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("detector", "n", *KEYS))
        for done, (name, n) in enumerate(cases, 1):
            figures = of_size(DETECTORS[name], n, *SPANS_S[name])
            table.writerow((name, n, *(f"{figures[key]:.4g}" for key in KEYS)))
            file.flush()
            report(done / len(cases), f"{name}, {n} members")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
