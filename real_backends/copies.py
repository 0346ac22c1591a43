"""What a stage has of a session beyond its attempt: its own cache, and the copies that it sends and takes as a standby.

A session that is prepared for deaths (`policies.jobs.PreparedJob`) is known to its stages by its request's name, which
is *kept*. Its cache stays when an attempt ends, until the request is over. What a stage would lose goes to its standby:
what entered the stage, from which the standby computes the cache, or keys and values as they are. One copy is under way
at a time, and the next one goes when the standby has said how far it is; so nothing piles up on the way, and a copy
that was lost is sent again.

Every step brings a *mark*, a digest of the request's name, the model and all tokens up to its end. A cache is worth
something to a later attempt up to the last mark that its head finds in its own tokens, and only to the stage with the
same layers of the same model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from policies.jobs import Stage, Standby
from policies.wire import Message, encode
from real_backends.clock import Clock
from real_backends.compute import Compute
from real_backends.executors import Activation, Shard, pack_activation, unpack_activation
from real_backends.step_frames import SessionName
from real_backends.transports.frames import STAGE, STAGE_RESULT, Transport

RequestName = Annotated[str, Meta(min_length=1)]
"""A request's name, from a peer: "" stands for all of them where caches are freed."""

COPY_TOKENS = 512  # assumption: a message of a few MiB at most, so that steps on the same link wait little
COPY_TRY_NS = 5_000_000_000  # assumption: ten times the slowest pass of 512 tokens; then a copy is sent again


class Guard(Message, frozen=True, tag="guard"):
    """STAGE: the session belongs to the request ``kept``; ``ask``: say what you have of it (`Holds`)."""

    session: SessionName
    model: str
    stages: tuple[Stage, ...]
    index: int
    kept: RequestName
    standby: Standby | None
    ask: bool


class Copy(Message, frozen=True, tag="copy"):
    """STAGE: of the request ``kept`` these tokens, from ``position`` on, for layers [first, last) of a model.

    ``parts`` is what entered the stage, or its keys and values, each float32 [layers x tokens, heads x width]. Marks
    stand at the ends of steps among the tokens.
    """

    kept: RequestName
    model: str
    first: int
    last: int
    position: Annotated[int, Meta(ge=0)]
    tokens: Annotated[int, Meta(ge=1)]
    ends: tuple[int, ...]
    marks: tuple[bytes, ...]
    parts: tuple[Activation, ...]


class Copied(Message, frozen=True, tag="copied"):
    """STAGE: the standby has so many tokens of the request."""

    kept: str
    tokens: int


class Holds(Message, frozen=True, tag="holds"):
    """STAGE_RESULT: what a stage has of the session's request: marks, and the tokens up to each."""

    session: str
    ends: tuple[int, ...]
    marks: tuple[bytes, ...]


class Marker:
    """The marks of one request, as tokens come."""

    def __init__(self, kept: str, model: str) -> None:
        self._hash = blake2b(encode((kept, model)), digest_size=16)

    def take(self, tokens: npt.NDArray[np.int64]) -> bytes:
        """Return the mark after these further tokens."""
        self._hash.update(np.ascontiguousarray(tokens, dtype="<i8").tobytes())
        return self._hash.digest()


class Place(Protocol):
    """What the node's stages do for copies (`real_backends.stages`)."""

    transport: Transport
    compute: Compute
    clock: Clock
    coding: str

    async def shard_of(self, session: str, model: str, first: int, last: int) -> Shard:
        """Return the shard that has a session's cache, or will have it."""
        ...

    async def rename(self, session: str, name: str) -> None:
        """Let a session, with its cache, have another name."""
        ...

    async def drop(self, session: str) -> None:
        """Forget a session."""
        ...


@dataclass(eq=False)
class _Kept:
    """A cache that outlives its attempt, and how far it has been copied.

    ``sender`` is who sends it as a copy, "" where this node's own steps made it. ``rows`` are what entered the stage
    and is not at the standby yet, with their positions.
    """

    session: str
    model: str
    first: int
    last: int
    sender: str = ""
    kept: str = ""
    ends: list[int] = field(default_factory=list)
    marks: list[bytes] = field(default_factory=list)
    standby: Standby | None = None
    guarded: bool = False
    rows: deque[tuple[int, npt.NDArray[Any]]] = field(default_factory=deque)
    copied: int = 0
    sent_ns: int | None = None  # when the copy under way was sent
    busy: bool = False

    @property
    def tokens(self) -> int:
        """Up to the last mark."""
        return self.ends[-1] if self.ends else 0

    def mark(self, position: int, ends: tuple[int, ...], marks: tuple[bytes, ...]) -> None:
        """Take in a step's marks; what was there from its position on is there no more."""
        while self.ends and self.ends[-1] > position:
            self.ends.pop()
            self.marks.pop()
        self.ends += ends
        self.marks += marks
        self.copied = min(self.copied, position)

    def entered(self, position: int, x: npt.NDArray[Any]) -> None:
        """Keep what entered the stage until it is copied, where it will be copied like this."""
        if self.guarded and (self.standby is None or self.standby.way != "checkpoint"):
            self.rows.clear()
            return
        while self.rows and self.rows[-1][0] >= position:
            self.rows.pop()
        if self.rows and self.rows[-1][0] + len(self.rows[-1][1]) > position:
            begin, before = self.rows.pop()
            self.rows.append((begin, before[: position - begin]))
        self.rows.append((position, x))

    def inputs(self, begin: int, end: int) -> npt.NDArray[Any] | None:
        """Return what entered at these positions; None where it is not all here."""
        while self.rows and self.rows[0][0] + len(self.rows[0][1]) <= begin:
            self.rows.popleft()
        if not self.rows or self.rows[0][0] > begin:
            return None
        first = self.rows[0][0]
        return np.concatenate([x for _, x in self.rows])[begin - first : end - first]


class Copies:
    """One node's kept caches, its own and those it holds for others.

    Args:
        place: the node's stages.
        spawn: runs something beside.

    Attributes:
        sent_tokens, taken_tokens: tokens whose copies left here, and came here, repetitions included.
        chunk_share: of `COPY_TOKENS`, what one copy that leaves may hold.
    """

    def __init__(self, place: Place, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._place, self._spawn = place, spawn
        self._by_session: dict[str, _Kept] = {}
        self._by_request: dict[str, _Kept] = {}
        self.sent_tokens = self.taken_tokens = 0
        self.chunk_share = 1.0

    # -- the stage's own sessions --------------------------------------------------------------------

    def ran(self, session: str, model: str, stage: Stage, position: int, x: npt.NDArray[Any], mark: bytes) -> None:
        """A step of a prepared session ran here."""
        own = self._own(session, model, stage.first, stage.last)
        own.mark(position, (position + len(x),), (mark,))
        own.entered(position, x)
        self._pump(own)

    async def guard(self, guard: Guard) -> Holds:
        """Let a session belong to its request, with the cache of an earlier attempt if there is one; say what it is."""
        stage = guard.stages[guard.index]
        before = self._by_request.get(guard.kept)
        if before is not None and before.session != guard.session:
            fits = (before.model, before.first, before.last) == (guard.model, stage.first, stage.last)
            if guard.ask and fits and guard.session not in self._by_session:
                await self._place.rename(before.session, guard.session)
                self._by_session[guard.session] = self._by_session.pop(before.session)
                if before.sender:  # a standby that is the stage from now on
                    before.copied = 0
                before.session, before.sender = guard.session, ""
            else:
                await self._place.drop(before.session)
        own = self._own(guard.session, guard.model, stage.first, stage.last)
        if own.standby is not None and (guard.standby is None or guard.standby.node != own.standby.node):
            own.copied, own.sent_ns = 0, None
        own.kept, own.standby, own.guarded = guard.kept, guard.standby, True
        self._by_request[guard.kept] = own
        self._pump(own)
        return Holds(guard.session, tuple(own.ends), tuple(own.marks))

    async def on_guard(self, guard: Guard) -> None:
        """Take a head's word that a session is prepared, and answer it where it asks.

        It heads the pipeline that this node's leader has placed here last: what ran in an earlier one runs no more.
        """
        holds = await self.guard(guard)
        if guard.ask:
            self._place.transport.send(guard.stages[0].node, STAGE_RESULT, encode(holds))

    def _own(self, session: str, model: str, first: int, last: int) -> _Kept:
        return self._by_session.setdefault(session, _Kept(session, model, first, last))

    # -- copies that leave ---------------------------------------------------------------------------

    def _pump(self, own: _Kept) -> None:
        """Send the next copy, if enough has come since the one before and none is under way."""
        standby = own.standby
        if standby is None or own.busy:
            return
        if own.sent_ns is not None and self._place.clock.now() - own.sent_ns < COPY_TRY_NS:
            return
        until = min(own.tokens, standby.until)
        if until - own.copied >= standby.every or (until == standby.until > own.copied):
            own.busy, own.sent_ns = True, self._place.clock.now()
            most = max(1, int(COPY_TOKENS * self.chunk_share))
            self._spawn(self._send(own, standby, own.copied, min(until, own.copied + most)))

    async def _send(self, own: _Kept, standby: Standby, begin: int, end: int) -> None:
        try:
            parts = await self._parts(own, standby, begin, end)
        except ValueError:  # the session ended meanwhile
            own.standby = None
            return
        finally:
            own.busy = False
        marked = [k for k, at in enumerate(own.ends) if begin < at <= end]
        copy = Copy(
            own.kept, own.model, own.first, own.last, begin, end - begin,
            tuple(own.ends[k] for k in marked), tuple(own.marks[k] for k in marked), parts,
        )  # fmt: skip
        self.sent_tokens += end - begin
        self._place.transport.send(standby.node, STAGE, encode(copy))

    async def _parts(self, own: _Kept, standby: Standby, begin: int, end: int) -> tuple[Activation, ...]:
        """Return what entered, or where that is not to be sent or gone, keys and values."""
        x = own.inputs(begin, end) if standby.way == "checkpoint" else None
        if x is not None:  # what was rounded on its way here is not rounded a second time
            return (pack_activation(x, "f16" if self._place.coding == "f16" else "f32"),)
        if self._by_session.get(own.session) is not own:
            raise ValueError("the session ended, and asking for its shard would open it again")
        shard = await self._place.shard_of(own.session, own.model, own.first, own.last)
        keys, values = await self._place.compute.run(shard.cached, own.session, begin)
        coding = "f16" if shard.dtype == "fp16" else "f32"
        return tuple(pack_activation(_flat(part[:, : end - begin]), coding) for part in (keys, values))

    def on_copied(self, sender: str, copied: Copied) -> None:
        """A standby says how far it is."""
        own = self._by_request.get(copied.kept)
        if own is None or own.standby is None or own.standby.node != sender:
            return
        own.copied, own.sent_ns = min(copied.tokens, own.tokens), None
        self._pump(own)

    # -- copies that come ----------------------------------------------------------------------------

    async def on_copy(self, sender: str, copy: Copy) -> None:
        """Take a copy in where it goes on from what is here; tell its sender how far that is.

        It is the sender that this node's leader has named last. What another one sent before gives way to its first.
        """
        here = self._by_request.get(copy.kept)
        edges = (copy.model, copy.first, copy.last)
        if here is not None and (here.sender != sender or (here.model, here.first, here.last) != edges):
            if not here.sender or copy.position:
                return  # a session that runs here, or the middle of another copy
            await self._place.drop(here.session)
            here = None
        if here is None and copy.position:
            self._place.transport.send(sender, STAGE, encode(Copied(copy.kept, 0)))
            return  # nothing is remembered of what cannot be taken in
        if here is None:
            name = f"copy of {copy.kept} by {sender}"
            here = self._by_request[copy.kept] = self._own(name, *edges)
            here.sender, here.kept = sender, copy.kept
        if here.busy:
            return
        known = dict(zip(here.ends, here.marks, strict=True))
        new = any(known.get(end) != mark for end, mark in zip(copy.ends, copy.marks, strict=True))
        if copy.position <= here.copied and (new or copy.position + copy.tokens > here.copied):
            await self._take(here, copy)
        self._place.transport.send(sender, STAGE, encode(Copied(copy.kept, here.copied)))

    async def _take(self, here: _Kept, copy: Copy) -> None:
        here.busy = True
        try:
            shard = await self._place.shard_of(here.session, copy.model, copy.first, copy.last)
            arrays = [unpack_activation(part) for part in copy.parts]
            if len(arrays) == 1 and len(arrays[0]) == copy.tokens:
                await self._place.compute.run(shard.forward, here.session, arrays[0], copy.position)
            else:
                keys, values = (_deep(each, shard, copy) for each in arrays)
                await self._place.compute.run(shard.restore, here.session, keys, values, copy.position)
        finally:
            here.busy = False
        here.mark(copy.position, copy.ends, copy.marks)
        here.copied = copy.position + copy.tokens
        self.taken_tokens += copy.tokens

    # -- the end -------------------------------------------------------------------------------------

    async def free(self, kept: str) -> None:
        """Forget a request; "" is every one of them."""
        for own in list(self._by_session.values()):
            if own.kept and kept in ("", own.kept):
                await self._place.drop(own.session)

    def forget(self, session: str) -> None:
        """A session's cache is no more."""
        own = self._by_session.pop(session, None)
        if own is not None and self._by_request.get(own.kept) is own:
            del self._by_request[own.kept]


def _flat(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    layers, tokens, heads, width = part.shape
    return part.reshape(layers * tokens, heads * width)


def _deep(rows: npt.NDArray[Any], shard: Shard, copy: Copy) -> npt.NDArray[Any]:
    """Return keys or values as a shard has them.

    Raises:
        ValueError: they do not fit the shard's layers.
    """
    return rows.reshape(copy.last - copy.first, copy.tokens, shard.spec.kv_heads, shard.spec.head_dim)
