"""The leader's view of workers (leases) and pipelines (lines): soft state, rebuilt by every new leader."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from policies.commands import Place
from policies.jobs import Stage
from policies.problem import Worker
from policies.work import Capability, Load

DECLARED = "declared dead"
"""Why a pipeline ends whose worker a failure detector has given up."""


class Pipeline(NamedTuple):
    """What may become a line: a model, its stages, and its seconds a token."""

    model: str
    stages: tuple[Stage, ...]
    token_s: float


class Hold(NamedTuple):
    """What a worker shall hold: a stage of a model, under a number like a line's; 0 and no layers for nothing."""

    number: int
    model: str
    stage: Stage


@dataclass
class WorkerView:
    """A worker whose lease runs; ``loaded`` is the pipeline whose shard it holds in memory.

    ``capability`` is None for a worker that an earlier leader placed and this one has not heard yet. ``since_ns`` is
    when it was first heard of without a break.
    """

    capability: Capability | None
    lease_until_ns: int
    loaded: int = 0
    since_ns: int = 0


@dataclass
class Line:
    """A placed pipeline and how many sessions run through it."""

    number: int
    model: str
    stages: tuple[Stage, ...]
    token_s: float
    prefill_s_token: float = 0.0
    running: int = 0

    @property
    def nodes(self) -> tuple[str, ...]:
        """Its workers, head first."""
        return tuple(stage.node for stage in self.stages)


class Lines:
    """Workers by node and lines by number, kept consistent.

    Args:
        doubted: node to ``suspect`` or ``dead``, of those that a failure detector does not hold alive.

    Attributes:
        leaving: lines that take no new work, because they shall give way to others.
        spares: node to the copy of a stage that it holds for nobody yet.
        on_disk: node to the (model, first, last) that it has loaded at some time, and so need not fetch.
    """

    def __init__(self, doubted: dict[str, str] | None = None) -> None:
        self.doubted: dict[str, str] = doubted or {}
        self.leaving: set[int] = set()
        self.spares: dict[str, Hold] = {}
        self.on_disk: dict[str, dict[tuple[str, int, int], None]] = {}
        self.workers: dict[str, WorkerView] = {}
        self.lines: dict[int, Line] = {}
        self.of_node: dict[str, int] = {}

    def place(self, command: Place) -> Line:
        """Take in a committed placement."""
        line = Line(command.pipeline, command.model, command.stages, command.token_s)
        self.lines[line.number] = line
        for node in line.nodes:
            self.of_node[node] = line.number
            self.spares.pop(node, None)
        return line

    def dissolve(self, number: int) -> Line | None:
        """Forget a line."""
        line = self.lines.pop(number, None)
        self.leaving.discard(number)
        if line is not None:
            for node in line.nodes:
                if self.of_node.get(node) == number:
                    del self.of_node[node]
        return line

    def ready(self, line: Line) -> bool:
        """Whether every worker of the line is leased, holds its shard and is in no doubt, and the line is to stay."""
        workers, number, doubted = self.workers, line.number, self.doubted
        if number in self.leaving:
            return False
        return all((w := workers.get(n)) is not None and w.loaded == number and n not in doubted for n in line.nodes)

    def take(self, node: str, status: str) -> bool:
        """Take in how a failure detector sees a node; return whether it is held otherwise than before."""
        before = self.doubted.pop(node, "alive")
        if status != "alive":
            self.doubted[node] = status
        return before != status

    def dead(self) -> list[str]:
        """Return the nodes that are held dead."""
        return [node for node, status in self.doubted.items() if status == "dead"]

    def pick(
        self, slots: int, avoid: set[int], voters: set[str], prompt_tokens: int, new_tokens: int, model: str = ""
    ) -> Line | None:
        """Return the free line expected to end such a request first, preferring ones not in ``avoid``.

        Lines with one of the ``voters`` are out of the question: they have had their say. ``model`` leaves others out.
        """
        best: Line | None = None
        best_key: tuple[bool, float, int] | None = None
        for line in self.lines.values():
            if line.running >= slots or not voters.isdisjoint(line.nodes) or model not in ("", line.model):
                continue
            alone_s = prompt_tokens * line.prefill_s_token + new_tokens * line.token_s
            key = (line.number in avoid, alone_s * (1 + line.running), line.number)
            if (best_key is None or key < best_key) and self.ready(line):
                best, best_key = line, key
        return best

    def wanted(self, node: str) -> Hold:
        """Return what a node shall hold."""
        line = self.lines.get(self.of_node.get(node, 0))
        if line is None:
            return self.spares.get(node, Hold(0, "", Stage(node, 0, 0)))
        return Hold(line.number, line.model, next(stage for stage in line.stages if stage.node == node))

    def order(self, node: str, kind: type[Load] = Load) -> Load:
        """Return what a node is told to hold, and in which pipeline's sessions it takes part."""
        number, model, stage = self.wanted(node)
        line = self.lines.get(number)
        return kind(number, model, stage.first, stage.last, line.stages if line is not None else ())

    def of_model(self, model: str) -> list[Line]:
        """Return a model's lines."""
        return [line for line in self.lines.values() if line.model == model]

    def heard(self, node: str) -> None:
        """A worker renewed: its line's prefill time follows from what its workers lend now."""
        line = self.lines.get(self.of_node.get(node, 0))
        if line is None:
            return
        seconds = 0.0
        for stage in line.stages:
            view = self.workers.get(stage.node)
            if view is not None and view.capability is not None:
                seconds += (stage.last - stage.first) * view.capability.prefill_s_token_layer
        line.prefill_s_token = seconds

    def free_workers(self, pending: Collection[str], standing: dict[str, bool]) -> dict[str, Capability]:
        """Return what leased workers in good standing, in no doubt and without a line can lend, by name."""
        return {
            node: view.capability
            for node, view in sorted(self.workers.items())
            if view.capability is not None
            and node not in self.of_node
            and node not in pending
            and standing.get(node, False)
            and node not in self.doubted
        }

    def settled(self, since_ns: int, standing: dict[str, bool]) -> dict[str, Capability]:
        """Return what workers can lend that have a line, or are free and have been lent since ``since_ns``."""
        free = self.free_workers((), standing)
        found = {node: c for node, c in free.items() if self.workers[node].since_ns <= since_ns}
        placed = {node: view.capability for node, view in self.workers.items() if node in self.of_node}
        return dict(sorted((found | {node: c for node, c in placed.items() if c is not None}).items()))

    def expired(self, now_ns: int) -> list[str]:
        """Return workers whose lease has run out."""
        return [n for n, w in self.workers.items() if w.lease_until_ns <= now_ns]


def candidate(node: str, capability: Capability) -> Worker:
    """Return a worker as a planner sees it."""
    fields: dict[str, Any] = {name: getattr(capability, name) for name in capability.__struct_fields__}
    return Worker(node=node, **fields)
