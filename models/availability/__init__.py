"""When devices are there to be used: the fitted conjunction, stories about what lies behind it, and how to check both.

``conjunction``: the law and its generator; ``fit``: how its constants were made; ``score``: the figures of its
quality; ``decompositions``: plug, screen and network as assumptions; ``robust``: which rankings survive those.
"""

from models.availability.conjunction import LAW, LAW_ERROR, Law, simulate_conjunction
from models.availability.decompositions import DECOMPOSITIONS, PHASES, Decomposition, Owner, Phase
from models.availability.robust import rank_agreement
from models.availability.score import Scores, load, scores, with_gaps

__all__ = [
    "DECOMPOSITIONS", "LAW", "LAW_ERROR", "PHASES", "Decomposition", "Law", "Owner", "Phase", "Scores", "load",
    "rank_agreement", "scores", "simulate_conjunction", "with_gaps",
]  # fmt: skip
