"""Tests of models.links.loss against the chain's closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from models import draws
from models.links.loss import CHANNELS, Channel

CHANNEL = Channel(0.05, 0.4, 0.001, 0.5, "made up")
PACKETS = 400_000


def walk(gap_s: float) -> np.ndarray:
    """Return states at many packets a fixed gap apart."""
    uniforms = draws.uniform(1, "chain", 0, np.arange(PACKETS))
    return CHANNEL.states(False, np.full(PACKETS, gap_s), uniforms)


@pytest.mark.parametrize("gap_s", [0.0, 0.01, 1.0, 30.0])
def test_a_gap_is_the_matrix_exponential(gap_s: float) -> None:
    """The probability to be bad after a gap is that of exp(Q gap), from both states."""
    moves = expm(np.array([[-0.05, 0.05], [0.4, -0.4]]) * gap_s)

    assert CHANNEL.bad_after(np.array([False, True]), gap_s) == pytest.approx(moves[:, 1], abs=1e-12)


def test_two_gaps_are_one() -> None:
    """Advancing over 0.3 s and then 0.7 s is advancing over 1 s (Chapman and Kolmogorov)."""
    assert CHANNEL.bad_after(CHANNEL.bad_after(True, 0.3), 0.7) == pytest.approx(CHANNEL.bad_after(True, 1.0))


def test_long_run_loss_is_the_stationary_one() -> None:
    """Over many packets the share lost is pi h_bad + (1 - pi) h_good, pi = a / (a + b)."""
    lost = CHANNEL.lost(walk(2.0), draws.uniform(1, "packet", 0, np.arange(PACKETS)))

    assert CHANNEL.loss == pytest.approx((0.05 * 0.5 + 0.4 * 0.001) / 0.45)
    assert float(lost.mean()) == pytest.approx(CHANNEL.loss, rel=0.03)


def test_bursts_are_geometric_with_the_chains_mean() -> None:
    """Runs of bad packets have mean 1 / P(bad to good) and the geometric law; in time, 1 / b."""
    bad = walk(0.5)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], bad.astype(int), [0]])))
    runs = edges[1::2] - edges[::2]
    leave = 1.0 - float(CHANNEL.bad_after(True, 0.5))

    assert float(runs.mean()) == pytest.approx(1.0 / leave, rel=0.03)
    assert float((runs > 5).mean()) == pytest.approx((1.0 - leave) ** 5, rel=0.05)
    assert CHANNEL.mean_bad_s == 2.5


def test_all_packets_at_once_are_the_packets_one_by_one() -> None:
    """`states` gives what a loop over `advance` gives, whatever the gaps, for links that begin in either state."""
    gaps = draws.exponential(2, "gap", np.arange(6)[:, None], np.arange(200))
    uniforms = draws.uniform(2, "chain", np.arange(6)[:, None], np.arange(200))
    state = begin = np.arange(6) % 2 == 0
    one_by_one = np.empty(gaps.shape, dtype=bool)
    for k in range(200):
        state = one_by_one[:, k] = CHANNEL.advance(state, gaps[:, k], uniforms[:, k])

    assert np.array_equal(CHANNEL.states(begin, gaps, uniforms), one_by_one)


def test_fitted_channels_have_sources() -> None:
    """Each says its file, and outages are rarer than service."""
    assert "starlink.driving" in CHANNELS
    for channel in CHANNELS.values():
        assert "net_bandwidth/" in channel.source
        assert channel.bad_share < 0.5


@pytest.mark.parametrize(
    ("values", "text"), [((0.0, 1.0, 0.0, 1.0), r"to_bad_per_s is 0\.0"), ((1.0, 1.0, 0.0, 2.0), r"loss_bad is 2\.0")]
)
def test_what_is_no_channel_is_named(values: tuple[float, float, float, float], text: str) -> None:
    """A rate of 0 and a share above 1 are refused."""
    with pytest.raises(ValueError, match=text):
        Channel(*values, "made up")
