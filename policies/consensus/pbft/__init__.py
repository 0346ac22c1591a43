"""Practical Byzantine fault tolerance: a replicated log that up to f of 3f + 1 liars cannot split or stop.

Read `safety` for what can never go wrong, `liveness` for why it goes on, and `member` for how they are joined.
"""

from __future__ import annotations

from policies.consensus.pbft.member import Pbft

__all__ = ["Pbft"]
