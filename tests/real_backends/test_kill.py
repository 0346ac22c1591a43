"""Leader and worker are killed under load: what was acknowledged is in every durable log, once, whoever asks again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies import commands, village
from policies.cell import Cell
from policies.commands import Complete, Refuse
from policies.config import GatewayConfig
from policies.log import recover
from policies.port import START
from real_backends.clients import RETRY_DEADLINE_S
from real_backends.local import run_local
from real_backends.stores.file import FileStorage
from scenarios.journal import effects_checksum, read
from scenarios.record import TABLES, Record
from scenarios.schema import Scenario, build, to_plain

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

LAYERS = 8  # of desk-tiny


def _short() -> Scenario:
    from experiments.results import load

    plain = to_plain(load("four_desks", seed=5, profile=""))
    backends = ["torch", "jax", "torch"] if find_spec("jax") else ["torch"]
    plain.update(world="local", duration_s=13.0, reading_s=0.5, backends=backends, faults=[
        {"kind": "crash", "at_s": 3.0, "node": "leader", "down_s": 4.0},
        {"kind": "crash", "at_s": 9.0, "node": "worker", "down_s": 2.0},
    ])  # fmt: skip
    plain["workload"].update(requests=40, new_tokens=12, retry_s=1.0)
    plain["policy"]["consensus"].update(heartbeat_s=0.2, election_min_s=0.6, election_max_s=1.2)
    plain["policy"]["coordination"].update(lease_s=1.5, plan_every_s=0.5)
    return build(plain)


def _long() -> Scenario:
    from experiments.results import load

    mixed = ["torch", "jax", "torch"]
    return load("four_desks", seed=1, world="local", profile="", faults="desks_kill", backends=mixed)


def _durable_commands(folder: Path, member: str, applied: int) -> list[Any]:
    """Return the first ``applied`` commands of a stopped member's log, read from its disk."""
    storage = FileStorage(folder / member / "node.log")
    saved = recover(storage)
    storage.close()
    keys = sorted(key for key in saved if re.fullmatch(r"consensus/\d{12}", key))
    entries = [msgspec.msgpack.decode(saved[key], type=tuple[int, bytes]) for key in keys]  # (term, command)
    return [commands.decode(command) for _, command in entries if command][:applied]


def _count(found: list[Any]) -> tuple[dict[tuple[str, str], str], Counter[str]]:
    """Return each request's first outcome and what it earned, counted without the village's own state."""
    outcomes: dict[tuple[str, str], str] = {}
    earned: Counter[str] = Counter()
    for command in found:
        if isinstance(command, Refuse):
            outcomes.setdefault((command.client, command.op_id), "")
        elif isinstance(command, Complete):
            receipt = command.receipt
            if (receipt.client, receipt.op_id) not in outcomes:
                outcomes[(receipt.client, receipt.op_id)] = receipt.output
                earned.update({s.node: receipt.tokens * (s.last - s.first) for s in receipt.stages})
    return outcomes, earned


def _check_books(record: Record, folder: Path) -> list[dict[str, Any]]:
    """Check what clients heard against every committee member's disk; return the requests."""
    rows = [dict(zip(TABLES["requests"], row, strict=True)) for row in record.tables["requests"]]
    answered = [row for row in rows if row["status"] in ("answered", "late")]
    nodes = record.manifest["nodes"]
    assert len({nodes[member]["state_digest"] for member in record.manifest["committee"]}) == 1
    for member in record.manifest["committee"]:
        outcomes, earned = _count(_durable_commands(folder, member, nodes[member]["applied"]))
        assert {(row["client"], row["op_id"]): row["output"] for row in answered}.items() <= outcomes.items()
        assert dict(earned) == record.manifest["ledger"]
    assert sum(record.manifest["ledger"].values()) == LAYERS * sum(row["tokens"] for row in answered)
    each_max = int(GatewayConfig().requests_per_min / 60 * RETRY_DEADLINE_S / 2)  # what a client may ask for again
    asked_again = sum(min(each_max, count) for count in Counter(row["client"] for row in answered).values())
    assert record.manifest["retries"] == 3 * asked_again
    assert record.manifest["checks"]["one_outcome_per_request"] is True
    assert record.manifest["checks"]["ledger_conserved"] is True
    return rows


def _replay(data: bytes) -> int:
    """Feed a village node's journal to fresh Cells; return how many steps gave the journalled effects."""

    class Recorded:
        def __init__(self) -> None:
            self.answers: list[Any] = []

        def sign(self, data: bytes) -> bytes:
            return bytes(self.answers.pop(0))

        def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
            return bool(self.answers.pop(0))

    header, rows = read(data)
    keys, steps, cell = Recorded(), 0, None
    for now_ns, wall_ns, given, checksum, signed in rows:
        if given[0] == START:
            cell = village.cell(village.from_plain(header.config), keys)
        assert isinstance(cell, Cell)
        keys.answers = list(signed)
        assert effects_checksum(cell.step(now_ns, wall_ns, given)) == checksum, (header.node, steps)
        steps += 1
    return steps


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kills(tmp_path: Path) -> None:
    """SIGKILL of the leader and of a worker: all are answered as by one process alone, and books and retries agree.

    Where JAX is installed it runs one of the pipeline's three stages. The journals of what happened replay.
    """
    record = run_local(_short(), tmp_path)

    rows = _check_books(record, tmp_path)
    assert Counter(row["status"] for row in rows) == {"answered": 40}
    assert record.summary["answers_correct"] == 40
    assert (record.summary["crashes"], record.summary["checks_broken"]) == (2, 0)
    assert record.summary["elections"] >= 2
    victims = [row[2] for row in record.tables["faults"] if row[1:4:2] == ("crash", "start")]
    assert victims[0] in record.manifest["committee"]
    assert victims[1] in {node for row in rows for node in row["nodes"].split(",")}
    assert any(row["nodes"].count(",") == 2 and "desk-1" in row["nodes"] for row in rows)  # desk-1 runs JAX
    assert record.manifest["answers"]["digest"] == record.manifest["answers"]["reference_digest"]
    assert record.manifest["fault_layers"] == {"crash": ["process"]}
    assert all(len(row) == len(TABLES[name]) for name, found in record.tables.items() for row in found)
    assert all(record.tables[name] for name in TABLES)
    assert set(record.journals) == {"desk-0", "desk-1", "desk-2", "desk-3"}
    assert sum(_replay(data) for data in record.journals.values()) > 100


@pytest.mark.nightly
def test_ninety_seconds_of_torch_and_jax_survive_kills(
    tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    """The whole scenario with both executors in one pipeline: the reference's tokens, through both kills."""
    pytest.importorskip("jax", reason="jax is not installed: pip install 'villagetwin[jax]'")
    record = run_local(_long(), tmp_path)

    rows = _check_books(record, tmp_path)
    assert record.summary["answers_correct"] == len(rows) == 60
    assert record.manifest["answers"]["digest"] == record.manifest["answers"]["reference_digest"]
    assert (record.summary["crashes"], record.summary["checks_broken"]) == (2, 0)
    record_property("seeds", [record.manifest["seed"]])
    for figure in ("answers_correct", "latency_p50_s", "latency_p95_s", "latency_max_s", "elections", "commits"):
        record_property(figure, record.summary[figure])
