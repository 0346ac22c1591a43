"""How many seeds of the hunt's own faults it takes to meet a mutant: ``python -m tests.mutants.hunted`` writes
``hunted.json``, which the table of the museum shows. It takes minutes, so it is run when a mutant is new; with words
only the mutants whose names begin with one of them are hunted, again if need be.

The arena's general swarm knows nothing of the mutant, and any of its promises may catch it.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from experiments.hunt.arena import Arena
from experiments.hunt.arenas import arena
from experiments.hunt.swarm import draw
from scenarios.trial import Trial
from tests.mutants.hunts import ARENA
from tests.mutants.mounted import mounted
from tests.mutants.museum import MUTANTS
from tests.mutants.record import Mutant

SEEDS, HITS = 200, 9
"""A mutant is hunted in so many seeds, or until it was met so often (as the hunt's own table of defects)."""
RAISED = "no_policy_raises"
"""What a mutant breaks whose policy raises an error."""
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


def hunt(mutant: Mutant, seeds: int = SEEDS) -> Met:
    """Hunt one mutant."""
    place = arena(ARENA[mutant.key])
    hits, checks, seed = [0], Counter[str](), 0
    with mounted(mutant):
        while seed < seeds and len(hits) <= HITS:
            seed += 1
            if check := _broken(place, draw(place, place.shape, seed)):
                hits.append(seed)
                checks[check] += 1
    gaps = [b - a for a, b in pairwise(hits)]
    median = float(statistics.median(gaps)) if gaps else 0.0
    return Met(len(gaps), seed, median, checks.most_common(1)[0][0] if checks else "")


def _broken(place: Arena, trial: Trial) -> str:
    """Run a trial; return what broke in it, "" if nothing did. A bug may also make a policy raise."""
    try:
        return place.run(trial).check
    except Exception:
        return RAISED


def main(words: Sequence[str]) -> None:
    """Hunt those that begin with one of ``words``, else all that were not hunted yet; save after each."""
    met = results()
    for mutant in MUTANTS:
        wanted = mutant.key.startswith(tuple(words)) if words else mutant.key not in met
        if mutant.key in ARENA and wanted:
            met[mutant.key] = hunt(mutant)
            print(mutant.key, met[mutant.key], file=sys.stderr)
            there = {one.key: met[one.key] for one in MUTANTS if one.key in ARENA and one.key in met}
            RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(there), indent=1) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
