"""Everything in the museum, and what of the catalogue has no place in it."""

from __future__ import annotations

from tests.mutants import (
    clocks,
    hotstuff,
    hotstuff_belief,
    hotstuff_rules,
    membership,
    pbft,
    raft,
    raft_logs,
    raft_world,
    village,
)
from tests.mutants.record import Absent, Mutant

CATALOGUE = (
    *(f"R{k}" for k in range(1, 16)), *(f"B{k}" for k in range(1, 14)), "M1",
    "G02", "G05", "G14", "G19", "G24", "G26", "G27", "G39",
)  # fmt: skip
"""Published bugs of crash-tolerant (R) and Byzantine (B) protocols and of membership (M), and those defects of the
village's predecessor (G) that concern agreement, membership and the ledger."""

ABSENT = (
    Absent(
        "B4", "hidden lock of Sync HotStuff", "arXiv 2310.09006",
        "no replicated log of ours rests on a known bound of delays; the two-phase lock of the same paper is above",
    ),
    Absent(
        "B6", "Zyzzyva is not safe, FaB not live", "arXiv 1712.01367",
        "nothing is executed before it is committed, and there is no fast path whose traces a new view has to read",
    ),
    Absent(
        "B7", "view change of hBFT", "byzzbench", "hBFT executes before it commits; ours do not",
    ),
    Absent(
        "B9", "a member signs while it still fetches blocks", "cometbft pull request 5953",
        "fetching is no mode of a member: it votes by one rule and one saved promise, whatever it lacks",
    ),
    Absent(
        "B12", "a vote counts in another log of the same founders", "mutation",
        "a log is named by its founders, in their order: what the same ones found again is the same log to them",
    ),
)  # fmt: skip

MUTANTS: tuple[Mutant, ...] = tuple(
    sorted(
        (
            *raft.MUTANTS,
            *raft_logs.MUTANTS,
            *raft_world.MUTANTS,
            *hotstuff_rules.MUTANTS,
            *hotstuff.MUTANTS,
            *hotstuff_belief.MUTANTS,
            *clocks.MUTANTS,
            *pbft.MUTANTS,
            *membership.MUTANTS,
            *village.MUTANTS,
        ),
        key=lambda mutant: CATALOGUE.index(mutant.id),
    )
)
