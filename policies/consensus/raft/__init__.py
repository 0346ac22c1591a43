"""Raft, the replicated log that tolerates crashes (Ongaro and Ousterhout, ATC 2014); start reading at `member`."""

from policies.consensus.raft.member import Raft

__all__ = ["Raft"]
