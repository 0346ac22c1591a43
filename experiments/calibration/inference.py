"""`twin calibrate inference`: the prices of every engine and regime, from the calibration rows and profiles alone.

Each regime is fitted to its own rows and scored on them, on each device by the others, on each model by the others, and
Apple's on each generation by the other. The file keeps all of it, with the worst row's name. The forms of the laws were
chosen with these same rows in sight, so what is kept out is kept out of the prices only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.optimize import nnls

from experiments.calibration import Outcome
from experiments.calibration import inference_samples as samples
from experiments.calibration.distributions import check, data_folder, digests, write
from experiments.calibration.inference_fit import Plan, errors, fit, prices_of
from experiments.calibration.inference_samples import Sample
from experiments.progress import progress
from models.inference.assumed import ATTENTION, kv_head_price, score_passes
from models.inference.chips import CHIPS
from models.inference.collectives import Link

FORMAT = 1
APPLE, CUDA = ("apple", "apple-ultra"), ("gddr", "hbm")
SPLITWISE = {"A100 SXM 80GB": "a100-80gb", "H100 SXM": "h100-80gb"}
SERVED = ("RTX 4090", "RTX PRO 6000", "A100 SXM 80GB", "A40", "H100 SXM")
LAYERS = Plan(("weight", "linear", "activation", "layer_s"), joint=2.0, fp32_sum=True)
BELIEF = 0.1  # weight of an anchor beside all samples: enough to decide what the samples leave open


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of `calibrate inference`."""
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=data_folder(), help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the prices, JSON")


def run(options: argparse.Namespace) -> Outcome:
    """Fit all, write the file, and return what was found.

    Raises:
        UsageError: a data file is missing, or the file cannot be written.
    """
    check(options, files())
    plain = calibrate(options.data, quiet=options.quiet)
    write(options.out, plain)
    return Outcome(plain, words(plain))


def files() -> list[str]:
    """Return the data files that the prices come from."""
    serving = [
        f"{samples.PROFILES}/{name}_{part}.csv.gz" for name in samples.SERVING for part in ("dense", "attention")
    ]
    vidur = [f"{samples.PROFILES}/{name}.csv.gz" for name in samples.VIDUR]
    return sorted(
        [samples.APPLE, samples.CUDA, samples.HELIX, samples.SPLITWISE, *samples.NVLINK.values(), *serving, *vidur]
    )


def calibrate(folder: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Return prices, links and errors as plain data."""
    regimes: dict[str, Any] = {}
    parts: tuple[Callable[[Path], dict[str, Any]], ...] = (_llama_cpp, _helix, _serving)
    with progress("prices", quiet=quiet) as report:
        links = {f"nvlink {board}": _nvlink(folder, board) for board in samples.NVLINK}
        links["nvlink ring"] = _nvlink_ring(folder)
        for place, part in enumerate(parts):
            report(place / (len(parts) + 1), part.__name__.strip("_"))
            regimes |= part(folder)
        links["pcie"] = _pcie(folder)
        regimes |= _splitwise(folder, links["nvlink ring"])
    return {"format": FORMAT, "files": digests(files(), folder), "links": links, "regimes": regimes}


def _regime(rows: Sequence[Sample], plan: Plan, source: str, kind: str = "") -> dict[str, Any]:
    scored = {
        "fit": errors(rows, plan), "unseen device": errors(rows, plan, lambda row: row.device),
        "unseen model": errors(rows, plan, lambda row: row.model),
    }  # fmt: skip
    if kind in APPLE:  # chips of one generation are alike: M1 by M2, and M2 by M1
        scored["unseen generation"] = errors(rows, plan, lambda row: row.device.split()[0])
    kept = {name: found for name, found in scored.items() if found}
    return {"prices": prices_of(fit(rows, plan), plan, kind), "rows": len(rows), "errors": kept, "source": source}


def _llama_cpp(folder: Path) -> dict[str, Any]:
    """Fit llama.cpp: Apple's chips together but for the Ultras' bandwidth; GeForce and data centre boards."""
    found = {}
    published = "llama.cpp discussion 4167; XiongjieDai/GPU-Benchmarks-on-LLM-Inference"
    cached = {chip: {"kv_head": kv_head_price(CHIPS[chip])} for chip in ("M2 Max 38-core", "RTX 4090", "A100 SXM 80GB")}
    linear = ("linear", "linear_packed", "linear_k", "layer_s")
    by_token = ("weight", "linear", "linear_packed", "layer_s")  # GPUs unpack k-quants beside the reading
    by_prompt = ("weight", "linear", "linear_packed", "unpacked", "linear_j", "layer_s")
    scored = {
        kind: {"score": score_passes(CHIPS[chip]), "attention": ATTENTION}
        for kind, chip in (("apple", "M2 Max 38-core"), ("cuda", "RTX 4090"))
    }
    # Four rows of two chips of one generation tell what k-quants cost Apple on top; believed: as much as plain ones.
    unpacking = {"linear_k": (3.0, BELIEF)}
    for kinds, phase, plan in (
        (APPLE, "decode", Plan(("weight", "weight@apple-ultra", *linear), cached["M2 Max 38-core"], unpacking)),
        (APPLE, "prefill", Plan(("unpacked", *linear), scored["apple"])),
        (("gddr",), "decode", Plan(by_token, cached["RTX 4090"])),
        (("hbm",), "decode", Plan(by_token, cached["A100 SXM 80GB"])),
        (CUDA, "prefill", Plan(by_prompt, scored["cuda"])),
    ):
        rows = list(samples.llama_cpp(folder, kinds, phase))
        for kind in kinds:
            found[f"llama.cpp/{kind}/{phase}"] = _regime(rows, plan, published, kind)
    return found


def _helix(folder: Path) -> dict[str, Any]:
    """Fit vLLM as Helix profiled it, card by card; any other card gets the medians."""
    found = {}
    source = "Thesys-lab/Helix-ASPLOS25 layer profiles"
    for card, chip in samples.HELIX_CHIPS.items():
        rows = list(samples.helix(folder, "prefill", (card,)))
        # With one context there is no telling the cache's share from the products' while a batch grows on one model:
        # the products are believed to cost what they cost a prompt, and the cache the bandwidth.
        found[f"helix/{chip}/prefill"] = prefill = _regime(rows, Plan(("weight", "linear")), source)
        believed = {"linear": (max(prefill["prices"]["linear"], 1.0), BELIEF), "kv": (1.0, BELIEF)}
        rows = list(samples.helix(folder, "decode", (card,)))
        found[f"helix/{chip}/decode"] = _regime(rows, Plan(("weight", "kv", "linear"), anchors=believed), source)
    return found | _any("helix", found)


def _any(engine: str, found: dict[str, Any], kind: str = "any") -> dict[str, Any]:
    """Return the regimes of a card (of a kind) that nobody measured: the median of each price over the others."""
    made = {}
    for phase in ("decode", "prefill"):
        cards = [regime for name, regime in found.items() if name.endswith(phase)]
        names = {price for card in cards for price in card["prices"]}
        prices: dict[str, Any] = {
            price: median(card["prices"].get(price, 0.0) for card in cards) for price in sorted(names)
        }
        if "fp32_sum" in prices:
            prices["fp32_sum"] = True
        made[f"{engine}/{kind}/{phase}"] = {
            "prices": prices, "rows": 0, "errors": {}, "source": f"median of {len(cards)} cards",
        }  # fmt: skip
    return made


def _serving(folder: Path) -> dict[str, Any]:
    """Fit vLLM's kernels: layers card by card, attention over all cards that have it."""
    found = {}
    attended = {phase: list(samples.attention(folder, phase)) for phase in ("decode", "prefill")}
    cache = Plan(("kv", "layer_s"), fp32_sum=True)
    fused = {
        "decode": (cache, fit(attended["decode"], cache)),
        "prefill": (plan := Plan(("attention", "kv", "layer_s"), fp32_sum=True), fit(attended["prefill"], plan)),
    }
    for phase, (plan_, prices) in fused.items():
        found[f"vllm-attention/any/{phase}"] = {
            "prices": prices_of(prices, plan_), "rows": len(attended[phase]),
            "errors": {"fit": errors(attended[phase], plan_)}, "source": "LLMServingSim profiles of vLLM 0.19",
        }  # fmt: skip
    cards = {}
    for card in SERVED:
        for phase, tokens in (("decode", samples.STEP_TOKENS), ("prefill", samples.PROMPT_TOKENS)):
            rows = list(samples.serving_layers(folder, card, tokens))
            regime = _regime(rows, LAYERS, "LLMServingSim; Vidur")
            attended_ = found[f"vllm-attention/any/{phase}"]["prices"]
            both_s = regime["prices"]["layer_s"] + attended_["layer_s"]
            prices = regime["prices"] | attended_ | {"layer_s": float(f"{both_s:.4g}")}
            cards[f"vllm/{card}/{phase}"] = regime | {"prices": prices}
    return found | cards | _any("vllm", cards)


def _splitwise(folder: Path, ring: dict[str, Any]) -> dict[str, Any]:
    """Fit Splitwise's engine, whose host is slower than its kernels; all-reduces are NVLink's, as a ring's."""
    found = {}
    for chip, hardware in SPLITWISE.items():
        for phase, plan in (
            ("decode", Plan(("weight", "kv", "linear", "layer_s"))),
            ("prefill", Plan(("linear", "whole_attention", "layer_s"))),  # its attention does not fall with N
        ):
            share = {"A100 SXM 80GB": 2 / 3, "H100 SXM": 1.0}[chip]  # of 900 GB/s, data sheets
            link = Link(share * ring["bytes_per_s"], ring["start_s"])
            rows = list(samples.splitwise(folder, phase, hardware, link))
            found[f"splitwise/{chip}/{phase}"] = _regime(rows, plan, "Mutinifni/splitwise-sim perf_model.csv")
    pcap = {name.replace("H100 SXM", "H100 80GB pcap"): one for name, one in found.items() if "H100" in name}
    return found | pcap | _any("splitwise", found, "hbm")


Moves = list[tuple[float, float, float]]
"""All-reduces as starts, bytes moved over a link, and seconds."""


def _solve(rows: Moves) -> tuple[float, float]:
    """Return seconds a start and seconds a byte: least squares of the relative errors."""
    table = np.array([[starts / seconds, moved / seconds] for starts, moved, seconds in rows])
    (start_s, second_a_byte), _ = nnls(table, np.ones(len(rows)))
    return float(start_s), float(second_a_byte)


def _off(rows: Moves, solved: tuple[float, float]) -> float:
    return float(np.mean([abs((starts * solved[0] + moved * solved[1]) / s - 1.0) for starts, moved, s in rows]))


def _link(rows: Moves, source: str, start: str = "start_s") -> dict[str, Any]:
    solved = _solve(rows)
    return {
        start: float(f"{solved[0]:.4g}"), "bytes_per_s": float(f"{1.0 / solved[1]:.4g}"), "rows": len(rows),
        "mean_error": round(_off(rows, solved), 4), "source": source,
    }  # fmt: skip


def _nvlink_ring(folder: Path) -> dict[str, Any]:
    rows = [
        (float(row.devices - 1), 2 * (row.devices - 1) / row.devices * row.bytes, row.seconds)
        for row in samples.nvlink(folder, "H100").itertuples()
    ]
    return _link(rows, "Vidur: all-reduces within a DGX H100")


def _nvlink(folder: Path, board: str) -> dict[str, Any]:
    """Fit one launch and the bytes moved, and score each number of devices by the others.

    A start for each further device, as a ring has, predicts an unseen number far worse (`docs/fidelity.md`).
    """
    groups: dict[int, Moves] = {}
    for row in samples.nvlink(folder, board).itertuples():
        moved = 2 * (row.devices - 1) / row.devices * row.bytes
        groups.setdefault(int(row.devices), []).append((1.0, moved, row.seconds))
    every = [row for rows in groups.values() for row in rows]
    made = _link(every, f"Vidur: all-reduces within a DGX {board}", "launch_s")
    return made | {"unseen_number_error": round(unseen_number(groups), 4)}


def unseen_number(groups: Mapping[int, Moves]) -> float:
    """Return the mean error on each number of devices by a fit to the others; each doubling of bytes counts alike."""
    off = []
    for devices, rows in groups.items():
        solved = _solve([row for n, some in groups.items() if n != devices for row in some])
        octaves: dict[int, list[float]] = {}
        for row in rows:
            octaves.setdefault(int(np.log2(row[1])), []).append(_off([row], solved))
        off.append(float(np.mean([np.mean(some) for some in octaves.values()])))
    return float(np.mean(off))


def _pcie(folder: Path) -> dict[str, Any]:
    """Fit what tensor parallelism adds to Helix's layers beyond the work of one of N cards."""
    rows: list[tuple[float, float, float]] = []
    for card in ("l4", "t4"):
        for phase in ("decode", "prefill"):
            plan = Plan(("weight", "kv", "linear"))
            prices = fit(list(samples.helix(folder, phase, (card,))), plan)
            for devices in (2, 4):
                for row in samples.helix(folder, phase, (card,), (devices,)):
                    alone_s = sum(row.quantities[name] * price for name, price in prices.items())
                    tokens, hidden = int(row.name.rsplit(" ", 1)[1]), 6656 if "30b" in row.model else 8192
                    moved = 2 * 2 * (devices - 1) / devices * tokens * hidden * 2
                    if row.seconds > 1.05 * alone_s:
                        rows.append((2 * (devices - 1), moved, row.seconds - alone_s))
    return _link(rows, "Helix: L4 and T4 in twos and fours, beyond the work of each")


def words(plain: dict[str, Any]) -> str:
    """Return prices' quality as a table for people."""
    head = f"{'regime':34s} {'rows':>5s} {'scored on':14s} {'mean':>6s} {'p90':>6s} {'worst':>7s}  worst row"
    lines = [head]
    for name, regime in plain["regimes"].items():
        for scored, found in regime["errors"].items():
            lines.append(
                f"{name:34s} {regime['rows']:5d} {scored:14s} {found['mean']:6.1%} {found['p90']:6.1%} "
                f"{found['worst']:+7.1%}  {found['worst_row']}"
            )
    for name, link in plain["links"].items():
        start, once = ("launch_s", "launch") if "launch_s" in link else ("start_s", "start")
        lines.append(
            f"link {name:29s} {link['rows']:5d} fit            {link['mean_error']:6.1%}  "
            f"{link['bytes_per_s'] / 1e9:.1f} GB/s, {link[start] * 1e6:.0f} us a {once}"
        )
    return "\n".join(lines)
