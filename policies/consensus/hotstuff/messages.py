"""What members say to one another. Every signature covers an encoded array that begins with its domain and the log.

A *term* is a tenure: `tenure` views in a row that one member leads. Digests are BLAKE2b-256 (RFC 7693).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.consensus.chunks import Manifest
from policies.consensus.fields import MEMBERS_MAX, Digest, Signature, Votes
from policies.consensus.vouching import Begun
from policies.jobs import Name
from policies.wire import Message

COMMAND, READ, RECONFIGURE = 0, 1, 2
"""Kinds of entries: a command of the state machine, a read's place in the log, another set of members."""


class Certificate(Message, frozen=True, tag="qc"):
    """Quorum certificate: a quorum of ``epoch`` voted for ``block`` in ``view``; ``votes`` are (member, signature)."""

    epoch: int
    view: int
    block: Digest
    votes: Votes


class TimeOutCertificate(Message, frozen=True, tag="tc"):
    """A quorum gave ``term`` up; ``votes`` are (member, view of its highest certificate, signature).

    ``high`` is a certificate of the highest of those views.
    """

    epoch: int
    term: int
    votes: Annotated[tuple[tuple[Name, int, Signature], ...], Meta(max_length=MEMBERS_MAX)]
    high: Certificate


class Entry(Message, frozen=True, tag="entry"):
    """What a block orders: the ``number``-th thing that ``origin`` asked for in one of its lives."""

    origin: Name
    number: int
    kind: int
    data: bytes

    @property
    def alone(self) -> bool:
        """Whether it must have a block to itself."""
        return self.kind == RECONFIGURE


class Block(Message, frozen=True, tag="block"):
    """A batch of entries; its parent is the block that ``qc`` certifies."""

    epoch: int
    view: int
    height: int
    qc: Certificate
    entries: tuple[Entry, ...]


class Proposal(Message, frozen=True, tag="proposal"):
    """The leader's block. ``signature`` is its own vote for it, so that two blocks in one view are two votes.

    ``tc`` says why the view is entered, where it is not by the block's certificate.
    """

    block: Block
    tc: TimeOutCertificate | None
    signature: Signature


class Vote(Message, frozen=True, tag="vote"):
    """A vote for a block, to the leader of the next view."""

    epoch: int
    view: int
    block: Digest
    signature: Signature


class TimeOut(Message, frozen=True, tag="time_out"):
    """The sender gives ``term`` up: it votes in none of its views any more.

    ``seen`` is (view, block, its leader's signature, the sender's own) of the last proposal that it voted for in this
    epoch. So a certificate is made although the one who collects votes is down, and a leader who told two halves two
    blocks is found out although neither was certified.
    """

    epoch: int
    term: int
    high: Certificate
    signature: Signature
    seen: tuple[int, Digest, Signature, Signature]


class Status(Message, frozen=True, tag="status"):
    """Why the sender is in its view: a leader's heartbeat, and an answer to those who are behind."""

    epoch: int
    high: Certificate
    tc: TimeOutCertificate | None


class Forward(Message, frozen=True, tag="forward"):
    """Entries for the leader's pool; to ``all`` when the leader has not committed them for a while."""

    entries: tuple[Entry, ...]
    all: bool


class Fetch(Message, frozen=True, tag="fetch"):
    """Asks for ``block`` and those before it, down to, and without, ``height``."""

    block: Digest
    height: int


class Blocks(Message, frozen=True, tag="blocks"):
    """Answer to `Fetch`: each block is the parent of the one before it."""

    blocks: tuple[Block, ...]


class CheckpointVote(Message, frozen=True, tag="checkpoint_vote"):
    """The sender's state after ``index`` commands has digest ``state``; ``block`` holds the commands from ``first`` to
    that one, or more."""

    epoch: int
    index: int
    first: int
    height: int
    block: Digest
    state: Digest
    signature: Signature


class StableCheckpoint(Message, frozen=True, tag="checkpoint"):
    """A quorum of ``epoch`` signed the same checkpoint; ``votes`` are (member, signature)."""

    epoch: int
    index: int
    first: int
    height: int
    block: Digest
    state: Digest
    votes: Votes


class Handover(Message, frozen=True, tag="handover"):
    """Proof that an epoch ended: ``blocks`` are the one that changed the members and those that commit it, oldest
    first; ``qc`` certifies the last."""

    blocks: tuple[Block, ...]
    qc: Certificate


class Transferred(Message, frozen=True, tag="transferred"):
    """State for one who is too far behind: a stable checkpoint, its block and that one's certificate, what the state is
    made of, and the ends of the last epochs before it, oldest first. The state's chunks are asked for apart."""

    stable: StableCheckpoint
    block: Block
    qc: Certificate
    manifest: Manifest
    handovers: tuple[Handover, ...]


class Start(Message, frozen=True):
    """Where a member's tree begins: the same as in `Transferred`, with the state itself. It is saved and never sent.

    ``since`` is the epoch that the first of ``handovers`` ends, or the checkpoint's own; None for the log's first.
    """

    stable: StableCheckpoint
    block: Block
    qc: Certificate
    state: bytes
    handovers: tuple[Handover, ...]
    since: Begun | None = None


class Evidence(Message, frozen=True, tag="evidence"):
    """Decided: ``culprit`` signed two votes in one view of a log, which its first epoch's block names.

    `policies.consensus.hotstuff.evidence.proves` verifies it.
    """

    culprit: str
    log: Digest
    epoch: int
    view: int
    first: tuple[bytes, bytes]
    second: tuple[bytes, bytes]
