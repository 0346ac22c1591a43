"""What protocols say, read from outside: votes, proposals, certificates and checkpoints in their messages.

A message is a plain list whose field 0 is its tag, as it travels. Each protocol that `scenarios.checks.byzantine` can
question has a `Reading` here; what a reading does not know it passes over.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

from policies.wire import encode

Said = list[Any]


class Ballot(NamedTuple):
    """A vote: ``for_`` one thing where a correct member votes for one only, ``about``."""

    about: Hashable
    for_: Hashable


class Proposed(NamedTuple):
    """A block: of a view of an epoch, built on the block certified in ``parent``."""

    epoch: int
    view: int
    parent: int


class Certified(NamedTuple):
    """A certificate, in words; its number, 0 for what is given at the beginning; and who signed it."""

    words: str
    number: int
    signers: tuple[str, ...]


class Checkpointed(NamedTuple):
    """Somebody's state at a place of the log, ``at``."""

    at: Hashable
    state: bytes


class Reading(NamedTuple):
    """How a protocol's messages are read.

    Attributes:
        ballot: (speaker, to, message) to the vote in it, None if there is none.
        proposed: the block in a message, None if there is none.
        voted: the (epoch, view) in which a message votes for a block, None if it does not.
        certified: the certificates in a message.
        checkpointed: the checkpoints in a message.
    """

    ballot: Callable[[str, str, Said], Ballot | None]
    proposed: Callable[[Said], Proposed | None] = lambda message: None
    voted: Callable[[Said], tuple[int, int] | None] = lambda message: None
    certified: Callable[[Said], Iterator[Certified]] = lambda message: iter(())
    checkpointed: Callable[[Said], tuple[Checkpointed, ...]] = lambda message: ()


def tagged(message: Said) -> Iterator[Said]:
    """Yield every list within a message, itself included, that begins with a tag."""
    if message and isinstance(message[0], str):
        yield message
    for part in message:
        if isinstance(part, list):
            yield from tagged(part)


# -- Raft ----------------------------------------------------------------------------------------------


def _raft_ballot(speaker: str, to: str, message: Said) -> Ballot | None:
    match message:
        case ["vote", term, True, *_]:
            return Ballot(term, to)
        case ["request_vote", term, *_]:
            return Ballot(term, speaker)
    return None


RAFT = Reading(_raft_ballot)

# -- HotStuff: block is (tag, epoch, view, height, certificate, entries) -------------------------------


def _hotstuff_ballot(speaker: str, to: str, message: Said) -> Ballot | None:
    match message:
        case ["vote", epoch, view, block, *_]:
            return Ballot(("votes", epoch, view), block)
        case ["proposal", ["block", epoch, view, *_] as block, *_]:
            return Ballot(("proposes", epoch, view), encode(block))
    return None


def _hotstuff_proposed(message: Said) -> Proposed | None:
    match message:
        case ["proposal", ["block", epoch, view, _, ["qc", _, parent, *_], *_], *_]:
            return Proposed(epoch, view, parent)
    return None


def _hotstuff_voted(message: Said) -> tuple[int, int] | None:
    match message:
        case ["vote", epoch, view, *_] | ["proposal", ["block", epoch, view, *_], *_]:
            return epoch, view
    return None


def _hotstuff_certified(message: Said) -> Iterator[Certified]:
    for part in tagged(message):
        match part:
            case ["qc", _, view, _, votes]:
                yield Certified(f"the certificate of view {view}", view, _names(votes))
            case ["tc", _, term, votes, _]:
                yield Certified(f"the time-out certificate of term {term}", term + 1, _names(votes))
            case ["checkpoint", _, index, _, _, _, votes]:
                yield Certified(f"the checkpoint of index {index}", index, _names(votes))


def _hotstuff_checkpointed(message: Said) -> tuple[Checkpointed, ...]:
    match message:
        case ["checkpoint_vote", _, index, _, _, state, _] | ["checkpoint", _, index, _, _, state, _]:
            return (Checkpointed(f"index {index}", state),)
    return ()


def _names(votes: Said) -> tuple[str, ...]:
    return tuple(vote[0] for vote in votes)


HOTSTUFF = Reading(_hotstuff_ballot, _hotstuff_proposed, _hotstuff_voted, _hotstuff_certified, _hotstuff_checkpointed)

# -- PBFT: a point is (sequence number, index, chain, applied, state) ----------------------------------


def _pbft_ballot(speaker: str, to: str, message: Said) -> Ballot | None:
    match message:
        case ["pre_prepare" | "prepare" | "commit" as kind, view, number, what, *_]:
            return Ballot((kind, view, number), encode(what))
    return None


def _pbft_certified(message: Said) -> Iterator[Certified]:
    for part in tagged(message):
        match part:
            case ["stable", [number, _, chain, *_], votes] if chain or votes:  # else where an epoch begins
                yield Certified(f"the checkpoint of {number}", number, _names(votes))
            case ["decided", _, number, _, votes]:
                yield Certified(f"the decision of {number}", number, _names(votes))


def _pbft_checkpointed(message: Said) -> tuple[Checkpointed, ...]:
    match message:
        case ["checkpoint" | "stable", [number, _, chain, applied, state], *_] if chain:  # else where an epoch begins
            # Batches without a command have a place and no index.
            log = Checkpointed(f"place {number}", chain)
            return (log, Checkpointed(f"index {applied}", state)) if applied else (log,)
    return ()


PBFT = Reading(_pbft_ballot, certified=_pbft_certified, checkpointed=_pbft_checkpointed)

BYZANTINE = {"hotstuff": HOTSTUFF, "pbft": PBFT}
"""Protocols that bear liars, by the word that chooses them."""
