"""Copies in simulated compute: a standby has what was sent to it, and the next attempt runs no more than it lacks."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from models import inference
from policies import port as p
from policies.jobs import CoverJob, FreeJob, Lost, Standby
from policies.wire import encode
from sim import answers
from sim.answers import answer_digest
from sim.copies import Copies
from tests.sim.bench_compute import FAST, LAYERS, RATE, SHAPE, Bench

PROMPT, NEW, CUT = 400, 300, 8
EVERY = 8
DIES_S, AGAIN_S = 12.0, 20.0
Way = Literal["checkpoint", "buddy"]


def lost(way: Way | None, index: int = 1, until: int = 10_000, **network: Any) -> tuple[Bench, Lost]:
    """Return a bench where one of two stages died in the middle of an answer, and what its head heard.

    Device 2 stood by for it, by a way if any. Of a head that dies only what it told is known.
    """
    bench = Bench(FAST, FAST, FAST, **network)
    standbys = (Standby(index, "d2", way, EVERY, until),) if way else ()
    job = bench.ask(0, PROMPT, NEW, CUT, kept="a/1", standbys=standbys)
    bench.at(DIES_S, bench.world.crash, bench.world.by_name[f"d{index}"])
    outcome = bench.run(AGAIN_S - 0.5).get(job, (0.0, Lost("")))[1]
    assert isinstance(outcome, Lost)
    return bench, outcome


def again(bench: Bench, forced: tuple[int, ...], index: int = 1, **prepared: Any) -> tuple[float, Any]:
    """Run the next attempt, with device 2 in the dead one's place; return its seconds and its outcome."""
    nodes = ("d0", "d2") if index else ("d2", "d1")
    how = {"kept": "a/1", "resume": True} | prepared
    job = bench.ask(AGAIN_S, PROMPT, NEW, CUT, forced=forced, nodes=nodes, **how)
    ended_s, outcome = bench.run()[job]
    return ended_s - AGAIN_S, outcome


@pytest.mark.parametrize("way", ["checkpoint", "buddy"])
@pytest.mark.parametrize("index", [0, 1])
def test_the_next_attempt_runs_what_the_standby_lacks(way: Way, index: int) -> None:
    """No more than an interval and what was on its way goes in again; the answer is true, and earlier by a prefill."""
    bench, outcome = lost(way, index)
    forced = outcome.emitted if index else answers.tokens(SHAPE.name, "prompt", 0, 100)
    prepared_s, done = again(bench, forced, index)
    counts = bench.compute.copies.counts
    assert (counts["resumed"], counts["known"]) == (1, PROMPT + len(forced))
    assert 1 <= counts["again"] <= 4 * EVERY
    assert done.output == answer_digest(SHAPE.name, "prompt", NEW)

    bench, outcome = lost(None, index)
    replayed_s, done = again(bench, forced, index)
    assert bench.compute.copies.counts["again"] == PROMPT + len(forced)
    assert done.output == answer_digest(SHAPE.name, "prompt", NEW)
    # The prompt and what was decided, through both stages and over the link between them, less the little that is left.
    tokens = PROMPT + len(forced)
    replay_s = 2 * float(inference.prefill_s(SHAPE, CUT, FAST, tokens)) + tokens * SHAPE.activation_bytes() / RATE
    assert replayed_s - prepared_s == pytest.approx(replay_s, rel=0.2)


@pytest.mark.parametrize(
    ("way", "token_bytes"),
    [("checkpoint", SHAPE.activation_bytes()), ("buddy", (LAYERS - CUT) * SHAPE.kv_bytes_per_token_layer())],
)
def test_bytes_are_what_the_way_sends_of_a_token(way: Way, token_bytes: float) -> None:
    """An activation by a checkpoint, a layer's keys and values by a buddy, and no token beyond the bound."""
    bench, _ = lost(way, until=PROMPT + 5)
    assert bench.compute.copies.copied_bytes == pytest.approx((PROMPT + 5) * token_bytes)


def test_a_node_whose_pieces_are_held_small_sends_small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage's own share counts: of a limit of an eighth no copy has more than 64 tokens, and all are sent."""
    sent: list[int] = []
    came = Copies._came

    def noted(copies: Copies, stream: Any, flow: Any, tokens: int) -> None:
        sent.append(tokens)
        came(copies, stream, flow, tokens)

    monkeypatch.setattr(Copies, "_came", noted)
    most = []
    for held in ("d2", "d1"):  # the standby, which takes them; the stage, which sends them
        sent.clear()
        bench = Bench(FAST, FAST, FAST)
        for observe in bench.world.on_limit:
            observe(0, bench.world.by_name[held], (p.LIMIT, "edge", "chunk", 0.125))
        bench.ask(0, PROMPT, NEW, CUT, kept="a/1", standbys=(Standby(1, "d2", "checkpoint", EVERY, 10_000),))
        bench.run()
        most.append(max(sent))
        assert sum(sent) > PROMPT + NEW - 2 * EVERY

    assert most == [PROMPT, 64]


def test_copies_share_the_links_of_their_session() -> None:
    """A prompt's activations and its copies leave over one link, so that the first token is no sooner than without."""
    first = {}
    for way in ("buddy", None):
        bench = Bench(FAST, FAST, FAST)
        standbys = (Standby(0, "d2", way, 1, 10_000),) if way else ()
        job = bench.ask(0, 4000, 2, CUT, kept="a/1", standbys=standbys)
        first[way] = bench.run()[job][1].first_token_ns
    assert first["buddy"] > first[None]


@pytest.mark.parametrize("way", ["checkpoint", "buddy"])
@pytest.mark.parametrize("had", [False, True], ids=["nobody before", "in place of another"])
def test_a_standby_that_comes_later_gets_what_there_is(way: Way, had: bool) -> None:
    """It is told of half-way: what the stage took before comes as keys and values, the rest by its way, all of it."""
    bench = Bench(FAST, FAST, FAST, FAST)
    first = (Standby(1, "d3", "buddy", EVERY, 10_000),) if had else ()
    job = bench.ask(0, PROMPT, NEW, CUT, kept="a/1", standbys=first)
    late = CoverJob(job, (Standby(1, "d2", way, EVERY, 10_000),))
    bench.at(DIES_S / 2, bench.compute.submit, bench.world.by_name["d0"], "worker", 99, encode(late))
    bench.at(DIES_S, bench.world.crash, bench.world.by_name["d1"])
    outcome = bench.run(AGAIN_S - 0.5)[job][1]
    assert isinstance(outcome, Lost)
    again(bench, outcome.emitted)
    assert 1 <= bench.compute.copies.counts["again"] <= 4 * EVERY


def test_what_went_through_before_anybody_stood_by_is_sent_as_keys_and_values() -> None:
    """What entered the stage is not there any more; by a checkpoint it is sent from then on."""
    bench = Bench(FAST, FAST, FAST)
    job = bench.ask(0, PROMPT, NEW, CUT, kept="a/1", standbys=())
    taken: list[int] = []

    def cover() -> None:
        session = bench.compute.sessions[("d0", job)]
        late = CoverJob(job, (Standby(1, "d2", "checkpoint", EVERY, 10_000),))
        bench.compute.submit(session.node, "worker", 99, encode(late))
        taken.append(session.taken(1))

    bench.at(DIES_S / 2, cover)
    bench.run()
    later = bench.compute.copies.counts["copied"] - taken[0]
    key_bytes = (LAYERS - CUT) * SHAPE.kv_bytes_per_token_layer()
    assert taken[0] > PROMPT < PROMPT + later
    assert bench.compute.copies.copied_bytes == taken[0] * key_bytes + later * SHAPE.activation_bytes()


@pytest.mark.parametrize(
    "changes", [{"kept": "a/2"}, {"resume": False}], ids=["another request", "an attempt that does not ask"]
)
def test_what_is_of_something_else_is_not_used(changes: dict[str, Any]) -> None:
    """The attempt begins with the prompt."""
    bench, outcome = lost("checkpoint")
    again(bench, outcome.emitted, **changes)
    counts = bench.compute.copies.counts
    assert counts["again"] == counts["known"]


def test_another_beginning_shares_the_prompt_alone() -> None:
    """Tokens that the dead attempt did not say are run, with all that follow them."""
    bench, outcome = lost("checkpoint")
    other = tuple(token ^ 1 for token in outcome.emitted)
    again(bench, other)
    assert bench.compute.copies.counts["again"] == len(other)


@pytest.mark.parametrize("gone", ["standby crashed", "freed", "everything freed"])
def test_what_is_gone_is_not_used(gone: str) -> None:
    """A standby that was down, or was told to forget, has nothing."""
    bench, outcome = lost("checkpoint")
    node = bench.world.by_name["d2"]
    if gone == "standby crashed":
        bench.world.crash(node)
        bench.world.start(node)
    else:
        bench.compute.submit(node, "worker", 99, encode(FreeJob("a/1" if gone == "freed" else "")))
    again(bench, outcome.emitted)
    assert bench.compute.copies.counts["again"] == bench.compute.copies.counts["known"]


def test_a_partition_holds_copies_up() -> None:
    """Nothing is copied while the standby is out of reach; when it is back the copy goes on from where it was."""
    bench = Bench(FAST, FAST, FAST)
    cuts: list[Any] = []
    job = bench.ask(0, PROMPT, NEW, CUT, kept="a/1", standbys=(Standby(1, "d2", "checkpoint", EVERY, 10_000),))

    def cut() -> None:
        cuts.extend(bench.world.network.cut_off([2]))
        bench.compute.cut()

    bench.at(5.0, cut)
    bench.run(9.0)
    held = bench.compute.copies.copied_bytes
    bench.run(10.0)
    assert bench.compute.copies.copied_bytes == held
    bench.world.network.heal(cuts)
    assert bench.run()[job][1].tokens == NEW
    token_bytes = SHAPE.activation_bytes()
    assert (PROMPT + NEW - EVERY) * token_bytes < bench.compute.copies.copied_bytes < (PROMPT + NEW + 600) * token_bytes


def test_the_same_world_twice_is_the_same() -> None:
    """Copies are part of what repeats exactly."""
    ran = []
    for _ in range(2):
        bench, outcome = lost("checkpoint")
        ran.append((again(bench, outcome.emitted), bench.compute.copies.copied_bytes, bench.heard))
    assert ran[0] == ran[1]


@pytest.mark.parametrize("mover", ["d1", "d2"])
def test_a_copy_goes_again_when_an_end_is_on_another_network(mover: str) -> None:
    """An address that is gone ends a copy on its way; it goes again, so that nothing is held that did not come."""
    bench = Bench(FAST, FAST, FAST)
    bench.ask(0, 4000, NEW, CUT, kept="a/1", standbys=(Standby(1, "d2", "buddy", EVERY, 10_000),))
    copies = bench.compute.copies
    while not any(stream.flow for streams in copies._streams.values() for stream in streams):
        bench.world.run(bench.world.engine.now * 1e-9 + 0.01)
    (stream,) = copies._streams[1]
    copies.leave(bench.world.by_name["d0"])
    assert stream.flow is not None
    copies.leave(bench.world.by_name[mover])

    assert (stream.flow, stream.copied) == (None, 0)
    bench.world.run(bench.world.engine.now * 1e-9 + 100.0)
    assert stream.copied > 0
