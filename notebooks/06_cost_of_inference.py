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
# # What inference costs, and how far the law is off
#
# A pass through a model moves bytes and does operations. `models.inference.work` counts them; `models.inference.prices`
# says what each costs on a chip, as a multiple of what its data sheet promises. The sum is the time. The prices were
# fitted by `twin calibrate inference` to published token rates and profiles, engine by engine; what no row constrains is
# assumed and called *zero-shot*. Every regime keeps three errors: on its own rows, on each device by the other devices,
# and on each model by the other models; Apple's also on each generation by the other.

# %%
import gzip
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments import predict as rows
from experiments.calibration import inference
from experiments.calibration.distributions import data_folder
from models.inference.conditions import Conditions
from models.inference.predict import predict
from models.inference.prices import LINKS, REGIMES

DATA = data_folder()
HERE = all((DATA / file).is_file() for file in inference.files())
print("the calibration rows are here" if HERE else f"no calibration rows under {DATA}: only stored errors are shown")

# %% [markdown]
# ## Errors by regime
# Relative errors of the time; worst with its sign and its row. Where a regime has one device or one model, nothing can be
# left out and no such line exists.

# %%
errors = pd.DataFrame(
    [
        {"regime": name, "scored on": scored, **{key: e[key] for key in ("rows", "mean", "p90", "worst", "worst_row")}}
        for name, regime in REGIMES.items()
        for scored, e in regime.errors.items()
    ]
)
pd.set_option("display.max_rows", 120, "display.max_colwidth", 70)
errors.set_index(["regime", "scored on"])

# %%
shown = errors[~errors["regime"].str.contains("pcap|apple-ultra")]
names = list(dict.fromkeys(shown["regime"]))
figure, ax = plt.subplots(figsize=(10, 0.28 * len(names) + 1), layout="constrained")
for shift, (scored, colour) in enumerate(
    {"fit": "C0", "unseen device": "C1", "unseen model": "C3", "unseen generation": "C2"}.items()
):
    some = shown[shown["scored on"] == scored]
    y = np.array([names.index(name) for name in some["regime"]]) + 0.2 * (shift - 1)
    ax.hlines(y, some["mean"], some["p90"], color=colour, lw=1)
    ax.plot(some["mean"], y, "o", color=colour, ms=4, label=f"{scored}: mean, line to p90")
ax.set(yticks=range(len(names)), yticklabels=names, xlabel="relative error of the time", xlim=(0, 0.6))
ax.invert_yaxis()
ax.legend()
figure

# %% [markdown]
# ## Prices
# 1 is what the data sheet promises; `layer_s` is seconds a layer. Links: a start for each further device, or one launch,
# and bytes/s.

# %%
pd.DataFrame({name: vars(regime.prices) for name, regime in REGIMES.items()}).T

# %%
pd.DataFrame([{"link": name, **link} for name, link in LINKS.items()]).set_index("link")

# %% [markdown]
# ## Predicted and measured, row by row
# The rows that the prices were fitted to. Two F16 prompts (A100 SXM, L40S) are known to be wrong in their source and were
# not fitted; they stand far above the line. Answers of 1,024 tokens and more in Splitwise's end-to-end times stopped early,
# so `e2e_time` is left out.

# %%
FILES = ("llamacpp_apple_silicon", "llamacpp_gpu_llama3", "splitwise_a100_h100", "helix_layer_profiles")


def asked(file):
    """Return the rows of a calibration file that ask for a time or a rate."""
    table = pd.read_csv(DATA / "inference_calibration" / f"{file}.csv.gz", dtype=str)
    if "metric" in table:
        table = table[~table["metric"].str.contains("power|e2e")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{file}.csv.gz"
        path.write_bytes(gzip.compress(table.to_csv(index=False).encode()))
        return rows.read(path)


if HERE:
    figure, axes = plt.subplots(1, len(FILES), figsize=(14, 3.6), layout="constrained")
    tables = {}
    for ax, file in zip(axes, FILES, strict=True):
        found = asked(file)
        measured = np.array([row.measured for row in found])
        value = np.array([row.answer.value for row in found])
        ax.loglog(measured, value, ".", ms=3)
        ends = [measured[measured > 0].min(), measured.max()]
        ax.loglog(ends, ends, color="0.6", lw=1)
        ax.set(title=file, xlabel="measured")
        tables[file] = pd.DataFrame(rows.summary(found)).T
    axes[0].set_ylabel("predicted")
    plt.show()
    print(pd.concat(tables)[["rows", "mean", "p90", "bias", "worst", "spearman"]].to_string())

# %% [markdown]
# ## Where the time goes
# One stream of Llama 3.1 8B on three devices: a long context costs llama.cpp without fused attention far more than its
# bytes, because each query head reads the cache for itself.

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
contexts = np.array([128, 1024, 4096, 8192, 16384])
for ax, (system, chip) in zip(
    axes, {"llama.cpp Metal": "M2 Max", "llama.cpp CUDA": "RTX 3090", "vLLM": "RTX 4090"}.items(), strict=True
):
    steps = [predict(system, "Llama 3.1 8B", "F16", chip, None, Conditions(int(n), 1)).decode_terms_s for n in contexts]
    parts = pd.DataFrame(steps, index=contexts) * 1e3
    parts.loc[:, parts.max() > 0.05].plot.area(ax=ax, lw=0, title=f"{system}, {chip}")
    ax.set(xlabel="context (tokens)", ylabel="one token (ms)")
figure

# %% [markdown]
# ## Energy
# Watts between idle and load by the share of the time that the device computes; joules a token of the answer.

# %%
pd.DataFrame(
    {
        (chip, batch): {
            "tokens/s": found.decode_tokens_per_s,
            "W": found.mean_power_w,
            "J/token": found.joules_per_token,
            "GB a device": max(found.device_bytes) / 1e9,
        }
        for chip, system in {
            "RTX 4090": "vLLM",
            "H100 SXM": "vLLM",
            "M2 Max": "llama.cpp",
            "Raspberry Pi 5": "llama.cpp",
        }.items()
        for batch in (1, 8)
        for found in [predict(system, "Llama 3.1 8B", "int8", chip, None, Conditions(512, 128, batch))]
    }
).T.round(2)
