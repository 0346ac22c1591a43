"""The museum's table: ``python -m tests.mutants.table`` writes docs/mutants.md from what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

from tests.mutants import hunted, tried
from tests.mutants.hunted import Met
from tests.mutants.hunts import ARENA, UNMET
from tests.mutants.museum import ABSENT, MUTANTS
from tests.mutants.tried import HYPOTHESIS, PROGRAMS, ROUNDS, SCENARIO, SCHEDULES, STEPS, TWINS, Layers, Tried

PAGE = Path(__file__).parents[2] / "docs" / "mutants.md"
NEVER = float("inf")
HEAD = f"""# The bug museum

Published bugs of agreement, and defects of the village's predecessor, each put into our own policy as a small mutation.
`tests/mutants` runs a frozen scenario twice: the policy as it is passes, and with the mutation the property fails.
Properties S1 to S19 and L1 to L7 are those of [consensus_checks.md](consensus_checks.md); those without a number say
themselves what must hold.

Four layers were tried, and what each found is measured, not declared. *Scenario* is the frozen one, step by step or a
few virtual seconds, which every pull request plays. *Hypothesis* is the machine of `tests/policies/raft_machine.py`,
given each mutant of Raft: how many programs of up to {STEPS} steps it took, of {PROGRAMS} from one seed. *Twins* are
schedules of four members with a twin, two groups and {ROUNDS} rounds, given each mutant of HotStuff: how many of a
sample of {SCHEDULES}, one of each that differ in names only, the first of them the published attack on Fast-HotStuff.
*Hunt* are random faults in the arena that it names, by the general swarm, which knows nothing of the mutant: the
median number of seeds from one meeting to the next, in {hunted.SEEDS} seeds or as many as the table says. Beside each
number stands the promise that broke, in the hunt that which broke most often. `-` is a layer that has no place for
the mutant. In the arena `registry` a protocol that has the bug takes every turn. What the hunt does not meet the
scenario kills; why chance does not is said below.

Written by `python -m tests.mutants.table` from what `python -m tests.mutants.tried` and `python -m
tests.mutants.hunted` have measured, in two and in about seven minutes of a core.

"""
COLUMNS = "| id | bug | source | property | scenario | Hypothesis | Twins | hunt |\n|---|---|---|---|---|---|---|---|\n"


def _tried(found: Tried | None) -> str:
    if found is None:
        return "-"
    return f"{found.ran}: `{found.broke}`" if found.broke else f"not in {found.ran}"


def _hunted(met: Met | None, arena: str) -> str:
    if met is None:
        return "-"
    if not met.hits:
        return f"{arena}: not in {met.seeds}"
    return f"{arena}: {met.median:g} (of {met.seeds}: {met.hits}), `{met.check}`"


def seeds(key: str, layers: Layers, met: dict[str, Met]) -> dict[str, float]:
    """Return the layers that draw at random and have tried a mutant, and how many seeds each took to meet it."""
    found = {layer: layers[layer][key] for layer in (HYPOTHESIS, TWINS) if key in layers[layer]}
    took = {layer: float(one.ran) if one.broke else NEVER for layer, one in found.items()}
    if key in met:
        took["the hunt"] = met[key].median if met[key].hits else NEVER
    return took


def _count(layers: Layers, met: dict[str, Met]) -> str:
    """Say how many mutants each layer meets, and what the median number of seeds is."""
    took = {mutant.key: seeds(mutant.key, layers, met) for mutant in MUTANTS}
    met_by = {
        layer: [by[layer] < NEVER for by in took.values() if layer in by] for layer in (HYPOTHESIS, TWINS, "the hunt")
    }
    found = ", ".join(f"{layer} meets {sum(of)} of {len(of)}" for layer, of in met_by.items())
    killed = sum(bool(one.broke) for one in layers[SCENARIO].values())
    drawn = [min(by.values()) for by in took.values() if by]
    alone = [by["the hunt"] for by in took.values() if "the hunt" in by]
    every = [min(by.values(), default=NEVER) for by in took.values()]
    text = f"""Of {len(MUTANTS)} mutants the scenarios kill {killed}. Of those that they were given {found}.

    **Seeds to kill**: the median is, over the mutants that a layer which draws at random was given, of the fewest
    seeds, programs or schedules that one of these layers took, without end where none met the mutant. It is
    **{_median(drawn)}** over those {len(drawn)}, {_unmet(drawn)} of them never met. By the hunt alone it is
    {_median(alone)} over the {len(alone)} that were hunted, {_unmet(alone)} of them never met; over all {len(every)},
    where what no such layer has a place for counts as never met, it is {_median(every)}. A frozen scenario draws
    nothing, and counts in none of these numbers."""
    return "\n\n".join(fill(" ".join(one.split()), 120) for one in text.split("\n\n")) + "\n\n"


def _median(of: Iterable[float]) -> str:
    median = statistics.median(of)
    return f"{median:g}" if median < NEVER else "without end"


def _unmet(of: Iterable[float]) -> int:
    return sum(one == NEVER for one in of)


def page() -> str:
    """Return the page."""
    layers, met = tried.results(), hunted.results()
    rows = []
    for m in MUTANTS:
        by = [_tried(layers[layer].get(m.key)) for layer in (HYPOTHESIS, TWINS)]
        cells = (m.id, m.what, m.source, m.property, f"`{layers[SCENARIO][m.key].broke}`", *by,
                 _hunted(met.get(m.key), ARENA.get(m.key, "")))  # fmt: skip
        rows.append(_row(cells))
    unmet = [_row((m.id, m.what, ARENA.get(m.key, "-"), UNMET[m.key])) for m in MUTANTS if m.key in UNMET]
    absent = [_row((a.id, a.what, a.source, a.why)) for a in ABSENT]
    return (
        f"{HEAD}{_count(layers, met)}{COLUMNS}{''.join(rows)}\n## What a general hunt does not meet\n\n"
        f"| id | bug | arena | why |\n|---|---|---|---|\n{''.join(unmet)}\n## What cannot be put into our protocols\n\n"
        f"| id | bug | source | why |\n|---|---|---|---|\n{''.join(absent)}"
    )


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
