"""Hypothesis strategies for the core policies: inputs of a Cell, batches of a log, commands of the village."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from policies import port as p
from policies.commands import (
    Accept,
    Add,
    Attach,
    CompareAndSet,
    Complete,
    Configure,
    Dissolve,
    Evict,
    InSession,
    Join,
    Pay,
    Payment,
    Place,
    Put,
    Receipt,
    Refuse,
    Vouched,
)  # fmt: skip
from policies.jobs import Done, Lost, Progress, Sampling, Stage
from policies.wire import encode


def believe(identity: str, data: bytes, signature: bytes) -> bool:
    """Take every signature for good: for tests that are about something else."""
    return True


few = st.integers(0, 3)
names = st.sampled_from(["a", "b", "c", "d"])

# -- a Cell's inputs, for the chatty policy of test_cell; its scripts are lists of (verb, number) ------

verbs = st.sampled_from(
    ["send", "early", "broadcast", "tell", "timer", "cancel_timer", "save", "erase", "submit", "cancel", "reply",
     "decide", "note", "sign", "draw", "limit"]
)  # fmt: skip
scripts = st.lists(st.tuples(verbs, few), max_size=6).map(tuple)


def cell_inputs(paths: tuple[str, ...], say: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return inputs for policies at these paths; ``say`` makes a message of a script. Some are stale or malformed."""
    path = st.sampled_from(paths)
    payload = scripts.map(lambda script: encode(say(script)))
    outcome = st.sampled_from([Progress(1), Done("out", 1, 2), Lost("gone")]).map(encode)
    return st.one_of(
        st.tuples(st.just(p.MESSAGE), path, names, payload),
        st.tuples(st.just(p.MESSAGE), path, names, st.binary(max_size=8)),
        st.tuples(st.just(p.REQUEST), path, names, st.just("op"), payload),
        st.tuples(st.just(p.TIMER), path, few.map(str), st.integers(1, 6)),
        st.tuples(st.just(p.JOB), path, st.integers(1, 6), outcome),
        st.tuples(st.just(p.DURABLE), path, st.integers(1, 9)),
        st.tuples(st.just(p.PEER), path, names, st.just("down")),
    )


# -- batches of a log --------------------------------------------------------------------------------

keys = st.sampled_from(["x", "y", "worker/z"])
batches = st.lists(
    st.lists(st.tuples(keys, st.none() | st.binary(max_size=12)), min_size=1, max_size=4), max_size=6
)  # fmt: skip

# -- commands of the village: few names, so that they meet --------------------------------------------

ops = st.tuples(st.sampled_from(["anna", "ben"]), st.sampled_from(["1", "2", "3"]))
stages = st.lists(names, min_size=1, max_size=3).map(
    lambda nodes: tuple(Stage(node, 2 * k, 2 * k + 2) for k, node in enumerate(nodes))
)
registers = st.sampled_from(["x", "y"])
values = st.integers(0, 3) | st.sampled_from(["", "on"])
operations = st.one_of(
    st.builds(Configure, registers, values, few),
    st.builds(Put, registers, values),
    st.builds(CompareAndSet, registers, values, values),
    st.builds(Add, registers, st.integers(-2, 2)),
)
samplings = st.none() | st.builds(Sampling, st.just(0.5), st.just(1.0), few)
commands = st.one_of(
    st.builds(Join, names),
    st.builds(Evict, names, st.just("lied")),
    st.builds(Place, st.integers(1, 4), st.just("m"), stages, st.just(0.1)),
    st.builds(Dissolve, st.integers(1, 4), st.just("gone")),
    st.builds(
        lambda op, source, sampling: Accept(*op, "m", "p", source, 3, 4, 1, 0, 9, sampling), ops, names, samplings
    ),
    st.builds(lambda op, source: Attach(*op, source), ops, names),
    st.builds(
        lambda op, where, tokens, vouched: Complete(Receipt(*op, f"out{tokens}", tokens, where), 1, b"", vouched),
        ops, stages, st.integers(0, 5), st.none() | st.builds(Vouched, stages, st.just(b"")),
    ),
    st.builds(lambda op: Refuse(*op, "no"), ops),
    st.builds(Pay, st.builds(Payment, names, names, st.integers(-1, 40), st.integers(0, 3)), st.just(b"")),
    operations,
    st.builds(InSession, st.sampled_from(["anna", "ben"]), few, few, operations),
)  # fmt: skip
