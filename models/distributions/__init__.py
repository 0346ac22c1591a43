"""Distributions of one positive quantity: standard families and tables of quantiles, sampled by their inverse.

``families``: the families' closed forms; ``law``: a fitted distribution; ``fit``: how one is fitted and chosen.
"""

from models.distributions.families import FAMILIES, TABLE
from models.distributions.law import PROBABILITIES, Fit, Law, read_fits

__all__ = ["FAMILIES", "PROBABILITIES", "TABLE", "Fit", "Law", "read_fits"]
