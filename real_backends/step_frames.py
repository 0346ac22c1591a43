"""Steps of one session on the wire, and what is said about a session or a lane of batches."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.jobs import Sampling, Stage
from policies.wire import Message
from real_backends.executors import Activation

SessionName = Annotated[str, Meta(min_length=1)]
"""A session's name, or a lane's, from a peer: "" is the lane of all sessions that have none, where one is dropped."""


class Open(Message, frozen=True, tag="open"):
    """STAGE: have these layers in memory; a session is about to begin."""

    session: SessionName
    model: str
    stages: tuple[Stage, ...]
    index: int


class Step(Message, frozen=True, tag="step"):
    """STAGE: run new tokens at ``position``."""

    session: SessionName
    model: str
    stages: tuple[Stage, ...]
    index: int
    position: int
    x: Activation
    sampling: Sampling | None = None  # for the last stage, which chooses
    shared: tuple[bytes, ...] = ()  # as of a `Slice`
    names: tuple[bytes, ...] = ()


class MarkedStep(Step, frozen=True, tag="marked_step"):
    """STAGE: a step of a session that is prepared for deaths (`real_backends.copies`)."""

    mark: bytes = b""


class Close(Message, frozen=True, tag="close"):
    """STAGE: forget the session, or the lane with all of its caches."""

    session: SessionName


class Token(Message, frozen=True, tag="token"):
    """STAGE_RESULT: the last stage's choice for the step at ``position``."""

    session: str
    position: int
    token: int


class Failed(Message, frozen=True, tag="failed"):
    """STAGE_RESULT: a stage cannot go on; ``gone``: it has not the blocks that were to be shared, and could without."""

    session: str
    reason: str
    node: str
    gone: bool = False
