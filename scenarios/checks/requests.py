"""Promises to clients and of coordination: one outcome a request, an end for each, pipelines that hold the model."""

from __future__ import annotations

from typing import Any

from policies.work import Gone, Placed, SettledOp
from scenarios.checks.language import Check, Each, Ends, Event, Same, Sometimes, decided, told

SETTLED = decided("coordination", "settled", SettledOp)
PLACED = decided("coordination", "placed", Placed)
GONE = decided("coordination", "gone", Gone)
ASKED, ENDED = told("asked"), told("ended")
"""A client asked, and was answered, refused, or gave up after its patience; the value begins with (client, op_id)."""


def one_outcome_per_request() -> Same:
    """Whatever is retried, wherever, a request has one outcome."""
    return Same(
        "one_outcome_per_request", SETTLED, key=_op, value=lambda e: (e.value.refused, e.value.output),
        says=lambda e, first: f"{e.node} settles {'/'.join(_op(e))} as {(e.value.refused, e.value.output)}, "
        f"it was settled as {first}",
    )  # fmt: skip


def _op(event: Event) -> tuple[str, str]:
    return event.value.client, event.value.op_id


def shards_cover_the_model(layers: int) -> Each:
    """A placed pipeline's stages follow one another without gap or overlap, from the first layer to the last."""

    def wrong(event: Event) -> str:
        stages: Any = event.value.stages
        edges = [0, *(stage.last for stage in stages)]
        gapless = all(stage.first == edges[k] < stage.last for k, stage in enumerate(stages))
        if gapless and edges[-1] == layers:
            return ""
        return f"{event.node} places {[(s.node, s.first, s.last) for s in stages]} for a model of {layers} layers"

    return Each("shards_cover_the_model", PLACED, wrong=wrong)


def every_request_ends() -> Ends:
    """Every accepted request is answered, or refused with a reason."""
    return Ends("every_request_ends", ASKED, ENDED, key=lambda e: e.value[:2], says="has no outcome")


def rare() -> tuple[Check, ...]:
    """Return what a campaign must have seen."""
    return (
        Sometimes("a_pipeline_dissolved", GONE, when=lambda e: True),
        Sometimes("a_second_attempt", SETTLED, when=lambda e: e.value.attempts > 1),
        Sometimes("a_refusal", SETTLED, when=lambda e: bool(e.value.refused)),
    )
