"""The sharding problem and its answer: what the leader asks a planner, as messages.

Seconds are those of one decode stream (batch 1); the terms are those of `models.inference`. How a plan is
costed is in `policies.sharding.cost`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.jobs import Stage
from policies.wire import Message

Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]


class Worker(Message, frozen=True):
    """A device that may hold layers.

    A decode step over n layers takes ``step_s + n * layer_s``; prefill ``prefill_s_token_layer`` a token
    and layer. Two workers of one ``site`` reach each other without the backbone; otherwise each adds its
    ``backbone_s``, one way.
    """

    node: str
    memory_bytes: NonNegative
    layer_s: Positive
    step_s: NonNegative
    prefill_s_token_layer: NonNegative
    bytes_per_s: Positive
    one_way_s: NonNegative
    site: str = ""
    backbone_s: NonNegative = 0.0


class Problem(Message, frozen=True):
    """A model to cut over workers.

    ``kv_bytes_layer`` is the cache reserved in each layer, already slots x context. ``head_bytes`` is the
    embedding on the first stage and again the output head on the last. ``source`` is where tokens come from
    and go back to: ``""`` for the pipeline's own first stage, else a worker, else a place on the backbone.
    ``candidates`` bounds the devices that an exact planner looks at for one pipeline.
    """

    model: str
    layers: Count
    layer_bytes: Positive
    kv_bytes_layer: NonNegative
    head_bytes: NonNegative
    activation_bytes: NonNegative
    workers: tuple[Worker, ...] = ()
    source: str = ""
    candidates: Annotated[int, Meta(ge=1, le=10)] = 8


class Plan(Message, frozen=True):
    """Pipelines that share no worker, each with its seconds a token; ``infeasible``: why there is none."""

    pipelines: tuple[tuple[Stage, ...], ...]
    latency_s: tuple[float, ...]
    infeasible: str = ""
