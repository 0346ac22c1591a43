# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which harvest policy, and how sure are we?
#
# A fleet without nodes: batteries, heat, governors and owners of many devices, and one elementwise harvest policy for all
# of them. This notebook runs a small study live, then shows the larger one that is kept in `docs/`.

# %%
import pandas as pd

from experiments import load, simulate
from experiments.study import BASE, BOUNDS, LARGE, by_policy, paired, pareto, point, published, rankings, table_of
from experiments.study_bound import bar
from experiments.study_report import pareto_figure

# %% [markdown]
# ## One fleet, one day
# Two hundred devices of the global mix, evening to evening. The first figure is the share of each kind that lends.

# %%
DAY = {"devices": 200, "duration_s": 86_400.0, "window_s": 3600.0, "processes": 1, "start_minute": 1080}
run = simulate(load("fleet_week", seed=1, **DAY, record__histories=3))
run

# %%
run.plot.lent().figure

# %%
run.plot.history().figure

# %% [markdown]
# Every check of a run is asked in the run: sampled rows decided alone equal the batch, the sampled rows stay in their
# envelope, the totals sum to the windows.

# %%
pd.DataFrame([vars(check) for check in run.checks])

# %% [markdown]
# ## Two policies, paired by seed, under two sets of owners
# The data show only when a phone is idle *and* charging *and* on Wi-Fi. What of the three is scarce is an assumption, so a
# study runs under several, and says "unknown" where they disagree.

# %%
rows = [
    point(simulate(load("fleet_week", seed=seed, decomposition=owners, policy__harvest=policy, **DAY)), policy)
    for owners in ("charger_limited", "screen_limited")
    for policy in (BASE, "predictive")
    for seed in (1, 2, 3)
]
small = table_of(rows)
by_policy(small).round(3)

# %%
paired(small, "predictive")[["difference", "low", "high", "verdict"]].round(3)

# %% [markdown]
# ## The larger study
# `docs/harvest_study.csv` holds 255 runs of 2,000 devices for seven days: 20 seeds of the documented policy and of the
# predictive one, with chips alike and by what they compute; five of the others; each under three sets of owners. Fleets of
# 100,000 devices are below. It was made by
#
# ```sh
# fleet="scenario=fleet_week devices=2000 window_s=3600 backend=jax chunk=700 processes=1 track=none jobs=2"
# owners="decomposition=charger_limited,wifi_limited,screen_limited"
# twin sweep $fleet seed=1001..1020 $owners policy/harvest=documented
# twin sweep $fleet seed=1001..1020 $owners policy/harvest=predictive
# twin sweep $fleet seed=1001..1020 $owners policy/harvest=predictive_compute
# twin sweep $fleet seed=1001..1005 $owners policy/harvest=boinc,federated,predecessor
# twin sweep $fleet seed=1001..1005 $owners policy/harvest=predictive_eager
# twin sweep $fleet seed=1001..1005 $owners policy/harvest=documented policy.harvest.max_cpu=0
# python -m experiments.study_report runs/sweeps/...
# ```
#
# The policy `none` lends nothing: what owners suffer anyway. The clairvoyant and the causal are bounds, not runs.

# %%
large = published()
by_policy(large[~large["policy"].isin(BOUNDS)]).round(3)

# %%
pareto_figure(large)

# %% [markdown]
# What the predictive policy was asked for, and what it gives: harvest in chip-hours, then in FLOP, and in FLOP where
# risk is taken for strong machines.

# %%
bar(large).round(4)

# %%
bar(large, harvest="pflop").round(4)

# %%
bar(large, "predictive_compute", "pflop").round(4)

# %% [markdown]
# Policies that no other one beats, and the order that holds for all owners.

# %%
pareto(large)

# %%
rankings(large)

# %% [markdown]
# ## A hundred thousand devices
# `docs/harvest_study_large.csv` holds 20 runs of 100,000 devices for the same week: by the same commands without `devices`
# and `window_s`, with `chunk=32000` and fewer seeds. Three seeds have only `documented`, `predictive` and
# `predictive_compute`, and these only under `charger_limited`. All else has one seed: `boinc`, `federated`, `none`,
# `predecessor` and `predictive_eager` (not run under other owners), and the three under `screen_limited` and
# `wifi_limited`. One seed has no interval: its marker stands without bars.

# %%
fleets = published(LARGE)
by_policy(fleets)["seeds"].unstack(level=0)

# %%
pareto_figure(fleets)

# %%
by_policy(fleets[~fleets["policy"].isin(BOUNDS)]).round(3)

# %% [markdown]
# The bar where there are three seeds, in FLOP, which is what the policy was made for.

# %%
bar(fleets[fleets["decomposition"] == "charger_limited"], "predictive_compute", "pflop").round(4)
