"""Tests of models.links.replay against a naive walk through the trace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.links.replay import RateTrace

TRACE = RateTrace(np.array([0.0, 1.0, 3.0, 4.0]), np.array([10.0, 0.0, 30.0]))


def test_transfers_by_hand() -> None:
    """10 bytes in the first second, none for two, 30 in the last; then again. A plateau is not waited out."""
    assert TRACE.end_s(0.0, [0.0, 5.0, 10.0, 11.0, 40.0, 45.0]) == pytest.approx([0.0, 0.5, 1.0, 3 + 1 / 30, 4.0, 4.5])
    assert float(TRACE.end_s(2.0, 15.0)) == pytest.approx(3.5)
    assert float(TRACE.end_s(401.5, 80.0)) == pytest.approx(409.0)
    assert TRACE.rate_bytes_per_s([0.0, 1.0, 3.5, 4.0]).tolist() == [10.0, 0.0, 30.0, 10.0]


@given(
    st.lists(st.tuples(st.floats(0.1, 9.0), st.sampled_from([0.0, 1.0, 7.5, 1e6])), min_size=1, max_size=8),
    st.floats(0.0, 60.0),
    st.floats(1e-3, 1e7),
)
def test_what_was_carried_by_the_end_is_the_size(steps: list[tuple[float, float]], start: float, size: float) -> None:
    """The rate's integral from start to end is the size, and a moment earlier it was less."""
    trace = RateTrace(np.concatenate([[0.0], np.cumsum([s[0] for s in steps])]), np.array([s[1] for s in steps]))
    end = float(trace.end_s(start, size))
    if not np.any(trace.bytes_per_s):
        assert end == np.inf
        return
    carried = trace.carried_bytes([start, end, max(start, end - 1e-3)])

    assert carried[1] - carried[0] == pytest.approx(size, rel=1e-6, abs=1e-5 * trace.bytes_per_s.max())
    assert carried[2] <= carried[1]


def test_a_dead_trace_never_ends() -> None:
    """Over a rate that is always 0 nothing arrives, unless there is nothing to send."""
    dead = RateTrace(np.array([0.0, 1.0]), np.array([0.0]))

    assert dead.end_s(3.0, [1.0, 0.0]).tolist() == [np.inf, 3.0]


@pytest.mark.parametrize(
    ("times", "rates", "text"),
    [([0.0, 1.0, 1.0], [1.0, 1.0], "do not rise"), ([0.0, 1.0], [-1.0], "is -1.0"), ([0.0], [], "at least 2")],
)
def test_what_is_no_trace_is_named(times: list[float], rates: list[float], text: str) -> None:
    """Times that stand still, negative rates and empty traces are refused."""
    with pytest.raises(ValueError, match=text):
        RateTrace(np.array(times), np.array(rates))
