"""Placements: which pipelines exist, and which layers each of their nodes holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.commands import Place
from policies.state.part import Part


class Placements(Part):
    """Pipelines by number. No node stands in two, nor twice in one.

    Attributes:
        by_number: pipeline number to the command that placed it.
    """

    name, form = "placements", tuple[Place, ...]

    def __init__(self) -> None:
        self.by_number: dict[int, Place] = {}

    def place(self, command: Place, standing: Mapping[str, bool]) -> bool:
        """Place a pipeline of members in good standing; return whether it could be."""
        if command.pipeline in self.by_number or not self._fits(command):
            return False
        if not all(standing.get(stage.node, False) for stage in command.stages):
            return False  # one was evicted after the leader planned with it
        self.by_number[command.pipeline] = command
        return True

    def dissolve(self, pipeline: int) -> bool:
        """Forget a pipeline; return whether there was one."""
        return self.by_number.pop(pipeline, None) is not None

    def _fits(self, command: Place) -> bool:
        busy = {stage.node for placed in self.by_number.values() for stage in placed.stages}
        nodes = [stage.node for stage in command.stages]
        return busy.isdisjoint(nodes) and len(set(nodes)) == len(nodes)

    def saved(self) -> Any:
        return tuple(self.by_number.values())

    def load(self, saved: Any) -> None:
        self.by_number = {}
        for place in saved:
            if place.pipeline in self.by_number or not self._fits(place):
                raise ValueError(f"pipeline {place.pipeline} stands there twice, or shares a node")
            self.by_number[place.pipeline] = place
