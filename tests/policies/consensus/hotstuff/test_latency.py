"""Latency in closed form: hops over equal links, with steps, signatures and disks that cost nothing.

Counted from the moment a client sends its command to the leader until the leader's answer is with the client: one hop
there, two hops (proposal, votes) for each certificate of the chain, one hop back. Three-chain: 8 hops, 80 ms over links
of 10 ms, as Shadow gives for libhotstuff in Delphi-BFT's data sets; two-chain: 6 hops, 60 ms.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest

from policies.local import Committed, Propose
from policies.port import NS_PER_S
from policies.wire import Message
from scenarios.schema import Network
from sim.world import StepCost
from tests.policies.consensus.hotstuff.small_log import Appender, SmallLog

FREE = StepCost(base_ns=0, byte_ns=0, sign_ns=0, verify_ns=0, fsync_ns=0)
LINKS = Network(backbone_s=0.0, loss=0.0, duplicate=0.0, jitter_sigma=0.0)


class Order(Message, frozen=True, tag="order"):
    """A client's command, over the network."""

    command: bytes


class Answer(Message, frozen=True, tag="answer"):
    """It is committed here."""

    command: bytes


class Front(Appender):
    """A state machine that answers over the network who ordered, or, as a client, takes the time."""

    messages = (Order, Answer)

    def on_start(self, saved: Any) -> None:
        self.ordered: dict[bytes, str] = {}
        self.took_ns: list[int] = []

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        self.sent_ns = self.port.now
        self.port.send("n0", Order(operation.command))

    def on_message(self, sender: str, message: Any) -> None:
        if isinstance(message, Order):
            self.ordered[message.command] = sender
            self.port.tell("consensus", Propose(message.command))
        else:
            self.took_ns.append(self.port.now - self.sent_ns)

    def on_local(self, sender: str, message: Any) -> None:
        super().on_local(sender, message)
        if isinstance(message, Committed) and message.command in self.ordered:
            self.port.send(self.ordered[message.command], Answer(message.command))


@pytest.mark.parametrize(("chain", "hops"), [(2, 6), (3, 8)])
@pytest.mark.parametrize("n", [4, 7, 16])
def test_a_command_takes_two_hops_and_two_for_each_certificate(n: int, hops: int, chain: Literal[2, 3]) -> None:
    """80 ms and 60 ms over links of 10 ms, whatever n, to within the time the bytes take at 1 Tbit/s."""
    log = SmallLog(n + 1, chain, network=LINKS, members=n, cost=FREE, one_way_s=0.005, app=Front, batch_wait_s=0.0,
                   bytes_per_s=1.25e11)  # fmt: skip
    log.run(0.5)
    for _ in range(5):
        log.put(f"n{n}")
        log.run(0.2)
    took_s = [took / NS_PER_S for took in log.app(f"n{n}").took_ns]

    assert took_s == pytest.approx([hops * 0.010] * 5, rel=1e-5)


@pytest.mark.parametrize("chain", [2, 3])
def test_blocks_follow_one_another_at_one_round_trip_whatever_the_chain(chain: Literal[2, 3]) -> None:
    """Pipelined, a block is proposed with the certificate of the one before: 50 a second over links of 10 ms."""
    log = SmallLog(4, chain, network=LINKS, cost=FREE, one_way_s=0.005, batch_wait_s=0.0, bytes_per_s=1.25e11,
                   tenure=4096)  # fmt: skip
    log.run(1, every=0.005, at=["n0"])
    begun = log.member("n0").pace.view
    log.run(2, every=0.005, at=["n0"])

    assert log.member("n0").pace.view - begun == pytest.approx(100, abs=1)
