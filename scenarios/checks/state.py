"""Promises of replicated state: books that balance, equal states at equal heights, what is done once is done once.

The numbers of the properties are those of the notes: S12 equal states, S18 sessions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

from policies.registry import Done
from policies.state.ledger import MINT
from policies.work import Credited
from scenarios.checks.language import Event, Look, Same, StateCheck, decided

DONE = decided("registry", "done", Done)
CREDITED = decided("coordination", "credited", Credited)


class OfStates(StateCheck):
    """A promise about the replicated states of members, asked whenever one has applied more.

    Args:
        name: what must hold.
        path: the policy whose ``state`` it is.
    """

    def __init__(self, name: str, path: str = "coordination") -> None:
        super().__init__(name)
        self.path = path
        self.applied: dict[str, int] = {}  # when last looked at

    @abstractmethod
    def judge(self, states: Mapping[str, Any]) -> str:
        """Return what is wrong with these states by node, or ""."""

    def look(self, nodes: Collection[str], policy: Look) -> str:
        found: dict[str, Any] = {node: getattr(policy(node, self.path), "state", None) for node in nodes}
        states = {node: state for node, state in found.items() if state is not None}
        applied = {node: state.applied for node, state in states.items()}
        if applied == self.applied:
            return ""  # a state changes with what is applied alone
        self.applied = applied
        return self.judge(states)

    def ask(self, states: Mapping[str, Any]) -> None:
        """Look at states that were gathered elsewhere."""
        self.events += len(states)
        self.broken = self.broken or self.judge(states)


class LedgerConserved(OfStates):
    """Every ledger sums to what was earned, and all accounts together to zero: nothing appears or vanishes.

    The other laws are asked as well that who takes the books over asks of them (`policies.state.ledger.Ledger.wrong`).
    """

    def __init__(self, path: str = "coordination") -> None:
        super().__init__("ledger_conserved", path)

    def judge(self, states: Mapping[str, Any]) -> str:
        for node, state in states.items():
            total, credits = sum(state.ledger.values()), sum(state.balances.values())
            if total != state.earned:
                return f"{node}: the ledger sums to {total}, {state.earned} token-layers were earned"
            if credits:
                return f"{node}: the accounts sum to {credits} micro-credits, not to 0"
            if state.wrong_books:
                return f"{node}: {state.wrong_books}"
        return ""


class NoOverdraft(OfStates):
    """No account but the mint is below zero, and the mint is not above it."""

    def __init__(self, path: str = "coordination") -> None:
        super().__init__("no_overdraft", path)

    def judge(self, states: Mapping[str, Any]) -> str:
        for node, state in states.items():
            for account, balance in state.balances.items():
                if (balance > 0) if account == MINT else (balance < 0):
                    return f"{node}: account {account or 'mint'} holds {balance} micro-credits"
        return ""


class EqualStates(OfStates):
    """Members that have applied as many commands are in one state, whenever they were there (S12)."""

    def __init__(self, path: str = "coordination") -> None:
        super().__init__("equal_states", path)
        self.first: dict[int, tuple[str, str]] = {}  # commands applied to the first member seen there and its digest

    def judge(self, states: Mapping[str, Any]) -> str:
        for node, state in states.items():
            digest = state.digest()
            first, expected = self.first.setdefault(state.applied, (node, digest))
            if digest != expected:
                return f"{node} and {first} applied {state.applied} commands and differ"
        return ""


def done_once() -> Same:
    """Every member does a client's operation by the same command and to the same result, and never again (S18)."""
    return Same(
        "done_once", DONE, key=lambda e: (e.value.client, e.value.sequence), value=_done,
        says=lambda e, first: f"{e.node} does {e.value.client}/{e.value.sequence} as (command, result) {_done(e)}, "
        f"it was done as {first}",
    )  # fmt: skip


def _done(event: Event) -> tuple[int, object]:
    return event.value.command, event.value.result


def credited_once() -> Same:
    """Every member credits a request by the same command with the same amounts, and never by another one."""
    return Same(
        "credited_once", CREDITED, key=lambda e: (e.value.client, e.value.op_id), value=_credit,
        says=lambda e, first: f"{e.node} credits {e.value.client}/{e.value.op_id} as (command, token-layers, "
        f"micro-credits) {_credit(e)}, it was credited as {first}",
    )  # fmt: skip


def _credit(event: Event) -> tuple[int, int, int]:
    return event.value.command, event.value.token_layers, event.value.micro_credits
