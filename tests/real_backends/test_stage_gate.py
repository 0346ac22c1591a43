"""Stages hear a session's head and the stage before, and nobody else: what others send counts, and changes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from policies.config import BatchedConfig, PolicyConfig
from policies.jobs import AdmitJob, Stage
from policies.wire import WireError, encode
from real_backends.batch_frames import Batch, Slice
from real_backends.cluster import until
from real_backends.copies import Guard
from real_backends.executors import DESK_TINY, pack_activation
from real_backends.stage_gate import ENDED_MAX, EXPECTED_MAX, SESSIONS_OF_PEER_MAX, Gate
from real_backends.stages import Close, MarkedStep, Open, Step, Token
from real_backends.transports.frames import STAGE, STAGE_RESULT
from tests.real_backends.session_nodes import NEW_TOKENS, STAGES, Node, end_of, place, run_nodes, said, session_job

X = pack_activation(np.zeros((2, DESK_TINY.hidden), np.float32), "f32")
OF_D = (Stage("d", 0, 3), *STAGES[1:])  # a pipeline that a liar heads


def forgeries(session: str, lane: bool) -> list[tuple[str, Any]]:
    """Return what a peer may send to stage b of a session that a heads, and that b must not hear."""
    step = Step(session, "desk-tiny", STAGES, 1, 5, X)
    batch = Batch(session, 5, "desk-tiny", STAGES, 1, (Slice("s", 0, 2, True),), X)
    marked = MarkedStep(*(getattr(step, name) for name in step.__struct_fields__), b"m")
    own = batch if lane else step
    return [
        ("d", Close(session)),
        ("c", Close(session)),
        ("d", Open(session, "desk-tiny", STAGES, 1)),  # not its head
        ("c", own),  # not the stage before
        ("d", msgspec.structs.replace(own, stages=OF_D)),  # the stage before, of another pipeline
        ("d", msgspec.structs.replace(marked, stages=OF_D)),
        ("d", Open(session, "desk-tiny", OF_D, 1)),
    ]


def test_nobody_works_for_a_pipeline_that_is_not_placed_here(tmp_path: Path) -> None:
    """A peer that heads one of its own making over layers that are here, or that was given up: nothing is computed."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, alone = await end_of(nodes["a"], session_job(op="client/first"))
        held, sent = nodes["b"].host.stages, list[Any]()
        await until(lambda: not held.sessions and not held._tasks)
        for head, stages in (("d", OF_D), ("a", (*STAGES[:2], Stage("d", 5, 8))), ("a", STAGES)):
            if stages == STAGES:  # the leader has another one take its place
                await end_of(nodes["b"], encode(AdmitJob("desk-tiny", OF_D)))
            for frame in made_up(stages):
                nodes["b"].host.on_frame(head, STAGE, encode(frame))
                sent.append((type(frame).__name__.lower(), head))
        assert not held._tasks
        assert held.sessions == 0
        assert held.gate.refused == Counter(f"{kind} of {head}" for kind, head in sent)
        *_, done = await end_of(nodes["a"], session_job())  # once more in its place
        assert said(nodes["a"], done) == said(nodes["a"], alone)

    asyncio.run(run_nodes(tmp_path, act, names="abcd"))


def made_up(stages: tuple[Stage, ...]) -> list[Any]:
    """Return what a head may say to stage b of a pipeline."""
    step = Step("s", "desk-tiny", stages, 1, 0, X)
    return [
        Open("s", "desk-tiny", stages, 1), Guard("s", "desk-tiny", stages, 1, "kept", None, True), step,
        MarkedStep(*(getattr(step, name) for name in step.__struct_fields__), b"m"),
        Batch("lane", 0, "desk-tiny", stages, 1, (Slice("s", 0, 2, True),), X),
    ]  # fmt: skip


@pytest.mark.parametrize("batched", [False, True], ids=["one by one", "batched"])
def test_nobody_else_steps_or_ends_a_session(tmp_path: Path, batched: bool) -> None:
    """Frames of every kind from peers that have no part in it are refused; the session says what it would have said."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, alone = await end_of(nodes["a"], session_job(op="client/first"))
        take, sent = nodes["b"].host.on_frame, []

        def beset(sender: str, kind: int, body: bytes) -> None:
            take(sender, kind, body)
            names = list(nodes["b"].host.stages.gate._stages)
            if not sent and names:
                sent.extend(forgeries(names[-1], batched))
                for peer, frame in sent:
                    take(peer, STAGE, encode(frame))

        nodes["b"].host.on_frame = beset  # type: ignore[method-assign]
        *_, done = await end_of(nodes["a"], session_job())
        assert said(nodes["a"], done) == said(nodes["a"], alone)
        assert sum(nodes["b"].host.stages.gate.refused.values()) == len(sent) == 7
        assert {key.split(" of ")[1] for key in nodes["b"].host.stages.gate.refused} == {"c", "d"}
        await until(lambda: not nodes["b"].host.stages.gate._stages)  # with its end all is forgotten

    policy = PolicyConfig(serving=BatchedConfig()) if batched else None
    asyncio.run(run_nodes(tmp_path, act, policy=policy, names="abcd"))


def test_a_lane_neither_steps_nor_closes_the_caches_of_another(tmp_path: Path) -> None:
    """A liar that heads a pipeline of its own names another's cache in its batch: that is not run, and not closed."""

    async def act(nodes: dict[str, Node]) -> None:
        await place(nodes)
        stages = nodes["b"].host.stages
        of_a = Batch("lane of a", 0, "desk-tiny", STAGES, 1, (Slice("s", 0, 2, False),), X)
        nodes["b"].host.on_frame("a", STAGE, encode(of_a))
        await until(lambda: "s" in stages._sessions and stages._sessions["s"].shard is not None)
        steal = msgspec.structs.replace(of_a, lane="lane of d", stages=OF_D)
        stages.gate.admit("desk-tiny", OF_D)
        nodes["b"].host.on_frame("d", STAGE, encode(steal))
        assert stages.gate.refused == {"batch of d": 1}
        close = msgspec.structs.replace(steal, slices=(Slice("t", 0, 2, False),), closed=("s",))
        nodes["b"].host.on_frame("d", STAGE, encode(close))
        await until(lambda: "t" in stages._sessions and stages._sessions["t"].shard is not None)
        assert stages._sessions["s"].lane == "lane of a"

    asyncio.run(run_nodes(tmp_path, act, policy=PolicyConfig(serving=BatchedConfig()), names="abcd"))


def test_a_frame_of_no_session_ends_nobodys(tmp_path: Path) -> None:
    """No frame of a session or lane without a name is taken: its end would be that of all sessions of no lane."""

    async def act(nodes: dict[str, Node]) -> None:
        await place(nodes)
        stages, host = nodes["b"].host.stages, nodes["b"].host
        host.on_frame("a", STAGE, encode(Step("s", "desk-tiny", STAGES, 1, 0, X)))
        await until(lambda: "s" in stages._sessions and stages._sessions["s"].answer is not None)
        nameless = [
            Close(""), Open("", "desk-tiny", OF_D, 1), Step("", "desk-tiny", OF_D, 1, 0, X),
            Guard("", "desk-tiny", OF_D, 1, "kept", None, False),
            Batch("", 0, "desk-tiny", OF_D, 1, (Slice("t", 0, 2, True),), X),
            Batch("lane", 0, "desk-tiny", OF_D, 1, (Slice("", 0, 2, True),), X),
        ]  # fmt: skip
        for frame in nameless:
            with pytest.raises(WireError, match="length >= 1"):
                host.on_frame("d", STAGE, encode(frame))
        assert not stages.gate.ended("d", "")
        assert list(stages._sessions) == ["s"]

    asyncio.run(run_nodes(tmp_path, act, names="abcd"))


def test_the_last_stage_alone_chooses_tokens(tmp_path: Path) -> None:
    """What a stage in the middle says was chosen is not taken for the last one's choice, who would answer for it."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, alone = await end_of(nodes["a"], session_job(op="client/first"))
        take, host = nodes["a"].host.on_frame, nodes["a"].host
        forged: list[int] = []

        def beset(sender: str, kind: int, body: bytes) -> None:
            for session, awaited in list(host._waiting.items()):
                forged.append(awaited.number)
                take("b", STAGE_RESULT, encode(Token(session, awaited.number, 1)))
            take(sender, kind, body)

        host.on_frame = beset  # type: ignore[method-assign]
        *_, done = await end_of(nodes["a"], session_job())
        assert said(nodes["a"], done) == said(nodes["a"], alone)
        assert len(forged) >= NEW_TOKENS
        assert host.stages.gate.refused == {"token of b": len(forged)}

    asyncio.run(run_nodes(tmp_path, act))


def test_a_stage_is_told_once_of_each_peer_that_is_refused() -> None:
    """Every frame counts, the first of a kind and sender is told."""
    gate, told = Gate(), []
    gate.on_refused = lambda kind, sender: told.append((kind, sender))
    for _ in range(3):
        assert not gate.from_head("open", "d", "s", STAGES)
        assert not gate.from_stage_before("step", "c", "s", STAGES, 1, "")

    assert told == [("open", "d"), ("step", "c")]
    assert gate.refused == {"open of d": 3, "step of c": 3}


def test_what_the_head_said_first_stands() -> None:
    """Other stages for the same session are refused until its head has ended it, also where its opening was lost."""
    gate = Gate()
    assert gate.from_stage_before("step", "b", "s", STAGES, 2, "")  # its opening was lost
    other = (*STAGES[:2], Stage("d", 5, 8))
    assert not gate.from_head("open", "a", "s", other)
    assert not gate.end("b", "s", "")
    assert gate.end("a", "s", "")
    assert gate.ended("a", "s")
    assert not gate.ended("d", "s")  # another head's session of that name is not this one
    assert gate.from_head("open", "d", "s", OF_D)


def test_a_pipeline_is_admitted_as_it_was_placed() -> None:
    """The same stages of another model, or fewer of them, are another pipeline; at first and at last there is none."""
    gate = Gate()
    assert not gate.serves("open", "a", "m", STAGES)
    gate.admit("m", STAGES)
    assert gate.serves("open", "a", "m", STAGES)
    assert not gate.serves("open", "a", "n", STAGES)
    assert not gate.serves("open", "a", "m", STAGES[:2])
    gate.admit("", ())
    assert not gate.serves("open", "a", "m", STAGES)


def test_copies_come_from_whom_the_last_attempt_names() -> None:
    """Words that come late or twice change nothing; what is over is expected no more; and all is bounded."""
    gate = Gate()
    assert not gate.expects("b", "a/1")
    for attempt, sender in ((2, "c"), (1, "b"), (2, "c")):
        gate.expect("a/1", attempt, sender)
        assert (gate.expects("b", "a/1"), gate.expects("c", "a/1")) == (False, True)
    gate.expect("a/1", 3, "d")
    assert (gate.expects("c", "a/1"), gate.expects("d", "a/1")) == (False, True)
    gate.expect("a/2", 1, "b")
    gate.expect_no_more("a/1")
    assert (gate.expects("d", "a/1"), gate.expects("b", "a/2")) == (False, True)
    for number in range(EXPECTED_MAX):
        gate.expect(f"b/{number}", 1, "b")
    assert (gate.expects("b", "a/2"), len(gate._expected)) == (False, EXPECTED_MAX)
    gate.expect_no_more("")
    assert not gate._expected


def test_a_session_of_ones_own_is_nobody_elses() -> None:
    """A session that this node heads, of which the gate has not heard, is neither stepped nor ended by another."""
    gate = Gate()
    assert not gate.from_stage_before("step", "d", "s", OF_D, 1, "b")
    assert not gate.end("d", "s", "b")
    assert gate.end("d", "never heard of", "")


def test_a_head_that_opens_on_and_on_loses_its_own() -> None:
    """What is remembered is bounded by peer, and another one's sessions stay; so is it with ends."""
    gate = Gate()
    assert gate.end("a", "over", "")
    assert gate.from_head("open", "a", "s", STAGES)
    for number in range(SESSIONS_OF_PEER_MAX + 5):
        assert gate.from_head("open", "d", f"t{number}", OF_D)
    for number in range(ENDED_MAX + 5):
        gate.end("d", f"u{number}", "")

    assert len(gate._stages) == SESSIONS_OF_PEER_MAX + 1
    assert not gate.from_head("open", "d", "s", OF_D)
    assert gate.ended("a", "over")
    assert [gate.ended("d", f"u{number}") for number in (4, 5)] == [False, True]
    assert sum(map(len, gate._ended.values())) == ENDED_MAX + 1


@pytest.mark.parametrize("head", ["a", "made up {}"])
def test_a_stage_before_that_names_heads_as_it_likes_loses_its_own(head: str) -> None:
    """Steps of sessions that nobody opened make no head lose one, and what is remembered of them is bounded."""
    gate = Gate()
    assert gate.from_head("open", "a", "s", STAGES)
    for number in range(SESSIONS_OF_PEER_MAX + 5):
        false = (Stage(head.format(number), 0, 3), Stage("d", 3, 5), STAGES[2])
        assert gate.from_stage_before("step", "d", f"t{number}", false, 2, "")

    assert len(gate._stages) == SESSIONS_OF_PEER_MAX + 1
    assert not gate.from_stage_before("step", "d", "s", (STAGES[0], Stage("d", 3, 5), STAGES[2]), 2, "a")
