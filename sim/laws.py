"""Executor laws: what a device's steps cost, by roofline for a device we describe, by profile for one we measured.

A *batching* executor advances all its decode streams together (one reading of the weights serves all). The real
executors of this project run one session's step at a time, in one thread: a profile describes such a *serial* server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from models import inference
from scenarios.hosts import PROFILE_FIELDS


class DecodeCost(NamedTuple):
    """One decode step takes ``(base + streams x per_stream + contexts x per_context) / speed + overhead`` seconds."""

    base_s: float
    per_stream_s: float
    per_context_s: float
    overhead_s: float


class PrefillCost(NamedTuple):
    """A prefill takes ``scaled / speed + overhead`` seconds."""

    scaled_s: float
    overhead_s: float


class Law(Protocol):
    """Costs of one device."""

    batching: bool

    def decode(self, layers: int, last: bool) -> DecodeCost:
        """Cost of a decode step of one stage."""
        ...

    def prefill(self, layers: int, last: bool, tokens: int) -> PrefillCost:
        """Cost of a prompt in one stage."""
        ...


SPAN = 1000
"""Tokens between the evaluations that give a prompt's cost; any number would do."""


class Roofline:
    """The cost law of `models.inference`.

    It is linear in streams and contexts, and quadratic in the tokens of a prompt; so four evaluations give a stage's
    decode steps, and three its prompts (Newton's forward differences).
    """

    batching = True

    def __init__(self, shape: inference.Shape, device: inference.Device) -> None:
        self.shape, self.device = shape, device
        self._known: dict[tuple[int, bool], DecodeCost] = {}
        self._prompts: dict[tuple[int, bool], tuple[float, float, float]] = {}

    def decode(self, layers: int, last: bool) -> DecodeCost:
        """Cost of a decode step of one stage."""
        key = (layers, last)
        if key not in self._known:
            one, half = self._step(key, 1, 0, 1.0), self._step(key, 1, 0, 0.5)
            scaled = half - one  # what doubles when the speed halves
            stream = self._step(key, 2, 0, 1.0) - one
            context = (self._step(key, 1, 1000, 1.0) - one) / 1000
            self._known[key] = DecodeCost(scaled - stream, stream, context, one - scaled)
        return self._known[key]

    def _step(self, key: tuple[int, bool], batch: float, context: float, speed: float) -> float:
        return float(inference.decode_step_s(self.shape, key[0], self.device, batch, context, key[1], speed))

    def prefill(self, layers: int, last: bool, tokens: int) -> PrefillCost:
        """Cost of a prompt in one stage."""
        overhead_s = self.decode(layers, last).overhead_s
        key = (layers, last)
        if key not in self._prompts:
            one, two, three = (self._prompt(key, 1 + k * SPAN) for k in range(3))
            self._prompts[key] = one, two - one, three - 2.0 * two + one
        first_s, difference_s, second_s = self._prompts[key]
        spans = (tokens - 1) / SPAN
        whole_s = first_s + spans * difference_s + spans * (spans - 1.0) / 2.0 * second_s
        return PrefillCost(whole_s - overhead_s, overhead_s)

    def _prompt(self, key: tuple[int, bool], tokens: int) -> float:
        return float(inference.prefill_s(self.shape, key[0], self.device, tokens, 0, key[1]))


@dataclass(frozen=True)
class Measured:
    """A profile of `twin calibrate executor`: a serial server; fields as in the profile, seconds.

    ``step_overhead_s`` is added to each step whatever its size: it is what a step among hops takes longer than in the
    tight loop that gave the other fields.
    """

    decode_s_step: float
    decode_s_layer: float
    decode_s_head: float
    prefill_s_step: float
    prefill_s_token_layer: float
    prefill_s_head: float
    step_overhead_s: float = 0.0

    batching = False

    def decode(self, layers: int, last: bool) -> DecodeCost:
        """Cost of a decode step of one stage; every stream pays it in full."""
        step_s = self.decode_s_step + layers * self.decode_s_layer + self.decode_s_head * last
        return DecodeCost(0.0, step_s + self.step_overhead_s, 0.0, 0.0)

    def prefill(self, layers: int, last: bool, tokens: int) -> PrefillCost:
        """Cost of a prompt in one stage."""
        layers_s = layers * tokens * self.prefill_s_token_layer
        step_s = self.prefill_s_step + layers_s + self.prefill_s_head * last
        return PrefillCost(step_s + self.step_overhead_s, 0.0)


def measured(profile: Mapping[str, Any]) -> Measured:
    """Return the law of a profile."""
    return Measured(**{name: float(profile[name]) for name in (*PROFILE_FIELDS, "step_overhead_s")})
