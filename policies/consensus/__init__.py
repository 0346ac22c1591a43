"""Agreement on an order of opaque commands."""

from policies.consensus.raft import Raft

__all__ = ["Raft"]
