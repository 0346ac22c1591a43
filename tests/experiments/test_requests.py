"""Tests of `twin requests`: what it reads, prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.requests import Beginning, read
from models.engines import Linear
from policies.serving.batching import BatchRules, Request
from sim.batches import Arrival, Engine, Fidelity

LAW = ["--device", "RTX 4090", "--model", "llama-3.1-8b", "--kv-tokens", "20000", "-q"]
ROWS = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.5,100,20\n2023-11-16 18:17:03.0,50,10\n"

SEEN = "input_toks,output_toks,arrival_s,first_token_ts,last_token_ts\n"


def test_a_trace_is_served_and_each_request_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dates count from the first one; the file has a line a request in order of arrival, and the table its means."""
    (tmp_path / "trace.csv").write_text(ROWS)
    out = tmp_path / "out.jsonl"

    assert main(["requests", str(tmp_path / "trace.csv"), *LAW, "--json", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["request_id"], one["arrival_s"], one["state"]) for one in lines] == [
        ("r1", 0.0, "done"),
        ("r0", 0.5, "done"),
    ]
    assert all(0 < one["ttft_s"] < one["end_to_end_s"] for one in lines)
    assert json.loads(capsys.readouterr().out)["ttft_s"]["predicted"]["mean"] == pytest.approx(
        sum(one["ttft_s"] for one in lines) / 2
    )


@pytest.mark.parametrize("fidelity", ["iterations", "leaps", "fluid"])
def test_every_result_says_its_fidelity(tmp_path: Path, capsys: pytest.CaptureFixture[str], fidelity: Fidelity) -> None:
    """The summary and each line of the file name it; of two requests all three tell the same times."""
    (tmp_path / "trace.csv").write_text(ROWS)
    out = tmp_path / "out.jsonl"
    words = ["requests", str(tmp_path / "trace.csv"), *LAW, "--out", str(out)]

    assert main([*words, "--json"]) == 0
    reference = json.loads(capsys.readouterr().out)
    assert reference["fidelity"] == "iterations"
    assert main([*words, "--json", "--fidelity", fidelity]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fidelity"] == fidelity
    assert found["end_to_end_s"]["predicted"]["mean"] == pytest.approx(reference["end_to_end_s"]["predicted"]["mean"])
    assert {json.loads(line)["fidelity"] for line in out.read_text().splitlines()} == {fidelity}
    assert main([*words, "--fidelity", fidelity]) == 0
    assert f"events ({fidelity})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ("a,b\n1,2\n", [], "no column input_toks or"),
        ("input_toks,output_toks,arrival_s\n", [], "no rows"),
        ("input_toks,output_toks,arrival_s\n4,0,0\n", [], "row 1: output_toks is 0; allowed: whole tokens from 1"),
        ("input_toks,output_toks,arrival_s\n4,2,soon\n", [], "row 1: arrival_s is 'soon'"),
        ("input_toks,output_toks,arrival_s\n40000,2,0\n", [], "request r0: 40000 + 2 tokens; allowed: up to 20000"),
        ("input_toks,output_toks,arrival_s\n4,inf,0\n", [], "row 1: output_toks is inf; allowed: whole tokens from 1"),
        ("input_toks,output_toks,arrival_s\n4,4,nan\n", [], "row 1: arrival_s is 'nan'; allowed: seconds or a date"),
        (f"{SEEN}4,4,0,soon,2\n", [], "row 1: first_token_ts is soon; allowed: seconds, or nothing"),
        (f"{SEEN}4,4,0,1,inf\n", [], "row 1: last_token_ts is inf; allowed: seconds, or nothing"),
        (ROWS, ["--model", "llama-9"], "--model llama-9: allowed: "),
        (ROWS, ["--device", "RTX 4091"], "nearest: 'RTX 4090"),
        (ROWS, ["--kernels", "nowhere/x", "--layers", "2"], "nowhere/x_dense.csv.gz: no such file"),
        (ROWS, ["--kernels", "nowhere/x"], "--layers: needed beside --kernels"),
        (ROWS, ["--overhead-us", "nan"], "--overhead-us nan: allowed: 0 to 1e+06"),
        (ROWS, ["--overhead-us=-1"], "--overhead-us -1: allowed: 0 to 1e+06"),
        (ROWS, ["--requests-max", "3000"], "requests_max is 3000; allowed: up to tokens_max"),
    ],
)
def test_bad_words_and_files_get_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, words: list[str], message: str
) -> None:
    """It names the row or the option, the value and what is allowed; nothing is written."""
    (tmp_path / "trace.csv").write_text(rows)
    out = tmp_path / "out.jsonl"

    assert main(["requests", str(tmp_path / "trace.csv"), *LAW, *words, "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not out.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1, 2]\n3", "allowed: a JSON object a line"),
        (
            '{"input_toks": 4, "output_toks": 4, "arrival_s": 0, "hash_ids": "abc"}',
            "hash_ids is 'abc'; allowed: a list",
        ),
    ],
)
def test_lines_that_are_no_requests_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    """JSON that is no object, and blocks that are no list, are named in one line."""
    (tmp_path / "trace.jsonl").write_text(line + "\n")

    assert main(["requests", str(tmp_path / "trace.jsonl"), *LAW]) == 2
    assert message in capsys.readouterr().err
    assert capsys.readouterr().err.count("\n") <= 1


def test_what_was_not_measured_is_compared_with_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows without times of tokens, or impossible ones, and rows without names of blocks are predicted all the same."""
    (tmp_path / "seen.csv").write_text(f"{SEEN}4,4,0,,\n4,4,1,-7,-9\n")
    lines = ['{"input_toks": 600, "output_toks": 4, "arrival_s": 0, "hash_ids": [7]}']
    lines.append('{"input_toks": 600, "output_toks": 4, "arrival_s": 1, "hash_ids": null}')
    (tmp_path / "named.jsonl").write_text("\n".join(lines) + "\n")

    for name in ("seen.csv", "named.jsonl"):
        assert main(["requests", str(tmp_path / name), *LAW]) == 0
        assert "2 requests" in capsys.readouterr().out


@pytest.mark.parametrize("tokens", ["-5", "0", "15"])
def test_a_cache_without_a_block_is_refused_by_its_option(
    tmp_path: Path, tokens: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names what was typed, not the blocks that come of it."""
    (tmp_path / "trace.csv").write_text(ROWS)

    assert main(["requests", str(tmp_path / "trace.csv"), *LAW, "--kv-tokens", tokens]) == 2
    assert f"--kv-tokens {tokens}: allowed: from 16" in capsys.readouterr().err


def test_where_to_write_is_asked_before_anything_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there, or a folder itself, is one line and not an hour's replay lost."""
    (tmp_path / "trace.csv").write_text(ROWS)
    monkeypatch.setattr("experiments.requests._serve", lambda *words: pytest.fail("it was replayed"))

    for out in (tmp_path, tmp_path / "nowhere" / "out.jsonl"):
        assert main(["requests", str(tmp_path / "trace.csv"), *LAW, "--out", str(out)]) == 2
        assert f"--out {out}: must be a file in a folder that exists" in capsys.readouterr().err


def test_prompts_that_begin_alike_share_what_is_cached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each hash stands for 512 tokens; the second prompt finds the one it has in common, milliseconds count as such."""
    rows = [
        {"timestamp": 0, "input_length": 1100, "output_length": 2, "hash_ids": [7, 8, 9]},
        {"timestamp": 60_000, "input_length": 900, "output_length": 2, "hash_ids": [7, 5]},
    ]
    (tmp_path / "trace.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.jsonl"

    assert main(["requests", str(tmp_path / "trace.jsonl"), *LAW, "--json", "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(one["arrival_s"], one["shared_toks"]) for one in lines] == [(0.0, 0), (60.0, 512)]
    assert json.loads(capsys.readouterr().out)["shared_share"] == pytest.approx(512 / 2000)


def test_a_cache_without_bounds_finds_nearly_all_that_came_before(data_folder: Path) -> None:
    """A thousand of Mooncake's conversations share at least 80 % of what whole blocks seen before would give."""
    rows = read(data_folder / "traces/mooncake_conversation.jsonl.gz").iloc[:1000]
    seen: set[int] = set()
    ideal = 0
    for ids, prompt in zip(rows["hashes"], rows["prompt"], strict=True):
        known = next((k for k, one in enumerate(ids) if one not in seen), len(ids))
        ideal += min(known * 512, prompt)
        seen.update(ids)
    coming = [
        Arrival(row.at, Request(row.key, row.prompt, row.wanted, names=Beginning(row.hashes, 32)))
        for row in rows.itertuples()
    ]
    law = Linear(0.002, 1e-6, 1e-9, 1e-10, 1e-6)
    served = Engine(law, BatchRules(10_000_000, 8192), leaps=True).serve(coming).served

    assert sum(one.request.shared for one in served) > 0.8 * ideal
