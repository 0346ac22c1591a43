"""Prepared sessions through real stages: a standby takes a dead stage's place, and only what it lacks is run again."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from policies.jobs import CoverJob, FreeJob, Lost, Sampling, Stage, Standby
from policies.wire import WireError, encode
from real_backends.batch_frames import Batch, Slice
from real_backends.cluster import until
from real_backends.copies import COPY_TOKENS, Copy, Guard, Marker
from real_backends.executors import DESK_TINY, Pipeline, make_shard, pack_activation
from real_backends.step_frames import Close, Open
from real_backends.transports.faulty import Disturbance, LinkFaults
from real_backends.transports.frames import STAGE
from tests.real_backends.session_nodes import (
    PROMPT,
    STAGES,
    WEIGHTS,
    Brake,
    Node,
    end_of,
    hold,
    run_nodes,
    said,
    session_job,
    submit,
)

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

NEW_TOKENS = 40
KEPT = "client/op"
FOUR = "abcd"  # d stands by
EVERY = 4


@pytest.fixture(scope="module")
def reference() -> list[int]:
    """What one shard in one process answers."""
    return Pipeline([make_shard("torch", DESK_TINY, WEIGHTS, 0, 8)]).generate(PROMPT, NEW_TOKENS)


def job(stages: tuple[Stage, ...] = STAGES, **changes: Any) -> bytes:
    """Return a prepared session."""
    return session_job(stages, **({"kept": KEPT, "new_tokens": NEW_TOKENS, "report_every": 1} | changes))


def standing(index: int, way: str = "checkpoint", until: int = 500) -> tuple[Standby, ...]:
    """Return d as the standby of a stage."""
    return (Standby(index, "d", way, EVERY, until),)  # type: ignore[arg-type]


def instead(index: int) -> tuple[Stage, ...]:
    """Return the stages with d in one's place."""
    return tuple(Stage("d", s.first, s.last) if k == index else s for k, s in enumerate(STAGES))


async def lose(
    nodes: dict[str, Node],
    index: int,
    after: int,
    late: tuple[Standby, ...] = (),
    *,
    lossy: bool = False,
    **changes: Any,
) -> tuple[str, tuple[int, ...]]:
    """Run a session until so many tokens are out, let a stage die, and return its name and the tokens it had.

    Before that it rests until its standby has what is due: how far copies are behind is the machine's affair; not where
    links are ``lossy``, as a copy is sent again at a step. Those who stand by ``late`` come up when half of the tokens
    are out.
    """
    victim, brake = STAGES[index].node, Brake(nodes["a"], after // 2 if late else after)
    standbys = (*changes.get("standbys", ()), *late)
    await submit(nodes["a"], 1, job(**changes))
    if late:
        await until(lambda: len(brake.told()) == brake.after)
        for each in late:
            await hold(nodes, (msgspec.structs.replace(STAGES[each.index], node=each.node),), "desk-tiny")
            nodes[each.node].host.stages.gate.expect(KEPT, 1, STAGES[each.index].node)
        nodes["a"].host.submit("worker", 2, encode(CoverJob(1, late)))
        brake.after = after
    due = (
        0 if lossy else max((min(each.until, len(PROMPT) + after - 1) - each.every + 1 for each in standbys), default=0)
    )
    await until(lambda: len(brake.told()) == after and nodes["d"].host.stages.copies.taken_tokens >= due)
    brake.after = 10 * NEW_TOKENS  # never again
    if not index:  # the head: what it reported is what the leader knows
        await nodes["a"].host.close()
        return victim, brake.told()
    await nodes[victim].host.close()
    nodes["a"].host.on_peer(victim, "down")
    await until(lambda: isinstance(nodes["a"].outcomes[-1], Lost))
    return victim, nodes["a"].outcomes[-1].emitted


def counting(node: Node) -> list[int]:
    """Return how many tokens enter each step of sessions that a node heads, as they come."""
    steps: list[int] = []
    step = node.host._step

    async def counted(job: Any, session: str, x: Any, *rest: Any) -> int:
        steps.append(len(x))
        return await step(job, session, x, *rest)

    node.host._step = counted  # type: ignore[method-assign]
    return steps


@pytest.mark.parametrize("way", ["checkpoint", "buddy"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_standby_goes_on_from_its_copy(tmp_path: Path, reference: list[int], index: int, way: str) -> None:
    """Whichever stage dies: the same tokens, and no more are run again than one interval and what was on its way."""

    async def act(nodes: dict[str, Node]) -> None:
        _, told = await lose(nodes, index, 20, standbys=standing(index, way))
        assert list(told) == reference[: len(told)]
        stages = instead(index)
        head = nodes[stages[0].node]
        steps = counting(head)
        head.blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        *_, done = await end_of(head, job(stages, forced=told, resume=True))
        assert said(head, done) == reference
        again = len(PROMPT) + len(told) - steps[0]  # where the attempt begins
        assert again > len(PROMPT) + len(told) - 4 * EVERY
        assert steps[1:] == [1] * (NEW_TOKENS - len(told) - 1)

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


@pytest.mark.parametrize("way", ["checkpoint", "buddy"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_standby_that_comes_up_late_goes_on_as_well(
    tmp_path: Path, reference: list[int], index: int, way: str
) -> None:
    """Half of the answer was out before anybody stood by: the standby gets that too, and no more is run again."""

    async def act(nodes: dict[str, Node]) -> None:
        _, told = await lose(nodes, index, 20, late=standing(index, way))
        stages = instead(index)
        head = nodes[stages[0].node]
        steps = counting(head)
        head.blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        *_, done = await end_of(head, job(stages, forced=told, resume=True))
        assert said(head, done) == reference
        assert steps[0] < 4 * EVERY

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_whoever_is_to_stand_by_for_a_session_that_is_over_gets_nothing(tmp_path: Path) -> None:
    """It ended, or was never here: the job is done, and nothing is left of it."""

    async def act(nodes: dict[str, Node]) -> None:
        await end_of(nodes["a"], job(standbys=()))
        for session in (1, 77):
            await end_of(nodes["a"], encode(CoverJob(session, standing(1))))
        assert nodes["a"].host._covers == {}
        assert nodes["d"].host.stages.sessions == 0

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_without_a_copy_everything_is_run_again(tmp_path: Path, reference: list[int]) -> None:
    """A stage that has nothing of the session makes the attempt begin with the prompt; the answer is the same."""

    async def act(nodes: dict[str, Node]) -> None:
        _, told = await lose(nodes, 1, 20)
        steps = counting(nodes["a"])
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        *_, done = await end_of(nodes["a"], job(instead(1), forced=told, resume=True))
        assert said(nodes["a"], done) == reference
        assert steps[0] == len(PROMPT) + len(told)

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


@pytest.mark.skipif(find_spec("jax") is None, reason="jax is not installed: pip install 'villagetwin[jax]'")
@pytest.mark.parametrize("way", ["checkpoint", "buddy"])
def test_a_standby_of_another_framework_goes_on(tmp_path: Path, way: str) -> None:
    """A stage in torch is replaced by one in JAX: it computes what entered, or takes the keys and values."""

    async def act(nodes: dict[str, Node]) -> None:
        _, emitted = await lose(nodes, 1, 20, standbys=standing(1, way))
        steps = counting(nodes["a"])
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        *_, done = await end_of(nodes["a"], job(instead(1), forced=emitted, resume=True))
        assert len(said(nodes["a"], done)) == NEW_TOKENS
        assert said(nodes["a"], done)[: len(emitted)] == list(emitted)
        assert steps[0] < 4 * EVERY

    asyncio.run(run_nodes(tmp_path, act, names=FOUR, backends=("torch", "torch", "torch", "jax")))


def test_a_drawn_answer_goes_on_as_it_was_drawn(tmp_path: Path) -> None:
    """Sampling is keyed by position, so that a standby draws what the dead stage would have."""
    sampling = Sampling(0.8, 0.9, 11)
    alone = Pipeline([make_shard("torch", DESK_TINY, WEIGHTS, 0, DESK_TINY.layers)])
    expected = alone.generate(PROMPT, NEW_TOKENS, sampling)

    async def act(nodes: dict[str, Node]) -> None:
        _, told = await lose(nodes, 2, 20, standbys=standing(2), sampling=sampling)
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        *_, done = await end_of(nodes["a"], job(instead(2), forced=told, resume=True, sampling=sampling))
        assert said(nodes["a"], done) == expected

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


@pytest.mark.parametrize(
    "changes",
    [
        {"kept": "client/other"},  # another request
        {"forced": (0, 1, 2)},  # other tokens
        {"stages": (Stage("a", 0, 4), Stage("d", 4, 5), Stage("c", 5, 8))},  # other layers
    ],
    ids=["request", "tokens", "plan"],
)
def test_a_copy_of_something_else_is_not_believed(tmp_path: Path, changes: dict[str, Any]) -> None:
    """What is of another request, plan or beginning is passed over: the answer is that of an attempt without copies."""

    async def act(nodes: dict[str, Node]) -> None:
        _, told = await lose(nodes, 1, 20, standbys=standing(1))
        asked = {"stages": instead(1), "forced": told, "resume": True} | changes
        steps = counting(nodes["a"])
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        *_, done = await end_of(nodes["a"], job(**asked))
        known = PROMPT + list(asked["forced"])
        shared = len(PROMPT) if "forced" in changes else 0  # all tokens up to there are the same
        assert steps[0] == len(known) - shared
        alone = Pipeline([make_shard("torch", DESK_TINY, WEIGHTS, 0, DESK_TINY.layers)])
        rest = alone.generate(known, NEW_TOKENS - len(asked["forced"]))
        assert said(nodes["a"], done) == list(asked["forced"]) + rest

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_lost_and_repeated_frames_cost_copies_and_no_token(
    tmp_path: Path, reference: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies that come twice or late, or not at all, leave a copy that is short or whole, and never a wrong one."""
    monkeypatch.setattr("real_backends.copies.COPY_TRY_NS", 1_000_000)
    monkeypatch.setattr("real_backends.executors_host.STEP_TRY_S", 0.1)
    monkeypatch.setattr("real_backends.executors_host.STEP_TRIES", 50)

    async def act(nodes: dict[str, Node]) -> None:
        for node in nodes.values():
            node.transport.faults = LinkFaults((Disturbance(loss=0.05, duplicate=0.3, reorder=0.2, reorder_s=0.002),))
        _, told = await lose(nodes, 1, 20, lossy=True, standbys=standing(1))
        for node in nodes.values():
            node.transport.faults = LinkFaults()
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        *_, done = await end_of(nodes["a"], job(instead(1), forced=told, resume=True))
        assert said(nodes["a"], done) == reference

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_a_node_whose_pieces_are_held_small_sends_small_copies(tmp_path: Path) -> None:
    """Of a share that leaves two tokens no copy has more, and the standby has all that is due."""
    sent: list[int] = []

    async def act(nodes: dict[str, Node]) -> None:
        host = nodes["b"].host
        host.limit("chunk", 2 / COPY_TOKENS)
        send = host.stages.copies._send

        async def noted(own: Any, standby: Standby, begin: int, end: int) -> None:
            sent.append(end - begin)
            await send(own, standby, begin, end)

        host.stages.copies._send = noted  # type: ignore[method-assign]
        await lose(nodes, 1, 20, standbys=standing(1))
        assert nodes["b"].blobs.chunk_share == 2 / COPY_TOKENS

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))
    assert set(sent) == {2}


def test_no_more_is_copied_than_was_asked_for(tmp_path: Path) -> None:
    """The standby has the first tokens up to the bound, and what comes after is run again."""
    bound = len(PROMPT) + 6

    async def act(nodes: dict[str, Node]) -> None:
        _, told = await lose(nodes, 1, 20, standbys=standing(1, until=bound))
        assert nodes["d"].host.stages.copies.taken_tokens == bound
        steps = counting(nodes["a"])
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        await end_of(nodes["a"], job(instead(1), forced=told, resume=True))
        assert steps[0] == len(PROMPT) + len(told) - bound

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


@pytest.mark.parametrize("kept", [KEPT, ""])
def test_what_is_kept_is_forgotten_when_the_request_is_over(tmp_path: Path, kept: str) -> None:
    """Caches outlive the session, at stages and standby, until they are freed: then nothing is left anywhere."""

    async def act(nodes: dict[str, Node]) -> None:
        await end_of(nodes["a"], job(standbys=standing(1)))
        held = {name: node.host.stages.sessions for name, node in nodes.items()}
        assert held == dict.fromkeys("abcd", 1)
        for node in nodes.values():
            await end_of(node, encode(FreeJob("client/unknown")))
            assert node.host.stages.sessions == 1
            await end_of(node, encode(FreeJob(kept)))
        await until(lambda: sum(node.host.active for node in nodes.values()) == 0)
        assert all(not node.host.stages.copies._by_session for node in nodes.values())
        assert all(not node.host.stages.copies._by_request for node in nodes.values())

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


@pytest.mark.parametrize("way", ["checkpoint", "buddy"])
def test_a_liar_makes_no_standby_useless(tmp_path: Path, reference: list[int], way: str) -> None:
    """A peer copies what it likes to the standby, and says that it heads it: the standby goes on from its own copy."""
    x = pack_activation(np.zeros((3, DESK_TINY.hidden), np.float32))
    lies = (
        Copy(KEPT, "desk-tiny", 3, 5, 0, 3, (3,), (b"m",), (x,)),
        Guard("theft", "desk-tiny", (Stage("c", 0, 3), Stage("d", 3, 5)), 1, KEPT, None, True),
        Guard("theft", "desk-tiny", (Stage("c", 0, 3), Stage("d", 3, 5)), 1, KEPT, None, False),
    )

    async def act(nodes: dict[str, Node]) -> None:
        take, gate = nodes["d"].host.on_frame, nodes["d"].host.stages.gate

        def beset(sender: str, kind: int, body: bytes) -> None:
            take(sender, kind, body)
            for lie in lies:
                take("c", STAGE, encode(lie))

        nodes["d"].host.on_frame = beset  # type: ignore[method-assign]
        _, told = await lose(nodes, 1, 20, standbys=standing(1, way))
        steps = counting(nodes["a"])
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        *_, done = await end_of(nodes["a"], job(instead(1), forced=told, resume=True))
        assert said(nodes["a"], done) == reference
        assert steps[0] < 4 * EVERY
        assert set(gate.refused) == {"copy of c", "guard of c"}

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_a_stranger_s_copy_takes_nobody_s_place(tmp_path: Path) -> None:
    """A node cannot put its copy in a running stage's place, nor go on with another's."""

    async def act(nodes: dict[str, Node]) -> None:
        await end_of(nodes["a"], job(standbys=standing(1)))
        x = pack_activation(np.zeros((3, DESK_TINY.hidden), np.float32))
        for position, name in ((0, "b"), (5, "d")):
            copy = Copy(KEPT, "desk-tiny", 3, 5, position, 3, (position + 3,), (b"m",), (x,))
            before = [list(each.marks) for each in nodes[name].host.stages.copies._by_request.values()]
            nodes[name].host.stages.gate.expect(KEPT, 2, "c")
            nodes[name].host.on_frame("c", STAGE, encode(copy))
            await until(lambda: not nodes[name].host.stages._tasks)  # noqa: B023
            assert [list(each.marks) for each in nodes[name].host.stages.copies._by_request.values()] == before

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_a_copy_of_no_request_is_refused(tmp_path: Path) -> None:
    """A nameless request stands for all of them where caches are freed, so that no peer may speak of it."""

    async def act(nodes: dict[str, Node]) -> None:
        await end_of(nodes["a"], job(standbys=standing(1)))
        x = pack_activation(np.zeros((3, 1), np.float32))  # no activations of this model
        for frame in (
            Copy("", "desk-tiny", 3, 5, 0, 3, (3,), (b"m",), (x,)),
            Guard("theft", "desk-tiny", STAGES, 1, "", None, ask=True),
        ):
            with pytest.raises(WireError, match="length >= 1"):
                nodes["b"].host.on_frame("a", STAGE, encode(frame))
        await until(lambda: not nodes["b"].host.stages._tasks)
        assert nodes["b"].host.stages.sessions == 1

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_a_session_that_ends_under_way_leaves_nothing(tmp_path: Path) -> None:
    """Neither a copy that was about to leave nor a step that was running opens a session again that was forgotten."""

    async def act(nodes: dict[str, Node]) -> None:
        await end_of(nodes["a"], job(standbys=standing(1, "buddy")))
        stages = nodes["b"].host.stages
        await stages.load("desk-tiny", 0, 3)
        (own,) = stages.copies._by_session.values()
        own.copied, own.sent_ns = 0, None
        stages.copies._pump(own)
        await stages.drop(own.session)
        step = asyncio.create_task(stages.forward("s", "desk-tiny", STAGES[0], np.array(PROMPT), 0))
        await until(lambda: stages.sessions == 1)
        await stages.drop("s")
        await step
        stages.ran("s", "desk-tiny", STAGES[0], 0, np.array(PROMPT), b"m")
        await until(lambda: not stages._tasks)
        assert stages.sessions == 0
        assert not stages.copies._by_session

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_nobody_but_its_head_claims_a_session(tmp_path: Path) -> None:
    """A stage is told that a session is prepared by the head that it names, and refuses anyone else's word."""

    async def act(nodes: dict[str, Node]) -> None:
        await end_of(nodes["a"], job(standbys=standing(1)))
        guard = encode(Guard("theft", "desk-tiny", STAGES, 1, KEPT, None, ask=True))
        nodes["b"].host.on_frame("c", STAGE, guard)
        assert nodes["b"].host.stages.gate.refused == {"guard of c": 1}
        assert "theft" not in nodes["b"].host.stages.copies._by_session

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


THEFT = (Stage("c", 0, 3), Stage("b", 3, 5), Stage("d", 5, 8))


@pytest.mark.parametrize("ask", [True, False])
def test_a_running_session_is_not_taken_from_its_head(tmp_path: Path, reference: list[int], ask: bool) -> None:
    """A peer that heads a session of its own says that it is the request's: the true one runs on to its end."""

    async def act(nodes: dict[str, Node]) -> None:
        await submit(nodes["a"], 1, job())
        for number in range(1, 9):
            await until(lambda: len(nodes["a"].outcomes) > number)  # noqa: B023
            theft = Guard(f"theft {number}", "desk-tiny", THEFT, 1, KEPT, None, ask=ask)
            nodes["b"].host.on_frame("c", STAGE, encode(theft))
        await until(lambda: 1 in nodes["a"].ends)
        assert said(nodes["a"], nodes["a"].ends[1]) == reference
        assert nodes["b"].host.stages.gate.refused == {"guard of c": 8}

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_nobody_speaks_of_what_goes_by_a_name_here(tmp_path: Path) -> None:
    """A session that a node heads, and a copy that it holds for another, are no peer's, whatever it calls its own."""

    async def act(nodes: dict[str, Node]) -> None:
        await submit(nodes["a"], 1, job(standbys=standing(1)))
        await until(lambda: bool(nodes["a"].outcomes) and bool(nodes["d"].host.stages.copies._by_session))
        for name, frame in (("a", Open), ("d", Guard)):
            held = nodes[name].host.stages
            ((session, entry),) = held._sessions.items()
            stages = (THEFT[0], Stage(name, 3, 5))
            held.gate.admit("desk-tiny", stages)
            more = (KEPT, Standby(1, "c", "buddy", 1, 500), True) if frame is Guard else ()
            nodes[name].host.on_frame("c", STAGE, encode(frame(session, "desk-tiny", stages, 1, *more)))
            nodes[name].host.on_frame("c", STAGE, encode(Close(session)))
            assert held._sessions[session] is entry
            assert sum(held.gate.refused.values()) == 2
        await until(lambda: 1 in nodes["a"].ends)
        assert len(said(nodes["a"], nodes["a"].ends[1])) == NEW_TOKENS

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_frames_without_end_leave_a_bounded_number_of_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a peer says of more and more sessions and requests, it loses its own, and no other head's."""
    monkeypatch.setattr("real_backends.stage_gate.SESSIONS_OF_PEER_MAX", 4)
    x = pack_activation(np.zeros((3, DESK_TINY.hidden), np.float32))

    async def act(nodes: dict[str, Node]) -> None:
        await end_of(nodes["a"], job())
        host = nodes["b"].host
        for number in range(20):
            name = f"made up {number}"
            host.stages.gate.expect(name, 1, "c")
            guard = Guard(name, "desk-tiny", THEFT, 1, name, None, ask=False)
            batch = Batch(f"lane {number}", 0, "namesake", THEFT, 1, (Slice(name, 0, 3, False),), x)
            copy = Copy(name, "desk-tiny", 3, 5, 3, 3, (6,), (b"m",), (x,))
            for frame in (guard, batch, copy, Close(name), guard):
                host.stages.gate.admit(getattr(frame, "model", ""), THEFT)  # which c heads
                host.on_frame("c", STAGE, encode(frame))
            await until(lambda: not host.stages._tasks)
        assert host.stages.sessions <= 1 + 4
        assert len(host.stages.copies._by_session) <= 1 + 4
        assert KEPT in host.stages.copies._by_request

    asyncio.run(run_nodes(tmp_path, act, names=FOUR))


def test_marks_tell_requests_models_and_tokens_apart() -> None:
    """A mark is the same however the tokens came, and another one for anything else."""
    ids = np.arange(9)
    whole = Marker("a/1", "m").take(ids)
    pieces = Marker("a/1", "m")
    pieces.take(ids[:4])
    assert pieces.take(ids[4:]) == whole
    others = [Marker("a/2", "m").take(ids), Marker("a/1", "n").take(ids), Marker("a/1", "m").take(ids[:8])]
    assert len({whole, *others}) == 4


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_cache_goes_over_whole_or_in_part(backend: str) -> None:
    """What `cached` gives and `restore` takes makes a session go on exactly as the one it is of; so does a new name."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    one, other = (make_shard(backend, DESK_TINY, WEIGHTS, 3, 8) for _ in range(2))
    x = np.random.default_rng(1).normal(size=(12, DESK_TINY.hidden)).astype(np.float32)
    one.forward("s", x[:11], 0)
    other.restore("t", *one.cached("s"), 0)
    other.restore("t", *one.cached("s", 4), 4)
    other.rename("t", "u")
    assert np.array_equal(one.forward("s", x[11:], 11), other.forward("u", x[11:], 11))
    with pytest.raises(ValueError, match="there is none"):
        other.rename("t", "v")
    with pytest.raises(ValueError, match="is not allowed"):
        other.restore("u", np.zeros((5, 1, 9, 9)), np.zeros((5, 1, 9, 9)), 0)
    with pytest.raises(ValueError, match="position: 90"):
        other.restore("u", *one.cached("s", 4), 90)
