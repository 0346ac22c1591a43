"""The choice of a token: greedy, or drawn by the model's shares with a draw keyed by request and position."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from policies.jobs import Sampling
from real_backends.executors import choose

LOGITS = np.array([1.0, 3.0, 2.5, -1.0, 3.0, 0.0, 2.0], dtype=np.float32)


def shares(temperature: float, inside: list[int]) -> np.ndarray:
    """Softmax over the ids that may be drawn, by the definition."""
    weights = [math.exp(float(x) / temperature) if i in inside else 0.0 for i, x in enumerate(LOGITS)]
    return np.array(weights) / sum(weights)


@pytest.mark.parametrize(
    ("temperature", "top_p", "inside"),
    [
        (1.0, 1.0, [0, 1, 2, 3, 4, 5, 6]),
        (2.0, 1.0, [0, 1, 2, 3, 4, 5, 6]),
        (0.5, 1.0, [0, 1, 2, 3, 4, 5, 6]),
        (1.0, 0.8, [1, 2, 4]),  # 0.319 + 0.319 + 0.194 reach it, the first two do not
        (1.0, 0.32, [1, 4]),
        (1.0, 0.3, [1]),  # of two equal ones the lower id is inside
    ],
)
def test_draws_follow_the_distribution(temperature: float, top_p: float, inside: list[int]) -> None:
    """Over 20,000 positions the tokens have the shares of the softmax over the likeliest set (chi-square)."""
    drawn = [choose(LOGITS, at, Sampling(temperature, top_p, 7)) for at in range(20_000)]
    counts = np.bincount(drawn, minlength=len(LOGITS))
    expected = shares(temperature, inside) * len(drawn)
    assert set(np.flatnonzero(counts)) <= set(inside)
    if len(inside) > 1:
        assert chisquare(counts[inside], expected[inside]).pvalue > 0.01


def test_seeds_draw_independently() -> None:
    """At one position, over many seeds, tokens have the same shares: no seed shifts another's."""
    drawn = [choose(LOGITS, 5, Sampling(1.0, 1.0, seed)) for seed in range(-10_000, 10_000)]
    expected = shares(1.0, list(range(len(LOGITS)))) * len(drawn)
    assert chisquare(np.bincount(drawn, minlength=len(LOGITS)), expected).pvalue > 0.01


def test_a_transcript() -> None:
    """What a seed draws stays what it is: an attempt on another version of a machine draws the same."""
    drawn = [choose(LOGITS, at, Sampling(1.0, 0.9, 42)) for at in range(12)]
    assert drawn == [1, 6, 1, 4, 6, 1, 4, 6, 4, 6, 4, 6]


logits = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40).map(lambda x: np.array(x, dtype=np.float32))
samplings = st.builds(Sampling, st.floats(1e-300, 2.0), st.floats(1e-9, 1.0), st.integers(-(2**63), 2**63 - 1))


@given(logits=logits, sampling=samplings, position=st.integers(0, 2**32 - 1))
def test_a_draw_is_of_the_likeliest_set(logits: np.ndarray, sampling: Sampling, position: int) -> None:
    """Whatever is drawn, the tokens that are likelier have less than top_p among them; a repeat draws the same."""
    token = choose(logits, position, sampling)
    with np.errstate(over="ignore"):
        weights = np.exp((logits.astype(np.float64) - logits.max()) / sampling.temperature)
    assert weights[logits > logits[token]].sum() <= sampling.top_p * weights.sum() * (1 + 1e-12)
    assert choose(logits, position, sampling) == token


@example(logits=np.array([-1e-42, 0.0], np.float32))  # one is larger, though no share tells
@given(logits=logits)
@example(logits=np.array([-1e-36, 0.0], dtype=np.float32))  # both have a share of exactly 1
def test_greedy_takes_the_lowest_id_of_the_largest(logits: np.ndarray) -> None:
    """Without sampling the largest logit is chosen; so it is by a set that holds only one."""
    best = logits.tolist().index(logits.max())
    assert choose(logits, 3, None) == best
    assert choose(logits, 3, Sampling(0.0, 1.0, 5)) == choose(logits, 3, Sampling(1.0, 1e-9, 5)) == best


def test_a_small_difference_of_logits_moves_few_draws() -> None:
    """Logits of another framework differ by 5e-5; each of 6 borders then moves by a quarter of twice that at most.

    Two of the logits are equal, and here change places: that alone must move no draw.
    """
    other = LOGITS.astype(np.float64) + 5e-5 * np.array([1, -1, 1, -1, 1, -1, 1])
    sampling = Sampling(1.0, 1.0, 3)
    differ = sum(choose(LOGITS, at, sampling) != choose(other, at, sampling) for at in range(20_000))
    assert differ <= 2 * (6 * 20_000 * 2 * 5e-5 / 4)


def test_what_is_not_finite_is_refused() -> None:
    """Nothing is drawn by logits that are no numbers."""
    with pytest.raises(ValueError, match="finite"):
        choose(np.array([1.0, np.nan]), 0, Sampling(1.0, 1.0, 1))
