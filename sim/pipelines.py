"""Requests through a placement in virtual time: every node an engine of its own, iteration by iteration.

A request gets its pipeline when the caches of all its stages have room (`policies.serving.caches`); nobody overtakes
the head of the queue. Its prompt goes through in chunks, one behind another, then one token at a time, each back at the
source before the next begins. A node takes what has reached it into one iteration: all decodes first, then chunks up to
a budget; a layer that only some of them need is computed for those alone. What leaves an iteration for the same node
travels as one message: links carry one message after another, and then each takes the link's delay.

With one item an iteration and m requests in flight this is a ring: min(1 / slowest stage, m / (stages + hops)) tokens a
second. Where a node runs out of blocks, its latest request loses its own and begins again at the head of the queue,
computing anew the tokens it has emitted (the batcher's rule, on every stage).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from models.engines import Law
from policies.jobs import Stage
from policies.serving.caches import Caches, Holder, fits
from policies.sharding.links import TOKEN_BYTES
from policies.sharding.routes import Drawing
from sim.batches import Arrival, Served
from sim.engine import Engine
from sim.speed import Speed

SOURCE = ""


@dataclass(frozen=True)
class Host:
    """What a node is.

    Attributes:
        held: its layers.
        layer: what an iteration takes in one layer.
        blocks: of its cache, one layer each.
        step_s: of an iteration beside its layers.
        speed: how fast it works as time goes on.
    """

    held: Stage
    layer: Law
    blocks: int
    step_s: float = 0.0
    speed: Speed = field(default_factory=Speed)


@dataclass(frozen=True)
class Sizes:
    """Limits and bytes.

    Attributes:
        tokens_max: of an iteration, prompts and decodes together.
        requests_max: that decode in one iteration.
        chunk_max: tokens of a prompt that travel together.
        token_bytes: of a token between the source and a pipeline's ends.
        activation_bytes: of a token between two nodes.
        expected_new: tokens of an answer on average, as admission counts with them.
    """

    tokens_max: int = 2048
    requests_max: int = 256
    chunk_max: int = 512
    token_bytes: float = TOKEN_BYTES
    activation_bytes: float = 0.0
    expected_new: int = 0


class Item:
    """What one iteration of a stage computes of one request: ``tokens`` of its prompt, or 0 for a decode."""

    __slots__ = ("at", "context", "flight", "last", "tokens")

    def __init__(self, flight: Flight, tokens: int, context: int, last: bool) -> None:
        self.flight, self.tokens, self.context, self.last = flight, tokens, context, last
        self.at = 0  # the stage that it is on, or on its way to


class Flight:
    """One admission of a request."""

    __slots__ = ("alive", "arrival", "holder")

    def __init__(self, arrival: Arrival, holder: Holder) -> None:
        self.arrival, self.holder, self.alive = arrival, holder, True


@dataclass(frozen=True)
class Outcome:
    """A run.

    Attributes:
        served: what became of each request, in order of arrival.
        admitted_s: when each was first admitted, by key.
        emitted: (time in s, tokens) of decodes that came back to the source, first tokens not among them.
        iterations: of all nodes.
        preempted: how often a request lost its blocks.
        busy_s: what each node computed.
    """

    served: tuple[Served, ...]
    admitted_s: Mapping[str, float]
    emitted: tuple[tuple[float, int], ...]
    iterations: int
    preempted: int
    busy_s: Mapping[str, float]


class _Node:
    """An engine: what waits for it, and whether it computes."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.prompts: deque[Item] = deque()
        self.decodes: deque[Item] = deque()
        self.busy = False
        self.busy_s = 0.0

    def take(self, sizes: Sizes) -> list[Item]:
        """Return the next iteration's items."""
        batch: list[Item] = []
        while self.decodes and len(batch) < sizes.requests_max:
            item = self.decodes.popleft()
            if item.flight.alive:
                batch.append(item)
        budget = sizes.tokens_max - len(batch)
        while self.prompts and (self.prompts[0].tokens <= budget or not batch):
            item = self.prompts.popleft()
            if item.flight.alive:
                batch.append(item)
                budget -= item.tokens
        return batch

    def work_s(self, batch: Sequence[Item]) -> float:
        """Return the seconds of an iteration at full speed."""
        entries: dict[int, list[Item]] = {}
        for item in batch:
            entries.setdefault(item.flight.holder.stages[item.at].first, []).append(item)
        total, here = self.host.step_s, list[Item]()
        firsts = sorted(entries)
        for first, until in zip(firsts, [*firsts[1:], self.host.held.last], strict=True):
            here += entries[first]
            chunks = [(item.tokens, item.context) for item in here if item.tokens]
            context = sum(item.flight.holder.tokens for item in here if not item.tokens)
            total += (until - first) * self.host.layer.iteration_s(chunks, len(here) - len(chunks), context, 0)
        return total


class Pipelines:
    """Serves requests over a placement.

    Args:
        hosts: by node.
        link: (bytes a second, one way in s) from one node to another; `SOURCE` is the gateway.
        drawing: draws each request's pipeline.
        sizes: limits and bytes.
    """

    def __init__(
        self,
        hosts: Mapping[str, Host],
        link: Callable[[str, str], tuple[float, float]],
        drawing: Drawing,
        sizes: Sizes,
    ) -> None:
        self.hosts, self.link, self.drawing, self.sizes = hosts, link, drawing, sizes
        self.engine = Engine(0.0)
        self.caches = Caches({name: host.blocks for name, host in hosts.items()})
        self.nodes = {name: _Node(host) for name, host in hosts.items()}
        self.waiting: deque[Arrival] = deque()
        self._flights: dict[str, Flight] = {}
        self._links: dict[tuple[str, str], tuple[float, float]] = {}
        self._free_s: dict[tuple[str, str], float] = {}
        self._first_s: dict[str, float] = {}
        self._last_s: dict[str, float] = {}
        self._admitted_s: dict[str, float] = {}
        self._emitted: list[tuple[float, int]] = []
        self._iterations = self._preempted = 0

    def serve(self, arrivals: Sequence[Arrival], until_s: float | None = None) -> Outcome:
        """Serve requests, to their end or for a while.

        Raises:
            ValueError: two requests have the same key.
        """
        if len({one.request.key for one in arrivals}) < len(arrivals):
            raise ValueError("requests: two have the same key; allowed: one each")
        coming = sorted(arrivals, key=lambda one: one.at_s)
        for one in coming:
            self.engine.call_at(one.at_s, self._arrive, one)
        self.engine.run(until_s)
        served = tuple(
            Served(one.request, one.at_s, self._first_s.get(one.request.key), self._last_s.get(one.request.key))
            for one in coming
        )
        busy_s = {name: node.busy_s for name, node in self.nodes.items()}
        return Outcome(
            served, self._admitted_s, tuple(self._emitted), self._iterations, self._preempted, busy_s
        )  # fmt: skip

    # -- admission -------------------------------------------------------------------------------------------------

    def _arrive(self, arrival: Arrival) -> None:
        self.waiting.append(arrival)
        if len(self.waiting) == 1:
            self._admit()

    def _admit(self) -> None:
        layers = {name: host.held.last - host.held.first for name, host in self.hosts.items()}
        while self.waiting:
            request = self.waiting[0].request
            tokens = request.prompt + request.emitted
            expected = request.prompt + self.sizes.expected_new
            stages = self.drawing.pipeline(self.caches.full(layers, tokens, expected))
            if not stages:
                return
            arrival = self.waiting.popleft()
            if not fits(self.caches.blocks, stages, request.prompt + request.wanted):
                request.state = "failed"  # it would lose its blocks again and again
                continue
            flight = Flight(arrival, Holder(request.key, stages, tokens, expected))
            held = self.caches.hold(flight.holder)
            assert held, f"{request.key}: no blocks on a pipeline that was not masked: {stages}"
            self._flights[flight.holder.key] = flight
            self._admitted_s.setdefault(request.key, self.engine.now)
            request.state = "prefill"
            self._prefill(flight, tokens)

    def _prefill(self, flight: Flight, tokens: int) -> None:
        done = 0
        while done < tokens:
            chunk = min(self.sizes.chunk_max, tokens - done)
            done += chunk
            item = Item(flight, chunk, done - chunk, done == tokens)
            self._send(SOURCE, flight.holder.stages[0].node, [item])

    # -- on the way ------------------------------------------------------------------------------------------------

    def _send(self, sender: str, receiver: str, items: list[Item]) -> None:
        """Put a message on a link: it waits for those before it, then takes its bytes' time and the delay."""
        ends = (sender, receiver)
        if ends not in self._links:
            self._links[ends] = self.link(sender, receiver)
        bytes_per_s, one_way_s = self._links[ends]
        each = self.sizes.token_bytes if SOURCE in ends else self.sizes.activation_bytes
        answers = receiver == SOURCE
        size = each * sum(item.last if answers else (item.tokens or 1) for item in items)
        free_s = max(self.engine.now, self._free_s.get(ends, 0.0)) + size / bytes_per_s
        self._free_s[ends] = free_s
        self.engine.call_at(free_s + one_way_s, self._answered if answers else self._reach, (receiver, items))

    def _reach(self, message: tuple[str, list[Item]]) -> None:
        node = self.nodes[message[0]]
        for item in message[1]:
            (node.prompts if item.tokens else node.decodes).append(item)
        self._begin(node)

    def _begin(self, node: _Node) -> None:
        if node.busy:
            return
        batch = node.take(self.sizes)
        if not batch:
            return
        work_s = node.work_s(batch)
        node.busy, node.busy_s = True, node.busy_s + work_s
        self._iterations += 1
        spent_s = node.host.speed.spent_s(self.engine.now, work_s)
        if spent_s < float("inf"):
            self.engine.call_at(self.engine.now + spent_s, self._computed, (node, batch))

    def _computed(self, done: tuple[_Node, list[Item]]) -> None:
        node, batch = done
        node.busy = False
        groups: dict[str, list[Item]] = {}
        for item in batch:
            if not item.flight.alive:
                continue
            item.at += 1
            stages = item.flight.holder.stages
            if item.at < len(stages):
                groups.setdefault(stages[item.at].node, []).append(item)
            elif item.last:
                groups.setdefault(SOURCE, []).append(item)
        for receiver, items in groups.items():
            self._send(node.host.held.node, receiver, items)
        self._begin(node)

    # -- back at the source ----------------------------------------------------------------------------------------

    def _answered(self, message: tuple[str, list[Item]]) -> None:
        """Tokens are back: each asks for the next one, or its request is over."""
        again: dict[str, list[Item]] = {}
        over, decoded = False, 0
        for item in message[1]:
            flight = item.flight
            if not flight.alive:
                continue  # it lost its blocks to another of this message
            request = flight.arrival.request
            request.emitted += 1
            if item.tokens:
                self._first_s.setdefault(request.key, self.engine.now)
                request.state = "decode"
            else:
                decoded += 1
            if request.emitted == request.wanted:
                self._last_s[request.key] = self.engine.now
                request.state = "done"
                self._leave(flight)
                over = True
            elif self._grown(flight):
                item.tokens = item.at = 0
                again.setdefault(flight.holder.stages[0].node, []).append(item)
        if decoded:
            self._emitted.append((self.engine.now, decoded))
        for receiver, items in again.items():
            self._send(SOURCE, receiver, [item for item in items if item.flight.alive])
        if over:
            self._admit()

    def _grown(self, flight: Flight) -> bool:
        """Make room for a token; say whether the request still has its blocks."""
        while (short := self.caches.grow(flight.holder)) is not None:
            latest = self._flights[self.caches.latest(short.node).key]
            self._leave(latest)
            request = latest.arrival.request
            request.preempted += 1
            request.state = "queued"
            self._preempted += 1
            self.waiting.appendleft(latest.arrival)
            if latest is flight:
                return False
        return True

    def _leave(self, flight: Flight) -> None:
        flight.alive = False
        self.caches.release(flight.holder)
        del self._flights[flight.holder.key]
