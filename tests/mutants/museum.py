"""Everything in the museum."""

from __future__ import annotations

from tests.mutants import raft, raft_world

MUTANTS = (*raft.MUTANTS, *raft_world.MUTANTS)
