"""The checks of a council: each is kept by what is right, and broken by the one thing that it is there to see."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies.commands import Facts
from policies.config import CommitteeConfig, CouncilConfig
from policies.consensus.hotstuff.epoch import TERMS
from policies.council import Convicted
from policies.local import Configured
from policies.state.council import Decision
from policies.wire import Message, encode
from policies.work import FoundFalse
from scenarios.checks import Checks, VillageChecks, council
from scenarios.checks.checking import FOUND_FALSE
from scenarios.checks.village import Council
from scenarios.council import Electorate

FOUNDERS = ("n0", "n1", "n2", "n3")
FACTS = {f"n{k}": Facts("tee", f"as{k % 6}", f"v{k % 3}", f"r{k % 4}", f"c{k % 2}") for k in range(9)}
HEALED = "healed"


def decision(epoch: int, members: str = "1235", **fields: Any) -> tuple[str, str, Message]:
    """n0 decides on the devices of these digits; all others stand by."""
    chosen = tuple(f"n{k}" for k in members)
    rest = tuple(sorted(set(FACTS) - set(chosen)))
    made = Decision(epoch, 10 * epoch, chosen, rest, "", 9, 2, 166_666_667, 4, 666_666_668)
    return "n0", "decision", msgspec.structs.replace(made, **fields)


def seated(members: str) -> tuple[str, str, Message]:
    """The log of n0 has these members."""
    _, _, made = decision(1, members)
    assert isinstance(made, Decision)
    return "n0", "seated", Configured(5, made.members, made.learners)


def convicted(node: str, command: int) -> tuple[str, str, Message]:
    """n0 sees somebody convicted."""
    return "n0", "convicted", Convicted(node, command)


def ask(check: Any, *events: Any) -> str:
    """Return what broke the check."""
    checks = Checks(check)
    for now, event in enumerate(events):
        if event == HEALED:
            checks.tell(now, "", HEALED)
        else:
            checks.decided(now, event[0], "council", event[1], encode(event[2]))
    checks.end(99)
    return str(check.broken)


def lawful() -> council.CommitteesAreLawful:
    """The check of rules, of nine devices that four of them founded."""
    return council.CommitteesAreLawful(FACTS, CommitteeConfig(), FOUNDERS)


GOOD = (HEALED, decision(1), seated("1235"), decision(2, "2356"), seated("2356"))


@pytest.mark.parametrize(
    ("check", "right", "wrong", "says"),
    [
        (council.one_committee_per_epoch, GOOD, (decision(1), decision(1, "1236")), "another decided n1, n2, n3, n5"),
        (council.one_committee_per_epoch, GOOD, (decision(1), decision(1, command=11)), "by command 11"),
        (council.one_committee_per_epoch, GOOD, (decision(1), decision(1, failure_ppb=1)), "another decided"),
        (lawful, GOOD, (decision(1, "0236"),), "of network"),
        (lawful, GOOD, (decision(1, "0246"),), "country"),
        (lawful, GOOD, (decision(1, "123"),), "of size"),
        (lawful, GOOD, (decision(1, ""),), "network, vendor, region, country, size"),
        (lawful, GOOD, (decision(1, "1239"),), "n9, who never stood"),
        (
            lawful, (decision(1, "0123", reason="none"), decision(2), decision(3, reason="none")),
            (decision(1, "4567", reason="none"),), "but gives a reason to keep n0, n1, n2, n3",
        ),
        (
            lawful, (decision(4, "4567", reason="none"), *GOOD, decision(3, "2356", reason="none")),
            (*GOOD, decision(3, "1235", reason="none")), "but gives a reason to keep n2, n3, n5, n6",
        ),
        (
            council.TheGuiltySitNoMore, (*GOOD, convicted("n5", 25), decision(3, "1236")),
            (convicted("n5", 5), decision(1)), "but n5 was convicted by command 5",
        ),
        (
            council.TheGuiltySitNoMore, (convicted("n5", 5), decision(1, reason="nobody else")),
            (convicted("n2", 15), decision(2)), "but n2",
        ),
        (lambda: council.convicts_only({"n5"}), (convicted("n5", 5),), (convicted("n4", 5),), "n4, who did nothing"),
        (lambda: council.OnlyTheChosenSit(FOUNDERS), GOOD, (decision(1), seated("1236")), "whom nobody decided on"),
        (
            lambda: council.CommitteesTakeOffice(2), GOOD, (HEALED, *map(decision, (1, 2, 3))),
            "epoch 3 begins, and the committee of 1 never sat",
        ),
        (lambda: council.CommitteesTakeOffice(2), GOOD, (HEALED, decision(1)), "1 epochs began after the faults, of 2"),
    ],
)  # fmt: skip
def test_what_is_right_is_kept_and_what_is_wrong_is_named(check: Any, right: Any, wrong: Any, says: str) -> None:
    """The breach says who and what."""
    assert ask(check(), *right) == ""
    assert says in ask(check(), *wrong)


def test_views_converge_within_the_newest_epoch() -> None:
    """One epoch or one term behind is on the way; two are not."""

    class Member:
        def __init__(self, epoch: int, term: int) -> None:
            self.term = epoch * TERMS + term

    check = council.ViewsConvergeInEpochs()
    assert check.lacks({"n0": Member(3, 1), "n1": Member(3, 2), "n2": Member(2, 9)}) == ""
    assert "(epoch, term)" in check.lacks({"n0": Member(3, 1), "n1": Member(3, 3)})
    assert "(epoch, term)" in check.lacks({"n0": Member(3, 1), "n1": Member(1, 1)})


def test_what_a_campaign_must_have_seen_is_seen() -> None:
    """A change of members, a choice that was impossible, a conviction."""
    checks = Checks(*council.rare(FOUNDERS))
    checks.decided(1, "n0", "council", "decision", encode(decision(1, "0123")[2]))
    assert list(checks.sometimes.values()) == [False, False, False]
    for now, event in enumerate((decision(2), decision(3, reason="too few"), convicted("n1", 30))):
        checks.decided(now, event[0], "council", event[1], encode(event[2]))
    assert list(checks.sometimes.values()) == [True, True, True]


def test_who_works_falsely_is_not_who_broke_the_protocol() -> None:
    """Where work is checked and committees are elected, a worker that is put out may sit: its guilt was not proved."""
    rules = CouncilConfig(seats=CommitteeConfig(size=4))
    elected = Council(Electorate(FOUNDERS, tuple(FACTS), FACTS), rules, 0.0, 0.0, looks=False)
    checks = VillageChecks(members=tuple(FACTS), liars=("n5",), council=elected)
    checks.decided(1, "n0", FOUND_FALSE.path, FOUND_FALSE.kind, encode(FoundFalse("n5", 3)))
    checks.decided(2, "n0", "coordination", "decision", encode(decision(2, "2356")[2]))

    broken = {check.name for check in checks.all if check.broken}
    assert broken.isdisjoint({"the_guilty_sit_no_more", "convicts_only_the_faulty", "no_honest_worker_convicted"})
