"""Machines of one host in the twin: each measured number of the machine is charged where the real world pays it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.results import load
from scenarios.hosts import UNMEASURED
from scenarios.record import TABLES, Record
from sim.village import simulate
from sim.world import SIGNATURE_NS

TOKENS, STAGES = 24, 3
QUIET: dict[str, Any] = {"duration_s": 40.0, "workload__requests": 6}


def _run(folder: Path, profile: dict[str, Any], **overrides: Any) -> Record:
    path = folder / "profile.json"
    path.write_text(json.dumps({**UNMEASURED, **profile, "hash": "made-up"}))
    return simulate(load("four_desks", seed=2, profile=str(path), **{**QUIET, **overrides}))


def _column(record: Record, name: str) -> np.ndarray:
    k = TABLES["requests"].index(name)
    return np.array([row[k] for row in record.tables["requests"]], float)


@pytest.mark.parametrize(
    ("field", "first", "whole"),
    [
        ("hop_s", STAGES, STAGES * TOKENS),
        ("step_overhead_s", STAGES, STAGES * TOKENS),
        ("session_s", 1, 1),
        ("client_s", 0, 2),
        ("fsync_s", 0, 2),
    ],
)
def test_each_number_is_paid_where_it_is_measured(tmp_path: Path, field: str, first: int, whole: int) -> None:
    """A hop is paid by each token at each stage, a session once, and clients and commits outside of the session."""
    more_s = 4e-4
    before = _run(tmp_path, {})
    after = _run(tmp_path, {field: UNMEASURED[field] + more_s})

    first_s = np.median(_column(after, "first_token_s") - _column(before, "first_token_s"))
    whole_s = np.median(_column(after, "latency_s") - _column(before, "latency_s"))
    assert first_s == pytest.approx(first * more_s, rel=1e-3, abs=1e-7)
    if first:
        assert whole_s == pytest.approx(whole * more_s, rel=1e-3)
    else:  # a request crosses its client's link twice and commits twice, on a leader and its followers
        assert whole * more_s <= whole_s * (1 + 1e-9) <= 8 * whole * more_s


def test_a_profile_says_what_signatures_cost(tmp_path: Path) -> None:
    """A request waits for one signature, its receipt's, and for two verifications, each at the profile's own time."""
    more_s, as_before_s = 4e-4, SIGNATURE_NS / 1e9
    same = _run(tmp_path, {"sign_s": as_before_s, "verify_s": as_before_s})
    dear_to_make = _run(tmp_path, {"sign_s": as_before_s + more_s, "verify_s": as_before_s})
    dear_to_verify = _run(tmp_path, {"sign_s": as_before_s, "verify_s": as_before_s + more_s})

    before_s, made_s, verified_s = (_column(run, "latency_s") for run in (same, dear_to_make, dear_to_verify))
    assert np.median(made_s - before_s) == pytest.approx(more_s, rel=1e-3)
    assert np.median(verified_s - before_s) == pytest.approx(2 * more_s, rel=1e-3)


def test_a_profile_of_before_signatures_were_measured_is_as_it_was(tmp_path: Path) -> None:
    """It loads, they cost what they do without a profile, and the manifest has a word for that."""
    as_before_s = SIGNATURE_NS / 1e9
    old, new = _run(tmp_path, {}), _run(tmp_path, {"sign_s": as_before_s, "verify_s": as_before_s})

    assert [run.manifest["signatures"] for run in (old, new)] == ["assumed", "measured"]
    assert old.manifest["digest"] == new.manifest["digest"]


def test_sessions_of_one_host_share_its_cores(tmp_path: Path) -> None:
    """With one core, many sessions at once take longer in total than on cores enough; one alone does not care."""
    rush: dict[str, Any] = {"duration_s": 4.0, "workload__requests": 100}
    alone = [float(np.median(_column(_run(tmp_path, {"cores": cores}), "latency_s"))) for cores in (1, 64)]
    crowd = [float(np.median(_column(_run(tmp_path, {"cores": cores}, **rush), "latency_s"))) for cores in (1, 64)]

    assert alone[0] == alone[1]
    assert crowd[0] > 1.2 * crowd[1]


def test_the_manifest_names_the_profile(tmp_path: Path) -> None:
    """Both worlds write the profile's hash under the same name."""
    assert _run(tmp_path, {}).manifest["profile"] == "made-up"
    assert simulate(load("four_desks", profile="", **QUIET)).manifest["profile"] == "assumed"


def test_a_busy_process_stays_as_fast_as_its_profile_says(tmp_path: Path) -> None:
    """The twin's own governors do not slow a machine that was measured: every session alone takes as long."""
    busy: dict[str, Any] = {"duration_s": 40.0, "workload__requests": 150, "policy__sharding__slots": 1}
    record = _run(tmp_path, {"decode_s_layer": 2e-3}, fleet="desks_4", **busy)
    rows = [dict(zip(TABLES["sessions"], row, strict=True)) for row in record.tables["sessions"]]
    took_s = [row["ended_s"] - row["begun_s"] for row in rows if row["stages"] == rows[0]["stages"]]

    assert len(took_s) > 40
    assert max(took_s) == pytest.approx(min(took_s), rel=1e-6)
