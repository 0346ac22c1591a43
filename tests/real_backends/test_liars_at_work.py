"""Who lies about work, as a real process among four desks: sockets, disks and journals are the system's.

Each desk holds the whole model, and every request runs on two of them. Executors hold the time that a law says and
answer as one process alone would, so that a wrong answer is known for one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from real_backends.local import run_local
from scenarios.record import Record
from scenarios.schema import build, to_plain

LIAR = "desk-3"
REQUESTS = 120


def village(folder: Path, behaviour: dict[str, Any]) -> Record:
    """Run twelve seconds of requests beside a liar."""
    from experiments.results import load

    plain = to_plain(load("four_desks", seed=5, world="local", profile="", executor="paced"))
    plain.update(duration_s=12.0, reading_s=0.5, adversaries=[{"names": [LIAR], "behaviours": [behaviour]}])
    plain["workload"].update(requests=REQUESTS, new_tokens=4)
    plain["policy"]["coordination"].update(audit_share=1.0, plan_every_s=0.5)
    plain["policy"]["harvest"].update(max_memory=1.0)
    plain["policy"]["sharding"].update(context_tokens=256)  # of which desk-tiny's cache fits beside its layers
    return run_local(build(plain), folder)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["wrong_results", "lazy", "overclaim", "free_ride", "forge_receipts"])
def test_a_real_liar_at_work(tmp_path: Path, record_property: Any, kind: str) -> None:
    """No wrong answer reaches a client, nearly all are answered, checks hold, only true work is paid for, and who
    answered wrongly is evicted."""
    record = village(tmp_path, {"kind": kind})

    assert record.manifest["adversaries"] == {LIAR: kind}
    assert all(verdict is True for verdict in record.manifest["checks"].values()), record.manifest["checks"]
    assert record.summary["answers_correct"] == record.summary["requests_answered"] > 0.9 * REQUESTS
    assert (record.manifest["ledger"].get(LIAR, 0) > 0) == (kind == "overclaim")  # which does what it is given
    assert (record.manifest["notes"].get("bad_report", 0) > 0) == (kind == "forge_receipts")
    gone = [json.loads(row[4]) for row in record.tables["decisions"] if row[3] == "gone"]
    evicted = {words.split()[0] for told in gone for words in map(str, told) if words.endswith(" evicted")}
    assert evicted == ({LIAR} if kind in ("wrong_results", "lazy") else set())  # outvoted three times
    record_property("answered", record.summary["requests_answered"])
