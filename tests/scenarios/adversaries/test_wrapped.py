"""Every adversary: honest outside its time and place, paid for, composable, and the same for the same seed."""

from __future__ import annotations

from typing import Any, get_args

import hypothesis as h
import msgspec
import pytest
from hypothesis import strategies as st

from policies import port as p
from policies.jobs import Done, SessionJob, Stage
from policies.wire import encode
from policies.work import Capability, Renew
from scenarios.adversaries import behaviours as b
from scenarios.adversaries.attach import WRAPPERS, attach
from scenarios.adversaries.payload import at, flip, lookalike, other, plain, put
from tests.scenarios.adversaries.inner import RING, Inner, Liar, send

JOB = SessionJob("op", "m", (Stage("n0", 0, 1),), "prompt", "n1", 5, 7, 1)
EFFECTS = (
    send("n1", "vote", 7, "n0"), send("n2/other", "vote", 7, "n0"), send("n3", "renew", 1),
    (p.REPLY, "raft", "c", "op", encode(["answer", 1]), True), (p.DECIDE, "raft", "k", encode(["vote", 7])),
    (p.SET_TIMER, "raft", "t", 5_000_000_000, 1), (p.SAVE, "raft", 1, (("raft/k", b"v"),)),
    (p.SUBMIT, "raft", 1, encode(JOB)), (p.CANCEL, "raft", 2), (p.NOTE, "raft", "n", {}),
)  # fmt: skip
INPUTS = (
    (p.TIMER, "raft", "t", 1), (p.MESSAGE, "raft", "n1", encode(["vote", 6, "n1"])),
    (p.REQUEST, "raft", "c", "op", encode(["ask", 1])), (p.JOB, "raft", 1, encode(Done("right", 5, 7))),
    (p.DURABLE, "raft", 1), (p.PEER, "raft", "n1", "up"),
)  # fmt: skip
NEEDED = {
    "bound_s": 1.0, "tags": ("vote",), "field": (0,), "victim": "n1",
}  # fmt: skip
KINDS = sorted(get_args(b.Behaviour), key=lambda kind: kind.__name__)


def a(kind: type[b.Behaves], **fields: Any) -> Any:
    """Return a behaviour of a kind, with what it needs."""
    needed = {name: NEEDED[name] for name in kind.__struct_fields__ if name in NEEDED}
    if kind in (b.Silent, b.Replay, b.Sybil, b.Delay):
        needed.pop("tags", None)
    return kind(**{**needed, **fields})


def test_every_behaviour_has_a_wrapper() -> None:
    """What can be written in a scenario can be attached, and nothing else is."""
    assert set(WRAPPERS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_before_its_time_a_liar_is_honest_and_pays_for_signatures_once(kind: type[b.Behaves]) -> None:
    """Until ``from_s`` inputs and effects pass unchanged, and the cost of signing is the Cell's."""
    liar = Liar(a(kind, from_s=100.0), effects=EFFECTS, coalition=("n0", "n4"), started=False)
    began = [effect for effect in liar(0.0, (p.START, "", {"raft/k": b"v"}, 0)) if effect[1] != "~0"]
    assert began == []
    for number, given in enumerate(INPUTS, 1):
        assert liar(99.0, given) == EFFECTS
        assert liar.inner.given[number:] == [given]
        assert liar.inner.times[number:] == [(99_000_000_000, 99_000_000_000)]
        liar.inner.given.pop()
        liar.inner.times.pop()
        liar.inner.given.append(given)
        liar.inner.times.append((0, 0))
        assert (liar.cell.crypto_ops, liar.inner.crypto_ops) == (2 + 2 * number, 0)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in (b.SkewedClock, b.Twins)])
def test_after_its_time_a_liar_is_honest_again(kind: type[b.Behaves]) -> None:
    """From ``until_s`` on everything passes as it is."""
    liar = Liar(a(kind, from_s=1.0, until_s=2.0), effects=EFFECTS, coalition=("n0", "n4"))
    for given in INPUTS:
        assert liar(2.0, given) == EFFECTS
        assert liar.inner.given[-1] == given


@pytest.mark.parametrize("kind", [k for k in KINDS if not issubclass(k, b.Whole)])
def test_a_liar_at_one_path_is_honest_at_every_other(kind: type[b.Behaves]) -> None:
    """Effects and inputs of other mounted paths pass unchanged."""
    liar = Liar(a(kind, path="worker"), effects=EFFECTS, coalition=("n0", "n4"))
    for given in INPUTS:
        assert liar(5.0, given) == EFFECTS
        assert liar.inner.given[-1] == given


@pytest.mark.parametrize("kind", KINDS)
def test_a_behaviour_survives_its_own_plain_form(kind: type[b.Behaves]) -> None:
    """A scenario holds it as plain data with its kind."""
    behaviour = a(kind, from_s=3.0)
    plain_form = msgspec.to_builtins(behaviour)

    assert plain_form["kind"] == b.kind_of(behaviour)
    assert msgspec.convert(plain_form, b.Behaviour) == behaviour


@h.settings(max_examples=60, deadline=None)
@h.given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), seed=st.integers(1, 3))
def test_any_combination_takes_every_input_and_repeats_itself(kinds: list[type[b.Behaves]], seed: int) -> None:
    """Any behaviours on top of one another run, twice alike, and their own timers come home."""
    histories = []
    for _ in range(2):
        liar = Liar(*(a(kind) for kind in kinds), effects=EFFECTS, coalition=("n0", "n4"), seed=seed)
        history: list[Any] = []
        for number in range(3):
            for given in INPUTS:
                effects = liar(1.0 + number, given)
                history.append(effects)
                mine = [e for e in effects if e[0] == p.SET_TIMER and e[1][:1] == "~" and ":" not in e[1]]
                history += [liar.wake(timer) for timer in mine if timer[3] <= 10_000_000_000]
        histories.append(history)

    assert histories[0] == histories[1]
    assert all(effect[0] in range(12) for effects in histories[0] for effect in effects)


def test_the_first_behaviour_stands_next_to_the_cell() -> None:
    """Split inside Silent lies to those who still hear it; the same the other way round for one peer's silence."""
    split = b.Split(tags=("vote",), field=(0,), groups=(("n1",),))
    effects = (send("n1", "vote", 7), send("n2", "vote", 7))
    later = Liar(split, b.Corrupt(tags=("vote",), field=(0,), by=10), effects=effects)
    first = Liar(b.Corrupt(tags=("vote",), field=(0,), change="set", to=0), split, effects=effects)

    assert later(1.0) == (send("n1", "vote", 18), send("n2", "vote", 17))
    assert first(1.0) == (send("n1", "vote", 1), send("n2", "vote", 0))


def test_nobody_is_attached_to_an_honest_node() -> None:
    """Without behaviours the Cell itself comes back, with the handle it was given."""
    keys = RING.handle("n0")
    cell = attach(Inner, (), me="n0", peers=(), seed=1, keys=keys)

    assert isinstance(cell, Inner)
    assert cell.keys is keys


def test_a_colluder_needs_a_coalition_with_itself_in_it() -> None:
    """One line says which behaviour it is."""
    for lonely in (b.Collude(), b.WrongKey(mate=True), b.Sybil(keyed=True)):
        with pytest.raises(ValueError, match=f"{b.kind_of(lonely)}: needs a coalition, and n0 is in none"):
            Liar(lonely)
    with pytest.raises(ValueError, match="n0 is in none"):
        Liar(b.Collude(), coalition=("n1", "n2"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "silent", "from_s": 5, "until_s": 5}, "until_s=5.0: expected > from_s=5.0"),
        ({"kind": "twins", "path": "raft"}, "path='raft': this behaviour is the whole node's"),
        ({"kind": "skewed_clock", "monotonic": True}, "shape='step': a monotonic clock does not step"),
        ({"kind": "skewed_clock", "shape": "periodic", "monotonic": True, "amount_s": -150},
         "amount_s=-150.0: a monotonic clock allows less than period_s / 4"),
        ({"kind": "withhold", "tags": []}, "Expected `array` of length >= 1"),
    ],
)  # fmt: skip
def test_a_contradiction_is_one_line(fields: dict[str, Any], says: str) -> None:
    """A behaviour that cannot be is refused where it is built."""
    with pytest.raises(msgspec.ValidationError, match=says.replace("(", r"\(")):
        msgspec.convert(fields, b.Behaviour)


LEAVES = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.text(min_size=1), st.binary(min_size=1))


@h.given(value=LEAVES, number=st.integers(1, 9))
def test_another_value_is_of_the_same_form(value: Any, number: int) -> None:
    """Lies have the type, and the length, of the truth; numbers and bits really differ."""
    for lie in (other(value, 2 * number - 1), flip(value)):
        assert type(lie) is type(value)
        if isinstance(value, str | bytes):
            assert len(lie) == len(value)
        else:
            assert lie != value
    if isinstance(value, bytes) and len(value) >= 8:
        assert lookalike(value, "a") not in (value, lookalike(value, "b"))


@h.given(message=st.lists(LEAVES, min_size=1, max_size=5), value=LEAVES)
def test_what_is_put_in_a_field_is_there_and_nothing_else_moved(message: list[Any], value: Any) -> None:
    """`put` then `at` gives the value; the original is untouched; other fields are equal."""
    whole = ["tag", *message, [1, [2, 3]]]
    before = plain(encode(whole))
    for path in ((0,), (len(message), 1, 0)):
        changed = put(whole, path, value)
        assert at(changed, path) == value
        assert len(changed) == len(whole)
        assert [x for k, x in enumerate(changed) if k != path[0] + 1] == [
            x for k, x in enumerate(whole) if k != path[0] + 1
        ]
    assert plain(encode(whole)) == before


def test_capability_claims_follow_the_work_protocol() -> None:
    """`overclaim` changes the fields that a planner reads, and leaves the link alone."""
    renew = Renew(Capability(1e9, 0.5, 0.25, 2.0, 1e6, 0.01), 3)
    liar = Liar(b.Overclaim(memory=2, speed=5), effects=[(p.SEND, "worker", "n1/coordination", encode(renew))])
    (effect,) = liar(1.0)

    assert msgspec.msgpack.decode(effect[3], type=Renew) == Renew(Capability(2e9, 0.1, 0.05, 0.4, 1e6, 0.01), 3)
