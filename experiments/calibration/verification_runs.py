"""The runs behind `twin calibrate verification`: honest workers in every way they may run, and cheats.

Each is held against every verifier.

A stage gets the same inputs whoever runs it: tokens, or what torch in float32 hands on after the first half of the
model. So what differs is the stage's own doing, as in a check.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from policies.verification import BLOCK
from real_backends import executors as ex
from real_backends.executors import cheats, seeded
from real_backends.executors.agreement import draw_streams
from real_backends.executors.honest_runs import Run, again, compare, sketched, some, work

Errors = npt.NDArray[np.float64]
FRAMEWORKS = ("torch", "jax")
BEGIN = 15  # the last stage speaks from here on: prompts have 16 tokens
CHEATS = ("wrong layer", "skipped layer", "four bits", "stale cache, a block", "stale cache, half")


class Size(NamedTuple):
    """How much of a model is run.

    Attributes:
        sessions: streams of random tokens.
        length: tokens of each.
        whole: stages of all layers are run beside the halves.
        alone: sessions that are run once more one to a step.
        rebuilt: sessions that are run once more with caches rebuilt every 48 positions.
        cheated: sessions of each cheat.
        together: rechecks in a step.
    """

    sessions: int
    length: int
    whole: bool
    alone: int
    rebuilt: int
    cheated: int
    together: int


FITTED = {"tiny": Size(24, 160, True, 6, 12, 0, 8), "small": Size(8, 64, False, 0, 0, 0, 8)}
HELD_OUT = {"tiny": Size(16, 96, True, 4, 8, 4, 8), "small": Size(2, 32, False, 0, 0, 2, 2)}
"""Assumptions: hundreds of checks of a stage and a pair for a tail, in minutes on one core."""


class Found(NamedTuple):
    """Errors of one stage's checks: outputs [sessions, blocks], cache [sessions, blocks, layers]."""

    outputs: Errors
    cache: Errors


Pair = tuple[str, str]  # worker, verifier


class Measured(NamedTuple):
    """What was found on one model, by stage.

    Attributes:
        honest: of each stage, the ways of its worker.
        cheating: of each cheat, the stages.
    """

    honest: dict[Pair, dict[str, list[Found]]]
    cheating: dict[Pair, dict[str, list[Found]]]


def measure(name: str, seed: int, size: Size, say: Callable[[str], None]) -> Measured:
    """Run everything on one of our models."""
    spec = replace(seeded.RECIPES[name].spec, context=size.length)
    weights = ex.make_checkpoint(spec, seed, seeded.HEAD_GAIN)
    tokens, other = draw_streams(spec.vocab, 2 * size.sessions, size.length, seed).reshape(
        2, size.sessions, size.length
    )
    measured = Measured(defaultdict(lambda: defaultdict(list)), defaultdict(lambda: defaultdict(list)))
    half = spec.layers // 2
    stages = [(0, half), (half, spec.layers), *([(0, spec.layers)] if size.whole else [])]
    for first, last in stages:
        own, stale = (_arrive(spec, weights, streams, first) for streams in (tokens, other))
        stage = _Stage(spec, weights, first, last, own, stale, size, BEGIN if last == spec.layers else 0)
        say(f"{name}: layers [{first}, {last}), verifiers")
        verifiers = {label: stage.verify(label) for label in labels()}
        for label in labels():
            say(f"{name}: layers [{first}, {last}), {label}")
            for run in stage.honest(label):
                for verifier, found in _hold(run, verifiers):
                    measured.honest[label, verifier][f"{first}-{last}"].append(found)
            for cheat, run, low in stage.cheating(label):
                for verifier, (outputs, cache) in _hold(run, verifiers):
                    measured.cheating[label, verifier][cheat].append(Found(outputs[:, low:], cache[:, low:]))
    return measured


def labels() -> list[str]:
    """Return all executors, as ``torch fp16``."""
    return [f"{framework} {dtype}" for framework in FRAMEWORKS for dtype in ex.DTYPES]


def _arrive(spec: ex.ModelSpec, weights: ex.Weights, streams: npt.NDArray[np.int64], first: int) -> npt.NDArray[Any]:
    if first == 0:
        return streams
    shard = ex.make_shard("torch", spec, weights, 0, first, device="cpu")
    return np.stack([_once(shard, stream) for stream in streams])


def _once(shard: ex.Shard, stream: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    rows = shard.forward("arrive", stream, 0)
    shard.drop("arrive")
    return rows


def _hold(run: Run, verifiers: dict[str, Run]) -> Iterator[tuple[str, Found]]:
    worker = sketched(run)
    for verifier, right in verifiers.items():
        yield verifier, Found(*compare(worker, some(right, len(run.outputs))))


class _Stage(NamedTuple):
    spec: ex.ModelSpec
    weights: ex.Weights
    first: int
    last: int
    inputs: npt.NDArray[Any]
    stale: npt.NDArray[Any]
    size: Size
    begin: int

    def shard(self, label: str, weights: ex.Weights) -> ex.Shard:
        framework, dtype = label.split()
        return ex.make_shard(framework, self.spec, weights, self.first, self.last, device="cpu", dtype=dtype)

    def verify(self, label: str) -> Run:
        return again(self.shard(label, self.weights), self.inputs, self.begin, self.size.together)

    def honest(self, label: str) -> Iterator[Run]:
        """The ways of an honest worker: eight sessions a step, one, and with its cache rebuilt now and then."""
        shard = self.shard(label, self.weights)
        for sessions, together, rebuild_every in (
            (self.size.sessions, 8, 0), (self.size.alone, 1, 0), (self.size.rebuilt, 8, 48),
        ):  # fmt: skip
            if sessions:
                yield work(shard, self.inputs[:sessions], self.begin, together, rebuild_every)

    def cheating(self, label: str) -> Iterator[tuple[str, Run, int]]:
        """Each cheat's run, and the first block that counts: a stale part itself would be noticed anyway."""
        spec, last = self.spec, self.last - 1
        if not self.size.cheated:
            return
        doctored = (
            cheats.wrong_layer(spec, self.weights, last, last - 1),
            cheats.skipped_layer(self.weights, last),
            cheats.four_bits(self.weights),
        )
        count = self.size.cheated
        for name, weights in zip(CHEATS, doctored, strict=False):
            yield name, work(self.shard(label, weights), self.inputs[:count], self.begin, 8, 0), 0
        shard = self.shard(label, self.weights)
        for name, until in zip(CHEATS[3:], (BLOCK, self.size.length // 2), strict=True):
            mixed = np.stack(
                [
                    cheats.stale_inputs(right, wrong, until)
                    for right, wrong in zip(self.inputs[:count], self.stale[:count], strict=True)
                ]
            )
            yield name, work(shard, mixed, self.begin, 8, 0), until // BLOCK - self.begin // BLOCK
