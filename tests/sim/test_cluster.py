"""Cluster: one seed is one history, faults do what they say, and the trace tells it."""

from __future__ import annotations

import doctest
import importlib

import pytest

import sim.cluster
from policies.election import Election, Lead
from policies.port import Policy
from policies.wire import Message
from sim.cluster import Cluster


class Echo(Message, frozen=True, tag="echo"):
    """A word."""

    word: str


class Parrot(Policy):
    """Saves what clients say, answers with it, and tells the others."""

    messages = (Echo,)
    requests = (Echo,)

    def on_start(self, saved: dict[str, bytes]) -> None:
        self.saved = dict(saved)
        self.heard: list[str] = []

    def on_request(self, client: str, op_id: str, operation: Echo) -> None:
        self.port.save("word", operation.word.encode())
        self.port.note("asked", word=operation.word)
        self.port.broadcast(operation)
        self.port.reply(client, op_id, operation)

    def on_message(self, sender: str, message: Echo) -> None:
        self.heard.append(message.word)


def test_one_seed_is_one_history() -> None:
    """The same seed gives the same digest, steps and decisions, another seed gives others."""
    runs = [Cluster(Election, seed=seed) for seed in (7, 7, 8)]
    for run in runs:
        run.run(3)

    assert runs[0].digest == runs[1].digest != runs[2].digest
    assert (runs[0].steps, runs[0].decisions) == (runs[1].steps, runs[1].decisions)


def test_watching_changes_nothing() -> None:
    """Journals, a watcher and the trace leave the digest as it was."""
    plain, watched = Cluster(Election, seed=7), Cluster(Election, seed=7, journal=True, watch=lambda event: None)
    for cluster in (plain, watched):
        cluster.run(2)
        cluster.trace()

    assert plain.digest == watched.digest
    assert set(watched.journals()) == set(watched.names)
    assert plain.journals() == {}


def test_decisions_are_messages() -> None:
    """A decision says when, who, what, and holds the message itself."""
    cluster = Cluster(Election, n=3)
    cluster.run(3)
    decision = cluster.decisions[0]

    assert decision.value == Lead(1)
    assert decision.node in cluster.names
    assert 0.5 < decision.time_s < 1.5


def test_requests_are_answered_and_saved() -> None:
    """A client's request is noted, answered, told to the others, and survives a crash once answered."""
    cluster = Cluster(lambda: {"bird": Parrot()}, n=3, network=sim.cluster.Network(loss=0.0, duplicate=0.0))
    cluster.request("n1", "me", "op", Echo("hello"), path="bird")
    cluster.run(0.2)
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.run(0.1)

    assert [(r.node, r.client, r.op_id, r.value, r.last) for r in cluster.replies] == [
        ("n1", "me", "op", Echo("hello"), True)
    ]
    assert [(n.node, n.path, n.name, n.fields) for n in cluster.notes] == [("n1", "bird", "asked", {"word": "hello"})]
    assert [cluster.policy(name, "bird").heard for name in ("n0", "n2")] == [["hello"], ["hello"]]
    assert cluster.policy("n1", "bird").saved == {"word": b"hello"}


def test_a_partition_separates_until_it_heals() -> None:
    """The island and the rest do not hear one another; afterwards they do."""
    cluster = Cluster(Parrot, n=3, network=sim.cluster.Network(loss=0.0, duplicate=0.0))
    cluster.partition(["n0"])
    cluster.request("n0", "me", "1", Echo("cut"))
    cluster.run(0.2)
    cluster.heal()
    cluster.request("n0", "me", "2", Echo("whole"))
    cluster.run(0.2)

    assert [cluster.policy(name).heard for name in ("n1", "n2")] == [["whole"], ["whole"]]


def test_the_trace_shows_who_acted_and_who_is_down() -> None:
    """A line an event: the marks of all nodes, the input, the effects; faults have lines of their own."""
    cluster = Cluster(Parrot, n=3, network=sim.cluster.Network(loss=0.0, duplicate=0.0))
    cluster.crash("n2")
    cluster.request("n0", "me", "1", Echo("hi"))
    cluster.run(0.2)
    lines = [line.split(" s  ", 1)[1] for line in cluster.trace().splitlines()]

    assert lines == [
        "* x x  n0 start (life 0, 0 keys)",
        "| * x  n1 start (life 0, 0 keys)",
        "| | *  n2 start (life 0, 0 keys)",
        "| | x  -- crash n2",
        "* | x  n0 request echo('hi') from me -> save word, note asked",
        "* | x  n0 durable 1 -> reply echo('hi') to me, echo('hi') to n1 n2",
        "| * x  n1 echo('hi') from n0",
    ]
    assert cluster.trace(last=1).endswith(lines[-1])


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda c: c.crash("n9"), r"node 'n9': allowed are n0, n1, n2"),
        (lambda c: c.crash("n0", torn=2), r"torn=2: allowed are shares from 0 to 1"),
        (lambda c: c.restart("n0"), r"restart 'n0': it is up"),
        (lambda c: c.run(0), r"seconds=0: allowed are times above 0"),
        (lambda c: Cluster(Election, n=0), r"n=0: allowed are 1 or more"),
        (lambda c: Cluster(Election, n=2, others={"x": Election}), r"others=\['x'\]: allowed are n0, n1"),
    ],
)
def test_mistakes_are_named(do: object, message: str) -> None:
    """Each wrong argument is one line: what it was and what is allowed."""
    with pytest.raises(ValueError, match=message):
        do(Cluster(Election, n=3))  # type: ignore[operator]


def test_examples_run() -> None:
    """The examples in the docstrings do what they show."""
    for name in ("sim.cluster", "experiments.policy_check"):
        failed, tried = doctest.testmod(importlib.import_module(name))
        assert tried
        assert not failed
