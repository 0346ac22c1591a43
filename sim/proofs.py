"""Checks of workers in the twin, where nothing is computed: commitments that fit together, and calibrated odds.

What travels is real: commitments, openings of the size that they have, hash trees that hold what is opened. What a
second worker finds is drawn: an honest worker is accused at the rate that tolerances allow, a cheat is found at the
rate of `twin calibrate verification` for a pair of formats. Both are drawn once a place, so that two honest verifiers
agree, as they do where they compute. Work and bytes are those of `policies.verification.law`, by the device's own law.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec

from models import draws
from models.inference import Shape
from models.inference.tolerances import FALSE_ACCUSATIONS, stored_found
from policies.jobs import (
    BringJob,
    CommitJob,
    Done,
    HandJob,
    Lacking,
    Lost,
    OpenJob,
    Outcome,
    RecheckJob,
    ReleaseJob,
    Shown,
    Transcript,
)
from policies.verification import (
    BLOCK,
    PROJECTIONS,
    Commitment,
    Opening,
    Verdict,
    hash_leaf,
    path_to,
    root_of,
)
from policies.verification.commitment import boundary
from policies.wire import encode
from sim.bulk import Bulk
from sim.laws import Law
from sim.sessions import Executor
from sim.sharing import Sharing
from sim.world import Node, World

HASHED_BYTES_PER_S = 1.0e9
"""SHA-256 of what is committed to: an assumption, about a core with instructions for it."""
CHEATS = {
    "wrong_layer": "wrong layer", "skipped_layer": "skipped layer", "four_bits": "four bits",
    "stale_cache": "stale cache, a block",
}  # fmt: skip
"""How calibrations call what `scenarios.adversaries.behaviours.Shirk` does."""

Proof = CommitJob | OpenJob | ReleaseJob | HandJob | BringJob | RecheckJob
_commitment = msgspec.msgpack.Decoder(Commitment).decode
Tell = Callable[[Node, str, int, Outcome, int, int], None]


class Proofs:
    """Commits, opens and rechecks.

    Args:
        seed: of the draws.
        shapes: of the served models, by name.
        cheats: node to how it cheats, and when (ns).
        withholds: node to what it does not hand out, and when (ns): the ``input`` of its stage, or its ``output``, what
            it gave to the next one and, as a head, its answer.
    """

    def __init__(
        self,
        seed: int,
        shapes: Mapping[str, Shape],
        cheats: Mapping[str, tuple[str, range]],
        withholds: Mapping[str, tuple[str, range]],
    ) -> None:
        self.seed, self.shapes, self.cheats, self.withholds = seed, shapes, cheats, withholds
        self.formats = {
            name: f"torch {'fp32' if shape.bytes_per_weight >= 4 else 'bf16'}" for name, shape in shapes.items()
        }
        found = stored_found()
        self._found = {each: found[f"{each} | {each}"] for each in self.formats.values()}
        self._kept: dict[tuple[str, str], Commitment] = {}  # by node and session
        self._bound: dict[tuple[str, str], Transcript] = {}  # of those that can hand out what they gave to the next one
        self._cheated: dict[tuple[str, str], str] = {}  # how, of those that did

    @property
    def fidelity(self) -> str:
        """What a manifest says of this."""
        formats = ", ".join(sorted(set(self.formats.values())))
        return f"modelled: commitments without content, verdicts by the odds calibrated for {formats}, work by law"

    def outcome(self, node: Node, job: Proof, now_ns: int) -> Outcome:
        """Return what a job comes to, whatever time it takes."""
        if (lacking := self.lacking(node.name, job, now_ns)) is not None:
            return lacking
        if isinstance(job, CommitJob):
            earlier = self._bound.get((node.name, job.of.op), job.of)
            if earlier.wherever() != job.of.wherever():
                return Lost(f"{job.of.op}: bound to another transcript already", node.name)
            commitment = self._commit(job.of)
            self._kept[node.name, job.of.op], self._bound[node.name, job.of.op] = commitment, job.of
            kind, times = self.cheats.get(node.name, ("", range(0)))
            if now_ns in times:
                self._cheated[node.name, job.of.op] = CHEATS[kind]
            return _done(commitment)
        if isinstance(job, OpenJob):
            kept = self._kept.pop((node.name, job.op), None)
            if kept is None:
                return Lost("nothing is kept of this session", node.name)
            opening = self._open(self._bound[node.name, job.op].model, kept, job)
            return _done(Shown(encode(opening), _between(job.op, kept.first) if kept.first else ""))
        if isinstance(job, ReleaseJob):
            self._kept.pop((node.name, job.op), None)
            self._bound.pop((node.name, job.op), None)
            return Done("", 0, 0)
        if isinstance(job, HandJob):
            of = self._bound.get((node.name, job.op))
            if of is None or self._refuses(node.name, "output", now_ns):
                return Lost("nothing is kept of this session", node.name)
            return Done(_between(job.op, of.stage.last), 0, 0)
        return Done(job.blob, 0, 0) if isinstance(job, BringJob) else _done(self._recheck(job))

    def lacking(self, node: str, job: Proof, now_ns: int) -> Lacking | None:
        """Return what a job needs and its holder does not hand out to ``node``, if there is such a thing."""
        wanted: list[tuple[str, str, str]] = []  # blob, holder, and what it is there
        if isinstance(job, BringJob):
            own = bool(job.commitment) and self._is_of(job.holder, _commitment(job.commitment))
            wanted.append((job.blob, job.holder, "input" if own else "output"))
        if isinstance(job, CommitJob | RecheckJob):
            wanted.append((job.of.output, job.of.holder, "output"))
        if isinstance(job, RecheckJob) and job.came:
            wanted.append((job.came, job.holder, "input"))
        for blob, holder, what in wanted:
            if holder != node and self._refuses(holder, what, now_ns):
                return Lacking(f"blob {blob} cannot be had from {holder}", holder, blob=blob)
        return None

    def _is_of(self, node: str, commitment: Commitment) -> bool:
        of = self._bound.get((node, commitment.session))
        return of is not None and of.stage.first == commitment.first

    def _refuses(self, node: str, what: str, now_ns: int) -> bool:
        kind, times = self.withholds.get(node, ("", range(0)))
        return kind == what and now_ns in times

    def forget(self, node: Node) -> None:
        """A node went down, and what it kept is lost."""
        for name, op in list(self._bound):
            if name == node.name:
                self._kept.pop((name, op), None)
                del self._bound[name, op]

    def kept_bytes(self, of: Transcript) -> float:
        """Return what a stage hashes to commit: its cache, and a sketch a position."""
        positions = of.prompt_tokens + of.tokens - 1
        cached = self.shapes[of.model].kv_bytes_per_token_layer() * (of.stage.last - of.stage.first)
        return float(positions * (cached + 4 * PROJECTIONS))

    def came_bytes(self, of: Transcript) -> float:
        """Return what a verifier needs beside the opening: tokens, or activations in float32."""
        positions = of.prompt_tokens + of.tokens - 1
        return 4.0 * positions * (1 if of.stage.first == 0 else self.shapes[of.model].hidden)

    def taken_bytes(self, job: BringJob) -> float:
        """Return what a stage took, in float32; nothing where its holder was never bound, or has let it go."""
        commitment = _commitment(job.commitment)
        of = self._bound.get((job.holder, commitment.session))
        return 4.0 * commitment.positions * self.shapes[of.model].hidden if of is not None else 0.0

    def _commit(self, of: Transcript) -> Commitment:
        positions = of.prompt_tokens + of.tokens - 1
        begin = of.prompt_tokens - 1 if of.last else 0
        blocks = -(-positions // BLOCK)
        spoken, layers = blocks - begin // BLOCK, of.stage.last - of.stage.first
        came = () if of.stage.first == 0 else (hash_leaf(_digest(of.op, of.stage.first)),) * blocks
        return Commitment(
            session=of.op,
            executor=self.formats[of.model],
            tokens=sha256(encode((of.prompt, of.output))).digest(),
            first=of.stage.first,
            last=of.stage.last,
            positions=positions,
            output_from=begin,
            inputs=root_of(came),
            outputs=root_of((hash_leaf(_digest(of.op, of.stage.last)),) * spoken),
            sketches=root_of((hash_leaf(_sketch(of.op, of.stage.last)),) * spoken),
            cache=_equal_root(hash_leaf(self._cached(of.model)), blocks * layers),
        )

    def _cached(self, model: str) -> bytes:
        return bytes(int(BLOCK * self.shapes[model].kv_bytes_per_token_layer()))

    def _open(self, model: str, c: Commitment, at: OpenJob) -> Opening:
        spoken, first = c.blocks - c.output_from // BLOCK, c.output_from // BLOCK
        sketch = _sketch(c.session, c.last)
        outputs, sketches = (hash_leaf(sketch[:32]),) * spoken, (hash_leaf(sketch),) * spoken
        cached = (hash_leaf(self._cached(model)),) * (c.blocks * (c.last - c.first))
        return Opening(
            sketch, path_to(sketches, at.block - first), path_to(outputs, at.block - first), self._cached(model),
            path_to(cached, at.layer * c.blocks + at.block),
        )  # fmt: skip

    def _recheck(self, job: RecheckJob) -> Verdict:
        node = job.of.stage.node
        cheat = self._cheated.get((node, job.of.op), "")
        chance = self._found[self.formats[job.of.model]][cheat] if cheat else FALSE_ACCUSATIONS
        purpose = f"recheck {job.of.op} {node} {job.block} {job.layer}"
        if float(draws.uniform(self.seed, purpose, 0, 0)) < chance:
            return Verdict("cache" if cheat == CHEATS["stale_cache"] else "outputs", 1.0, 1.0)
        return Verdict("honest", 0.0, 0.0)


class Proving:
    """Lets jobs of checks take their bytes and their time, beside whatever else a device does.

    Args:
        proofs: what they come to.
        law: of a model on a node.
        tell: how a node hears of an outcome: (node, path, job, outcome, ns, life of the node).

    Attributes:
        bytes, seconds: carried beside messages, and worked, so far.
    """

    def __init__(
        self, world: World, proofs: Proofs, law: Callable[[str, str], Law], executors: Mapping[str, Executor],
        sharing: Sharing, bulk: Bulk, tell: Tell,
    ) -> None:  # fmt: skip
        self.world, self.proofs, self.executors, self.sharing, self.bulk = world, proofs, executors, sharing, bulk
        self._law = law
        self.bytes = self.seconds = 0.0
        self._tell = tell

    def start(self, node: Node, path: str, job_id: int, job: Proof) -> None:
        """Begin a job."""
        now, epoch = int(self.world.engine.now), node.epoch
        if (lacking := self._lacking(node, job, now)) is not None:
            self._tell(node, path, job_id, lacking, now, epoch)
            return

        def end(_: Any = None) -> None:
            done_ns = int(self.world.engine.now)
            if node.epoch == epoch:
                self._tell(node, path, job_id, self.proofs.outcome(node, job, done_ns), done_ns, epoch)

        if isinstance(job, CommitJob):
            self._work(node, self.proofs.kept_bytes(job.of) / HASHED_BYTES_PER_S, end)
        elif isinstance(job, RecheckJob):
            seconds = self._seconds(node, job)
            holder = job.holder if job.came else job.of.holder
            self._carry(holder, node, self.proofs.came_bytes(job.of), lambda _: self._work(node, seconds, end))
        elif isinstance(job, BringJob):
            size = self.proofs.taken_bytes(job) if job.commitment else 4.0 * job.tokens
            self._carry(job.holder, node, size, end)
        else:
            end()

    def _lacking(self, node: Node, job: Proof, now_ns: int) -> Lacking | None:
        """What a job needs and cannot be had: it is withheld, or who holds it is down or cut off."""
        holders: dict[str, str] = {}
        if isinstance(job, BringJob):
            holders[job.holder] = job.blob
        if isinstance(job, CommitJob | RecheckJob):
            holders[job.of.holder] = job.of.output
        if isinstance(job, RecheckJob) and job.came:
            holders[job.holder] = job.came
        for name, blob in holders.items():
            holder = self.world.by_name[name]
            if not holder.up or self.world.network.parted([holder.number, node.number]):
                return Lacking(f"blob {blob} cannot be had from {name}", name, blob=blob)
        return self.proofs.lacking(node.name, job, now_ns)

    def _carry(self, holder: str, node: Node, size_bytes: float, then: Callable[[Any], None]) -> None:
        self.bytes += size_bytes
        if holder == node.name:
            then(None)
        else:
            self.bulk.send(self.world.by_name[holder].number, node.number, size_bytes, then)

    def _seconds(self, node: Node, job: RecheckJob) -> float:
        """Return a prefill of the stage's layers up to the challenged block."""
        of = job.of
        tokens = min((job.block + 1) * BLOCK, of.prompt_tokens + of.tokens - 1)
        executor = self.executors[node.name]
        cost = self._law(of.model, node.name).prefill(of.stage.last - of.stage.first, of.last, tokens)
        return cost.scaled_s / max(executor.speed, 1e-3) + cost.overhead_s

    def _work(self, node: Node, seconds: float, end: Callable[[Any], None]) -> None:
        executor = self.executors[node.name]
        self.seconds += seconds
        executor.busy_s += seconds * executor.speed
        self.sharing.start([node.name], seconds, cap_per_s=1.0, done=end)


def _done(result: Any) -> Done:
    return Done("", 0, 0, encode(result))


def _between(op: str, layer: int) -> str:
    """Return the name of the blob of what passed before a layer."""
    return f"{op} before {layer}"


def _digest(op: str, layer: int) -> bytes:
    return sha256(boundary(op, layer)).digest()


def _sketch(op: str, layer: int) -> bytes:
    return _digest(op, layer) + bytes(4 * PROJECTIONS * BLOCK)


@cache  # the cache's leaves are alike in all sessions
def _equal_root(leaf: bytes, count: int) -> bytes:
    return root_of((leaf,) * count)
