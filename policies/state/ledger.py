"""The ledger: double-entry accounts in micro-credits.

Every posting moves amounts between accounts and sums to zero, so the sum of all balances is zero for ever. Credits
come into being as the debt of one account, the mint, and no other account may go below zero. A payment carries its
account's next number, so that one signature pays once, however often it is proposed.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from policies.commands import Payment
from policies.state.part import Part
from policies.wire import encode

MICRO = 1_000_000
"""Micro-credits in a credit: integers, so that nothing is lost to rounding on any machine."""
MINT = ""
"""The account that rewards come from; no node is called so. Its balance is minus the supply."""
SUPPLY_MAX = 10**10 * MICRO
"""Documented for the village's token system: at most 10 billion."""

Entry = tuple[str, int]  # (account, micro-credits): above zero is credited, below is debited


class Ledger(Part):
    """Balances, and the chain of postings that led to them.

    Attributes:
        balances: account to micro-credits; a node's account has its name.
        earned: node to micro-credits of all its rewards, whatever it has paid since; their sum is the supply.
        numbers: account to the number of its last payment.
        postings: how many there were.
        chain: digest over all of them in order; who keeps the postings can prove that these are they.
    """

    name = "ledger"
    form = tuple[tuple[Entry, ...], tuple[Entry, ...], tuple[tuple[str, int], ...], int, bytes]

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.earned: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.postings, self.chain = 0, bytes(20)

    @property
    def supply(self) -> int:
        """Micro-credits that exist."""
        return -self.balances.get(MINT, 0)

    def post(self, what: str, entries: Iterable[Entry]) -> bool:
        """Post all entries or none.

        Args:
            what: names the posting in the chain.
            entries: (account, micro-credits); an account may stand there more than once.

        Returns:
            Whether they were posted: they sum to zero, overdraw no account and do not exceed `SUPPLY_MAX`.
        """
        change: dict[str, int] = {}
        for account, amount in entries:
            change[account] = change.get(account, 0) + amount
        if sum(change.values()) or not any(change.values()):
            return False
        after = {account: self.balances.get(account, 0) + amount for account, amount in change.items()}
        if -after.get(MINT, 0) > SUPPLY_MAX or any(b < 0 for account, b in after.items() if account != MINT):
            return False
        self.balances.update(after)
        self.postings += 1
        self.chain = blake2b(self.chain + encode((what, tuple(change.items()))), digest_size=20).digest()
        return True

    def reward(self, what: str, amounts: Iterable[Entry]) -> bool:
        """Mint these amounts; return whether they were: not beyond `SUPPLY_MAX`, and not for the mint itself."""
        credited = tuple(amounts)
        if any(node == MINT for node, _ in credited):
            return False
        if not self.post(what, (*credited, (MINT, -sum(amount for _, amount in credited)))):
            return False
        for node, amount in credited:
            self.earned[node] = self.earned.get(node, 0) + amount
        return True

    def pay(self, payment: Payment) -> bool:
        """Pay from one node's account to another's; return whether it was paid.

        Refused: an amount of zero or less, an overdraft, a number that is not the next one, a payment to oneself.
        """
        source, to, amount = payment.source, payment.to, payment.micro_credits
        if amount <= 0 or MINT in (source, to) or source == to or payment.number != self.numbers.get(source, 0) + 1:
            return False
        if not self.post(f"payment {payment.number}", ((source, -amount), (to, amount))):
            return False
        self.numbers[source] = payment.number
        return True

    def wrong(self) -> str:
        """Return which law of the ledger does not hold, with the numbers, or ""."""
        total, earned = sum(self.balances.values()), sum(self.earned.values())
        if total:
            return f"the balances sum to {total} micro-credits, not to 0"
        if earned != self.supply:
            return f"{self.supply} micro-credits exist, {earned} were earned"
        overdrawn = [account for account, balance in self.balances.items() if account != MINT and balance < 0]
        return f"{overdrawn[0]} is overdrawn: {self.balances[overdrawn[0]]} micro-credits" if overdrawn else ""

    def saved(self) -> Any:
        accounts = (tuple(of.items()) for of in (self.balances, self.earned, self.numbers))
        return *accounts, self.postings, self.chain

    def load(self, saved: Any) -> None:
        balances, earned, numbers, self.postings, self.chain = saved
        self.balances, self.earned, self.numbers = dict(balances), dict(earned), dict(numbers)
        if len(self.balances) < len(balances) or len(self.earned) < len(earned) or len(self.numbers) < len(numbers):
            raise ValueError("an account stands there twice")
        if why := self.wrong():
            raise ValueError(why)
