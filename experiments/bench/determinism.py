"""Whether one seed gives one history: digests of the same run from processes with different hash seeds.

Two runs are digested: the Raft cluster of `experiments.bench.raft`, crashes included, and a small village for an hour.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from experiments.bench.first_village import CHECKOUT
from experiments.bench.table import Line

HASH_SEEDS = ("0", "1", "4242", "random")
RAFT_S = 65.0  # long enough for the crash at 30 s and its restart
VILLAGE = ("fleet=small_50", "duration_s=3600", "workload.requests=300")

TITLE = f"determinism: one seed, {len(HASH_SEEDS)} processes with hash seeds {', '.join(HASH_SEEDS)}"
LINES = (
    Line("raft_digests", "different digests of the Raft cluster", at_least=1, at_most=1),
    Line("village_digests", "different digests of the small village", at_least=1, at_most=1),
    Line("seeds_told_apart", "another seed has another digest (1 is yes)", at_least=1),
    Line("processes", "processes"),
)


def measure(
    raft_s: float = RAFT_S, village: Sequence[str] = VILLAGE, hash_seeds: Sequence[str] = HASH_SEEDS
) -> dict[str, float]:
    """Digest both runs in a process for every hash seed; return the keys of `LINES`."""
    digests = [_in_a_process(1, raft_s, village, hash_seed) for hash_seed in hash_seeds]
    other = _in_a_process(2, raft_s, village, hash_seeds[0])
    return {
        "raft_digests": float(len({pair[0] for pair in digests})),
        "village_digests": float(len({pair[1] for pair in digests})),
        "seeds_told_apart": float(all(mine != its for mine, its in zip(digests[0], other, strict=True))),
        "processes": float(len(hash_seeds)),
    }


def _in_a_process(seed: int, raft_s: float, village: Sequence[str], hash_seed: str) -> tuple[str, str]:
    command = [sys.executable, "-m", "experiments.bench.determinism", str(seed), str(raft_s), *village]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"bench determinism: exit code {done.returncode}\n{done.stderr[-2000:]}")
    raft, small = json.loads(done.stdout)
    return raft, small


def _digests(seed: int, raft_s: float, words: Sequence[str]) -> tuple[str, str]:
    from experiments.bench.raft import run_once
    from experiments.compose import compose
    from scenarios.schema import build
    from sim.village import simulate

    record = simulate(build(compose([*words, f"seed={seed}"])[0]))
    return run_once(raft_s, seed)[1], record.manifest["digest"]


if __name__ == "__main__":
    print(json.dumps(_digests(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])))
