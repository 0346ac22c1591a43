"""Devices and nothing but their compute: what the tests of sessions, serial servers, batches and loads share."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec

from models import inference
from policies import port as p
from policies.jobs import Outcome, PreparedJob, SessionJob, Stage
from policies.wire import encode
from scenarios.schema import Network
from sim.compute import Compute
from sim.laws import Law, Roofline
from sim.network import Links, MessageNetwork
from sim.world import StepCost, World

SHAPE = inference.SHAPES["llama-3.2-1b"]
LAYERS = SHAPE.layers
FAST = inference.Device(60e9, 5e12, 0.7, 0.6, 0.3, 2e-5, 5e-4)
SLOW = inference.Device(20e9, 1e12, 0.7, 0.6, 0.3, 5e-5, 5e-4)
ONE_WAY_S, BACKBONE_S, RATE = 0.004, 0.012, 2e6
NS = 1e-9
REPORT_EVERY = 4
_outcome: Any = msgspec.msgpack.Decoder(Outcome).decode  # type: ignore[arg-type]


Heard = list[tuple[float, int, Any]]
"""(time in s, job, outcome), in order."""


def last(heard: Heard) -> dict[int, tuple[float, Any]]:
    """Return the time and the last outcome of each job."""
    return {job: (time_s, outcome) for time_s, job, outcome in heard}


class Ear:
    """Stands in for a Cell: keeps the outcomes of its jobs."""

    crypto_ops = 0

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    def step(self, now: int, wall: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if given[0] == p.JOB:
            self.heard.append((now * NS, given[2], _outcome(given[3])))
        return ()


class Bench:
    """A world of devices and nothing but their compute."""

    def __init__(
        self, *devices: inference.Device, laws: list[Law] | None = None, cores: int | None = None, **network: Any
    ) -> None:
        links = Links.alike(len(laws or devices), ONE_WAY_S, RATE)
        self.world = World(MessageNetwork(1, links, Network(backbone_s=BACKBONE_S, **network)))
        self.heard: Heard = []
        each = laws or [Roofline(SHAPE, device) for device in devices]
        named = {f"d{k}": law for k, law in enumerate(each)}
        self.compute = Compute(self.world, SHAPE, named, cores)
        self.world.jobs = self.compute
        for name in named:
            self.world.start(self.world.add(name, lambda: Ear(self.heard), StepCost(0, 0, 0, 0, 0)))
        self._jobs = 0

    def at(self, time_s: float, *call: Any) -> None:
        """Call later."""
        function, *arguments = call
        self.world.engine.call_at(round(time_s * 1e9), lambda _: function(*arguments), None)

    def ask(
        self,
        time_s: float,
        prompt: int,
        new: int,
        *cuts: int,
        head: int = 0,
        step: int = 1,
        source: str = "",
        forced: tuple[int, ...] = (),
        nodes: tuple[str, ...] = (),
        **prepared: Any,
    ) -> int:
        """Submit a session at a time; stage k on device head + k x step, or on these, cut at these layers.

        What is ``prepared`` makes it a `PreparedJob`.
        """
        self._jobs += 1
        edges = [0, *cuts, LAYERS]
        named = nodes or tuple(f"d{head + k * step}" for k in range(len(edges) - 1))
        stages = tuple(Stage(name, a, b) for name, (a, b) in zip(named, pairwise(edges), strict=True))
        kind = PreparedJob if prepared else SessionJob
        job = kind("op", SHAPE.name, stages, "prompt", source, prompt, new, REPORT_EVERY, forced, **prepared)
        node = self.world.by_name[stages[0].node]
        self.at(time_s, self.compute.submit, node, "worker", self._jobs, encode(job))
        return self._jobs

    def run(self, until_s: float = 1e5) -> dict[int, tuple[float, Any]]:
        """Run; return each job's time and outcome."""
        self.world.run(until_s)
        return last(self.heard)


def prefill_s(tokens: int, layers: int = LAYERS, head: bool = True, speed: float = 1.0, device: Any = FAST) -> float:
    """The law's own prefill."""
    return float(inference.prefill_s(SHAPE, layers, device, tokens, 0, head, speed))


def token_s(
    streams: int, context: float, layers: int = LAYERS, head: bool = True, speed: float = 1.0, device: Any = FAST
) -> float:
    """The law's own decode step."""
    return float(inference.decode_step_s(SHAPE, layers, device, streams, context, head, speed))
