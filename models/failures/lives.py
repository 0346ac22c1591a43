"""Fitted lifetimes, gaps between failures and downtimes, by class; `twin calibrate failures` made them.

Names say what, whose and from which log: ``life`` until the end of a thing, ``gap`` from failure to failure (pairs that
were seen: too short on average, as published fits are), ``up`` from repair to failure with what was still up at the
log's end counted (the one to simulate with), ``down`` until repair.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from models.distributions.law import Fit, Law, read_fits

FILE = Path(__file__).parent / "fitted.json"
FITS: Mapping[str, Fit] = read_fits(FILE)


def availability(up: Law, down: Law, *, cells: int = 100_000) -> float:
    """Return the share of time that a thing is up which fails and is repaired by these laws (same unit).

    Mean up over mean up and down (the renewal-reward theorem), means by the midpoint rule over probability; what a law
    does not reach counts as its last quantile, so the share is a lower bound then.
    """
    p = (np.arange(cells) + 0.5) / cells

    def mean(law: Law) -> float:
        values = law.quantile(p)
        return float(np.minimum(values, values[np.isfinite(values)].max()).mean())

    return mean(up) / (mean(up) + mean(down))
