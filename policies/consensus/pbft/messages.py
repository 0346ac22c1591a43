"""What members of PBFT say to one another, and what of it is proof that can be shown to others.

Names are those of Castro and Liskov (OSDI 1999; TOCS 20(4), 2002), version with signatures. ``seq`` numbers batches,
``view`` names the primary (and the epoch, `epochs`), and a ``digest`` stands for a batch. Votes are (member, signature)
pairs.
"""

from __future__ import annotations

from hashlib import blake2b

from policies.consensus.chunks import Chunk, GetChunk, Manifest
from policies.consensus.fields import Digest, Signature, Votes
from policies.consensus.vouching import Vouch
from policies.jobs import Name
from policies.wire import Message, encode

Item = tuple[Name, int, bytes]
"""A request as it stands in a batch: who proposed it, its number there, the command."""
Batch = tuple[Item, ...]


def digest_of(value: object) -> bytes:
    """Return the 32-byte name of a batch, of a state or of anything plain (BLAKE2b, RFC 7693)."""
    return blake2b(encode(value), digest_size=32).digest()


NULL = digest_of(())
"""The null request, with which a new view fills a gap."""


class Request(Message, frozen=True, tag="request"):
    """Please order this. Its origin signs it when it asks everybody, so that others may pass it on."""

    origin: Name
    number: int
    command: bytes
    signature: Signature = b""


class PrePrepare(Message, frozen=True, tag="pre_prepare"):
    """The primary gives a batch its place; signed over the batch's digest."""

    view: int
    seq: int
    batch: Batch
    signature: Signature


class Prepare(Message, frozen=True, tag="prepare"):
    """A backup has this digest at this place of the view, and will have no other."""

    view: int
    seq: int
    digest: Digest
    signature: Signature


class Commit(Message, frozen=True, tag="commit"):
    """A member holds a prepared certificate of this digest, durably."""

    view: int
    seq: int
    digest: Digest
    signature: Signature


class Point(Message, frozen=True):
    """Where a member stands after a batch; equal at all correct members.

    Attributes:
        seq, index: the batch and the last index in it.
        chain: digest of all batches up to here, in order.
        applied: the index that ``state`` holds; 0 where this is the log's checkpoint alone.
        state: digest of the state machine's snapshot (`policies.consensus.chunks`), or nothing.
    """

    seq: int
    index: int
    chain: Digest
    applied: int = 0
    state: Digest = b""


class Checkpoint(Message, frozen=True, tag="checkpoint"):
    """A member stands, or stood, here."""

    point: Point
    signature: Signature


class Stable(Message, frozen=True, tag="stable"):
    """A quorum stood here: proof that nothing before it is needed any more."""

    point: Point
    votes: Votes


class Prepared(Message, frozen=True):
    """A prepared certificate: the primary's pre-prepare and matching prepares of a quorum less one."""

    view: int
    seq: int
    digest: Digest
    signature: Signature
    prepares: Votes


class ViewChange(Message, frozen=True, tag="view_change"):
    """``member`` moves to ``view``: its stable checkpoint, and all that it holds prepared after it (the set P)."""

    member: Name
    view: int
    stable: Stable
    prepared: tuple[Prepared, ...]
    signature: Signature


class NewView(Message, frozen=True, tag="new_view"):
    """The new primary's view begins.

    ``changes`` (the set V) say what must be proposed again (the set O); everybody computes that alone, so O is only
    the primary's signature of each pre-prepare, in order.
    """

    view: int
    changes: tuple[ViewChange, ...]
    again: tuple[Signature, ...]
    signature: Signature


class Decided(Message, frozen=True, tag="decided"):
    """A batch with the commits of a quorum: proof enough for who was not there."""

    view: int
    seq: int
    batch: Batch
    commits: Votes


class Transferred(Message, frozen=True, tag="transferred"):
    """The state at a checkpoint, for who is so far behind that the batches are gone; its chunks are asked for apart.

    ``ends`` are the batches that ended the last epochs before the one whose members signed the checkpoint.
    """

    stable: Stable
    manifest: Manifest
    ends: tuple[Decided, ...]


class Missing(Message, frozen=True, tag="missing"):
    """Who has the batch of this digest?"""

    seq: int
    digest: Digest


class Body(Message, frozen=True, tag="body"):
    """Here is a batch; its digest is its proof."""

    seq: int
    batch: Batch


class Shown(Message, frozen=True, tag="shown"):
    """You prepare something else at this place; the view's primary signed this to me."""

    view: int
    seq: int
    digest: Digest
    signature: Signature


class Status(Message, frozen=True, tag="status"):
    """Where the sender stands, said in every period, so that others may repeat what it lacks.

    It is also the primary's sign of life. ``impatient``: the sender would leave this view if a quorum did. Only ``ask``
    is asked for batches and states; everybody repeats its own votes.
    """

    view: int
    active: bool
    impatient: bool
    executed: int
    stable: int
    ask: str


MESSAGES: tuple[type[Message], ...] = (
    Request, PrePrepare, Prepare, Commit, Checkpoint, Stable, ViewChange, NewView, Decided, Transferred, GetChunk,
    Chunk, Missing, Body, Shown, Status, Vouch,
)  # fmt: skip
