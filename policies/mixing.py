"""Mixing: several models to cut over the same workers, as a question to a planner's job, and its answer."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.jobs import Stage
from policies.problem import Problem, Worker
from policies.wire import Message

MIXER = "mixer"
"""The job's planner: it asks the one that `Mixing.planner` names for each model."""


class Line(Message, frozen=True):
    """A pipeline of a model, and its seconds a token."""

    model: str
    stages: tuple[Stage, ...]
    token_s: float


class Mixing(Message, frozen=True):
    """Which pipelines of which models shall stand, for these classes of service?

    Attributes:
        planner: who cuts each model.
        cards: the models as planning problems without workers, the best model first.
        workers: who may hold them, with the times of the first model's layers.
        standing: what serves now, (model, stages); of lines whose workers are all among ``workers`` any may go.
        services: classes that are served.
        away: chance that a worker is away when it is needed.
    """

    planner: str
    cards: tuple[Problem, ...]
    workers: tuple[Worker, ...]
    standing: tuple[tuple[str, tuple[Stage, ...]], ...]
    services: tuple[str, ...]
    away: Annotated[float, Meta(ge=0, lt=1)]


class Mixed(Message, frozen=True):
    """The lines that shall stand, those that stand already among them, and whose promises they keep.

    ``infeasible`` says why there is no line.
    """

    lines: tuple[Line, ...]
    availability: float
    kept: tuple[str, ...]
    infeasible: str = ""


def as_model(card: Problem, first: Problem, worker: Worker) -> Worker:
    """Return a worker with the times of another model's layers.

    Workers state the times of the first model's. ASSUMPTION: a layer takes time as its bytes do; decoding reads them,
    and of one format a prompt's operations grow as they do.
    """
    times = card.layer_bytes / first.layer_bytes
    return Worker(
        worker.node, worker.memory_bytes, worker.layer_s * times, worker.step_s, worker.prefill_s_token_layer * times,
        worker.bytes_per_s, worker.one_way_s, worker.site, worker.backbone_s,
    )  # fmt: skip
