"""What each behaviour does to what a Cell says and hears: one promise each, on a stand-in fed by hand."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.commands import Accept, Complete, Dissolve, Evict, Place, Receipt, Refuse, decode
from policies.jobs import Done, LoadJob, Lost, Outcome, Progress, SessionJob, Stage
from policies.wire import encode
from policies.work import Leased, NotLeader, Report
from scenarios.adversaries import behaviours as b
from scenarios.adversaries.payload import plain
from tests.scenarios.adversaries.inner import PEERS, RING, START, TICK, Inner, Liar, S, send

_outcome: Any = msgspec.msgpack.Decoder(Outcome).decode  # type: ignore[arg-type]
JOB = SessionJob("op", "m", (Stage("n0", 0, 1),), "prompt", "n1", 5, 7, 1)
VOTES = tuple(send(peer, "vote", 7) for peer in PEERS)


def heard(peer: str, *message: Any) -> tuple[Any, ...]:
    """Return the input of a message."""
    return (p.MESSAGE, "raft", peer, encode(list(message)))


def said(effects: tuple[Any, ...]) -> list[Any]:
    """Return (to, message) of every send."""
    return [(e[2], plain(e[3])) for e in effects if e[0] == p.SEND]


def test_a_silent_node_works_on_and_says_nothing() -> None:
    """Sends and replies are dropped, everything else remains, and it still hears."""
    rest = ((p.DECIDE, "raft", "k", b"x"), (p.SAVE, "raft", 1, ()), (p.SUBMIT, "raft", 1, encode(JOB)))
    liar = Liar(b.Silent(), effects=(*VOTES, (p.REPLY, "raft", "c", "op", b"x", True), *rest))

    assert liar(1.0, heard("n1", "vote", 1)) == rest
    assert liar.inner.given[-1] == heard("n1", "vote", 1)


def test_silence_may_be_of_a_kind_to_a_peer_or_of_the_ears() -> None:
    """Tags and peers narrow it; a deaf node speaks but is told nothing, timers apart."""
    both = (send("n1", "vote", 7), send("n2", "vote", 7), send("n1", "lead", 7))
    narrow = Liar(b.Silent(tags=("vote",), peers=("n1",)), effects=both)
    deaf = Liar(b.Silent(side="receive", peers=("n1",)), effects=both)

    assert narrow(1.0) == both[1:]
    assert deaf(1.0, heard("n1", "vote", 1)) == ()
    assert deaf(1.0, heard("n2", "vote", 1)) == deaf(1.0) == both


def test_half_a_silence_drops_about_half() -> None:
    """Of 4,000 sends at share 0.5 between 45 and 55 percent leave (six standard deviations)."""
    liar = Liar(b.Silent(share=0.5), effects=VOTES)
    left = sum(len(liar(1.0)) for _ in range(1000))

    assert 1800 < left < 2200


def test_what_is_withheld_never_comes_or_comes_n_messages_late() -> None:
    """Without a lag a kind is lost; with one each peer is that many messages behind."""
    liar, late = Liar(b.Withhold(tags=("vote",))), Liar(b.Withhold(tags=("vote",), lag=2))
    sent = []
    for number in range(5):
        for one in (liar, late):
            one.inner.effects = (send("n1", "vote", number), send("n1", "lead", number))
        assert said(liar(1.0)) == [("n1", ["lead", number])]
        sent.append([m[1] for _, m in said(late(1.0)) if m[0] == "vote"])

    assert sent == [[], [], [0], [1], [2]]


def test_a_delayed_message_leaves_within_its_bound_and_once() -> None:
    """It leaves by the wrapper's own timer, up to the bound or exactly at it, and only to the peers meant."""
    liar = Liar(b.Delay(bound_s=2.0, peers=("n1", "n2")), effects=VOTES)
    exact = Liar(b.Delay(bound_s=2.0, exactly=True), effects=VOTES[:1])
    now = liar(1.0)
    timers = [e for e in now if e[0] == p.SET_TIMER]

    assert said(now) == [("n3", ["vote", 7]), ("n4", ["vote", 7])]
    assert all(S <= timer[3] <= 3 * S for timer in timers)
    assert sorted(effect for timer in timers for effect in liar.wake(timer)) == sorted(VOTES[:2])
    assert [liar.wake(timer) for timer in timers] == [(), ()]
    assert exact(1.0)[0][3] == 3 * S


def test_reordered_messages_all_leave_in_another_order() -> None:
    """A full window leaves shuffled, the rest at its time-out; nothing is lost or doubled."""
    liar = Liar(b.Reorder(window=4, at_most_s=0.5))
    orders = []
    for start in range(0, 40, 4):
        liar.inner.effects = tuple(send("n1", "vote", start + k) for k in range(4))
        orders.append([m[1] for _, m in said(liar(1.0))])
    liar.inner.effects = (send("n1", "vote", 99),)
    (timer,) = liar(2.0)

    assert all(sorted(order) == list(range(4 * k, 4 * k + 4)) for k, order in enumerate(orders))
    assert sum(order != sorted(order) for order in orders) > 5
    assert timer[3] == int(2.5 * S)
    assert said(liar.wake(timer)) == [("n1", ["vote", 99])]


def test_a_replay_says_again_what_is_old_enough_and_changes_nothing_else() -> None:
    """Every second one of its own messages of five seconds ago or more leaves again; with ``heard`` also others'."""
    liar = Liar(b.Replay(), started=False)
    timer = liar(0.0, START)[-1]
    liar.inner.effects = (send("n1", "vote", 1),)
    assert said(liar(1.0)) == [("n1", ["vote", 1])]
    liar.inner.effects = ()
    seen = []
    for _ in range(9):
        *again, timer = liar.wake(timer)
        seen.append(len(again))
    parrot = Liar(b.Replay(heard=True, age_s=0.0, from_s=2.0), started=False)
    tick = parrot(0.0, START)[-1]
    parrot(1.0, heard("n1", "vote", 3))
    (echo, _) = parrot.wake(tick)

    assert seen == [0, 0, 0, 0, 0, 0, 1, 1, 1]  # at 0, 1, ... 8 s
    assert tick[3] == 2 * S
    assert (echo[2] in PEERS, plain(echo[3])) == (True, ["vote", 3])


@pytest.mark.parametrize("first", [False, True])
def test_a_replay_remembers_its_last_messages_or_its_first(first: bool) -> None:
    """However much is said since, what is drawn from is 256 of them at one end."""
    liar = Liar(b.Replay(age_s=0.0, burst=1000, first=first), started=False)
    timer = liar(0.0, START)[-1]
    for number in range(600):
        liar.inner.effects = (send("n1", "vote", number),)
        liar(0.5)
    liar.inner.effects = ()
    *_, timer = liar.wake(timer)
    *again, _ = liar.wake(timer)

    drawn = {message[1] for _, message in said(tuple(again))}
    assert drawn <= {*(range(256) if first else range(344, 600))}
    assert len(drawn) > 200


def test_a_flood_counts_up_for_everybody() -> None:
    """Each tick all peers hear the newest message with a higher number, starting from one heard if none was said."""
    liar = Liar(b.Flood(tags=("ask",), by=2), started=False)
    timer = liar(0.0, START)[-1]
    assert liar.wake(timer)[:-1] == ()
    liar(0.01, heard("n1", "ask", 5))
    *first, timer = liar.wake(timer)
    *second, _ = liar.wake(timer)

    assert said(tuple(first)) == [(peer, ["ask", 7]) for peer in PEERS]
    assert said(tuple(second)) == [(peer, ["ask", 9]) for peer in PEERS]


@pytest.mark.parametrize(
    ("change", "fields", "before", "after"),
    [
        ("add", {"by": 1000}, 7, 1007), ("add", {"by": -1}, 7, 6), ("flip", {}, 7, 6), ("flip", {}, True, False),
        ("set", {"to": True}, False, True), ("add", {}, "x", "x"), ("flip", {}, b"ab", b"ac"),
    ],
)  # fmt: skip
def test_a_corrupted_field_is_the_lie_asked_for(change: Any, fields: Any, before: Any, after: Any) -> None:
    """One field changes, in messages of its tag alone; what the change does not fit stays."""
    liar = Liar(b.Corrupt(tags=("vote",), field=(0,), change=change, **fields))
    liar.inner.effects = (send("n1", "vote", before, 5), send("n1", "lead", before), send("n1", "vote"))

    assert said(liar(1.0)) == [("n1", ["vote", after, 5]), ("n1", ["lead", before]), ("n1", ["vote"])]


def test_an_old_value_is_that_of_the_first_message() -> None:
    """``old`` repeats what the first message of that tag said, and a digest is another of the same length."""
    liar = Liar(b.Corrupt(tags=("vote",), field=(0,), change="old"))
    digests = Liar(b.Corrupt(tags=("vote",), field=(0,), change="digest"), effects=[send("n1", "vote", "ab" * 20)])
    for number in (3, 4, 5):
        liar.inner.effects = (send("n1", "vote", number),)
        assert said(liar(1.0)) == [("n1", ["vote", 3])]
    ((_, (_, lie)),) = said(digests(1.0))

    assert (len(lie), lie == "ab" * 20) == (40, False)


def test_jobs_and_the_blobs_they_name_are_corrupted_too() -> None:
    """A prompt's digest on its way to the executor, and an output's on its way back; nothing that changes a type."""
    asks = Liar(b.Corrupt(tags=("session",), field=(3,), change="digest", on="submit"))
    asks.inner.effects = ((p.SUBMIT, "worker", 1, encode(JOB)),)
    hears = Liar(b.Corrupt(tags=("done",), field=(0,), change="set", to="lie", on="outcome"))
    wrong = Liar(b.Corrupt(tags=("done",), field=(0,), change="set", to=5, on="outcome"))
    done = (p.JOB, "worker", 1, encode(Done("right", 5, 7)))
    hears(1.0, done)
    wrong(1.0, done)
    job = msgspec.msgpack.decode(asks(1.0)[0][3], type=SessionJob)

    assert (job.prompt == JOB.prompt, len(job.prompt), job.model) == (False, len(JOB.prompt), "m")
    assert _outcome(hears.inner.given[-1][3]) == Done("lie", 5, 7)
    assert wrong.inner.given[-1] == done


def signing(*behaviours: b.Behaves, **more: Any) -> tuple[Liar, bytes]:
    """Return a liar whose Cell sends a signed receipt, and the honest signature."""
    liar = Liar(*behaviours, **more)
    receipt = Receipt("c", "op", "out", 5, (Stage("n0", 0, 1),))
    signature = liar.inner.keys.sign(encode(receipt))
    report = Report("c", "op", 1, "", "", "out", 5, 7, signature)
    liar.inner.effects = ((p.SEND, "worker", "n1/coordination", encode(report)),)
    return liar, signature


def test_a_resigned_lie_verifies_and_its_signature_is_journalled() -> None:
    """The new signature is over the receipt with the lie in it, it is paid for, and it leaves as SIGNED."""
    liar, _ = signing(b.ForgeReceipts(factor=10))
    before = liar.cell.crypto_ops
    sent, signed = liar(1.0)
    report = msgspec.msgpack.decode(sent[3], type=Report)
    claimed = Receipt("c", "op", "out", 50, (Stage("n0", 0, 1),))

    assert report.tokens == 50
    assert RING.handle("n1").verify("n0", encode(claimed), report.signature)
    assert signed == (p.SIGNED, "~0", report.signature)
    assert liar.cell.crypto_ops == before + 2 + 1


def test_a_lie_that_is_not_signed_again_does_not_verify() -> None:
    """Corrupt alone leaves the old signature, which is of something else."""
    liar, signature = signing(b.Corrupt(tags=("report",), field=(6,)))
    report = msgspec.msgpack.decode(liar(1.0)[0][3], type=Report)

    assert (report.tokens, report.signature) == (6, signature)


def test_a_wrong_key_verifies_for_nobody_and_a_mates_for_the_mate() -> None:
    """Signatures made up are nobody's; those of the coalition's next member are that member's alone."""
    made_up, _ = signing(b.WrongKey())
    mates, _ = signing(b.WrongKey(mate=True), coalition=("n0", "n4"))
    receipt = encode(Receipt("c", "op", "out", 5, (Stage("n0", 0, 1),)))
    names = ("n0", *PEERS)
    verdicts = []
    for liar in (made_up, mates):
        report = msgspec.msgpack.decode(liar(1.0)[0][3], type=Report)
        verdicts.append([name for name in names if RING.handle("n1").verify(name, receipt, report.signature)])

    assert verdicts == [[], ["n4"]]


def test_split_payloads_differ_by_group_and_a_coalition_draws_one_split() -> None:
    """Named groups hear their own value each; drawn halves are those of the party, whoever of it speaks."""
    named = Liar(b.Split(tags=("vote",), field=(0,), groups=(("n1",), ("n2", "n3"))), effects=VOTES)
    halves = []
    for me, party in (("n0", ("n0", "n9")), ("n9", ("n0", "n9")), ("n0", ())):
        liar = Liar(b.Split(tags=("vote",), field=(0,)), effects=VOTES, me=me, coalition=party, seed=3)
        halves.append([m[1] for _, m in said(liar(1.0))])

    assert [m[1] for _, m in said(named(1.0))] == [8, 9, 9, 7]
    assert halves[0] == halves[1] != halves[2]
    assert set(halves[0]) == {7, 8}


def test_a_double_vote_is_said_to_everybody_twice() -> None:
    """Each peer hears the vote and its contrary."""
    liar = Liar(b.DoubleVote(tags=("vote",), field=(0,)), effects=VOTES[:2])

    assert said(liar(1.0)) == [(n, ["vote", x]) for n in ("n1", "n2") for x in (7, 8)]


def test_another_name_is_written_and_the_victims_words_passed_on() -> None:
    """Its own name becomes the victim's at any depth; what the victim says goes to the others too."""
    liar = Liar(b.Impersonate(victim="n1", forward=True), effects=[send("n2", "vote", "n0", [["n0", 1]], "n3")])

    assert said(liar(1.0)) == [("n2", ["vote", "n1", [["n1", 1]], "n3"])]
    forwarded = said(liar(1.0, heard("n1", "lead", 9)))[1:]
    assert forwarded == [(peer, ["lead", 9]) for peer in PEERS if peer != "n1"]


def test_forged_certificates_name_one_signer() -> None:
    """Over and over, or alone."""
    certificate = send("n1", "qc", 3, [["n1", b"s1"], ["n2", b"s2"], ["n3", b"s3"]])
    twice = Liar(b.ForgeCertificate(tags=("qc",), field=(1,)), effects=[certificate])
    few = Liar(b.ForgeCertificate(tags=("qc",), field=(1,), how="below_quorum"), effects=[certificate])

    assert said(twice(1.0)) == [("n1", ["qc", 3, [["n1", b"s1"]] * 3])]
    assert said(few(1.0)) == [("n1", ["qc", 3, [["n1", b"s1"]]])]


def test_sybils_speak_in_names_of_their_own_or_with_keys_of_mates() -> None:
    """Invented names come with signatures that verify for nobody; those of mates with theirs."""
    effects = (send("n1", "vote", "n0"),)
    invented, keyed = (
        Liar(b.Sybil(identities=2), effects=effects),
        Liar(b.Sybil(keyed=True), effects=effects, coalition=("n0", "n3", "n4")),
    )

    assert [m[1] for _, m in said(invented(1.0))] == ["n0", "n0~1", "n0~2"]
    assert [m[1] for _, m in said(keyed(1.0))] == ["n0", "n3", "n4"]
    signature = keyed.inner.keys.sign(encode(["n0", 7]))
    keyed.inner.effects = (send("n1", "vote", "n0", 7, signature),)
    votes = [m for _, m in said(keyed(1.0))]
    assert all(RING.handle("n1").verify(m[1], encode([m[1], 7]), m[3]) for m in votes)


def test_colluders_whisper_spare_one_another_and_replay_what_mates_heard() -> None:
    """What one hears its mate can replay; lies go to outsiders only; an outsider's whisper is not believed."""
    party = ("n0", "n4")
    one = Liar(b.Silent(), b.Collude(), effects=VOTES, coalition=party)
    other = Liar(b.Replay(heard=True, age_s=0.0, from_s=3.0), b.Collude(), me="n4", coalition=party, started=False)
    tick = other(0.0, START)[-1]
    effects = one(1.0, heard("n1", "lead", 2))
    whisper = next(e for e in effects if e[1] == "~~ring")

    assert [to for to, _ in said(effects[:-1])] == ["n4"]  # silent to all but its mate
    assert whisper[2] == "n4"
    assert other(2.0, (p.MESSAGE, "~~ring", "n2", encode(("raft", encode(["lead", 666]))))) == ()
    assert other(2.0, (p.MESSAGE, "~~ring", "n0", whisper[3])) == ()
    assert other.inner.given == [START]
    assert list(other.cell.place.memory) == [("raft", encode(["lead", 2]))]
    replayed = said(other.wake(tick))
    assert [m for _, m in replayed] == [["lead", 2]]
    assert replayed[0][0] not in party


def test_colluders_take_turns() -> None:
    """With turns one member at a time misbehaves, in the order of the coalition."""
    members = ("n0", "n1", "n2")
    liars = [
        Liar(b.Silent(), b.Collude(turn_s=1.0, whisper=False), effects=[send("n4", "v", 1)], me=n, coalition=members)
        for n in members
    ]
    silent = [[liar(now) == () for liar in liars] for now in (0.5, 1.5, 2.5, 3.5)]

    assert silent == [[True, False, False], [False, True, False], [False, False, True], [True, False, False]]


@pytest.mark.parametrize(
    ("clock", "walls"),
    [
        (b.SkewedClock(amount_s=-3600.0, from_s=10.0), [5, 20 - 3600, 120 - 3600]),
        (b.SkewedClock(shape="linear", ppm=100_000, from_s=10.0), [5, 21, 131]),
        (b.SkewedClock(shape="periodic", amount_s=8.0, period_s=40.0, from_s=10.0), [5, 28, 112]),
        (b.SkewedClock(amount_s=7.0, from_s=10.0, until_s=100.0), [5, 27, 120]),
    ],
)
def test_a_wall_clock_is_off_by_step_drift_or_swing(clock: b.SkewedClock, walls: list[float]) -> None:
    """At 5, 20 and 120 s the wall clock shows what the shape says; the monotonic one and timers are untouched."""
    timer = (p.SET_TIMER, "raft", "t", 200 * S, 1)
    liar = Liar(clock, effects=[timer])
    for now, wall in zip((5.0, 20.0, 120.0), walls, strict=True):
        assert liar(now) == (timer,)
        assert liar.inner.times[-1] == (int(now * S), int(wall * S))


@pytest.mark.parametrize(
    "clock",
    [
        b.SkewedClock(shape="linear", ppm=250_000, monotonic=True, from_s=1.0, until_s=50.0),
        b.SkewedClock(shape="linear", ppm=-500_000, monotonic=True),
        b.SkewedClock(shape="periodic", amount_s=9.0, period_s=40.0, monotonic=True),
    ],
)
def test_a_skewed_monotonic_clock_never_runs_back_and_fires_timers_when_it_reads_their_deadline(
    clock: b.SkewedClock,
) -> None:
    """A deadline is turned into the first moment at which the Cell's own clock has reached it."""
    liar = Liar(clock)
    for tenths in range(1, 800, 7):
        now_s = tenths / 10
        liar(now_s)
        mine = liar.inner.times[-1][0]
        assert mine >= liar.inner.times[-2][0]
        liar.inner.effects = ((p.SET_TIMER, "raft", "t", mine + 3 * S, 1),)
        (timer,) = liar(now_s)
        liar.inner.effects = ()
        for moment, reached in ((timer[3], True), (timer[3] - 1, False)):
            probe = Liar(clock)
            probe.cell.step(moment, moment, TICK)
            assert (probe.inner.times[-1][0] >= mine + 3 * S) is reached


def test_a_monotonic_skew_that_ends_keeps_its_offset() -> None:
    """Ten seconds at a quarter too fast leave it 2.5 s ahead for good, at the right rate."""
    liar = Liar(b.SkewedClock(shape="linear", ppm=250_000, monotonic=True, from_s=10.0, until_s=20.0))
    for now_s, mine_s in ((9.0, 9.0), (14.0, 15.0), (20.0, 22.5), (100.0, 102.5)):
        liar(now_s)
        assert liar.inner.times[-1] == (int(mine_s * S), int((mine_s if now_s < 20 else now_s) * S))


def test_twins_live_two_lives_from_one_state() -> None:
    """The second life starts on what was durable, each speaks with and hears its own peers, and keeps its own disk."""
    liar = Liar(b.Twins(peers=("n1", "n2"), from_s=5.0), effects=VOTES)
    save = (p.SAVE, "raft", 1, (("raft/vote", b"7"),))
    liar.inner.effects = (save,)
    liar(1.0)
    liar(2.0, (p.DURABLE, "raft", 1))
    liar.inner.effects = VOTES
    assert said(liar(6.0)) == [(n, ["vote", 7]) for n in ("n3", "n4")]
    twin = liar.inners[1]
    twin.effects = (*VOTES, save, (p.SET_TIMER, "raft", "t", 9 * S, 4), (p.SUBMIT, "raft", 1, b"x"))
    effects = liar(6.0, heard("n1", "vote", 1))

    assert twin.given == [(p.START, "", {"raft/vote": b"7"}, 1 << 32), heard("n1", "vote", 1)]
    assert [to for to, _ in said(effects)] == ["n1", "n2"]
    assert effects[2:] == (
        (p.SAVE, "~0:raft", 1, (("~0:raft/vote", b"7"),)), (p.SET_TIMER, "~0:raft", "t", 9 * S, 4),
        (p.SUBMIT, "~0:raft", (1 << 40) + 1, b"x"),
    )  # fmt: skip
    liar(6.0, (p.TIMER, "~0:raft", "t", 4))
    liar(6.0, (p.JOB, "~0:raft", (1 << 40) + 1, b"y"))
    assert twin.given[-2:] == [(p.TIMER, "raft", "t", 4), (p.JOB, "raft", 1, b"y")]
    assert len(liar.inner.given) == 4


def test_a_twin_that_restarts_keeps_its_own_memory() -> None:
    """Each life begins again with its own saves."""
    liar = Liar(b.Twins(peers=("n1",)), started=False)
    liar(1.0, (p.START, "", {"raft/vote": b"7", "~0:raft/vote": b"9"}, 1))

    assert [inner.given[0][2] for inner in liar.inners] == [{"raft/vote": b"7"}, {"raft/vote": b"9"}]


def test_a_twin_puts_what_it_begins_with_on_the_disk() -> None:
    """Its later saves are changes to that: a life that began with them alone would be nobody's."""
    behaviour = b.Twins(peers=("n1",), from_s=5.0)
    first = Liar(behaviour, effects=[(p.SAVE, "raft", 1, (("raft/vote", b"7"), ("raft/log", b"a")))])
    first(1.0)
    first.inner.effects = ()
    first(1.0, (p.DURABLE, "raft", 1))
    (kept,) = first(6.0)
    disk = {"raft/vote": b"8", "raft/log": b"ab", **dict(kept[3]), "~0:raft/vote": b"9"}
    again = Liar(behaviour, started=False)
    again(6.0, (p.START, "", disk, 1))

    assert kept[:3] == (p.SAVE, "~0", 1)
    assert again.inners[1].given[0][2] == {"raft/vote": b"9", "raft/log": b"a"}


def test_an_old_state_comes_back_at_every_restart() -> None:
    """What was durable at ``from_s`` is put aside on disk, and is all that later lives are given."""
    behaviour = b.OldState(from_s=5.0)
    first = Liar(behaviour, effects=[(p.SAVE, "raft", 1, (("raft/vote", b"7"),))])
    first(1.0)
    first.inner.effects = ()
    first(1.0, (p.DURABLE, "raft", 1))
    (kept,) = first(5.0)
    assert first(6.0) == ()  # it is put aside once
    disk = {"raft/vote": b"8", **dict(kept[3])}
    again = Liar(behaviour, started=False)
    again(6.0, (p.START, "", disk, 1))

    assert kept[:3] == (p.SAVE, "~0", 1)
    assert again.inner.given == [(p.START, "", {"raft/vote": b"7"}, 1)]
    assert again(7.0) == ()
    forgets = Liar(b.OldState(nothing=True), started=False)
    forgets(6.0, (p.START, "", disk, 1))
    assert forgets.inner.given[0][2] == {}


def test_a_liar_replaces_outputs_and_only_outputs() -> None:
    """A session's output is replaced by another of the same form, always the same one; the rest passes."""
    liar = Liar(b.WrongResults())
    passing = [Progress(3), Lost("gone", "n1"), Done("", 0, 0, b"plan")]
    for outcome in (Done("right", 5, 7), Done("right", 5, 7), Done("other", 5, 7), *passing):
        liar(1.0, (p.JOB, "worker", 1, encode(outcome)))
    first, second, third, *rest = [_outcome(given[3]) for given in liar.inner.given[1:]]

    assert first == second
    assert len({first.output, third.output, "right", "other"}) == 4
    assert (len(first.output), first.tokens, first.first_token_ns) == (40, 5, 7)
    assert rest == passing


def test_a_lazy_worker_never_runs_what_it_reports() -> None:
    """Sessions do not reach the executor and are done all the same; loads do; what is given up stays so."""
    load = (p.SUBMIT, "worker", 2, encode(LoadJob("m", 0, 1)))
    liar = Liar(b.Lazy(after_s=0.5), effects=[(p.SUBMIT, "worker", 1, encode(JOB)), load])
    timer, loading = liar(1.0)
    liar.inner.effects = ()
    liar.wake(timer)
    _, path, job_id, payload = liar.inner.given[-1]
    done = _outcome(payload)

    assert (timer[0], timer[3], loading) == (p.SET_TIMER, int(1.5 * S), load)
    assert (path, job_id, done.tokens, len(done.output)) == ("worker", 1, JOB.new_tokens, 40)
    liar.inner.effects = ((p.SUBMIT, "worker", 3, encode(JOB)), (p.CANCEL, "worker", 3), (p.CANCEL, "worker", 9))
    timer, cancel = liar(2.0)
    steps = len(liar.inner.given)
    assert cancel == (p.CANCEL, "worker", 9)
    assert liar.wake(timer) == ()
    assert len(liar.inner.given) == steps


def test_a_free_rider_refuses_work_and_blames_nobody() -> None:
    """Its session is lost at once, without a node to blame."""
    liar = Liar(b.FreeRide(), effects=[(p.SUBMIT, "worker", 1, encode(JOB))])
    (timer,) = liar(1.0)
    liar.inner.effects = ()
    liar.wake(timer)

    assert timer[3] == S
    assert _outcome(liar.inner.given[-1][3]) == Lost("busy")


def test_a_usurper_gives_leases_where_it_would_point_to_the_leader_and_unasked() -> None:
    """To whoever asks it, and every two seconds to all whom it knows; what else it says stays as it was."""
    pointing = (p.SEND, "coordination", "w/worker", encode(NotLeader("n1")))
    liar = Liar(b.Usurp(every_s=2.0), started=False)
    tick = liar(0.0, START)[-1]
    liar.inner.effects = (pointing, VOTES[0])
    lease, vote = liar(1.0, (p.MESSAGE, "coordination", "w", b""))
    liar.inner.effects = ()
    *unasked, again = liar.wake(tick)

    assert (lease, vote) == ((*pointing[:3], encode(Leased())), VOTES[0])
    assert {said[2:4] for said in unasked} == {(f"{node}/worker", encode(Leased())) for node in ("w", *PEERS)}
    assert again[3] == tick[3] + 2 * S


@pytest.mark.parametrize("protocol", ["hotstuff", "pbft"])
def test_a_meddler_asks_members_for_what_is_the_leaders_to_ask(protocol: str) -> None:
    """Evictions of all others, and what can be done to the pipeline and the request that it heard of in the log."""
    liar = Liar(b.Meddle(every_s=2.0), started=False)
    tick = liar(0.0, START)[-1]
    place, accept = Place(7, "m", (), 1.0), Accept("c", "1", "m", "p", "n1", 5, 7, 2, 1, 2)
    tag = "pre_prepare" if protocol == "pbft" else "proposal"
    liar(1.0, (p.MESSAGE, "consensus", "n1", encode([tag, [encode(place), [encode(accept)], b"\xc1"]])))
    asked = liar.wake(tick)
    (again,) = [e for e in asked if e[0] == p.SET_TIMER]
    sent: list[Any] = [plain(e[3]) for e in asked if e[0] == p.SEND and e[2] == "n1"]
    wishes = [decode(said[3] if protocol == "pbft" else said[1][0][4]) for said in sent]

    assert {said[0] for said in sent} == {"request" if protocol == "pbft" else "forward"}
    assert [wish.node for wish in wishes if isinstance(wish, Evict)] == list(PEERS)
    assert Dissolve(7, "meddled with") in wishes
    assert isinstance(wishes[-1], Refuse | Complete)
    assert again[3] == tick[3] + 2 * S


def test_the_stand_in_is_as_honest_as_a_cell() -> None:
    """Attached to nothing, it answers with its effects: the tests above see only what behaviours do."""
    inner = Inner(RING.handle("n0"), VOTES)

    assert inner.step(0, 0, TICK) == VOTES
