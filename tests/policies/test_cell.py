"""The Cell: a pure step, a durability horizon for each path, and children that do not disturb one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.jobs import Done, LoadJob, Progress
from policies.port import Effect, Input, Policy
from policies.wire import Message, encode
from sim.keys import KeyRing
from tests.policies.strategies import cell_inputs

PEERS = ("a", "b")


class Say(Message, frozen=True, tag="say"):
    """A script: the verbs to carry out, in order, each with a number."""

    script: tuple[tuple[str, int], ...]


def say(*script: tuple[str, int] | str) -> Say:
    """Return a script; a verb alone has number 0."""
    return Say(tuple((s, 0) if isinstance(s, str) else s for s in script))


class Chatty(Policy):
    """Does what it is told, through every call of the port; keeps what it heard."""

    messages = (Say,)
    requests = (Say,)

    def __init__(self, friend: str = "") -> None:
        self.friend = friend
        self.heard: list[Any] = []
        self.tokens: list[int] = []
        self.job = 0

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.heard.append(("start", dict(saved)))
        self.port.set_timer("0", 5)

    def on_message(self, sender: str, message: Say) -> None:
        self.run(message)

    def on_local(self, sender: str, message: Say) -> None:
        self.heard.append(("local", sender, message.script))
        self.run(message)

    def on_request(self, client: str, op_id: str, operation: Say) -> None:
        self.run(operation)

    def on_timer(self, name: str) -> None:
        self.heard.append(("timer", name))
        self.port.note("timer", name=name)

    def on_job(self, job_id: int, outcome: Any) -> None:
        self.heard.append(("job", job_id, outcome))

    def on_durable(self, token: int) -> None:
        self.heard.append(("durable", token))

    def run(self, message: Say) -> None:
        """Carry the script out."""
        port, word = self.port, Say(())
        for verb, number in message.script:
            key = str(number)
            if verb == "send":
                port.send("a", Say((("note", number),)))
            elif verb == "early":
                port.send("b", word, early=True)
            elif verb == "broadcast":
                port.broadcast(word)
            elif verb == "tell":
                port.tell(self.friend, Say((("send", number),)))
            elif verb == "timer":
                port.set_timer(key, 10 * number - 5)
            elif verb == "cancel_timer":
                port.cancel_timer(key)
            elif verb == "save":
                self.tokens.append(port.save(key, b"v"))
            elif verb == "erase":
                self.tokens.append(port.erase(key))
            elif verb == "submit":
                self.job = port.submit(LoadJob("m", 0, number))
            elif verb == "cancel":
                port.cancel(self.job)
            elif verb == "reply":
                port.reply("c", key, word)
            elif verb == "decide":
                port.decide("kind", word)
            elif verb == "sign":
                assert port.keys.verify(port.me, b"x", port.keys.sign(b"x"))
            elif verb == "draw":
                port.note("draw", bits=port.rng.random())
            elif verb == "limit":
                port.limit("cpu", number / 3)
            else:
                port.note("said", number=number, now=port.now, wall=port.wall)


def cell(**policies: Policy) -> Cell:
    """Return a started Cell of node n."""
    made = Cell(policies or {"x": Chatty()}, "n", PEERS, seed=1, keys=KeyRing(1).handle("n"))
    made.step(0, 0, (p.START, "", {}, 0))
    return made


def tell(made: Cell, path: str, *script: tuple[str, int] | str, now: int = 10) -> list[str]:
    """Feed a script and return the names of the effects."""
    return names(made.step(now, 0, (p.MESSAGE, path, "a", encode(say(*script)))))


def names(effects: tuple[Effect, ...]) -> list[str]:
    """Return the effects' names."""
    return [p.EFFECT_NAMES[e[0]] for e in effects]


# -- the horizon -------------------------------------------------------------------------------------


def test_what_speaks_waits_for_the_saves_before_it_and_the_rest_does_not() -> None:
    """Send, reply and decide stay; timers, jobs, limits, notes and early sends leave with the step."""
    x = cell()
    told = tell(x, "x", "save", "send", "reply", "decide", "timer", "submit", "limit", "note", "early")

    assert told == ["send", "save", "set_timer", "submit", "limit", "note"]
    assert names(x.step(11, 0, (p.DURABLE, "x", 1))) == ["send", "reply", "decide"]


def test_what_was_sent_before_a_save_in_the_same_step_waits_with_it() -> None:
    """A step is one moment: its saves come before all that it says."""
    assert tell(cell(), "x", "send", "save") == ["save"]


def test_later_steps_wait_in_order_for_their_own_batch() -> None:
    """Each batch releases what was said since it; a later one releases all before it."""
    x = cell()
    tell(x, "x", "save", ("send", 1))
    tell(x, "x", ("send", 2))
    tell(x, "x", "save", ("send", 3))
    first = x.step(11, 0, (p.DURABLE, "x", 1))
    tell(x, "x", ("send", 4))
    tell(x, "x", "save")
    rest = x.step(12, 0, (p.DURABLE, "x", 3))

    said = [effect[3] for effect in (*first, *rest)]
    assert said == [encode(say(("note", k))) for k in (1, 2, 3, 4)]
    assert len(first) == 2
    assert tell(x, "x", "send") == ["send"]


def test_a_path_waits_only_for_itself() -> None:
    """One policy's disk does not hold another's tongue, not even where one told the other."""
    both = cell(x=Chatty("y"), y=Chatty())

    assert tell(both, "x", "save", "send", "tell") == ["save", "send"]
    assert tell(both, "y", "send") == ["send"]
    assert tell(both, "x", "send") == []


def test_the_saves_of_a_step_are_one_batch_of_a_path_under_its_own_keys() -> None:
    """Later values win, an erasure is a nil, and the token is what the policy was told."""
    both = cell(x=Chatty("y"), y=Chatty())
    effects = both.step(10, 0, (p.MESSAGE, "x", "a", encode(say("save", ("erase", 1), ("save", 1)))))

    assert effects == ((p.SAVE, "x", 1, (("x/0", b"v"), ("x/1", b"v"))),)
    assert both.policy("x").tokens == [1, 1, 1]  # type: ignore[attr-defined]
    both.step(11, 0, (p.DURABLE, "x", 1))
    assert both.policy("x").heard[-1] == ("durable", 1)  # type: ignore[attr-defined]


# -- timers, jobs, start -----------------------------------------------------------------------------


def test_a_stale_timer_never_fires() -> None:
    """Re-arming and cancelling make an earlier generation void; what fires once does not fire again."""
    x = cell()
    (_, _, _, deadline, generation) = x.step(10, 0, (p.MESSAGE, "x", "a", encode(say(("timer", 1)))))[0]
    assert deadline == 15
    newer = x.step(11, 0, (p.MESSAGE, "x", "a", encode(say(("timer", 1)))))[0][4]

    assert x.step(15, 0, (p.TIMER, "x", "1", generation)) == ()
    assert names(x.step(16, 0, (p.TIMER, "x", "1", newer))) == ["note"]
    assert x.step(17, 0, (p.TIMER, "x", "1", newer)) == ()
    last = x.step(18, 0, (p.MESSAGE, "x", "a", encode(say(("timer", 1)))))[0][4]
    assert tell(x, "x", ("cancel_timer", 1), ("cancel_timer", 1), ("cancel_timer", 7)) == ["cancel_timer"]
    assert x.step(19, 0, (p.TIMER, "x", "1", last)) == ()


def test_a_timer_in_the_past_is_due_now() -> None:
    """A negative delay is none."""
    assert cell().step(10, 0, (p.MESSAGE, "x", "a", encode(say("timer"))))[0][3] == 10


def test_timers_of_the_same_name_belong_to_their_paths() -> None:
    """One policy's timer is not another's."""
    both = cell(x=Chatty(), y=Chatty())
    generation = both.step(10, 0, (p.MESSAGE, "x", "a", encode(say(("timer", 1)))))[0][4]

    assert both.step(15, 0, (p.TIMER, "y", "1", generation)) == ()
    assert names(both.step(15, 0, (p.TIMER, "x", "1", generation))) == ["note"]


def test_a_policy_starts_with_what_it_had_saved_and_nothing_else() -> None:
    """Keys come back without the path; a longer path of the same beginning is another's."""
    policies = {"x": Chatty(), "xy": Chatty()}
    made = Cell(policies, "n", PEERS, seed=1, keys=KeyRing(1).handle("n"))
    made.step(0, 0, (p.START, "", {"x/0": b"1", "xy/0": b"2", "z/0": b"3"}, 0))

    assert [policy.heard[0] for policy in policies.values()] == [("start", {"0": b"1"}), ("start", {"0": b"2"})]


def test_a_job_is_heard_of_until_it_ends_or_is_given_up() -> None:
    """Progress may come often, an end once, and after a cancel nothing."""
    x = cell()
    tell(x, "x", "submit")
    for outcome in (Progress(1), Progress(2), Done("o", 3, 4), Done("o", 3, 4)):
        x.step(20, 0, (p.JOB, "x", 1, encode(outcome)))
    tell(x, "x", "submit")
    assert tell(x, "x", "cancel", "cancel") == ["cancel"]
    x.step(21, 0, (p.JOB, "x", 2, encode(Done("o", 3, 4))))

    heard = [h[1:] for h in x.policy("x").heard if h[0] == "job"]  # type: ignore[attr-defined]
    assert heard == [(1, Progress(1)), (1, Progress(2)), (1, Done("o", 3, 4))]


def test_local_messages_arrive_in_order_within_the_step() -> None:
    """First in, first out; to a path that is not there they go nowhere."""
    both = cell(x=Chatty("y"), y=Chatty("nowhere"))
    tell(both, "x", ("tell", 1), ("tell", 2))
    tell(both, "y", "tell")

    heard = [h[1:] for h in both.policy("y").heard if h[0] == "local"]  # type: ignore[attr-defined]
    assert heard == [("x", (("send", 1),)), ("x", (("send", 2),))]


@pytest.mark.parametrize(
    "bad",
    [
        (p.MESSAGE, "x", "a", b"\xc1"),
        (p.MESSAGE, "nowhere", "a", encode(say())),
        (p.REQUEST, "x", "c", "1", encode(["say", "no"])),
        (p.TIMER, "nowhere", "0", 1),
    ],
)
def test_what_is_malformed_is_counted_and_dropped(bad: Input) -> None:
    """No handler sees it, nothing leaves, the node lives."""
    x = cell()

    assert x.step(10, 0, bad) == ()
    assert x.malformed == 1
    assert tell(x, "x", "send") == ["send"]


def test_signatures_are_journalled_and_counted() -> None:
    """A replay needs no private key, and a step's cost knows its cryptography."""
    x = cell()

    assert tell(x, "x", "sign") == ["signed", "signed"]
    assert x.crypto_ops == 2


# -- laws --------------------------------------------------------------------------------------------

histories = st.lists(cell_inputs(("x", "y"), Say), max_size=30)


def effects_of(history: list[Input], *, more: tuple[str, ...] = ()) -> list[tuple[Effect, ...]]:
    """Return each step's effects in a new Cell, which may have further children."""
    policies = {"x": Chatty("y"), "y": Chatty("x")}
    extra = {path: Chatty("x") for path in more}
    made = cell(**policies) if not more else cell(**{more[0]: extra[more[0]], **policies, **extra})
    return [made.step(10 * k, 10 * k, given_) for k, given_ in enumerate(history, start=1)]


@given(histories)
@settings(deadline=None)
def test_a_step_is_a_function_of_the_inputs(history: list[Input]) -> None:
    """Two Cells fed alike answer alike, to the last byte."""
    assert encode(effects_of(history)) == encode(effects_of(history))


@given(histories)
@settings(deadline=None)
def test_another_child_changes_nothing_for_the_others(history: list[Input]) -> None:
    """Tokens, generations, draws and order of a policy are its own; only job numbers are the node's."""
    third = [(p.MESSAGE, "z", "a", encode(say("save", "draw", ("timer", 1), "send", "sign")))]
    alone = effects_of(history)
    mixed = effects_of([given_ for each in history for given_ in (*third, each)], more=("z",))[1::2]

    def timeless(steps: list[tuple[Effect, ...]]) -> list[tuple[Effect, ...]]:
        """Less what names the moment, which the interleaving shifts."""
        return [
            tuple((*e[:3], e[4]) if e[0] == p.SET_TIMER else e[:3] if e[0] == p.NOTE else e for e in step)
            for step in steps
        ]

    assert timeless(mixed) == timeless(alone)


@given(histories)
@settings(deadline=None)
def test_nothing_is_said_before_the_saves_it_follows_are_durable(history: list[Input]) -> None:
    """At every send, reply or decide of a path, each of its earlier batches has been reported durable."""
    durable, given_token = {"x": 0, "y": 0}, {"x": 0, "y": 0}
    for given_, effects in zip(history, effects_of(history), strict=True):
        if given_[0] == p.DURABLE:
            durable[given_[1]] = max(durable[given_[1]], min(given_[2], given_token[given_[1]]))
        for effect in effects:
            if effect[0] == p.SAVE:
                given_token[effect[1]] = effect[2]
            elif effect[0] in (p.REPLY, p.DECIDE):
                assert durable[effect[1]] == given_token[effect[1]] or given_[0] == p.DURABLE


@given(histories)
@settings(deadline=None)
def test_once_all_is_durable_nothing_is_held_back(history: list[Input]) -> None:
    """Everything that was said leaves in the end, once, in the order in which it was said."""
    honest = [given_ for given_ in history if given_[0] != p.DURABLE]
    made = cell(x=Chatty("y"), y=Chatty("x"))
    freely = cell(x=Chatty("y"), y=Chatty("x"))
    late: list[Effect] = []
    prompt: list[Effect] = []
    for k, given_ in enumerate(honest, start=1):
        late += made.step(k, k, given_)
        for effect in (now := freely.step(k, k, given_)):
            if effect[0] == p.SAVE:
                prompt += freely.step(k, k, (p.DURABLE, effect[1], effect[2]))
        prompt += now
    for path in ("x", "y"):
        late += made.step(99, 99, (p.DURABLE, path, 1000))

    def spoken(effects: list[Effect], path: str, kind: int) -> list[Effect]:
        return [e for e in effects if e[:2] == (kind, path)]

    for path in ("x", "y"):
        assert spoken(late, path, p.REPLY) == spoken(prompt, path, p.REPLY)
        assert spoken(late, path, p.DECIDE) == spoken(prompt, path, p.DECIDE)
        assert sorted(spoken(late, path, p.SEND)) == sorted(spoken(prompt, path, p.SEND))


def test_a_cell_may_hold_one_policy_alone() -> None:
    """Its path is empty, and its saved keys still begin with a slash."""
    alone = Cell(Chatty(), "n", PEERS, seed=1, keys=KeyRing(1).handle("n"))
    alone.step(0, 0, (p.START, "", {"/0": b"1"}, 0))

    assert alone.paths == ("",)
    assert alone.policy("").heard[0] == ("start", {"0": b"1"})  # type: ignore[attr-defined]
    assert alone.step(1, 0, (p.MESSAGE, "", "a", encode(say("save"))))[0][3] == (("/0", b"v"),)


def test_incarnations_draw_anew() -> None:
    """After a restart the random stream is another, the same on every replay."""
    drawn = set()
    for incarnation in (0, 1, 1):
        made = Cell(Chatty(), "n", PEERS, seed=1, keys=KeyRing(1).handle("n"))
        made.step(0, 0, (p.START, "", {}, incarnation))
        drawn.add(made.step(1, 0, (p.MESSAGE, "", "a", encode(say("draw"))))[0][3]["bits"])

    assert len(drawn) == 2
