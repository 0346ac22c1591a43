"""Executor laws: what a device's steps cost, by roofline for a device we describe, by profile for one we measured.

A *batching* executor advances all its decode streams together (one reading of the weights serves all). The real
executors of this project run one step at a time, in one thread: a profile describes such a *serial* server, whose step
may be one session's (`sim.steps`) or a batch's (`sim.rounds`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from models import inference
from scenarios.hosts import StepLaw, step_law
from scenarios.schema import Shaped


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

    @property
    def cores_share(self) -> float:
        """The share of a step's time at which it works on a core of its host."""
        ...

    def decode(self, layers: int, last: bool) -> DecodeCost:
        """Cost of a decode step of one stage."""
        ...

    def prefill(self, layers: int, last: bool, tokens: int, context: int = 0) -> PrefillCost:
        """Cost of a prompt in one stage, or of a part of one after so many tokens of it."""
        ...


SPAN = 1000
"""Tokens between the evaluations that give a prompt's cost; any number would do."""


class Roofline:
    """The cost law of `models.inference`.

    It is linear in streams and contexts, and quadratic in the tokens of a prompt; so four evaluations give a stage's
    decode steps, and three its prompts (Newton's forward differences).
    """

    batching = True
    cores_share = 1.0

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

    def prefill(self, layers: int, last: bool, tokens: int, context: int = 0) -> PrefillCost:
        """Cost of a prompt in one stage, or of a part of one after so many tokens of it."""
        overhead_s = self.decode(layers, last).overhead_s
        key = (layers, last)
        if context:
            part_s = float(inference.prefill_s(self.shape, layers, self.device, tokens, context, last))
            return PrefillCost(part_s - overhead_s, overhead_s)
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
    """A process of this host: a server of one step at a time, by a profile (`scenarios.hosts.StepLaw`).

    Attributes:
        law: what its steps take.
        pacing: its steps take so many times as long.
        computes: whether a step works on a core for as long as it takes unpaced; one that only holds its time does not.
    """

    law: StepLaw
    pacing: float = 1.0
    computes: bool = True

    batching = False

    @property
    def cores_share(self) -> float:
        """The share of a step's time at which it works on a core."""
        return 1.0 / self.pacing if self.computes else 0.0

    def decode(self, layers: int, last: bool) -> DecodeCost:
        """Cost of a decode step of one stage; every stream pays it in full."""
        return DecodeCost(0.0, self._paced_s(self.law.step_s(layers, last, 1)), 0.0, 0.0)

    def prefill(self, layers: int, last: bool, tokens: int, context: int = 0) -> PrefillCost:
        """Cost of so many tokens of a prompt in one stage; what was before them makes no difference in a profile."""
        return PrefillCost(self._paced_s(self.law.step_s(layers, last, tokens)), 0.0)

    def batch_s(self, layers: int, last: bool, tokens: Sequence[int]) -> float:
        """Cost of one step of several sessions in one stage, each with so many new tokens."""
        return self._paced_s(self.law.batch_s(layers, last, tokens))

    def _paced_s(self, step_s: float) -> float:
        # What is computed is stretched with its overhead; what is held ends late by as much as any sleep does.
        overhead_s = self.law.step_overhead_s
        return self.pacing * (step_s + overhead_s) if self.computes else self.pacing * step_s + overhead_s


def measured(profile: Mapping[str, Any], shape: Shaped = Shaped(), *, computes: bool = True) -> Measured:  # noqa: B008
    """Return the law of a process at a profile, as it is shaped."""
    return Measured(step_law(profile), shape.pacing, computes)
