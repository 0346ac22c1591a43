"""check_policy: every slip is one line that says where and what to write instead; sound policies pass."""

from __future__ import annotations

import random
import subprocess
import sys
import time as clock
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

from experiments import check_policy
from experiments.policy_shape import check_shape, sample
from experiments.policy_source import check_source
from experiments.policy_units import PolicyError
from policies.config import RaftConfig
from policies.consensus.raft import Raft
from policies.coordination.leader import Coordination
from policies.election import Election, Lead
from policies.gateway.gateway import Gateway
from policies.harvest.agent import HarvestAgent
from policies.port import NS_PER_S, Policy
from policies.serving.worker import Worker
from policies.wire import Message

SEEN: list[str] = []
CHANCE = random.Random(1)
HERE = Path(__file__).name


class Ping(Message, frozen=True, tag="ping"):
    """A number for a peer."""

    value: int


class Pong(Message, frozen=True, tag="ping"):
    """Another class under the same tag."""

    value: int


class Untagged(Message, frozen=True):
    """A message without a tag."""

    value: int


class Framed(Message, frozen=True, tag="framed"):
    """A message with something that does not travel."""

    table: np.ndarray


def from_helper() -> float:
    """Read a clock on behalf of a policy."""
    return monotonic()


class Sound(Policy):
    """Uses what a policy may use, close to what it may not."""

    messages = (Ping,)
    requests = (Ping,)

    def on_start(self, saved: Any) -> None:
        """Begin."""
        self.heard: set[str] = set()
        self.port.set_timer("tick", NS_PER_S // 2)

    def on_timer(self, name: str) -> None:
        """Count in an order that is fixed; ``time`` is a local of this handler, and no module."""
        time = self.port.now
        for peer in sorted(self.heard):
            self.port.note("heard", peer=peer, at=time)
        if all(peer in self.port.peers for peer in self.heard) and len(self.heard) < 9:
            self.port.broadcast(Ping(len(self.heard)))
        self.port.set_timer("tick", NS_PER_S // 2)

    def on_message(self, sender: str, message: Ping) -> None:
        """Remember the sender."""
        self.heard.add(sender)

    def on_request(self, client: str, op_id: str, operation: Ping) -> None:
        """Answer."""
        self.port.reply(client, op_id, operation)


class WallClock(Policy):
    """Reads the machine's clock under an alias."""

    def on_start(self, saved: Any) -> None:
        self.t = clock.time()


class ByHelper(Policy):
    """Has a function read the clock."""

    def on_start(self, saved: Any) -> None:
        self.t = from_helper()


class Gambler(Policy):
    """Draws from the process's generator."""

    def on_start(self, saved: Any) -> None:
        self.t = random.random()


class Gambler2(Policy):
    """Draws from a generator of the module."""

    def on_start(self, saved: Any) -> None:
        self.t = CHANCE.random()


class Gambler3(Policy):
    """Draws from NumPy."""

    def on_start(self, saved: Any) -> None:
        self.t = np.random.default_rng().random()


class Importer(Policy):
    """Imports inside a handler."""

    def on_start(self, saved: Any) -> None:
        import os

        self.t = os.getpid()


class Printer(Policy):
    """Prints."""

    def on_start(self, saved: Any) -> None:
        print("hello")


class Hasher(Policy):
    """Uses the salted hash."""

    def on_start(self, saved: Any) -> None:
        self.port.set_timer("x", hash(self.port.me))


class Lazy(Policy):
    """A handler that is a generator."""

    def on_start(self, saved: Any) -> Any:
        yield self.port.now


class Sleeper(Policy):
    """A handler that is a coroutine."""

    async def on_start(self, saved: Any) -> None:
        """Wait."""


class Teller(Policy):
    """Writes to a list that all nodes share."""

    def on_start(self, saved: Any) -> None:
        SEEN.append(self.port.me)


class Counter(Policy):
    """Writes to its class."""

    lives = 0

    def on_start(self, saved: Any) -> None:
        Counter.lives += 1


class Hoarder(Policy):
    """Writes to a mutable attribute of its class."""

    table: dict[str, int] = {}  # noqa: RUF012

    def on_start(self, saved: Any) -> None:
        self.table["lives"] = 1


class Unordered(Policy):
    """Sends in the order of a set."""

    def on_start(self, saved: Any) -> None:
        self.waiting = {"n0", "n1"}
        for peer in self.waiting:
            self.port.note("peer", peer=peer)


class Exact(Policy):
    """Compares floats."""

    def on_start(self, saved: Any) -> None:
        if self.port.rng.random() == 0.5:
            self.port.note("half")


class Global(Policy):
    """Declares a global."""

    def on_start(self, saved: Any) -> None:
        global HERE
        HERE = ""


STATIC = [
    (WallClock, r"clock\.time: use self\.port\.now"),
    (ByHelper, r"monotonic: use self\.port\.now"),
    (Gambler, r"random\.random: use self\.port\.rng"),
    (Gambler2, r"CHANCE: use self\.port\.rng"),
    (Gambler3, r"np\.random\.default_rng: use self\.port\.rng"),
    (Importer, r"os: a policy does no I/O"),
    (Printer, r"print: use self\.port\.note"),
    (Hasher, r"hash: differs between processes"),
    (Lazy, r"async and yield: a handler runs to its end"),
    (Sleeper, r"async and yield: a handler runs to its end"),
    (Teller, r"SEEN: shared by all nodes"),
    (Counter, r"Counter\.lives: shared by all nodes"),
    (Hoarder, r"self\.table: shared by all nodes"),
    (Unordered, r"use sorted\("),
    (Exact, r"floats differ between CPUs"),
    (Global, r"global: keep state on self"),
]


@pytest.mark.parametrize(("policy", "message"), STATIC, ids=[case[0].__name__ for case in STATIC])
def test_the_text_is_refused_with_its_line(policy: type[Policy], message: str) -> None:
    """Each slip in a policy's text is one line: the file, the number of the line, the offence, the replacement."""
    with pytest.raises(PolicyError, match=message) as refused:
        check_policy(policy)
    text = str(refused.value)

    assert "\n" not in text
    file, line, _ = text.split(":", 2)
    source = Path(file).read_text().splitlines()
    offence = {"async and yield": ("yield", "async")}.get(text.split(": ")[1], (text.split(": ")[1],))
    assert any(word in source[int(line) - 1] for word in offence)


class Misspelt(Policy):
    """A handler nobody calls."""

    def on_start(self, saved: Any) -> None:
        """Begin."""

    def on_mesage(self, sender: str, message: Any) -> None:
        """Never called."""


class Spaced(Policy):
    """A handler without its underscore."""

    def on_start(self, saved: Any) -> None:
        """Begin."""

    def onmessage(self, sender: str, message: Any) -> None:
        """Never called."""


class Short(Policy):
    """A handler with too few parameters."""

    def on_message(self, message: Any) -> None:
        """Cannot be called."""


class Handlerless(Policy):
    """Has nothing."""


class Listed(Sound):
    """Messages in a list."""

    messages = [Ping]  # type: ignore[assignment]  # noqa: RUF012


class Plain(Sound):
    """A message that is no Message."""

    messages = (dict,)  # type: ignore[assignment]


class NoTag(Sound):
    """A message without a tag."""

    messages = (Untagged,)


class Twins(Sound):
    """Two messages with one tag."""

    messages = (Ping, Pong)


class Heavy(Sound):
    """A message with an array."""

    messages = (Framed,)


SHAPES = [
    (Misspelt, r"on_mesage: no such handler; did you mean on_message\?"),
    (Spaced, r"onmessage: no such handler; did you mean on_message\?"),
    (Short, r"on_message\(self, message\): it is called with \(self, sender, message\)"),
    (Handlerless, r"Handlerless: has no handler"),
    (Listed, r"Listed\.messages: is a list; write a tuple"),
    (Plain, r"Plain\.messages: <class 'dict'> is no subclass"),
    (NoTag, r"Untagged has no tag"),
    (Twins, r"Ping and Pong have the same tag 'ping'"),
    (Heavy, r"Framed\.table: ndarray does not travel"),
]


@pytest.mark.parametrize(("policy", "message"), SHAPES, ids=[case[0].__name__ for case in SHAPES])
def test_the_shape_is_refused(policy: type[Policy], message: str) -> None:
    """Handlers that are never called and messages that never arrive are found before anything runs."""
    with pytest.raises(PolicyError, match=message) as refused:
        check_policy(policy)
    assert "\n" not in str(refused.value)


class Divider(Sound):
    """Fails in a handler of its own."""

    def on_request(self, client: str, op_id: str, operation: Ping) -> None:
        """Divide by zero."""
        self.port.reply(client, op_id, Ping(operation.value // 0))


class Endless(Sound):
    """A step without end, which swallows every ordinary exception."""

    def on_timer(self, name: str) -> None:
        """Spin."""
        while True:
            try:
                self.count = 1
            except Exception:
                continue


class Restless(Sound):
    """A timer without a pause."""

    def on_timer(self, name: str) -> None:
        """Again, at once."""
        self.port.set_timer("tick", 0)


class Flood(Sound):
    """One step with too many effects."""

    def on_timer(self, name: str) -> None:
        """Say it very often."""
        for _ in range(10_001):
            self.port.broadcast(Ping(1))


class Stranger(Sound):
    """Sends what it does not declare."""

    def on_timer(self, name: str) -> None:
        """Send an undeclared class."""
        self.port.broadcast(Lead(1))
        self.port.set_timer("tick", NS_PER_S)


class Aliased(Sound):
    """Changes shared state under another name, which the text does not show."""

    table: list[int] = []  # noqa: RUF012

    def on_timer(self, name: str) -> None:
        """Append through an alias."""
        mine = self.table
        mine.append(1)


class Remembering(Sound):
    """Behaves otherwise in the second run: its making counts the lives, and no step does."""

    def __init__(self) -> None:
        self.pause_ns = next(LIVES)

    def on_start(self, saved: Any) -> None:
        """Wait a little longer in each life."""
        super().on_start(saved)
        self.port.set_timer("tick", self.pause_ns)


LIVES = iter(range(1_000_000, 2_000_000))

TRIALS = [
    (Divider, r"in on_request: ZeroDivisionError"),
    (Endless, r"a step ran 200,000 lines of the policy; it must end"),
    (Restless, r"steps within .* timers and answers need a pause"),
    (Flood, r"effects of one step, on_timer\('tick'\)"),
    (Stranger, r"dropped \d+ messages whose class is not in its policy's messages"),
    (Aliased, r"Aliased\.table: changed while the nodes ran"),
    (Remembering, r"two runs with the same seed differ from 0\.0000 s on, in on_start"),
]


@pytest.mark.parametrize(("policy", "message"), TRIALS, ids=[case[0].__name__ for case in TRIALS])
def test_a_run_shows_what_the_text_does_not(policy: type[Policy], message: str) -> None:
    """Exceptions, steps and runs without end, undeclared messages and shared state end the trial with one line."""
    before = sys.gettrace()
    with pytest.raises(PolicyError, match=message) as refused:
        check_policy(policy)

    assert "\n" not in str(refused.value)
    assert sys.gettrace() is before


def test_an_exception_is_reported_with_its_line() -> None:
    """The line named is the policy's innermost one."""
    with pytest.raises(PolicyError) as refused:
        check_policy(Divider)
    file, line, _ = str(refused.value).split(":", 2)

    assert Path(file).read_text().splitlines()[int(line) - 1].strip().endswith("// 0))")


def test_sound_policies_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """The tutorial's policy, Raft by path, and a policy that comes close to every rule are found in order."""
    members = ("n0", "n1", "n2")
    check_policy(Election)
    check_policy(Sound)
    check_policy(lambda: {"consensus": Raft(RaftConfig(), members)}, seconds=30)

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["ok", "Election"], ["ok", "Sound"], ["ok", "Raft"]]


@pytest.mark.parametrize("policy", [Raft, Coordination, Gateway, Worker, HarvestAgent], ids=lambda p: p.__name__)
def test_the_villages_own_policies_pass_the_text(policy: type[Policy]) -> None:
    """What ships keeps its own rules."""
    check_shape(policy)
    check_source(policy)


def test_what_is_no_policy_is_refused() -> None:
    """A class of another kind, an instance, and a class that needs arguments are each told what to do."""
    with pytest.raises(PolicyError, match=r"dict: is no subclass"):
        check_policy(dict)
    with pytest.raises(PolicyError, match="expected a policy's class"):
        check_policy(Sound())
    with pytest.raises(PolicyError, match=r"check_policy\(lambda: Raft\(\.\.\.\)\)"):
        check_policy(Raft)


def test_samples_are_messages() -> None:
    """A request made up for a trial encodes and decodes as its class, whatever its fields."""
    assert sample(Ping) == Ping(1)
    for kind in (*Coordination.messages, *Gateway.requests, *Raft.messages):
        assert isinstance(sample(kind), kind)


def test_check_policy_is_found_in_a_fresh_process() -> None:
    """``from experiments import check_policy`` gives the function, not the module of that name."""
    code = "from experiments import check_policy; check_policy.__call__"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
