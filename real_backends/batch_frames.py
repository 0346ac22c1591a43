"""Batches on the wire: one frame carries the activations of all sessions of a batch to the next stage.

A lane's batches are numbered, and there is one under way at a time; so what protects a session's steps from lost and
repeated frames (`real_backends.stages`) protects a batch in the same way. A cache is never entered again under its
name once it was closed: a session whose blocks were taken comes back under another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.jobs import Sampling, Stage
from policies.wire import Message
from real_backends.executors import Activation, Part, choose
from real_backends.step_frames import SessionName


class Slice(Message, frozen=True):
    """What one session contributes: ``tokens`` rows from ``position`` on; whether it emits a token then, and how.

    ``shared`` are the blocks that a new cache begins with, and ``names`` those of the blocks that it fills now.
    """

    session: SessionName
    position: int
    tokens: int
    speaks: bool
    sampling: Sampling | None = None
    shared: tuple[bytes, ...] = ()
    names: tuple[bytes, ...] = ()


class Batch(Message, frozen=True, tag="batch"):
    """STAGE: give back what the ``closed`` caches of the lane hold, then run all slices in one step.

    ``x`` has their rows one after another. What is closed travels with the batch that needs its blocks, and is sent
    again with it; so are the names of blocks that are ``forgotten``, which nobody will share any more.
    """

    lane: SessionName
    number: int
    model: str
    stages: tuple[Stage, ...]
    index: int
    slices: tuple[Slice, ...]
    x: Activation
    closed: tuple[str, ...] = ()
    forgotten: tuple[bytes, ...] = ()


class Tokens(Message, frozen=True, tag="tokens"):
    """STAGE_RESULT: the last stage's choices for batch ``number``, one for each slice that speaks."""

    lane: str
    number: int
    tokens: tuple[int, ...]


def parts_of(slices: Sequence[Slice], x: npt.NDArray[Any]) -> list[Part]:
    """Return each session's rows.

    Raises:
        ValueError: there are no slices, one has no rows, or they are not the rows of ``x``.
    """
    ends = list(accumulate(one.tokens for one in slices))
    if not slices or min(one.tokens for one in slices) < 1 or ends[-1] != len(x):
        raise ValueError(f"batch: slices of {[one.tokens for one in slices]} rows, the activations have {len(x)}")
    return [Part(one.session, x[end - one.tokens : end], one.position) for one, end in zip(slices, ends, strict=True)]


def join(rows: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the rows of all sessions, token ids or activations, one after another."""
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def choices(slices: Sequence[Slice], logits: Sequence[npt.NDArray[np.float32]]) -> tuple[int, ...]:
    """Return the token of each slice that speaks, as `real_backends.executors.choose` has it.

    Raises:
        ValueError: as there.
    """
    spoken = ((one, row) for one, row in zip(slices, logits, strict=True) if one.speaks)
    return tuple(choose(row, one.position + one.tokens, one.sampling) for one, row in spoken)
