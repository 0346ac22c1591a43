"""`twin committee`: the table, the count beside it, and refusals in one line."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from experiments import cli
from experiments.committee import count


def test_the_table_and_the_count_are_told_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows hold what `policies.committee.bound` computes; what was counted holds it."""
    assert cli.main(["committee", "--fleet", "60", "--faulty", "0.1,1/5", "--check", "200", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert [(row["share"], row["target"]) for row in told["rows"][:2]] == [(0.1, 1e-3), (0.1, 1e-6)]
    assert all(row["n"] == 3 * row["f"] + 1 and row["probability"] <= row["target"] for row in told["rows"])
    assert [(c["share"], c["n"], c["holds"]) for c in told["counted"]] == [
        (share, n, True) for share in (0.1, 0.2) for n in (4, 7, 10, 13)
    ]


def test_a_count_that_contradicts_the_bound_is_seen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A choice that fails far more often than was computed is marked, and the verb does not return 0."""
    monkeypatch.setattr("experiments.committee.faults", lambda n: 0)

    assert cli.main(["committee", "--fleet", "60", "--faulty", "0.2", "--check", "200"]) == 3
    assert capsys.readouterr().out.count("OUTSIDE") == 4


def test_informative_trust_is_counted_too() -> None:
    """At odds of 1 to 5 faulty devices sit seldom, as often as Wallenius' law says."""
    blind, told = (count(60, 0.2, 7, odds, 400, 1) for odds in (Fraction(1), Fraction(1, 5)))

    assert told.holds
    assert blind.holds
    assert told.high < blind.low


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--faulty", "0.4"], "no committee of 3f + 1 fails with 0.001 or less"),
        (["--faulty", "some"], "faulty='some': expected a number, as 0.1 or 1/4"),
        (["--faulty", "0.1", "--odds", "1/99", "--check", "9"], "odds=1/99: a device has 1 to 10 tickets"),
        (["--faulty", "0.1", "--odds", "0"], "odds='0': allowed: 1/1000 to 1000"),
        (["--odds", "99999999999999999999999/1"], "odds='99999999999999999999999/1': allowed: 1/1000 to 1000"),
        (["--faulty", "1e99999999"], "faulty='1e99999999': expected a number, as 0.1 or 1/4"),
        (["--odds", "1e-99999999"], "odds='1e-99999999': expected a number, as 0.1 or 1/4"),
        (["--faulty", "0.1,1.5"], "faulty='1.5': allowed: shares from 0 to 1"),
        (["--faulty=-0.1"], "faulty='-0.1': allowed: shares from 0 to 1"),
        (["--fleet", "0"], "--fleet 0: allowed: 1 to 1000000"),
        (["--fleet", "10000000000"], "--fleet 10000000000: allowed: 1 to 1000000"),
        (["--check", "-1"], "--check -1: allowed: 0 to 10000000"),
        (["--check", "9", "--seed", "-1"], "--seed -1: allowed: 0 to 9223372036854775807"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the option and what is allowed."""
    assert cli.main(["committee", *words]) == cli.USER_INPUT
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
