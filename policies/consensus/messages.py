"""What Raft members say to one another, and what they announce."""

from __future__ import annotations

from policies.wire import Message


class RequestVote(Message, frozen=True, tag="request_vote"):
    """RequestVote RPC (Ongaro and Ousterhout 2014, figure 2)."""

    term: int
    last_index: int
    last_term: int


class Vote(Message, frozen=True, tag="vote"):
    """Answer to RequestVote."""

    term: int
    granted: bool


class Append(Message, frozen=True, tag="append"):
    """AppendEntries RPC; ``entries`` are (term, command) and follow ``prev_index``. Empty ones are heartbeats."""

    term: int
    prev_index: int
    prev_term: int
    commit: int
    entries: tuple[tuple[int, bytes], ...]


class Appended(Message, frozen=True, tag="appended"):
    """Answer to Append: the log agrees with the leader's up to ``index``, or may agree up to there if not ``ok``."""

    term: int
    ok: bool
    index: int


class Elected(Message, frozen=True, tag="elected"):
    """Decided: the speaker leads ``term``."""

    term: int


class Chosen(Message, frozen=True, tag="chosen"):
    """Decided: the command with this checksum is committed at ``index``."""

    index: int
    term: int
    checksum: int
