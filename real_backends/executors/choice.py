"""Which token follows: a pure function of the logits, the position and how the request wants its tokens chosen.

Given equal logits, every attempt chooses the same token, on every machine: two that round an exponential differently
would have to be drawn within that rounding, 1e-16, of a border. Where logits differ a little (another
framework, batch or rebuilt cache: docs/executors.md) another token comes out only if the draw falls about as near to
the border between two tokens, or if a token at the edge of the likeliest set changes sides. Shares are therefore laid
side by side in the order of ids, not of likelihood: a near tie of two likely tokens moves no border much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models import draws
from policies.jobs import Sampling

PURPOSE = "token"
_ONE_STREAM = 0  # a seed has one stream of draws, indexed by position


def choose(logits: npt.NDArray[Any], position: int, sampling: Sampling | None) -> int:
    """Return the token that stands at ``position`` of its session.

    Args:
        logits: [vocab], finite; the arithmetic is in float64.
        position: of the chosen token, counted from the prompt's first; it keys the draw.
        sampling: None, or a temperature of 0, chooses the largest logit, of equal ones the lowest id.

    Raises:
        ValueError: a logit to draw by is not finite.
    """
    if sampling is None or sampling.temperature == 0:
        return int(np.argmax(logits))
    shares = _shares(np.asarray(logits, dtype=np.float64), sampling)
    borders = np.cumsum(shares)
    drawn = draws.uniform(sampling.seed % 2**64, PURPOSE, _ONE_STREAM, position)
    # A draw is below 1, so that it falls inside the last border, and never into a share of nothing.
    return int(np.searchsorted(borders, drawn * borders[-1], side="right"))


def ends(token: int, sampling: Sampling | None) -> bool:
    """Return whether an answer ends with this token."""
    return sampling is not None and token in sampling.ends


def _shares(logits: npt.NDArray[np.float64], sampling: Sampling) -> npt.NDArray[np.float64]:
    """Return each token's share, [vocab], not normalised; 0 outside the likeliest set."""
    best = logits.max()
    if not np.isfinite(best) or not np.isfinite(logits.min()):
        raise ValueError("logits: not all are finite, and none can be drawn by them")
    with np.errstate(over="ignore"):  # at a temperature near 0 all but the best are infinitely unlikely
        shares: npt.NDArray[np.float64] = np.exp((logits - best) / sampling.temperature)
    if sampling.top_p < 1:
        # By logits: shares that differ by less than an exponential is rounded look equal. Of equal ones the lowest ids.
        order = np.argsort(-logits, kind="stable")
        reached = np.cumsum(shares[order])
        inside = int(np.searchsorted(reached, sampling.top_p * reached[-1])) + 1
        shares[order[inside:]] = 0.0
    return shares
