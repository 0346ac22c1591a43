"""The port as promised is the port as given, and policies mounted together stay apart."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.port import NS_PER_MS, Effect, Input, Keys, Policy, Port
from policies.rng import Rng
from policies.wire import Message, encode
from sim.keys import KeyRing


class Number(Message, frozen=True, tag="number"):
    """A number."""

    value: int


def members(protocol: type) -> dict[str, Any]:
    """Return a protocol's public members."""
    return {name: value for name, value in vars(protocol).items() if not name.startswith("_")}


def given_port() -> Any:
    """Return what a policy gets as its port."""
    policy = Policy()
    Cell(policy, "n0", ("n1",), seed=1, keys=KeyRing(1).handle("n0"))
    return policy.port


def test_the_cell_gives_the_port_that_was_promised() -> None:
    """Every name of the Port protocol is there, its methods with the same parameters, kinds and defaults."""
    port = given_port()
    for name, promised in members(Port).items():
        assert hasattr(port, name), name
        if not isinstance(promised, property):
            wanted = list(inspect.signature(promised).parameters.values())[1:]
            found = list(inspect.signature(getattr(port, name)).parameters.values())
            assert [(a.name, a.kind, a.default) for a in found] == [(a.name, a.kind, a.default) for a in wanted], name


def test_the_cell_gives_nothing_else() -> None:
    """There is no public name on the port that the protocol does not promise, and none that could be added."""
    port = given_port()
    public = {name for name in dir(port) if not name.startswith("_")}

    assert public == set(members(Port))
    assert not hasattr(port, "__dict__")


def test_key_handles_and_random_streams_keep_their_promise() -> None:
    """What `port.keys` returns has the Keys protocol's signatures; `port.rng` is ours."""
    port = given_port()
    for name, promised in members(Keys).items():
        wanted = list(inspect.signature(promised).parameters)[1:]
        assert list(inspect.signature(getattr(port.keys, name)).parameters) == wanted
    assert isinstance(port.rng, Rng)


def test_a_stale_timer_never_fires() -> None:
    """A firing that was already queued when its timer was re-armed or cancelled reaches no handler."""

    class Timed(Policy):
        messages = (Number,)

        def on_start(self, saved: Mapping[str, bytes]) -> None:
            self.fired: list[str] = []
            self.port.set_timer("a", 1)
            self.port.set_timer("b", 1)

        def on_message(self, sender: str, message: Number) -> None:
            self.port.set_timer("a", 10)
            self.port.cancel_timer("b")

        def on_timer(self, name: str) -> None:
            self.fired.append(name)

    policy = Timed()
    cell = Cell(policy, "n0", ("n1",), seed=1, keys=KeyRing(1).handle("n0"))
    first = {e[2]: e[4] for e in cell.step(0, 0, (p.START, "", {}, 0)) if e[0] == p.SET_TIMER}
    again = {e[2]: e[4] for e in cell.step(1, 1, (p.MESSAGE, "", "n1", encode(Number(1)))) if e[0] == p.SET_TIMER}
    for name, generation in (*first.items(), *again.items(), *again.items()):
        cell.step(11, 11, (p.TIMER, "", name, generation))

    assert policy.fired == ["a"]


class Child(Policy):
    """Uses everything whose numbering a neighbour could disturb: timers, saves, draws, signatures."""

    messages = (Number,)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.count = len(saved)
        self.port.set_timer("tick", NS_PER_MS)

    def on_timer(self, name: str) -> None:
        self._act(1)
        self.port.set_timer("tick", self.port.rng.below(5 * NS_PER_MS))

    def on_message(self, sender: str, message: Number) -> None:
        self._act(message.value)

    def on_durable(self, token: int) -> None:
        self.port.note("durable", token=token)

    def _act(self, value: int) -> None:
        self.count += value
        token = self.port.save(f"k{value % 3}", b"%d" % self.count)
        self.port.note("acted", token=token, draw=self.port.rng.random(), signed=self.port.keys.sign(b"x").hex())
        self.port.broadcast(Number(self.count))


class Neighbour(Child):
    """Does the same, more of it, and talks to whoever is at home."""

    def _act(self, value: int) -> None:
        super()._act(value)
        super()._act(value + 1)
        self.port.set_timer("other", NS_PER_MS)


# Events for the child: whose input comes next, what kind, and a number.
EVENTS = st.lists(
    st.tuples(st.sampled_from(["child", "neighbour"]), st.sampled_from(["message", "timer", "durable", "crash"]),
              st.integers(0, 9)),
    min_size=1, max_size=40,
)  # fmt: skip


class Home:
    """A node driven by hand, with a disk that never fails; it answers each path's own timers and saves."""

    def __init__(self, paths: Mapping[str, type[Policy]]) -> None:
        self.paths, self.saved, self.life = paths, dict[str, bytes](), -1
        self.journal: dict[str, list[tuple[Input, tuple[Effect, ...]]]] = {path: [] for path in paths}
        self.start()

    def start(self) -> None:
        self.life += 1
        made = {path: kind() for path, kind in self.paths.items()}
        self.cell = Cell(made, "n0", ("n1",), seed=1, keys=KeyRing(1).handle("n0"))
        self.armed: dict[str, tuple[str, int]] = {}
        self.saves: dict[str, list[tuple[int, Any]]] = {path: [] for path in self.paths}
        self.give(0, (p.START, "", dict(self.saved), self.life))

    def give(self, now: int, given: Input) -> None:
        effects = self.cell.step(now, now, given)
        for effect in effects:
            if effect[0] == p.SET_TIMER and effect[2] == "tick":
                self.armed[effect[1]] = (effect[2], effect[4])
            elif effect[0] == p.SAVE:
                self.saves[effect[1]].append((effect[2], effect[3]))
        for path in self.paths:
            if given[1] == path or given[0] == p.START:
                own = given if given[0] != p.START else (p.START, "", self._of(path, given[2]), given[3])
                self.journal[path].append((own, tuple(e for e in effects if e[1] == path)))
            else:
                assert not [e for e in effects if e[1] == path], "an input to one child had an effect of another"

    def _of(self, path: str, saved: Mapping[str, bytes]) -> dict[str, bytes]:
        return {key: value for key, value in saved.items() if key.startswith(path + "/")}

    def apply(self, now: int, path: str, kind: str, value: int) -> None:
        if kind == "crash":
            self.start()
        elif path not in self.paths:
            return
        elif kind == "message":
            self.give(now, (p.MESSAGE, path, "n1", encode(Number(value))))
        elif kind == "timer" and path in self.armed:
            name, generation = self.armed.pop(path)
            self.give(now, (p.TIMER, path, name, generation))
        elif kind == "durable" and self.saves[path]:
            token, batch = self.saves[path].pop(0)
            self.saved.update(batch)
            self.give(now, (p.DURABLE, path, token))


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_a_neighbour_changes_no_childs_journal(events: list[tuple[str, str, int]]) -> None:
    """A child mounted alone and beside another has the same inputs and effects, tokens and generations included."""
    alone, together = Home({"child": Child}), Home({"neighbour": Neighbour, "child": Child})
    for number, (path, kind, value) in enumerate(events):
        for home in (alone, together):
            home.apply(number * NS_PER_MS, path, kind, value)

    assert together.journal["child"] == alone.journal["child"]


def test_inputs_of_a_child_are_numbered_by_itself() -> None:
    """Tokens of a child's saves are 1, 2, 3, ... whatever its neighbour saves in between."""
    home = Home({"neighbour": Neighbour, "child": Child})
    for number in range(6):
        for path in home.paths:
            home.apply(number, path, "message", number)

    tokens = [token for token, _ in home.saves["child"]]
    assert tokens[0] == 1
    assert all(later == earlier + 1 for earlier, later in pairwise(tokens))
