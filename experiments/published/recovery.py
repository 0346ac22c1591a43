"""How long sessions wait when their worker crashes: with leases alone, and with a failure detector beside them.

The same village of desks, the same requests, the same busy workers' crashes, seed by seed; only ``policy/membership``
differs. A crash costs what passes until the last request is answered that was under way when it happened.

python -m experiments.published.recovery docs/recovery.csv
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.results import Run, load, simulate
from scenarios.schema import Scenario, build, to_plain

DETECTORS = ("none", "swim", "phi")
SEEDS = tuple(range(1, 9))
CRASHES_S = tuple(150.0 + 150.0 * k for k in range(6))
DOWN_S = 120.0
"""A crashed desk is back after two leases' time (leases last 60 s)."""

CHOICES: dict[str, Any] = {
    "fleet__phones": 0, "fleet__tablets": 0, "fleet__laptops": 0, "fleet__gpu_boxes": 0, "fleet__desktops": 8,
    "fleet__dedicated": 8, "fleet__committee": 3, "network": "home", "faults": "none", "adversary": "none",
    "policy__harvest": "always", "model": "llama-3.2-1b", "duration_s": 1200.0, "workload__requests": 2000,
    "owners__ambient_c": 0.0, "workload__prompt_tokens": 100, "workload__new_tokens": 400, "workload__flat": True,
}  # fmt: skip
"""Eight desks on home lines, about four requests under way at any time; it is cold, so that heat slows no desk."""


def scenario(detector: str, seed: int) -> Scenario:
    """Return one run's scenario: a worker that is busy crashes, again and again."""
    plain = to_plain(load("first_village", seed=seed, policy__membership=detector, **CHOICES))
    plain["faults"] = [{"kind": "crash", "at_s": at_s, "node": "worker", "down_s": DOWN_S} for at_s in CRASHES_S]
    return build(plain)


def recoveries(run: Run) -> Iterator[tuple[float, float]]:
    """Yield (when, time until the last request under way was answered) of every crash that struck somebody, s."""
    ended_s = run.requests["arrival_s"] + run.requests["latency_s"].astype(float)
    faults = run.faults
    for at_s in faults.loc[(faults["kind"] == "crash") & (faults["phase"] == "start"), "time_s"]:
        under_way = ended_s[(run.requests["arrival_s"] < at_s) & (ended_s > at_s)]
        if len(under_way):
            yield float(at_s), float(under_way.max() - at_s)


def write(out: Path) -> None:
    """Simulate every seed with every detector, and write a row a crash."""
    with out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("detector", "seed", "crash_s", "recovered_s"))
        for seed in SEEDS:
            for detector in DETECTORS:
                run = simulate(scenario(detector, seed))
                if run.summary["checks_broken"]:
                    raise SystemExit(f"seed {seed}, {detector}: {run.manifest['checks']}")
                table.writerows((detector, seed, f"{at:g}", f"{took:.2f}") for at, took in recoveries(run))
                file.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
