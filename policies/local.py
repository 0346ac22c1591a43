"""Messages between the policies of one node: typed, delivered first-in first-out within the step.

They never travel, but they are what lets one family be replaced without touching another.
"""

from __future__ import annotations

from policies.wire import Message


class Lend(Message, frozen=True, tag="lend"):
    """harvest to worker: this device is lent to the village, or taken back (``reason`` names the harvest state)."""

    on: bool
    compute_share: float
    memory_share: float
    reason: str


class Propose(Message, frozen=True, tag="propose"):
    """coordination to consensus: replicate this command, opaque to consensus."""

    command: bytes


class Committed(Message, frozen=True, tag="committed"):
    """consensus to coordination: the command at ``index`` is durable on a quorum."""

    index: int
    term: int
    command: bytes


class Leadership(Message, frozen=True, tag="leadership"):
    """consensus to coordination and gateway: who leads ``term``, ``""`` while nobody is known."""

    term: int
    leader: str


class Ask(Message, frozen=True, tag="ask"):
    """gateway to coordination: see that this request is accepted and answered once."""

    client: str
    op_id: str
    model: str
    prompt: str
    source: str
    prompt_tokens: int
    new_tokens: int
    priority: int
    deadline_wall_ns: int


class Settlement(Message, frozen=True, tag="settlement"):
    """coordination to gateway: the one outcome of a request; an empty ``refused`` means it was answered."""

    client: str
    op_id: str
    refused: str
    output: str
    tokens: int
    first_token_ns: int
    holder: str


class Busy(Message, frozen=True, tag="busy"):
    """coordination to gateway: not now; nothing was recorded, the client may come again."""

    client: str
    op_id: str
    reason: str
