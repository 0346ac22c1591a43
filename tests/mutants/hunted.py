"""How many seeds of the hunt's own faults it takes to meet a mutant: ``python -m tests.mutants.hunted`` writes
``hunted.json``, which the table of the museum shows. It takes minutes, so it is run when a mutant is new.

The arena's general swarm knows nothing of the mutant, and any of its promises may catch it.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from experiments.hunt.arenas.raft import TIMES, Door, RaftArena
from experiments.hunt.swarm import draw
from policies.port import Policy
from scenarios.trial import Trial
from tests.mutants.museum import MUTANTS
from tests.mutants.record import Mutant

SEEDS, HITS = 200, 9
"""A mutant is hunted in so many seeds, or until it was met so often (as the hunt's own table of defects)."""
RESULTS = Path(__file__).with_name("hunted.json")


class Met(msgspec.Struct):
    """What came of one mutant's hunt: it was met ``hits`` times in ``seeds`` seeds, ``median`` seeds apart, by
    ``check`` most often; 0 and "" if never."""

    hits: int
    seeds: int
    median: float
    check: str


def results() -> dict[str, Met]:
    """Return the measurements by mutant."""
    return msgspec.json.decode(RESULTS.read_bytes(), type=dict[str, Met]) if RESULTS.exists() else {}


class WithMutant(RaftArena):
    """The arena of Raft, where members have one bug."""

    def __init__(self, wrong: Any) -> None:
        self.wrong = wrong
        self.defects: Mapping[str, str] = {"mutant": ""}  # type: ignore[misc]

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a member with the bug and its door."""
        return {"consensus": self.wrong(TIMES, trial.names), "door": Door()}


def hunt(mutant: Mutant) -> Met:
    """Hunt one mutant."""
    undo = [(where, name, getattr(where, name)) for where, name, _ in mutant.patches]
    for patch in mutant.patches:
        setattr(*patch)
    place = WithMutant(mutant.wrong)
    shape = msgspec.structs.replace(place.shape, policy="mutant")
    hits, checks, seed = [0], Counter[str](), 0
    while seed < SEEDS and len(hits) <= HITS:
        seed += 1
        if check := place.run(draw(place, shape, seed)).check:
            hits.append(seed)
            checks[check] += 1
    for patch in undo:
        setattr(*patch)
    gaps = [b - a for a, b in pairwise(hits)]
    median = float(statistics.median(gaps)) if gaps else 0.0
    return Met(len(gaps), seed, median, checks.most_common(1)[0][0] if checks else "")


def main() -> None:
    """Hunt all that have an arena and were not hunted yet, and save after each."""
    met = results()
    for mutant in MUTANTS:
        if mutant.arena and mutant.key not in met:
            met[mutant.key] = hunt(mutant)
            print(mutant.key, met[mutant.key], file=sys.stderr)
            RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(met), indent=1) + b"\n")


if __name__ == "__main__":
    main()
