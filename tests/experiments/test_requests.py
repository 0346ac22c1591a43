"""Tests of `twin requests`: what it reads, prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.cli import main

LAW = ["--device", "RTX 4090", "--model", "llama-3.1-8b", "--kv-tokens", "20000", "-q"]
ROWS = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.5,100,20\n2023-11-16 18:17:03.0,50,10\n"


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


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ("a,b\n1,2\n", [], "no column input_toks or"),
        ("input_toks,output_toks,arrival_s\n", [], "no rows"),
        ("input_toks,output_toks,arrival_s\n4,0,0\n", [], "row 1: output_toks is 0; allowed: whole tokens from 1"),
        ("input_toks,output_toks,arrival_s\n4,2,soon\n", [], "row 1: arrival_s is 'soon'"),
        ("input_toks,output_toks,arrival_s\n40000,2,0\n", [], "request r0: 40000 + 2 tokens; allowed: up to 20000"),
        (ROWS, ["--model", "llama-9"], "--model llama-9: allowed: "),
        (ROWS, ["--device", "RTX 4091"], "nearest: 'RTX 4090"),
        (ROWS, ["--kernels", "nowhere/x", "--layers", "2"], "nowhere/x_dense.csv.gz: no such file"),
        (ROWS, ["--kernels", "nowhere/x"], "--layers: needed beside --kernels"),
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
