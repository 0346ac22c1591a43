"""The models that a scenario serves beside its first one, and what they must have in common with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from models.inference import SHAPES, Shape

if TYPE_CHECKING:
    from scenarios.schema import Scenario


class Smaller(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that serves where a better one cannot; its fields are as the scenario's own."""

    model: str
    checkpoint: str = ""  # a folder whose layers workers load (world=local)
    shape: Shape | None = None  # of a model that is not one of `models.inference.SHAPES`, a checkpoint's

    @property
    def served(self) -> Shape:
        """Its shape."""
        return self.shape or SHAPES[self.model]


def check(scenario: Scenario) -> None:
    """Refuse models that cannot stand in for one another.

    A prompt comes as tokens, and one model may go on from what another said: they must count the same tokens. Each is
    there for when the one before it has no room, so it must take less.

    Raises:
        ValueError: one line that names the field, the value and what is allowed.
    """
    first, names = scenario.served, [scenario.model]
    fewer_than = first.total_bytes()
    for number, one in enumerate(scenario.smaller):
        where = f"smaller[{number}]"
        if one.model in names or "+" in one.model:
            raise ValueError(f"{where}.model={one.model!r}: expected a name of its own, without a plus")
        names.append(one.model)
        if one.shape is None and one.model not in SHAPES:
            raise ValueError(f"{where}.model={one.model!r}: allowed: {', '.join(sorted(SHAPES))}")
        if one.checkpoint and one.shape is None:
            raise ValueError(f"{where}.checkpoint={one.checkpoint!r}: needs its shape as well")
        if one.served.vocab != first.vocab:
            raise ValueError(
                f"{where}: {one.model!r} has {one.served.vocab} tokens, expected {first.vocab} as the first"
            )
        own = one.served.total_bytes()
        if own >= fewer_than:
            text = (
                f"its weights take {own:.0f} bytes, expected fewer than the {fewer_than:.0f} of {names[-2]!r} before it"
            )
            raise ValueError(f"{where}.model={one.model!r}: {text}")
        fewer_than = own
