"""What Raft members say to one another. Numbers out of range make a message malformed, and the Cell drops it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.wire import Message

Number = Annotated[int, Meta(ge=0, le=2**62)]
"""A term, an index or a size; the bound leaves room to count on within MessagePack's 64 bits."""


class RequestVote(Message, frozen=True, tag="request_vote"):
    """RequestVote RPC (Ongaro and Ousterhout 2014, figure 2); ``forced``: the leader itself asked for this election."""

    term: Number
    last_index: Number
    last_term: Number
    forced: bool = False


class Vote(Message, frozen=True, tag="vote"):
    """Answer to RequestVote."""

    term: Number
    granted: bool


class RequestPreVote(Message, frozen=True, tag="request_pre_vote"):
    """Would you vote for me in ``term``, which is not begun yet? (Ongaro 2014, dissertation, section 9.6.)"""

    term: Number
    last_index: Number
    last_term: Number


class PreVote(Message, frozen=True, tag="pre_vote"):
    """Answer to RequestPreVote: ``term`` is the one asked about if granted, else the speaker's own."""

    term: Number
    granted: bool


class Append(Message, frozen=True, tag="append"):
    """AppendEntries RPC; ``entries`` are (term, command) and follow ``prev_index``. Empty ones are heartbeats.

    ``round`` counts the leader's reads (`policies.consensus.raft.reads`); an answer repeats it.
    """

    term: Number
    prev_index: Number
    prev_term: Number
    commit: Number
    entries: tuple[tuple[Number, bytes], ...]
    round: Number = 0


class Appended(Message, frozen=True, tag="appended"):
    """Answer to Append: the log agrees with the leader's up to ``index``, or may agree up to there if not ``ok``."""

    term: Number
    ok: bool
    index: Number
    round: Number = 0


class InstallSnapshot(Message, frozen=True, tag="install_snapshot"):
    """InstallSnapshot RPC (figure 13 of the extended paper): ``data`` are the bytes from ``offset`` on of ``size``.

    The state holds every command up to ``index``, the last of them of ``index_term``; ``membership`` is the
    configuration there, encoded.
    """

    term: Number
    index: Number
    index_term: Number
    membership: bytes
    size: Number
    offset: Number
    data: bytes


class Received(Message, frozen=True, tag="received"):
    """Answer to InstallSnapshot: of the state at ``index`` the first ``offset`` bytes are here.

    Once all are here and durable the answer is an `Appended` instead.
    """

    term: Number
    index: Number
    offset: Number


class TimeoutNow(Message, frozen=True, tag="timeout_now"):
    """The leader of ``term`` wants the receiver to lead (dissertation, section 3.10)."""

    term: Number


class Forward(Message, frozen=True, tag="forward"):
    """A member's proposal, for the leader."""

    command: bytes


class ForwardChange(Message, frozen=True, tag="forward_change"):
    """A member's wish for other members, for the leader."""

    members: tuple[str, ...]
    learners: tuple[str, ...]


class AskRead(Message, frozen=True, tag="ask_read"):
    """Which index must I have applied to answer a read that began before this was sent?"""

    read: Number


class ReadAt(Message, frozen=True, tag="read_at"):
    """Answer to AskRead; an ``index`` of -1 is a refusal."""

    read: Number
    index: Annotated[int, Meta(ge=-1, le=2**62)]


MESSAGES = (
    RequestVote, Vote, RequestPreVote, PreVote, Append, Appended, InstallSnapshot, Received, TimeoutNow, Forward,
    ForwardChange, AskRead, ReadAt,
)  # fmt: skip
