"""What every driver owes a policy: timers, order, durability, requests, jobs and journals, in both worlds alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest

from experiments.replay import replay
from policies.cell import Cell
from policies.jobs import Lost, PlanJob
from policies.port import NS_PER_MS, Keys, Policy
from policies.rng import Rng
from policies.wire import Message
from scenarios.journal import Header

Start = Callable[..., Any]


class Number(Message, frozen=True, tag="number"):
    """A number."""

    value: int


class Undeclared(Message, frozen=True, tag="undeclared"):
    """A message that no receiver here expects."""

    value: int


class Script(Policy):
    """Does what a test says at its start and for each request; remembers what happens to it."""

    messages = (Number,)
    requests = (Number,)

    def __init__(
        self, begin: Callable[[Any], None] = lambda me: None, ask: Callable[[Any, int], None] = lambda me, value: None
    ) -> None:
        self.begin, self.ask = begin, ask
        self.fired: list[tuple[str, int]] = []
        self.got: list[Any] = []
        self.durable: list[int] = []

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.saved = dict(saved)
        self.begin(self)

    def on_timer(self, name: str) -> None:
        self.fired.append((name, self.port.now))

    def on_message(self, sender: str, message: Number) -> None:
        self.got.append((sender, message.value))

    def on_request(self, client: str, op_id: str, operation: Number) -> None:
        self.client, self.op_id = client, op_id
        self.ask(self, operation.value)

    def on_job(self, job_id: int, outcome: Any) -> None:
        self.got.append((job_id, outcome))

    def on_durable(self, token: int) -> None:
        self.durable.append(token)


def test_timers_fire_once_and_never_early(start: Start) -> None:
    """Re-arming replaces, a cancelled timer never fires, the rest fire once, in order and not before their time."""
    begun: list[int] = []

    def begin(me: Script) -> None:
        begun.append(me.port.now)
        me.port.set_timer("again", 5 * NS_PER_MS)
        me.port.set_timer("again", 20 * NS_PER_MS)
        me.port.set_timer("never", 5 * NS_PER_MS)
        me.port.cancel_timer("never")
        me.port.cancel_timer("unknown")
        me.port.set_timer("last", 60 * NS_PER_MS)

    village = start(lambda name: Script(begin), 1)
    policy = village.cell("n0").policy("")
    village.until(lambda: any(name == "last" for name, _ in policy.fired))

    assert [name for name, _ in policy.fired] == ["again", "last"]
    assert policy.fired[0][1] >= begun[0] + 20 * NS_PER_MS
    assert policy.fired[1][1] >= begun[0] + 60 * NS_PER_MS


def test_a_timer_may_arm_itself_again(start: Start) -> None:
    """A periodic timer is one that arms itself; time does not go back between its firings."""

    class Ticker(Script):
        def on_timer(self, name: str) -> None:
            super().on_timer(name)
            if len(self.fired) < 5:
                self.port.set_timer(name, NS_PER_MS)

    village = start(lambda name: Ticker(lambda me: me.port.set_timer("tick", 0)), 1)
    policy = village.cell("n0").policy("")
    village.until(lambda: len(policy.fired) == 5)

    times = [now for _, now in policy.fired]
    assert all(later >= earlier + NS_PER_MS for earlier, later in pairwise(times))


def test_a_crash_disarms_all_timers(start: Start) -> None:
    """What an earlier life armed never fires in a later one."""

    def begin(me: Script) -> None:
        if "second" in me.saved:
            me.port.set_timer("late", 80 * NS_PER_MS)
        else:
            me.port.save("second", b"")
            me.port.set_timer("early", 40 * NS_PER_MS)

    village = start(lambda name: Script(begin), 2)
    village.until(lambda: bool(village.cell("n0").policy("").durable))
    village.crash("n0")
    village.restart("n0")
    policy = village.cell("n0").policy("")
    village.until(lambda: bool(policy.fired))

    assert [name for name, _ in policy.fired] == ["late"]


def test_effects_of_a_step_keep_their_order(start: Start) -> None:
    """Decisions and parts of a reply come out in the order in which the handler made them, around a save."""

    def ask(me: Script, value: int) -> None:
        me.port.decide("one", Number(1))
        me.port.reply(me.client, me.op_id, Number(1), last=False)
        me.port.save("k", b"v")
        me.port.decide("two", Number(2))
        me.port.reply(me.client, me.op_id, Number(2), last=False)
        me.port.reply(me.client, me.op_id, Number(3))

    village = start(lambda name: Script(ask=ask), 1)
    village.request("n0", "op", Number(0))
    village.until(lambda: len(village.replies()) == 3)

    parts = [("op", ["number", 1], False), ("op", ["number", 2], False), ("op", ["number", 3], True)]
    assert village.replies() == parts
    assert [kind for kind, _ in village.decisions("n0")] == ["one", "two"]


def test_batches_become_durable_in_order(start: Start) -> None:
    """Tokens of a policy's saves come back one by one, in the order in which they were given."""
    village = start(lambda name: Script(ask=lambda me, value: me.given.append(me.port.save("k", b"%d" % value))), 1)
    policy = village.cell("n0").policy("")
    policy.given = []
    for number in range(20):
        village.request("n0", f"op-{number}", Number(number))
    village.until(lambda: len(policy.durable) == 20)

    assert policy.durable == policy.given == sorted(policy.given)


@pytest.mark.parametrize(("torn", "kept"), [(0.0, False), (0.5, False), (1.0, True)])
def test_nothing_leaves_before_its_save(start: Start, torn: float, kept: bool) -> None:
    """While the disk hangs only an early send leaves; after a crash the batch is there whole or not at all."""

    def ask(me: Script, value: int) -> None:
        me.port.save("a", b"1" * 40)
        me.port.save("b", b"2" * 40)
        me.port.send("n1", Number(1))
        me.port.decide("vote", Number(2))
        me.port.reply(me.client, me.op_id, Number(3))
        me.port.send("n1", Number(4), early=True)

    village = start(lambda name: Script(ask=ask), 2)
    village.hold_disk("n0")
    village.request("n0", "op", Number(0))
    heard = village.cell("n1").policy("").got
    village.until(lambda: bool(heard))
    village.crash("n0", torn)
    village.restart("n0")

    saved = village.cell("n0").policy("").saved
    assert saved == ({"a": b"1" * 40, "b": b"2" * 40} if kept else {})
    assert heard == [("n0", 4)]
    assert village.replies() == []
    assert village.decisions("n0") == []


def test_what_was_answered_survives(start: Start) -> None:
    """Saves whose reply a client has seen are there after a crash, erased keys are not."""

    def ask(me: Script, value: int) -> None:
        me.port.save(f"k{value}", b"%d" % value)
        me.port.erase(f"k{value - 1}")
        me.port.reply(me.client, me.op_id, Number(value))

    village = start(lambda name: Script(ask=ask), 2)
    for number in range(1, 4):
        village.request("n0", f"op-{number}", Number(number))
        village.until(lambda number=number: len(village.replies()) == number)
    village.crash("n0")
    village.restart("n0")

    assert village.cell("n0").policy("").saved == {"k3": b"3"}


def test_duplicates_are_delivered(start: Start) -> None:
    """A link that doubles messages shows the policy both copies: it has to cope."""
    village = start(lambda name: Script(ask=lambda me, value: me.port.send("n1", Number(value))), 2)
    village.faults(duplicate=1.0)
    village.request("n0", "op", Number(7))
    heard = village.cell("n1").policy("").got
    village.until(lambda: len(heard) == 2)

    assert heard == [("n0", 7), ("n0", 7)]


def test_messages_to_oneself_and_to_other_paths_arrive(start: Start) -> None:
    """A node may send to itself, and to a policy at another path of another node."""

    def begin(me: Script) -> None:
        if me.port.me == "n0":
            me.port.send("n0", Number(1))

    def ask(me: Script, value: int) -> None:
        me.port.send("n1/right", Number(value))

    village = start(lambda name: {"left": Script(begin, ask), "right": Script()}, 2)
    own, other = village.cell("n0").policy("left"), village.cell("n1").policy("right")
    village.request("n0", "op", Number(2), path="left")
    village.until(lambda: bool(own.got) and bool(other.got))

    assert own.got == [("n0", 1)]
    assert other.got == [("n0", 2)]


def test_local_messages_come_first_and_in_order(start: Start) -> None:
    """Messages between policies of a node arrive within the step, first in first out, answers after questions."""
    order: list[tuple[str, int]] = []

    class Child(Script):
        def on_local(self, sender: str, message: Number) -> None:
            order.append((sender, message.value))
            if message.value < 10:
                self.port.tell(sender, Number(message.value + 10))

    def ask(me: Script, value: int) -> None:
        for number in range(3):
            me.port.tell("right", Number(number))
        me.port.tell("nowhere", Number(9))
        order.append(("left itself", -1))

    village = start(lambda name: {"left": Child(ask=ask), "right": Child()}, 1)
    village.request("n0", "op", Number(0), path="left")
    village.until(lambda: len(order) == 7)

    assert order == [("left itself", -1), *(("left", i) for i in range(3)), *(("right", i + 10) for i in range(3))]


def test_what_is_not_declared_is_dropped_and_counted(start: Start) -> None:
    """Messages and requests of other classes reach no handler, and the next good ones do."""
    village = start(lambda name: Script(ask=lambda me, value: me.port.send("n1", Undeclared(value))), 2)
    village.request("n0", "op", Number(7))
    village.request("n1", "op", Undeclared(7))
    village.until(lambda: village.cell("n1").malformed == 2)

    village.cell("n0").policy("").ask = lambda me, value: me.port.send("n1", Number(value))
    village.request("n0", "op", Number(8))
    village.until(lambda: bool(village.cell("n1").policy("").got))
    assert village.cell("n1").policy("").got == [("n0", 8)]
    assert village.cell("n0").malformed == 0


def test_a_request_may_come_again(start: Start) -> None:
    """The driver does not deduplicate: the same operation reaches the policy as often as it is sent."""
    village = start(lambda name: Script(ask=lambda me, value: me.port.reply(me.client, me.op_id, Number(value))), 1)
    village.request("n0", "op", Number(1))
    village.request("n0", "op", Number(1))
    village.until(lambda: len(village.replies()) == 2)

    assert village.replies() == [("op", ["number", 1], True)] * 2


def test_jobs_without_an_executor_are_lost(start: Start) -> None:
    """A job where none can run comes back as lost; one that was cancelled says nothing more."""

    def ask(me: Script, value: int) -> None:
        me.port.cancel(me.port.submit(PlanJob("any", b"", 1)))
        me.port.submit(PlanJob("any", b"", 1))

    village = start(lambda name: Script(ask=ask), 1)
    village.request("n0", "op", Number(0))
    policy = village.cell("n0").policy("")
    village.until(lambda: bool(policy.got))

    assert policy.got == [(2, Lost(reason="this node runs no jobs", node="n0"))]


def test_random_streams_are_named_the_same(start: Start) -> None:
    """A node's draws follow from seed, name, path and life alone, so they are the same numbers in both worlds."""

    def begin(me: Script) -> None:
        me.drawn = [me.port.rng.bits64() for _ in range(3)]

    def stream(life: int) -> list[int]:
        rng = Rng(1, "n1", "child", life)
        return [rng.bits64() for _ in range(3)]

    village = start(lambda name: {"child": Script(begin)}, 2)
    first = village.cell("n1").policy("child").drawn
    village.crash("n1")
    village.restart("n1")

    assert first == stream(0)
    assert village.cell("n1").policy("child").drawn == stream(1)


def test_journals_replay_to_the_same_effects(start: Start) -> None:
    """Every step of a run with signatures, draws, loss, duplicates and a restart is the same in fresh Cells."""

    class Signer(Script):
        def on_start(self, saved: Mapping[str, bytes]) -> None:
            super().on_start(saved)
            self.count = int(saved.get("count", b"0"))
            self.port.set_timer("tick", NS_PER_MS)

        def on_timer(self, name: str) -> None:
            self.count += 1
            self.port.save("count", b"%d" % self.count)
            signed = self.port.keys.sign(b"%d" % self.count)
            known = self.port.keys.verify(self.port.me, b"%d" % self.count, signed)
            self.port.note("signed", by=signed.hex(), known=known, draw=self.port.rng.random())
            self.port.broadcast(Number(self.count))
            self.port.set_timer("tick", 5 * NS_PER_MS)

    def factory(header: Header) -> Callable[[Keys], Cell]:
        return lambda keys: Cell(Signer(), header.node, header.peers, seed=header.seed, keys=keys)

    village = start(lambda name: Signer(), 3)
    village.faults(loss=0.1, duplicate=0.3)
    village.until(lambda: village.cell("n1").policy("").count >= 5)
    village.crash("n1", 0.5)
    village.restart("n1")
    village.until(lambda: all(village.cell(name).policy("").count >= 10 for name in village.names))
    found = replay(village.journals(), factory)

    assert found.divergences == ()
    assert set(found.steps) == {"n0", "n1", "n2"}
    assert min(found.steps.values()) > 20
