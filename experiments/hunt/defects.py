"""The table of known defects: for each, how many seeds it takes to find it, and how small its case becomes.

Each defect is hunted in its arena's general swarm, which knows nothing of it; only the check that must catch it counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from experiments.hunt.arenas import NAMES, arena
from experiments.hunt.line import write_line
from experiments.hunt.shrink import Shrinker
from experiments.hunt.swarm import draw

SEEDS = 200
"""Seeds in which a defect must be found, more often than not."""
HITS = 9
"""Findings after which the median is known well enough."""


@dataclass(frozen=True)
class Row:
    """One defect's row.

    Attributes:
        arena, defect, what, check: who it is and which check catches it.
        hits, seeds: how often it was found, in how many seeds.
        median: median number of seeds to the next finding; infinite if none was.
        events, nodes: of the shrunk case, -1 without one.
        line: replays the shrunk case.
    """

    arena: str
    defect: str
    what: str
    check: str
    hits: int
    seeds: int
    median: float
    events: int
    nodes: int
    line: str


def measure(point: Sequence[str]) -> Row:
    """Hunt one defect, and shrink the first case; ``point`` is (arena, defect)."""
    place = arena(point[0])
    shape, check = msgspec.structs.replace(place.shape, policy=point[1]), place.expects[point[1]]
    hits: list[int] = []
    seed = 0
    while seed < SEEDS and len(hits) < HITS:
        seed += 1
        if place.run(draw(place, shape, seed)).check == check:
            hits.append(seed)
    gaps = [b - a for a, b in zip([0, *hits], hits, strict=False)]
    events, nodes, line = -1, -1, ""
    if hits:
        small = Shrinker(place, draw(place, shape, hits[0]), check).shrink().trial
        events, nodes, line = len(small.faults), small.nodes, write_line(small)
    median = float(statistics.median(gaps)) if gaps else float("inf")
    return Row(point[0], point[1], place.defects[point[1]], check, len(hits), seed, median, events, nodes, line)


def all_defects(only: str = "") -> list[tuple[str, str]]:
    """Return (arena, defect) of every defect, or of one arena's."""
    names = [only] if only else list(NAMES)
    return [(name, defect) for name in names for defect in arena(name).defects]


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| defect | what is wrong | arena | check that catches it | seeds to find | events in the shrunk case |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (not row.defect.startswith("g"), row.defect)):
        found = f"{row.median:g} (of {row.seeds}: {row.hits})" if row.hits else f"not in {row.seeds}"
        events = f"{row.events}, {row.nodes} nodes" if row.events >= 0 else "-"
        lines.append(f"| {row.defect} | {row.what} | {row.arena} | `{row.check}` | {found} | {events} |")
    return "\n".join(lines)


HEAD = """# Known defects, and what the hunt makes of them

Each row is the village's own policy with one defect put back: those of its predecessor (`g..`), and published bugs of
Raft. *Seeds to find* is the median number of seeds from one finding to the next, in the arena's general swarm of
faults, counted only where the named check caught it. The first case of each is shrunk. Made by
`twin hunt defects out=docs/defects.md`.

"""


def page(rows: Sequence[Row]) -> str:
    """Return the page of all defects."""
    return HEAD + table(rows) + "\n"
