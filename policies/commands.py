"""Commands: what goes through consensus, opaque to it, and is applied by `policies.state`."""

from __future__ import annotations

from typing import Union

import msgspec

from policies.jobs import Stage
from policies.wire import Message


class Join(Message, frozen=True, tag="join"):
    """A device is a member of the village."""

    node: str


class Evict(Message, frozen=True, tag="evict"):
    """A member's results were proved wrong too often; it gets no more work."""

    node: str
    reason: str


class Place(Message, frozen=True, tag="place"):
    """A pipeline exists: these stages hold the model."""

    pipeline: int
    model: str
    stages: tuple[Stage, ...]
    token_s: float  # planned latency of one token


class Dissolve(Message, frozen=True, tag="dissolve"):
    """A pipeline is gone."""

    pipeline: int
    reason: str


class Accept(Message, frozen=True, tag="accept"):
    """A client's request is owed an outcome."""

    client: str
    op_id: str
    model: str
    prompt: str
    source: str
    prompt_tokens: int
    new_tokens: int
    priority: int
    accepted_wall_ns: int
    deadline_wall_ns: int


class Attach(Message, frozen=True, tag="attach"):
    """The same request came again elsewhere: its prompt is now held by ``source``."""

    client: str
    op_id: str
    source: str


class Receipt(Message, frozen=True):
    """The head of a pipeline vouches for the work done on one request."""

    client: str
    op_id: str
    output: str
    tokens: int
    stages: tuple[Stage, ...]


class Complete(Message, frozen=True, tag="complete"):
    """A request is answered; the stages of its receipt earn token-layers."""

    receipt: Receipt
    first_token_ns: int
    signature: bytes


class Refuse(Message, frozen=True, tag="refuse"):
    """A request will not be answered, for this reason."""

    client: str
    op_id: str
    reason: str


Command = Union[Join, Evict, Place, Dissolve, Accept, Attach, Complete, Refuse]  # noqa: UP007

_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def decode(command: bytes) -> Command:
    """Return the command in ``command``."""
    return _decoder.decode(command)
