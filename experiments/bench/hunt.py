"""How fast the hunter is: five Raft members under faults, ten simulated seconds a seed, all checks and the digest on.

Seeds a second are per second of CPU time. The efficiency of two processes is how much of twice one process's wall-clock
rate two of them reach; it needs two idle cores, and a busy machine shows less.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

import msgspec

from experiments.bench.table import Line
from experiments.hunt import campaign
from experiments.hunt.arenas import arena

SEEDS = 1_000

LINES = (
    Line("seeds_per_core_s", "seeds / CPU s", 1, at_least=40),
    Line("two_processes_efficiency", "rate of two processes / twice that of one", 3, at_least=0.9),
    Line("steps_per_s", "port steps / CPU s"),
    Line("checks_share", "share of the time spent in checks", 3, at_most=0.30),
    Line("broken", "seeds that broke a promise", at_most=0),
    Line("mismatches", "digests that differed in another process", at_most=0),
)

TITLE = f"hunt: raft, 5 members, heartbeat 50 ms, election 150-300 ms, 10 requests/s, 10 s a seed, {SEEDS} seeds"


def measure(seeds: int = SEEDS) -> dict[str, float]:
    """Run one campaign with one process and one with two; return the figures of `LINES`."""
    one, one_s = _campaign(seeds, 1)
    _, two_s = _campaign(seeds, 2)
    return {
        "seeds_per_core_s": one.seeds / one.cpu_s,
        "two_processes_efficiency": one_s / (2.0 * two_s),
        "steps_per_s": one.steps / one.cpu_s,
        "checks_share": one.checks_share,
        "broken": float(len(one.found)),
        "mismatches": float(len(one.mismatches)),
    }


def _campaign(seeds: int, jobs: int) -> tuple[campaign.Campaign, float]:
    """Return a campaign and the wall-clock seconds between its first chunk and its last, start-up left out."""
    moments: list[float] = []
    shape = msgspec.structs.replace(arena("raft").shape, seed=1)
    plan = campaign.Plan(shape, range(1, seeds + 1), failures=seeds + 1)
    with tempfile.TemporaryDirectory() as folder:
        done = campaign.run(plan, Path(folder), jobs=jobs, progress=lambda share, text: moments.append(perf_counter()))
    # The first chunk of each process pays for its start; from there to the end all of them work.
    counted = moments[jobs - 1 :]
    return done, (counted[-1] - counted[0]) * seeds / max(1, seeds - jobs * campaign.CHUNK)
