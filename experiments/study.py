"""The study of harvest policies: from the runs of a sweep to paired differences, a Pareto set and rankings.

A table of points has one row a run. Policies are compared on the same seed, hence on the same devices and owners, and
under the same decomposition of owners' habits; harm to owners is a vector that is never added up. What holds under one
decomposition only is not known: `rankings` says so.

>>> list(HARM)
['hot_min', 'times_low', 'interrupted', 'cycles_per_100h']
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.compose import UsageError
from experiments.folders import CODE
from experiments.statistics import t_interval

if TYPE_CHECKING:
    import pandas as pd

    from experiments.results import Run

PUBLISHED = CODE / "docs" / "harvest_study.csv"
LARGE = CODE / "docs" / "harvest_study_large.csv"  # the same of fewer and larger fleets
LARGE_FROM = 100_000  # devices
BASE = "documented"  # what the others are compared with
NONE = "none"  # lends nothing: what owners suffer anyway
CLAIRVOYANT = "clairvoyant"  # not a run: an upper bound (`experiments.study_bound`)
CAUSAL = "causal"  # another: for whoever knows owners' laws and not their future, and interrupts as the base does
BOUNDS = (CLAIRVOYANT, CAUSAL)

HARM: Mapping[str, str] = {
    "hot_min": "skin above 43 °C (min a device-day)",
    "times_low": "times below 20 % (a device-day)",
    "interrupted": "interrupted sessions (a device-day)",
    "cycles_per_100h": "full cycles (per 100 h)",
}
"""The owner's harm, component by component; less is better. Of devices with a battery, but for interruptions."""

HARVEST: Mapping[str, str] = {
    "chip_h": "chip-hours harvested (a device-day)",
    "pflop": "PFLOP harvested (a device-day)",
}
"""The same harvest, each chip counting alike, or by its dense FP16 peak; more is better."""

OTHER: Mapping[str, str] = {
    "lent_h": "hours lent (a device-day)",
    "village_wh": "village's energy (Wh a device-day)",
    "wh_per_chip_h": "energy of a chip-hour (Wh)",
    "sessions": "sessions (a device-day)",
    "starts_per_h": "starts (an hour lent)",
    "hot_min_worst": "skin above 43 °C, worst device (min a day)",
}
"""Energy and flapping, and how heat falls on the worst owner."""

SUMMED = (
    "device_days", "lent_device_h", "harvested_chip_h", "harvested_flop", "sessions", "interrupted_sessions",
    "harm_hot_min_per_device_day", "harm_hot_min_worst_device", "harm_times_low_per_device_day",
    "harm_interrupted_per_device_day", "harm_full_cycles_per_100h", "energy_kwh", "village_kwh", "plug_kwh",
    "skin_max_c",
)  # fmt: skip
"""Figures of summary.json that a point keeps."""
NAMES = ("seed", "decomposition", "policy", "devices", "days")
COLUMNS = (*NAMES, *SUMMED, "digest", "key")


def point(run: Run, policy: str) -> dict[str, Any]:
    """Return the row of a fleet's run under the policy of that name.

    Raises:
        UsageError: the run is of a village with nodes.
    """
    if not run.is_fleet:
        raise UsageError(f"{run.name}: is not a fleet's run; allowed: runs of scenarios with kind: fleet")
    config = run.config
    names = (run.seed, config["decomposition"], policy, config["devices"], config["duration_s"] / 86_400.0)
    key = str(run.manifest.get("run", {}).get("key", ""))
    return {**dict(zip(NAMES, names, strict=True)), **{name: run.summary[name] for name in SUMMED},
            "digest": run.digest, "key": key}  # fmt: skip


def table_of(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return points as a table in a fixed order.

    Raises:
        UsageError: there are none, or two rows of one seed, decomposition and policy differ.
    """
    import pandas as pd

    table = pd.DataFrame(list(rows), columns=list(COLUMNS))
    if not len(table):
        raise UsageError("no points; `twin sweep scenario=fleet_week ...` makes some")
    order = ["decomposition", "policy", "seed"]
    table = table.drop_duplicates().sort_values(order, kind="stable", ignore_index=True)
    twice = table[table.duplicated(order)]
    if len(twice):
        first = " ".join(str(twice.iloc[0][name]) for name in order)
        raise UsageError(f"{first}: two runs of the same point differ; leave one of the sweeps out")
    return table


def sweep_rows(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the points of finished sweeps, each folder's ``points.jsonl`` in turn.

    Policies bear the name of their ``policy/harvest``; other settings of a policy are added to it, and one that may
    use nothing (``policy.harvest.max_cpu=0``) is called none.

    Raises:
        UsageError: no journal there, or a point failed: a study with holes is none.
    """
    from experiments.results import Run
    from experiments.sweep import read_journal

    rows = []
    for folder in folders:
        found = read_journal(folder / "points.jsonl")
        if not found:
            raise UsageError(f"{folder}: no points.jsonl there; allowed: the folders that `twin sweep` names")
        for words, line in found.items():
            if line["status"] != "done":
                raise UsageError(f"{' '.join(words)}: failed ({line['result'].get('error')}); run the sweep again")
            rows.append(point(Run(folder=Path(line["result"]["run"])), policy_of(words)))
    return rows


def policy_of(words: Iterable[str]) -> str:
    """Return the name of the policy of a sweep's point."""
    given = dict(word.partition("=")[::2] for word in words)
    settings = {key.split(".")[-1]: value for key, value in given.items() if key.startswith("policy.harvest.")}
    if settings and float(settings.get("max_cpu", "1")) == 0.0:
        return NONE
    return " ".join([given.get("policy/harvest", BASE), *(f"{name}={value}" for name, value in settings.items())])


def published(file: Path = PUBLISHED) -> pd.DataFrame:
    """Return the committed table of the larger study (docs/harvest_study.md says how it was made)."""
    import pandas as pd

    if not file.is_file():
        raise UsageError(f"{file.name}: is in the checkout's docs only; clone the repository to read it")
    return pd.read_csv(file, keep_default_na=False, na_values=[""], dtype={"digest": str, "key": str})


def measures(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table's points in comparable measures: names, then `HARVEST`, `HARM` and `OTHER`; NaN where none."""
    days, lent = table["device_days"], table["lent_device_h"]
    found = table[list(NAMES)].copy()
    found["chip_h"] = table["harvested_chip_h"] / days
    found["pflop"] = table["harvested_flop"] / days * 1e-15
    found["hot_min"] = table["harm_hot_min_per_device_day"]
    found["times_low"] = table["harm_times_low_per_device_day"]
    found["interrupted"] = table["harm_interrupted_per_device_day"]
    found["cycles_per_100h"] = table["harm_full_cycles_per_100h"]
    found["lent_h"] = lent / days
    found["village_wh"] = table["village_kwh"] / days * 1e3
    found["wh_per_chip_h"] = _share(table["village_kwh"] * 1e3, table["harvested_chip_h"])
    found["sessions"] = table["sessions"] / days
    found["starts_per_h"] = _share(table["sessions"], lent)
    found["hot_min_worst"] = table["harm_hot_min_worst_device"] / table["days"]
    return found


def _share(part: pd.Series, whole: pd.Series) -> pd.Series:
    return part / whole.where(whole > 0.0)


def by_policy(table: pd.DataFrame) -> pd.DataFrame:
    """Return each measure's mean over seeds, and ``seeds``, by decomposition and policy."""
    groups = measures(table).groupby(["decomposition", "policy"])
    found = groups[[*HARVEST, *HARM, *OTHER]].mean()
    found.insert(0, "seeds", groups.size())
    return found


def paired(table: pd.DataFrame, policy: str, *, against: str = BASE) -> pd.DataFrame:
    """Compare two policies seed by seed.

    Args:
        table: of points.
        policy, against: names in it; differences are ``policy`` less ``against``.

    Returns:
        One row a decomposition and measure: both means, the mean difference with its 95 % interval (Student's t), the
        mean of the seeds' ratios with its interval (NaN where a seed has nothing to divide by), the seeds, and a
        verdict: ``higher``, ``lower``, ``equal``, ``noise`` where the interval holds 0, or ``unknown``.

    Raises:
        UsageError: they have no two seeds in common in some decomposition.
    """
    import pandas as pd

    wide = measures(table).set_index(["decomposition", "seed"])
    rows = []
    for decomposition in sorted(set(table["decomposition"])):
        here = wide[wide.index.get_level_values(0) == decomposition]
        both = [here[here["policy"] == name] for name in (policy, against)]
        seeds = both[0].index.intersection(both[1].index)
        if len(seeds) < 2:
            raise UsageError(
                f"{decomposition}: {policy} and {against} have {len(seeds)} seeds in common; allowed: from 2"
            )
        ours, theirs = (side.loc[seeds] for side in both)
        rows += [
            _difference(decomposition, name, ours[name].to_numpy(float), theirs[name].to_numpy(float))
            for name in (*HARVEST, *HARM, *OTHER)
        ]
    return pd.DataFrame(rows).set_index(["decomposition", "measure"])


def _difference(decomposition: str, name: str, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    difference = ours - theirs
    low, high = t_interval(list(difference))
    ratio = ours / theirs if np.all(theirs != 0.0) else np.full(ours.size, np.nan)
    ratio_low, ratio_high = t_interval(list(ratio))
    verdict = "higher" if low > 0.0 else "lower" if high < 0.0 else "noise"
    if np.any(np.isnan(difference)):
        verdict = "unknown"
    elif not np.any(difference):
        verdict = "equal"
    return {
        "decomposition": decomposition, "measure": name, "ours": ours.mean(), "theirs": theirs.mean(),
        "difference": difference.mean(), "low": low, "high": high, "ratio": ratio.mean(), "ratio_low": ratio_low,
        "ratio_high": ratio_high, "seeds": ours.size, "verdict": verdict,
    }  # fmt: skip


def pareto(table: pd.DataFrame, harvest: str = "chip_h") -> dict[str, list[str]]:
    """Return, by decomposition, the policies that none beats: more harvest and no more of any harm, by their means."""
    means = by_policy(table[~table["policy"].isin(BOUNDS)])
    found = {}
    for decomposition, here in means.groupby(level=0):
        vectors = {
            policy: np.array([-row[harvest], *(row[name] for name in HARM)])
            for policy, row in here.droplevel(0).iterrows()
        }
        found[str(decomposition)] = [
            str(policy) for policy, vector in vectors.items()
            if not any(np.all(other <= vector) and np.any(other < vector) for other in vectors.values())
        ]  # fmt: skip
    return found


def rankings(table: pd.DataFrame, measures_: Iterable[str] = (*HARVEST, *HARM)) -> pd.DataFrame:
    """Say how policies rank in each measure, if every decomposition says so; over the seeds that those compared share.

    Returns:
        One row a measure: ``ranking`` over all policies, best first, and for each policy but the documented one how it
        stands to that (``better``, ``worse``); ``unknown`` where decompositions differ or noise hides the order.

    Raises:
        UsageError: fewer than two seeds in common.
    """
    import pandas as pd

    from models.availability import rank_agreement

    runs = measures(table[~table["policy"].isin(BOUNDS)])
    policies = sorted(set(runs["policy"]))
    others = [policy for policy in policies if policy != BASE and BASE in policies]
    shared = {policy: _shared(runs, (BASE, policy)) for policy in others}
    everywhere = _shared(runs, policies)
    rows = []
    for name in measures_:
        row = {"measure": name, "ranking": rank_agreement(_results(everywhere, name))}
        for policy in others:
            order = rank_agreement(_results(shared[policy], name))
            row[policy] = {f"{policy} > {BASE}": "better", f"{BASE} > {policy}": "worse"}.get(order, "unknown")
        rows.append(row)
    return pd.DataFrame(rows).set_index("measure")


def _shared(runs: pd.DataFrame, policies: Sequence[str]) -> pd.DataFrame:
    """Return the runs of these policies on the seeds that each of them has under every decomposition."""
    here = runs[runs["policy"].isin(policies)].sort_values("seed")
    cells = [set(cell["seed"]) for _, cell in here.groupby(["decomposition", "policy"])]
    whole = len(cells) == len(policies) * runs["decomposition"].nunique()
    seeds = set.intersection(*cells) if whole else set()
    if len(seeds) < 2:
        raise UsageError(f"{', '.join(policies)}: {len(seeds)} seeds are in every decomposition; allowed: from 2")
    return here[here["seed"].isin(seeds)]


def _results(runs: pd.DataFrame, measure: str) -> dict[str, dict[str, list[float]]]:
    """Return what `rank_agreement` takes: by decomposition and policy a figure a seed, more is better."""
    sign = 1.0 if measure in HARVEST else -1.0
    return {
        str(decomposition): {str(policy): (sign * cell[measure]).to_list() for policy, cell in here.groupby("policy")}
        for decomposition, here in runs.groupby("decomposition")
    }
