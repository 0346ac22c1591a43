"""Records made up for these tests: the shape of a day, without a world."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest

from experiments.compose import compose_plain
from scenarios.record import Record
from scenarios.schema import Scenario, build, to_plain

POLICIES = {"consensus": {"class": "policies.consensus.raft:Raft", "source_sha256": "c0" * 32}}


@cache
def _built(overrides: tuple[str, ...]) -> Scenario:
    """Build a made-up run's scenario once: to compose it takes longer than all the rest of the record."""
    return build(compose_plain(overrides))


def synthetic_record(
    seed: int = 1,
    *,
    slower: float = 1.0,
    requests: int = 400,
    devices: int = 20,
    overrides: tuple[str, ...] = (),
) -> Record:
    """Return a record of a made-up run; ``slower`` multiplies every latency of the same draws."""
    rng = np.random.default_rng(seed)
    config = to_plain(msgspec.structs.replace(_built(overrides), seed=seed))
    duration_s = config["duration_s"]
    arrival = np.sort(rng.uniform(0, duration_s, requests))
    priority = rng.choice(["critical", "high", "normal", "low", "background"], requests)
    latency = slower * rng.lognormal(1.0, 0.6, requests)
    status = np.where(rng.random(requests) < 0.05, "refused", "answered")
    rows = []
    for i in range(requests):
        done = status[i] == "answered"
        rows.append(
            (
                f"op-{i}",
                f"client-{i % 4}",
                str(priority[i]),
                float(arrival[i]),
                300.0,
                100,
                50,
                str(status[i]),
                "" if done else "queue full",
                float(latency[i] / 4) if done else None,
                float(latency[i]) if done else None,
                1,
                50 if done else 0,
                "d" if done else "",
                True if done else None,
                f"desk-{i % 3},desk-{(i + 1) % 3}" if done else "",
                "desk-tiny" if done else "",
            )
        )
    samples = [
        (
            t,
            f"dev-{d}",
            "phone",
            float(0.5 + 0.4 * np.sin(t / duration_s * 6 + d)),
            d % 2 == 0,
            False,
            float(30 + 10 * rng.random()),
            float(28 + 6 * rng.random()),
            1.0,
            d % 3 == 0,
            "harvesting",
        )
        for t in np.linspace(0, duration_s, 24).tolist()
        for d in range(devices)
    ]
    decisions = [
        (1.0, "desk-0", "consensus", "leader", '{"term":1}'),
        (duration_s / 3, "desk-1", "consensus", "leader", '{"term":2}'),
        (1.0, "desk-0", "consensus", "follows", '{"term":1,"leader":"desk-0"}'),
    ]
    faults = [
        (duration_s / 3 - 5, "crash", "desk-0", "start", "model", ""),
        (duration_s / 3 + 5, "crash", "desk-0", "end", "model", ""),
        (duration_s / 2, "loss", "*", "start", "model", "0.05"),
        (duration_s / 2 + 60, "loss", "*", "end", "model", "0.05"),
    ]
    answered = int((status == "answered").sum())
    summary = {
        "requests_total": requests,
        "requests_answered": answered,
        "requests_late": 0,
        "requests_refused": requests - answered,
        "requests_lost": 0,
        "latency_p50_s": float(np.median(latency[status == "answered"])),
        "throughput_tokens_per_s": 50 * answered / duration_s,
        "commits": 1000 + seed,
        "elections": 2,
        "duration_s": duration_s,
    }
    manifest = {
        "digest": f"{seed:064x}",
        "seed": seed,
        "world": config["world"],
        "fidelity": "made up",
        "config": config,
        "policies": POLICIES,
        "versions": {"python": "3.11"},
        "checks": {"one_leader_per_term": "holds", "ledger_conserved": "holds"},
        "check_events": {"one_leader_per_term": 2},
        "committee": ["desk-0", "desk-1"],
    }
    commits = [(1, 1, 2.0, 2.1, 2), (2, 2, duration_s / 2, duration_s / 2 + 0.1, 2)]
    tables = {"requests": rows, "devices": samples, "decisions": decisions, "commits": commits, "faults": faults}
    return Record(summary, manifest, tables)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep runs and databases of a test in a folder of its own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("VILLAGETWIN_HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(name="synthetic_record")
def _synthetic_record() -> Callable[..., Record]:
    return synthetic_record


@pytest.fixture(scope="session")
def migrated_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One migrated MLflow database for the session: a migration takes seconds, a copy does not."""
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    from experiments.track import open_client

    folder = tmp_path_factory.mktemp("mlflow")
    open_client(folder)
    with sqlite3.connect(folder / "mlflow.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the copy is of this one file
    return folder / "mlflow.db"


@pytest.fixture
def tracked_home(home: Path, migrated_db: Path) -> Path:
    """A home whose mlflow.db is ready."""
    shutil.copy(migrated_db, home / "mlflow.db")
    return home
