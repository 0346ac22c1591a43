"""Testbed files as planning problems: the same nodes, links, memory and workload for every planner.

Two kinds of file. EdgeShard's gives rules and one measured cell: seconds follow from bytes read and operations done
(`models.inference`), with the share of the bandwidth that makes the cell come out. Helix's gives links node by node,
and its layer times stand in a table of profiles by tokens in a batch.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.compose import UsageError
from models.engines import Law, Phases
from models.inference import Shape
from policies.problem import Link, Problem, Worker

# Public configurations (config.json of each model on its publisher's page); LLaMA-30B is Touvron et al. 2023, table 2.
SHAPES = {
    "7b": Shape("llama2_7b", 32, 4096, 32, 32, 128, 11_008, 32_000, tied=False),
    "13b": Shape("llama2_13b", 40, 5120, 40, 40, 128, 13_824, 32_000, tied=False),
    "30b": Shape("llama1_30b", 60, 6656, 52, 52, 128, 17_920, 32_000, tied=False),
    "70b": Shape("llama2_70b", 80, 8192, 64, 8, 128, 28_672, 32_000, tied=False),
}
PROMPT_TOKENS, NEW_TOKENS = 32, 96
"""EdgeShard's request, as the file's objective says in words."""
MU = 0.4
"""Share of the peak that a prompt's matrix products reach: 0.4 on L4 and T4; for Jetsons an ASSUMPTION."""
USABLE = 0.9
"""Share of a GPU's memory that vLLM gives to weights and cache: its default gpu_memory_utilization."""
BATCH_MAX = 256
"""vLLM's default max_num_seqs."""


@dataclass(frozen=True)
class Bed:
    """A problem to plan, and how its planners are scored."""

    name: str
    model: str
    problem: Problem
    by_flow: bool
    kv_bytes_token_layer: float = 0.0
    layers: Mapping[str, Law] = field(default_factory=dict)  # what an iteration takes in one layer of a node


def read(path: Path, model: str) -> Bed:
    """Read a testbed file for one of `SHAPES`.

    Raises:
        UsageError: the file is missing or no testbed, or it has no such model.
    """
    data = _load(path)
    known = _known(data)
    if model not in known:
        raise UsageError(f"--model {model}: {data.get('name')} has no such model; allowed: {', '.join(known)}")
    shape, nodes = SHAPES[model], data["nodes"]
    try:
        if "link_rule" in data:
            return Bed(data["name"], model, _edgeshard(data, shape, nodes), by_flow=False)
        profiles = path.parent / str(data["layer_times"])
        times = _profiles(profiles, shape.name)
        laws = {_name(node): _phases(times[str(node["type"]).lower()]) for node in nodes}
        problem = _helix(data, shape, nodes, times)
        return Bed(data["name"], model, problem, True, shape.kv_bytes_per_token_layer(), laws)
    except KeyError as error:
        raise UsageError(f"TESTBED={path}: field {error} is missing") from None
    except (TypeError, ValueError, IndexError, StopIteration, ZeroDivisionError) as error:
        raise UsageError(f"TESTBED={path}: a field is not as in its kind of testbed: {error}") from None


def models_of(path: Path) -> list[str]:
    """Return the names of the models of `SHAPES` that a testbed file has."""
    return _known(_load(path))


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"TESTBED={path}: no such file; allowed: edgeshard.json or helix_*.json.gz")
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            data: dict[str, Any] = json.load(file)
        if not data["nodes"] or not _known(data):
            raise ValueError("it has no nodes, or no model that is known")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UsageError(f"TESTBED={path}: not a testbed: {type(error).__name__} {error}") from None
    return data


def _known(data: Mapping[str, Any]) -> list[str]:
    return [name for name, shape in SHAPES.items() if shape.name in data["models"]]


def _edgeshard(data: Mapping[str, Any], shape: Shape, nodes: list[dict[str, Any]]) -> Problem:
    """Return the mixed edge testbed: Orins and one cloud GPU, with the slow link between source and cloud."""
    width, rule, source = float(data["weights_bytes_per_parameter"]), data["link_rule"], data["source_node"]
    cloud = max(nodes, key=lambda node: float(node["flops_fp16"]))["id"]
    layer_bytes, head_bytes = shape.layer_params() * width, shape.vocab * shape.hidden * width
    cell = SHAPES["7b"]
    cell_bytes = (cell.layers * cell.layer_params() + cell.vocab * cell.hidden) * width
    first = next(node for node in nodes if node["id"] == source)
    eta = cell_bytes / (float(first["mem_bytes_per_s"]) * data["calibration_cell"]["ms_per_token"] / 1e3)
    bits = {"edge": rule["between_edge_devices_bits_per_s"], "source": rule["source_to_cloud_bits_per_s"]}
    bits["other"] = rule["other_edge_to_cloud_bits_per_s"]

    def rate(a: int, b: int) -> float:
        kind = "edge" if cloud not in (a, b) else "source" if source in (a, b) else "other"
        return float(bits[kind]) / 8

    kv = 2 * shape.kv_heads * shape.head_dim * float(data["activation_bytes_per_value"])
    workers = [
        Worker(
            node=_name(node),
            memory_bytes=float(node["usable_bytes"]),
            layer_s=layer_bytes / (eta * float(node["mem_bytes_per_s"])),
            step_s=0.0,
            prefill_s_token_layer=2 * shape.layer_params() / (MU * float(node["flops_fp16"])),
            prefill_s_layer=layer_bytes / (eta * float(node["mem_bytes_per_s"])),
            bytes_per_s=float(bits["edge"]) / 8,
            one_way_s=float(rule["one_way_s"]) / 2,
        )
        for node in nodes
    ]
    pairs = [(a, b) for a in nodes for b in nodes if a != b]
    links = [Link(_name(a), _name(b), rate(a["id"], b["id"]), float(rule["one_way_s"])) for a, b in pairs]
    return Problem(
        shape.name, shape.layers, layer_bytes, kv * (PROMPT_TOKENS + NEW_TOKENS), head_bytes,
        shape.hidden * float(data["activation_bytes_per_value"]), tuple(workers), _name(first),
        links=tuple(links), prompt_tokens=PROMPT_TOKENS, new_tokens=NEW_TOKENS, heads=shape.kv_heads,
    )  # fmt: skip


def _name(node: Mapping[str, Any]) -> str:
    return f"{str(node['type']).split(' ')[0]}-{int(node['id']):02}"


def _phases(times: Mapping[str, Any]) -> Phases:
    """Return a layer's law; nothing takes no time, which the profiles say with a point at 0 that is no measurement."""
    prompt, decode = ({float(n): float(s) for n, s in zip(*times[name], strict=True)} for name in ("prompt", "decode"))
    return Phases(prompt, decode)


def _helix(
    data: Mapping[str, Any], shape: Shape, nodes: list[dict[str, Any]], times: Mapping[str, Mapping[str, Any]]
) -> Problem:
    """Return a GPU cluster: every link as measured, both ways, and what a batch gets out of a node by its layers."""
    work, model = data["workload"], data["models"][shape.name]
    prompt, new = int(work["mean_input_tokens"]), int(work["mean_output_tokens"])
    layer_bytes, kv = shape.layer_bytes(), shape.kv_bytes_per_token_layer() * (prompt + new)
    names = {node["id"]: _name(node) for node in nodes} | {"source": "gateway", "sink": "gateway"}
    links: dict[tuple[str, str], Link] = {}
    for sender, receiver, bytes_per_s, one_way_s in data["links"]:
        for a, b in ((names[sender], names[receiver]), (names[receiver], names[sender])):
            if (a == "gateway" and sender != "source") or (b == "gateway" and receiver != "sink"):
                continue  # the gateway's two directions are rows of their own
            links.setdefault((a, b), Link(a, b, float(bytes_per_s), float(one_way_s)))
    sites = _sites([names[node["id"]] for node in nodes], links)
    workers = [
        _gpu(names[node["id"]], node, times[str(node["type"]).lower()], shape, kv, (prompt, new), sites)
        for node in nodes
    ]
    return Problem(
        shape.name, shape.layers, layer_bytes, kv, shape.head_bytes(), float(model["activation_bytes_per_token"]),
        tuple(workers), "gateway", links=tuple(links.values()), prompt_tokens=prompt, new_tokens=new,
        heads=shape.kv_heads,
    )  # fmt: skip


def _gpu(
    name: str,
    node: Mapping[str, Any],
    times: Mapping[str, Any],
    shape: Shape,
    kv: float,
    tokens: tuple[int, int],
    sites: Mapping[str, str],
) -> Worker:
    """Return a worker whose throughput by layers is that of the largest batch whose cache fits beside them."""
    memory = USABLE * float(node["memory_bytes"])
    prompt, new = tokens
    prompt_s = float(np.interp(prompt, *times["prompt"]))
    rates = []
    for layers in range(1, shape.layers + 1):
        free = memory - 2 * shape.head_bytes() - layers * shape.layer_bytes()
        batch = min(BATCH_MAX, int(free // (layers * kv)))
        if batch < 1:
            break
        request_s = layers * (prompt_s + new * float(np.interp(batch, *times["decode"])) / batch)
        rates.append((prompt + new) / request_s)
    return Worker(
        node=name,
        memory_bytes=memory,
        layer_s=float(np.interp(1, *times["decode"])),
        step_s=0.0,
        prefill_s_token_layer=prompt_s / prompt,
        bytes_per_s=float(node["nic_bytes_per_s"]),
        one_way_s=0.0,
        site=sites[name],
        tokens_per_s=tuple(rates),
    )


def _profiles(path: Path, model: str) -> dict[str, dict[str, Any]]:
    """Return seconds a layer by tokens in the batch, for each machine and phase."""
    if not path.is_file():
        raise UsageError(f"TESTBED: its layer times {path} are missing")
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["model"] == model and float(row["tokens_in_batch"]) > 0:
                point = (float(row["tokens_in_batch"]), float(row["ms_per_layer"]) / 1e3)
                rows.setdefault((row["machine"], row["phase"]), []).append(point)
    found: dict[str, dict[str, Any]] = {}
    for (machine, phase), points in rows.items():
        found.setdefault(machine, {})[phase] = np.array(sorted(points)).T
    return found


def _sites(names: list[str], links: Mapping[tuple[str, str], Link]) -> dict[str, str]:
    """Return a site for each node: the first node that it reaches in under 10 ms, as nodes of one data centre do."""
    found: dict[str, str] = {}
    for name in names:
        near = [other for other in found if (name, other) in links and links[name, other].one_way_s < 0.01]
        found[name] = found[near[0]] if near else name
    return found
