"""The two ends of a letter, input by input: what they remember, what they forget, and what they never take twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.config import DeliveryConfig, MeshConfig
from policies.port import NS_PER_S, Policy
from policies.transport import Delivery, Mesh
from policies.transport.buffer import Id, Packet
from policies.transport.delivery import Ack, Data
from policies.transport.mesh import OFFERS_MAX, Have, Over, Want
from policies.transport.messages import ANNOUNCED, EVERYONE, Dead, Delivered, Handed, Heard, Post, Took
from policies.wire import Codec, Message, encode
from sim.keys import KeyRing

DAY_NS = 86_400 * NS_PER_S


class Listener(Policy):
    """A consumer that keeps what it is handed, and takes it only if it is told to."""

    takes = True

    def __init__(self) -> None:
        self.handed: list[Handed] = []

    def on_local(self, sender: str, message: Any) -> None:
        self.handed.append(message)
        if self.takes:
            self.port.tell(sender, Took(message.stream, message.number))


class Bench:
    """One node whose disk is at once, with what it sent, announced and handed over."""

    def __init__(self, make: Callable[[], Policy], listener: type[Listener] = Listener) -> None:
        self.make, self.kind = make, listener
        self.disk: dict[str, bytes] = {}
        self.lives, self.now = 0, 0
        self.start()

    def start(self) -> None:
        """Begin a life with what is on the disk."""
        self.sent: list[tuple[str, Any]] = []
        self.announced: list[Any] = []
        self.timers: dict[str, tuple[int, int]] = {}
        self.listener = self.kind()
        self.policy: Any = self.make()
        policies = {"t": self.policy, "user": self.listener}
        self.cell = Cell(policies, "me", ("a", "b"), seed=1, keys=KeyRing(1).handle("me"))
        self.feed((p.START, "", dict(sorted(self.disk.items())), self.lives))
        self.lives += 1

    def feed(self, given: p.Input) -> None:
        """Give one input, and the disk's word on every save that follows from it."""
        inputs = deque([given])
        while inputs:
            for effect in self.cell.step(self.now, self.now + DAY_NS, inputs.popleft()):
                match effect:
                    case (p.SEND, _, to, payload):
                        self.sent.append((to, Codec(self.policy.messages).decode(payload)))
                    case (p.DECIDE, _, _, payload):
                        self.announced.append(msgspec.msgpack.decode(payload, type=ANNOUNCED))
                    case (p.SET_TIMER, _, name, deadline, generation):
                        self.timers[name] = (deadline, generation)
                    case (p.CANCEL_TIMER, _, name):
                        self.timers.pop(name, None)
                    case (p.SAVE, path, token, batch):
                        for key, value in batch:
                            self.disk.pop(key, None) if value is None else self.disk.update({key: value})
                        inputs.append((p.DURABLE, path, token))

    def hear(self, sender: str, message: Message) -> None:
        """Give a message."""
        self.feed((p.MESSAGE, "t", sender, encode(message)))

    def post(self, to: str, op_id: str) -> None:
        """Give a client's letter."""
        self.feed((p.REQUEST, "t", "client", op_id, encode(Post(to, b"x"))))

    def wait(self, seconds: float) -> None:
        """Let time pass, and timers fire."""
        end = self.now + int(seconds * NS_PER_S)
        while self.timers and (first := min((at, name) for name, (at, _) in self.timers.items()))[0] <= end:
            self.now = max(self.now, first[0])
            _, generation = self.timers.pop(first[1])
            self.feed((p.TIMER, "t", first[1], generation))
        self.now = end

    def of(self, kind: type[Message]) -> list[Any]:
        """Return what was announced of one class in this life."""
        return [value for value in self.announced if isinstance(value, kind)]

    def got(self) -> list[int]:
        """Return the numbers of the letters delivered in this life."""
        return [int(value.letter.rpartition("/")[2]) for value in self.of(Delivered)]


def delivery(queue_max: int = 4) -> Callable[[], Delivery]:
    """Deliveries with a short queue that hand to the listener."""
    return lambda: Delivery(DeliveryConfig(queue_max=queue_max), consumer="user")


def data(number: int, floor: int = 1, epoch: int = 5) -> Data:
    """A copy of a letter."""
    return Data(epoch, number, floor, b"x")


# -- the destination -----------------------------------------------------------------------------------


def test_every_copy_is_acknowledged_and_one_is_taken() -> None:
    """The acknowledgement may have been lost, so a repeat earns another."""
    bench = Bench(delivery())
    for _ in range(3):
        bench.hear("a", data(1))

    assert bench.sent == [("a", Ack(5, 1))] * 3
    assert bench.got() == [1]


def test_a_copy_from_a_lost_memory_is_neither_taken_nor_acknowledged() -> None:
    """After a new epoch was heard the old one's late copies mean nothing, before a restart and after."""
    bench = Bench(delivery())
    bench.hear("a", data(1, epoch=5))
    bench.hear("a", data(1, epoch=6))
    assert bench.got() == [1, 1]
    bench.sent.clear()
    bench.hear("a", data(2, epoch=5))
    assert (bench.sent, bench.got()) == ([], [1, 1])

    bench.start()
    bench.hear("a", data(2, epoch=5))
    bench.hear("a", data(1, epoch=6))
    assert (bench.sent, bench.got()) == ([("a", Ack(6, 1))], [])


def test_marks_of_a_lost_memory_and_below_the_floor_leave_the_disk() -> None:
    """What can no longer come is remembered nowhere."""
    bench = Bench(delivery())
    bench.hear("a", data(1, epoch=5))
    bench.hear("a", data(1, epoch=6))
    bench.hear("a", data(2, floor=2, epoch=6))

    assert sorted(key for key in bench.disk if "/in/" in key) == ["t/in/a>me@6/2"]


def test_numbers_far_beyond_the_floor_are_refused() -> None:
    """No sender has more open than the queue holds: a wider window is a lie, and would cost memory."""
    bench = Bench(delivery(4))
    bench.hear("a", data(5))
    assert bench.got() == []
    bench.hear("a", data(4))
    assert bench.got() == [4]


class Slow(Listener):
    """A consumer that takes nothing yet."""

    takes = False


def test_a_slow_consumer_holds_the_senders_back() -> None:
    """When as many wait as there is room for, the next is not acknowledged; it is, when there is room again."""
    bench = Bench(delivery(2), Slow)
    for number in (1, 2):
        bench.hear("a", data(number))
    bench.hear("b", data(1))
    assert len(bench.sent) == 2

    bench.listener.takes = True
    bench.wait(30)
    bench.hear("b", data(1))
    assert bench.sent[-1] == ("b", Ack(5, 1))


def test_a_consumer_is_reminded_until_it_takes() -> None:
    """Handed at once, again every 30 s, marked so; then no more."""
    bench = Bench(delivery(), Slow)
    bench.hear("a", data(1))
    bench.wait(61)
    assert [handed.again for handed in bench.listener.handed] == [False, True, True]

    bench.listener.takes = True
    bench.wait(600)
    assert len(bench.listener.handed) == 4


def test_what_was_not_taken_is_handed_again_after_a_restart() -> None:
    """It is announced again, marked so, and kept on the disk though its sender is past it."""
    bench = Bench(delivery(), Slow)
    bench.hear("a", data(1))
    bench.hear("a", data(2, floor=2))
    bench.start()
    bench.listener.takes = True
    bench.wait(1)

    assert [(value.letter, value.again) for value in bench.of(Delivered)] == [("a>me@5/1", True), ("a>me@5/2", True)]
    assert [handed.number for handed in bench.listener.handed] == [1, 2]
    bench.start()
    assert bench.announced == []


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3), st.booleans(), st.booleans()), max_size=60))
def test_no_order_of_copies_delivers_twice(steps: list[tuple[int, int, bool, bool]]) -> None:
    """Copies in any order with any floor an honest sender may have told, restarts between: one delivery a number."""
    bench = Bench(delivery(12))
    delivered: list[int] = []
    for number, behind, settles, restarts in steps:
        floor = max(1, number - behind) if settles else 1
        bench.hear("a", data(number, floor))
        if restarts:
            delivered += bench.got()
            bench.start()
    delivered += bench.got()

    assert len(delivered) == len(set(delivered))


# -- the origin ----------------------------------------------------------------------------------------


def test_an_acknowledgement_of_another_memory_ends_nothing() -> None:
    """Only this epoch's number is this letter."""
    bench = Bench(delivery())
    bench.post("a", "1")
    epoch = bench.policy.outbox.epoch
    bench.hear("a", Ack(epoch - 1, 1))
    bench.hear("b", Ack(epoch, 1))
    assert len(bench.policy.outbox.letters) == 1
    bench.hear("a", Ack(epoch, 1))
    assert len(bench.policy.outbox.letters) == 0


def test_what_has_ended_stays_ended() -> None:
    """A restart finds the letter closed and sends nothing; the oldest end is still the first to be forgotten."""
    bench = Bench(delivery(3))
    for op_id in ("z", "y", "x"):
        bench.post("a", op_id)
        bench.hear("a", Ack(bench.policy.outbox.epoch, len(bench.policy.outbox.ended) + 1))
    bench.start()
    bench.wait(60)

    assert bench.sent == []
    assert list(bench.policy.outbox.ended) == ["client/z", "client/y", "client/x"]


def test_one_stuck_letter_does_not_let_the_others_run_away() -> None:
    """Numbers to one destination lie no further apart than the receiver remembers; the next is refused, with why."""
    bench = Bench(delivery(4))
    bench.post("a", "stuck")
    for number in (2, 3, 4):
        bench.post("a", str(number))
        bench.hear("a", Ack(bench.policy.outbox.epoch, number))
    assert bench.policy.outbox.refusal("a", b"") == "an open letter to a is 4 numbers behind"
    assert bench.policy.outbox.refusal("b", b"") == ""


def test_tries_are_counted_over_restarts_and_waits_are_spread() -> None:
    """A node that restarts after every try gives up after five; equal letters do not wait equally long."""
    bench = Bench(delivery())
    for _ in range(5):
        bench.post("a", "1")
        bench.wait(17)
        bench.start()
    bench.wait(40)
    assert not bench.policy.outbox.letters

    bench.post("a", "2")
    bench.post("a", "3")
    deadlines = {at for name, (at, _) in bench.timers.items() if name.startswith("letter/")}
    assert len(deadlines) == 2
    assert all(1.0 <= (at - bench.now) / NS_PER_S <= 1.1 for at in deadlines)


# -- the mesh ------------------------------------------------------------------------------------------


def mesh(**config: Any) -> Callable[[], Mesh]:
    """A node between a and b."""
    return lambda: Mesh({"me": ("a", "b")}, MeshConfig(**config), consumer="user")


def copy(to: str, hops: int, number: int = 1, origin: str = "a") -> Packet:
    """A copy of a letter that lives as long as this file needs."""
    return Packet(Id(origin, to, 5, number), 1, 30 * DAY_NS, hops, b"x")


def test_a_shorter_way_is_taken_and_a_longer_one_is_not() -> None:
    """Offered after fewer hops it is asked for again, and carried on from there."""
    bench = Bench(mesh())
    bench.hear("b", copy("b", 5))
    for hops, wanted in ((4, False), (3, True)):
        bench.sent.clear()
        bench.hear("a", Have(((copy("b", 1).id, hops),)))
        assert bool(bench.sent) == wanted
    bench.hear("a", copy("b", 4))
    bench.sent.clear()
    bench.hear("b", Want((copy("b", 1).id,)))
    assert [message.hops for _, message in bench.sent] == [5]


@pytest.mark.parametrize(("to", "hops", "heard"), [("me", 7, 1), ("me", 8, 0), ("*", 8, 0), ("b", 7, 0), ("b", 6, 1)])
def test_the_last_hop_is_for_hearing_only(to: str, hops: int, heard: int) -> None:
    """The seventh hop may end here but not be carried on; an eighth is not heard."""
    bench = Bench(mesh())
    bench.hear("a", copy(to, hops))
    assert len(bench.of(Heard)) == heard


def test_what_there_is_no_room_for_is_not_acknowledged() -> None:
    """A slow consumer's mesh keeps a letter in the mesh: it says over only of what it took."""
    bench = Bench(mesh(pending_max=1), Slow)
    bench.hear("a", copy("me", 1, 1))
    bench.sent.clear()
    bench.hear("b", Packet(Id("b", "me", 5, 1), 1, 30 * DAY_NS, 1, b"x"))
    assert bench.sent == []


def test_the_memory_of_acknowledgements_is_bounded() -> None:
    """The longest known is forgotten first."""
    bench = Bench(mesh(cache_max=2))
    for number in (1, 2, 3):
        bench.hear("a", Over(Id("a", "b", 5, number), 1))
    assert [name.number for name in bench.policy.over] == [2, 3]


def test_an_offer_is_bounded_and_every_letter_gets_its_turn() -> None:
    """However much is carried, a round names so many; over some rounds each is named."""
    bench = Bench(mesh(quiet_s=1.0))
    for number in range(1, 101):
        bench.hear("a", copy("b", 1, number))
    bench.sent.clear()
    bench.wait(60)
    offers = [message.offers for _, message in bench.sent if isinstance(message, Have)]

    assert {len(offer) for offer in offers} == {OFFERS_MAX}
    assert len({name for offer in offers for name, _ in offer}) == 100


def test_a_full_carrier_asks_for_nothing_but_its_own() -> None:
    """Rounds push nothing out, else two letters would push each other out for ever."""
    bench = Bench(mesh(pending_max=1))
    bench.hear("a", copy("b", 1, 1))
    bench.sent.clear()
    bench.hear("a", Have(((copy("b", 1, 2).id, 1), (copy("me", 1, 1).id, 1))))
    assert bench.sent == [("a", Want((copy("me", 1, 1).id,)))]


def test_a_new_letter_is_pushed_at_once_and_first_to_whom_it_is_for() -> None:
    """The neighbour it is meant for is among the chosen, however small the fan-out; who gave it is not."""
    for seed in range(20):
        bench = Bench(mesh(fanout=1))
        bench.hear("a", copy("b", 1, seed + 1))
        assert [to for to, _ in bench.sent] == ["b"]
    bench = Bench(mesh())
    bench.hear("a", copy(EVERYONE, 1))
    assert [to for to, _ in bench.sent] == ["b"]


def test_a_dead_letter_says_why() -> None:
    """An expired letter's reason is announced and kept for the client that asks."""
    bench = Bench(mesh(ttl_s=10.0))
    bench.post("a", "1")
    bench.wait(60)
    assert [dead.reason for dead in bench.of(Dead)] == ["expired"]
    assert bench.policy.outbox.ended["client/1"].reason == "expired"
