"""A lost attempt's tokens: the next attempt begins with them, except where they must not be believed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.commands import Accept
from policies.coordination.efforts import Effort, Vote
from policies.gateway import Part
from policies.wire import encode
from policies.work import Emitted, Report
from tests.policies.small_village import RULES, SmallVillage, ready

NEW_TOKENS = 20


def effort(new_tokens: int = NEW_TOKENS) -> Effort:
    """Return what is owed to a request."""
    return Effort(Accept("anna", "1", "m", "p", "k1", 8, new_tokens, 1, 0, 0))


positions = st.integers(0, 3) | st.integers(-2, NEW_TOKENS + 2)  # most overlap, some are far off or not allowed
told = st.tuples(positions, st.lists(st.integers(0, 9), max_size=NEW_TOKENS).map(tuple))


@given(st.lists(told, max_size=12))
def test_emitted_tokens_never_change(said: list[tuple[int, tuple[int, ...]]]) -> None:
    """Whatever attempts tell, and in whatever order, what was known stays, and each token stands where it was told."""
    one = effort()
    for position, tokens in said:
        before = list(one.emitted)
        one.emit(position, tokens)
        assert one.emitted[: len(before)] == before
        assert len(one.emitted) <= NEW_TOKENS
        new = one.emitted[len(before) :]
        assert new == list(tokens[len(before) - position :][: len(new)])


@given(st.lists(st.integers(0, 9), max_size=NEW_TOKENS), st.integers(1, NEW_TOKENS))
def test_one_token_is_left_to_decide(tokens: list[int], new_tokens: int) -> None:
    """The forced tokens are the first emitted ones, and fewer than were asked for."""
    one = effort(new_tokens)
    one.emit(0, tuple(tokens[:new_tokens]))
    forced = one.forced(0.0)
    assert list(forced) == tokens[: len(forced)]
    assert len(forced) == min(len(tokens), new_tokens - 1)


def test_an_audit_decides_all_by_itself() -> None:
    """Neither a request that will be run twice nor one that has an answer already takes over anybody's tokens."""
    one = effort()
    one.emit(0, (1, 2))
    assert one.forced(0.0) == (1, 2)
    assert one.forced(1.0) == ()
    one.votes["output", 4] = [Vote(("w1",), None)]  # type: ignore[arg-type]
    assert one.forced(0.0) == ()


def lost(village: SmallVillage, head: str, attempt: int, emitted: tuple[int, ...] = ()) -> None:
    """The head of an attempt says that it is lost."""
    report = Report("anna", "1", village.attempt(attempt), "fell over", "", "", 0, 0, b"", emitted)
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(report)))


def under_way(audit_share: float, stream: bool = False) -> tuple[SmallVillage, str]:
    """Return a village whose only request runs for ever, and the head of its pipeline."""
    village = ready(2, rules=msgspec.structs.replace(RULES, audit_share=audit_share, stream=stream))
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, _),) = village.running
    return village, head


@pytest.mark.parametrize("audit_share", [0.0, 1.0])
@pytest.mark.parametrize("how", ["reported", "streamed"])
def test_the_next_attempt_begins_where_the_lost_one_ended(how: str, audit_share: float) -> None:
    """It has the tokens its head reported, or streamed before it fell silent; an audited request has none."""
    village, head = under_way(audit_share)
    if how == "streamed":
        said = Emitted("anna", "1", village.attempt(1), 0, (4, 5))
        village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(said)))
        village.crash(head)
        village.run(30.0)
    else:
        lost(village, head, 1, (4, 5))
        village.run(1.0)

    (job,) = [job for (node, _), job in village.running.items() if node != head]
    assert job.forced == (() if audit_share else (4, 5))


def test_nobody_but_the_head_can_say_what_was_decided() -> None:
    """Tokens that another worker reports as the attempt's are taken from it by no attempt."""
    village, head = under_way(0.0)
    other = next(name for name in village.workers if name != head)
    lost(village, other, 1, (9, 9))
    lost(village, head, 1)
    village.run(1.0)

    (job,) = [job for (node, _), job in village.running.items() if node == other]
    assert job.forced == ()


def test_a_head_that_cannot_account_for_its_answer_is_not_believed_about_parts_of_it() -> None:
    """After a forged report the request begins anew."""
    village, head = under_way(0.0)
    said = Emitted("anna", "1", village.attempt(1), 0, (4, 5))
    forged = Report("anna", "1", village.attempt(1), "", "", "lie", 4, 0, bytes(64))
    for message in (said, forged):
        village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(message)))
    village.run(1.0)

    (job,) = [job for (node, _), job in village.running.items() if node != head]
    assert job.forced == ()


def test_a_client_that_listens_hears_the_tokens_of_a_lost_attempt() -> None:
    """They may be more than were streamed, and the next attempt does not tell them again."""
    village, head = under_way(0.0, stream=True)
    lost(village, head, 1, (4, 5))
    village.run(1.0)
    assert Part(0, (4, 5)) in village.answers("1")


def test_a_village_that_does_not_stream_keeps_the_tokens_to_itself() -> None:
    """They are for the next attempt; the client hears the outcome alone, also when it asks again."""
    village, head = under_way(0.0)
    said = Emitted("anna", "1", village.attempt(1), 0, (4, 5))
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(said)))
    lost(village, head, 1, (4, 5, 6))
    village.run(1.0)
    village.ask("1")
    village.run(1.0)
    assert village.answers("1") == []
    assert [job.forced for (node, _), job in village.running.items() if node != head] == [(4, 5, 6)]
