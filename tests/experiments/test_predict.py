"""Tests of `twin predict`: rows in, predictions and errors out, and one line for what it cannot read."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import pytest

from experiments import predict, progress
from experiments.cli import main
from models.inference.conditions import Conditions
from models.inference.predict import predict as law

HEAD = "system,model,quant,devices,n_devices,bandwidth,metric,value,unit,conditions\n"
GOOD = 'llama.cpp Metal,Llama 2 7B,Q4_0,Apple M2 Max (38-core GPU),1,400 GB/s memory,tg128,65.95,tokens/s,"batch 1"\n'


def table(folder: Path, *rows: str) -> Path:
    """Write a table of these rows."""
    file = folder / "rows.csv"
    file.write_text(HEAD + "".join(rows))
    return file


def test_rows_come_back_with_prediction_and_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row with a value gets its error, one without none, and the file keeps the cells beside both."""
    file = table(tmp_path, GOOD, GOOD.replace("65.95", ""))
    code = main(["predict", str(file), "--json", "--out", str(tmp_path / "out.csv")])
    found = json.loads(capsys.readouterr().out)
    with (tmp_path / "out.csv").open() as text:
        written = list(csv.DictReader(text))

    assert code == 0
    assert found["rows"][0]["error"] == pytest.approx(found["rows"][0]["predicted"] / 65.95 - 1)
    assert found["rows"][1]["error"] is None
    assert found["errors"]["llama.cpp apple decode (calibrated)"]["rows"] == 1
    assert [row["error"] != "" for row in written] == [True, False]
    assert written[0]["model"] == "Llama 2 7B"
    assert written[0]["fits"] == "yes"


def test_a_long_table_shows_how_far_it_is_on_stderr_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shares of the rows that are read, rising from 0; lines of JSON on stderr, and none with --quiet."""
    file = table(tmp_path, *[GOOD] * 4)
    shares: list[float] = []
    predict.read(file, lambda share, text: shares.append(share))
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    said = {}
    for words in ([], ["--quiet"]):
        assert main(["predict", str(file), "--json", *words]) == 0
        said[len(words)] = capsys.readouterr()

    assert shares == [0.0, 0.25, 0.5, 0.75]
    assert [json.loads(line)["text"] for line in said[0].err.splitlines()] == [f"line {n} of 5" for n in (2, 3, 4, 5)]
    assert said[1].err == ""
    assert said[0].out == said[1].out


def test_a_row_that_the_device_cannot_hold_is_predicted_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns that may be missing are; what does not fit is said beside the row and in the file."""
    file = tmp_path / "rows.csv"
    file.write_text(
        "system,model,quant,devices,metric,unit\n"
        "llama.cpp,gpt-oss-20b,MXFP4,Pi 5 8GB,decode,tokens/s\n"
        "llama.cpp,Qwen2.5-7B-Instruct,q4_0,Pi 5 8GB,decode,tokens/s\n"
    )
    code = main(["predict", str(file), "--out", str(tmp_path / "out.csv")])
    first, second = capsys.readouterr().out.splitlines()[1:3]
    with (tmp_path / "out.csv").open() as text:
        written = [row["fits"] for row in csv.DictReader(text)]

    assert code == 0
    assert "does not fit in memory" in first
    assert "fit" not in second
    assert written == ["no", "yes"]


@pytest.mark.parametrize(
    ("metric", "unit", "conditions", "expected"),
    [("prompt_time", "ms", "prompt 1024, batch 1, out 64", lambda m: m.prefill_s * 1e3),
     ("token_time", "ms", "prompt 1024, batch 1, out 64", lambda m: m.decode_step_s * 1e3),
     ("e2e_time", "s", "prompt 1024, batch 1, out 64", lambda m: m.end_to_end_s),
     ("throughput", "tokens/s", "prompt 1024, batch 1, out 64", lambda m: m.decode_tokens_per_s),
     ("joules_per_token", "J/token", "prompt 1024, batch 1, out 64", lambda m: m.joules_per_token)],
)  # fmt: skip
def test_each_metric_is_the_laws(metric: str, unit: str, conditions: str, expected: object, tmp_path: Path) -> None:
    """What a row asks for is what the law says, in the row's unit."""
    file = table(tmp_path, f'vLLM,Llama 3 8B,fp16,RTX 4090,1,,{metric},,{unit},"{conditions}"\n')
    found = law("vLLM", "llama-3.1-8b", "f16", "RTX 4090", None, Conditions(1024, 64))

    assert predict.read(file)[0].answer.value == pytest.approx(expected(found))  # type: ignore[operator]


def test_generation_starts_from_an_empty_cache_unless_a_depth_is_told(tmp_path: Path) -> None:
    """tg8192 has 4,096 tokens cached on average and is slower than tg128; at a depth of 8,192 it is slower still."""
    base = GOOD.replace("Llama 2 7B", "Llama 3 8B")
    deep = base.replace("tg128", "tg8192").replace("batch 1", "depth 8192")
    rates = [row.answer.value for row in predict.read(table(tmp_path, base, base.replace("tg128", "tg8192"), deep))]

    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(("Apple M2 Max (38-core GPU),1,400 GB/s memory", "Abacus 3000,1,"), r"line 2: devices is 'Abacus 3000'.*allowed"),
     (("Llama 2 7B", "Lama 2 7B"), r"line 2: model is 'Lama 2 7B'; nearest: .*llama-2-7b"),
     (("Q4_0", "Q9_Z"), r"line 2: quant is 'Q9_Z'.*allowed: .*q4_0"),
     (("llama.cpp Metal", "abacus"), r"line 2: system is 'abacus'.*allowed: .*vllm"),
     (("tg128", "beauty"), r"line 2: metric is 'beauty'.*allowed: pp512, tg128"),
     (("(38-core GPU),1,", "(38-core GPU),many,"), r"line 2: n_devices is 'many'; allowed: a number"),
     (("(38-core GPU),1,", "(38-core GPU),1e308,"), r"line 2: n_devices is '1e308'; allowed: .* to 100,000"),
     (("Apple M2 Max (38-core GPU)", "0x RTX 4090"), r"line 2: devices is '0x RTX 4090'; allowed: from 1 to 99"),
     (("batch 1", "batch 0"), r"line 2: conditions is 'batch 0'; allowed: a batch from 1 up"),
    (("batch 1", "prompt " + "9" * 400), r"line 2: conditions is 'prompt 9+', metric 'tg128'; allowed: numbers up to"),
     (("tg128", "tg" + "9" * 400), r"line 2: conditions is 'batch 1', metric 'tg9+'; allowed: numbers up to"),
     (("65.95", "-65.95"), r"line 2: value is '-65.95'; allowed: a number from 0 up"),
     (("65.95", "fast"), r"line 2: .*'fast'"),
     (('"batch 1"', "batch 1, build 2, a"), r"line 2: more cells than columns; allowed: 10"),
     (("tokens/s", "furlongs"), r"line 2: unit is 'furlongs'; allowed: tokens/s")],
)  # fmt: skip
def test_a_cell_that_cannot_be_read_is_named_in_one_line(
    wrong: tuple[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row and column are named with what is allowed, the exit code is the user's, and no file is left behind."""
    file = table(tmp_path, GOOD.replace(*wrong))
    code = main(["predict", str(file), "--out", str(tmp_path / "out.csv")])
    told = capsys.readouterr()
    assert code == 2
    assert re.search(said, told.err)
    assert told.err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()
    assert not list(tmp_path.glob("*.part"))


def test_a_table_without_its_columns_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The missing columns are named, and so is a file that is not there."""
    file = tmp_path / "rows.csv"
    file.write_text("model,value\nx,1\n")

    assert main(["predict", str(file)]) == 2
    assert "no column system, devices, metric, unit" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "none.csv")]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["gzip cut short", "gzip with a wrong byte", "a cell that never ends", "bytes"])
def test_a_file_that_holds_no_table_is_refused(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong with its bytes, one line says that it is no CSV, and the exit code is the user's."""
    packed = bytearray(gzip.compress((HEAD + GOOD).encode(), mtime=0))
    if wrong == "gzip cut short":
        packed = packed[:-10]
    elif wrong == "gzip with a wrong byte":
        packed[10] |= 0x06  # a block of a kind that there is not
    elif wrong == "a cell that never ends":
        packed = bytearray((HEAD + '"' + "x" * (csv.field_size_limit() + 1)).encode())
    else:
        packed = bytearray(HEAD.encode() + b"\xe9\n")
    file = tmp_path / "rows.csv"
    file.write_bytes(packed)

    assert main(["predict", str(file)]) == 2
    told = capsys.readouterr().err
    assert "not a CSV" in told
    assert told.count("\n") == 1
