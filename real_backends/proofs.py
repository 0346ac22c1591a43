"""Jobs of checks on real executors: a stage commits to what it did, shows a place of it, and computes others' again.

What a session leaves behind is kept when it is dropped, for as many as a shard has sessions, and in a share of the
memory that is lent: a copy of its cache, and the rows that came in and went out. It is kept by who headed the session,
for any peer may run one under the name of another's job. Blobs bring a verifier the session's tokens, and what the
stage took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
import numpy.typing as npt

from models.inference.tolerances import pair_of, stored_tolerances
from policies.jobs import (
    BringJob,
    CommitJob,
    Disowned,
    Done,
    HandJob,
    Lacking,
    OpenJob,
    RecheckJob,
    ReleaseJob,
    Shown,
    Transcript,
)
from policies.verification import Challenge, Commitment, Opening, Verdict, judge
from policies.wire import encode
from real_backends.blob_exchange import BLOB_BYTES_MAX, BlobExchange, WrongSize
from real_backends.executors.checkpoint import Weights
from real_backends.executors.recheck import are_inputs_of, deficit_of, recompute
from real_backends.executors.shard import SESSIONS_MAX, Shard
from real_backends.executors.spec import ModelSpec
from real_backends.executors.witness import Evidence, Kept, Witness
from real_backends.keepsakes import Keepsakes
from real_backends.stages import Stages

Proof = CommitJob | OpenJob | ReleaseJob | HandJob | BringJob | RecheckJob
Tokens = npt.NDArray[np.int64]
Share = Callable[[bytes], str]
Work = tuple[str, str, int, int]
"""A session's job, model, first layer and the one after the last: any peer may let a stage run something else under the
name of a job, and its word must not be about that."""
Of = tuple[str, str, int, int, str]
"""Work, and who headed the session."""
T = TypeVar("T")

_commitment = msgspec.msgpack.Decoder(Commitment).decode
_opening = msgspec.msgpack.Decoder(Opening).decode


MEMORY_SHARE = 0.25
"""Of the memory that is lent, beside what shards take (our choice: a worker of the tests' villages keeps what some
dozens of its sessions left, and is asked within seconds)."""
MEMORY_BYTES = 1 << 30  # where nothing says what is lent (our choice, as of what stages have shown on disk)
OVER_MAX = 1024  # our choice: prepared sessions stay until their requests are over, which is soon after the check


class AbsentBlob(Exception):
    """A blob cannot be had from its holder; carries the outcome that says so."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f"blob {name} cannot be had from {holder}")
        self.outcome = Lacking(str(self), holder, blob=name)


class DisownedAnswer(Exception):
    """A last stage did not choose an answer's tokens; carries the outcome that says so."""

    def __init__(self, of: Transcript) -> None:
        super().__init__(f"the tokens of {of.output} were not chosen here")
        self.outcome = Disowned(str(self), of.holder)


class Proofs:
    """Does the jobs of checks on one node.

    Args:
        stages: whose sessions are committed to.
        blobs: the node's.

    Attributes:
        make: makes the shards that compute; those that serve are witnessed.
        share: puts what a stage took where others can fetch it, and returns its name.
        worked_s, fetched_bytes: what the jobs took so far.
    """

    def __init__(self, stages: Stages, blobs: BlobExchange) -> None:
        self._stages, self._blobs = stages, blobs
        self.worked_s, self.fetched_bytes = 0.0, 0
        self._tolerances = stored_tolerances()
        self._kept: Keepsakes[Of, Kept] = Keepsakes(SESSIONS_MAX)
        self._evidence: Keepsakes[str, tuple[Evidence, Kept]] = Keepsakes(SESSIONS_MAX)
        self._bound_to: dict[str, Transcript] = {}  # what each commitment is about
        self._heads: dict[str, str] = {}  # of the latest sessions that were asked about: who held the answer at first
        # What may still be handed out, of sessions that were opened.
        self._shown: Keepsakes[str, tuple[Evidence, Kept]] = Keepsakes(SESSIONS_MAX)
        self._over: dict[str, None] = {}  # the latest sessions that nobody will ask about, whenever they are dropped
        self._shared: dict[str, list[str]] = {}  # session to the blobs that end with it
        self.share: Share = partial(blobs.store.put, kind="stages")
        self._witnesses: WeakKeyDictionary[Witness, str] = WeakKeyDictionary()  # with the model of each
        self.make, stages.shards.make, stages.on_drop = stages.shards.make, self._witnessed, self._retire

    async def run(self, job: Proof) -> Done | Lacking | Disowned:
        """Do a job.

        Raises:
            ValueError: it cannot be done.
        """
        try:
            return await self._run(job)
        except (AbsentBlob, DisownedAnswer) as refused:
            return refused.outcome

    async def _run(self, job: Proof) -> Done:
        if isinstance(job, CommitJob):
            self._asked_about(job.of)
            tokens = await self._tokens(job.of)
            return _done((await self._work(self._commit, job.of, tokens)).commitment)
        if isinstance(job, OpenJob):
            return _done(await self._work(self._open, job))
        if isinstance(job, ReleaseJob):
            await self._work(self._release, job.op)
            return Done("", 0, 0)
        if isinstance(job, HandJob):
            return Done(await self._work(self._hand, job.op), 0, 0)
        if isinstance(job, BringJob):
            await self._bring(job)
            return Done(job.blob, 0, 0)
        tokens = await self._tokens(job.of)
        came = None
        if job.came:
            positions = job.of.prompt_tokens + job.of.tokens - 1
            came = np.frombuffer(await self._fetch_taken(job.came, job.holder, job.of.model, positions), "<f4")
        return _done(await self._work(self._recheck, job, tokens, came))

    async def _work(self, function: Callable[..., T], *arguments: Any) -> T:
        def timed() -> T:
            begun_s = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.worked_s += time.perf_counter() - begun_s

        return await self._stages.compute.run(timed)

    async def _tokens(self, of: Transcript) -> Tokens:
        parts = [
            await self._fetch(of.prompt, of.source, 4 * of.prompt_tokens),
            await self._fetch(of.output, of.holder, 4 * of.tokens),
        ]
        return np.concatenate([np.frombuffer(part, "<i4") for part in parts]).astype(np.int64)

    async def _fetch(self, name: str, holder: str, size_bytes: int) -> bytes:
        """Return a blob of this size. One of another size is not the session's, whoever calls it so.

        Raises:
            ValueError: no blob is so large, so that its holder is not to blame that it cannot be had.
        """
        if size_bytes > BLOB_BYTES_MAX:
            raise ValueError(f"blob {name}: {size_bytes} bytes, allowed are {BLOB_BYTES_MAX}")
        data = self._blobs.store.get(name)
        if data is None:
            try:
                data = await self._blobs.get(name, holder, size_bytes)
            except WrongSize:
                raise AbsentBlob(name, holder) from None
            self.fetched_bytes += len(data or b"")
        if data is None or len(data) != size_bytes:
            raise AbsentBlob(name, holder)
        return data

    async def _fetch_taken(self, name: str, holder: str, model: str, positions: int) -> bytes:
        """Return what a stage took at so many positions: a row of the model's width each, in float32."""
        return await self._fetch(name, holder, 4 * positions * (await self._stages.spec(model)).hidden)

    async def _bring(self, job: BringJob) -> None:
        if job.commitment:
            data = await self._fetch_taken(job.blob, job.holder, job.model, job.tokens)
        else:
            data = await self._fetch(job.blob, job.holder, 4 * job.tokens)
        self._blobs.store.put(data, "fetched", job.holder)  # it may be here as something else, which ends before
        if job.commitment:
            commitment = _commitment(job.commitment)
            if not await self._work(are_inputs_of, commitment, np.frombuffer(data, "<f4")):
                raise AbsentBlob(job.blob, job.holder)  # what it hands out is something else

    # In the compute thread.

    def _witnessed(
        self, backend: str, spec: ModelSpec, weights: Weights, first: int, last: int, *, blocks: int | None = None
    ) -> Shard:
        witness = Witness(self.make(backend, spec, weights, first, last, blocks=blocks))
        self._witnesses[witness] = self._stages.shards.model_of(weights)
        return witness

    def _retire(self, shard: Shard, session: str, head: str) -> None:
        op = _op(session)  # "" is a copy that is held for another node's session
        known = op in self._over or self._evidence.get(op) is not None or self._shown.get(op) is not None
        if op and not known and isinstance(shard, Witness):
            self._keep(op, shard, session, head)

    def _keep(self, op: str, shard: Witness, session: str, head: str) -> None:
        try:
            kept = shard.keep(session)
        except ValueError:
            return  # a lane, which has no cache of its own, or a session that has not begun
        of = op, self._witnesses[shard], shard.first, shard.last, head
        earlier = self._kept.get(of)
        kept = kept if earlier is None else kept.after(earlier)
        self._kept.put(of, kept, kept.bytes, head)
        self._make_room()

    def _make_room(self) -> None:
        """Let go what is beyond the memory that may be taken: first of what nobody was given a word about."""
        memory = self._stages.shards.memory
        bytes_max = MEMORY_BYTES if memory is None else MEMORY_SHARE * memory.lent_bytes
        while self._kept.bytes + self._evidence.bytes + self._shown.bytes > bytes_max:
            if self._kept:
                self._kept.give_up()
            elif self._evidence:
                self._release(self._evidence.give_up())  # it can say that it has lost this
            else:
                self._shown.give_up()  # what it has put where others fetch it stays: it would be taken for withheld

    def _asked_about(self, of: Transcript) -> None:
        self._heads.setdefault(of.op, of.holder)
        if len(self._heads) > OVER_MAX:
            del self._heads[next(iter(self._heads))]

    def _kept_of(self, of: Transcript) -> tuple[Of, Kept]:
        """Return what is kept of a session, of its head's where others ran something under its name as well.

        The head is asked for the answer first; later its blob may be had from whoever fetched it.

        Raises:
            ValueError: nothing is kept of it, or nobody knows which is meant.
        """
        work: Work = of.op, of.model, of.stage.first, of.stage.last
        found = {key[-1]: kept for key in self._kept if key[:-1] == work and (kept := self._kept.get(key)) is not None}
        head = self._heads.get(of.op, of.holder)
        if head not in found and len(found) != 1:
            raise ValueError(f"{'several are' if found else 'nothing is'} kept of {of.op}")
        head = head if head in found else next(iter(found))
        return (*work, head), found[head]

    def _commit(self, of: Transcript, tokens: Tokens) -> Evidence:
        asked = of.wherever()
        if (done := self._evidence.get(of.op)) is not None:
            if self._bound_to[of.op] != asked:  # a member that lies asked first: that word is not what the leader needs
                raise ValueError(f"{of.op}: bound to another transcript already")
            return done[0]
        for shard in self._witnesses:
            for session in shard.names():  # not dropped yet
                if _op(session) == of.op:
                    self._keep(of.op, shard, session, self._stages.head_of(session))
        key, kept = self._kept_of(of)
        follows = kept.speaks and kept.first > 0  # a head that is its own last stage has nobody to blame
        if follows and len(tokens) - 1 > kept.keys.shape[1]:
            raise DisownedAnswer(of)
        evidence = kept.commit(of.op, tokens, of.prompt_tokens)
        if follows and self._disowns(kept, evidence.commitment, tokens, of.greedy):
            raise DisownedAnswer(of)  # else it would be found false for what its head says it said
        self._kept.pop(key)
        self._bound_to[of.op] = asked
        for op in self._evidence.put(of.op, (evidence, kept), evidence.bytes_held + kept.bytes, key[-1]):
            self._release(op)
        self._make_room()
        return evidence

    def _disowns(self, kept: Kept, word: Commitment, tokens: Tokens, greedy: bool) -> bool:
        """Whether the answer's tokens are worse, by this stage's own logits, than a check lets pass."""
        tolerance = self._tolerances.get(pair_of(word.executor, word.executor))
        logits = np.stack([kept.went[position] for position in range(word.output_from, word.positions)])
        return (
            tolerance is not None
            and _held_against(deficit_of(logits, tokens[word.output_from + 1 :]), greedy) > 2 * tolerance.outputs
        )

    def _open(self, job: OpenJob) -> Shown:
        found = self._evidence.pop(job.op)
        if found is None:
            raise ValueError(f"nothing is kept of {job.op}")
        (evidence, kept), *_ = found
        for op in self._shown.put(job.op, *found):
            self._release(op)
        opening = encode(evidence.open(Challenge(job.block, job.layer)))
        if kept.first == 0:
            return Shown(opening, "")
        came = kept.inputs(evidence.commitment.positions)
        return Shown(opening, self._share(job.op, self.share, came))

    def _hand(self, op: str) -> str:
        found = self._shown.get(op) or self._evidence.get(op)
        if found is None or found[1].speaks:
            raise ValueError(f"nothing is kept of {op} that another stage took")
        evidence, kept = found
        return self._share(
            op, partial(self._blobs.store.put, kind="stages"), kept.outputs(evidence.commitment.positions)
        )

    def _share(self, op: str, put: Share, rows: npt.NDArray[Any]) -> str:
        name = put(np.ascontiguousarray(rows, "<f4").tobytes())
        self._shared.setdefault(op, []).append(name)
        return name

    def _release(self, op: str) -> None:
        for of in self._kept:
            if of[0] == op:
                self._kept.pop(of)
        self._evidence.pop(op)
        self._bound_to.pop(op, None)
        self._shown.pop(op)
        self._over[op] = None
        if len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]
        dropped = set(self._shared.pop(op, ()))
        for name in dropped.difference(*self._shared.values()):  # who says the same has the same blobs
            self._blobs.store.drop(name, "stages")

    def _recheck(self, job: RecheckJob, tokens: Tokens, came: npt.NDArray[np.float32] | None) -> Verdict:
        """Judge; whatever the worker said that cannot be computed from is as false as a false number."""
        of, false = job.of, Verdict("opening", np.inf, np.inf)
        shard, challenge = self._other(of), Challenge(job.block, job.layer)
        try:
            commitment, opening = _commitment(job.commitment), _opening(job.opening)
            if came is not None:
                came = came.reshape(commitment.positions, -1)
            tolerance = self._tolerances.get(pair_of(commitment.executor, f"{shard.backend} {shard.dtype}"))
            if tolerance is None:
                return false
            found = recompute([shard], tokens, commitment, challenge, came)
        except (ValueError, msgspec.MsgspecError):
            return false
        found = found._replace(deficit=_held_against(found.deficit, of.greedy))
        return judge(commitment, challenge, opening, found, tolerance)

    def _other(self, of: Transcript) -> Shard:
        """Return a shard of a stage's layers: what serves under its witness, or one kept until another is made."""
        key = of.model, of.stage.first, of.stage.last  # a checkpoint calls itself something else than who serves it
        serving = self._stages.shards.held.get(key)
        if isinstance(serving, Witness):
            return serving.inner
        return self._stages.shards.second(*key, self.make)


def _op(session: str) -> str:
    """Return the job that a stage's session belongs to (`ExecutorHost`)."""
    return session.rpartition("@")[0]


def _held_against(deficit: float, greedy: bool) -> float:
    """Return a deficit as far as it says that tokens were not chosen: a drawn one may be any, but must be a token."""
    return deficit if greedy or deficit == float("inf") else 0.0


def _done(result: Any) -> Done:
    return Done("", 0, 0, encode(result))
