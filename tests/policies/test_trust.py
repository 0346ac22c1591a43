"""Audits weighted by trust: suspects are run twice more often, and a liar is out sooner."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.coordination.examined import INTERRUPTED, ODDS, PROVED
from policies.coordination.requests import STRIKES_MAX
from policies.coordination.trust import MISTAKEN, PRIOR, Trust
from policies.work import SettledOp
from tests.policies.small_village import RULES, SmallVillage, ready

NODES = st.sampled_from([("a",), ("b",), ("a", "b"), ("b", "c", "d")])


@given(st.lists(st.tuples(st.booleans(), NODES), max_size=20), st.floats(0.0, 1.0))
def test_nobody_is_audited_less_than_the_village_asks(
    history: list[tuple[bool, tuple[str, ...]]], share: float
) -> None:
    """Whatever happened, a rate is at least the village's, at most all, and none where no audits are asked for."""
    trust = Trust()
    for lost, nodes in history:
        (trust.lost if lost else trust.passed)(nodes)
    for nodes in [("a",), ("b", "c"), ("z",)]:
        assert share <= trust.audit_share(nodes, share, STRIKES_MAX) <= 1.0
    assert trust.audit_share(("a", "b"), 0.0, STRIKES_MAX) == 0.0
    assert trust.audit_share(("z",), share, STRIKES_MAX) == share


def test_blame_is_shared_by_a_pipeline_and_lived_down() -> None:
    """Bayes by hand: one of three is the liar; alone, hardly anybody else can be; passed audits bring trust back."""
    trust = Trust()
    trust.lost(("a", "b", "c"))
    trust.lost(("d",))
    others = 1 - (1 - PRIOR) ** 2

    assert trust.lies("a") == pytest.approx(PRIOR / (PRIOR + (1 - PRIOR) * others))
    assert trust.lies("d") > 0.9
    assert trust.lies("e") == PRIOR
    for _ in range(20):
        trust.passed(("a",))
    assert trust.lies("a") == PRIOR
    assert trust.audit_share(("a",), 0.02, STRIKES_MAX) == 0.02 < trust.audit_share(("b",), 0.02, STRIKES_MAX)


def lies_before_eviction(seed: int) -> int:
    """Ask a village with one lying worker of three, until it is evicted; return how many lies were settled."""
    village: SmallVillage = ready(3, rules=msgspec.structs.replace(RULES, audit_share=0.05), seed=seed)
    village.desk.liars = {"w1"}
    for number in range(400):
        village.ask(str(number))
        village.run(2.0)
        if village.state.members == {"w1": False, "w2": True, "w3": True}:
            break
    assert village.state.members == {"w1": False, "w2": True, "w3": True}
    return sum(s.output != f"answer to p{s.op_id}" for s in village.seen(SettledOp))


def test_a_liar_tells_fewer_lies_before_it_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With trust, fewer falsified answers are settled than at the same rate for all; honest workers stay members."""
    weighted = sum(lies_before_eviction(seed) for seed in range(4))
    monkeypatch.setattr(Trust, "audit_share", lambda self, nodes, share, strikes: share)
    flat = sum(lies_before_eviction(seed) for seed in range(4))

    assert 0 < weighted < 0.5 * flat


def test_what_honest_workers_earn_too_weighs_as_much_as_it_is_rare() -> None:
    """Bayes by hand for each word of a check: a place proved false is a thousand to one, an interruption twenty."""
    for word, honest in (("outputs", MISTAKEN), ("withheld", MISTAKEN), ("apart", PRIOR), ("forgotten", INTERRUPTED)):
        trust = Trust()
        trust.suspected("a", ODDS.get(word, MISTAKEN))
        assert trust.lies("a") == pytest.approx(PRIOR / (PRIOR + (1 - PRIOR) * honest)), word
    assert ODDS["unbound"] == ODDS["slow"] == ODDS["kept_back"] == INTERRUPTED
    assert not set(ODDS) & set(PROVED)
