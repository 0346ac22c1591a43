"""What members of a replicated log announce, whichever protocol they speak."""

from __future__ import annotations

from policies.wire import Message


class Elected(Message, frozen=True, tag="elected"):
    """Decided: the speaker leads ``term``."""

    term: int


class Follows(Message, frozen=True, tag="follows"):
    """Decided: to the speaker's knowledge ``leader`` leads ``term``; the speaker may be wrong, or late."""

    term: int
    leader: str


class Chosen(Message, frozen=True, tag="chosen"):
    """Decided: the command with this checksum is committed at ``index``.

    ``term`` is equal at all honest members; 0 where the protocol cannot promise that: under PBFT a batch that a later
    view proposes again is committed in one view here and in another there.
    """

    index: int
    term: int
    checksum: int


class Restored(Message, frozen=True, tag="restored"):
    """Decided: the speaker took over a state that holds every command up to ``index``, the last of them of ``term``.

    The next `Chosen` of the speaker is of the index after it.
    """

    index: int
    term: int
