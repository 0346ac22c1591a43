"""Placements: which pipelines exist, and which layers each of their nodes holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.commands import Place
from policies.jobs import Stage
from policies.state.part import Part


def follow(stages: tuple[Stage, ...]) -> bool:
    """Return whether there are stages, and one follows another without gap or overlap."""
    edges = [stage.first for stage in stages[1:]] == [stage.last for stage in stages[:-1]]
    return bool(stages) and edges and all(stage.first < stage.last for stage in stages)


class Placements(Part):
    """Pipelines by number, from 1. No node stands in two, nor twice in one.

    Attributes:
        by_number: pipeline number to the command that placed it.
    """

    name, form = "placements", tuple[Place, ...]

    def __init__(self) -> None:
        self.by_number: dict[int, Place] = {}

    def place(self, command: Place, standing: Mapping[str, bool], layers: Mapping[str, int]) -> bool:
        """Place a pipeline of members in good standing; return whether it could be.

        Args:
            command: what is to stand.
            standing: the registry's members.
            layers: models that are served, and how many each has; {} where nobody tells.
        """
        if command.pipeline in self.by_number or not self._fits(command):
            return False
        if layers and (command.stages[0].first, command.stages[-1].last) != (0, layers.get(command.model)):
            return False
        if not all(standing.get(stage.node, False) for stage in command.stages):
            return False  # one was evicted after the leader planned with it
        self.by_number[command.pipeline] = command
        return True

    def dissolve(self, pipeline: int) -> bool:
        """Forget a pipeline; return whether there was one."""
        return self.by_number.pop(pipeline, None) is not None

    def _fits(self, command: Place) -> bool:
        if command.pipeline < 1 or not follow(command.stages):
            return False
        busy = {stage.node for placed in self.by_number.values() for stage in placed.stages}
        nodes = [stage.node for stage in command.stages]
        return busy.isdisjoint(nodes) and len(set(nodes)) == len(nodes)

    def saved(self) -> Any:
        return tuple(self.by_number.values())

    def load(self, saved: Any) -> None:
        self.by_number = {}
        for place in saved:
            if place.pipeline in self.by_number or not self._fits(place):
                raise ValueError(f"pipeline {place.pipeline} is none, stands there twice, or shares a node")
            self.by_number[place.pipeline] = place
