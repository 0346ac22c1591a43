"""The committee's replicated state as its nodes report it; it answers the questions a state in memory answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.port import Policy
from policies.state import VillageState


@dataclass(frozen=True)
class Replica:
    """One committee member's `policies.state.VillageState`, as far as checks and manifest ask.

    Attributes:
        applied: number of commands applied.
        state_digest: digest of the whole state.
        ledger: node to token-layers earned.
        earned: token-layers of all settled receipts.
        balances: account to micro-credits.
        wrong_books: which law of the ledger does not hold there, or "".
    """

    applied: int
    state_digest: str
    ledger: dict[str, int]
    earned: int
    balances: dict[str, int]
    wrong_books: str

    def digest(self) -> str:
        """Return the digest of the whole state."""
        return self.state_digest


def report(policies: Mapping[str, Policy]) -> dict[str, Any]:
    """Return what a node tells of its replicated state; nothing if it is on no committee."""
    state = getattr(policies.get("coordination"), "state", None)
    if not isinstance(state, VillageState):
        return {}
    return {
        "applied": state.applied, "state_digest": state.digest(), "ledger": state.ledger, "earned": state.earned,
        "balances": state.balances, "wrong_books": state.wrong_books,
    }  # fmt: skip


def replicas(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Replica]:
    """Return the replica of each node that told of one."""
    return {name: Replica(**state["replica"]) for name, state in states.items() if state.get("replica")}


def ledger(found: Mapping[str, Replica]) -> dict[str, int]:
    """Return the most advanced ledger, those who earned most first; empty without a committee."""
    if not found:
        return {}
    newest = max(found.values(), key=lambda replica: replica.applied).ledger
    return dict(sorted(newest.items(), key=lambda item: (-item[1], item[0])))
