"""Real processes that elect their committee: members are killed, others voted in with what their disks hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.log import recover
from policies.port import MESSAGE
from real_backends.local import run_local
from real_backends.stores.file import FileStorage
from scenarios.journal import read
from scenarios.record import Record
from scenarios.schema import Scenario, build
from tests.real_backends.test_kill import _replay

FOUNDERS = tuple(f"desk-{k}" for k in range(4))


KILLS = (
    {"kind": "crash", "at_s": 1.0, "node": "desk-1", "down_s": 14.0},
    {"kind": "crash", "at_s": 22.0, "node": "leader", "down_s": 5.0},
)
"""desk-1 falls before it was heard for half an epoch, so that it is no choice for the second. Later whoever leads
falls, and comes back so late that no epoch is owed after it: how long one takes depends on the machine."""
DOUBLE_VOTE = {
    "kind": "double_vote",
    "path": "consensus",
    "tags": ["vote"],
    "field": [2],
    "resign": True,
    "from_s": 1.0,
}


def _scenario(requests: int, duration_s: int, **fields: Any) -> Scenario:
    """Epochs of 4 s."""
    from experiments.compose import compose

    words = ["scenario=council", "profile=", "executor=paced", "world=local", f"workload.requests={requests}"]
    council = [f"policy.committee.{word}" for word in ("epoch_s=4.0", "alive_s=0.3", "retry_s=1.0")]
    return build({**compose([*words, *council, f"duration_s={duration_s}"])[0], **fields})


def _decisions(record: Record) -> list[dict[str, Any]]:
    """Return each epoch's decision, in order."""
    fields = ("tag", "epoch", "command", "members", "learners", "reason")
    told = (dict(zip(fields, json.loads(row[4]), strict=False)) for row in record.tables["decisions"]
            if row[3] == "decision")  # fmt: skip
    found = {d["epoch"]: d for d in told}
    return [found[epoch] for epoch in sorted(found)]


def _voters(journal: bytes) -> set[str]:
    """Return whose votes a node heard."""
    heard = (given for _, _, given, _, _ in read(journal)[1] if given[0] == MESSAGE and given[1] == "consensus")
    return {given[2] for given in heard if msgspec.msgpack.decode(given[3])[0] == "vote"}


@pytest.mark.slow
def test_processes_elect_around_who_is_killed_and_lose_nothing(tmp_path: Path) -> None:
    """Every request is answered once, whoever is asked again; newcomers vote, with promises on their disks; journals of
    members and of those who stand by replay exactly."""
    record = run_local(_scenario(30, 32, faults=KILLS), tmp_path)
    decided = _decisions(record)
    committees = [set(d["members"]) for d in decided]
    newcomers = set.union(*committees) - set(FOUNDERS)
    voters = set().union(*(_voters(journal) for journal in record.journals.values()))

    assert {name: verdict for name, verdict in record.manifest["checks"].items() if verdict is not True} == {}
    assert "only_the_chosen_sit" in record.manifest["checks"]
    assert record.summary["requests_answered"] == record.summary["requests_total"] == 30
    assert record.manifest["retries"] == 7 * 30
    assert len(decided) >= 3
    assert committees[0] == set(FOUNDERS)
    assert "desk-1" not in committees[1]
    assert newcomers & voters
    for name in newcomers & voters:
        storage = FileStorage(tmp_path / name / "node.log")
        assert "consensus/safety" in recover(storage)
        storage.close()
    assert set(record.journals) == {f"desk-{k}" for k in range(7)}
    assert all(_replay(journal) > 100 for journal in record.journals.values())


@pytest.mark.slow
def test_a_process_that_votes_twice_is_struck_off_by_its_own_signatures(tmp_path: Path) -> None:
    """The proof is of Ed25519 signatures and goes through the village's log; nobody else is convicted."""
    liar = {"committee": [1], "behaviours": [DOUBLE_VOTE]}
    record = run_local(_scenario(10, 22, adversaries=[liar]), tmp_path)
    convicted = [json.loads(row[4]) for row in record.tables["decisions"] if row[3] == "convicted"]
    after = [d for d in _decisions(record) if d["command"] > convicted[0][2]]

    assert {name: verdict for name, verdict in record.manifest["checks"].items() if verdict is not True} == {}
    assert {name for _, name, _ in convicted} == {"desk-1"}
    elected = [d for d in after if not d["reason"]]  # the first may find nobody on the roll yet, and says so
    assert elected
    assert all("desk-1" not in d["members"] for d in elected)
    assert record.summary["requests_answered"] == 10
