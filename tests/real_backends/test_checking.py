"""Checks of real workers: a stage commits to a session that it served, opens a place, and another computes it again.

The cheats are those of `scenarios.adversaries.behaviours.Shirk`, done by the executor that served. One test is a whole
village of processes.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from experiments.compose import compose_plain
from policies.config import BatchedConfig, CoordinationConfig, OneByOneConfig, PolicyConfig, SpotChecksConfig
from policies.jobs import (
    BringJob,
    CommitJob,
    Disowned,
    Done,
    FreeJob,
    HandJob,
    Lacking,
    Lost,
    OpenJob,
    RecheckJob,
    ReleaseJob,
    Sampling,
    SessionJob,
    Shown,
    Stage,
    Standby,
    Transcript,
)
from policies.verification import Challenge, Commitment, Verdict, draw_challenge, follows
from policies.wire import digest, encode
from real_backends.cluster import until
from real_backends.executors import DESK_TINY, make_shard
from real_backends.executors.cheats import cheating
from real_backends.local import run_local
from scenarios.record import TABLES
from scenarios.schema import ScenarioError, build
from tests.real_backends.session_nodes import NEW_TOKENS, PROMPT, STAGES, Node, end_of, run_nodes, session_job
from tests.real_backends.session_nodes import said as tokens_said

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

CHECKED = CoordinationConfig(spot_checks=SpotChecksConfig())
BATCHED = PolicyConfig(coordination=CHECKED, serving=BatchedConfig())
ALONE = PolicyConfig(coordination=CHECKED, serving=OneByOneConfig())
SHIRKS = ("wrong_layer", "skipped_layer", "four_bits", "stale_cache")


def transcript(stage: Stage, done: Any, *, greedy: bool = True) -> Transcript:
    """What the leader says of the session that ended so."""
    job = msgspec.msgpack.decode(session_job(), type=SessionJob)
    return Transcript(
        "client/op", "desk-tiny", stage, stage == STAGES[-1], job.prompt, "c", len(PROMPT), done.output, "a",
        done.tokens, greedy,
    )  # fmt: skip


async def prove(node: Node, job: Any) -> Any:
    """How a job of a check ends."""
    return (await end_of(node, encode(job)))[-1]


async def commitments(nodes: dict[str, Node], done: Any) -> dict[str, Commitment]:
    """Every stage's word."""
    words = {}
    for stage in STAGES:
        bound = await prove(nodes[stage.node], CommitJob(transcript(stage, done)))
        assert isinstance(bound, Done), bound
        words[stage.node] = msgspec.msgpack.decode(bound.result, type=Commitment)
    return words


async def check(nodes: dict[str, Node], done: Any, word: Commitment, stage: Stage, by: str, secret: int = 0) -> str:
    """Open a place and let another node compute it again; return what it says."""
    challenge = draw_challenge(secret.to_bytes(16, "little"), word)
    opened = await prove(nodes[stage.node], OpenJob("client/op", challenge.block, challenge.layer))
    assert isinstance(opened, Done), opened
    shown = msgspec.msgpack.decode(opened.result, type=Shown)
    assert bool(shown.came) == (stage.first > 0)
    recheck = RecheckJob(
        transcript(stage, done), encode(word), challenge.block, challenge.layer, shown.opening, shown.came,
        stage.node,
    )  # fmt: skip
    found = await prove(nodes[by], recheck)
    assert isinstance(found, Done), found
    return msgspec.msgpack.decode(found.result, type=Verdict).word


@pytest.mark.parametrize("policy", [ALONE, BATCHED], ids=["one_by_one", "batched"])
def test_honest_stages_stand_by_what_they_served(tmp_path: Path, policy: PolicyConfig) -> None:
    """Neighbours committed to the same, each stage passes another node's check, and what was kept is gone."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        words = await commitments(nodes, done)
        assert follows(words["a"], words["b"])
        assert follows(words["b"], words["c"])
        for stage, by in zip(STAGES, "bca", strict=True):
            assert await check(nodes, done, words[stage.node], stage, by) == "honest"
            again = await prove(nodes[stage.node], OpenJob("client/op", 0, 0))
            assert isinstance(again, Lost)

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


@pytest.mark.parametrize("cheat", SHIRKS)
def test_the_stage_that_cheated_is_found_and_its_neighbours_are_not(tmp_path: Path, cheat: str) -> None:
    """The middle stage shirks: the first and the last, which worked on what it gave them, are honest; it is not."""

    async def act(nodes: dict[str, Node]) -> None:
        proofs = nodes["b"].host.proofs
        assert proofs is not None
        proofs.make = cheating(make_shard, cheat)
        *_, done = await end_of(nodes["a"], session_job())
        words = await commitments(nodes, done)
        found = [
            await check(nodes, done, words[stage.node], stage, by, secret=1)
            for stage, by in zip(STAGES, "cca", strict=True)
        ]
        assert found[0] == found[2] == "honest"
        assert found[1] in ("outputs", "cache")

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


def test_a_prepared_session_is_checked_while_its_caches_stay(tmp_path: Path) -> None:
    """Its caches outlive the attempt; a check finds them there, and nothing is kept of them once both are over."""

    async def act(nodes: dict[str, Node]) -> None:
        standbys = (Standby(1, "d", "checkpoint", 4, 40),)
        *_, done = await end_of(nodes["a"], session_job(kept="client/op", standbys=standbys))
        words = await commitments(nodes, done)
        for stage, by in zip(STAGES, "bca", strict=True):
            assert await check(nodes, done, words[stage.node], stage, by) == "honest"
        for node in nodes.values():
            await prove(node, ReleaseJob("client/op"))
            await prove(node, FreeJob("client/op"))
            assert node.host.stages.sessions == 0 or node is nodes["d"]
            assert node.host.proofs is not None
            assert not node.host.proofs._kept
            assert not node.host.proofs._evidence
            assert not node.host.proofs._shown

    asyncio.run(run_nodes(tmp_path, act, policy=ALONE, names="abcd"))


def test_what_a_stage_withholds_is_brought_from_the_one_before(tmp_path: Path) -> None:
    """The liar names what it took and has it no more; its neighbour hands out the same, and it is found even so."""

    async def act(nodes: dict[str, Node]) -> None:
        proofs = nodes["b"].host.proofs
        assert proofs is not None
        proofs.make, proofs.share = cheating(make_shard, "skipped_layer"), digest
        *_, done = await end_of(nodes["a"], session_job())
        words = await commitments(nodes, done)
        of, word = transcript(STAGES[1], done), words["b"]
        at = draw_challenge(bytes(16), word)
        opened = await prove(nodes["b"], OpenJob(of.op, at.block, at.layer))
        shown = msgspec.msgpack.decode(opened.result, type=Shown)
        lost = await prove(nodes["d"], RecheckJob(of, encode(word), at.block, at.layer, *said(shown), "b"))
        assert (lost.node, lost.blob) == ("b", shown.came)

        handed = await prove(nodes["a"], HandJob(of.op))
        assert handed.output == shown.came  # they hold the very same numbers
        wrong = await prove(nodes["d"], BringJob(done.output, "a", *taken(word)))
        assert (wrong.node, wrong.blob) == ("a", done.output)  # tokens are not what the stage took
        assert isinstance(await prove(nodes["d"], BringJob(handed.output, "a", *taken(word))), Done)
        found = await prove(nodes["c"], RecheckJob(of, encode(word), at.block, at.layer, *said(shown), "d"))
        assert msgspec.msgpack.decode(found.result, type=Verdict).word in ("outputs", "cache")

        await prove(nodes["a"], ReleaseJob(of.op))
        assert nodes["a"].blobs.store.get(handed.output) is None  # it ends with the session
        assert isinstance(await prove(nodes["a"], HandJob(of.op)), Lost)

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED, names="abcd"))


def test_what_two_sessions_took_alike_stays_for_the_second(tmp_path: Path) -> None:
    """The same prompt makes the same blob; the first session's end leaves it to the other, whose end takes it."""

    async def act(nodes: dict[str, Node]) -> None:
        shown = {}
        for op in ("client/op", "client/again"):
            *_, done = await end_of(nodes["a"], session_job(op=op))
            of = msgspec.structs.replace(transcript(STAGES[1], done), op=op)
            assert isinstance(await prove(nodes["b"], CommitJob(of)), Done)
            opened = await prove(nodes["b"], OpenJob(op, 0, 0))
            shown[op] = msgspec.msgpack.decode(opened.result, type=Shown).came
        assert shown["client/op"] == shown["client/again"]
        for op, left in (("client/op", True), ("client/again", False)):
            await prove(nodes["b"], ReleaseJob(op))
            assert (nodes["b"].blobs.store.get(shown[op]) is not None) == left

    asyncio.run(run_nodes(tmp_path, act, policy=ALONE))


def test_a_head_that_hands_out_nothing_is_named(tmp_path: Path) -> None:
    """Who cannot commit for want of the answer says whose answer it is, and so does who would fetch it."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        nodes["a"].blobs.store.drop(done.output)
        for job in (CommitJob(transcript(STAGES[1], done)), BringJob(done.output, "a", "desk-tiny", done.tokens)):
            lost = await prove(nodes["b"], job)
            assert isinstance(lost, Lacking)
            assert (lost.node, lost.blob) == ("a", done.output)

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


@pytest.mark.parametrize("positions", [1, 3, 64])
def test_what_a_stage_cannot_have_taken_is_not_fetched(tmp_path: Path, positions: int) -> None:
    """A liar names a blob of more numbers, or of fewer, than its session has; no verifier and no leader holds it."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        word, of = (await commitments(nodes, done))["b"], transcript(STAGES[1], done)
        at = draw_challenge(bytes(16), word)
        shown = msgspec.msgpack.decode((await prove(nodes["b"], OpenJob(of.op, at.block, at.layer))).result, type=Shown)
        forged = nodes["b"].blobs.store.put(bytes(4 * DESK_TINY.hidden * (word.positions + positions - 2)), "stages")
        for job in (
            BringJob(forged, "b", *taken(word)),
            RecheckJob(of, encode(word), at.block, at.layer, shown.opening, forged, "b"),
        ):
            lost = await prove(nodes["d"], job)
            assert isinstance(lost, Lacking), lost
            assert (lost.node, lost.blob) == ("b", forged)
        assert nodes["d"].blobs.store.get(forged) is None

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED, names="abcd"))


def test_what_is_too_large_to_be_fetched_is_nobodys_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is longer than blobs may be cannot be checked; its honest stages have not withheld anything."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        word, of = (await commitments(nodes, done))["b"], transcript(STAGES[1], done)
        at = draw_challenge(bytes(16), word)
        shown = msgspec.msgpack.decode((await prove(nodes["b"], OpenJob(of.op, at.block, at.layer))).result, type=Shown)
        monkeypatch.setattr("real_backends.proofs.BLOB_BYTES_MAX", 4 * DESK_TINY.hidden * word.positions - 1)
        for job in (
            BringJob(shown.came, "b", *taken(word)),
            RecheckJob(of, encode(word), at.block, at.layer, shown.opening, shown.came, "b"),
        ):
            lost = await prove(nodes["d"], job)
            assert isinstance(lost, Lost)
            assert (type(lost), lost.node) == (Lost, "d")

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED, names="abcd"))


@pytest.mark.parametrize(("field", "holder"), [("tokens", "a"), ("prompt_tokens", "c")])
@pytest.mark.parametrize("more", [1, -1])
def test_no_stage_commits_to_other_lengths_than_it_is_asked_about(
    tmp_path: Path, field: str, holder: str, more: int
) -> None:
    """A head says that its answer has other tokens than the blob, a client that its prompt has: they lack the one that
    was meant, and whoever holds it is asked. Else every honest stage's word would be about something else.
    """

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        of = transcript(STAGES[1], done)
        lied = msgspec.structs.replace(of, **{field: getattr(of, field) + more})
        lacking = await prove(nodes["b"], CommitJob(lied))
        assert isinstance(lacking, Lacking), lacking
        blob = of.output if field == "tokens" else of.prompt
        assert (lacking.node, lacking.blob) == (holder, blob)
        brought = await prove(nodes["d"], BringJob(blob, holder, of.model, getattr(lied, field)))
        assert isinstance(brought, Lacking), brought  # the leader finds the same
        assert isinstance(await prove(nodes["b"], CommitJob(of)), Done)

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED, names="abcd"))


def test_the_first_word_stands_and_is_given_for_nothing_else(tmp_path: Path) -> None:
    """A member that lies has it commit to a shorter answer: the leader gets no word, rather than a false one."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        of = transcript(STAGES[1], done)
        short = nodes["d"].blobs.store.put(np.array(tokens_said(nodes["a"], done)[:5], "<i4").tobytes())
        lied = msgspec.structs.replace(of, output=short, holder="d", tokens=5)
        first = await prove(nodes["b"], CommitJob(lied))
        assert isinstance(first, Done)
        assert type(await prove(nodes["b"], CommitJob(of))) is Lost
        again = await prove(nodes["b"], CommitJob(msgspec.structs.replace(lied, holder="b")))
        assert again.result == first.result  # whoever holds its blobs

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED, names="abcd"))


OTHERS: tuple[tuple[str, tuple[Stage, ...]], ...] = (
    ("desk-tiny", (Stage("d", 0, 3), Stage("b", 3, 8))),
    ("desk-tiny", (Stage("d", 0, 5), Stage("b", 5, 8))),
    ("namesake", (Stage("d", 0, 3), Stage("b", 3, 5), Stage("c", 5, 8))),
)


@pytest.mark.parametrize(("model", "stages"), OTHERS, ids=["more layers", "other layers", "another model"])
@pytest.mark.parametrize("own", [True, False], ids=["after its own", "alone"])
def test_no_stage_answers_for_other_work_that_went_under_the_same_name(
    tmp_path: Path, model: str, stages: tuple[Stage, ...], own: bool
) -> None:
    """A peer lets it run other layers, or another model, under the name of a request: its word is about that request's,
    or it gives none. Else it would have signed what it was not asked about, or be found false for the model.
    """

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job()) if own else (None,)
        *_, other = await end_of(nodes["d"], session_job(stages, model=model))
        assert isinstance(other, Done), other
        of = transcript(STAGES[1], done or other)
        if done is None:
            of = msgspec.structs.replace(of, holder="d")
        bound = await prove(nodes["b"], CommitJob(of))
        if not own:
            assert type(bound) is Lost
            return
        assert isinstance(bound, Done), bound
        word = msgspec.msgpack.decode(bound.result, type=Commitment)
        assert (word.first, word.last) == (3, 5)
        assert await check(nodes, done, word, STAGES[1], "c") == "honest"

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED, names="abcd"))


@pytest.mark.parametrize("more", [1, -1])
def test_a_prompt_of_another_length_is_not_run(tmp_path: Path, more: int) -> None:
    """The head finds what its client said wrongly before anybody works on it, and blames no node."""

    async def act(nodes: dict[str, Node]) -> None:
        for head in ("a", "c"):  # the prompt is fetched, or here
            stages = (Stage(head, 0, DESK_TINY.layers),)
            lost = (await end_of(nodes[head], session_job(stages, prompt_tokens=len(PROMPT) + more)))[-1]
            assert isinstance(lost, Lost), lost
            assert lost.node == ""
            assert "expected" in lost.reason or "more than" in lost.reason

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


def taken(word: Commitment) -> tuple[str, int, bytes]:
    """What a leader says of a blob that a stage took."""
    return "desk-tiny", word.positions, encode(word)


def said(shown: Shown) -> tuple[bytes, str]:
    """What a stage showed, as it stands in the job that computes the place again."""
    return shown.opening, shown.came


def test_a_verifier_computes_with_the_model_that_was_served(tmp_path: Path) -> None:
    """It serves the same layers of another model, whose checkpoint has the same name: that is not what it checks."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        words = await commitments(nodes, done)
        turned = tuple(Stage(node, stage.first, stage.last) for node, stage in zip("bca", STAGES, strict=True))
        *_, other = await end_of(nodes["b"], session_job(turned, op="client/other", model="namesake"))
        assert tokens_said(nodes["b"], other) != tokens_said(nodes["a"], done)
        for stage, by in zip(STAGES, "bca", strict=True):
            assert await check(nodes, done, words[stage.node], stage, by) == "honest"

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


VOCAB = DESK_TINY.vocab


@pytest.mark.parametrize(
    ("forge", "greedy"),
    [
        (lambda said: [*said[:-1], (said[-1] + 1) % 100], True),
        (lambda said: [*said[:-1], VOCAB], True),
        (lambda said: [*said[:-1], VOCAB], False),
        (lambda said: [*said[:-1], -1], False),
        (lambda said: [*said, 1], True),
        (lambda said: [*said, 1], False),
    ],
    ids=["another", "none", "none, drawn", "negative, drawn", "one more", "one more, drawn"],
)
def test_a_last_stage_does_not_answer_for_tokens_that_its_head_made_up(
    tmp_path: Path, forge: Callable[[list[int]], list[int]], greedy: bool
) -> None:
    """It commits to what it chose, and says of another answer, or of a longer one, that it is not its own."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        tokens = forge(tokens_said(nodes["a"], done))
        forged = nodes["a"].blobs.store.put(np.array(tokens, "<i4").tobytes())
        own = transcript(STAGES[2], done, greedy=greedy)
        of = msgspec.structs.replace(own, output=forged, tokens=len(tokens))
        disowned = await prove(nodes["c"], CommitJob(of))
        assert isinstance(disowned, Disowned), disowned
        assert disowned.node == "a"
        assert isinstance(await prove(nodes["c"], CommitJob(own)), Done)

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


@pytest.mark.parametrize("token", [VOCAB, -1])
@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "drawn"])
def test_an_answer_that_ends_with_no_token_is_found_false(tmp_path: Path, token: int, greedy: bool) -> None:
    """Who computes it again finds that it was not chosen, drawn or not; nothing else is ever fed with it."""
    stage = Stage("a", 0, DESK_TINY.layers)

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job((stage,)))
        tokens = [*tokens_said(nodes["a"], done)[:-1], token]
        forged = nodes["a"].blobs.store.put(np.array(tokens, "<i4").tobytes())
        of = msgspec.structs.replace(transcript(stage, done, greedy=greedy), last=True, output=forged)
        bound = await prove(nodes["a"], CommitJob(of))
        assert isinstance(bound, Done), bound
        opened = await prove(nodes["a"], OpenJob("client/op", 1, 0))
        shown = msgspec.msgpack.decode(opened.result, type=Shown)
        found = await prove(nodes["b"], RecheckJob(of, bound.result, 1, 0, shown.opening, "", ""))
        assert isinstance(found, Done), found
        assert msgspec.msgpack.decode(found.result, type=Verdict).word == "tokens"

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


def test_an_answer_that_ended_early_and_was_drawn_is_no_crime(tmp_path: Path) -> None:
    """Positions are those of the tokens that were said, and drawn tokens need not be the likeliest ones."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, first = await end_of(nodes["a"], session_job(sampling=Sampling(2.0, 1.0, 3)))
        blob = nodes["a"].blobs.store.get(first.output)
        assert blob is not None
        end = int.from_bytes(blob[16:20], "little")  # the fifth token
        early = session_job(sampling=Sampling(2.0, 1.0, 3, (end,)), op="client/early")
        *_, done = await end_of(nodes["a"], early)
        assert 0 < done.tokens < NEW_TOKENS
        stage = STAGES[-1]
        of = msgspec.structs.replace(transcript(stage, done, greedy=False), op="client/early")
        bound = await prove(nodes["c"], CommitJob(of))
        assert isinstance(bound, Done), bound
        word = msgspec.msgpack.decode(bound.result, type=Commitment)
        assert word.positions == len(PROMPT) + done.tokens - 1
        challenge = Challenge(1, 0)  # of the second block, where the last tokens were drawn
        opened = await prove(nodes["c"], OpenJob("client/early", challenge.block, challenge.layer))
        shown = msgspec.msgpack.decode(opened.result, type=Shown)
        for greedy, expected in ((False, "honest"), (True, "tokens")):
            again = RecheckJob(
                msgspec.structs.replace(of, greedy=greedy), encode(word), challenge.block, challenge.layer,
                shown.opening, shown.came, "c",
            )  # fmt: skip
            verdict = msgspec.msgpack.decode((await prove(nodes["a"], again)).result, type=Verdict)
            assert verdict.word == expected

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


def test_what_is_released_or_never_was_cannot_be_shown(tmp_path: Path) -> None:
    """A commitment to nothing is lost with a reason, and so is an opening of what was let go."""

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        await commitments(nodes, done)
        await prove(nodes["b"], ReleaseJob("client/op"))
        for job in (OpenJob("client/op", 0, 0), CommitJob(transcript(STAGES[1], done))):
            lost = await prove(nodes["b"], job)
            assert isinstance(lost, Lost)
            assert "nothing is kept of client/op" in lost.reason

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


def test_nothing_is_let_go_under_the_work_on_it(tmp_path: Path) -> None:
    """A release waits for what the compute thread is at, which may be a commitment to what would be let go."""
    gate = threading.Event()

    async def act(nodes: dict[str, Node]) -> None:
        await end_of(nodes["a"], session_job())
        host = nodes["b"].host
        proofs = host.proofs
        assert proofs is not None
        await until(lambda: any(op == "client/op" for op, *_ in proofs._kept))
        at_work = asyncio.create_task(host.compute.run(gate.wait, 30.0))
        host.submit("worker", 1, encode(ReleaseJob("client/op")))
        for _ in range(10):  # each has its turn
            await asyncio.sleep(0)
        assert any(op == "client/op" for op, *_ in proofs._kept)
        gate.set()
        await at_work
        await until(lambda: not proofs._kept)

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


@pytest.mark.nightly
def test_a_real_village_puts_out_who_leaves_a_layer_out(tmp_path: Path) -> None:
    """Processes over TLS: the cheat is convicted after three sessions, its neighbours serve on, answers are right."""
    plain = compose_plain([
        "scenario=four_desks", "world=local", "fleet.desktops=5", "fleet.committee=1", "policy/serving=batched",
        "policy.coordination.spot_checks={share: 1.0, wait_s: 6.0, strikes: 3}", "duration_s=8", "profile=''",
        "workload.requests=24",
    ])  # fmt: skip
    plain["fleet"]["shaped"] = {f"desk-{k}": {"memory_bytes": 25165824 * 3 // 2} for k in range(5)}
    plain["adversaries"] = [{"behaviours": [{"kind": "shirk", "cheat": "skipped_layer"}], "names": ["desk-1"]}]
    record = run_local(build(plain), tmp_path)
    told = [(row[3], json.loads(row[4])) for row in record.tables["decisions"]]

    assert [detail[1] for kind, detail in told if kind == "found_false"] == ["desk-1"]
    assert {detail[4] for kind, detail in told if kind == "checked" and detail[5] == "outputs"} == {"desk-1"}
    assert {detail[5] for kind, detail in told if kind == "checked" and detail[4] != "desk-1"} == {"honest"}
    assert record.manifest["checks"]["no_honest_worker_convicted"] is True
    assert record.manifest["fidelity"]["verification"] == "computed"
    assert record.summary["checking_bytes"] > 0
    assert record.summary["checking_s"] > 0
    assert record.summary["checking_noticed_always"] == 1.0  # every session is checked, and float32 finds every cheat
    assert 0.0 < record.summary["checking_cost_share"] < 0.5
    assert record.summary["wrong_answers"] < record.summary["requests_answered"]


@pytest.mark.nightly
def test_a_real_village_of_two_models_checks_both(tmp_path: Path) -> None:
    """Two of four processes die and return: what either model answered is checked, and every place is honest."""
    plain = compose_plain([
        "scenario=degraded", "world=local", "profile=''", "duration_s=60", "workload.requests=60",
        "policy.coordination.spot_checks={share: 1.0, wait_s: 6.0}",
        "policy.coordination.degrade.dwell_s=3", "policy.coordination.degrade.drain_s=2",
    ])  # fmt: skip
    plain["faults"] = [{"kind": "crash", "at_s": 9.0, "node": f"desk-{k}", "down_s": 3.0} for k in (2, 3)]
    record = run_local(build(plain), tmp_path)
    told = [json.loads(row[4]) for row in record.tables["decisions"] if row[3] == "checked"]
    rows = [dict(zip(TABLES["requests"], row, strict=True)) for row in record.tables["requests"]]
    checked = {row["model"] for row in rows if row["op_id"] in {detail[2] for detail in told if detail[5] == "honest"}}

    assert checked == {"desk-tiny", "desk-mini"}
    assert all(row["correct"] for row in rows)
    # Who died lost what it kept, and so is unbound or forgetful; nobody else is anything but honest.
    assert {detail[4] for detail in told if detail[5] != "honest"} <= {"desk-2", "desk-3"}
    assert {name: verdict for name, verdict in record.manifest["checks"].items() if verdict is not True} == {}


@pytest.mark.parametrize(("field", "value"), [("executor", "paced"), ("activations", "f16")])
def test_what_cannot_be_checked_is_refused(field: str, value: str) -> None:
    """Workers that compute nothing have nothing to commit to; neighbours must hold the same numbers."""
    plain = compose_plain([
        "scenario=four_desks", "world=local", "policy.coordination.spot_checks={share: 1.0}", f"{field}={value}",
        "profile=''",
    ])  # fmt: skip
    with pytest.raises(ScenarioError, match=f"{field}='{value}': with spot_checks"):
        build(plain)
