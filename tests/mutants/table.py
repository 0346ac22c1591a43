"""The museum's table: ``python -m tests.mutants.table`` writes docs/mutants.md."""

from __future__ import annotations

from pathlib import Path

from tests.mutants.hunted import SEEDS, Met, results
from tests.mutants.hunts import ARENA, UNMET
from tests.mutants.museum import ABSENT, MUTANTS
from tests.mutants.record import Mutant

PAGE = Path(__file__).parents[2] / "docs" / "mutants.md"
HEAD = f"""# The bug museum

Published bugs of agreement, and defects of the village's predecessor, each put into our own policy as a small mutation.
`tests/mutants` runs a frozen scenario twice: the policy as it is passes, and with the mutation the property fails.
Properties S1 to S19 and L1 to L7 are those of [consensus_checks.md](consensus_checks.md); those without a number say
themselves what must hold.

*Killed by* names the layers that kill the mutant: `scripted` is the frozen scenario, step by step or a few virtual
seconds; `Twins` a schedule with twins of a member; `Hypothesis` the state machine that looks for short programs; `hunt`
random faults in the arena of that name. *Seeds to kill* is the median number of seeds from one meeting to the next in
the hunt's general swarm, which knows nothing of the mutant, and the promise that broke most often; at most {SEEDS}
seeds were tried, or as many as the table says. Where it is `-` the mutant was not hunted. What a hunt did not meet the
frozen scenario kills; why chance does not is said below. In the arena `registry` a protocol that has the bug takes
every turn.

Written by `python -m tests.mutants.table`; the seeds were counted by `python -m tests.mutants.hunted`.

"""
COLUMNS = "| id | bug | source | killed by | property | seeds to kill |\n|---|---|---|---|---|---|\n"


def layers(mutant: Mutant, met: Met | None) -> str:
    """Return the layers that kill a mutant."""
    hunt = (f"hunt ({ARENA[mutant.key]})",) if met is not None and met.hits else ()
    return ", ".join((mutant.layer, *mutant.also, *hunt))


def seeds(met: Met | None) -> str:
    """Return how many seeds a hunt takes."""
    if met is None:
        return "-"
    return f"{met.median:g} (of {met.seeds}: {met.hits}), `{met.check}`" if met.hits else f"not in {met.seeds}"


def page() -> str:
    """Return the page."""
    met = results()
    rows = [
        f"| {m.id} | {m.what} | {m.source} | {layers(m, met.get(m.key))} | {m.property} | {seeds(met.get(m.key))} |\n"
        for m in MUTANTS
    ]
    unmet = [f"| {m.id} | {m.what} | {ARENA.get(m.key, '-')} | {UNMET[m.key]} |\n" for m in MUTANTS if m.key in UNMET]
    absent = [f"| {a.id} | {a.what} | {a.source} | {a.why} |\n" for a in ABSENT]
    return (
        f"{HEAD}{COLUMNS}{''.join(rows)}\n## What a general hunt does not meet\n\n"
        f"| id | bug | arena | why |\n|---|---|---|---|\n{''.join(unmet)}\n## What cannot be put into our protocols\n\n"
        f"| id | bug | source | why |\n|---|---|---|---|\n{''.join(absent)}"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
