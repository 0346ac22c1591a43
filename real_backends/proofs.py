"""Jobs of checks on real executors: a stage commits to what it did, shows a place of it, and computes others' again.

What a session leaves behind is kept when it is dropped, for as many as a shard has sessions: a copy of its cache, and
the rows that came in and went out. Blobs bring a verifier the session's tokens, and what the stage took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakSet

import msgspec
import numpy as np
import numpy.typing as npt

from models.inference.tolerances import pair_of, stored_tolerances
from policies.jobs import CommitJob, Done, OpenJob, RecheckJob, ReleaseJob, Shown, Transcript
from policies.verification import Challenge, Commitment, Opening, Verdict, judge
from policies.wire import encode
from real_backends.blob_exchange import BlobExchange
from real_backends.executors.checkpoint import Weights
from real_backends.executors.recheck import recompute
from real_backends.executors.shard import SESSIONS_MAX, Shard
from real_backends.executors.spec import ModelSpec
from real_backends.executors.witness import Evidence, Kept, Witness
from real_backends.stages import Stages

Proof = CommitJob | OpenJob | ReleaseJob | RecheckJob
Tokens = npt.NDArray[np.int64]
T = TypeVar("T")

_commitment = msgspec.msgpack.Decoder(Commitment).decode
_opening = msgspec.msgpack.Decoder(Opening).decode


class Proofs:
    """Does the jobs of checks on one node.

    Args:
        stages: whose sessions are committed to.
        blobs: the node's.

    Attributes:
        make: makes the shards that compute; those that serve are witnessed.
        worked_s, fetched_bytes: what the jobs took so far.
    """

    def __init__(self, stages: Stages, blobs: BlobExchange) -> None:
        self._stages, self._blobs = stages, blobs
        self.worked_s, self.fetched_bytes = 0.0, 0
        self._tolerances = stored_tolerances()
        self._kept: dict[str, Kept] = {}
        self._evidence: dict[str, tuple[Evidence, Kept]] = {}
        self._witnesses: WeakSet[Witness] = WeakSet()
        self._second: tuple[tuple[str, int, int], Shard] | None = None  # made to compute others' work again
        self.make, stages.make = stages.make, self._witnessed

    async def run(self, job: Proof) -> Done:
        """Do a job.

        Raises:
            ValueError: it cannot be done.
        """
        if isinstance(job, CommitJob):
            tokens = await self._tokens(job.of)
            return _done((await self._work(self._commit, job.of, tokens)).commitment)
        if isinstance(job, OpenJob):
            return _done(await self._work(self._open, job))
        if isinstance(job, ReleaseJob):
            await self._work(self._release, job.op)
            return Done("", 0, 0)
        tokens = await self._tokens(job.of)
        came = None
        if job.came:
            came = np.frombuffer(await self._fetch(job.came, job.of.stage.node), "<f4")
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
        parts = [await self._fetch(of.prompt, of.source), await self._fetch(of.output, of.holder)]
        return np.concatenate([np.frombuffer(part, "<i4") for part in parts]).astype(np.int64)

    async def _fetch(self, name: str, holder: str) -> bytes:
        if (here := self._blobs.store.get(name)) is not None:
            return here
        data = await self._blobs.get(name, holder)
        if data is None or len(data) % 4:
            raise ValueError(f"blob {name} cannot be had from {holder}")
        self.fetched_bytes += len(data)
        return data

    # In the compute thread.

    def _witnessed(
        self, backend: str, spec: ModelSpec, weights: Weights, first: int, last: int, *, blocks: int | None = None
    ) -> Shard:
        witness = Witness(self.make(backend, spec, weights, first, last, blocks=blocks), self._retire)
        self._witnesses.add(witness)
        return witness

    def _retire(self, shard: Witness, session: str) -> None:
        if (op := _op(session)) not in self._evidence:
            self._keep(op, shard, session)

    def _keep(self, op: str, shard: Witness, session: str) -> None:
        try:
            kept = shard.keep(session)
        except ValueError:
            return  # a lane, which has no cache of its own, or a session that has not begun
        earlier = self._kept.pop(op, None)
        self._kept[op] = kept if earlier is None else kept.after(earlier)
        if len(self._kept) > SESSIONS_MAX:
            del self._kept[next(iter(self._kept))]

    def _commit(self, of: Transcript, tokens: Tokens) -> Evidence:
        if (done := self._evidence.get(of.op)) is not None:
            return done[0]
        for shard in self._witnesses:
            for session in shard.names():  # not dropped yet
                if _op(session) == of.op:
                    self._keep(of.op, shard, session)
        kept = self._kept.get(of.op)
        if kept is None:
            raise ValueError(f"nothing is kept of {of.op}")
        evidence = kept.commit(of.op, tokens, of.prompt_tokens)
        self._evidence[of.op] = evidence, kept
        del self._kept[of.op]
        if len(self._evidence) > SESSIONS_MAX:
            del self._evidence[next(iter(self._evidence))]
        return evidence

    def _open(self, job: OpenJob) -> Shown:
        found = self._evidence.pop(job.op, None)
        if found is None:
            raise ValueError(f"nothing is kept of {job.op}")
        evidence, kept = found
        opening = encode(evidence.open(Challenge(job.block, job.layer)))
        if kept.first == 0:
            return Shown(opening, "")
        came = kept.inputs(evidence.commitment.positions)
        return Shown(opening, self._blobs.store.put(np.ascontiguousarray(came, "<f4").tobytes()))

    def _release(self, op: str) -> None:
        self._kept.pop(op, None)
        self._evidence.pop(op, None)

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
        return judge(commitment, challenge, opening, found if of.greedy else found._replace(deficit=0.0), tolerance)

    def _other(self, of: Transcript) -> Shard:
        """Return a shard of a stage's layers: what serves under its witness, or one kept until another is made."""
        key = of.model, of.stage.first, of.stage.last
        for witness in self._witnesses:
            if (witness.spec.name, witness.first, witness.last) == key:
                return witness.inner
        if self._second is None or self._second[0] != key:
            self._second = key, self._stages.second(*key, self.make)
        return self._second[1]


def _op(session: str) -> str:
    """Return the job that a stage's session belongs to (`ExecutorHost`)."""
    return session.rpartition("@")[0]


def _done(result: Any) -> Done:
    return Done("", 0, 0, encode(result))
