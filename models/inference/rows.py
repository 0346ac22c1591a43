"""Rows of published measurements: which quantity a row states, and what is predicted for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.inference.builds import VLLM, is_old, is_old_metal
from models.inference.chips import Chip, find_devices
from models.inference.collectives import Link
from models.inference.conditions import Conditions, read_cache, read_conditions
from models.inference.engines import GIGABIT_BYTES_PER_S, default_link, find_engine
from models.inference.names import UnknownName
from models.inference.predict import Metrics, predict

_S = {"s": 1.0, "ms": 1e3, "us": 1e6}


@dataclass(frozen=True)
class Answer:
    """One row answered.

    Attributes:
        value: in the row's unit.
        regime: what the row is counted under.
    """

    value: float
    regime: str
    metrics: Metrics


Reader = Callable[[Metrics, Conditions], float]

# A rate or a time by words of the metric's name, the first that is contained; times in seconds, rates a second.
_TIMES: tuple[tuple[str, Reader], ...] = (
    ("ms_per_layer", lambda m, c: m.decode_layer_s),
    ("layer", lambda m, c: m.decode_layer_s),
    ("ttft", lambda m, c: m.time_to_first_token_s),
    ("first token", lambda m, c: m.time_to_first_token_s),
    ("prompt", lambda m, c: m.prefill_s),
    ("prefill", lambda m, c: m.prefill_s),
    ("e2e", lambda m, c: m.end_to_end_s),
    ("end to end", lambda m, c: m.end_to_end_s),
    ("total", lambda m, c: m.end_to_end_s),
    ("latency per token", lambda m, c: m.decode_step_s),
    ("token", lambda m, c: m.decode_step_s),
    ("tpot", lambda m, c: m.decode_step_s),
    ("itl", lambda m, c: m.decode_step_s),
    ("tbt", lambda m, c: m.decode_step_s),
    ("decode", lambda m, c: m.decode_step_s),
    ("inter", lambda m, c: m.decode_step_s),
    ("latency", lambda m, c: m.decode_step_s),
    ("time", lambda m, c: m.decode_step_s),
    ("tg", lambda m, c: m.decode_step_s),
    ("pp", lambda m, c: m.prefill_s),
)
_RATES: tuple[tuple[str, Reader], ...] = (
    ("prompt", lambda m, c: m.prefill_tokens_per_s),
    ("prefill", lambda m, c: m.prefill_tokens_per_s),
    ("pp", lambda m, c: m.prefill_tokens_per_s),
    ("total", lambda m, c: c.batch * (c.prompt_tokens + c.output_tokens) / m.end_to_end_s),
    *((word, lambda m, c: m.decode_tokens_per_s) for word in (
        "tg", "decod", "generat", "eval", "throughput", "token", "tok", "speed", "rate", "tps", "output",
    )),
)  # fmt: skip
_OTHERS: tuple[tuple[str, Reader], ...] = (
    ("peak_power", lambda m, c: 1.0),
    ("power_fraction", lambda m, c: m.mean_power_w / m.peak_power_w),
    ("power", lambda m, c: m.mean_power_w),
    ("joules", lambda m, c: m.joules_per_token),
    ("energy", lambda m, c: m.joules_per_token),
    ("kv", lambda m, c: m.kv_bytes),
    ("memory", lambda m, c: max(m.device_bytes)),
)
METRICS = (
    "pp512", "tg128", "pp512+tg128", "prompt_time", "token_time", "e2e_time", "ms_per_layer", "ttft", "tpot", "decode",
    "prefill", "throughput", "avg_power_fraction_of_tdp", "joules_per_token", "memory",
)  # fmt: skip
UNITS = ("tokens/s", "ms", "s", "us", "ms/token", "s/token", "x", "W", "J", "J/token", "GB")

DEVICES_MAX = 100_000
"""Devices of one row, each of which is listed (our bound; clusters that serve one model are far smaller)."""

TOLD_MAX = 1e9
"""Tokens or sequences that a row's words may tell (our bound, far above any context or batch)."""


def answer(row: Mapping[str, str]) -> Answer:
    """Predict what a row states.

    Args:
        row: columns system, model, quant, devices, n_devices, bandwidth, metric, unit, conditions; or those of the
            layer profiles: model, machine, phase, tokens_in_batch, ms_per_layer.

    Raises:
        ValueError: a cell is not known or not a number; the message begins with its column.
    """
    if "machine" in row and "tokens_in_batch" in row:
        row = _of_profile(row)
    cell = {name: (row.get(name) or "").strip() for name in ("system", "model", "quant", "devices", "n_devices",
            "bandwidth", "metric", "unit", "conditions")}  # fmt: skip
    count = _count(cell["n_devices"])
    chips = find_devices(cell["devices"], count, _memory_bytes_per_s(cell["bandwidth"]))
    metric, unit = cell["metric"].lower().replace("-", "_"), cell["unit"].lower()
    conditions = _conditions(metric, cell["conditions"], cell["system"], cell["model"])
    engine = find_engine(cell["system"])
    link = _link(f"{cell['bandwidth']}, {cell['conditions']}", default_link(engine, chips[0]))
    found = predict(cell["system"], cell["model"], cell["quant"] or "f16", chips, link, conditions)
    value, prefilling = _value(metric, unit, cell["conditions"].lower(), found, conditions)
    return Answer(value, _regime(engine.name, chips, conditions, found, prefilling, metric), found)


def _of_profile(row: Mapping[str, str]) -> dict[str, str]:
    """Return a row of Helix's layer profiles in the columns of the others; its context is an assumption (870)."""
    tokens = _number("tokens_in_batch", row["tokens_in_batch"])
    prompt = row.get("phase", "").startswith(("prompt", "prefill"))
    said = f"prompt 512, batch {max(tokens / 512, 1e-9)}, prefill" if prompt else f"batch {tokens}, context 870"
    return {
        "system": "vLLM (Helix)", "model": row["model"], "quant": "fp16", "devices": row["machine"], "n_devices": "",
        "metric": "prefill_ms_per_layer" if prompt else "ms_per_layer", "unit": "ms", "conditions": said,
    }  # fmt: skip


def _number(column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise ValueError(f"{column} is {text!r}; allowed: a number from 0 up")
    return number


def _count(text: str) -> int:
    number = _number("n_devices", text or "1")
    if not 1 <= number <= DEVICES_MAX or number != int(number):
        raise ValueError(f"n_devices is {text!r}; allowed: whole numbers from 1 to {DEVICES_MAX:,}")
    return int(number)


def _memory_bytes_per_s(text: str) -> float:
    """Return the memory's bandwidth that a cell names, as ``400 GB/s memory`` or a bare number in GB/s; 0: none."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*(TB/s|GB/s|GBps)", text)
    if found:
        return float(found[1]) * (1e12 if found[2] == "TB/s" else 1e9)
    return float(text) * 1e9 if re.fullmatch(r"\d+(?:\.\d+)?", text) else 0.0


# Line rates by name, bit/s; Wi-Fi's is what a link of 802.11ac carries (assumption).
_NAMED_LINKS = (
    ("thunderbolt 5", 80e9), ("tb5", 80e9), ("thunderbolt", 40e9), ("tb4", 40e9), ("wi-fi", 300e6), ("wifi", 300e6),
    ("gigabit", 1e9), ("ethernet", 1e9),
)  # fmt: skip
_TCP_SHARE = 0.94  # of Ethernet's rate, beside the headers of Ethernet, IP and TCP
_ETHERNET_START_S = 0.2e-3  # a round through two kernels (assumption)
_RDMA_BITS_PER_S, _RDMA_START_S = 100e9, 20e-6  # from this rate on, adapters pass the kernels by (assumption)


def _link(text: str, usual: Link) -> Link | None:
    """Return the link that a row's words name, as ``1 GbE switch``, ``50 Mbps`` or ``Thunderbolt 5``; None: none."""
    lower = text.lower()
    told = re.search(r"(\d+(?:\.\d+)?)\s*(g|m)(?:bps|bit/s|be\b|b/s)", re.sub(r"GB/s|GBps", " ", text).lower())
    if told:
        bits_per_s = float(told[1]) * (1e9 if told[2] == "g" else 1e6)
    else:
        bits_per_s = next((rate for name, rate in _NAMED_LINKS if name in lower), 0.0)
    if not bits_per_s:
        return None
    bytes_per_s = bits_per_s / 8 * _TCP_SHARE
    # A switch's buffer empties as fast as its links: at 10 Gbit/s replies collide for a tenth of the time.
    share = min(1.0, GIGABIT_BYTES_PER_S / bytes_per_s) if usual.star else 1.0
    remote = bits_per_s >= _RDMA_BITS_PER_S or re.search(r"infiniband|\brdma\b|\broce", lower)
    start_s = max(usual.start_s if share > 0.5 else 0.0, _RDMA_START_S if remote else _ETHERNET_START_S)
    return Link(bytes_per_s, start_s, usual.serialise_s, usual.star, share * usual.crowd_s)


def _conditions(metric: str, text: str, system: str, model: str) -> Conditions:
    said = read_conditions(f"{text}, {system}")
    filled = re.match(r"(pp|tg)\s*_?(\d+)", metric)
    both = re.match(r"pp\s*_?(\d+)\s*\+\s*tg\s*_?(\d+)", metric)
    told = [
        *said.values(),
        *(float(count) for found in (filled, both) if found for count in re.findall(r"\d+", found[0])),
    ]
    if max(told, default=0.0) > TOLD_MAX:
        raise ValueError(f"conditions is {text!r}, metric {metric!r}; allowed: numbers up to {TOLD_MAX:,.0f}")
    if not said.get("batch", 1.0):
        raise ValueError(f"conditions is {text!r}; allowed: a batch from 1 up")
    prompt, output, depth = int(said.get("prompt", 512)), int(said.get("output", 128)), int(said.get("depth", 0))
    context = said.get("context")
    if both:
        prompt, output = int(both[1]), int(both[2])
    elif filled and filled[1] == "pp":
        prompt = int(filled[2])
    elif filled:
        # The benchmark generates into an empty cache, unless a depth is told.
        output = int(filled[2])
        context = output / 2.0 + (context or depth)
    elif context is not None and "prompt" not in said:
        prompt = max(1, int(context))
    lower = f"{text} {system}".lower()
    split = "tensor" if "tensor" in lower or re.search(r"\btp\s*=?\s*\d", lower) else ""
    split = "layers" if "layer split" in lower or "pipeline" in lower else split
    fused = re.search(r"flash|\bfa\b|fa\s*=?\s*1", re.sub(r"\b(?:no|without)[ -](?:fa|flash)|\bfa\s*=?\s*0", "", lower))
    return Conditions(
        prompt, output, said.get("batch", 1), context, depth, split,
        fused_attention=bool(fused), chunk_tokens=int(said.get("chunk", 0)), old_build=bool(is_old(text)),
        old_metal=is_old_metal(text, model), old_serving="vllm" in system.lower() and bool(is_old(text, VLLM)),
        bytes_per_kv=read_cache(text),
    )  # fmt: skip


def _value(metric: str, unit: str, said: str, found: Metrics, asked: Conditions) -> tuple[float, bool]:
    """Return the predicted value in the row's unit, and whether it is one of prefill."""
    name = metric.replace("_", " ") if metric not in ("ms_per_layer",) else metric
    if metric == "prefill_ms_per_layer":
        return found.prefill_layer_s * 1e3, True
    if unit in ("tokens/s", "token/s", "tok/s", "t/s", "tps", "tokens/sec", "tokens per second", "tokens/second"):
        if re.match(r"pp\d+\+tg", metric.replace(" ", "")):
            # llama-bench takes no token out of its prompt: as many steps as tokens follow (`test_gen`).
            took_s = found.prefill_s + asked.output_tokens * found.decode_step_s
            return asked.batch * (asked.prompt_tokens + asked.output_tokens) / took_s, False
        rate = next(((words, reader) for words, reader in _RATES if words in name), None)
        whole = {"prompt", "output"} <= set(read_conditions(said)) and asked.batch > 1
        if rate and rate[0] == "throughput" and whole:  # of requests, prompts and all
            return asked.batch * asked.output_tokens / found.end_to_end_s, False
        if rate:
            return rate[1](found, asked), rate[0] in ("prompt", "prefill", "pp")
    scale = _S.get(unit.split("/")[0].strip() if unit not in _S else unit)
    if scale is not None or unit in ("ms per token", "milliseconds", "seconds"):
        scale = scale or (1.0 if unit == "seconds" else 1e3)
        chosen = next(((words, reader) for words, reader in _TIMES if words in name), None)
        if chosen:
            return chosen[1](found, asked) * scale, chosen[0] in ("ttft", "first token", "prompt", "prefill", "pp")
    other = next((reader for words, reader in _OTHERS if words.replace("_", " ") in name), None)
    if other:
        return other(found, asked) / (1e9 if unit == "gb" else 1.0), False
    if unit and unit not in [known.lower() for known in UNITS]:
        raise UnknownName(f"unit is {unit!r}; allowed: {', '.join(UNITS)}")
    raise UnknownName(f"metric is {metric!r} with unit {unit!r}; allowed: {', '.join(METRICS)} with {', '.join(UNITS)}")


def _regime(
    engine: str, chips: tuple[Chip, ...], asked: Conditions, found: Metrics, prefilling: bool, metric: str
) -> str:
    of = found.regime_prefill if prefilling else found.regime_decode
    kind = "zero-shot" if of.startswith("zero-shot") else "calibrated"
    what = "prefill" if prefilling else "decode"
    if "power" in metric or "energy" in metric or "joule" in metric:
        what = "energy"
    elif "e2e" in metric or "total" in metric:
        what = "end to end"
    batch = " batched" if asked.batch > 1 and not prefilling else ""
    long = " long context" if max(asked.context(), asked.prompt_tokens) >= 4096 else ""
    several = f" x{len(chips)}" if len(chips) > 1 else ""
    return f"{engine} {chips[0].kind}{several} {what}{batch}{long} ({kind})"
