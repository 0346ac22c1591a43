"""How often healthy members are wronged while others are slow, against the size of the group.

For SWIM without Lifeguard and with it, and for phi accrual, as `experiments.bench.membership` has slow members. Some
minutes, most of them for phi in the largest group.

python -m experiments.published.false_positives docs/false_positives.csv
"""

from __future__ import annotations

import csv
import sys
from itertools import product
from pathlib import Path

from experiments.bench.membership import SIZES, TRIED, while_some_are_slow
from experiments.progress import progress

SEEDS = (1, 2, 3, 4, 5)
SHOWN = {"plain": "swim without Lifeguard", "lifeguard": "swim", "phi": "phi"}
"""How figures and tables name the detectors."""
KEYS = ("dead", "dead_by_healthy", "suspected")


def write(out: Path) -> None:
    """Simulate every size under every detector, seed by seed, and write the table."""
    cases = list(product(TRIED, SIZES, SEEDS))
    done, whole = 0, sum(n * n for _, n, _ in cases)  # so fast do phi's messages grow
    with out.open("w", newline="") as file, progress("false positives") as report:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("detector", "n", "seed", *KEYS))
        for name, n, seed in cases:
            table.writerow((name, n, seed, *while_some_are_slow(TRIED[name], n, seed)))
            file.flush()
            done += n * n
            report(done / whole, f"{name}, {n} members, seed {seed}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
