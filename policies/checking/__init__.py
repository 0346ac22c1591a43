"""Checks of what workers did: they commit first, are drawn by lot, open a place, and are computed again by another.

`Prover` is a worker's side, `Examiner` the leader's. What is committed to, opened and judged is
`policies.verification`; what computes is asked through jobs, so that both worlds run the same two policies.
"""

from policies.checking.examiner import Examiner
from policies.checking.prover import Prover

__all__ = ["Examiner", "Prover"]
