"""Tests of `twin validate inference`: errors by hand, the page, what is refused, and that no row was fitted to."""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from experiments.calibration import inference_samples as samples
from experiments.calibration.distributions import data_folder
from experiments.cli import main
from experiments.compose import UsageError
from experiments.predict import read
from experiments.validation import inference as command
from experiments.validation import inference_twice
from models.inference.chips import find_devices

DATA = data_folder()
HEAD = "class,system,model,quant,devices,n_devices,metric,value,unit,conditions,source,read\n"
ROW = "zero-shot: boards,llama.cpp,Llama 3.2 3B,Q4_K_M,Raspberry Pi 5,1,tg128,{},tokens/s,batch 1,a,yes\n"
PAGE = "before\n<!-- inference: classes -->\nold\n<!-- /inference -->\nafter\n"


def table(folder: Path, *values: float) -> Path:
    """Write rows of one board with these measured rates."""
    file = folder / "rows.csv"
    file.write_text(HEAD + "".join(ROW.format(value) for value in values))
    return file


def test_errors_are_those_of_the_rows(tmp_path: Path) -> None:
    """Measured at half and at double the prediction: errors +100 % and -50 %, mean 75 %, worst named, bar missed."""
    rate = read(table(tmp_path, 1.0))[0].answer.value
    whole, part = command.judge(read(table(tmp_path, rate / 2, rate * 2)))

    assert (whole.name, part.name) == ("zero-shot", "zero-shot: boards")
    assert whole.mean == part.mean == pytest.approx(0.75, abs=1e-4)
    assert whole.worst == pytest.approx(1.0, abs=1e-4)
    assert "Raspberry Pi 5" in whole.worst_row
    assert (whole.verdict, part.verdict) == ("MISSED", "")


@pytest.mark.parametrize(("off", "verdict"), [(0.3, "met"), (0.4, "MISSED")])
def test_one_row_beyond_the_worst_that_a_class_may_have_misses_its_bar(
    tmp_path: Path, off: float, verdict: str
) -> None:
    """Decode at batch 1 is within its mean and its p90, and judged by its worst row as well: 35 %."""
    rate = read(table(tmp_path, 1.0))[0].answer.value
    file = table(tmp_path, *[rate] * 19, rate / (1 + off))
    file.write_text(file.read_text().replace("zero-shot: boards", '"decode, batch 1"'))
    (one,) = command.judge(read(file))

    assert (one.mean < 0.08, one.p90 < 0.2) == (True, True)
    assert one.verdict == verdict


def test_a_page_keeps_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The places are filled, the words around them stay, and a page without places is refused in one line."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert main(["validate", "inference", "--rows", str(table(tmp_path, 5.0, 6.0, 7.0)), "--out", str(page)]) == 0
    text = page.read_text()
    assert re.match(r"before\n<!-- inference: classes -->\n\| class .*\n<!-- /inference -->\nafter\n$", text, re.DOTALL)
    assert "old" not in text

    for held in (b"nothing", b"\xff<!-- inference: classes -->\n<!-- /inference -->\n"):
        page.write_bytes(held)
        capsys.readouterr()
        assert main(["validate", "inference", "--out", str(page)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert page.read_bytes() == held


def test_rows_without_a_class_are_refused(tmp_path: Path) -> None:
    """A table as for `twin predict` lacks the class, and that is what is said."""
    file = tmp_path / "rows.csv"
    file.write_text((HEAD + ROW.format(5.0)).replace("class,", "").replace("zero-shot: boards,", ""))

    with pytest.raises(UsageError, match="a column class"):
        command.run(argparse.Namespace(rows=file, out=None))


def test_what_is_printed_twice_has_a_floor(tmp_path: Path) -> None:
    """Printed as 4 and as 5: they differ by a quarter, and one prediction of both is off by a tenth at least."""
    file = tmp_path / "twice.csv"
    file.write_text(HEAD.replace("\n", ",beside\n") + ROW.format(4.0).replace("\n", ",5.0\n"))
    (found,) = inference_twice.twice(file)
    rate = read(file)[0].answer.value

    assert (found.rows, found.mean, found.most, found.floor) == pytest.approx((1, 0.25, 0.25, 0.1))
    assert (found.law, found.law_beside) == pytest.approx((abs(rate / 4 - 1), abs(rate / 5 - 1)))

    file.write_text(HEAD.replace("\n", ",beside\n") + ROW.format(4.0).replace("\n", ",none\n"))
    with pytest.raises(UsageError, match="beside is 'none'"):
        inference_twice.twice(file)


def test_the_law_of_a_step_is_within_the_bar_of_the_median_step() -> None:
    """LMDeploy's steps of three models at batch 16 to 64: 12 % on average against the median that the page prints."""
    steps = inference_twice.twice()[0]

    assert steps.rows == 17
    assert steps.law < 0.12


def test_every_row_has_a_source_and_a_known_class() -> None:
    """The rows that come with the project name their source, how it was read, and a class with a bar."""
    with command.ROWS.open() as text:
        rows = list(csv.DictReader(text))

    assert len(rows) > 600
    assert all(row["source"] and row["read"] in ("yes", "second-hand") for row in rows)
    assert {row["class"].split(":")[0] for row in rows} == set(command.BARS)


@pytest.mark.skipif(not (DATA / samples.APPLE).is_file(), reason=f"no calibration rows under {DATA}")
def test_no_row_stands_among_those_that_prices_were_fitted_to() -> None:
    """No row has chip, metric and value of a calibration row."""
    fitted = set()
    for file in (samples.APPLE, samples.CUDA, "inference_calibration/splitwise_a100_h100.csv.gz"):
        for row in pd.read_csv(DATA / file).itertuples():
            fitted.add((find_devices(row.devices)[0].name, row.metric, round(float(row.value), 2)))
    with command.ROWS.open() as text:
        rows = list(csv.DictReader(text))
    seen = [
        row for row in rows if int(row["n_devices"]) == 1
        and (find_devices(row["devices"])[0].name, row["metric"], round(float(row["value"]), 2)) in fitted
    ]  # fmt: skip

    assert seen == []
