"""The sharding problem and its answer: what the leader asks a planner, as messages.

Seconds are those of one decode stream (batch 1); the terms are those of `models.inference`. How a plan is
costed, and what a planner makes small, is in `policies.sharding.cost`.
"""

from __future__ import annotations

import math
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
    and layer, ``prefill_s_layer`` a layer whatever the tokens (its weights are read once), and ``prefill_s_token`` a
    token whatever the layers (what a group of devices tells its members). Two workers of one ``site`` reach each
    other without the backbone; otherwise each adds its ``backbone_s``, one way. ``tokens_per_s`` is what many streams
    together get out of it while it holds 1, 2, ... layers, under the cache that is then left; empty: what one stream
    gets.
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
    prefill_s_layer: NonNegative = 0.0
    tokens_per_s: tuple[Positive, ...] = ()
    prefill_s_token: NonNegative = 0.0


class Link(Message, frozen=True):
    """The way from one place to another, where it is known as such: it stands for their two access links.

    A place is a worker or the problem's ``source``. The other direction is another row.
    """

    sender: str
    receiver: str
    bytes_per_s: Positive
    one_way_s: NonNegative


class Held(Message, frozen=True):
    """Layers ``first`` (inclusive) to ``last`` (exclusive) that ``node`` has: in memory, or only on its disk."""

    node: str
    first: int
    last: int
    loaded: bool


class Mover(Message, frozen=True):
    """What moving layers to ``node`` takes: disk to memory, and battery energy it may spend (joules)."""

    node: str
    load_bytes_per_s: Positive
    fetch_j_per_byte: NonNegative = 0.0
    spare_j: float = math.inf


class State(Message, frozen=True):
    """What is there already. ``in_force`` are the pipelines that serve now, ``held`` what nodes have.

    ``requests_ahead`` is how many requests a plan is expected to serve before the next one: what a faster
    pipeline saves on each of them is weighed against the cost of moving (`policies.sharding.replan`). Workers that no
    pipeline needs hold copies of stages, as many as the class of ``service`` asks for where a worker is ``away`` with
    that chance when it is needed (`policies.sharding.replicas`).
    """

    in_force: tuple[tuple[Stage, ...], ...] = ()
    held: tuple[Held, ...] = ()
    movers: tuple[Mover, ...] = ()
    requests_ahead: Count = 1
    service: str = "best_effort"
    away: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class Problem(Message, frozen=True):
    """A model to cut over workers.

    ``kv_bytes_layer`` is the cache reserved in each layer, already slots x context. ``head_bytes`` is the
    embedding on the first stage and again the output head on the last. ``source`` is where tokens come from
    and go back to: ``""`` for the pipeline's own first stage, else a worker, else a place on the backbone.
    ``candidates`` bounds the devices that `latency_dp` looks at for one pipeline.

    A request is ``prompt_tokens`` that go through in one pass, which gives the first token, and then a pass for
    each further one of ``new_tokens``. Without a prompt every token is such a pass, so that the defaults ask for
    the seconds of one decoded token. ``links`` stand for access links where a pair's own way is known.

    ``heads`` are the key-value heads of a layer: it may be cut over a group of as many devices as divide them evenly.
    With one head, which is the default, a layer is never cut.
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
    links: tuple[Link, ...] = ()
    prompt_tokens: Annotated[int, Meta(ge=0)] = 0
    new_tokens: Count = 1
    state: State = State()
    heads: Count = 1


class Group(Message, frozen=True):
    """Devices that each hold an even share of every layer of a stage (tensor parallel); the first speaks for all."""

    nodes: tuple[str, ...]


class Flow(Message, frozen=True):
    """Tokens a second that a placement sends from ``sender`` to ``receiver``; "" is the source at either end."""

    sender: str
    receiver: str
    tokens_per_s: Positive


class Plan(Message, frozen=True):
    """Pipelines that share no worker, each with its seconds a token; ``infeasible``: why there is none.

    A planner of a whole pool also says what every worker holds (``placement``, which may overlap) and the
    ``flows`` that a router follows. The pipelines are then ways through that placement. ``replicas`` are copies of
    the pipelines' stages on workers that have no other part in the plan. ``groups`` say which stages are cut within
    their layers: those of which a group's first device is the node (`policies.sharding.tensor`).
    """

    pipelines: tuple[tuple[Stage, ...], ...]
    latency_s: tuple[float, ...]
    infeasible: str = ""
    placement: tuple[Stage, ...] = ()
    flows: tuple[Flow, ...] = ()
    replicas: tuple[Stage, ...] = ()
    groups: tuple[Group, ...] = ()
