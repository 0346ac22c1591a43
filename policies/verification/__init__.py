"""Verification of workers that may lie: they commit first, are challenged afterwards, and are recomputed.

`commitment` and `hashtree` are the worker's word and how it is opened, `sketch` and `verdict` the comparison within a
tolerance, `law` what checks cost and find. `policies.checking` asks for it in the village; what carries it out is
`real_backends.executors.witness` and `recheck`, or `sim.proofs`.
"""

from models.inference.tolerances import Tolerance
from policies.verification.commitment import (
    Challenge,
    Commitment,
    Opening,
    belongs,
    draw_challenge,
    follows,
    tokens_digest,
)
from policies.verification.hashtree import hash_leaf, is_in, path_to, root_of
from policies.verification.sketch import BLOCK, PROJECTIONS, digest_of, leaf_of
from policies.verification.verdict import Recomputed, Verdict, cache_leaf, errors, judge

__all__ = [
    "BLOCK",
    "PROJECTIONS",
    "Challenge",
    "Commitment",
    "Opening",
    "Recomputed",
    "Tolerance",
    "Verdict",
    "belongs",
    "cache_leaf",
    "digest_of",
    "draw_challenge",
    "errors",
    "follows",
    "hash_leaf",
    "is_in",
    "judge",
    "leaf_of",
    "path_to",
    "root_of",
    "tokens_digest",
]
