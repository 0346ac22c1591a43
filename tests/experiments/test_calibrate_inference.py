"""Tests of `twin calibrate inference`: known prices come back, and unseen devices and models stay within their bars."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pandas as pd
import pytest

from experiments.calibration import inference
from experiments.calibration import inference_choices as choices
from experiments.calibration import inference_samples as samples
from experiments.calibration.distributions import data_folder, digests
from experiments.calibration.inference_fit import Plan, errors, fit, predicted
from models.inference import CATALOGUE
from models.inference.chips import CHIPS
from models.inference.conditions import Conditions
from models.inference.predict import WAITING_SHARE, predict
from models.inference.prices import FILE, REGIMES, quantities
from models.inference.rows import answer
from models.inference.work import decode_work

DATA = data_folder()
DISTSERVE = "traces/profiles/distserve_a100_fits.json.gz"
TRUE = {"weight": 1.2, "linear": 4.0, "layer_s": 1e-4}


def made(outliers: int = 0) -> list[samples.Sample]:
    """Return samples of a machine that pays the true prices; the first few were swapping."""
    found = []
    for chip in ("RTX 3090", "RTX 4090", "RTX 3060", "A40"):
        for model in ("llama-2-7b", "llama-3.1-8b", "qwen2.5-14b", "llama-3.2-1b"):
            shape = CATALOGUE[model].shape
            work = decode_work(shape, shape.layers, 1, 100, head=True)
            parts = quantities(work, CHIPS[chip])
            seconds = sum(parts[name] * price for name, price in TRUE.items())
            found.append(samples.Sample(parts, seconds, "gddr", chip, model, f"{model} on {chip}"))
    return [replace(one, seconds=2.0 * one.seconds) if i < outliers else one for i, one in enumerate(found)]


@pytest.mark.parametrize("joint", [1.0, 2.0])
def test_prices_come_back(joint: float) -> None:
    """Samples made by the law give its prices back, added or overlapped, and no error is left."""
    plan = Plan(tuple(TRUE), joint=joint)
    rows = [replace(one, seconds=predicted(one, TRUE, plan)) for one in made()]
    found = fit(rows, plan)

    assert found == pytest.approx(TRUE, rel=0.02)
    assert errors(rows, plan, lambda row: row.device)["worst"] == pytest.approx(0.0, abs=0.01)  # type: ignore[index]


def test_a_machine_that_was_swapping_does_not_bend_the_others() -> None:
    """One row of twice the time moves what is said of the others by less than 5 %, and is named as the worst."""
    plan = Plan(tuple(TRUE))
    rows = made(outliers=1)

    found = fit(rows, plan)

    assert all(predicted(row, found, plan) == pytest.approx(row.seconds, rel=0.05) for row in rows[1:])
    assert errors(rows, plan)["worst_row"] == rows[0].name  # type: ignore[index]


def test_belief_decides_only_what_the_samples_leave_open() -> None:
    """With two columns that no sample tells apart the believed split comes out; their sum stays the samples'."""
    rows = [replace(one, quantities={**one.quantities, "kv": one.quantities["weight"]}) for one in made()]
    found = fit(rows, Plan(("weight", "kv", "linear", "layer_s"), anchors={"kv": (0.5, 0.1)}))

    assert found["kv"] == pytest.approx(0.5, rel=0.05)
    assert found["kv"] + found["weight"] == pytest.approx(1.2, rel=0.05)


needs_data = pytest.mark.skipif(
    not all((DATA / file).is_file() for file in inference.files()), reason=f"no calibration rows under {DATA}"
)


@needs_data
def test_the_stored_prices_are_those_of_these_files() -> None:
    """The digests in the file are those of the data, and a regime fitted anew has the stored prices."""
    stored = json.loads(FILE.read_text())
    anew = inference._llama_cpp(DATA)

    assert stored["files"] == digests(inference.files(), DATA)
    assert {name: stored["regimes"][name]["prices"] for name in anew} == {name: anew[name]["prices"] for name in anew}


BARS = [
    ("llama.cpp/apple/decode", "unseen generation", 0.08, 0.20),
    ("llama.cpp/apple/prefill", "unseen generation", 0.15, 0.30),
    ("llama.cpp/apple/decode", "unseen device", 0.08, 0.20), ("llama.cpp/gddr/decode", "unseen device", 0.08, 0.20),
    ("llama.cpp/hbm/decode", "unseen device", 0.08, 0.20), ("llama.cpp/apple/prefill", "unseen device", 0.15, 0.30),
    ("llama.cpp/gddr/prefill", "unseen device", 0.15, 0.30), ("helix/A100 40GB/prefill", "unseen model", 0.10, 0.20),
    ("helix/L4/prefill", "unseen model", 0.10, 0.20), ("helix/T4/prefill", "unseen model", 0.10, 0.20),
    ("helix/V100/prefill", "unseen model", 0.10, 0.20), ("helix/A100 40GB/decode", "unseen model", 0.12, 0.25),
    ("helix/L4/decode", "unseen model", 0.12, 0.25), ("helix/T4/decode", "unseen model", 0.12, 0.25),
    ("helix/V100/decode", "unseen model", 0.12, 0.25), ("vllm/A100 SXM 80GB/decode", "unseen model", 0.08, 0.20),
    ("vllm/H100 SXM/decode", "unseen model", 0.09, 0.20), ("vllm/A40/decode", "unseen model", 0.08, 0.20),
    ("vllm/A100 SXM 80GB/prefill", "unseen model", 0.08, 0.20), ("vllm/H100 SXM/prefill", "unseen model", 0.08, 0.20),
    ("vllm/A40/prefill", "unseen model", 0.08, 0.20),
]  # fmt: skip
"""Regime, what was left out, mean and 90th percentile allowed: fidelity bars for rows that no fit has seen."""


@pytest.mark.parametrize(("regime", "scored", "mean", "p90"), BARS, ids=lambda value: str(value))
def test_what_a_fit_has_not_seen_stays_within_its_bar(regime: str, scored: str, mean: float, p90: float) -> None:
    """Each device by the others, each model by the other: mean and 90th percentile of the relative error."""
    found = REGIMES[regime].errors[scored]

    assert found["mean"] <= mean
    assert found["p90"] <= p90


@needs_data
def test_what_was_chosen_errs_least_on_models_and_numbers_of_devices_it_has_not_seen() -> None:
    """One launch beats a ring's starts on either board; a step's passes beat all passes where a step is asked."""
    of_board: dict[str, list[float]] = {}
    for choice in choices.all_reduces(DATA):
        of_board.setdefault(choice.what, []).append(choice.unseen["devices"])
    assert len(of_board) == 2
    assert all(ring > 1.2 * once for ring, once in of_board.values())

    off = []
    for seen in (choices.EVERY, samples.STEP_TOKENS):
        rows, wanted = (list(samples.serving_layers(DATA, "H100 SXM", tokens)) for tokens in (seen, choices.BATCHES))
        off.append(choices.unseen(rows, wanted, inference.LAYERS, lambda row: row.model))
    assert off[0] > 1.5 * off[1]


@needs_data
def test_tensor_parallel_cards_are_predicted_from_one_card() -> None:
    """Layers on two and four L4 and T4 cards: mean error at most 15 %, with prices fitted to one card each."""
    table = pd.read_csv(DATA / samples.HELIX, dtype=str)
    several = table[table["machine"].str.contains("x") & (table["ms_per_layer"].astype(float) > 0)].to_dict("records")
    wrong = [abs(answer(row).value / float(row["ms_per_layer"]) - 1.0) for row in several]

    assert len(wrong) > 400
    assert sum(wrong) / len(wrong) < 0.15


@needs_data
def test_the_share_drawn_while_waiting_is_the_median_of_splitwise() -> None:
    """Solved row by row for the share of power that a waiting A100 draws, the median is the constant within 0.01."""
    table = pd.read_csv(DATA / samples.CALIBRATION / "splitwise_a100_h100.csv.gz")
    shares = []
    for row in table[table["metric"] == "avg_power_fraction_of_tdp"].to_dict("records"):
        found = answer({name: str(cell) for name, cell in row.items()} | {"bandwidth": ""}).metrics
        idle = 55.0 / 400.0
        drawn = (row["value"] - idle) / (1.0 - idle)
        shares.append((drawn - found.busy) / (1.0 - found.busy))

    assert sorted(shares)[len(shares) // 2] == pytest.approx(WAITING_SHARE, abs=0.01)


@pytest.mark.skipif(not (DATA / DISTSERVE).is_file(), reason=f"no {DISTSERVE} under {DATA}")
def test_another_engine_on_other_models_is_predicted_by_the_kernels() -> None:
    """DistServe's decode times of OPT 13B and 66B on 1 to 8 A100, which no fit has seen: 15 % on average.

    Kernels alone come out too fast: that engine's host takes its time as well.
    """
    wrong = []
    for model, by_devices in json.loads(gzip.decompress((DATA / DISTSERVE).read_bytes())).items():
        for devices, laws in by_devices.items():
            for batch, context in ((1, 512), (16, 512), (64, 512)):
                start, cached, stream = laws["decoding_smallbs"]
                said = (start + cached * batch * context + stream * batch) / 1e3
                chips = [CHIPS["A100 SXM 80GB"]] * int(devices)
                found = predict("vLLM", model, "fp16", chips, None, Conditions(context, 1, batch, context))
                wrong.append(found.decode_step_s / said - 1.0)

    assert len(wrong) > 20
    assert sum(abs(one) for one in wrong) / len(wrong) < 0.15
