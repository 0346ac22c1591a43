"""Sessions and registers: once, in order, bounded, and forgotten alike on every member."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.commands import Add, CompareAndSet, Configure, InSession, Operation, Put
from policies.state import VillageState, configuration, sessions
from policies.state.configuration import VALUE_BYTES_MAX, Configuration, Result
from tests.policies.strategies import believe, operations


def do(state: VillageState, client: str, sequence: int, operation: Operation, seen: int = 10**6) -> Result | None:
    """Apply an operation in a session; return the reply that the client would hear."""
    state.apply(InSession(client, sequence, seen, operation), believe)
    return state.sessions.reply(client, sequence)


@given(st.lists(st.tuples(st.sampled_from(["anna", "ben"]), operations, st.integers(1, 3)), max_size=20))
def test_what_is_proposed_many_times_happens_once(history: list[tuple[str, Operation, int]]) -> None:
    """A log with every operation up to three times leaves the registers, and gives the replies, of one without."""
    once, often = VillageState(), VillageState()
    number = {"anna": 0, "ben": 0}
    for client, operation, times in history:
        number[client] += 1
        expected = once.configuration.apply(operation)
        for _ in range(times):
            assert do(often, client, number[client], operation) == expected

    assert often.configuration.saved() == once.configuration.saved()


def test_an_operation_out_of_turn_is_not_done() -> None:
    """A gap, and an older number, change nothing; the reply that is kept is the last one's."""
    state = VillageState()
    assert do(state, "anna", 2, Put("x", 1)) is None
    assert do(state, "anna", 1, Put("x", 1)) == Result(True, 1, 1)
    assert do(state, "anna", 2, Put("x", 2)) == Result(True, 2, 2)
    assert do(state, "anna", 1, Put("x", 3)) is None
    assert do(state, "a" * 200, 1, Put("x", 3)) is None
    assert state.configuration.get("x") == Result(True, 2, 2)


def test_the_session_idle_longest_is_forgotten_and_its_late_copies_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two: a third client's first operation ends the session of the one that was idle longest."""
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 2)
    state = VillageState()
    do(state, "anna", 1, Add("x", 1), seen=0)
    do(state, "ben", 1, Add("x", 1), seen=0)
    do(state, "anna", 2, Add("x", 1), seen=2)
    do(state, "cleo", 1, Add("x", 1), seen=3)
    assert list(state.sessions.by_client) == ["anna", "cleo"]

    assert do(state, "ben", 1, Add("x", 1), seen=1) is None  # proposed before command 2, which was ben's, was seen
    assert do(state, "ben", 2, Add("x", 1), seen=9) is None
    assert state.configuration.get("x").value == 4
    assert do(state, "dora", 1, Add("x", 1), seen=4) == Result(True, 5, 5)


def test_a_stale_change_of_configuration_is_refused() -> None:
    """Of two changes decided for one version the first is made, and the second hears what stands there now."""
    state = Configuration()

    assert state.apply(Configure("lease_s", "60", 0)) == Result(True, "60", 1)
    assert state.apply(Configure("lease_s", "30", 1)) == Result(True, "30", 2)
    assert state.apply(Configure("lease_s", "90", 1)) == Result(False, "30", 2)
    assert state.apply(Configure("tries", "4", 1)) == Result(False, None, 0)


def test_registers_hold_words_and_numbers_and_tell_them_apart() -> None:
    """A comparison is by value and kind; a word is not added to, and a number does not leave its 64 bits."""
    state = Configuration()
    state.apply(Put("x", 1))

    assert state.apply(CompareAndSet("x", "1", 2)) == Result(False, 1, 1)
    assert state.apply(CompareAndSet("x", 1, 2**63 - 1)) == Result(True, 2**63 - 1, 2)
    assert state.apply(Add("x", 1)) == Result(False, 2**63 - 1, 2)
    assert state.apply(Add("new", -3)) == Result(True, -3, 1)
    state.apply(Put("x", "word"))
    assert not state.apply(Add("x", 1)).ok


def test_registers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name or value that is too large, or one register too many, is refused; those there are can still be written."""
    monkeypatch.setattr(configuration, "REGISTERS_MAX", 1)
    state = Configuration()

    assert not state.apply(Put("x", "é" * VALUE_BYTES_MAX)).ok
    assert not state.apply(Put("", 1)).ok
    assert not state.apply(Put("k" * 129, 1)).ok
    assert state.apply(Put("x", "v" * VALUE_BYTES_MAX)).ok
    assert not state.apply(Put("y", 1)).ok
    assert state.apply(Put("x", 2)).ok
