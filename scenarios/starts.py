"""How long a process of a local run takes until it can serve, told the same to both worlds.

A node that is launched imports what it needs, opens each model's weights, brings one layer into memory and runs every
size that its executor may be asked for (`real_backends.stages.Stages.warm_up`); then it says that it is warm. What each
of these takes is in the profile (`twin calibrate executor`, `real_backends.readiness`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from models.inference import SHAPES, Shape
from policies.config import BatchedConfig, PolicyConfig
from policies.serving.lanes import sessions_max
from scenarios.hosts import START_FIELDS, StepLaw, step_law
from scenarios.schema import Scenario

BUCKET_MIN = 16  # JAX pads a shorter prompt to it: on a CPU 16 rows cost little more than one, a program 0.8 s
BATCH_MAX = 8  # assumption: more sessions in one JAX program save little; a larger step runs in several


def padded_size(count: int) -> int:
    """Return the size that JAX pads so many tokens of a session to: 1, or a power of two from `BUCKET_MIN` on."""
    return 1 if count == 1 else max(BUCKET_MIN, 1 << (count - 1).bit_length())


def warmed_sizes(backend: str, context: int, sessions: int) -> list[tuple[int, int]]:
    """Return (sessions, tokens of each) of every step that an executor runs before it is ready.

    Args:
        backend: "torch", which compiles nothing, "jax", or "paced", which runs none.
        context: longest session, tokens.
        sessions: most that step together.
    """
    if backend != "jax":
        return [(1, 1)] if backend == "torch" else []
    batches = 1 + (min(sessions, BATCH_MAX) - 1).bit_length()
    prompts = range(BUCKET_MIN.bit_length() - 1, 1 + (padded_size(context) - 1).bit_length())
    return [*((1 << n, 1) for n in range(batches)), *((1, 1 << n) for n in prompts)]


class StartLaw(NamedTuple):
    """What the parts of a start take, by the fields of a profile (`scenarios.hosts.START_FIELDS`)."""

    start_s: float
    weights_s: float
    load_bytes_per_s: float
    warm_s: float
    warm_again_s: float

    def model_s(self, shape: Shape, law: StepLaw, sizes: list[tuple[int, int]], *, seeded: bool, again: bool) -> float:
        """Return the seconds from the framework's first product until a model is warm.

        Args:
            shape: of the model.
            law: of its steps.
            sizes: that are warmed (`warmed_sizes`).
            seeded: whether its weights are drawn; files are opened at once, and read as they are needed.
            again: whether the programs were compiled before.
        """
        built_s = (shape.layer_bytes() + shape.head_bytes()) / self.load_bytes_per_s
        program_s = self.warm_again_s if again else self.warm_s
        warmed_s = sum(program_s + law.step_s(1, False, sessions * tokens) for sessions, tokens in sizes)
        drawn_s = self.weights_s * shape.total_bytes() / SHAPES["desk-tiny"].total_bytes() if seeded else 0.0
        return drawn_s + built_s + warmed_s


def start_law(profile: Mapping[str, Any]) -> StartLaw:
    """Return the law of a profile."""
    return StartLaw(**{name: float(profile[name]) for name in START_FIELDS})


def ready_s(scenario: Scenario, profile: Mapping[str, Any], backend: str, *, again: bool = False) -> float:
    """Return how long a process of a scenario takes from its launch until it is warm, with a core of its own.

    Where no start was measured a process is there at once.

    Args:
        scenario: its models and how they are served.
        profile: of the machine.
        backend: of the process.
        again: whether it was there before, and finds its programs.
    """
    start, law, policy = start_law(profile), step_law(profile), scenario.policy
    if scenario.executor == "paced":
        backend = "paced"
    if not start.start_s:
        return 0.0
    batched = isinstance(policy.serving, BatchedConfig)
    together = sessions_max(policy.serving, policy.sharding) if batched else 1
    total_s = start.start_s
    for shape in scenario.models.values():
        sizes = warmed_sizes(backend, context_of(shape, policy), together)
        total_s += start.model_s(shape, law, sizes, seeded=not scenario.checkpoint, again=again)
    return total_s


def context_of(shape: Shape, policy: PolicyConfig) -> int:
    """Return the longest session that a worker takes, tokens."""
    return min(SEEDED_CONTEXT.get(shape.name, policy.sharding.context_tokens), policy.sharding.context_tokens)


SEEDED_CONTEXT = {"desk-tiny": 256, "desk-mini": 256}
"""Contexts of the models whose weights are drawn (`real_backends.executors.spec.DESK_TINY`)."""


def all_ready_s(scenario: Scenario, profile: Mapping[str, Any], nodes: int) -> float:
    """Return how long processes that are launched together take until all are warm: what they do shares the cores.

    Assumption: all of it is work of one core each, so that none is done before the others.
    """
    each = [ready_s(scenario, profile, scenario.backends[k % len(scenario.backends)]) for k in range(nodes)]
    return max(max(each), sum(each) / (scenario.cores or int(profile["cores"])))
