"""Promises to clients and of coordination: one outcome a request, an end for each, pipelines that hold the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.consensus.messages import Elected
from policies.gateway import Admitted
from policies.problem import Plan, Problem
from policies.sharding import check_plan
from policies.work import Gone, Placed, PlacedOf, SettledBy, SettledOp
from scenarios.checks.language import Check, Each, Ends, Event, Same, Sometimes, decided, told

LEAVES_WITHIN_S = 0.1
"""How much later than its input a step's effects may leave; a slow machine's is longest (our bound)."""
SETTLED = decided("coordination", "settled", SettledOp | SettledBy)
PLACED = decided("coordination", "placed", Placed | PlacedOf)
GONE = decided("coordination", "gone", Gone)
ADMITTED = decided("gateway", "admitted", Admitted)
ELECTED = decided("consensus", "leader", Elected)
ASKED, ENDED = told("asked"), told("ended")
"""A client asked, and was answered, refused, or gave up after its patience; the value begins with (client, op_id)."""
ASKED_AFRESH, ANSWERED = told("asked_afresh"), told("answered")
"""A client asked after everything was healed; a request was answered. Values as above."""


def one_outcome_per_request() -> Same:
    """Whatever is retried, wherever, a request has one outcome."""
    return Same(
        "one_outcome_per_request", SETTLED, key=_op, value=lambda e: (e.value.refused, e.value.output),
        says=lambda e, first: f"{e.node} settles {'/'.join(_op(e))} as {(e.value.refused, e.value.output)}, "
        f"it was settled as {first}",
    )  # fmt: skip


def _op(event: Event) -> tuple[str, str]:
    return event.value.client, event.value.op_id


def shards_cover_the_model(layers: int | Mapping[str, int]) -> Each:
    """A placed pipeline's stages follow one another without gap or overlap, from the first layer to the last.

    Args:
        layers: of the model, or of each of several by name, the first of them before all others.
    """
    known = layers if isinstance(layers, Mapping) else {"": layers}

    def wrong(event: Event) -> str:
        stages: Any = event.value.stages
        layers = known[event.value.model if isinstance(event.value, PlacedOf) else next(iter(known))]
        edges = [0, *(stage.last for stage in stages)]
        gapless = all(stage.first == edges[k] < stage.last for k, stage in enumerate(stages))
        if gapless and edges[-1] == layers:
            return ""
        return f"{event.node} places {[(s.node, s.first, s.last) for s in stages]} for a model of {layers} layers"

    return Each("shards_cover_the_model", PLACED, wrong=wrong)


def every_request_ends() -> Ends:
    """Every accepted request is answered, or refused with a reason."""
    return Ends("every_request_ends", ASKED, ENDED, key=lambda e: e.value[:2], says="has no outcome")


def fresh_requests_are_answered() -> Ends:
    """What is asked once all is healed and settled is answered, not refused: the village has its capacity again."""
    return Ends("fresh_requests_are_answered", ASKED_AFRESH, ANSWERED, key=lambda e: e.value[:2], says="has no answer")


def shards_fit_the_memory(problem: Problem) -> Each:
    """No placed pipeline overflows a worker's memory, by the rule of `policies.sharding.check`.

    Args:
        problem: the model, and every worker with its whole memory.
    """

    def wrong(event: Event) -> str:
        lines = check_plan(problem, Plan((event.value.stages,), (1.0,)))
        return next((f"{event.node} places: {line}" for line in lines if "bytes" in line), "")

    return Each("shards_fit_the_memory", PLACED, wrong=wrong)


class LostOnlyAfterAllTries(Check):
    """A request is refused because workers were lost only after as many attempts as the rules allow.

    An attempt is counted by the leader that made it, so only requests are judged that one leader had from their
    admission to their end.

    Args:
        tries: attempts that the rules allow.
    """

    def __init__(self, tries: int) -> None:
        super().__init__("lost_only_after_all_tries", ELECTED, ADMITTED, SETTLED)
        self.tries = tries
        self.term = 0
        self.admitted: dict[tuple[str, str], int] = {}  # request to the newest term when it came

    def take(self, event: Event) -> str:
        value = event.value
        if event.kind == "leader":
            self.term = max(self.term, value.term)
        elif event.kind == "admitted":
            self.admitted.setdefault(_op(event), self.term)
        elif value.refused == "workers lost":
            alone = self.admitted.get(_op(event)) == self.term
            if alone and value.attempts < self.tries:
                return f"{event.node} refuses {'/'.join(_op(event))} after {value.attempts} of {self.tries} attempts"
        return ""


class AdmitsWithinItsRate(Check):
    """In any spell a gateway lets through no more of a client than ``burst`` and what the rate adds in it.

    Found in one pass: what was let through less what the rate gave, above its lowest so far (Cruz 1991).
    """

    def __init__(self, per_s: float, burst: int) -> None:
        super().__init__("gateway_admits_within_its_rate", ADMITTED)
        self.per_s, self.burst = per_s, burst
        self.level: dict[tuple[str, str], tuple[int, float]] = {}

    def restarted(self, node: str) -> None:
        """A gateway that restarts has forgotten what it let through."""
        self.level = {key: value for key, value in self.level.items() if key[0] != node}

    def take(self, event: Event) -> str:
        key = (event.node, event.value.client)
        at_ns, level = self.level.get(key, (event.now_ns, 0.0))
        level = max(0.0, level - (event.now_ns - at_ns) * 1e-9 * self.per_s) + 1.0
        self.level[key] = (event.now_ns, level)
        # A step's announcement leaves with the step: two may be nearer than the inputs that they answer.
        if level > self.burst + LEAVES_WITHIN_S * self.per_s:
            return f"{event.node} lets {level:.2f} requests of {key[1]} through at once, {self.burst} may"
        return ""


def rare() -> tuple[Check, ...]:
    """Return what a campaign must have seen."""
    return (
        Sometimes("a_pipeline_dissolved", GONE, when=lambda e: True),
        Sometimes("a_second_attempt", SETTLED, when=lambda e: e.value.attempts > 1),
        Sometimes("a_refusal", SETTLED, when=lambda e: bool(e.value.refused)),
    )
