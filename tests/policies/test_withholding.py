"""What a check needs and somebody does not hand out: the leader fetches it, and who is to blame pays, nobody else."""

from __future__ import annotations

from typing import Any

import msgspec

from policies import port as p
from policies.checking.fetching import SILENT_NS
from policies.checking.messages import Checked, Unable
from policies.config import SpotChecksConfig
from policies.jobs import (
    BringJob,
    CommitJob,
    Done,
    HandJob,
    Lacking,
    Lost,
    OpenJob,
    Outcome,
    Progress,
    RecheckJob,
    Shown,
    Transcript,
)
from policies.verification import Commitment
from policies.wire import encode
from policies.work import Capability, FoundFalse
from sim.world import Node
from tests.policies.small_village import RULES, TWO_HOLD_ALL, ready
from tests.policies.test_checking import ALWAYS, WAIT_S, checking, hear, lies, line_of, out, serve, under_check, words


def test_who_withholds_what_it_took_is_checked_with_what_the_stage_before_gave() -> None:
    """A cheat past the first stage gains nothing by it: the place is computed again, and found false, all the same."""
    village = checking()
    village.desk.cheats["w2"] = ("four_bits", range(*ALWAYS))
    village.desk.withholds["w2"] = ("input", range(*ALWAYS))
    assert line_of(village, "w2") == ["w1", "w2"]
    serve(village, 12)

    assert village.seen(FoundFalse) == [FoundFalse("w2", 3)]
    assert words(village, "w2").keys() == {"outputs"}
    assert {word for checked in village.seen(Checked) if checked.node != "w2" for word in [checked.word]} == {"honest"}
    assert lies(village).keys() == {"w2"}


def test_what_neither_neighbour_hands_out_puts_out_the_one_that_was_drawn() -> None:
    """Withholding costs what being found false costs; the neighbour that keeps it back too loses trust, and no more."""
    village = checking()
    village.desk.cheats["w2"] = ("four_bits", range(*ALWAYS))
    village.desk.withholds["w2"] = ("input", range(*ALWAYS))

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, HandJob) and node.name == "w1":
            return Lost("no", "w1")
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    serve(village, 1)
    first = lies(village)
    assert first.keys() == {"w1", "w2"}
    assert first["w1"] < 0.2 < 0.9 < first["w2"]
    serve(village, 12)

    assert village.seen(FoundFalse) == [FoundFalse("w2", 3)]
    assert out(village) == {"w2"}
    assert words(village, "w2").keys() == {"withheld"}
    assert words(village, "w1").keys() == {"honest"}


def test_the_stage_before_one_that_was_drawn_is_asked_though_it_was_not_drawn() -> None:
    """Where half of the work is looked at, what it gave is still there when the drawn one withholds it."""
    village = checking(share=0.5)
    village.desk.cheats["w2"] = ("four_bits", range(*ALWAYS))
    village.desk.withholds["w2"] = ("input", range(*ALWAYS))
    serve(village, 8)

    drawn = {
        node: {checked.op_id for checked in village.seen(Checked) if checked.node == node} for node in ("w1", "w2")
    }
    assert drawn["w2"] - drawn["w1"]
    assert words(village, "w2").keys() == {"outputs"}
    assert lies(village).keys() == {"w2"}


def test_a_stage_has_its_time_to_commit_from_when_it_finds_the_answer() -> None:
    """The leader takes longer to fetch the answer than a stage has for its word: that is not the stage's fault."""
    village = checking()

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, CommitJob) and node.name == "w2" and job.of.holder == "w1":
            return Lacking("no", "w1", blob=job.of.output)
        return Progress(0) if isinstance(job, BringJob) else village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    village.ask("1")
    village.run(2.0)
    (missing,) = under_check(village).missing.values()
    village.run(SILENT_NS / 1e9 - 1.5)
    brought = (p.JOB, "examiner", missing.job, encode(Done(missing.blob, 0, 0)))
    village.world.give(village.world.by_name[village.leader], brought)
    village.lose = lambda sender, to, tag: (sender, tag) == ("w2", "bound")
    village.run(4.0)  # its word takes a while, and would be too late by what was asked first
    village.lose = lambda sender, to, tag: False
    village.run(4 * WAIT_S)

    assert words(village) == {"honest": 2}
    assert lies(village) == {}


def test_who_finds_after_seconds_that_nothing_comes_is_heard_however_short_the_wait() -> None:
    """A silent head is known to be so after 6 s; the stages that waited for it pay nothing where all wait only 4."""
    rules = msgspec.structs.replace(RULES, spot_checks=SpotChecksConfig(share=1.0, wait_s=4.0))
    village = ready(4, memory_bytes=TWO_HOLD_ALL, rules=rules)
    village.desk.withholds["w1"] = ("output", range(*ALWAYS))
    waited: dict[str, float] = {}

    def prove(node: Node, job: Any) -> Outcome:
        now_s = village.world.engine.now / 1e9
        known_s = waited.setdefault(job.of.op, now_s) if isinstance(job, CommitJob) and node.name == "w2" else 0.0
        if known_s and now_s - known_s < 6.0:
            return Lost("still fetching", "w2")
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    serve(village, 6, between_s=12.0)

    assert village.seen(FoundFalse) == [FoundFalse("w1", 3)]
    assert words(village, "w1").keys() == {"withheld"}
    assert lies(village).keys() == {"w1"}


def test_a_stage_that_names_nothing_as_what_it_took_has_shown_nothing() -> None:
    """Only a first stage takes tokens; the leader sees that a later one's opening is not whole."""
    village = checking()

    def prove(node: Node, job: Any) -> Outcome:
        outcome = village.desk.proofs.outcome(node, job, 0)
        if isinstance(job, OpenJob) and node.name == "w2" and isinstance(outcome, Done):
            shown = msgspec.msgpack.decode(outcome.result, type=Shown)
            return Done("", 0, 0, encode(Shown(shown.opening, "")))
        return outcome

    village.desk.prove = prove
    serve(village, 4)

    assert words(village, "w2").keys() == {"opening"}
    assert out(village) == {"w2"}


def test_who_names_anothers_input_as_its_own_harms_only_itself() -> None:
    """A stage knows what the next one took; what is fetched in its own place is not taken for the next one's."""
    others = {name: Capability(1400.0, 0.01, 0.001, 0.001, 1e7, 0.01) for name in ("w1", "w2", "w3", "w4", "w5", "w6")}
    rules = msgspec.structs.replace(RULES, spot_checks=SpotChecksConfig(share=1.0, wait_s=WAIT_S))
    village = ready(6, rules=rules, others=others)
    line = line_of(village, "w1")
    assert len(line) > 2
    liar = line[1]
    village.desk.cheats[liar] = ("four_bits", range(*ALWAYS))

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, RecheckJob | BringJob) and job.holder == liar:
            return Lacking("no", liar, blob=job.blob if isinstance(job, BringJob) else job.came)
        if isinstance(job, RecheckJob) and job.of.stage.node != liar and job.came:
            assert job.came == f"{job.of.op} before {job.of.stage.first}"  # else it would be found false
        outcome = village.desk.proofs.outcome(node, job, 0)
        if isinstance(job, OpenJob) and node.name == liar and isinstance(outcome, Done):
            shown = msgspec.msgpack.decode(outcome.result, type=Shown)
            after = next(
                stage.last for stage in village.coordination().lines.lines[lines[0]].stages if stage.node == liar
            )
            return Done("", 0, 0, encode(Shown(shown.opening, f"{job.op} before {after}")))
        return outcome

    lines = [number for number, each in village.coordination().lines.lines.items() if liar in each.nodes]
    village.desk.prove = prove
    serve(village, 3)

    assert words(village, liar).keys() == {"outputs"}
    assert {word for checked in village.seen(Checked) if checked.node != liar for word in [checked.word]} == {"honest"}


def test_a_head_that_withholds_its_answer_is_put_out_and_the_stages_after_it_pay_nothing() -> None:
    """They cannot commit to tokens that they cannot get; that is the head's fault, as the leader sees for itself."""
    village = checking()
    village.desk.cheats["w1"] = ("four_bits", range(*ALWAYS))
    village.desk.withholds["w1"] = ("output", range(*ALWAYS))
    serve(village, 12, between_s=4.0)

    assert village.seen(FoundFalse) == [FoundFalse("w1", 3)]
    assert out(village) == {"w1"}
    assert words(village, "w1").keys() == {"withheld"}
    assert "unbound" not in words(village)
    assert lies(village).keys() == {"w1"}


def test_a_check_that_lacks_both_the_prompt_and_the_answer_ends_once() -> None:
    """One stage lacks the one and another the other, at the same moment: the head alone may pay, and for the answer."""
    village = checking()

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, CommitJob):
            return Lacking("no", job.of.holder, blob=job.of.output if node.name == "w2" else job.of.prompt)
        if isinstance(job, BringJob):
            return Lacking("no", job.holder, blob=job.blob)
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    serve(village, 2)

    assert words(village).keys() <= {"withheld"}
    assert lies(village).keys() <= {"w1"}
    examiner: Any = village._policy(village.leader, "examiner")
    assert examiner.checks == {}


def test_the_leader_fetches_no_more_than_the_session_can_have() -> None:
    """It says how many tokens the prompt and the answer have, and at how many positions of which model a stage took."""
    village = checking()
    asked: list[tuple[str, int, int]] = []
    said: list[Transcript] = []

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, BringJob):
            word = msgspec.msgpack.decode(job.commitment, type=Commitment) if job.commitment else None
            asked.append((job.model, job.tokens, word.positions if word is not None else 0))
        if isinstance(job, RecheckJob) and job.came and job.holder in ("w1", "w2"):
            return Lacking("no", job.holder, blob=job.came)
        if isinstance(job, CommitJob) and job.of.holder == "w1":
            said.append(job.of)
            return Lacking("no", "w1", blob=job.of.output if node.name == "w2" else job.of.prompt)
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    serve(village, 1)

    of = said[0]
    took = of.prompt_tokens + of.tokens - 1
    assert {(of.model, of.tokens, 0), (of.model, took, took)} <= set(asked)
    assert set(asked) <= {(of.model, of.tokens, 0), (of.model, of.prompt_tokens, 0), (of.model, took, took)}


def test_who_says_that_it_gets_nothing_harms_nobody() -> None:
    """The leader gets what a verifier, and a stage, say they cannot get, and hands it out; nobody is judged by that."""
    village = checking()

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, RecheckJob) and node.name == "w3" and job.holder in ("w1", "w2"):
            return Lacking("no", job.holder, blob=job.came)
        if isinstance(job, CommitJob) and node.name == "w2" and job.of.holder == "w1":
            return Lacking("no", "w1", blob=job.of.output)
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    serve(village, 12)

    assert len(village.seen(Checked)) == 24
    assert words(village).keys() == {"honest"}
    assert lies(village) == {}


def test_who_is_gone_with_what_it_took_is_not_convicted() -> None:
    """It opened, and then its machine stopped, and its neighbour's: nobody hands anything out, nor is to blame."""
    village = checking()
    gone = {"w1", "w2"}

    def prove(node: Node, job: Any) -> Outcome:
        holder = getattr(job, "holder", "")
        if holder in gone and not village.world.by_name[holder].up:
            return Lacking("down", holder, blob=job.blob if isinstance(job, BringJob) else job.came)
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    for number in range(4):
        village.lose = lambda sender, to, tag: tag == "recheck"
        village.ask(str(number))
        village.run(4.0)
        for node in gone:
            village.crash(node)
        village.lose = lambda sender, to, tag: False
        village.run(6 * WAIT_S)
        for node in gone:
            village.restart(node)
        village.run(20.0)

    assert "withheld" in words(village, "w2")
    assert village.coordination().found == {}
    assert out(village) == set()
    assert lies(village) == {}


def test_a_link_that_is_too_slow_is_no_crime() -> None:
    """What still comes after the wait was handed out: its holder is trusted less, and never put out for that."""
    village = checking()
    begun: list[str] = []

    def prove(node: Node, job: Any) -> Outcome:
        if isinstance(job, RecheckJob) and job.holder == "w2":
            return Lacking("slow", "w2", blob=job.came)
        if isinstance(job, BringJob | HandJob):
            begun.append(node.name)
            return Progress(0) if isinstance(job, BringJob) else Lost("no", node.name)
        return village.desk.proofs.outcome(node, job, 0)

    village.desk.prove = prove
    serve(village, 6)
    village.run(4 * WAIT_S)

    assert begun
    assert words(village, "w2") == {"slow": 6}
    assert out(village) == set()
    assert village.coordination().found == {}
    assert lies(village)["w1"] > 0.1


def test_who_was_asked_nothing_is_not_written_down() -> None:
    """Anybody can say that it is unable; a leader notes it of those whom it has asked, and in a line of theirs."""
    village = checking()
    noted: list[str] = []
    village.world.on_note.append(lambda now_ns, node, effect: noted.append(str(effect)))
    village.lose = lambda sender, to, tag: tag == "bound"
    village.ask("0")
    village.run(1.5)
    check = under_check(village)
    hear(village, "k9", Unable(check.key, "recheck", "so it is"))
    assert not any("so it is" in note for note in noted)
    hear(village, "w1", Unable(check.key, "recheck", "so it is"))
    assert any("so it is" in note for note in noted)
