"""The same adversaries in both worlds: in the simulated village, in its journals, and in real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from experiments.replay import replay
from policies.port import MESSAGE
from real_backends.local import run_local
from scenarios.journal import read
from scenarios.record import Record
from scenarios.schema import build
from sim.village import simulate
from tests.real_backends import beating
from tests.real_backends.beating import desks

NONE = dict.fromkeys(("phones", "tablets", "laptops", "gpu_boxes"), 0)
LIARS: dict[str, list[dict[str, Any]]] = {
    "member": [
        {"committee": [1], "behaviours": [
            {"kind": "delay", "bound_s": 0.2, "path": "consensus"}, {"kind": "silent", "share": 0.3, "from_s": 100.0},
            {"kind": "replay", "every_s": 5.0}, {"kind": "skewed_clock", "amount_s": -60.0},
        ]},
    ],
    "coalition": [
        {"names": ["desk-5", "desk-1"], "coalition": "ring", "behaviours": [
            {"kind": "lazy"}, {"kind": "wrong_key", "mate": True, "from_s": 200.0}, {"kind": "collude", "turn_s": 30.0},
        ]},
    ],
    "twins": [{"names": ["desk-5"], "behaviours": [{"kind": "twins", "from_s": 100.0}]}],
    "riders": [
        {"names": ["desk-5"], "behaviours": [{"kind": "free_ride"}, {"kind": "overclaim"}]},
        {"committee": [1], "behaviours": [{"kind": "forge_receipts"}]},
    ],
}  # fmt: skip


def village(adversaries: list[dict[str, Any]], seed: int = 1, **more: Any) -> Record:
    """Run ten minutes of seven desks, three of them the committee."""
    return simulate(build({
        "name": "desks", "seed": seed, "duration_s": 600.0, "model": "llama-3.2-1b", "network": {"home": "fibre"},
        "fleet": {**NONE, "desktops": 7, "dedicated": 7, "committee": 3}, "record": {"journals": "all"},
        "policy": {"harvest": {"rule": "documented", "hour_start": 0, "hour_end": 24}},
        "workload": {"kind": "synthetic", "requests": 120, "prompt_tokens": 100, "new_tokens": 100, "flat": True},
        "adversaries": adversaries, **more,
    }))  # fmt: skip


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    """One run for each kind of liars."""
    return {name: village(liars) for name, liars in LIARS.items()}


@pytest.mark.parametrize("name", LIARS)
def test_honest_members_keep_every_promise_among_liars(records: dict[str, Record], name: str) -> None:
    """VillageChecks hear the honest members alone, and hold; most requests are answered by somebody."""
    record = records[name]

    assert all(verdict is True for verdict in record.manifest["checks"].values()), record.manifest["checks"]
    assert record.summary["requests_answered"] > 90


@pytest.mark.parametrize("name", LIARS)
def test_a_liars_journal_replays_with_its_role(records: dict[str, Record], name: str) -> None:
    """Fresh Cells among fresh wrappers, made of the headers alone, give the effects that left, signatures too."""
    found = replay(records[name].journals)

    assert found.passed, [str(d) for d in found.divergences]
    assert set(found.steps) == {f"desk-{k}" for k in range(7)}


def test_the_manifest_names_what_each_does(records: dict[str, Record]) -> None:
    """Behaviours in their order, by node."""
    assert records["member"].manifest["adversaries"] == {"desk-1": "delay+silent+replay+skewed_clock"}


def test_what_a_lying_member_announces_is_no_fact(records: dict[str, Record]) -> None:
    """No decision of it is in the record."""
    speakers = {row[1] for row in records["member"].tables["decisions"]}

    assert "desk-1" not in speakers
    assert "desk-0" in speakers


def test_two_who_make_up_the_same_answer_reach_clients_unaudited(records: dict[str, Record]) -> None:
    """Lazy colluders are fast, so much work is theirs; without audits their lies are counted as wrong answers."""
    assert records["coalition"].summary["wrong_answers"] > 0


def test_forged_receipts_and_free_rides_earn_nothing(records: dict[str, Record]) -> None:
    """Who claims more tokens than were asked, or gives all work up, is not in the ledger; the forgeries are noted."""
    manifest = records["riders"].manifest

    assert set(manifest["ledger"]) & {"desk-1", "desk-5"} == set()
    assert manifest["notes"]["bad_report"] > 0


def test_adversaries_attach_in_real_processes(tmp_path: Path) -> None:
    """Over real sockets the honest member hears nothing of the silent one, and lies alone of the other."""
    scenario = desks(3, 3, duration_s=1.5, adversaries=[
        {"committee": [1], "behaviour": "silent"},
        {"committee": [2], "behaviours": [{"kind": "corrupt", "tags": ["beat"], "field": [0], "by": 10**6}]},
    ])  # fmt: skip
    record = run_local(scenario, tmp_path, policy=f"{beating.__file__}:Beating")
    heard: dict[str, list[int]] = {}
    for given in (row[2] for row in read(record.journals["desk-0"])[1]):
        if given[0] == MESSAGE:
            heard.setdefault(given[2], []).append(msgspec.msgpack.decode(given[3])[1])

    assert set(heard) == {"desk-2"}
    assert len(heard["desk-2"]) > 5
    assert min(heard["desk-2"]) > 10**6
    assert record.manifest["adversaries"] == {"desk-1": "silent", "desk-2": "corrupt"}
