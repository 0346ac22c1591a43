"""A trial: one run that the hunter makes, whole, as data. Whoever has it can run it again, to the last bit."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from scenarios.adversaries.behaviours import Behaviour
from scenarios.explain import explain
from scenarios.faults import Count, Fault, Moment, NonNegative
from scenarios.schema import ScenarioError, require_finite


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens in one run: a storm of faults, then calm, in which everything must finish.

    Attributes:
        arena: the world that is hunted in, by name.
        policy: ``correct``, or a defect's name.
        seed: of every draw that the schedule does not settle.
        nodes: how many.
        requests: how many clients' operations, spread over the storm and the first half of the calm.
        storm_s: faults begin within it; at its end all that is wrong is healed.
        calm_s: then nothing is wrong any more.
        faults: the schedule.
        liars: what nodes do wrong, by name; the first behaviour is next to the node.
    """

    arena: str
    policy: str = "correct"
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 1
    nodes: Annotated[int, Meta(ge=1, le=1000)] = 5
    requests: Count = 60
    storm_s: Moment = 6.0
    calm_s: NonNegative = 4.0
    faults: tuple[Fault, ...] = ()
    liars: dict[str, tuple[Behaviour, ...]] = msgspec.field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names."""
        return _names(self.nodes)

    @property
    def asking_s(self) -> float:
        """Until when clients ask."""
        return self.storm_s + self.calm_s / 2

    @property
    def end_s(self) -> float:
        """When the run is over."""
        return self.storm_s + self.calm_s


@cache
def _names(nodes: int) -> tuple[str, ...]:
    return tuple(f"n{k}" for k in range(nodes))


def build_trial(data: Any) -> Trial:
    """Validate plain data, as a file has it, into a trial.

    Raises:
        ScenarioError: one line that names the field, the value and what is allowed.
    """
    try:
        trial = msgspec.convert(data, Trial)
    except msgspec.ValidationError as error:
        raise ScenarioError(explain(str(error), data, Trial)) from None
    require_finite(plain(trial))
    return trial


def plain(trial: Trial) -> dict[str, Any]:
    """Return a trial as plain data, for files."""
    made: dict[str, Any] = msgspec.to_builtins(trial)
    return made
