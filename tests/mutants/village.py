"""Defects of the village's predecessor in what is agreed on: the ledger, contributions, replicas, accusations.

Each is put into our state machine or our rules; the scenario is a short history of commands, or a small village.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from policies.commands import Accept, Complete, Join, Pay, Payment, Receipt, Vouched
from policies.consensus.hotstuff.evidence import Witness
from policies.consensus.hotstuff.messages import Evidence
from policies.coordination import attempts, efforts
from policies.coordination.efforts import Effort, Vote
from policies.jobs import Stage
from policies.port import Keys
from policies.state import VillageState
from policies.state import ledger as books
from policies.state import rewards as rules
from policies.state.contributions import Contributions
from policies.state.ledger import MICRO, MINT, Entry, Ledger
from policies.state.requests import Requests, key_of
from policies.wire import encode
from policies.work import SettledOp
from scenarios.checks import Checks
from scenarios.checks.byzantine import blames_only
from scenarios.checks.state import LedgerConserved, NoOverdraft
from scenarios.schema import Network
from sim.keys import KeyRing
from tests.mutants.record import Mutant, Patch, require
from tests.policies.consensus.hotstuff.small_log import SmallLog
from tests.policies.small_village import RULES, ready

Scenario = Callable[[type[VillageState]], None]
RING = KeyRing(1)
VERIFY = RING.handle("k1").verify
ASKED = Accept("anna", "1", "m", "p", "n1", 3, 4, 1, 0, 9)
LINE, OTHER = (Stage("a", 0, 2), Stage("b", 2, 4)), (Stage("c", 0, 1), Stage("d", 1, 4))


def complete(tokens: int = 4, line: tuple[Stage, ...] = LINE, signed: bool = True) -> Complete:
    """Return the answer to what was asked, signed by the heads of both its lines, or by nobody."""

    def sign(stages: tuple[Stage, ...]) -> bytes:
        data = encode(Receipt("anna", "1", "out", tokens, stages))
        return RING.signature(stages[0].node, data) if signed else b"trust me"

    return Complete(Receipt("anna", "1", "out", tokens, line), 1, sign(line), Vouched(OTHER, sign(OTHER)))


def village(kind: type[VillageState]) -> VillageState:
    """Return a state in which four nodes have joined and one request is owed."""
    state = kind()
    for command in (*(Join(node) for node in "abcd"), ASKED):
        state.apply(command, VERIFY)
    return state


def require_books(state: VillageState) -> None:
    """The books balance, nobody is overdrawn, and what was minted is what was earned."""
    for check in (LedgerConserved(), NoOverdraft()):
        check.ask({"k1": state})
        require(not check.broken, f"conservation: {check.broken}")


# -- G19: harvest's contributions ------------------------------------------------------------------------------------


def total_stands_still(self: Contributions, receipt: Receipt) -> None:
    """Credit the nodes, and forget the total."""
    total = self.total
    _add(self, receipt)
    self.total = total


_add = Contributions.add


def one_settled_request(kind: type[VillageState]) -> None:
    """A verified answer is settled."""
    state = village(kind)
    assert state.apply(complete(), VERIFY)
    require_books(state)


def first_hour(kind: type[VillageState]) -> None:
    """A node that has earned nothing is paid for an hour of compute: 10 credits, as documented."""
    hour = rules.REFERENCE_TOKEN_LAYERS_PER_H
    executor, verifier = (Receipt("c", "1", "out", hour, (Stage(node, 0, 1),)) for node in "ab")
    paid = dict(rules.rewards(executor, verifier, {}, 50))
    require(paid["a"] == 10 * MICRO, f"documented rates: a first hour pays {paid['a'] / MICRO:g} credits, not 10")


# -- G26: the token system -------------------------------------------------------------------------------------------


def grants_twice(self: Ledger, what: str, amounts: Iterable[Entry]) -> bool:
    """Credit once more what was minted, and add nothing to the supply."""
    credited = tuple(amounts)
    minted = _reward(self, what, credited)
    for account, amount in credited:
        self.balances[account] += amount
    return minted


_reward = Ledger.reward
FEE = 10


def takes_a_fee(self: Ledger, payment: Payment) -> bool:
    """Pay, and take a fee that goes nowhere and may overdraw."""
    paid = _pay(self, payment)
    if paid:
        self.balances[payment.source] -= FEE
    return paid


_pay = Ledger.pay


def pays_again(self: Ledger, payment: Payment) -> bool:
    """Pay whatever was signed, be it signed for an earlier payment."""
    return _pay(self, msgspec.structs.replace(payment, number=self.numbers.get(payment.source, 0) + 1))


def one_payment_twice(kind: type[VillageState]) -> None:
    """a pays b 40 of 100 micro-credits, and the payment is agreed on a second time."""
    state = kind()
    state.credits.reward("reward", [("a", 100)])
    payment = Payment("a", "b", 40, 1)
    signed = Pay(payment, RING.signature("a", encode(payment)))
    for _ in range(2):
        state.apply(signed, VERIFY)
    require(state.balances.get("b", 0) == 40, f"no replay: b was paid {state.balances.get('b', 0)} for a payment of 40")


def a_payment_of_all(kind: type[VillageState]) -> None:
    """a pays b all it has."""
    state = kind()
    state.credits.reward("reward", [("a", 100)])
    payment = Payment("a", "b", 100, 1)
    state.apply(Pay(payment, RING.signature("a", encode(payment))), VERIFY)
    require_books(state)


def more_than_the_supply(kind: type[VillageState]) -> None:
    """The documented supply is 10 billion credits; one micro-credit more is asked for."""
    state = kind()
    state.credits.reward("all", [("a", 10**10 * MICRO)])
    state.credits.reward("more", [("a", 1)])
    minted = -state.balances[MINT]
    require(minted == 10**10 * MICRO, f"supply: {minted} micro-credits were minted, at most {10**10 * MICRO}")


# -- G27: the contribution ledger ------------------------------------------------------------------------------------


class TakesTheCallersWord(VillageState):
    """G27: who reports work says how much it was and who did it."""

    def _genuine(self, command: Complete, accepted: Accept, verify: Any) -> bool:
        return True


def farm(kind: type[VillageState]) -> None:
    """A proposer invents an answer of a thousand tokens, and a line of names that never joined."""
    state = village(kind)
    sybils = tuple(Stage(f"sybil {k}", k, k + 1) for k in range(4))
    state.apply(complete(1000, sybils, signed=False), VERIFY)
    require(not state.ledger, f"nobody supplies its own measure: {state.earned} token-layers are credited to Sybils")


def settles_again(self: Requests, outcome: Complete) -> None:
    """Note the outcome, and leave the request owed."""
    accepted = self.owed[key_of(outcome)]
    _settle(self, outcome)
    self.owed[key_of(outcome)] = accepted


_settle: Any = Requests.settle


def one_answer_twice(kind: type[VillageState]) -> None:
    """The same answer is agreed on twice, as happens whenever a proposer asks again."""
    state = village(kind)
    for _ in range(2):
        state.apply(complete(), VERIFY)
    require(state.earned == 4 * 4, f"no replay: {state.earned} token-layers are credited for 16")


# -- G24: replicas that must agree -----------------------------------------------------------------------------------


class Pooled(dict[str, list[Vote]]):
    """Votes for whatever output, in one place."""

    def setdefault(self, output: str, votes: list[Vote] | None = None) -> list[Vote]:  # type: ignore[override]
        return super().setdefault("any output", [])


class CountsAnswers(Effort):
    """G24: two answers are a majority, be they equal or not."""

    def __init__(self, accepted: Accept, lot: float) -> None:
        super().__init__(accepted, votes=Pooled(), lot=lot)


def two_of_three(kind: object) -> None:
    """One of three workers lies; every request is run twice, and once more where the two differ."""
    small = ready(3, rules=msgspec.structs.replace(RULES, audit_share=1.0))
    small.desk.liars = {"w1"}
    for number in range(3):
        small.ask(str(number))
        small.run(8.0)
    lies = [op.output for op in small.seen(SettledOp) if op.output.startswith("lie")]
    require(not lies, f"only equal answers settle: {lies[:1]} was settled")


# -- G39: detectors --------------------------------------------------------------------------------------------------


def flags_duplicates(
    self: Witness, voter: str, epoch: int, view: int, block: bytes, signature: bytes, keys: Keys
) -> Evidence | None:
    """Accuse whoever is heard twice in a view, and of the same thing."""
    seen = self.seen.setdefault(voter, {})
    if view in seen and voter not in self.accused:
        self.accused.add(voter)
        return Evidence(voter, self.log, epoch, view, seen[view], (block, signature))
    seen[view] = (block, signature)
    return None


def honest_run(kind: object) -> None:
    """Four honest members on a network that duplicates a tenth of all messages."""
    log = SmallLog(4, network=Network(backbone_s=0.002, loss=0.0, duplicate=0.1))
    checks = Checks(blames_only(()))
    log.cluster.world.on_decide.append(
        lambda now, node, e: checks.decided(now, node.name, e[1], e[2], e[3])  # type: ignore[arg-type,return-value]
    )
    log.run(1, every=0.1, at=log.members)
    require(checks.first_broken is None, f"S16: {checks.checks[0].broken}")


def _village(
    id: str, what: str, source: str, property: str, scenario: Callable[..., None], broken: str,
    *patches: Patch, wrong: type[VillageState] = VillageState,
) -> Mutant:  # fmt: skip
    return Mutant(id, what, f"village, {source}", property, scenario, VillageState, wrong, broken, patches)


MUTANTS = (
    _village(
        "G19", "the total is never credited", "harvest", "conservation", one_settled_request, "conservation",
        (Contributions, "add", total_stands_still),
    ),
    _village(
        "G19", "the multiplier is always 2", "harvest", "documented rates", first_hour, "documented rates",
        (rules, "bisect_right", lambda tiers, earned: tiers.index(2000) + 1),
    ),
    _village(
        "G24", "two answers settle, equal or not", "replicas of a service level", "only equal answers settle",
        two_of_three, "only equal answers", (efforts, "Effort", CountsAnswers),
        (attempts, "vouched", lambda votes: votes[0].answer),
    ),
    _village(
        "G26", "a grant is credited twice and not added to the supply", "FogTokenSystem", "conservation",
        one_settled_request, "conservation", (Ledger, "reward", grants_twice),
    ),
    _village(
        "G26", "a fee overdraws, and vanishes", "FogTokenSystem", "conservation", a_payment_of_all, "conservation",
        (Ledger, "pay", takes_a_fee),
    ),
    _village(
        "G26", "what was signed once counts again", "FogTokenSystem", "S18, no replay", one_payment_twice, "no replay",
        (Ledger, "pay", pays_again),
    ),
    _village(
        "G26", "a bound in one unit is compared in another", "FogTokenSystem", "supply", more_than_the_supply, "supply",
        (books, "SUPPLY_MAX", 10**10 * MICRO * MICRO),
    ),
    _village(
        "G27", "the caller supplies its own measure", "ContributionLedger", "nobody supplies its own measure", farm,
        "nobody supplies its own measure", wrong=TakesTheCallersWord,
    ),
    _village(
        "G27", "a report that comes again is credited again", "ContributionLedger", "S18, no replay", one_answer_twice,
        "no replay", (Requests, "settle", settles_again),
    ),
    _village(
        "G39", "duplicates are taken for contradictions", "Byzantine detectors", "S16", honest_run, "S16",
        (Witness, "saw", flags_duplicates),
    ),
)  # fmt: skip
