"""Three-chain HotStuff against the number of members: the measurements of Yin et al. (PODC 2019), simulated.

They ran libhotstuff on up to 128 virtual machines of one AWS data centre, with batches of 400 operations, once with
requests and answers of 1 KB and once with empty ones over links of 10 ms. The numbers are those that Berger et al.
(2022) tabulate beside their own simulation of the real programs, which takes processors for infinitely fast.

Here it is `policies.consensus.hotstuff`, one leader for ever (libhotstuff's default), without disks. Three
numbers are fitted, each to one throughput (`experiments.published.hotstuff_fit`): what a step costs, what a signature
made or verified costs, and the rate of a sender's interface. All three-chain rows but those of 4 and 32 members are
predicted. Two things differ from the original and are made up for by the fit: our blocks carry the operations, theirs
32 bytes for each while clients send the rest to all members; and only the leader answers, theirs all.

python -m experiments.published.hotstuff docs/hotstuff.csv
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, Literal, NamedTuple

from experiments.published.machines import Interfaces, Unkept
from policies import port as p
from policies.cell import Cell
from policies.config import HotstuffConfig
from policies.consensus import HotStuff
from policies.local import Committed, Propose
from policies.port import NS_PER_S, Effect, Policy
from policies.wire import Message, encode
from sim.keys import KeyRing
from sim.world import Node, StepCost, World

BATCH = 400
SIZES = (4, 8, 16, 32, 64, 128)
FITTED_ON = (4, 32)
WARM, VIEWS = 8, 16
"""Batches answered before measuring, and measured: nothing is random, and the pipeline fills within a few views."""


@dataclass(frozen=True)
class Machine:
    """What a member's machine costs.

    Attributes:
        step_ns: a step: one operation, message or answer.
        crypto_ns: a signature made or verified.
        bytes_per_s: rate of a sender's interface.
    """

    step_ns: float
    crypto_ns: float
    bytes_per_s: float


FREE = Machine(0, 0, 1e15)


@dataclass(frozen=True)
class Setting:
    """One published experiment.

    Attributes:
        name: in tables.
        payload_bytes: of an operation, and of its answer.
        one_way_s: delay between members.
        client_s: delay between a client and a member.
        outstanding: operations that clients have asked and nobody has answered, at all times.
    """

    name: str
    payload_bytes: int
    one_way_s: float
    client_s: float
    outstanding: int


class Row(NamedTuple):
    """Thousands of operations a second, and milliseconds from asking to the answer."""

    kops: float
    ms: float


PAYLOAD = Setting("1 KB", 1024, 0.001, 0.001, 2320)
EMPTY = Setting("10 ms", 0, 0.010, 0.001, 1600)
"""Delays are those of the authors' simulation (Delphi-BFT/tool ``examples/dicg22/hs-p1024.yaml``, ``hs-10ms.yaml``);
of the machines it is only said that they were less than 1 ms apart. ``outstanding`` is Little's law at 4 and 32
members: throughput times latency, the mean of both (1600 is also what those files say)."""

PUBLISHED: dict[Setting, dict[int, Row]] = {
    PAYLOAD: {4: Row(114.8328, 19.3638), 8: Row(118.8888, 19.9232), 16: Row(120.1536, 19.7376),
              32: Row(61.3854, 39.2842), 64: Row(37.260, 65.2438), 128: Row(22.067, 108.2954)},
    EMPTY: {4: Row(19.17, 84.2), 8: Row(18.78, 85.7), 16: Row(18.62, 86.6), 32: Row(18.19, 88.4), 64: Row(17.50, 92.5),
            128: Row(15.11, 106.0)},
}  # fmt: skip
"""Measured on AWS: Delphi-BFT/tool ``datasets/data``, ``throughput-HS3-*.txt`` and ``latency-HS3-*.txt``."""
SHADOW: dict[Setting, dict[int, Row]] = {
    PAYLOAD: {4: Row(200, 14), 8: Row(200, 14), 16: Row(151.3, 18.5), 32: Row(75.8, 37.1), 64: Row(38.7, 72.8),
              128: Row(20.0, 148.1)},
    EMPTY: {4: Row(20.0, 80), 8: Row(20.0, 80), 16: Row(20.0, 80), 32: Row(20.0, 80), 64: Row(20.0, 80),
            128: Row(19.2, 84)},
}  # fmt: skip
"""The authors' simulation, ``phantom-thr-hs3-*.txt`` and ``phantom-lat-hs3-*.txt`` beside those."""

MACHINE = Machine(step_ns=3387, crypto_ns=40_496, bytes_per_s=2.585e9)
"""What `experiments.published.hotstuff_fit` found. libhotstuff's signatures are secp256k1's."""


class Operation(Message, frozen=True, tag="operation"):
    """A client's request, and its answer."""

    payload: bytes


class Service(Policy):
    """A state machine that answers with as many bytes as it was asked with."""

    requests = (Operation,)

    def __init__(self) -> None:
        self.asked: dict[bytes, str] = {}  # the client's number of each command that waits

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        command = op_id.encode() + operation.payload
        self.asked[command] = op_id
        self.port.tell("log", Propose(command))

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed) and (op_id := self.asked.pop(message.command, None)) is not None:
            self.port.reply("client", op_id, Operation(message.command), last=True)


class Clients:
    """A fixed number of operations is always on its way; a new one follows each answer.

    Attributes:
        answered: when each came back, and how long it took (ns), in the order of the answers.
    """

    def __init__(self, world: World, setting: Setting) -> None:
        self._world, self._way_ns = world, round(setting.client_s * NS_PER_S)
        self._request = encode(Operation(bytes(setting.payload_bytes)))
        self._asked_ns: dict[str, int] = {}
        self.answered: list[tuple[int, int]] = []
        world.on_reply = self._on_reply
        for _ in range(setting.outstanding):
            self._ask(0)

    def _ask(self, now: int) -> None:
        op_id = f"{len(self._asked_ns):08d}"
        self._asked_ns[op_id] = now
        self._world.give_at(
            now + self._way_ns, self._world.nodes[0], (p.REQUEST, "app", "client", op_id, self._request)
        )

    def _on_reply(self, now: int, node: Node, effect: Effect) -> None:
        back = now + self._way_ns
        self.answered.append((back, back - self._asked_ns[effect[3]]))
        self._ask(back)


def group(n: int, setting: Setting, machine: Machine, chain: Literal[2, 3]) -> World:
    """Return ``n`` members on such machines, the first of which leads for ever, begun."""
    network = Interfaces(n, setting.one_way_s, machine.bytes_per_s)
    world = network.world = World(network)
    rules = HotstuffConfig(
        chain=chain, tenure=65_536, timeout_s=60.0, heartbeat_s=60.0, batch_max=BATCH, batch_max_bytes=1 << 20,
        batch_wait_s=0.0, pool_max=1 << 16, checkpoint_every=1 << 30,
    )  # fmt: skip
    names, keys = tuple(f"n{i}" for i in range(n)), KeyRing(1)
    crypto_ns = round(machine.crypto_ns)
    cost = StepCost(base_ns=round(machine.step_ns), byte_ns=0, sign_ns=crypto_ns, verify_ns=crypto_ns, fsync_ns=0)
    for name in names:

        def make(name: str = name) -> Cell:
            policies: dict[str, Policy] = {"log": HotStuff(rules, names, "app"), "app": Service()}
            return Cell(policies, name, tuple(x for x in names if x != name), seed=1, keys=keys.handle(name))

        world.add(name, make, cost).disk = Unkept()
    for node in world.nodes:
        world.start(node)
    return world


def measure(
    n: int,
    setting: Setting,
    machine: Machine,
    chain: Literal[2, 3] = 3,
    warm: int = WARM * BATCH,
    ops: int = VIEWS * BATCH,
) -> Row:
    """Return throughput and mean latency over ``ops`` answers, after ``warm`` others."""
    world = group(n, setting, machine, chain)
    clients = Clients(world, setting)
    answered = clients.answered
    while len(answered) < warm + ops:
        world.run(world.engine.now / NS_PER_S + 0.005)
    took_s = (answered[warm + ops - 1][0] - answered[warm - 1][0]) / NS_PER_S
    return Row(ops / took_s / 1000, mean(took for _, took in answered[warm : warm + ops]) / 1e6)


def alone_ms(n: int, chain: Literal[2, 3], one_way_s: float = 0.010) -> float:
    """Return how long one operation takes where nothing costs time but the ways: 8 of them, or 6 with two chains."""
    return measure(n, Setting("alone", 0, one_way_s, one_way_s, 1), FREE, chain, warm=2, ops=3).ms


def write(out: Path) -> None:
    """Simulate every row and write the table: theirs, Shadow's and ours."""
    with out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("setting", "n", "what", "theirs", "shadow", "ours", "fitted"))
        for setting, rows in PUBLISHED.items():
            for n, theirs in rows.items():
                ours = measure(n, setting, MACHINE)
                for what in Row._fields:
                    numbers = (getattr(row, what) for row in (theirs, SHADOW[setting][n], ours))
                    table.writerow((setting.name, n, what, *(f"{x:.4g}" for x in numbers), int(n in FITTED_ON)))
                file.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
