"""Tests of ``twin validate physics``: on a small folder of tests, on a page with places, and on what is refused."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.compose import UsageError
from experiments.validation import physics as command
from experiments.validation.physics import Row, measure, merged
from experiments.validation.physics_figure import draw
from experiments.validation.physics_table import markdown, ordered, rewritten, text

CHECKOUT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

@pytest.mark.parametrize("off", [3e-7, 1e-7])
def test_a_cell_empties_in_time(physics, off):
    physics("battery: time to empty", "a solver", off, "rel.", 1e-6)
    assert off < 1e-6

def test_a_mean_is_met_and_a_worst_case_is_not(physics):
    physics("heat: phones", "logs", 1.4, "K", 1.5, worst=1.95, note="11 runs")

def test_a_bar_is_missed_and_said_so(physics):
    physics("battery: end capacity", "cells", 7.0, "%", 5.0)

def test_data_are_missing(data_folder, physics):
    physics("heat: a law", "never said", 0.0, "K", 1.0)

def test_a_library_is_missing(physics):
    pytest.skip("needs the extra jax")

def test_a_law_is_broken(physics):
    physics("battery: splitting", "the whole", 0.5, "rel.", 1e-6)
    assert False

def test_nothing_was_said_before_it_broke(physics):
    raise RuntimeError("no number")

@pytest.mark.slow
def test_it_takes_long(physics):
    physics("fleet: a day", "SimPy", 0.0, "rel.", 1e-9)

def test_of_something_else():
    assert False
"""
SLIM = """[tool.pytest.ini_options]
addopts = "--import-mode=importlib --strict-markers"
markers = ["nightly", "physics", "slow"]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a few tests and the project's own fixtures."""
    (tmp_path / "home" / "tests").mkdir(parents=True)
    shutil.copy(CHECKOUT / "tests" / "conftest.py", tmp_path / "home" / "tests" / "conftest.py")
    (tmp_path / "home" / "tests" / "test_laws.py").write_text(TESTS)
    (tmp_path / "home" / "pyproject.toml").write_text(SLIM)
    return tmp_path / "home"


def test_what_the_tests_say_becomes_rows(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cases of a law are one row; missed bars, missing data and red tests are told from what was met."""
    monkeypatch.setenv("VILLAGETWIN_DATA", str(checkout / "nowhere"))

    rows = {row.law: row for row in measure(checkout, quiet=True)}

    empty = rows["battery: time to empty"]
    assert (empty.cases, empty.typical, empty.worst, empty.verdict) == (2, pytest.approx(2e-7), 3e-7, "met")
    assert len(empty.tests) == 2
    assert (rows["heat: phones"].verdict, rows["heat: phones"].notes) == ("met (mean)", ["11 runs"])
    assert rows["battery: end capacity"].verdict == "MISSED"
    assert rows["data are missing"].verdict == "no data"
    assert rows["data are missing"].reference.startswith("no data at")
    assert (rows["a library is missing"].verdict, rows["a library is missing"].typical) == ("skipped", None)
    assert (rows["battery: splitting"].verdict, rows["battery: splitting"].worst) == ("FAILED", 0.5)
    assert rows["nothing was said before it broke"].verdict == "FAILED"
    assert "fleet: a day" in rows
    assert len(rows) == 8  # and nothing of the test that compares nothing
    assert capsys.readouterr().out == ""


def test_quick_leaves_out_what_takes_long(checkout: Path) -> None:
    """``--quick`` runs no slow test."""
    assert not [row for row in measure(checkout, quick=True, quiet=True) if row.law.startswith("fleet")]


def test_an_installed_package_and_a_folder_without_comparisons_are_one_line(tmp_path: Path) -> None:
    """Without tests, or with none that compares, the command says so."""
    with pytest.raises(UsageError, match="needs a checkout of the project, for its tests"):
        measure(tmp_path, quiet=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text(SLIM)
    with pytest.raises(UsageError, match=r"no test of .* compares a law with a reference"):
        measure(tmp_path, quiet=True)
    (tmp_path / "pyproject.toml").write_text(SLIM.replace("--strict-markers", "--no-such-option"))
    with pytest.raises(UsageError, match="pytest could not run: "):
        measure(tmp_path, quiet=True)


ROWS = [
    Row("fleet: NumPy and JAX", "each other", "SoC", 1e-6, 1e-12, 2e-12, 1, "met"),
    Row("battery: " + "a law with a name that is too long for its column " * 2, "a reference that is long, too", "rel.",
        1e-6, 1.25e-7, 3e-7, 24, "met", ["a note"]),
    Row("a sentence about phones", "no data at home", verdict="no data"),
    Row("battery: end", "NASA | cells", "%", 5.0, 7.0, 39.0, 1, "MISSED"),
]  # fmt: skip


def test_the_text_is_100_columns_wide_and_in_the_pages_order() -> None:
    """Long names are wrapped, subjects stand in the order of the page, what was not compared stands last."""
    lines = text(ROWS).splitlines()

    assert max(map(len, lines)) <= 100
    assert [row.law.split()[0] for row in ordered(ROWS)] == ["battery:", "battery:", "fleet:", "a"]
    assert lines[2].split()[-5:] == ["1.25e-07", "3e-07", "1e-06", "rel.", "met"]
    assert any(line.startswith("  end") and line.endswith("MISSED") for line in lines)
    assert lines[-1].split()[-2:] == ["no", "data"]


def test_a_page_keeps_its_words_and_gets_its_rows() -> None:
    """Each place takes its subject's rows, twice the same; rows without a place are named."""
    page = (
        "# Laws\n<!-- physics: summary -->\nold\n<!-- /physics -->\nwords\n\n"
        "<!-- physics: battery -->\n<!-- /physics -->\nmore words\n"
    )

    once, homeless = rewritten(page, ROWS, "4 comparisons")
    twice, _ = rewritten(once, ROWS, "4 comparisons")

    assert once == twice
    assert "\n4 comparisons\n<!-- /physics -->\nwords\n" in once
    assert "old" not in once
    assert "| battery: end | NASA / cells | 7 | 39 | 5 % | **MISSED** | 1 |" in once
    assert "NumPy" not in once
    assert homeless == ["fleet: NumPy and JAX", "a sentence about phones"]
    assert rewritten(None, ROWS, "4 comparisons") == (f"{markdown(ROWS)}\n4 comparisons\n", [])


def test_the_command_writes_its_page_and_refuses_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page with a place is filled, and what was written to it meanwhile kept; a new one is made; one without a place,
    or in no folder, is refused before a test runs."""
    page = tmp_path / "page.md"
    ran: list[Path] = []

    def few(checkout: Path, **_: object) -> list[Row]:
        ran.append(checkout)
        if page.read_text().startswith("words"):
            page.write_text("other " + page.read_text())
        return ROWS

    monkeypatch.setattr(command, "measure", few)

    def validate(*words: str) -> str:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        return command.run(parser.parse_args(list(words))).text

    page.write_text("words\n<!-- physics -->\n<!-- /physics -->\n")
    assert "4 comparisons: 2 met, 1 MISSED, 1 no data." in validate("--out", str(page))
    assert page.read_text() == f"other words\n<!-- physics -->\n{markdown(ROWS)}<!-- /physics -->\n"
    validate("--out", str(tmp_path / "new.md"))
    assert (tmp_path / "new.md").read_text().startswith(markdown(ROWS))
    page.write_text("only words\n")
    for place, said in (
        (page, "has no place for a table"),
        (tmp_path / "no" / "page.md", "must be a file in a folder that exists"),
    ):
        with pytest.raises(UsageError, match=said):
            validate("--out", str(place))
    assert page.read_text() == "only words\n"
    assert ran == [CHECKOUT, CHECKOUT]


def test_a_red_test_is_in_the_exit_code_and_a_missed_bar_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`twin validate physics` ends with 3 where a law's own test is red, and with 0 where a known bar is missed."""
    codes = {}
    for verdict in ("MISSED", "FAILED"):
        rows = [Row("heat: a law", "logs", verdict=verdict)]
        monkeypatch.setattr(command, "measure", lambda *_, rows=rows, **__: rows)
        codes[verdict] = main(["validate", "physics"])

    assert codes == {"MISSED": 0, "FAILED": 3}
    assert "FAILED" in capsys.readouterr().out


def test_the_figure_is_drawn_with_or_without_measurements(tmp_path: Path, data_folder: Path) -> None:
    """Where there are no measurements the laws are drawn alone."""
    draw(tmp_path / "with.png", data_folder)
    draw(tmp_path / "without.png", tmp_path / "nowhere")

    assert (tmp_path / "with.png").stat().st_size > (tmp_path / "without.png").stat().st_size > 20_000


def test_a_red_case_makes_its_law_red() -> None:
    """One failed case among good ones is not averaged away, nor is a number that is none."""
    said = {"law": "heat: end", "reference": "solver", "unit": "K", "bar": 1e-6, "worst": None, "note": ""}
    cases = [("t::a[1]", "passed", "", [{**said, "error": 1e-9}]), ("t::a[2]", "failed", "", [{**said, "error": 1e-8}])]

    assert [(row.verdict, row.cases) for row in merged(iter(cases))] == [("FAILED", 2)]
    none = [("t::a[1]", "passed", "", [{**said, "error": float("nan")}])]
    assert [row.verdict for row in merged(iter(none))] == ["MISSED"]
