"""What the examiner and provers say to one another, and what the examiner announces.

A check is named by client, operation and attempt; in it every node has one stage at most.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from policies.jobs import Transcript
from policies.verification import Challenge, Commitment, Opening, Verdict
from policies.wire import Message

REASON_CHARS_MAX = 200  # our choice, some lines: the leader writes down what anybody says of why it cannot do a thing


class Key(Message, frozen=True):
    """An attempt at a request."""

    client: str
    op_id: str
    attempt: int

    @property
    def op(self) -> str:
        """As jobs and commitments name it."""
        return f"{self.client}/{self.op_id}/{self.attempt}"


# examiner to worker (path "prover")


class Bind(Message, frozen=True, tag="bind"):
    """Commit to what you did in this session; whether anybody looks is not decided yet."""

    key: Key
    of: Transcript


class Draw(Message, frozen=True, tag="draw"):
    """The lot fell on you: show this place."""

    key: Key
    challenge: Challenge


class Hand(Message, frozen=True, tag="hand"):
    """The next stage was drawn and does not hand out what it took: hand out what you gave to it, which is the same."""

    key: Key


class Release(Message, frozen=True, tag="release"):
    """Nobody will look; what was kept may go."""

    key: Key


class Recheck(Message, frozen=True, tag="recheck"):
    """Compute this place of another worker's session again, and say what you find."""

    key: Key
    of: Transcript
    commitment: Commitment
    challenge: Challenge
    opening: Opening
    came: str
    holder: str


# worker to examiner (path "examiner")


class Bound(Message, frozen=True, tag="bound"):
    """A worker's word, signed."""

    key: Key
    commitment: Commitment
    signature: bytes


class Opened(Message, frozen=True, tag="opened"):
    """The place that was asked for, and the blob of what the stage took; the worker holds it."""

    key: Key
    opening: Opening
    came: str


class Handed(Message, frozen=True, tag="handed"):
    """The blob of what the stage gave to the next one; the worker holds it."""

    key: Key
    went: str


class Found(Message, frozen=True, tag="found"):
    """What a second worker found at ``node``'s place."""

    key: Key
    node: str
    verdict: Verdict


class Unable(Message, frozen=True, tag="unable"):
    """What was asked cannot be done; ``node`` is whose place could not be checked, or empty.

    ``lacks`` names the blob that is wanted for it and that its holder does not hand out, if that is why; the last stage
    ``disowns`` an answer whose tokens it did not choose.
    """

    key: Key
    asked: Literal["bind", "draw", "hand", "recheck"]
    reason: Annotated[str, Meta(max_length=REASON_CHARS_MAX)]
    node: str = ""
    lacks: str = ""
    disowns: bool = False


# announced by the examiner (decide), for records and checks


class Checked(Message, frozen=True, tag="checked"):
    """A place of ``node``'s was drawn, and this came of it; ``verifiers`` said so."""

    client: str
    op_id: str
    attempt: int
    node: str
    word: str
    verifiers: tuple[str, ...]
