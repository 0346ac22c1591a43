"""`twin compare RUN`: what stands in a Run is what the twin runs again, and the table says how far it is off."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import cli
from experiments.gap.errors import (
    PER_REQUEST,
    TOTALS,
    Errors,
    _held_once,
    kv_peak_bytes,
    kv_pool_bytes,
    pooled,
    request_times,
    that_counted,
    totals,
)
from experiments.gap.predict import predict, twin_of
from experiments.gap.table import Gap, gap_of
from experiments.results import Run, load
from scenarios.hosts import UNMEASURED
from scenarios.record import Record, frame, write
from scenarios.schema import Recorded, ScenarioError
from scenarios.workload import read_requests, requests
from sim.village import simulate

SLOW_HOP = {**UNMEASURED, "hop_s": UNMEASURED["hop_s"] + 1e-3, "hash": "slow-hops"}


def _measured(folder: Path, profile: dict[str, Any], **choices: Any) -> Run:
    """Stand in for a local Run: the twin's, at a profile, under the other world's name."""
    path = folder / "measured.json"
    path.write_text(json.dumps(profile))
    scenario = load("four_desks", seed=3, profile=str(path), duration_s=12.0, workload__requests=24, **choices)
    record = simulate(scenario)
    manifest = {**record.manifest, "world": "local", "config": {**record.manifest["config"], "world": "local"}}
    return Run(folder=write(Record(record.summary, manifest, record.tables), folder / "run"))


def test_what_the_twin_itself_measured_is_predicted_without_error(tmp_path: Path) -> None:
    """Arrivals, lengths, shapes and policies all come back from the Run, of workers that differ and hold their time."""
    run = _measured(tmp_path, {**UNMEASURED, "hash": "own"}, executor="paced", fleet="desks_mixed")
    gap = gap_of(str(run.folder))

    assert {name: e.size(1.0) for name, e in gap.requests.items()} == dict.fromkeys(gap.requests, 0.0)
    assert set(gap.requests) == {"ttft_s", "tpot_s", "latency_s"}
    measured, predicted = np.transpose(list(gap.whole.values()))
    np.testing.assert_array_equal(measured, predicted)
    assert [name for name, (real, _) in gap.whole.items() if np.isnan(real)] == ["ready_s"]  # nothing was launched


def test_a_wrong_profile_shows_where_it_is_paid(tmp_path: Path) -> None:
    """Hops that were a millisecond slower than the profile says are seen in every token, by as much."""
    run = _measured(tmp_path, SLOW_HOP)
    right = tmp_path / "right.json"
    right.write_text(json.dumps({**UNMEASURED, "hash": "right"}))
    measured, predicted = request_times(run), request_times(predict(run, str(right)))

    missing_s = (measured["tpot_s"] - predicted["tpot_s"]).median()
    assert missing_s == pytest.approx(3 * 1e-3, rel=1e-3)
    assert gap_of(str(run.folder), str(right)).requests["tpot_s"].bias < -0.2


def test_the_command_prints_the_table_and_refuses_what_it_cannot_predict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One argument is a prediction; a Run of the twin, and a profile that changed, are one line."""
    run = _measured(tmp_path, SLOW_HOP)
    assert cli.main(["compare", str(run.folder)]) == cli.OK
    out = capsys.readouterr().out
    assert "time per token after it" in out
    assert "KV bytes" in out
    assert max(len(line) for line in out.splitlines()[3:]) <= 96

    (tmp_path / "measured.json").write_text(json.dumps({**SLOW_HOP, "hash": "another"}))
    assert cli.main(["compare", str(run.folder)]) == cli.USER_INPUT
    assert "give one with --profile" in capsys.readouterr().err

    simulated = write(simulate(load("four_desks", duration_s=5.0, workload__requests=3)), tmp_path / "sim")
    assert cli.main(["compare", str(simulated)]) == cli.USER_INPUT
    assert "a finished Run of world=local" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "left", "says"),
    [
        ("manifest.json", '{"world', "manifest.json: this Run is damaged"),
        ("manifest.json", "[]", "manifest.json: this Run is damaged, run it again: it is no JSON object"),
        ("manifest.json", '{"world": "local"}', "its manifest's config has no 'workload'"),
        ("summary.json", "", "summary.json: this Run is damaged"),
        ("sessions.parquet", "PAR1", "sessions.parquet: this Run is damaged"),
        ("requests.parquet", "", "requests.parquet"),
    ],
)
def test_a_damaged_run_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, left: str, says: str
) -> None:
    """The file that cannot be read is named, whatever stands in it."""
    run = _measured(tmp_path, SLOW_HOP)
    assert run.folder is not None
    (run.folder / file).write_text(left)
    capsys.readouterr()
    assert cli.main(["compare", str(run.folder), "-q"]) == cli.USER_INPUT
    error = capsys.readouterr().err.strip()
    assert says in error
    assert "\n" not in error


def test_options_of_the_other_kind_of_comparison_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A figure is of two sides and a profile for a prediction: neither is passed over in silence."""
    for words, says in (
        (["a", "--out", "x.png"], "name B"),
        (["a", "b", "--profile", "p.json"], "leave B away"),
        (["a", "b", "--out", "nowhere/x.png"], "in a folder that exists"),
    ):
        assert cli.main(["compare", *words]) == cli.USER_INPUT
        assert says in capsys.readouterr().err


def test_recorded_requests_come_back(tmp_path: Path) -> None:
    """Names, clients, classes, arrivals and lengths are those of the Run; an answer that was cut short stays so."""
    run = _measured(tmp_path, SLOW_HOP)
    twin = twin_of(run)
    assert isinstance(twin.workload, Recorded)
    asked = requests(load("four_desks", seed=3, duration_s=12.0, workload__requests=24))
    assert requests(twin) == asked

    table = run.requests.assign(tokens=5)
    table.to_parquet(tmp_path / "short.parquet")
    assert {r.new_tokens for r in read_requests(tmp_path / "short.parquet")} == {5}
    with pytest.raises(ScenarioError, match="no table of requests"):
        read_requests(tmp_path / "measured.json")


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("arrival_s", float("nan"), "arrival_s=nan of r000007: expected at least 0"),
        ("arrival_s", -1.0, r"arrival_s=-1\.0 of r000007"),
        ("deadline_s", float("inf"), "deadline_s=inf of r000007"),
        ("prompt_tokens", 0, "prompt_tokens=0 of r000007: expected at least 1"),
        ("prompt_tokens", 2**24 + 1, "prompt_tokens=16777217 of r000007: expected at least 1 and at most 16777216"),
        ("deadline_s", 1e9, "deadline_s=1000000000.0 of r000007: expected at least 0 and at most 31622400"),
        ("arrival_s", 1e12, "arrival_s=1000000000000.0 of r000007: expected at least 0 and at most 1000000000"),
        ("priority", "vip", "priority='vip' of r000007: expected one of critical, high"),
        ("op_id", "r000003", "op_id r000003 is there twice"),
    ],
)
def test_recorded_requests_that_nobody_made_are_refused(tmp_path: Path, column: str, value: Any, says: str) -> None:
    """The line names the request, the column and its value."""
    table = frame("requests", [])
    rows = [
        {"op_id": f"r{k:06}", "client": "c", "priority": "low", "arrival_s": float(k), "deadline_s": 9.0,
         "prompt_tokens": 5, "new_tokens": 3, "tokens": 3} for k in range(9)
    ]  # fmt: skip
    rows[7][column] = value
    pd.DataFrame(rows, columns=table.columns).to_parquet(tmp_path / "requests.parquet")
    with pytest.raises(ScenarioError, match=says):
        read_requests(tmp_path / "requests.parquet")


def test_blocks_are_counted_at_each_nodes_worst_moment(tmp_path: Path) -> None:
    """Two sessions at once on a node count twice, one after another once; each with the blocks that it has by then."""
    run = _measured(tmp_path, SLOW_HOP)
    requests = run.requests.head(3).assign(op_id=["a", "b", "e"], prompt_tokens=[16, 3, 40])
    rows = [  # 16 + 1 - 1: one block; 3 + 31 - 1 = 33 tokens: 3 blocks, the third one at the end; 40 + 3: 3 blocks
        ("c/a/1", "d0", 0.0, 0.1, 2.0, 1, "d0:0-6,d1:6-8"),
        ("c/b/1", "d0", 1.0, 0.1, 3.0, 31, "d0:0-6,d2:6-8"),
        ("c/e/1", "d0", 3.5, 0.1, 4.0, 4, "d0:0-6,d1:6-8"),
    ]
    run.__dict__["requests"] = requests
    run.__dict__["sessions"] = pd.DataFrame(
        rows, columns=["op", "head", "begun_s", "first_token_s", "ended_s", "tokens", "stages"]
    )
    a_block = 2 * 2 * 16 * 4 * 16  # keys and values of two heads, 16 numbers of four bytes, 16 tokens
    most = {"d0": max(1 + 2, 3, 3) * 6, "d1": max(1, 3) * 2, "d2": 3 * 2}
    assert kv_peak_bytes(run) == sum(most.values()) * a_block
    slots, context = 4, run.config["policy"]["sharding"]["context_tokens"]
    assert kv_pool_bytes(run) == (6 + 2 + 2) * slots * context // 16 * a_block


def test_caches_of_a_process_that_was_killed_are_compared_in_neither_world(tmp_path: Path) -> None:
    """It took what it had counted with it, so that the twin's share of it is left out as well."""
    run = _measured(tmp_path, SLOW_HOP)
    heads = sorted(set(run.sessions["stages"].str.split(",").explode().str.split(":").str[0]))
    manifest = json.loads((run.folder / "manifest.json").read_text())
    counts = {node: {"kv_pool_bytes": 7, "kv_peak_bytes": 3} for node in heads[1:]}
    manifest["nodes"] = {heads[0]: {"kv_pool_bytes": 0, "kv_peak_bytes": 0}, **counts}
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    run = Run(folder=run.folder)

    nodes = that_counted(run)
    assert nodes == set(heads[1:])
    assert totals(run, nodes=nodes)["kv_pool_bytes"] == 7 * len(heads[1:])
    assert kv_pool_bytes(run, nodes) < kv_pool_bytes(run)
    assert kv_peak_bytes(run, nodes) < kv_peak_bytes(run)


def test_intervals_of_quantiles_cover_as_often_as_they_say() -> None:
    """Of 400 samples of 300 uniform errors, about 95 % of the intervals hold the true 0.95 quantile."""
    draw = np.random.Generator(np.random.PCG64(5))
    held = 0
    for _ in range(400):
        low, high = Errors(draw.random(300), 1.0, 1.0).interval(0.95)
        held += low <= 0.95 <= high
    assert 0.93 <= held / 400 <= 0.985


def test_a_tail_that_nobody_saw_is_unbounded() -> None:
    """Twenty requests say nothing about how large the last percent may be."""
    errors = Errors(np.linspace(-0.1, 0.1, 20), 1.0, 1.0)

    assert errors.interval(0.99)[1] == float("inf")
    assert replace(errors, values=np.full(3000, 0.02)).interval(0.99) == (0.02, 0.02)


def test_only_requests_of_both_sides_are_paired() -> None:
    """What one side did not answer is left out, and so is a time that was not measured."""
    columns = ["latency_s", "ttft_s", "tpot_s"]
    left = pd.DataFrame([[1.0, 0.5, 0.1], [2.0, 0.5, np.nan], [3.0, 0.5, 0.1]], ["a", "b", "c"], columns)
    right = pd.DataFrame([[1.1, 0.5, 0.1], [2.0, 0.5, 0.1]], ["a", "b"], columns)
    found = pooled([(left, right)])

    assert found["latency_s"].values.tolist() == pytest.approx([0.1, 0.0])
    assert len(found["tpot_s"].values) == 1
    assert pooled([(left, right.iloc[:0])]) == {}


def test_what_a_client_left_is_no_throughput_of_the_twins(tmp_path: Path) -> None:
    """What was withdrawn is served to its end by the twin alone; a session of no request is not the first."""
    run = _measured(tmp_path, {**UNMEASURED, "hash": "own"})
    assert run.folder is not None
    requests = pd.read_parquet(run.folder / "requests.parquet")
    sessions = pd.read_parquet(run.folder / "sessions.parquet")
    left = requests.index[:12]
    summary = {**run.summary, "tokens_total": float(requests["tokens"][12:].sum())}
    summary["throughput_tokens_per_s"] = summary["tokens_total"] / 12.0
    requests.loc[left, ["status", "tokens"]] = ["refused", 0]
    requests.to_parquet(run.folder / "requests.parquet")
    own = sessions[:1].assign(op="client/no-request/0", begun_s=0.001)
    pd.concat([own, sessions]).to_parquet(run.folder / "sessions.parquet")
    (run.folder / "summary.json").write_text(json.dumps(summary))

    whole = gap_of(str(run.folder)).whole
    for name in ("throughput_tokens_per_s", "first_ready_s"):
        real, twin = whole[name]
        assert twin == pytest.approx(real)


def test_what_sessions_share_is_held_once_a_lane() -> None:
    """Blocks of an equal beginning count once while anybody has them, or as often as there are lanes with a session."""
    times = [(0.0, 4.0, 2), (1.0, 3.0, 2), (2.0, 5.0, 1)]
    assert _held_once(times, 1) == [(0.0, 2), (1.0, 0), (2.0, 0), (3.0, 0), (4.0, -1), (5.0, -1)]
    assert _held_once(times, 2) == [(0.0, 2), (1.0, 2), (2.0, 0), (3.0, -1), (4.0, -2), (5.0, -1)]


def test_the_tables_columns_do_not_touch() -> None:
    """Small times take the most characters; there is a space between any two, and a line has at most 100 columns."""
    errors = Errors(np.array([-0.361, 0.5, 1.0]), 0.009346, 0.005969)
    whole = dict.fromkeys(TOTALS, (16_777_216.0, 65_536.0))
    told = Gap([], [], dict.fromkeys(PER_REQUEST, errors), whole).text().splitlines()

    assert sum("0.009346 s 0.005969 s" in line for line in told) == len(PER_REQUEST)
    assert max(map(len, told)) <= 100
