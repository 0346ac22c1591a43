"""What is kept of sessions for checks: bounded in number and bytes, fair to each head, and nobody else's by name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.jobs import CommitJob, Done, Lacking, OpenJob, ReleaseJob, Shown, Stage
from policies.verification import draw_challenge, follows
from policies.wire import encode
from real_backends.batch_frames import Batch, Slice
from real_backends.cluster import until
from real_backends.executors import DESK_TINY, pack_activation
from real_backends.keepsakes import Keepsakes
from real_backends.lent_memory import LentMemory
from real_backends.proofs import MEMORY_SHARE
from real_backends.step_frames import Close, Step
from real_backends.transports.frames import STAGE
from tests.real_backends.session_nodes import NEW_TOKENS, PROMPT, STAGES, Node, end_of, run_nodes, session_job
from tests.real_backends.test_checking import ALONE, BATCHED, check, commitments, prove, transcript
from tests.real_backends.test_placed import CARD, SHARDING

POSITIONS = len(PROMPT) + NEW_TOKENS - 1  # of a session; the last token is not fed
X = pack_activation(np.zeros((POSITIONS, DESK_TINY.hidden), np.float32), "f32")
OF_D = (Stage("d", 0, 3), *STAGES[1:])

puts = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5), st.sampled_from("abc")), max_size=40)


@given(puts, st.integers(1, 6))
def test_sums_are_those_of_what_is_there(put: list[tuple[int, int, str]], count_max: int) -> None:
    """After any puts: no more than the bound, the bytes of what is there, and all else was said to have gone."""
    kept: Keepsakes[int, int] = Keepsakes(count_max)
    there: dict[int, int] = {}
    for key, size, peer in put:
        there[key] = size
        for gone in kept.put(key, size, size, peer):
            del there[gone]
        assert {key: kept.get(key) for key in kept} == there
        assert len(kept) <= count_max
        assert kept.bytes == sum(there.values())


def test_whoever_has_most_gives_up_its_oldest() -> None:
    """By number or by bytes, whichever runs out: what another has is not displaced."""
    kept: Keepsakes[str, str] = Keepsakes(3)
    kept.put("a1", "", 10, "a")
    assert [kept.put(f"d{number}", "", 1, "d") for number in range(4)] == [[], [], ["d0"], ["d1"]]
    assert kept.give_up() == "a1"
    assert kept.give_up() == "d2"


def flood(node: Node, op: str, number: int) -> None:
    """Peer d, which heads what is placed here by now, runs a session of one step under the name of a job."""
    session = f"{op}@d.{number}.1"
    node.host.stages.gate.admit("desk-tiny", OF_D)
    node.host.on_frame("d", STAGE, encode(Step(session, "desk-tiny", OF_D, 1, 0, X)))


async def end(node: Node, op: str, number: int) -> None:
    session = f"{op}@d.{number}.1"
    stages = node.host.stages
    await until(lambda: session in stages._sessions and stages._sessions[session].answer is not None)
    node.host.on_frame("d", STAGE, encode(Close(session)))
    await until(lambda: session not in stages._sessions and not stages._tasks)


def test_nobody_s_session_takes_the_place_of_another_s_of_the_same_name(tmp_path: Path) -> None:
    """A peer runs a session under a job's name on the same layers, before and after it ended: its word stays true."""

    async def act(nodes: dict[str, Node]) -> None:
        await nodes["b"].host.stages.load("desk-tiny", 3, 5)
        for number in range(2):
            if number:
                *_, done = await end_of(nodes["a"], session_job())
                await until(lambda: not nodes["b"].host.stages._sessions)
            flood(nodes["b"], "client/op", number)
            await end(nodes["b"], "client/op", number)
        words = await commitments(nodes, done)
        assert await check(nodes, done, words["b"], STAGES[1], "c") == "honest"

    asyncio.run(run_nodes(tmp_path, act, policy=ALONE, names="abcd"))


@pytest.mark.parametrize("batched", [False, True], ids=["step", "batch"])
def test_a_session_that_its_head_never_spoke_of_is_not_taken_for_its_own(tmp_path: Path, batched: bool) -> None:
    """A peer says that it is the stage before in a session of the true head and the true name: its word stays true."""
    stages = (Stage("a", 0, 2), Stage("d", 2, 3), *STAGES[1:])
    policy = BATCHED if batched else ALONE

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        held = nodes["b"].host.stages
        await until(lambda: not held._sessions)
        of_a = "client/op@a.9.9"
        held.gate.admit("desk-tiny", stages)
        if batched:
            slices = (Slice(of_a, 0, POSITIONS, False),)
            nodes["b"].host.on_frame("d", STAGE, encode(Batch("lane", 0, "desk-tiny", stages, 2, slices, X)))
        else:
            nodes["b"].host.on_frame("d", STAGE, encode(Step(of_a, "desk-tiny", stages, 2, 0, X)))
        await until(lambda: of_a in held._sessions and not held._tasks)
        words = await commitments(nodes, done)
        assert follows(words["a"], words["b"])
        assert follows(words["b"], words["c"])
        assert await check(nodes, done, words["b"], STAGES[1], "c") == "honest"

    asyncio.run(run_nodes(tmp_path, act, policy=policy, names="abcd"))


def test_whoever_hands_out_the_answer_the_word_is_about_its_head_s_session(tmp_path: Path) -> None:
    """Another peer ran something under the name first, and the answer is had from the leader: its word stays true."""

    async def act(nodes: dict[str, Node]) -> None:
        await nodes["b"].host.stages.load("desk-tiny", 3, 5)
        flood(nodes["b"], "client/op", 1)
        await end(nodes["b"], "client/op", 1)
        *_, done = await end_of(nodes["a"], session_job())
        answer = nodes["a"].blobs.store.get(done.output)
        assert answer is not None
        nodes["a"].blobs.store.drop(done.output)
        of = transcript(STAGES[1], done)
        assert isinstance(await prove(nodes["b"], CommitJob(of)), Lacking)
        for name in "ac":
            nodes[name].blobs.store.put(answer)
        assert isinstance(await prove(nodes["b"], CommitJob(msgspec.structs.replace(of, holder="c"))), Done)
        words = await commitments(nodes, done)
        assert follows(words["a"], words["b"])

    asyncio.run(run_nodes(tmp_path, act, policy=ALONE, names="abcd"))


def test_what_was_shown_can_be_had_however_little_is_lent_by_then(tmp_path: Path) -> None:
    """A session that is checked leaves memory last, and what others fetch of it stays: it would look withheld."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        words = await commitments(nodes, done)
        challenge = draw_challenge(bytes(16), words["b"])
        opened = await prove(nodes["b"], OpenJob("client/op", challenge.block, challenge.layer))
        came = msgspec.msgpack.decode(opened.result, type=Shown).came
        *_, other = await end_of(nodes["a"], session_job(op="client/other"))
        of = msgspec.structs.replace(transcript(STAGES[1], other), op="client/other")
        assert isinstance(await prove(nodes["b"], CommitJob(of)), Done)
        proofs = nodes["b"].host.proofs
        assert proofs is not None
        for room_bytes, left in ((proofs._shown.bytes, (0, 1)), (1, (0, 0))):
            memory = LentMemory(room_bytes / MEMORY_SHARE, {"desk-tiny": CARD}, SHARDING.slots)
            nodes["b"].host.stages.shards.memory = memory
            flood(nodes["b"], "made-up", room_bytes)
            await end(nodes["b"], "made-up", room_bytes)
            assert (len(proofs._evidence), len(proofs._shown)) == left
            assert nodes["b"].blobs.store.get(came) is not None
        await prove(nodes["b"], ReleaseJob("client/op"))
        assert nodes["b"].blobs.store.get(came) is None

    asyncio.run(run_nodes(tmp_path, act, policy=ALONE, names="abcd"))


def test_what_is_kept_takes_a_share_of_what_is_lent(tmp_path: Path) -> None:
    """A peer's sessions without end take no more than that in bytes, and displace nothing of another head's."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        proofs = nodes["b"].host.proofs
        assert proofs is not None
        await until(lambda: len(proofs._kept) == 1)
        room_bytes = 2 * proofs._kept.bytes  # for as much again
        nodes["b"].host.stages.shards.memory = LentMemory(
            room_bytes / MEMORY_SHARE, {"desk-tiny": CARD}, SHARDING.slots
        )
        for number in range(6):
            flood(nodes["b"], f"made-up/{number}", number)
            await end(nodes["b"], f"made-up/{number}", number)
            assert proofs._kept.bytes <= room_bytes
        assert 1 < len(proofs._kept) < 7
        assert isinstance(await prove(nodes["b"], CommitJob(transcript(STAGES[1], done))), Done)
        taken = proofs._kept.bytes + proofs._evidence.bytes + proofs._shown.bytes
        assert taken <= room_bytes + 1

    pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")
    asyncio.run(run_nodes(tmp_path, act, policy=ALONE, names="abcd"))
