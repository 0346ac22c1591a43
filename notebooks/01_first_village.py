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
# # A first village
#
# Fifty devices, one evening, three harvest policies. Nothing is needed but the package: a scenario is composed, the twin
# runs it, and what it leaves behind is a `Run` with tables and plots.

# %%
import matplotlib.pyplot as plt
import pandas as pd

from experiments import load, simulate

# %% [markdown]
# ## A scenario
#
# `load` composes `conf/` as the command line does and checks every value. Here: no dedicated machines, so that what the owners
# lend is all there is, from 20:00 to 02:00, and 1,200 requests.

# %%
evening = {
    "fleet": "small_50", "fleet__dedicated": 0, "start_minute": 20 * 60, "duration_s": 6 * 3600.0,
    "workload__requests": 1200, "workload__flat": True, "faults": "none", "adversary": "none",
    "record__devices_every_s": 300.0,
}  # fmt: skip
scenario = load("first_village", **evening)
scenario.fleet

# %% [markdown]
# A mistake is one line that names the field, the value and what is allowed.

# %%
try:
    load("first_village", fleet__phones=-3)
except ValueError as error:
    print(error)

# %% [markdown]
# ## One run
#
# The documented harvest policy lends a device between 22:00 and 07:00, on the charger, on Wi-Fi, cool, and left alone for five
# minutes.

# %%
run = simulate(scenario)
run

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
run.plot.fleet(ax=axes[0])
run.plot.latency(ax=axes[1])
figure.tight_layout()
plt.show()

# %% [markdown]
# Requests before 22:00 found nobody: they waited, and were refused at their deadlines. The tables hold each of them.

# %%
run.requests.groupby(["priority", "status"]).size().unstack(fill_value=0)

# %% [markdown]
# ## The same evening under three policies
#
# Nothing but the harvest policy changes: arrivals, owners, links and lengths are keyed draws, so the comparison is paired.

# %%
runs = {name: simulate(load("first_village", policy__harvest=name, **evening)) for name in ("strict", "generous")}
runs = {"strict": runs["strict"], "documented": run, "generous": runs["generous"]}

# %%
columns = ["answered_in_time_share", "latency_p50_s", "latency_p95_s", "harvest_sessions", "village_energy_j"]
pd.DataFrame({name: {c: r.summary[c] for c in columns} for name, r in runs.items()}).T

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
for name, each in runs.items():
    lent = each.devices.groupby("time_s").contributing.sum()
    axes[0].plot(20 + lent.index / 3600, lent, label=name)
    charge = each.devices[each.devices.kind == "phone"].groupby("time_s").soc.quantile(0.05)
    axes[1].plot(20 + charge.index / 3600, 100 * charge, label=name)
axes[0].set(xlabel="time of day (h)", ylabel="devices lent", title="What the village gets")
axes[1].set(xlabel="time of day (h)", ylabel="charge, 5th percentile of phones (%)", title="What the owners pay")
axes[0].legend(frameon=False)
figure.tight_layout()
plt.show()

# %% [markdown]
# The generous policy answers nearly everything, because it also lends devices before 22:00 and on battery above 50 %; the lowest
# charges hardly differ, so here the owners pay little for it. Is the difference larger than the noise? One evening says nothing about noise: `twin sweep` repeats it over seeds, and
# `twin compare` gives the interval.
#
# Every run kept its promises:

# %%
pd.DataFrame({name: {check.name: check.passed for check in each.checks} for name, each in runs.items()})
