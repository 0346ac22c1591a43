"""Measured passes as samples: the seconds of each, and the quantities of work that the law prices.

Every sample belongs to a group whose prices are fitted together. Rows that are known to be wrong are left out by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from models.inference import Shape, find_format, find_model
from models.inference.chips import CHIPS, Chip, find_chip
from models.inference.collectives import Link, layer_all_reduce_s
from models.inference.prices import quantities
from models.inference.work import Work, decode_work, prefill_work

CALIBRATION, PROFILES = "inference_calibration", "traces/profiles"
APPLE, CUDA = f"{CALIBRATION}/llamacpp_apple_silicon.csv.gz", f"{CALIBRATION}/llamacpp_gpu_llama3.csv.gz"
HELIX, SPLITWISE = f"{CALIBRATION}/helix_layer_profiles.csv.gz", f"{PROFILES}/splitwise_perf_model.csv.gz"
SERVING = {
    "llmservingsim_RTX4090_Llama-3.1-8B_tp1": ("RTX 4090", "llama-3.1-8b", 1),
    "llmservingsim_RTXPRO6000_Llama-3.1-8B_tp1": ("RTX PRO 6000", "llama-3.1-8b", 1),
    "llmservingsim_RTXPRO6000_Qwen3-32B_tp2": ("RTX PRO 6000", "qwen3-32b", 2),
}
VIDUR = {
    f"vidur_mlp_{card}_{model}": (chip, name)
    for card, chip in (("a100", "A100 SXM 80GB"), ("a40", "A40"), ("h100", "H100 SXM"))
    for model, name in (
        ("Llama-2-70b-hf", "llama-2-70b"), ("Llama-2-7b-hf", "llama-2-7b"), ("phi-2", "phi-2"),
        *((("Meta-Llama-3-8B", "llama-3.1-8b"),) if card == "a100" else ()),
    )
}  # fmt: skip
NVLINK = {board: f"{PROFILES}/vidur_net_{board.lower()}_dgx_all_reduce.csv.gz" for board in ("A100", "H100")}

STEP_TOKENS, PROMPT_TOKENS = (1, 512), (128, 1_000_000)
"""Tokens from and up to which a layer's times tell of decode and of prefill (`inference_choices` has why).

A step of vLLM takes at most 256 streams unless told (max_num_seqs).
"""

HELIX_CHIPS = {"a100": "A100 40GB", "l4": "L4", "t4": "T4", "v100": "V100"}
HELIX_CONTEXT, HELIX_PROMPT = 870, 512
"""Tokens of a stream in the Helix profiles: not stated there, assumptions; 870 is the mean of its decode workload."""

# A software fault of that build: 604 and 2254 tokens/s where the quantised rows of the same boards do 5,948 and 6,035.
KNOWN_BAD = (("A100 SXM 80GB", "F16", "pp512"), ("L40S 48GB", "F16", "pp512"))


@dataclass(frozen=True)
class Sample:
    """One measured pass.

    Attributes:
        quantities: seconds at a price of 1, by name of the price.
        seconds: measured, less what is priced elsewhere.
        device, model, name: for leaving out and for naming.
    """

    quantities: dict[str, float]
    seconds: float
    kind: str
    device: str
    model: str
    name: str


def shape_of(model: str, quant: str) -> tuple[Shape, str]:
    """Return a model in a format, and how its weights are packed."""
    form = find_format(quant)
    return form.of(find_model(model).shape), form.packing


def _sample(
    work: Work, chip: Chip, seconds: float, packing: str, model: str, name: str, *, fp32: bool = False
) -> Sample:
    return Sample(quantities(work, chip, packing=packing, fp32_sum=fp32), seconds, chip.kind, chip.name, model, name)


def llama_cpp(folder: Path, kinds: tuple[str, ...], phase: str) -> Iterator[Sample]:
    """Return the rows of llama.cpp on chips of these kinds: prompts of 512, or tokens one by one."""
    for row in pd.concat([pd.read_csv(folder / APPLE), pd.read_csv(folder / CUDA)]).itertuples():
        chip = find_chip(row.devices)
        tokens = int(row.metric[2:])
        if chip.kind not in kinds or row.metric[:2] != {"decode": "tg", "prefill": "pp"}[phase]:
            continue
        if (row.devices, row.quant, row.metric) in KNOWN_BAD:
            continue
        shape, packing = shape_of(row.model, row.quant)
        name = f"{row.model} {row.quant} on {row.devices}, {row.metric}"
        if phase == "decode":
            work = decode_work(shape, shape.layers, 1, tokens / 2, head=True, packed=packing in ("plain", "k"))
            yield _sample(work, chip, 1.0 / row.value, packing, shape.name, name)
        else:
            work = prefill_work(shape, shape.layers, tokens, head=True, packed=packing in ("plain", "k"))
            yield _sample(work, chip, tokens / row.value, packing, shape.name, name)


def helix(folder: Path, phase: str, cards: tuple[str, ...], devices: tuple[int, ...] = (1,)) -> Iterator[Sample]:
    """Return the layer times of vLLM from Helix's profiles, on one card or on several in tensor parallel."""
    for row in pd.read_csv(folder / HELIX).itertuples():
        card, _, times = row.machine.partition("x")
        count, tokens = int(times or 1), int(row.tokens_in_batch)
        wanted = row.phase == {"decode": "decode", "prefill": "prompt"}[phase]
        if not wanted or card not in cards or count not in devices or row.ms_per_layer <= 0.0:
            continue
        shape, _ = shape_of(row.model, "f16")
        if phase == "decode":
            work = decode_work(shape, 1, tokens, HELIX_CONTEXT)
        else:
            streams = max(tokens / HELIX_PROMPT, 1.0)
            work = prefill_work(shape, 1, tokens / streams, streams=streams)
        name = f"{row.model} on {row.machine}, {row.phase} of {tokens}"
        yield _sample(work.split(count), CHIPS[HELIX_CHIPS[card]], row.ms_per_layer / 1e3, "none", shape.name, name)


def splitwise(folder: Path, phase: str, hardware: str, link: Link) -> Iterator[Sample]:
    """Return whole passes of Splitwise's engine in tensor parallel, medians of repeats, all-reduces taken off.

    Prompts in batches are left out: their times are those of prompts that waited for one another.
    """
    table = pd.read_csv(folder / SPLITWISE)
    table = table[(table["hardware"] == hardware) & ((phase == "decode") | (table["batch_size"] == 1))]
    keys = ["model", "tensor_parallel", "prompt_size", "batch_size", "token_size"]
    column = {"decode": "token_time", "prefill": "prompt_time"}[phase]
    chip = find_chip(hardware)
    for (model, devices, prompt, batch, out), ms in table.groupby(keys)[column].median().items():
        shape, _ = shape_of(model, "fp16")
        if phase == "decode":
            work, tokens = decode_work(shape, shape.layers, batch, prompt + out / 2, head=True), batch
        else:
            work, tokens = prefill_work(shape, shape.layers, prompt, head=True), prompt
        said_s = layer_all_reduce_s(link, devices, shape.layers, tokens * shape.activation_bytes())
        name = f"{model} on {devices} x {hardware}, {phase}, prompt {prompt}, batch {batch}, out {out}"
        yield _sample(work.split(devices), chip, max(ms / 1e3 - said_s, 1e-6), "none", shape.name, name)


def serving_layers(folder: Path, chip: str, tokens: tuple[int, int]) -> Iterator[Sample]:
    """Return the times of one layer without attention: LLMServingSim's of vLLM 0.19, and Vidur's kernels.

    Args:
        folder: of the data sets.
        chip: whose.
        tokens: of a pass, from and up to.
    """
    for count, sample in _all_layers(folder, chip):
        if tokens[0] <= count <= tokens[1]:
            yield sample


def _all_layers(folder: Path, chip: str) -> Iterator[tuple[int, Sample]]:
    for file, (card, model, devices) in SERVING.items():
        if card == chip:
            table = pd.read_csv(folder / PROFILES / f"{file}_dense.csv.gz")
            table = table[~table["layer"].isin(["embedding", "final_layernorm"])]
            twice = table["layer"].isin(["layernorm", "qk_norm"]) + 1  # norms come twice a layer, or once for q and k
            for tokens, us in (table["time_us"] * twice).groupby(table["tokens"]).sum().items():
                yield int(tokens), _layer(model, chip, int(tokens), devices, us / 1e6, file)
    for file, (card, model) in VIDUR.items():
        if card == chip:
            table = pd.read_csv(folder / PROFILES / f"{file}.csv.gz").drop(columns="time_stats.emb.median")
            parts = [column for column in table if column.startswith("time_stats")]
            table["ms"] = table[parts].sum(axis=1)
            for (tokens, devices), ms in (
                table.groupby(["num_tokens", "num_tensor_parallel_workers"])["ms"].median().items()
            ):
                yield int(tokens), _layer(model, chip, int(tokens), int(devices), ms / 1e3, file)


def _layer(model: str, chip: str, tokens: int, devices: int, seconds: float, file: str) -> Sample:
    shape, _ = shape_of(model, "f16")
    work = replace(
        prefill_work(shape, 1, tokens), kv_bytes=0.0, attention_flops=0.0, whole_attention_flops=0.0, passes=0.0
    )
    name = f"{file}: {tokens} tokens, {devices} in parallel"
    return _sample(work.split(devices), CHIPS[chip], seconds, "none", shape.name, name, fp32=True)


def attention(folder: Path, phase: str) -> Iterator[Sample]:
    """Return the times of one layer's attention in vLLM 0.19: prompts alone, or streams alone."""
    for file, (card, model, devices) in SERVING.items():
        shape, _ = shape_of(model, "f16")
        for row in pd.read_csv(folder / PROFILES / f"{file}_attention.csv.gz").itertuples():
            if phase == "decode" and row.prefill_chunk == 0 and row.n_decode > 0:
                work = decode_work(shape, 1, row.n_decode, row.kv_decode)
            elif phase == "prefill" and row.prefill_chunk > 0 and row.n_decode == 0:
                work = prefill_work(shape, 1, row.prefill_chunk, before=row.kv_prefill)
            else:
                continue
            name = f"{file}: {row.prefill_chunk} after {row.kv_prefill}, {row.n_decode} at {row.kv_decode}"
            yield _sample(work.split(devices), CHIPS[card], row.time_us / 1e6, "none", shape.name, name, fp32=True)


def nvlink(folder: Path, board: str) -> pd.DataFrame:
    """Return all-reduces within one NVIDIA DGX: devices, bytes and seconds."""
    table = pd.read_csv(folder / NVLINK[board])
    # The others went over the network between machines, at a fiftieth of NVLink's rate.
    table = table[table["num_workers"] == table["devices_per_node"]]
    table = table.groupby(["num_workers", "size"], as_index=False)["time_stats.all_reduce.median"].median()
    return pd.DataFrame(
        {
            "devices": table["num_workers"],
            "bytes": table["size"],
            "seconds": table["time_stats.all_reduce.median"] / 1e3,
        }
    )
