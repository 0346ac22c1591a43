"""One pipeline under churn: a request after the other, stages that die at their tokens, and how each is got over.

A stage dies at a token with a fixed chance: its cache is gone and its worker away for a while. The head notices after a
fixed time; then a spare has to have the cache again, and the token is tried there. `policies.recovery` decides
unchanged how, each time something died, from what is known then; plain replay is there to be compared with.

What is simulated: every death and retry, who of a stage's pool is up, how far a standby has copied at each moment (it
shares the way with the request's own tokens), and every byte between nodes. ASSUMPTIONS: requests follow one another on
a pool of their own; the defaults of `Churn`, but for the time-out of inference, which is documented; each token takes
the pipeline's mean time; a worker that does not serve does not die; the prompt goes through in chunks, as a replay
does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models import draws, inference
from policies import recovery
from policies.recovery import CHUNKS, Choice, Copying, Exposure, Rules
from policies.sharding.links import TOKEN_BYTES


@dataclass(frozen=True)
class Churn:
    """What a request meets.

    Attributes:
        stages: of the pipeline; the chance in them is the one a token-hop.
        prompt_tokens, new_tokens: of each request.
        first_token_s, token_s: undisturbed.
        one_way_s: from node to node.
        detection_s: until a death is noticed.
        away_s: a worker is, after it died.
        workers: in each stage's pool, the serving one included.
        deadline_s: a request that has not ended by then has failed.
    """

    stages: tuple[Exposure, ...]
    prompt_tokens: int
    new_tokens: int
    first_token_s: float
    token_s: float
    one_way_s: float
    detection_s: float = 1.0
    away_s: float = 30.0
    workers: int = 4
    deadline_s: float = 300.0

    @property
    def live_bytes(self) -> float:
        """A request's own traffic: the prompt and each token but the last through all stages, and each token back."""
        passed = self.prompt_tokens + self.new_tokens - 1
        return passed * sum(stage.input_bytes for stage in self.stages) + self.new_tokens * TOKEN_BYTES


class Strategy(NamedTuple):
    """How deaths are got over.

    Attributes:
        choose: the way, from a stage, the tokens it holds, those left, and the rules.
        overlapped: whether a replay is computed while it travels; plain replay is not (one transfer, one prefill).
        bytes_ratio: bound on all bytes sent, as a multiple of plain replay's for the same deaths; infinite is none.
    """

    choose: Callable[[Exposure, float, float, Rules], Choice]
    overlapped: bool = True
    bytes_ratio: float = math.inf


STRATEGIES = {
    "plain": Strategy(recovery.replay, overlapped=False),
    "replay": Strategy(recovery.replay),
    "buddy": Strategy(recovery.buddy),
    "checkpoint": Strategy(recovery.checkpoint),
    "chosen": Strategy(recovery.choose, bytes_ratio=1.5),
}


class Served(NamedTuple):
    """Requests that were served, in order: [n] each.

    ``sent_bytes`` is everything, ``plain_bytes`` what plain replay would have sent for the same deaths.
    """

    latency_s: npt.NDArray[np.float64]
    sent_bytes: npt.NDArray[np.float64]
    plain_bytes: npt.NDArray[np.float64]
    deaths: npt.NDArray[np.int64]


def pipeline(
    shape: inference.Shape,
    device: inference.Device,
    stages: int,
    bytes_per_s: float,
    one_way_s: float,
    prompt_tokens: int,
    new_tokens: int,
    failures_per_token_hop: float,
) -> Churn:
    """Return what a request meets on equal devices, each with its share of the model, by the law of inference.

    Raises:
        ValueError: the layers do not divide by the stages.
    """
    if shape.layers % stages:
        raise ValueError(f"stages is {stages}; allowed: a divisor of the model's {shape.layers} layers")
    layers, tokens = shape.layers // stages, prompt_tokens + new_tokens // 2
    step_s = float(inference.decode_step_s(shape, layers, device, 1, tokens))
    head_s = float(inference.decode_step_s(shape, layers, device, 1, tokens, head=True)) - step_s
    many_s = float(inference.prefill_s(shape, layers, device, tokens)) - step_s
    kv_bytes, activation_bytes = layers * shape.kv_bytes_per_token_layer(), shape.activation_bytes()
    exposures = tuple(
        Exposure(
            failures_per_token_hop, activation_bytes if k else TOKEN_BYTES, kv_bytes, bytes_per_s,
            many_s / tokens, step_s,
        )
        for k in range(stages)
    )  # fmt: skip
    travel_s = stages * one_way_s
    token_s = stages * step_s + head_s + travel_s + (stages - 1) * activation_bytes / bytes_per_s
    chunk_s = max(recovery.replay_s(stage, prompt_tokens / CHUNKS) for stage in exposures)
    return Churn(
        exposures, prompt_tokens, new_tokens, (CHUNKS + stages - 1) * chunk_s + head_s + travel_s, token_s, one_way_s
    )


def serve(churn: Churn, strategy: Strategy, requests: int, seed: int) -> Served:
    """Serve requests one after the other; the same seed lets the same stages die at the same tries, whatever the way.

    What earlier requests did not use of their allowance of bytes is the later ones', so that the bound holds for all
    requests up to now together, at every moment.

    Raises:
        ValueError: more deaths a stage and request are to be expected than there are draws for.
    """
    most = churn.new_tokens * max(stage.failures_per_token for stage in churn.stages)
    if most > DEATHS_MAX / 4:
        raise ValueError(f"failures_per_token x new_tokens is {most}; allowed: up to {DEATHS_MAX / 4:g}")
    gaps = [_gaps(stage.failures_per_token, k, requests, seed) for k, stage in enumerate(churn.stages)]
    pools = [[0.0] * churn.workers for _ in churn.stages]
    served = []
    now_s = saved_bytes = 0.0
    for number in range(requests):
        request = _Request(churn, strategy, pools, now_s, saved_bytes)
        request.run([iter(each[number].tolist()) for each in gaps])
        served.append(
            (request.now_s - now_s, request.sent_bytes, churn.live_bytes + request.plain_bytes, request.deaths)
        )
        now_s = request.now_s
        saved_bytes = request.saved_bytes
    latency_s, sent, plain, deaths = (np.array(column) for column in zip(*served, strict=True))
    return Served(latency_s, sent, plain, deaths)


DEATHS_MAX = 64
"""Draws a stage and request. A quarter of them may be expected; four times as many as that happen to nobody."""


def _gaps(chance: float, stage: int, requests: int, seed: int) -> npt.NDArray[np.float64]:
    """Return tries up to and with each death, [requests, DEATHS_MAX]: geometric."""
    index = np.arange(requests * DEATHS_MAX)
    if chance <= 0.0:
        return np.full((requests, DEATHS_MAX), np.inf)
    tries: npt.NDArray[np.float64] = np.ceil(draws.exponential(seed, "death", stage, index) / -math.log1p(-chance))
    tries[tries < 1.0] = 1.0  # an exponential draw may be 0
    return tries.reshape(requests, DEATHS_MAX)


class _Standby:
    """How much of a stage's cache is at its standby: a line in time, up to a limit."""

    def __init__(self, stage: Exposure, ready_s: float) -> None:
        self.stage, self.since_s, self.copied, self.until = stage, ready_s, 0.0, 0.0
        self.choice = Choice("replay", 0.0, stage.input_bytes, 0)

    def per_s(self, rules: Rules) -> float:
        """Tokens a second."""
        idle = recovery.idle_bytes_per_s(self.stage, rules) / self.choice.copy_bytes
        return min(idle, 1.0 / self.stage.prefill_s_token) if self.choice.way == "checkpoint" else idle

    def look(self, now_s: float, held: float, decided: float, rules: Rules) -> float:
        """Return the tokens copied by now, of ``held``; ``decided`` of them came after the prompt."""
        if now_s > self.since_s and self.choice.way != "replay":
            here = held - (decided % self.choice.interval_tokens)  # a checkpoint waits until it is full
            new = self.copied + self.per_s(rules) * (now_s - self.since_s)
            self.copied = max(self.copied, min(new, here, self.until))
            self.since_s = now_s
        return self.copied


class _Request:
    """One request from its prompt to its last token."""

    def __init__(
        self, churn: Churn, strategy: Strategy, pools: list[list[float]], now_s: float, saved_bytes: float
    ) -> None:
        self.before_bytes = saved_bytes
        self.churn, self.strategy, self.pools = churn, strategy, pools
        self.rules = Rules(churn.token_s)
        self.began_s = now_s + max(max(0.0, min(pool) - now_s) for pool in pools)
        self.now_s = self.began_s
        self.lost_s = 0.0
        self.serving = [pool.index(min(pool)) for pool in pools]
        self.standbys = [self._standby(k) for k in range(len(pools))]
        self.sent_bytes, self.plain_bytes = churn.live_bytes, 0.0
        self.deaths = 0

    def run(self, gaps: list[Iterator[float]]) -> None:
        """Go through all tokens; ``gaps`` has for each stage the tries up to each of its deaths."""
        churn = self.churn
        dies_at = [next(each) for each in gaps]
        self._take_prompt()
        while (token := min(dies_at)) <= churn.new_tokens:
            stage = dies_at.index(token)
            self._reach(token)
            self._recover(stage, token)
            self._cover(token)
            dies_at[stage] = token + next(gaps[stage]) - 1
        self._reach(churn.new_tokens)
        self._look(churn.new_tokens)
        self.sent_bytes += sum(each.copied * each.choice.copy_bytes for each in self.standbys)

    def _take_prompt(self) -> None:
        """Let standbys take in the prompt beside the stages: by what the link has left at the prompt's pace.

        Counted only from when the last stage has its first chunk, as if every stage began as late.
        """
        churn, after = self.churn, len(self.pools) - 1
        self._cover(1)
        for each in self.standbys:
            each.since_s += churn.first_token_s * after / (CHUNKS + after)
        self._reach(1)
        pace = Rules(churn.first_token_s / churn.prompt_tokens)
        for each in self.standbys:
            each.look(self.now_s, self._held(1), 0, pace)

    @property
    def saved_bytes(self) -> float:
        """What this request and those before it have left of their allowance."""
        if self.strategy.bytes_ratio == math.inf:
            return math.inf
        allowed = recovery.allowance_bytes(self.churn.live_bytes, self.plain_bytes, self.strategy.bytes_ratio)
        return self.before_bytes + allowed - (self.sent_bytes - self.churn.live_bytes)

    def _reach(self, token: float) -> None:
        """It is the time at which this token is tried, or was decided, if nothing dies any more."""
        self.now_s = self.began_s + self.churn.first_token_s + (token - 1) * self.churn.token_s + self.lost_s

    def _held(self, token: float) -> float:
        """Tokens whose KV every stage has when this one is tried."""
        return self.churn.prompt_tokens + token - 1

    def _look(self, token: float) -> None:
        for each in self.standbys:
            each.look(self.now_s, self._held(token), token - 1, self.rules)

    def _recover(self, stage: int, token: float) -> None:
        """A stage dies: its standby, or else any spare, has the cache again."""
        churn, pool, exposure = self.churn, self.pools[stage], self.churn.stages[stage]
        self._look(token)
        held, standby = self._held(token), self.standbys[stage]
        missing = held - standby.copied
        self.sent_bytes += missing * exposure.input_bytes + standby.copied * standby.choice.copy_bytes
        self.plain_bytes += held * exposure.input_bytes
        self.deaths += 1
        pool[self.serving[stage]] = self.now_s + churn.away_s
        noticed_s = self.now_s + churn.detection_s
        self.serving[stage] = pool.index(min(pool))
        waited_s = max(0.0, min(pool) - noticed_s)
        if self.strategy.overlapped:
            again_s = recovery.replay_s(exposure, missing)
        else:
            again_s = (
                missing * (exposure.input_bytes / exposure.bytes_per_s + exposure.prefill_s_token) + exposure.step_s
            )
        self.lost_s += churn.detection_s + waited_s + churn.one_way_s + again_s
        self._reach(token)
        self.standbys[stage] = self._standby(stage)

    def _standby(self, stage: int) -> _Standby:
        """Return a standby that has nothing yet: the one of the pool that is up first."""
        others = [up_s for k, up_s in enumerate(self.pools[stage]) if k != self.serving[stage]]
        return _Standby(self.churn.stages[stage], max(self.now_s, min(others, default=math.inf)))

    def _cover(self, token: float) -> None:
        """Let the policy say what is copied from now on."""
        left = self.churn.new_tokens - token + 1
        held = self._held(token)
        for each in self.standbys:
            if each.copied == 0.0:  # a way once begun is gone on with
                each.choice = self.strategy.choose(each.stage, held, left, self.rules)
        copying = [Copying(each.stage, each.choice, held, each.copied) for each in self.standbys]
        allowed = self.saved_bytes - sum(each.copied * each.choice.copy_bytes for each in copying)
        for each, until in zip(self.standbys, recovery.cover(copying, left, self.rules, allowed), strict=True):
            each.until = until
