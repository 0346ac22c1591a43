"""The wire: every message comes back as it was, and what is not one of ours is refused."""

from __future__ import annotations

import contextlib
from inspect import getmembers, isclass
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import commands, jobs, local, work
from policies.consensus import convicts, messages
from policies.consensus.pbft import evidence as pbft
from policies.gateway import Submit
from policies.wire import Codec, Message, WireError, digest, encode


class Ping(Message, frozen=True, tag="ping"):
    """A number and a text."""

    number: int
    text: str = ""


class Pong(Message, frozen=True, tag="pong"):
    """Not declared by the codec under test."""

    number: int


codec = Codec((Ping,))


@given(st.integers(-(2**63), 2**64 - 1), st.text())
def test_a_message_comes_back_as_it_was(number: int, text: str) -> None:
    """And its bytes are the same each time."""
    ping = Ping(number, text)

    assert codec.decode(encode(ping)) == ping
    assert encode(codec.decode(encode(ping))) == encode(ping)


@given(st.binary(max_size=64))
def test_no_bytes_do_more_than_be_refused(payload: bytes) -> None:
    """Random bytes are a message or a WireError, nothing else."""
    with contextlib.suppress(WireError):
        assert isinstance(codec.decode(payload), Ping)


@pytest.mark.parametrize(
    "payload",
    [b"", encode(Pong(1)), encode(["ping"]), encode(["ping", "one"]), encode(["ping", 1, b"\xff"]),
     b"\x93\xa4ping\x01\xa1\xff", encode({"number": 1}), encode(Ping(1))[:-1]],
)  # fmt: skip
def test_what_a_policy_does_not_declare_is_refused(payload: bytes) -> None:
    """Other classes, wrong types, missing fields, broken text, cut bytes."""
    with pytest.raises(WireError):
        codec.decode(payload)


@pytest.mark.parametrize("extra", [b"\x00", b"\x91" * 100_000 + b"\xc0"], ids=["a number", "lists in lists"])
def test_nothing_may_follow_a_messages_fields(extra: bytes) -> None:
    """Whoever adds some cannot make a reader fail by their depth, nor have it depend on how deep that one's calls are
    whether a command, or a proof, counts."""
    command = bytes((0x93,)) + encode(commands.Join("n1"))[1:] + extra
    proof = bytes((0x98,)) + encode(pbft.Evidence("n1", b"", 0, 1, ("prepare", b"1", b""), ("prepare", b"2", b"")))[1:]
    with pytest.raises(WireError):
        codec.decode(bytes((0x94,)) + encode(Ping(1))[1:] + extra)
    with pytest.raises(WireError):
        commands.decode(command)
    assert convicts(proof + extra, lambda who, data, signature: True) == ""


def test_a_policy_without_messages_takes_none() -> None:
    """Nothing declared, nothing decoded."""
    with pytest.raises(WireError, match="declares no messages"):
        Codec(()).decode(encode(Ping(1)))


def test_canonical_bytes_do_not_depend_on_the_order_of_a_mapping() -> None:
    """Digests of equal values are equal."""
    assert encode({"b": 1, "a": 2}) == encode({"a": 2, "b": 1})


def test_a_blob_is_named_by_blake2b_160() -> None:
    """RFC 7693's function at 20 bytes, as coreutils computes it: b2sum -l 160 of nothing and of 'abc'."""
    assert digest(b"") == "3345524abf6bbe1809449224b5972c41790b6cf2"
    assert digest(b"abc") == "384264f676f39536840523f284921cdc68b6846b"


def tags(module: ModuleType) -> list[str]:
    """Return the tags of all messages of a module."""
    classes = [c for _, c in getmembers(module, isclass) if issubclass(c, Message) and c.__module__ == module.__name__]
    return [c.__struct_config__.tag for c in classes if c.__struct_config__.tag is not None]


@pytest.mark.parametrize("module", [commands, jobs, local, work, messages], ids=lambda m: m.__name__)
def test_no_two_messages_of_a_module_share_a_tag(module: ModuleType) -> None:
    """A tag names one class."""
    assert tags(module)
    assert len(tags(module)) == len(set(tags(module)))


FAIR = {"memory_bytes": 1e9, "layer_s": 0.01, "step_s": 0.0, "prefill_s_token_layer": 0.0, "bytes_per_s": 1e6,
        "one_way_s": 0.01}  # fmt: skip


@pytest.mark.parametrize(
    ("field", "claim"),
    [("memory_bytes", float("nan")), ("layer_s", 0.0), ("layer_s", float("inf")), ("bytes_per_s", -1.0),
     ("bytes_per_s", 5e-324), ("one_way_s", float("-inf"))],
)  # fmt: skip
def test_a_capability_that_a_planner_cannot_use_does_not_arrive(field: str, claim: float) -> None:
    """One lying worker must not spoil the plan of all."""
    renewals = Codec((work.Renew,))
    assert renewals.decode(encode(work.Renew(work.Capability(**FAIR), 0)))

    with pytest.raises(WireError):
        renewals.decode(encode(work.Renew(work.Capability(**(FAIR | {field: claim})), 0)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("deadline_s", float("inf")), ("deadline_s", float("nan")), ("deadline_s", 1e30), ("priority", -1),
     ("new_tokens", 0), ("prompt_tokens", 2**63)],
)  # fmt: skip
def test_a_request_that_no_arithmetic_survives_does_not_arrive(field: str, value: Any) -> None:
    """A client cannot stop a gateway with an infinite deadline, nor jump the queue with a negative class."""
    submits = Codec((Submit,))
    fair = Submit("m", "p", 1, 1, 0, 60.0)
    assert submits.decode(encode(fair)) == fair

    with pytest.raises(WireError):
        submits.decode(encode(msgspec.structs.replace(fair, **{field: value})))
