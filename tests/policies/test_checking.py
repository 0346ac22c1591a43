"""Checks by commitment: workers are bound before anybody knows who is drawn, and who is found false twice is guilty."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.checking.messages import Bound, Checked, Key, Unable
from policies.config import PreparedConfig, SpotChecksConfig
from policies.coordination.trust import PRIOR
from policies.jobs import (
    CommitJob,
    Disowned,
    Done,
    OpenJob,
    Outcome,
    RecheckJob,
    Shown,
)
from policies.local import Lend
from policies.verification import Opening, Verdict
from policies.wire import Message, encode
from policies.work import FoundFalse, SettledOp
from sim.keys import KeyRing
from sim.world import Node
from tests.policies.small_village import RULES, TWO_HOLD_ALL, SmallVillage, ready

ALWAYS = (0, 1 << 62)
WAIT_S = 8.0


def checking(workers: int = 4, share: float = 1.0, seed: int = 1) -> SmallVillage:
    """Return a village of pipelines of two, where this share of the work is checked."""
    checks = SpotChecksConfig(share=share, wait_s=WAIT_S)
    rules = msgspec.structs.replace(RULES, spot_checks=checks)
    return ready(workers, memory_bytes=TWO_HOLD_ALL, rules=rules, seed=seed)


def serve(village: SmallVillage, requests: int, between_s: float = 2.0) -> None:
    """Ask so many requests, one after another, and let all checks of them end."""
    for number in range(requests):
        village.ask(str(number))
        village.run(between_s)
    village.run(4 * WAIT_S)


def hear(village: SmallVillage, sender: str, message: Message) -> None:
    """The leader's examiner hears this, late."""
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "examiner", sender, encode(message)))
    village.run(1.0)


def under_check(village: SmallVillage) -> Any:
    """Return the one check that the leader has begun."""
    examiner: Any = village._policy(village.leader, "examiner")
    (check,) = examiner.checks.values()
    return check


def words(village: SmallVillage, node: str = "") -> Counter[str]:
    """Return how often each word was said of a node, or of any."""
    return Counter(checked.word for checked in village.seen(Checked) if node in ("", checked.node))


def out(village: SmallVillage) -> set[str]:
    """Return the workers that were evicted."""
    return {node for node, standing in village.state.members.items() if not standing}


def line_of(village: SmallVillage, node: str) -> list[str]:
    """Return the nodes of a worker's pipeline, from its head on."""
    (line,) = [line for line in village.coordination().lines.lines.values() if node in line.nodes]
    return list(line.nodes)


def lies(village: SmallVillage) -> dict[str, float]:
    """Return the workers of whom the leader thinks worse than of unknown ones, with the odds that they lie."""
    found = {name: village.coordination().trust.lies(name) for name in village.workers}
    return {name: p for name, p in found.items() if p > PRIOR}


def test_honest_work_is_checked_and_nobody_is_convicted() -> None:
    """Every stage of every answer is drawn, is found honest by one other worker, and keeps its standing."""
    village = checking()
    serve(village, 10)

    assert words(village) == {"honest": 20}
    assert all(checked.verifiers not in ((), (checked.node,)) for checked in village.seen(Checked))
    assert out(village) == set()
    assert village.coordination().trust.lies("w1") == PRIOR
    examiner: Any = village._policy(village.leader, "examiner")
    assert examiner.checks == {}


@pytest.mark.parametrize("cheat", ["wrong_layer", "skipped_layer", "four_bits", "stale_cache"])
def test_a_worker_that_cheats_is_convicted_and_its_neighbours_are_not(cheat: str) -> None:
    """Two others find each of its places false; three such places put it out, and nobody else."""
    village = checking()
    village.desk.cheats["w2"] = (cheat, range(*ALWAYS))
    serve(village, 12)

    assert village.seen(FoundFalse) == [FoundFalse("w2", 3)]
    assert out(village) == {"w2"}
    found = [checked for checked in village.seen(Checked) if checked.node == "w2"]
    assert {checked.word for checked in found} == {"cache" if cheat == "stale_cache" else "outputs"}
    assert all(len(set(checked.verifiers) - {"w2"}) == 2 for checked in found)
    assert {word for checked in village.seen(Checked) if checked.node != "w2" for word in [checked.word]} == {"honest"}


def test_a_worker_that_shows_nothing_is_convicted_if_it_is_there() -> None:
    """Bound and drawn, it renews its lease and says nothing: as guilty as who shows something false."""
    village = checking()
    village.lose = lambda sender, to, tag: sender == "w2" and tag == "opened"
    serve(village, 12)

    assert words(village, "w2").keys() == {"silent"}
    assert out(village) == {"w2"}


def test_a_worker_that_is_gone_is_not_convicted() -> None:
    """It was bound when its owner took it back, or its machine or its network stopped: it is not heard, nor judged."""
    for gone in ("taken", "crashed", "cut off"):
        village = checking()
        serve(village, 1)
        for number in range(1, 5):
            village.lose = lambda sender, to, tag: sender == "w2" and tag == "opened"
            village.ask(str(number))
            village.run(1.5)
            if gone == "taken":
                village.lend("w2", Lend(False, 0.0, 0.0, "owner is back"))
            elif gone == "crashed":
                village.crash("w2")
            else:
                village.lose = lambda sender, to, tag: "w2" in (sender, to.partition("/")[0])
            village.run(2 * WAIT_S)
            village.lose = lambda sender, to, tag: False
            if gone == "crashed":
                village.restart("w2")
            elif gone == "taken":
                village.lend("w2", Lend(True, 1.0, 1.0, "idle"))
            village.run(20.0)

        assert out(village) == set(), gone
        assert village.coordination().found == {}, gone
        assert words(village, "w2").keys() <= {"honest", "silent", "forgotten", "unbound"}, gone


def test_a_false_opening_needs_no_second_worker() -> None:
    """Leaves that are not the committed ones are seen by the leader itself."""
    village = checking()
    asked: list[str] = []

    def prove(node: Node, job: Any) -> Outcome:
        outcome = village.desk.proofs.outcome(node, job, 0)
        if isinstance(job, RecheckJob):
            asked.append(job.of.stage.node)
        if isinstance(job, OpenJob) and node.name == "w2" and isinstance(outcome, Done):
            shown = msgspec.msgpack.decode(outcome.result, type=Shown)
            opening = msgspec.msgpack.decode(shown.opening, type=Opening)
            forged = msgspec.structs.replace(opening, cache=b"\x01" + opening.cache[1:])
            return Done("", 0, 0, encode(Shown(encode(forged), shown.came)))
        return outcome

    village.desk.prove = prove
    serve(village, 12)

    assert words(village, "w2").keys() == {"opening"}
    assert out(village) == {"w2"}
    assert "w2" not in asked


def test_one_accuser_convicts_nobody_and_loses_trust() -> None:
    """Who calls honest work false stands alone: two others say otherwise."""
    village = checking(6)

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, RecheckJob) and node.name == "w3":
            return Done("", 0, 0, encode(Verdict("outputs", 1.0, 1.0)))
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    serve(village, 10)

    assert out(village) == set()
    assert village.coordination().found == {}
    assert words(village).keys() == {"honest"}
    lies = {name: village.coordination().trust.lies(name) for name in village.workers}
    assert {name for name, p in lies.items() if p > PRIOR} == {"w3"}


def test_nobody_is_drawn_before_all_are_bound_and_the_log_has_it() -> None:
    """Every draw is sent after the pledge of its attempt was committed, and what is not agreed is never drawn."""
    village = checking()
    seen: list[tuple[str, str]] = []

    def watch(sender: str, to: str, tag: str) -> bool:
        seen.append((tag, to))
        return tag == "bound" and sender == "w2"

    village.lose = watch
    serve(village, 3)
    first = [tag for tag, _ in seen if tag in ("bind", "bound", "draw", "opened", "found")]

    assert first.index("bind") < first.index("bound") < first.index("draw") < first.index("opened")
    assert ("draw", "w2/prover") not in seen
    assert words(village, "w2").keys() <= {"unbound"}
    assert out(village) == set()
    assert "unbound" not in words(village, "w1")


def test_a_word_that_comes_too_late_is_let_go() -> None:
    """The pledge went without it; the worker hears that nobody will look, though the first such message was lost."""
    village = checking(2)
    late = {("w2", "bound"), (village.leader, "release"), ("w1", "opened")}
    village.lose = lambda sender, to, tag: (sender, tag) in late
    village.ask("1")
    village.run(WAIT_S + 6.0)
    prover: Any = village._policy("w2", "prover")
    (word,) = [answer for answer in prover.answers.values() if isinstance(answer, Bound)]
    assert under_check(village).pledge is not None
    village.lose = lambda sender, to, tag: (sender, tag) == ("w1", "opened")
    hear(village, "w2", word)

    assert word not in prover.answers.values()
    assert [checked.word for checked in village.seen(Checked)] == ["unbound"]


def test_who_forgets_what_it_had_shown_is_judged_by_that() -> None:
    """A restart after the opening takes nothing back: the place is computed again and found honest."""
    village = checking()
    village.lose = lambda sender, to, tag: tag == "recheck"
    village.ask("1")
    village.run(4.0)
    check = under_check(village)
    assert len(check.places) == 2
    assert all(place.opened is not None for place in check.places.values())
    for node in list(check.places):
        hear(village, node, Unable(Key("anna", "1", check.answered.attempt), "draw", "nothing is kept"))
    village.lose = lambda sender, to, tag: False
    village.run(2 * WAIT_S)

    assert words(village) == {"honest": 2}


class OtherLots(KeyRing):
    """Keys with which everything is signed as with others, but for the lots: nobody else knows those."""

    def signature(self, identity: str, data: bytes) -> bytes:
        """Return a signature."""
        return super().signature(identity, data + b"other" * (b"lots" in data[:8]))


def test_what_is_drawn_hangs_on_the_leaders_key() -> None:
    """With the same seed, requests and commitments others are drawn if the leader alone signs otherwise."""
    drawn = []
    rules = msgspec.structs.replace(RULES, spot_checks=SpotChecksConfig(share=0.5, wait_s=WAIT_S))
    for ring in (KeyRing(1), KeyRing(1), OtherLots(1)):
        village = SmallVillage(4, TWO_HOLD_ALL, rules, ring=ring)
        village.run(20.0)
        serve(village, 12)
        drawn.append([(checked.op_id, checked.node) for checked in village.seen(Checked)])

    assert 4 < len(drawn[0]) < 20
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_new_leader_checks_what_it_sees_answered() -> None:
    """What an old leader had begun is let go, convicting nobody; the next one checks what comes under it."""
    village = checking()
    village.ask("before")
    village.run(1.2)  # answered, and being checked
    village.crash(village.leader)
    village.run(10.0)
    village.ask("after")
    village.run(4 * WAIT_S)

    assert {checked.op_id for checked in village.seen(Checked)} >= {"after"}
    assert words(village).keys() == {"honest"}
    assert out(village) == set()


def test_what_goes_on_from_anothers_cache_is_not_checked() -> None:
    """Where requests are prepared a first attempt is checked as ever; what a new leader inherits is not."""
    checks = SpotChecksConfig(share=1.0, wait_s=WAIT_S)
    rules = msgspec.structs.replace(RULES, spot_checks=checks)
    village = ready(4, memory_bytes=TWO_HOLD_ALL, rules=rules, recovery=PreparedConfig(deaths_per_h=3600.0))
    serve(village, 3)
    assert words(village) == {"honest": 6}
    village.take(20.0)
    village.ask("under way")
    village.run(1.0)
    village.take(1.0)
    village.crash(village.leader)
    village.run(40.0)
    village.ask("afterwards")
    village.run(4 * WAIT_S)

    answered = {settled.op_id for settled in village.seen(SettledOp) if not settled.refused}
    assert answered >= {"under way", "afterwards"}
    assert {checked.op_id for checked in village.seen(Checked)} == {"0", "1", "2", "afterwards"}
    assert words(village).keys() == {"honest"}


def test_an_answer_that_the_last_stage_did_not_choose_convicts_neither() -> None:
    """A head that reports other tokens would have the last stage found false for them; both lose trust, as one lies."""
    village = checking()

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, CommitJob) and node.name == "w2":
            return Disowned("not mine", "w1")
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    serve(village, 1)

    assert line_of(village, "w2") == ["w1", "w2"]
    assert village.seen(Checked) == []
    assert out(village) == set()
    suspects = lies(village)
    assert suspects.keys() == {"w1", "w2"}
    assert 0.4 < suspects["w1"] == suspects["w2"] < 0.6
