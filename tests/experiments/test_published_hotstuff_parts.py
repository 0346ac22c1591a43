"""Why one row of the published table of HotStuff is off: the bounds that the page gives."""

from __future__ import annotations

import pytest

from experiments.published.hotstuff_parts import constants, line_ms, longest_ms, parts

WITHIN = 0.25


def test_no_constant_that_fitted_rows_allow_meets_both_16_and_128_members() -> None:
    """The ways that we assume are too long for the row of 16; all that 4 members leave is too short for that of 128."""
    bound = constants(WITHIN)

    assert bound["seen"] < bound["least"] < bound["most"] < bound["ours"]


@pytest.mark.parametrize(("n", "name"), [(16, "most"), (128, "least")])
def test_a_bound_is_where_the_row_is_just_met(n: int, name: str) -> None:
    """With the bound's constant a view is as long as it may be; the line goes through the fitted row whatever it is."""
    bound = constants(WITHIN)[name]

    assert line_ms(n, bound) == pytest.approx(longest_ms(n, WITHIN))
    assert line_ms(32, bound) == pytest.approx(line_ms(32, 0.0))


@pytest.mark.nightly
def test_at_16_members_ways_are_the_largest_part_of_a_view() -> None:
    """Without them a view is shorter than without any other cost; without steps it is as long as with them, nearly."""
    (_, whole), *rest = parts()
    gone = {name: whole - left for name, left in rest}

    assert max(gone, key=gone.__getitem__) == "the ways between members"
    assert 0 <= gone["steps"] < 0.01 * whole
