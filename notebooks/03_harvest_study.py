# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which harvest policy, and how sure are we?
#
# A fleet without nodes: batteries, heat, governors and owners of many devices, and one elementwise harvest policy for all
# of them. This notebook runs a small study live.

# %%
import pandas as pd

from experiments import load, simulate
from experiments.study import BASE, by_policy, paired, pareto, point, rankings, table_of
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
# ## Harvest against harm, and what holds for all owners
# A larger study is the same with more devices, days and seeds: `docs/harvest_study.md` has the command lines.

# %%
pareto_figure(small)

# %%
pareto(small)

# %%
rankings(small)
