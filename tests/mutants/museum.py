"""Everything in the museum."""

from __future__ import annotations

from tests.mutants import hotstuff, hotstuff_rules, membership, pbft, raft, raft_world, village

MUTANTS = (
    *raft.MUTANTS,
    *raft_world.MUTANTS,
    *hotstuff_rules.MUTANTS,
    *hotstuff.MUTANTS,
    *pbft.MUTANTS,
    *membership.MUTANTS,
    *village.MUTANTS,
)
