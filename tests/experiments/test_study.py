"""The study of harvest policies: what it says of tables whose answer is known, of sweeps and of owners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import study
from experiments.compose import UsageError
from experiments.results import Run
from experiments.study_bound import PRICE_CHIP_S, bar, causal_point, clairvoyant_point, owners_ahead
from experiments.study_report import LARGE_MARKS, MARKS, draw, large_table, pareto_figure, tables
from models.availability import DECOMPOSITIONS
from policies.config import HarvestConfig, PredictiveConfig
from policies.harvest import Devices, make
from policies.readings import Readings
from scenarios.fleet import FleetPolicies
from scenarios.record import write
from sim.clairvoyant import allowed
from sim.fleet import stock
from sim.fleet.record import simulate_fleet
from tests.sim.fleet.fleets import small

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


def test_less_harm_ranks_better() -> None:
    """Of harvest the larger is the better, of harm the smaller."""
    found = study.rankings(a_table(noise=0.01))["ranking"]

    assert found["pflop"] == "predictive > boinc > documented"
    assert found["interrupted"] == "predictive > documented > boinc"


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


def test_large_fleets_have_a_part_of_the_page_of_their_own(tmp_path: Path) -> None:
    """Each policy stands there with its share of the clairvoyant's harvest; the tables of small fleets stay."""
    table = a_table()
    bound = table[table["policy"] == "documented"].copy()
    bound["policy"] = study.CLAIRVOYANT
    bound["harvested_chip_h"] *= 2.0
    pd.concat([table, bound], ignore_index=True).to_csv(tmp_path / "harvest_study_large.csv", index=False)
    page = tmp_path / "harvest_study.md"
    marks = (
        "<!-- tables -->\nof small ones\n<!-- end of tables -->\n<!-- large fleets -->\n<!-- end of large fleets -->"
    )
    page.write_text(marks)
    draw(tmp_path)

    assert "of small ones" in page.read_text()
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| a | documented |")]
    assert row.split(" | ")[4] == "0.5"


@pytest.mark.parametrize("missing", ["rows", "seeds"])
def test_a_study_with_holes_is_refused(missing: str) -> None:
    """No points, and policies without two seeds in common, are one line each."""
    if missing == "rows":
        with pytest.raises(UsageError, match="no points"):
            study.table_of([])
    else:
        with pytest.raises(UsageError, match="1 seeds in common"):
            study.paired(a_table(seeds=1), "boinc")


def row(policy: str, seed: int, decomposition: str = "charger_limited", **figures: float) -> dict[str, Any]:
    """Return a made-up point: ten devices for a day, one unit of everything that is not given."""
    names = {"seed": seed, "decomposition": decomposition, "policy": policy, "devices": 10, "days": 1.0}
    rest = dict.fromkeys(study.SUMMED, 1.0) | {"device_days": 10.0}
    return {**names, **rest, **figures, "digest": "d", "key": "k"}


def test_pairs_are_by_seed_and_their_interval_is_scipys() -> None:
    """Rows in any order are paired by seed, those of one side left out; the interval is SciPy's paired t-test's."""
    g = np.random.default_rng(1)
    a, b = g.normal(50.0, 20.0, 8), g.normal(3.0, 1.0, 8)
    rows = [row("documented", s, harvested_chip_h=a[s]) for s in range(8)]
    rows += [row("mine", s, harvested_chip_h=a[s] + b[s]) for s in reversed(range(8))]
    rows += [row("documented", -1, harvested_chip_h=900.0), row("mine", 99, harvested_chip_h=900.0)]

    found = study.paired(study.table_of(rows), "mine").loc[("charger_limited", "chip_h")]
    theirs = stats.ttest_rel((a + b) / 10.0, a / 10.0).confidence_interval(0.95)
    ratio = stats.ttest_1samp((a + b) / a, 0.0).confidence_interval(0.95)

    assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert (found["ratio_low"], found["ratio_high"]) == pytest.approx((ratio.low, ratio.high), rel=1e-9)
    assert (found["seeds"], found["verdict"]) == (8, "higher")


def test_what_cannot_be_told_apart_is_not() -> None:
    """Equal figures are equal, an interval about 0 is noise, and a figure that was not measured is unknown."""
    g = np.random.default_rng(2)
    rows = [row("documented", s, village_kwh=np.nan) for s in range(6)]
    rows += [row("mine", s, village_kwh=1.0, harm_hot_min_per_device_day=1.0 + g.normal()) for s in range(6)]
    found = study.paired(study.table_of(rows), "mine")["verdict"].loc["charger_limited"]

    assert (found["interrupted"], found["hot_min"], found["village_wh"]) == ("equal", "noise", "unknown")


def test_less_harvest_for_less_harm_is_not_beaten() -> None:
    """More harvest for more of one harm stays, and so does none at all; the bound is no policy."""
    rows = [
        row("documented", 1, harvested_chip_h=10.0),
        row("greedy", 1, harvested_chip_h=20.0, harm_interrupted_per_device_day=2.0),
        row("worse", 1, harvested_chip_h=10.0, harm_times_low_per_device_day=2.0),
        row("none", 1, harvested_chip_h=0.0, harm_hot_min_per_device_day=0.5),
        row("clairvoyant", 1, harvested_chip_h=99.0),
    ]

    assert study.pareto(study.table_of(rows)) == {"charger_limited": ["documented", "greedy", "none"]}


def test_the_bar_says_no_where_one_harm_is_higher() -> None:
    """1.4 times the documented of a possible twice: worth it, enough, short of the bound; one harm forbids it."""
    gain = {"documented": 1.0, "predictive": 1.4, "clairvoyant": 2.0}
    rows = [
        row(policy, seed, harvested_chip_h=factor * (10.0 + seed))
        for policy, factor in gain.items()
        for seed in range(6)
    ]
    table = study.table_of(rows)
    table.loc[table["policy"] == "predictive", "harm_interrupted_per_device_day"] = 1.2
    found = bar(table)["met"].xs("charger_limited", level="decomposition")

    assert found.to_dict() == {
        "clairvoyant / documented": "yes", "predictive / documented": "yes", "hot_min less documented's": "yes",
        "times_low less documented's": "yes", "interrupted less documented's": "no",
        "cycles_per_100h less documented's": "yes", "predictive / clairvoyant": "no",
    }  # fmt: skip


def test_contradictions_and_holes_are_refused() -> None:
    """One line says which point is there twice with two results, and that a policy is missing somewhere."""
    with pytest.raises(UsageError, match="charger_limited mine 1: two runs of the same point differ"):
        study.table_of([row("mine", 1), row("mine", 1, sessions=2.0)])
    with pytest.raises(UsageError, match="documented, mine: 0 seeds are in every decomposition"):
        study.rankings(study.table_of([row("documented", 1), row("mine", 1, "wifi_limited")]))


def test_a_sweep_is_read_back(tmp_path: Path) -> None:
    """Points bear their policy's choice, with its changed settings, and none where nothing may be lent."""
    run = write(simulate_fleet(small()), tmp_path / "run")
    lines = [
        {"point": [*words], "key": "k", "status": "done", "result": {"run": str(run)}}
        for words in (["seed=1"], ["policy/harvest=boinc"], ["policy.harvest.max_cpu=0"], ["policy.harvest.idle_min=9"])
    ]
    journal = tmp_path / "points.jsonl"
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = study.sweep_rows([tmp_path])

    assert [r["policy"] for r in rows] == ["documented", "boinc", "none", "documented idle_min=9"]
    assert rows[0]["digest"] == Run(folder=run).digest
    assert rows[0]["harvested_chip_h"] == Run(folder=run).summary["harvested_chip_h"] > 0.0

    journal.write_text(json.dumps({**lines[0], "status": "failed", "result": {"error": "OSError: full"}}) + "\n")
    with pytest.raises(UsageError, match=r"seed=1: failed \(OSError: full\); run the sweep again"):
        study.sweep_rows([tmp_path])
    with pytest.raises(UsageError, match=r"no points\.jsonl there"):
        study.sweep_rows([tmp_path / "nowhere"])


@pytest.mark.parametrize("config", [HarvestConfig(), PredictiveConfig()])
def test_the_bound_is_on_the_very_owners_of_the_run(config: Any) -> None:
    """A policy fed the owners that the bound sees lends as often as in the fleet, where heat and charge bind little."""
    scenario = msgspec.structs.replace(small(devices=60), policy=FleetPolicies(harvest=config))
    who = stock.roster(scenario)
    what, ahead = stock.traits(scenario, who), owners_ahead(scenario, who)
    rule, lent = make(config), np.zeros(scenario.devices)
    state = rule.init(Devices(what.dedicated, what.has_battery))
    for k in range(len(ahead.plugged)):
        now = Readings(*(np.asarray(column)[k] for column in ahead))
        decision, state = rule.decide(state, now, 60.0 if k else 0.0)
        lent += decision.contribute * 60.0
    run = Run(simulate_fleet(scenario))
    same = run.totals["lent_s"].to_numpy() == lent

    assert same.mean() > 0.8
    assert 0.0 < run.summary["harvested_chip_h"] <= clairvoyant_point(scenario, config)["harvested_chip_h"]


@pytest.mark.slow
def test_nobody_harvests_more_than_the_causal_bound_on_as_many_interruptions() -> None:
    """However much the owner's return is feared, the rule's harvest is below the bound for its own interruptions.

    The bound is of expectations: a day of three hundred owners is held against it. Heat and charge do not bind.
    """
    scenario = small(devices=300, duration_s=86_400.0)
    who = stock.roster(scenario)
    what, ahead = stock.traits(scenario, who), owners_ahead(scenario, who)
    away = allowed(PredictiveConfig(), Devices(what.dedicated, what.has_battery), ahead)
    nobody = causal_point(scenario, 0.0)["harvested_chip_h"]
    found = {}
    for hazard_per_h in (0.1, 0.31, 1.0, 20.0):
        rule = make(PredictiveConfig(start_hazard_per_h=hazard_per_h, stop_hazard_per_h=1.2 * hazard_per_h))
        state, was = rule.init(Devices(what.dedicated, what.has_battery)), np.zeros(scenario.devices, dtype=bool)
        chip_h, interrupted = 0.0, 0
        for k in range(len(away)):
            now = Readings(*(np.asarray(column)[k] for column in ahead))
            decision, state = rule.decide(state, now, 60.0 if k else 0.0)
            chip_h += float(decision.compute_share.sum()) / 60.0
            interrupted += int((was & ~away[k]).sum())
            was = decision.contribute
        found[hazard_per_h] = (chip_h, nobody + PRICE_CHIP_S / 3600.0 * interrupted, interrupted)

    assert all(chip_h < bound for chip_h, bound, _ in found.values()), found
    chip_h, bound, interrupted = found[0.31]
    assert chip_h > 0.6 * bound  # where the price is about right the bound is not far
    assert causal_point(scenario, interrupted)["harvested_chip_h"] == pytest.approx(bound)
    assert nobody < clairvoyant_point(scenario)["harvested_chip_h"]


def test_the_bar_says_how_far_anybody_can_come() -> None:
    """Where the causal bound is below 85 % of the clairvoyant, the bar says no to all who do not know the future."""
    gain = {"documented": 1.0, "predictive": 1.4, "causal": 1.6, "clairvoyant": 2.0}
    rows = [
        row(policy, seed, harvested_chip_h=factor * (10.0 + seed))
        for policy, factor in gain.items()
        for seed in range(6)
    ]
    table = study.table_of(rows)
    found = bar(table).xs("charger_limited", level="decomposition")

    assert found.loc["causal / clairvoyant", ["value", "met"]].to_list() == [pytest.approx(0.8), "no"]
    assert found.loc["predictive / causal", ["value", "wanted"]].to_list() == [pytest.approx(0.875), ""]
    assert study.pareto(table) == {"charger_limited": ["predictive"]}
    assert "causal" not in study.rankings(pd.concat([table, table.assign(decomposition="b")])).columns


def test_the_figure_has_a_panel_for_each_harm() -> None:
    """Four panels, a marker for each policy that was run, and no other."""
    figure = pareto_figure(a_table())
    labels = {text.get_text() for text in figure.legends[0].get_texts()}

    assert [ax.get_ylabel() for ax in figure.axes] == list(study.HARM.values())
    assert labels == set(BEST)


def test_the_published_tables_are_those_of_the_published_points() -> None:
    """docs/harvest_study.md shows what follows from docs/harvest_study.csv, to the letter."""
    page = (study.PUBLISHED.parent / "harvest_study.md").read_text()
    shown = MARKS.search(page)

    assert shown is not None
    assert shown[0].strip() == tables(study.published()).strip()
    assert set(study.published()["decomposition"]) == set(DECOMPOSITIONS)


def test_the_published_table_of_large_fleets_is_that_of_its_points() -> None:
    """docs/harvest_study.md shows what follows from docs/harvest_study_large.csv, to the letter."""
    shown = LARGE_MARKS.search((study.LARGE.parent / "harvest_study.md").read_text())
    points = study.published(study.LARGE)

    assert shown is not None
    assert shown[0].strip() == large_table(points).strip()
    assert points["devices"].min() >= study.LARGE_FROM


def test_the_notebook_shows_large_fleets_and_their_seeds() -> None:
    """Three seeds have only the policies of the bar, under one set of owners, as the notebook says; others have one."""
    text = (study.CODE / "notebooks" / "03_harvest_study.py").read_text()
    points = study.published(study.LARGE)
    seeds = study.by_policy(points[~points["policy"].isin(study.BOUNDS)])["seeds"]

    assert "fleets = published(LARGE)\n" in text
    assert "pareto_figure(fleets)\n" in text
    assert set(seeds) == {1, 3}
    assert set(seeds[seeds == 3].index) == {
        ("charger_limited", policy) for policy in ("documented", "predictive", "predictive_compute")
    }
