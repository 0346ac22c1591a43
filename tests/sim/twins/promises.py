"""What is asked of HotStuff in a Twins scenario."""

from __future__ import annotations

from typing import Literal

from scenarios.checks import Check, byzantine, consensus
from scenarios.checks.votes import HOTSTUFF

MEMBERS = ("n0", "n1", "n2", "n3")


def promises(chain: Literal[2, 3]) -> tuple[Check, ...]:
    """Everything that is asked of a run with n0 twinned."""
    lock = (byzantine.LockIsKept(HOTSTUFF),) if chain == 3 else ()
    return (
        consensus.one_leader_per_term(), consensus.committed_entries_agree(), consensus.commits_in_order(),
        *byzantine.safety(MEMBERS, {"n0"}, HOTSTUFF), *lock, *byzantine.rare(),
    )  # fmt: skip
