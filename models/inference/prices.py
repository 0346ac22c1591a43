"""Prices: what each kind of work costs on a chip, as multiples of what its data sheet promises.

A price of 1.1 for weights says that they are read at 1 / 1.1 of the memory's bandwidth. Fitted prices stand in
`fitted.json` with their files, errors and worst rows (`twin calibrate inference`); what no measured row constrains is
assumed, in `models.inference.assumed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.inference.chips import Chip
from models.inference.work import Work

FILE = Path(__file__).parent / "fitted.json"


@dataclass(frozen=True)
class Prices:
    """Prices of one engine on one class of chips, for decode or for prefill.

    Attributes:
        weight, kv, kv_head, unpacked, activation, score: of bytes, in units of 1 / bandwidth.
        linear, linear_packed, attention, whole_attention: of operations, in units of 1 / peak; packed: on integer
            weights (no price is that of the others); whole: of attention that tensor parallelism does not divide.
        linear_k: on top of `linear_packed` where the scales are packed as well.
        linear_j: energy that a product takes, J an operation; a chip at its power limit takes at least that long.
        layer_s: launches and engine, s a layer and pass.
        pass_s: engine, s a pass.
        launch_s: of a host that launches kernel after kernel, s a layer; it works beside the devices, so that the
            slower of both counts.
        joint: 1 adds the reading of weights and the products with them; 2 takes the root of the sum of squares, as
            kernels do that overlap both.
        fp32_sum: products sum in FP32.
    """

    weight: float = 0.0
    linear: float = 0.0
    linear_packed: float = 0.0
    linear_k: float = 0.0
    kv: float = 0.0
    kv_head: float = 0.0
    attention: float = 0.0
    whole_attention: float = 0.0
    unpacked: float = 0.0
    activation: float = 0.0
    score: float = 0.0
    linear_j: float = 0.0
    layer_s: float = 0.0
    pass_s: float = 0.0
    launch_s: float = 0.0
    joint: float = 1.0
    fp32_sum: bool = False


PRICED = tuple(field.name for field in fields(Prices) if field.name not in ("launch_s", "joint", "fp32_sum"))
"""Names of the prices: the columns of a fit."""


def quantities(work: Work, chip: Chip, *, packing: str = "none", fp32_sum: bool = False) -> dict[str, float]:
    """Return the seconds of each kind of work at a price of 1 (`linear_j`: at 1 J an operation)."""
    peak = chip.flops_fp32_sum if fp32_sum else chip.flops
    linear_s = work.linear_flops / (peak * (2.0 if packing == "fp8" and chip.has_fp8 else 1.0))
    floating = packing in ("none", "fp8")
    return {
        "weight": work.weight_bytes / chip.mem_bytes_per_s,
        "linear": linear_s if floating else 0.0,
        "linear_packed": 0.0 if floating else linear_s / chip.integer_share,
        "linear_k": linear_s / chip.integer_share if packing == "k" else 0.0,
        "kv": work.kv_bytes / chip.mem_bytes_per_s,
        "kv_head": work.kv_head_bytes / chip.mem_bytes_per_s,
        "attention": work.attention_flops / peak,
        "whole_attention": work.whole_attention_flops / peak,
        "unpacked": work.unpacked_bytes / chip.mem_bytes_per_s,
        "activation": work.activation_bytes / chip.mem_bytes_per_s,
        "score": work.score_bytes / chip.mem_bytes_per_s,
        "linear_j": work.linear_flops / chip.peak_w,
        "layer_s": work.layers,
        "pass_s": work.passes,
    }


def terms_s(work: Work, chip: Chip, prices: Prices, *, packing: str) -> dict[str, float]:
    """Return the seconds of each kind of work, which add up to the pass.

    With `joint` above 1 weights and products overlap: both are scaled so that they add up to what they take together.
    """
    prices = replace(prices, linear_packed=prices.linear_packed or prices.linear)
    found = {
        name: quantity * getattr(prices, name)
        for name, quantity in quantities(work, chip, packing=packing, fp32_sum=prices.fp32_sum).items()
    }
    if prices.joint > 1.0:
        both = ("weight", "linear", "linear_packed", "linear_k")
        apart_s = sum(found[name] for name in both)
        together_s = sum(found[name] ** prices.joint for name in both) ** (1.0 / prices.joint)
        for name in both:
            found[name] *= together_s / apart_s if apart_s > 0.0 else 1.0
    found["launch_s"] = max(0.0, prices.launch_s * work.layers - sum(found.values()))
    return found


@dataclass(frozen=True)
class Regime:
    """One fitted regime: its prices, and how well they did.

    Attributes:
        errors: ``fit``, ``unseen device``, ``unseen model``, ``unseen generation``: mean, 90th percentile, worst,
            and the row of the worst.
    """

    prices: Prices
    rows: int
    errors: Mapping[str, Any]
    source: str


def _read(text: str) -> tuple[dict[str, Regime], dict[str, Mapping[str, float]]]:
    plain = json.loads(text)
    regimes = {
        name: Regime(Prices(**found["prices"]), found["rows"], MappingProxyType(found["errors"]), found["source"])
        for name, found in plain["regimes"].items()
    }
    return regimes, {name: MappingProxyType(link) for name, link in plain["links"].items()}


REGIMES, LINKS = _read(FILE.read_text(encoding="utf-8"))
"""Fitted regimes by name, `engine/class/phase`; and fitted all-reduces by name of the link."""
