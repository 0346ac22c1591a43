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
# # Links and failures: what was measured, and the laws that stand for it
#
# Every class of rates, delays, lives and downtimes has one fitted law. Seven standard families and a table of 65
# quantiles were fitted to four fifths of the *units* (traces, runs, nodes, cities) and compared with the values of the
# others; the table is taken only where it is better by more than 0.005. Rows of one unit resemble each other, so rows
# were never split. `twin calibrate links` and `twin calibrate failures` make the two files of fits anew.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.calibration import failures, links
from experiments.calibration.distributions import data_folder
from models.distributions.fit import product_limit
from models.failures import BURSTS, availability, life_under_load
from models.failures import FITS as LIVES
from models.links import DRAWN, LINKS, draw_rates, mathis_bytes_per_s, pftk_bytes_per_s, tcp_transfer_s
from models.links import FITS as RATES
from models.links.backbone import CITIES, delay, draw_nodes
from models.links.loss import CHANNELS
from scenarios.traces import read_rates

DATA = data_folder()
HERE = all((DATA / source.file).is_file() for source in (*links.SOURCES, *failures.SOURCES))
print(
    "the measured sets are here"
    if HERE
    else f"no measured sets under {DATA}: laws are drawn without what they were fitted to"
)

# %% [markdown]
# ## All fits
# KS is the Kolmogorov-Smirnov distance, mean over folds of units that the fit had not seen; `worse_by` is what the chosen
# law loses to the best standard family (negative: it gains). Distances are large where units are few and unlike one
# another: eight LTE traces say little about the ninth, whatever the family.


# %%
def table(fits):
    rows = [
        {
            "class": name,
            "units": f.units,
            "values": f.values,
            "censored": f.censored,
            "chosen": f.chosen,
            "KS, seen": f.ks,
            "KS, unseen": f.ks_units,
            "best family": f.standard,
            "its KS, unseen": f.ks_units_standard,
            "worse_by": round(f.ks_units - f.ks_units_standard, 3),
        }
        for name, f in fits.items()
    ]
    return pd.DataFrame(rows).set_index("class")


pd.set_option("display.max_rows", 100)
table(RATES)

# %%
table(LIVES)

# %% [markdown]
# ## Laws beside what was observed
# Steps: observed (Kaplan-Meier where lives are censored). Lines: the laws.

# %%
SOURCES = {source.name: source for source in (*links.SOURCES, *failures.SOURCES)}


def observed(name):
    sample = SOURCES[name].read(DATA / SOURCES[name].file)
    if sample.censored.any():
        return product_limit(sample)
    values = np.sort(sample.values)
    return values, (np.arange(values.size) + 1.0) / values.size


def show(fits, panels, label):
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.4), layout="constrained")
    for ax, (title, names) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for number, name in enumerate(names):
            law, colour = fits[name].law, f"C{number}"
            p = np.linspace(0.001, 0.999, 400)
            x = law.quantile(p)
            shown = np.isfinite(x) & (x > 0.0)
            ax.plot(x[shown], p[shown], color=colour, lw=2, alpha=0.6, label=f"{name} ({fits[name].chosen})")
            if HERE:
                values, share = observed(name)
                ax.step(values, share, color=colour, lw=0.8, where="post")
        ax.set(xscale="log", xlabel=f"{title} ({fits[names[0]].unit})", ylabel=label)
        ax.legend(fontsize=6)
    return figure


show(
    RATES,
    {
        "rate down": (
            "down.lte.speedtest",
            "down.5g-low-nsa.speedtest",
            "down.5g-mmwave.speedtest",
            "down.wifi.campus",
        ),
        "rate down, driving": ("down.starlink.driving", "down.cellular.driving"),
        "round trip": ("rtt.lte.speedtest", "rtt.5g-low-nsa.speedtest", "rtt.5g.ucc"),
    },
    "share below",
)

# %%
show(
    LIVES,
    {
        "life of a GPU": ("life.gpu-old.titan", "life.gpu-new.titan"),
        "up between failures": ("up.node-small.lanl", "up.node-large.lanl", "up.gpu-server.infinitehbd"),
        "down": ("down.any.lanl", "down.gpu-server.infinitehbd", "down.cloud-operator.cua"),
    },
    "share ended",
)

# %% [markdown]
# ## A fleet's links
# Rates of 100,000 devices by inverse from keyed uniforms; up and down are tied by the measured rank correlation.

# %%
drawn = {name: draw_rates(1, name, np.arange(100_000)) for name in DRAWN}
pd.DataFrame(
    {
        name: {
            "down p10": np.quantile(down, 0.1),
            "down p50": np.median(down),
            "up p10": np.quantile(up, 0.1),
            "up p50": np.median(up),
        }
        for name, (down, up) in drawn.items()
    }
).T.mul(8e-6).round(1)  # Mbit/s

# %% [markdown]
# Delay between any two places comes from six numbers a city. Errors are on pairs of which neither node was in the fit,
# each placed by its delays to a few landmarks; the worst twentieth of pairs takes detours that no space can hold.

# %%
import json

from models.links.access import FILE

places = json.loads(FILE.read_text())["backbone"]
pd.DataFrame(
    {(name, int(n)): row for name, found in places.items() for n, row in found["errors_by_landmarks"].items()}
).T.rename_axis(["matrix", "landmarks"])

# %%
cities = draw_nodes(1, np.arange(100_000), len(CITIES.heights))
one_way_ms = 1e3 * delay(CITIES.at(cities[:-1]), CITIES.at(cities[1:]))
pd.Series(one_way_ms).describe(percentiles=[0.05, 0.5, 0.95]).round(1)

# %% [markdown]
# ## Loss in bursts
# How often and how long nothing comes through, as a two-state chain fitted to steps of one and five seconds. The
# shares of packets lost in each state are assumptions.

# %%
pd.DataFrame(
    {name: {"bad share": c.bad_share, "mean bad s": c.mean_bad_s, "loss": c.loss} for name, c in CHANNELS.items()}
).T.round(3)

# %% [markdown]
# ## TCP
# What loss leaves of one flow (50 ms), and what slow start costs short transfers over an LTE link.

# %%
figure, (bound, short) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
loss = np.logspace(-5, -0.5, 100)
bound.loglog(loss, mathis_bytes_per_s(1448, 0.05, loss) * 8e-6, label="Mathis 1997")
bound.loglog(loss, pftk_bytes_per_s(1448, 0.05, loss, 0.2) * 8e-6, label="PFTK 1998, time-out 4 RTT")
bound.set(xlabel="loss", ylabel="one flow (Mbit/s)")
bound.legend()
size = np.logspace(3, 8, 200)
rate = LINKS["lte"].down_bytes_per_s
for rtt in (0.01, 0.06, 0.2):
    short.loglog(size, tcp_transfer_s(size, rate, rtt), label=f"RTT {rtt * 1e3:.0f} ms")
short.loglog(size, size / rate, color="0.6", ls="--", label="size / rate")
short.set(xlabel="size (bytes)", ylabel="last byte arrives (s)")
short.legend()
figure

# %% [markdown]
# ## A measured rate replayed
# Transfers of 1 MB begun every second over one bus ride of 2010; each ends where the rate's integral says.

# %%
if HERE:
    rides = read_rates(DATA / "net_bandwidth" / "hsdpa3g_norway.csv.gz")
    name, ride = next(iter(rides.items()))
    start = np.arange(0.0, ride.length_s)
    figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
    ax.stairs(ride.bytes_per_s * 8e-6, ride.times_s, label=f"{name} (Mbit/s)")
    ax.plot(start, ride.end_s(start, 1e6) - start, label="1 MB takes (s)")
    ax.set(xlabel="time (s)")
    ax.legend()
else:
    print("no measured sets: nothing to replay")

# %% [markdown]
# ## Failures together, and by load
# Most failures come alone: the share that comes with others' is the beta-factor.

# %%
pd.DataFrame(
    {
        name: {"window h": b.window_h, "mean size": b.mean, "beta": b.beta, "largest": len(b.shares)}
        for name, b in BURSTS.items()
    }
).T.round(4)

# %% [markdown]
# A GPU server is up as its two laws say (a lower bound). If its load doubled after a day and the hazard with it (an assumption), this
# is the share that has failed a week later.

# %%
up, down = LIVES["up.gpu-server.infinitehbd"].law, LIVES["down.gpu-server.infinitehbd"].law
u = (np.arange(10_000) + 0.5) / 10_000
pd.Series(
    {
        "up, share of time": availability(up, down),
        "failed in 8 days": float((up.quantile(u) < 192.0).mean()),
        "failed, load doubled after one": float((life_under_load(up, u, [24.0], [1.0, 2.0]) < 192.0).mean()),
    }
).round(3)
