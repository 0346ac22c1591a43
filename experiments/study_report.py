"""What the study publishes: its table, figure and the tables of docs/harvest_study.md, from the folders of sweeps.

``python -m experiments.study_report SWEEP...`` reads the journals, adds the clairvoyant of each seed and decomposition,
and writes ``harvest_study.csv`` and ``.png`` and its part of ``harvest_study.md``, between marks, into docs. Fleets of
100,000 devices and more have ``harvest_study_large.csv`` and their own part of the page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import study
from experiments.plots import AMBER, BLUE, GREEN, GRID, INK, MUTED, RED, VIOLET, dress
from experiments.results import number
from experiments.study_bound import bar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOOKS = {
    study.NONE: (MUTED, "x"), "documented": (BLUE, "o"), "predecessor": (RED, "v"), "boinc": (AMBER, "s"),
    "federated": (VIOLET, "D"), "predictive": (GREEN, "^"), "predictive_eager": (GREEN, "*"),
    "predictive_compute": (GREEN, "P"),
}  # fmt: skip
OTHERS = (INK, "X")  # of policies that are not in `LOOKS`
ALSO = ("village_wh", "wh_per_chip_h", "sessions", "starts_per_h", "hot_min_worst")  # in the table of means
SHADES = (1.0, 0.6, 0.35)  # of decompositions, in their order
LARGE_BARS = {"predictive": "chip_h", "predictive_compute": "pflop"}  # what each was made for
MARKS = re.compile(r"(?<=<!-- tables -->\n).*?(?=<!-- end of tables -->)", re.DOTALL)
LARGE_MARKS = re.compile(r"(?<=<!-- large fleets -->\n).*?(?=<!-- end of large fleets -->)", re.DOTALL)


def pareto_figure(table: pd.DataFrame, harvest: str = "chip_h") -> Figure:
    """Draw harvest against each component of harm, a panel a component.

    A marker a policy and decomposition, shaded by decomposition; bars are 95 % intervals of the mean over seeds; the
    lines at the right are the bounds on harvest, their means over decompositions.
    """
    from matplotlib.figure import Figure

    from experiments.statistics import t_interval

    runs = study.measures(table)
    policies = [*LOOKS, *sorted(set(runs["policy"]) - set(LOOKS) - set(study.BOUNDS))]
    decompositions = sorted(set(runs["decomposition"]))
    figure = Figure(figsize=(10, 7.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).ravel()
    bounds_ = {name: runs.loc[runs["policy"] == name, harvest] for name in study.BOUNDS}
    for ax, (harm, label) in zip(axes, study.HARM.items(), strict=True):
        for policy in policies:
            colour, marker = LOOKS.get(policy, OTHERS)
            for k, decomposition in enumerate(decompositions):
                rows = runs[(runs["policy"] == policy) & (runs["decomposition"] == decomposition)]
                if not len(rows):
                    continue
                x, y = rows[harvest].mean(), rows[harm].mean()
                spans = [t_interval(list(rows[name])) for name in (harvest, harm)]
                errors = [[[mean - low], [high - mean]] if low == low else None
                          for mean, (low, high) in zip((x, y), spans, strict=True)]  # fmt: skip
                ax.errorbar(
                    x, y, yerr=errors[1], xerr=errors[0], color=colour, marker=marker, markersize=7, linewidth=0,
                    elinewidth=1.2, alpha=SHADES[k % len(SHADES)], label=policy if k == 0 else None,
                )  # fmt: skip
        for (name, bound), line in zip(bounds_.items(), (":", "-."), strict=True):
            if len(bound):
                ax.axvline(bound.mean(), color=INK, linewidth=1.0, linestyle=line, label=f"{name} (bound)")
        ax.set_ylim(bottom=0.0)
        dress(ax, study.HARVEST[harvest], label)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=8.5, labelcolor=INK)
    note = "shade, dark to light: " + ", ".join(decompositions)
    axes[-1].annotate(note, (1.0, 0.02), xycoords="axes fraction", ha="right", fontsize=7.5, color=MUTED,
                      bbox={"facecolor": "white", "edgecolor": GRID, "linewidth": 0.5})  # fmt: skip
    return figure


def tables(table: pd.DataFrame) -> str:
    """Return the study's tables as Markdown: means, differences, the bar, the Pareto set and the rankings."""
    import pandas as pd

    runs = table[~table["policy"].isin(study.BOUNDS)]
    means = study.by_policy(runs).reset_index()
    parts = [_told(table), "### Means over seeds"]
    parts += [_markdown(means[["decomposition", "policy", "seeds", *study.HARVEST, *study.HARM, *ALSO]])]
    others = [policy for policy in LOOKS if policy in set(means["policy"]) - {study.BASE}]
    against = {policy: study.paired(runs, policy).reset_index() for policy in others}
    parts += ["### Differences from the documented policy, paired by seed, with 95 % intervals"]
    for name in (*study.HARVEST, *study.HARM):
        rows = [found[found["measure"] == name].assign(policy=policy) for policy, found in against.items()]
        cells = pd.concat(rows).rename(columns={"difference": "value", "verdict": "met"})
        parts += [f"{study.HARVEST.get(name) or study.HARM[name]}:", _by_decomposition(cells, "policy")]
    for policy in ("predictive", "predictive_compute"):
        for harvest, label in study.HARVEST.items() if policy in others and len(runs) < len(table) else ():
            parts += [f"### The bar of {policy}, harvest counted in {label.split(' harvested')[0]}"]
            parts += [_by_decomposition(bar(table, policy, harvest).reset_index(), "line")]
    parts += ["### Not beaten: no other policy harvests more with no more of any harm (by means)"]
    parts += [_rows(("decomposition", "policies"), [(d, ", ".join(p)) for d, p in study.pareto(runs).items()])]
    parts += ["### Order that holds in every decomposition, against the documented policy and over all"]
    parts += [_markdown(study.rankings(runs).reset_index())]
    return "\n\n".join(parts) + "\n"


def large_table(table: pd.DataFrame) -> str:
    """Return the means of large fleets as Markdown, harvest as a share of the clairvoyant's too, and a bar for each.

    Bars are of decompositions with two seeds or more, without which there is no interval.
    """
    means = study.by_policy(table)
    of_bound = {}
    for name in study.HARVEST:
        bound = means[name].xs(study.CLAIRVOYANT, level="policy")
        of_bound[f"{name} / {study.CLAIRVOYANT}"] = means[name].div(bound, level="decomposition")
    shown = means[[*study.HARVEST]].assign(**of_bound).join(means[[*study.HARM, "hot_min_worst"]])
    runs = shown[~shown.index.get_level_values("policy").isin(study.BOUNDS)]
    parts = [_told(table), _markdown(runs.reset_index())]
    seeds = table[table["policy"] == study.BASE].groupby("decomposition")["seed"].nunique()
    often = table[table["decomposition"].isin(seeds[seeds > 1].index)]
    for policy in (name for name in LARGE_BARS if name in set(often["policy"])):
        harvest = LARGE_BARS[policy]
        parts += [f"### The bar of {policy} in large fleets, {study.HARVEST[harvest].split(' harvested')[0]}"]
        parts += [_by_decomposition(bar(often, policy, harvest).reset_index(), "line")]
    return "\n\n".join(parts) + "\n"


def _by_decomposition(found: pd.DataFrame, by: str) -> str:
    """Return a Markdown table with a column a decomposition, and the mean over them."""
    decompositions = list(dict.fromkeys(found["decomposition"]))
    lines = []
    for name in dict.fromkeys(found[by]):
        here = found[found[by] == name].set_index("decomposition")
        cells = [
            f"{number(row['value'])} ({number(row['low'])} .. {number(row['high'])}) {row['met']}".rstrip()
            for row in (here.loc[d] for d in decompositions)
        ]
        wanted = [here["wanted"].iloc[0]] if "wanted" in here else []
        lines.append([name, *cells, number(float(here["value"].mean())), *wanted])
    return _rows([by, *decompositions, "mean", *(["wanted"] if "wanted" in found else [])], lines)


def _told(table: pd.DataFrame) -> str:
    runs = table[~table["policy"].isin(study.BOUNDS)]
    devices = ", ".join(f"{n:,}" for n in sorted(set(runs["devices"].astype(int))))
    days = ", ".join(number(float(d)) for d in sorted(set(runs["days"])))
    seeds = runs.groupby("policy")["seed"].nunique()
    counted = ", ".join(f"{policy} {count}" for policy, count in seeds.items())
    return f"{len(runs)} runs of {devices} devices for {days} days; seeds by policy: {counted}."


def _markdown(table: pd.DataFrame) -> str:
    rows = [
        [number(cell) if isinstance(cell, float) else str(cell) for cell in row]
        for row in table.itertuples(index=False)
    ]
    return _rows(list(table.columns), rows)


def _rows(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def bounds(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the bounds on the sweeps' runs.

    The clairvoyant is that of each seed and decomposition; the causal one, which takes the time of a few runs, of those
    small fleets that every policy was run on.
    """
    import msgspec

    from experiments.results import Run
    from experiments.study_bound import causal_point, clairvoyant_point
    from experiments.sweep import read_journal
    from scenarios.fleet import FleetScenario

    runs: dict[tuple[Any, ...], dict[str, Run]] = {}
    for folder in folders:
        for words, line in read_journal(folder / "points.jsonl").items():
            run = Run(folder=Path(line["result"]["run"]))
            runs.setdefault((run.config["decomposition"], run.seed), {})[study.policy_of(words)] = run
    everyone = set().union(*runs.values())
    found = []
    for here in runs.values():
        scenario = msgspec.convert(next(iter(here.values())).config, FleetScenario)
        found.append(clairvoyant_point(scenario))
        if study.BASE in here and set(here) == everyone and scenario.devices < study.LARGE_FROM:
            found.append(causal_point(scenario, here[study.BASE].summary["interrupted_sessions"]))
    return found


def publish(folders: Sequence[Path], docs: Path) -> pd.DataFrame:
    """Write the study of these sweeps, of small fleets or of large ones, into ``docs`` and return its table."""
    table = study.table_of([*study.sweep_rows(folders), *bounds(folders)])
    file = study.LARGE if table["devices"].min() >= study.LARGE_FROM else study.PUBLISHED
    table.to_csv(docs / file.name, index=False, float_format="%.9g", lineterminator="\n")
    draw(docs)
    return table


def draw(docs: Path) -> None:
    """Draw the figure and write the tables of the tables that lie in ``docs``."""
    page = docs / "harvest_study.md"
    text = page.read_text() if page.is_file() else ""
    if (docs / study.PUBLISHED.name).is_file():
        table = study.published(docs / study.PUBLISHED.name)
        pareto_figure(table).savefig(docs / "harvest_study.png", dpi=110)
        text = MARKS.sub(lambda _: "\n" + tables(table) + "\n", text)
    if (docs / study.LARGE.name).is_file():
        large = study.published(docs / study.LARGE.name)
        text = LARGE_MARKS.sub(lambda _: "\n" + large_table(large) + "\n", text)
    if page.is_file():
        page.write_text(text)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m experiments.study_report SWEEP_FOLDER...")
    publish([Path(word) for word in sys.argv[1:]], study.PUBLISHED.parent)
