"""The simulate driver against naive models: cost of steps, timers, saves, crashes, messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.log import DamagedLog
from policies.wire import FRAME_OVERHEAD_BYTES, encode
from scenarios.schema import Network
from sim.network import Links, MessageNetwork
from sim.world import Node, StepCost, World

FREE = StepCost(base_ns=0, byte_ns=0, sign_ns=0, verify_ns=0, fsync_ns=0)
ONE_WAY_NS, RATE = 1_000_000, 1e9
QUIET = Network(backbone_s=0.0, loss=0.0, jitter_sigma=0.0, duplicate=0.0)


class Script:
    """Stands in for a Cell: notes what it is given, and asks for what ``answer`` says."""

    def __init__(self, seen: list[tuple[int, tuple[Any, ...]]], answer: Callable[[Any], Iterable[Any]]) -> None:
        self.seen, self.answer, self.crypto_ops = seen, answer, 0

    def step(self, now: int, wall: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        self.seen.append((now, given))
        return tuple(self.answer(given))


def a_world(count: int = 2, config: Network = QUIET) -> World:
    """Return a world whose nodes reach one another in 2 ms plus transfer."""
    return World(MessageNetwork(1, Links.alike(count, ONE_WAY_NS / 1e9, RATE), config))


def a_node(
    world: World, name: str = "a", answer: Callable[[Any], Iterable[Any]] = lambda given: (), cost: StepCost = FREE
) -> tuple[Node, list[tuple[int, tuple[Any, ...]]]]:
    """Add and start a scripted node; return it with what it sees."""
    seen: list[tuple[int, tuple[Any, ...]]] = []
    node = world.add(name, lambda: Script(seen, answer), cost)
    world.start(node)
    return node, seen


def kinds(seen: list[tuple[int, tuple[Any, ...]]]) -> list[int]:
    """Return the kinds of the inputs seen."""
    return [given[0] for _, given in seen]


def test_a_policy_that_finds_its_saved_state_impossible_stays_down() -> None:
    """What a policy cannot begin with is damage like any other: its node is down, says why, and the world goes on."""
    world, told = a_world(), []
    world.on_disk_failure = lambda node, why: told.append((node.name, why))

    def refuse(given: Any) -> Iterable[Any]:
        raise DamagedLog("entry 2 is missing, and entry 3 is there")

    node, _ = a_node(world, "a", refuse)

    assert (node.up, told) == (False, [("a", "damaged")])


def test_effects_leave_and_the_next_input_is_taken_only_after_the_steps_cost() -> None:
    """A step of 1 ms delays its message and the two inputs behind it by 1 ms each."""
    world = a_world()
    answer = lambda given: [(p.SEND, "", "b", b"x")] if given[0] == p.PEER else []  # noqa: E731
    cost = StepCost(base_ns=1_000_000, byte_ns=0, sign_ns=0, verify_ns=0)
    a, seen_a = a_node(world, "a", answer, cost)
    _, seen_b = a_node(world, "b")
    for at in (5_000_000, 5_000_000, 5_400_000):
        world.give_at(at, a, (p.PEER, "", "b", "up"))
    world.run(1)

    assert [now for now, _ in seen_a[1:]] == [5_000_000, 6_000_000, 7_000_000]
    flight = 2 * ONE_WAY_NS + 1 + FRAME_OVERHEAD_BYTES  # one byte a nanosecond
    arrivals = [6_000_000 + flight, 7_000_000 + flight, 8_000_000 + flight]
    assert [now for now, _ in seen_b[1:]] == pytest.approx(arrivals, abs=1)


def test_signatures_lengthen_a_step() -> None:
    """A step is charged for every signature since the last one, and only once."""
    world = a_world()
    a, seen = a_node(world, cost=StepCost(base_ns=10, byte_ns=0, sign_ns=1000, verify_ns=1000))
    a.cell.crypto_ops = 3
    for _ in range(3):
        world.give_at(100, a, (p.PEER, "", "b", "up"))
    world.run(1)

    assert [now for now, _ in seen[1:]] == [100, 3110, 3120]


def test_a_signature_made_and_one_verified_have_costs_of_their_own() -> None:
    """Of a step's answers from its keys, bytes are a signature made, and a verdict, right or wrong, is one verified."""
    world = a_world()
    answers = [
        (p.SIGNED, "", b"s"),
        (p.SIGNED, "", True),
        (p.SIGNED, "", False),
        (p.SIGNED, "", b"t"),
        (p.SIGNED, "", True),
    ]
    answer = lambda given: answers if given[0] == p.PEER else ()  # noqa: E731
    a, seen = a_node(world, answer=answer, cost=StepCost(base_ns=10, byte_ns=0, sign_ns=1000, verify_ns=30_000))
    a.cell.crypto_ops = len(answers)
    for _ in range(2):
        world.give_at(100, a, (p.PEER, "", "b", "up"))
    world.run(1)

    assert [now for now, _ in seen[1:]] == [100, 100 + 10 + 2 * 1000 + 3 * 30_000]


def test_a_slow_machine_is_slow_at_everything_but_its_disk() -> None:
    """Steps, bytes and signatures take as many times longer."""
    assert StepCost(1, 2, 3, 4, 5).times(10.0) == StepCost(10, 20, 30, 40, 5)


def test_a_step_is_charged_for_the_bytes_it_handles() -> None:
    """The cost of a step grows with the encoded size of its input and effects."""
    world = a_world()
    a, seen = a_node(world, cost=StepCost(base_ns=0, byte_ns=7, sign_ns=0, verify_ns=0))
    for _ in range(2):
        world.give_at(1_000_000, a, (p.PEER, "", "b", "up"))
    world.run(1)

    assert seen[2][0] == 1_000_000 + 7 * len(encode((a.number, *seen[1], ())))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 6),  # gap before the input
            st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 20))), max_size=3),
        ),
        max_size=12,
    )
)
def test_lazy_timers_fire_exactly_as_eager_ones(script: list[tuple[int, list[tuple[str, int | None]]]]) -> None:
    """Whatever is set, re-set and cancelled, each timer fires once, at its last deadline, with its last generation."""
    # Inputs come at multiples of 10 ns and deadlines end in 5, so no timer ties with the input that re-arms it.
    expected: list[tuple[int, str, int]] = []
    armed: dict[str, tuple[int, int]] = {}
    inputs: list[tuple[int, list[tuple[Any, ...]]]] = []
    now, generation = 0, 0
    for gap, asks in script:
        now += 10 * gap
        expected += [(at, name, g) for name, (at, g) in armed.items() if at < now]
        armed = {name: timer for name, timer in armed.items() if timer[0] > now}
        effects: list[tuple[Any, ...]] = []
        for name, after in asks:
            if after is None:
                armed.pop(name, None)
                effects.append((p.CANCEL_TIMER, "", name))
            else:
                generation += 1
                armed[name] = (now + 10 * after + 5, generation)
                effects.append((p.SET_TIMER, "", name, armed[name][0], generation))
        inputs.append((now, effects))
    expected += [(at, name, g) for name, (at, g) in armed.items()]

    world = a_world(1)
    a, seen = a_node(world, answer=lambda given: inputs[given[2]][1] if given[0] == p.PEER else [])
    for number, (at, _) in enumerate(inputs):
        world.give_at(at, a, (p.PEER, "", number, ""))
    world.run(1)

    fired = [(now, given[2], given[3]) for now, given in seen if given[0] == p.TIMER]
    assert sorted(fired) == sorted(expected)


def test_a_crash_voids_timers_jobs_saves_and_waiting_inputs() -> None:
    """What an earlier life scheduled never reaches the next one."""
    world = a_world(1)
    answer = lambda given: (  # noqa: E731
        [(p.SET_TIMER, "", "t", 10_000_000, 1), (p.SAVE, "", 1, (("/k", b"v"),))] if given[0] == p.PEER else []
    )
    a, seen = a_node(world, answer=answer, cost=StepCost(base_ns=1_000_000, fsync_ns=5_000_000))
    world.give_at(2_000_000, a, (p.PEER, "", "b", "up"))
    world.give_at(2_100_000, a, (p.PEER, "", "waits in the inbox", "up"))
    world.give_at(9_000_000, a, (p.JOB, "", 1, b""))
    world.engine.call_at(2_500_000, world.crash, a)
    world.engine.call_at(3_000_000, world.start, a)
    world.run(1)

    assert kinds(seen) == [p.START, p.PEER, p.START]
    assert seen[-1] == (3_000_000, (p.START, "", {}, 1))


def test_messages_to_a_node_that_is_down_are_lost_and_later_ones_arrive() -> None:
    """A node that is down hears nothing; after its restart it hears again."""
    world = a_world()
    a, _ = a_node(world, "a", lambda given: [(p.SEND, "", "b", b"m")] if given[0] == p.PEER else [])
    b, seen = a_node(world, "b")
    for at in (10_000_000, 20_000_000):
        world.give_at(at, a, (p.PEER, "", "b", "up"))
    world.engine.call_at(1, world.crash, b)
    world.engine.call_at(15_000_000, world.start, b)
    world.run(1)

    assert kinds(seen) == [p.START, p.START, p.MESSAGE]


@given(st.integers(1, 12), st.integers(0, 40), st.floats(0, 1))
def test_recovery_returns_every_acknowledged_save_and_a_prefix_of_the_rest(
    batches: int, crash_ms: int, torn_share: float
) -> None:
    """After a crash the disk holds a prefix of the saves that covers every one that was called durable."""
    world = a_world(1)
    answer = lambda given: [(p.SAVE, "", given[2], ((f"/{given[2]}", b"v" * 9),))] if given[0] == p.PEER else []  # noqa: E731
    a, seen = a_node(
        world, answer=answer, cost=StepCost(base_ns=0, byte_ns=0, sign_ns=0, verify_ns=0, fsync_ns=2_000_000)
    )
    for number in range(batches):
        world.give_at(number * 1_000_000, a, (p.PEER, "", number, ""))
    world.engine.call_at(crash_ms * 1_000_000 + 1, lambda _: world.crash(a, torn_share), None)
    world.engine.call_at(100_000_000, world.start, a)
    world.run(1)

    acknowledged = [given[2] for _, given in seen if given[0] == p.DURABLE]
    saved = sorted(int(key[1:]) for key in seen[-1][1][2])
    assert saved == list(range(len(saved)))
    assert len(saved) >= len(acknowledged)
    assert a.disk.synced == a.disk.size == len(a.disk.read())
    if torn_share == 0.0:
        assert len(saved) == len(acknowledged)


def test_saves_that_wait_for_the_disk_share_its_next_sync() -> None:
    """As the real committer does it: a slow disk has one sync under way and one to come, however much is saved."""
    world = a_world(1)
    answer = lambda given: [(p.SAVE, "", given[2], (("/k", b"v"),))] if given[0] == p.PEER else []  # noqa: E731
    a, seen = a_node(
        world, answer=answer, cost=StepCost(base_ns=0, byte_ns=0, sign_ns=0, verify_ns=0, fsync_ns=10_000_000)
    )
    for number in range(6):
        world.give_at((number // 2) * 6_000_000, a, (p.PEER, "", number, ""))  # by twos: at 0, at 6 and at 12 ms
    world.run(1)

    durable = [(now // 1_000_000, given[2]) for now, given in seen if given[0] == p.DURABLE]
    assert durable == [(10, 0), (10, 1), (20, 2), (20, 3), (30, 4), (30, 5)]


def test_a_disk_that_is_no_longer_slow_takes_the_next_save_in_its_own_time() -> None:
    """What waited has one sync when its node wakes; a save after that has another, which lies ahead of it."""
    world = a_world(1)
    answer = lambda given: [(p.SAVE, "", given[2], (("/k", b"v"),))] if given[0] == p.PEER else []  # noqa: E731
    a, seen = a_node(
        world, answer=answer, cost=StepCost(base_ns=0, byte_ns=0, sign_ns=0, verify_ns=0, fsync_ns=2_000_000)
    )
    a.sync_extra_ns = 300_000_000
    for number, at_ms in enumerate((0, 1, 30)):
        world.give_at(at_ms * 1_000_000, a, (p.PEER, "", number, ""))

    def mend(_: None) -> None:
        a.sync_extra_ns = 0
        world.wake(a)

    world.engine.call_at(10_000_000, mend, None)
    world.run(1)

    assert [(now // 1_000_000, given[2]) for now, given in seen if given[0] == p.DURABLE] == [(12, 0), (12, 1), (32, 2)]


def test_a_duplicated_message_arrives_twice_and_a_node_may_write_to_itself() -> None:
    """With duplicates certain every message arrives twice, the second after twice the delay; a self-send once."""
    world = a_world(config=Network(backbone_s=0.0, loss=0.0, jitter_sigma=0.0, duplicate=1.0))
    sends = [(p.SEND, "x", "b", b""), (p.SEND, "x", "a/y", b""), (p.SEND, "x", "nobody", b"")]
    a, seen_a = a_node(world, "a", lambda given: sends if given[0] == p.PEER else [])
    _, seen_b = a_node(world, "b")
    world.give_at(0, a, (p.PEER, "", "b", "up"))
    world.run(1)

    delay = 2 * ONE_WAY_NS + FRAME_OVERHEAD_BYTES
    assert seen_b[1:] == [(delay, (p.MESSAGE, "x", "a", b"")), (2 * delay, (p.MESSAGE, "x", "a", b""))]
    assert [given for _, given in seen_a if given[0] == p.MESSAGE] == [(p.MESSAGE, "y", "a", b"")]


def test_the_digest_is_of_every_input_and_mark() -> None:
    """Equal histories have equal digests; one other input, time or mark gives another."""

    def digest(at: int, hint: str, mark: str) -> str:
        world = a_world(1)
        a, _ = a_node(world)
        world.give_at(at, a, (p.PEER, "", "b", hint))
        world.mark(mark)
        world.run(1)
        return world.digest

    assert digest(5, "up", "m") == digest(5, "up", "m")
    assert len({digest(5, "up", "m"), digest(6, "up", "m"), digest(5, "down", "m"), digest(5, "up", "n")}) == 4
