"""What tests of real committees share: members that hold registers, clients that record what they saw, and the verdict.

Node processes load `member` from this file by name, as they would a user's policies.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec

from experiments.replay import replay
from models import draws
from policies.cell import Cell
from policies.commands import Add, CompareAndSet, Put
from policies.config import ConsensusRules, HotstuffConfig, PbftConfig, RaftConfig
from policies.consensus import replicated_log
from policies.local import Reconfigure
from policies.port import Policy
from policies.registry import Get, Refused, Registry
from policies.state.configuration import Result
from policies.village import NodeSpec
from policies.wire import Message, encode
from real_backends.cluster import LocalCluster
from real_backends.gather import merge_events
from real_backends.transports.frames import Reply
from scenarios.adversaries.choose import play, role_in
from scenarios.checks import Checks, consensus
from scenarios.checks.linear import ILLEGAL, UNKNOWN, Model, Operation, check
from scenarios.checks.state import done_once
from scenarios.journal import Header

ELECTION_S = 0.5
"""The time-out after which each protocol below misses its leader; a draw of Raft's may be twice as long."""
PROTOCOLS: dict[str, ConsensusRules] = {
    "raft": RaftConfig(heartbeat_s=0.1, election_min_s=ELECTION_S, election_max_s=2 * ELECTION_S),
    "hotstuff": HotstuffConfig(timeout_s=ELECTION_S, heartbeat_s=ELECTION_S / 2),
    "pbft": PbftConfig(timeout_s=ELECTION_S, resend_s=ELECTION_S / 2),
}
PATIENCE_S = 0.5  # a client that hears nothing for so long asks the next member
BOUND_S = 240.0  # no committee takes so long, however busy the machine; it ends a test that would hang
KEYS = 3
_reply: Any = msgspec.msgpack.Decoder(Result | Refused).decode


class Sit(Message, frozen=True, tag="sit"):
    """Somebody would have these members."""

    members: tuple[str, ...]


class Registers(Registry):
    """Registers in a log whose members may change."""

    requests = (*Registry.requests, Sit)

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if isinstance(operation, Sit):
            self.port.tell("consensus", Reconfigure(operation.members))
        else:
            super().on_request(client, op_id, operation)


def member(spec: NodeSpec) -> dict[str, Policy]:
    """Return a committee member: a log and its registers, and nothing of a village."""
    return members(spec.config.consensus, spec.committee)


def members(rules: ConsensusRules, names: tuple[str, ...], snapshot_every: int = 1000) -> dict[str, Policy]:
    """Return what a member of the committee ``names`` mounts; its state is saved every so many commands."""
    registry = Registers(retry_s=ELECTION_S, snapshot_every=snapshot_every)
    return {"consensus": replicated_log(rules, names, "registry"), "registry": registry}


# -- clients ---------------------------------------------------------------------------------------------------------


class Clients:
    """Clients that each ask one thing after another, as fast as they are answered, and write down what they saw.

    A client that is not answered asks the next member the same under the same ``op_id``, so that it happens once.

    Args:
        names: the members, in the order in which clients try them.
        send: hands a member (client, op_id, what is asked).
        seed: of what they ask.
    """

    def __init__(self, names: Sequence[str], send: Callable[[str, str, str, Message], None], seed: int) -> None:
        self.names, self.send, self.seed = tuple(names), send, seed
        self.history: list[Operation] = []
        self.answers = 0
        self._replies: dict[str, asyncio.Queue[tuple[str, Result]]] = {}
        self._numbers: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._since_ns, self._ending = 0, False
        self.resumed_ns = 0  # when a write was answered that began after `mark`

    def on_reply(self, reply: Reply) -> None:
        """Take in what a member answered; a member that gives up is asked again like one that is silent."""
        answer = _reply(reply.payload)
        if isinstance(answer, Result) and reply.client in self._replies:
            self._replies[reply.client].put_nowait((reply.op_id, answer))

    def mark(self) -> None:
        """From now on watch for a write that begins and is answered."""
        self._since_ns, self.resumed_ns = time.monotonic_ns(), 0

    def begin(self, count: int) -> None:
        """Let so many clients ask until `end` is called."""
        self._tasks = [asyncio.ensure_future(self._ask_on(f"client-{k}", k)) for k in range(count)]

    async def end(self, readers: Sequence[str]) -> None:
        """Let every client hear its last answer, and then read every register at each of ``readers``.

        A member answers a read when it has applied all that was agreed before, so then it holds what all hold.
        """
        self._ending = True
        await asyncio.gather(*self._tasks)
        for name in readers:
            for k in range(KEYS):
                await self.ask("reader", Get(f"key-{k}"), [name])

    async def ask(self, client: str, asked: Message, members: Sequence[str] = ()) -> Result:
        """Ask one thing until it is answered, of these members (default: all, one after another)."""
        replies = self._replies.setdefault(client, asyncio.Queue())
        number = self._numbers[client] = self._numbers.get(client, 0) + (not isinstance(asked, Get))
        op_id = f"get after {number}, {len(self.history)}" if isinstance(asked, Get) else str(number)
        place, called_ns = len(self.history), time.monotonic_ns()
        self.history.append(Operation(client, asked, called_ns))
        tried = cycle(members or self.names[place % len(self.names) :] + self.names[: place % len(self.names)])
        while True:
            self.send(next(tried), client, op_id, asked)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while True:
                        answered, result = await replies.get()
                        if answered == op_id:
                            break
            except TimeoutError:
                continue
            now_ns = time.monotonic_ns()
            self.history[place] = Operation(client, asked, called_ns, now_ns, result)
            self.answers += 1
            if not isinstance(asked, Get) and called_ns > self._since_ns and not self.resumed_ns:
                self.resumed_ns = now_ns
            return result

    async def _ask_on(self, client: str, k: int) -> None:
        n, held = 0, Result(False, None, 0)
        while not self._ending:
            what, which = (int(d) for d in draws.integers(self.seed, "register", k, [2 * n, 2 * n + 1], [5, KEYS]))
            key, n = f"key-{which}", n + 1
            old = held.value if held.value is not None else 0
            choices = (Get(key), Put(key, 1000 * n + k), CompareAndSet(key, old, n), Add(key, 1), Add(key, k))
            held = await self.ask(client, choices[what])


@asynccontextmanager
async def clients_of(cluster: LocalCluster, names: Sequence[str], count: int) -> AsyncIterator[Clients]:
    """Let so many clients ask these members of a running cluster; at the end all of them are answered."""
    clients = Clients(
        names, lambda name, client, op_id, asked: cluster.request(name, "registry", client, op_id, asked), seed=1
    )

    async def hear() -> None:
        while True:
            clients.on_reply(await cluster.replies.get())

    hearing = asyncio.ensure_future(hear())
    clients.begin(count)
    try:
        yield clients
        await clients.end(names)
    finally:
        hearing.cancel()


# -- the verdict -----------------------------------------------------------------------------------------------------


def _register(state: tuple[Any, int], asked: Any, answer: Any) -> Any:
    """One register as its clients know it, written apart from `policies.state`: (value, version)."""
    value, version = state
    new = None
    if isinstance(asked, Put):
        new = asked.value
    elif isinstance(asked, Add):
        new = (value or 0) + asked.amount
    elif isinstance(asked, CompareAndSet) and value == asked.expected:
        new = asked.value
    after = state if new is None else (new, version + 1)
    ok = version > 0 if isinstance(asked, Get) else new is not None
    return after if answer is UNKNOWN or answer == Result(ok, *after) else ILLEGAL


REGISTERS = Model("registers", (None, 0), _register, part=lambda asked: asked.key)


def require_linearizable(history: Sequence[Operation]) -> None:
    """Require that what clients saw can have happened one thing at a time."""
    verdict = check(REGISTERS, history)
    assert verdict.linearizable, str(verdict)


def require_safe(folder: Path, names: Sequence[str], restarts: Sequence[tuple[int, str]]) -> None:
    """Require of what honest members announced: one order, one leader a term, every operation once."""
    checks, waiting = Checks(*consensus.safety()[:3], done_once()), sorted(restarts, reverse=True)
    for name, event in merge_events(folder, names):
        while waiting and waiting[-1][0] <= event["now_ns"]:
            checks.restarted(waiting.pop()[1])
        if event["kind"] == "decide" and event["name"] != "evidence":
            checks.decided(event["now_ns"], name, event["path"], event["name"], encode(event["detail"]))
    assert [one.broken for one in checks.all] == [""] * len(checks.all)
    assert checks.all[-1].events > 0


def require_kept(
    journals: Mapping[str, bytes],
    rules: ConsensusRules,
    honest: Sequence[str],
    history: Sequence[Operation],
    snapshot_every: int = 1000,
) -> None:
    """Require that all journals replay, and that honest members end with equal registers and all that was answered."""
    cells: dict[str, Any] = {}

    def factory(header: Header) -> Callable[[Any], Any]:
        def make(keys: Any) -> Any:
            cells[header.node] = play(
                role_in(header.config), lambda owned: Cell(members(rules, tuple(sorted(journals)), snapshot_every),
                header.node, header.peers, seed=header.seed, keys=owned), me=header.node, peers=header.peers,
                seed=header.seed, key_of=lambda name: keys,
            )  # fmt: skip
            return cells[header.node]

        return make

    found = replay(dict(journals), factory)
    assert found.passed, [str(divergence) for divergence in found.divergences]
    states = [cells[name].policy("registry").state for name in honest]
    assert all(state.configuration.registers == states[0].configuration.registers for state in states)
    written = Counter(one.client for one in history if one.answered is not None and not isinstance(one.asked, Get))
    for state in states:
        assert {client: state.sessions.last(client) for client in written} == written
