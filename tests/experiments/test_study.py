"""The study of harvest policies: what it says of tables whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import study
from experiments.compose import UsageError
from experiments.results import Run
from experiments.study_bound import bar, clairvoyant_point
from experiments.study_report import draw, tables
from tests.sim.fleet.fleets import lived, small

HOUR_S = 3600.0
BEST = {"documented": 10.0, "predictive": 14.0, "boinc": 12.0}
HARM = {"documented": 1.0, "predictive": 0.8, "boinc": 3.0}


def a_table(seeds: int = 5, noise: float = 0.1, worlds: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    """Return points of three policies: predictive harvests most at least harm, boinc more at more harm."""
    draw_ = np.random.default_rng(1)
    rows = []
    for world in worlds:
        for seed in range(seeds):
            shared = draw_.normal() * 2.0  # of the seed: what pairing takes out
            for policy, chip_h in BEST.items():
                row: dict[str, Any] = dict.fromkeys(study.COLUMNS, 1.0)
                row |= {"seed": seed, "decomposition": world, "policy": policy, "devices": 10, "days": 1.0,
                        "device_days": 10.0, "digest": "d", "key": "k"}  # fmt: skip
                row["harvested_chip_h"] = 10.0 * (chip_h + shared + draw_.normal() * noise)
                row["harvested_flop"] = row["harvested_chip_h"] * 1e15
                row["harm_interrupted_per_device_day"] = HARM[policy] + draw_.normal() * 0.01
                rows.append(row)
    return study.table_of(rows)


def test_pairing_by_seed_finds_what_seeds_hide() -> None:
    """Seeds that move all policies alike leave a difference of 4 chip-hours clear, with its interval around it."""
    row = study.paired(a_table(), "predictive").loc[("a", "chip_h")]

    assert row["low"] < 4.0 < row["high"]
    assert row["verdict"] == "higher"
    assert study.paired(a_table(), "predictive").loc[("b", "interrupted")]["verdict"] == "lower"
    assert study.paired(a_table(noise=50.0), "predictive").loc[("a", "chip_h")]["verdict"] == "noise"


def test_the_pareto_set_holds_what_nothing_beats() -> None:
    """More harvest at less harm beats: only the predictive policy is left."""
    assert study.pareto(a_table()) == {"a": ["predictive"], "b": ["predictive"]}


def test_a_ranking_that_turns_between_decompositions_is_unknown() -> None:
    """Where one decomposition turns two policies around, the study says unknown, and what all agree on otherwise."""
    table = a_table()
    assert study.rankings(table).loc["chip_h", "ranking"] == "predictive > boinc > documented"
    turned = (table["decomposition"] == "b") & (table["policy"] == "boinc")
    table.loc[turned, "harvested_chip_h"] -= 100.0

    found = study.rankings(table).loc["chip_h"]
    assert found["boinc"] == "unknown"
    assert found["predictive"] == "better"


def test_the_bar_is_held_line_by_line() -> None:
    """A clairvoyant 1.6 times the documented asks 1.3 times of the predictive policy, which has 1.4."""
    table = a_table()
    bound = table[table["policy"] == "documented"].copy()
    bound["policy"] = study.CLAIRVOYANT
    bound["harvested_chip_h"] *= 1.6
    found = bar(pd.concat([table, bound], ignore_index=True))

    assert found.loc[("clairvoyant / documented", "a"), "met"] == "yes"
    assert found.loc[("interrupted less documented's", "a"), "met"] == "yes"
    assert found.loc[("predictive / clairvoyant", "a"), "wanted"] == "at least 0.85"


def test_the_page_and_figure_are_drawn_from_the_table(tmp_path: Path) -> None:
    """The tables stand between their marks and the figure beside them; what is outside the marks stays."""
    a_table().to_csv(tmp_path / "harvest_study.csv", index=False)
    page = tmp_path / "harvest_study.md"
    page.write_text("before\n<!-- tables -->\nold\n<!-- end of tables -->\nafter\n")
    draw(tmp_path)

    assert page.read_text().startswith("before\n<!-- tables -->\n")
    assert "\nold\n" not in page.read_text()
    assert page.read_text().endswith("<!-- end of tables -->\nafter\n")
    assert tables(study.published(tmp_path / "harvest_study.csv")) in page.read_text()
    assert (tmp_path / "harvest_study.png").stat().st_size > 10_000


@pytest.mark.parametrize("missing", ["rows", "seeds"])
def test_a_study_with_holes_is_refused(missing: str) -> None:
    """No points, and policies without two seeds in common, are one line each."""
    if missing == "rows":
        with pytest.raises(UsageError, match="no points"):
            study.table_of([])
    else:
        with pytest.raises(UsageError, match="1 seeds in common"):
            study.paired(a_table(seeds=1), "boinc")


@pytest.mark.slow
def test_a_run_harvests_no_more_than_its_clairvoyant() -> None:
    """The bound of a fleet's owners is at least what the predictive policy and the documented one harvested of them."""
    from policies.config import PredictiveConfig
    from scenarios.fleet import FleetPolicies
    from sim.fleet.record import record

    for policy in (FleetPolicies(), FleetPolicies(harvest=PredictiveConfig())):
        scenario = small(devices=200, duration_s=6 * HOUR_S, policy=policy)
        run = Run(record(lived(devices=200, duration_s=6 * HOUR_S, policy=policy)))
        row = study.point(run, "x")

        assert 0.0 < row["harvested_chip_h"] <= clairvoyant_point(scenario)["harvested_chip_h"]
