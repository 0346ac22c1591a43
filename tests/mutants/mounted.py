"""Gives what is run elsewhere a mutant's bug, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from experiments.hunt.arenas import raft, registry
from policies import consensus
from policies.config import HotstuffConfig, PbftConfig, RaftConfig
from policies.consensus import HotStuff, Pbft, Raft
from policies.consensus.hotstuff import node
from tests.mutants.record import Mutant, Patch

PLACES: tuple[tuple[Any, str], ...] = (
    (raft, "Raft"), (consensus, "Raft"), (consensus, "HotStuff"), (consensus, "Pbft"), (registry, "Registry"),
    (node, "Safety"),
)  # fmt: skip
"""Where arenas' nodes look up what they are made of: module and name."""
PROTOCOLS = ((Raft, RaftConfig), (HotStuff, HotstuffConfig), (Pbft, PbftConfig))


def patches(mutant: Mutant) -> tuple[Patch, ...]:
    """Return what is to be replaced so that an arena's nodes have the bug.

    In the registry's arena, where protocols take turns, one that has the bug takes every turn.
    """
    made = mutant.wrong if isinstance(mutant.wrong, type) else object
    mounted = tuple((where, name, made) for where, name in PLACES if issubclass(made, getattr(where, name)))
    rules = [one for one in registry.PROTOCOLS for kind, of in PROTOCOLS if issubclass(made, kind) and type(one) is of]
    return (*mutant.patches, *mounted, *((registry, "PROTOCOLS", (one,)) for one in rules))


@contextmanager
def mounted(mutant: Mutant) -> Iterator[None]:
    """Give arenas' nodes the bug, and whoever else looks up what is replaced."""
    replaced = patches(mutant)
    undo = [(where, name, getattr(where, name)) for where, name, _ in replaced]
    for patch in replaced:
        setattr(*patch)
    try:
        yield
    finally:
        for patch in undo:
            setattr(*patch)
