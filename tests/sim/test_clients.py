"""Clients of the twin against scripted gateways: who is asked, when, and how a request ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.gateway import Answer, Come, Redirect, Refused, Submit
from policies.wire import Message, encode
from scenarios.schema import Network
from scenarios.workload import Request
from sim.bulk import ASK_BYTES
from sim.clients import Asked, Clients
from sim.network import Links, MessageNetwork
from sim.world import StepCost, World

ONE_WAY_S, RETRY_S, LINK_S, BLOB_S = 0.02, 10.0, 0.001, 0.005
RIGHT = Answer("out", 5, 7, "w")
_submit = msgspec.msgpack.Decoder(Submit).decode


class Gateway:
    """Stands in for a Cell: answers the n-th request it gets with what the script says, or with silence."""

    crypto_ops = 0

    def __init__(self, seen: list[tuple[float, str, Any]], name: str, script: Callable[[int], Message | None]) -> None:
        self.seen, self.name, self.script, self.count = seen, name, script, 0

    def step(self, now: int, wall: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if given[0] != p.REQUEST:
            return ()
        _, path, client, op_id, payload = given
        self.seen.append((now / 1e9, self.name, _submit(payload)))
        reply = self.script(self.count)
        self.count += 1
        return () if reply is None else ((p.REPLY, path, client, op_id, encode(reply), True),)


def play(
    *scripts: Callable[[int], Message | None], requests: int = 1, deadline_s: float = 60.0, others: tuple[str, ...] = ()
) -> tuple[Any, ...]:
    """Run requests, a second apart, of one client; return what gateways saw and what ended."""
    links = Links.alike(len(scripts) + len(others), LINK_S, 1e9)
    world = World(MessageNetwork(1, links, Network(backbone_s=0.0)))
    seen: list[tuple[float, str, Any]] = []
    names = [f"g{k}" for k in range(len(scripts))]
    for name, script in zip([*names, *others], [*scripts, *[lambda n: None] * len(others)], strict=True):
        gateway = Gateway(seen, name, script)
        world.start(world.add(name, lambda gateway=gateway: gateway, StepCost(0, 0, 0, 0, 0)))  # type: ignore[misc]
    ended: list[Asked] = []
    clients = Clients(world, names, "m", RETRY_S, ONE_WAY_S, ended.append, BLOB_S)
    clients.schedule([Request(f"r{k}", "c", 1, float(k), deadline_s, 9, 5) for k in range(requests)])
    world.run(1000)
    assert not clients.open
    return seen, ended


def test_an_answer_takes_a_round_trip() -> None:
    """The first gateway is asked after one way, the answer is heard after another."""
    seen, (asked,) = play(lambda n: RIGHT)

    at_s, name, submit = seen[0]
    assert (at_s, name) == (pytest.approx(ONE_WAY_S), "g0")
    assert (submit.model, submit.prompt_tokens, submit.new_tokens, submit.priority) == ("m", 9, 5, 1)
    assert submit.deadline_s == pytest.approx(60.0)
    assert asked.ended_ns == pytest.approx(2 * ONE_WAY_S * 1e9)
    assert (asked.finish.status, asked.finish.output, asked.finish.attempts) == ("answered", "out", 1)


def test_an_answer_that_lies_elsewhere_is_fetched_once() -> None:
    """The gateway asks the answer's holder for it, over both links and back, before it replies; then it has it."""
    _, ended = play(lambda n: RIGHT, requests=2, others=("w",))

    fetched_s = 4 * LINK_S + (ASK_BYTES + 4 * 5) / 1e9 + BLOB_S
    waited_s = [asked.ended_ns / 1e9 - asked.request.arrival_s for asked in ended]
    assert waited_s == pytest.approx([2 * ONE_WAY_S + fetched_s, 2 * ONE_WAY_S])


def test_silence_moves_on_to_the_next_gateway_with_the_time_that_is_left() -> None:
    """After retry_s without a word the next is asked, under the same name, with the deadline that remains."""
    seen, (asked,) = play(lambda n: None, lambda n: None, lambda n: RIGHT)

    assert [(round(at_s, 6), name) for at_s, name, _ in seen] == [(0.02, "g0"), (10.02, "g1"), (30.02, "g2")]
    assert [submit.deadline_s for *_, submit in seen] == pytest.approx([60.0, 50.0, 30.0])
    assert len({submit.prompt for *_, submit in seen}) == 1
    assert asked.finish.attempts == 3


def test_a_redirect_is_followed_and_the_leader_remembered() -> None:
    """The client goes where it is sent, and its next request begins there."""
    seen, ended = play(lambda n: Redirect("g2"), lambda n: RIGHT, lambda n: RIGHT, requests=2)

    assert [name for _, name, _ in seen] == ["g0", "g2", "g2"]
    assert [asked.finish.status for asked in ended] == ["answered", "answered"]


def test_come_again_waits_and_refusals_end() -> None:
    """The client comes again when it was told to; a refusal is an outcome with its reason."""
    seen, (asked,) = play(lambda n: Come("rate limit", 3.0) if n == 0 else Refused("queue full"))

    assert seen[1][0] - seen[0][0] == pytest.approx(3.0 + 2 * ONE_WAY_S)
    assert (asked.finish.status, asked.finish.reason) == ("refused", "queue full")


def test_nobody_answers_and_the_request_is_lost_after_twice_its_deadline() -> None:
    """Every request ends; the last wait may run over."""
    _, (asked,) = play(lambda n: None, lambda n: None)

    assert asked.finish.status == "lost"
    assert 120.0 < asked.ended_ns / 1e9 <= 120.0 + 8 * RETRY_S


def test_a_late_duplicate_outcome_changes_nothing() -> None:
    """When an earlier gateway answers too, the request has ended once."""
    slow: list[int] = []
    seen, ended = play(lambda n: slow.append(n), lambda n: RIGHT, requests=1)  # type: ignore[func-returns-value]
    assert len(ended) == 1
    assert slow == [0]

    seen, ended = play(lambda n: RIGHT, lambda n: RIGHT, requests=3)
    assert [asked.request.op_id for asked in ended] == ["r0", "r1", "r2"]
    assert len(seen) == 3
