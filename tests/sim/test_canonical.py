"""Canonical bytes: equal for equal state, different for different state."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.election import AskVote, Lead
from sim.canonical import canonical

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
STATES = st.recursive(
    SCALARS,
    lambda of: st.lists(of) | st.lists(of).map(tuple) | st.dictionaries(st.text(), of) | st.lists(of).map(deque),
)


def described(value: Any) -> Any:
    """Return what tells two states apart, types included, as Python compares it."""
    if isinstance(value, (list, tuple, deque)):
        return type(value), [described(item) for item in value]
    if isinstance(value, dict):
        return dict, [(described(key), described(item)) for key, item in value.items()]
    return type(value), repr(value)


@settings(max_examples=50)
@given(STATES, STATES)
def test_bytes_are_equal_exactly_for_states_of_equal_types_and_values(one: Any, other: Any) -> None:
    """1, True and 1.0 differ, and so do a list and a tuple, and two orders of a dict."""
    assert (canonical(one) == canonical(other)) == (described(one) == described(other))


@given(st.lists(st.text(), unique=True), st.randoms())
def test_the_order_in_which_a_set_was_filled_does_not_matter(items: list[str], random: Any) -> None:
    """Sets and frozen sets are sorted, and told apart."""
    shuffled = random.sample(items, len(items))

    assert canonical(set(items)) == canonical(set(shuffled))
    assert canonical(frozenset(items)) == canonical(frozenset(shuffled))
    assert canonical(set(items)) != canonical(frozenset(items))


class Plain:
    """An object with attributes."""

    def __init__(self, **attributes: int) -> None:
        vars(self).update(attributes)


def test_objects_are_told_apart_by_class_and_attributes() -> None:
    """The order of attributes does not matter; structs of two classes with equal fields differ; arrays are values."""
    assert canonical(Plain(a=1, b=2)) == canonical(Plain(b=2, a=1))
    assert canonical(Plain(a=1)) != canonical(Plain(a=2))
    assert canonical(AskVote(1)) == canonical(AskVote(1))
    assert canonical(AskVote(1)) != canonical(Lead(1))
    assert canonical(np.arange(3)) == canonical(np.array([0, 1, 2]))
    assert canonical(np.arange(3)) != canonical(np.arange(3.0))


def test_what_has_no_canonical_form_is_refused() -> None:
    """A list that contains itself and a generator are refused in one line."""
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(ValueError, match="allowed is state that does not contain itself"):
        canonical(loop)
    with pytest.raises(ValueError, match="allowed is state that can be pickled"):
        canonical(letter for letter in "ab")
