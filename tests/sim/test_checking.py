"""Checks of workers in the twin: what they find and cost stands in the record, and nothing moves without them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from experiments.compose import compose_plain
from models.inference import SHAPES
from models.inference.tolerances import FALSE_ACCUSATIONS, stored_found
from policies.jobs import CommitJob, Done, OpenJob, RecheckJob, Shown, Stage, Transcript
from policies.verification import Commitment, Opening, Verdict, belongs, draw_challenge, follows
from policies.wire import encode
from scenarios.record import TABLES, Record
from scenarios.schema import build
from sim.proofs import CHEATS, Proofs
from sim.village import simulate
from tests.sim.test_village import desk_plain

SHAPE = SHAPES["llama-3.2-1b"]
CUT = 5


def desks(share: float, cheat: str = "", withholds: str = "nothing") -> Record:
    """Run four minutes of seven desks, two of which shirk."""
    shirk = {"kind": "shirk", "cheat": cheat, "withholds": withholds}
    liars = [{"behaviours": [shirk], "names": ["desk-4", "desk-5"]}] if cheat else []
    plain = desk_plain(0.0, 3, *liars)
    plain["policy"]["coordination"]["spot_checks"] = {"share": share}
    return simulate(build({**plain, "duration_s": 240.0, "workload": {**plain["workload"], "requests": 120}}))


def test_a_run_with_checks_says_what_they_found_and_cost() -> None:
    """Without liars every place is honest; bytes, seconds, the law's odds and how it was modelled are in the record."""
    record = desks(0.3)
    summary, manifest = record.summary, record.manifest

    assert summary["checking_sessions"] == summary["requests_answered"] == 120
    assert 20 < summary["checking_places"] < 55
    assert [summary[f"checking_{name}"] for name in ("false", "unclear", "convicted")] == [0, 0, 0]
    assert summary["checking_bytes"] > 120 * 250  # a commitment is some 250 bytes
    assert summary["checking_s"] > 0
    assert 0.0 < summary["checking_noticed_tenth"] < summary["checking_noticed_always"] <= 1.0
    assert 0 < summary["checking_worker_sessions"] < 120
    assert 0.05 < summary["checking_cost_share"] < 0.3  # 0.3 of sessions, each about half of its operations again
    assert manifest["checks"]["no_honest_worker_convicted"] is True
    assert manifest["check_events"]["no_honest_worker_convicted"] == summary["checking_places"]
    assert "torch bf16" in manifest["fidelity"]["verification"]


@pytest.mark.parametrize(
    ("cheat", "withholds"),
    [("four_bits", "nothing"), ("four_bits", "input"), ("four_bits", "output"), ("stale_cache", "nothing")],
)
def test_who_shirks_is_put_out_and_nobody_else(cheat: str, withholds: str) -> None:
    """Both liars are convicted within minutes, whatever they withhold; no audit could have found four bits."""
    record = desks(0.5, cheat, withholds)
    told = [json.loads(row[4])["node"] for row in record.tables["decisions"] if row[3] == "found_false"]

    assert sorted(told) == ["desk-4", "desk-5"]
    assert record.summary["checking_convicted"] == 2
    assert record.summary["checking_unclear" if withholds == "output" else "checking_false"] >= 6
    assert (record.summary["wrong_answers"] == 0) == (cheat == "four_bits")
    assert record.manifest["checks"]["no_honest_worker_convicted"] is True


def four_stages(*liars: dict[str, Any]) -> Record:
    """Run two minutes of seven desks of which a pipeline takes four; all that is done is checked."""
    plain = desk_plain(0.0, 3, *liars)
    plain["policy"]["coordination"]["spot_checks"] = {"share": 1.0}
    plain["network"] = {"home": "loopback"}
    plain["fleet"]["shaped"] = {f"desk-{k}": {"memory_bytes": 900_000_000} for k in range(7)}
    return simulate(build({**plain, "duration_s": 240.0, "workload": {**plain["workload"], "requests": 45}}))


def test_honest_stages_hand_out_what_is_asked_for() -> None:
    """All of 180 places are found honest, and the leader has to fetch nothing for it."""
    record = four_stages()

    assert record.summary["checking_places"] == 180
    assert [record.summary[f"checking_{name}"] for name in ("false", "unclear", "convicted")] == [0, 0, 0]
    assert "fetched" not in record.manifest["notes"]


@pytest.mark.parametrize(
    ("liar", "withholds", "word"), [("desk-2", "input", "outputs"), ("desk-0", "output", "withheld")]
)
def test_who_withholds_is_put_out_and_no_neighbour_pays(liar: str, withholds: str, word: str) -> None:
    """A stage past the first one that keeps what it took, and a head that keeps its answer, are out after three."""
    shirk = {"kind": "shirk", "cheat": "four_bits", "withholds": withholds}
    record = four_stages({"behaviours": [shirk], "names": [liar]})
    told = [(row[3], json.loads(row[4])) for row in record.tables["decisions"]]

    assert [detail["node"] for kind, detail in told if kind == "found_false"] == [liar]
    assert {detail["word"] for kind, detail in told if kind == "checked" and detail["node"] == liar} == {word}
    assert {detail["word"] for kind, detail in told if kind == "checked" and detail["node"] != liar} == {"honest"}
    assert record.manifest["checks"]["no_honest_worker_convicted"] is True


@pytest.mark.parametrize(("service", "model"), [("critical", "desk-mini"), ("standard", "desk-tiny")])
def test_who_shirks_is_put_out_whichever_model_it_serves(service: str, model: str) -> None:
    """Of four desks that serve what their class needs one leaves a layer out: it alone is convicted."""
    degrade = "policy.coordination.degrade"
    plain = compose_plain(["scenario=degraded", "profile=''", "duration_s=60", "workload.requests=300",
                           f"{degrade}.services=[{service}]", f"{degrade}.away=0.05"])  # fmt: skip
    plain["policy"]["coordination"]["spot_checks"] = {"share": 1.0, "wait_s": 6.0}
    shirk = {"kind": "shirk", "cheat": "skipped_layer", "from_s": 20.0}
    record = simulate(build({**plain, "faults": [], "adversaries": [{"behaviours": [shirk], "names": ["desk-1"]}]}))
    rows = [dict(zip(TABLES["requests"], row, strict=True)) for row in record.tables["requests"]]
    told = [json.loads(row[4]) for row in record.tables["decisions"] if row[3] == "checked"]
    before = {row["op_id"]: row["model"] for row in rows if row["arrival_s"] < 20.0}

    assert {before[each["op_id"]] for each in told if each["op_id"] in before} == {model}
    assert {each["node"] for each in told if each["word"] not in ("honest", "unchecked")} == {"desk-1"}
    assert record.summary["checking_convicted"] == 1
    assert {name: verdict for name, verdict in record.manifest["checks"].items() if verdict is not True} == {}


def test_without_checks_nothing_is_mounted() -> None:
    """The default asks for none: no prover, no commitment, no word of checks in the summary."""
    assert compose_plain([])["policy"]["coordination"]["spot_checks"] is None
    assert compose_plain(["policy/coordination=checked"])["policy"]["coordination"]["spot_checks"]["share"] == 0.02
    plain = desk_plain(0.0, 3)
    record = simulate(build({**plain, "duration_s": 60.0, "workload": {**plain["workload"], "requests": 5}}))

    assert not {"prover", "examiner"} & set(record.manifest["policies"])
    assert "verification" not in record.manifest["fidelity"]
    assert not [name for name in record.summary if name.startswith("checking")]
    assert "no_honest_worker_convicted" not in record.manifest["checks"]


# -- the modelled executor ---------------------------------------------------------------------------------


class At:
    """A node by its name."""

    def __init__(self, name: str) -> None:
        self.name = name


def stage_of(number: int) -> tuple[Stage, Transcript]:
    stages = (Stage("a", 0, CUT), Stage("b", CUT, SHAPE.layers))
    stage = stages[number]
    return stage, Transcript("c/o/1", SHAPE.name, stage, number == 1, "p", "s", 100, "answer", "a", 41, True)


def done(proofs: Proofs, node: str, job: Any, now_ns: int = 0) -> bytes:
    outcome = proofs.outcome(At(node), job, now_ns)  # type: ignore[arg-type]
    assert isinstance(outcome, Done), outcome
    return outcome.result


def decode(data: bytes, kind: Any) -> Any:
    return msgspec.msgpack.decode(data, type=kind)


def test_modelled_commitments_fit_and_hold_what_is_opened() -> None:
    """Neighbours committed to the same, and every place that can be drawn opens under the real rules."""
    proofs = Proofs(1, SHAPES, {}, {})
    words = [decode(done(proofs, stage_of(k)[0].node, CommitJob(stage_of(k)[1])), Commitment) for k in (0, 1)]
    assert follows(*words)
    drawn = set()
    for secret in range(30):
        for k, word in enumerate(words):
            node, of = stage_of(k)
            at = draw_challenge(secret.to_bytes(16, "little"), word)
            drawn.add((k, at.block, at.layer))
            done(proofs, node.node, CommitJob(of))
            shown = decode(done(proofs, node.node, OpenJob(of.op, at.block, at.layer)), Shown)
            opening = decode(shown.opening, Opening)
            assert belongs(opening, word, at)
            forged = msgspec.structs.replace(opening, sketch=opening.sketch[:-1] + b"\x01")
            assert not belongs(forged, word, at)
    assert len(drawn) > 30


def test_what_is_hashed_sent_and_opened_is_of_the_model_that_ran() -> None:
    """Half the heads and twice the width: each model's commitment holds a leaf of its own size, in its own format."""
    other = replace(SHAPE, name="other", kv_heads=SHAPE.kv_heads // 2, hidden=2 * SHAPE.hidden)
    exact = replace(other, name="exact", bytes_per_weight=4.0)
    proofs = Proofs(1, {shape.name: shape for shape in (SHAPE, other, exact)}, {}, {})
    node, of = stage_of(1)
    leaves, formats = [], []
    for name in (SHAPE.name, "other", "exact"):
        own = msgspec.structs.replace(of, model=name, op=f"c/{name}/1")
        word = decode(done(proofs, node.node, CommitJob(own)), Commitment)
        at = draw_challenge(bytes(16), word)
        shown = decode(done(proofs, node.node, OpenJob(own.op, at.block, at.layer)), Shown)
        leaves.append(len(decode(shown.opening, Opening).cache))
        formats.append(word.executor)
        assert belongs(decode(shown.opening, Opening), word, at)
    assert leaves == [leaves[0], leaves[0] // 2, leaves[0] // 2]
    assert formats == ["torch bf16", "torch bf16", "torch fp32"]
    assert proofs.came_bytes(msgspec.structs.replace(of, model="other")) == 2 * proofs.came_bytes(of)
    assert "torch bf16, torch fp32" in proofs.fidelity


@pytest.mark.parametrize("cheat", ["", *CHEATS])
def test_cheats_are_found_at_the_calibrated_rate(cheat: str) -> None:
    """Over many places the share found is the table's, and honest ones are accused at most at the tolerances' rate."""
    proofs = Proofs(1, SHAPES, {"a": (cheat, range(10**9))} if cheat else {}, {})
    stage, of = stage_of(0)
    words: Counter[str] = Counter()
    for k in range(2000):
        done(proofs, "a", CommitJob(of))
        words[decode(done(proofs, "b", RecheckJob(of, b"", k, 0, b"", "", "")), Verdict).word] += 1
    found = stored_found()["torch bf16 | torch bf16"].get(CHEATS.get(cheat, ""), FALSE_ACCUSATIONS)

    assert abs(words["honest"] / 2000 - (1 - found)) < 0.012
    assert cheat or words == {"honest": 2000}
    assert stage.node == "a"


def test_honest_verifiers_agree_about_a_place() -> None:
    """A place's odds are drawn once: two who compute the same again find the same."""
    proofs = Proofs(1, SHAPES, {"a": ("four_bits", range(10**9))}, {})
    _, of = stage_of(0)
    done(proofs, "a", CommitJob(of))
    for k in range(200):
        job = RecheckJob(of, encode(k), k, 0, b"", "", "")
        assert done(proofs, "b", job) == done(proofs, "c", job)
