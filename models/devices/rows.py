"""The device library: `library.csv`, one device a line, a letter for the source beside every number.

Idle of a phone, screen off, is 0.8 % of the battery an hour (assumption; AOSP's suspend alone is 0.02 W), and
the same share for tablets; of laptops and mains devices at the wall or nominal. Watts of a GPU are its board's. The
engine's factors (eta, mu, overhead) are ours, fitted on published token rates:

* Apple, llama.cpp Metal (ggml-org/llama.cpp discussion 4167): eta 0.92, Ultra chips 0.83; mu 0.34; 186 us a
  layer
* GDDR GeForce, llama.cpp CUDA (XiongjieDai/GPU-Benchmarks-on-LLM-Inference): eta 0.93; mu 0.35 to 0.48; 78 us
  a layer
* data centre GPUs, vLLM (Helix, ASPLOS'25 per-layer profiles): eta 0.75 to 0.83, overhead within eta; mu 0.40
  or 0.76
* phones, ExecuTorch on the CPU: eta 0.62 to 0.74, 0.68 taken; mu 0.12 of the GPU's peak and 100 us a layer
  (assumptions)
* other laptops and boards: eta 0.70 and mu 0.30 (assumptions); Raspberry Pi 5 eta 0.57 (distributed-llama,
  7B)
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from models.devices.kinds import KINDS
from models.devices.sources import BY_LIST, BY_RULE, OF_KIND, SOURCES
from models.power.draw import leak_slope_w_per_k

FAMILIES = ("phone", "tablet", "laptop", "desktop", "mini pc", "workstation", "board", "gpu")
TIERS = ("budget", "mid", "high")
NO_PACK = "none"
# Columns of numbers: field of the row, and what one unit of the file is in it.
_NUMBERS = {
    "mem_gb_s": ("mem_bytes_per_s", 1e9), "tflops": ("flops", 1e12), "ram_gib": ("ram_bytes", 2**30),
    "battery_wh": ("battery_wh", 1.0), "peak_w": ("peak_w", 1.0), "sustained_w": ("sustained_w", 1.0),
    "idle_w": ("idle_w", 1.0), "screen_w": ("screen_w", 1.0), "charger_w": ("charger_w", 1.0),
    "exponent": ("exponent", 1.0), "eta": ("eta", 1.0), "mu": ("mu", 1.0), "overhead_us": ("overhead_s_layer", 1e-6),
    "cores": ("cores", 1),
}  # fmt: skip
_WHOLE = ("ram_bytes", "cores")


@dataclass(frozen=True)
class DeviceRow:
    """One device.

    Attributes:
        name: chip or product.
        kind: phone, tablet, laptop, desktop or gpu_box: its body, its owner's habits.
        mem_bytes_per_s: bandwidth of the memory that holds the model.
        flops: dense FP16 peak, operations/s.
        ram_bytes: memory a model can live in: the GPU's own where it has some.
        battery_wh: energy when full; 0 on mains.
        peak_w, sustained_w: draw at full load, short and lasting, idle included.
        idle_w: awake, screen off.
        eta, mu, overhead_s_layer: factors of `models.inference`.
        cores: processor cores; of the host for a GPU (16, an assumption).
        has_gpu: the engine of the calibrated factors runs on a GPU.
        source: what else is known of where the numbers come from.
        family: one of `FAMILIES`; single-board computers are desktops of the family ``board``.
        tier: one of `TIERS`, by price when new.
        year: of launch.
        screen_w: screen at its usual brightness.
        charger_w: what the plug gives.
        exponent: of speed in `models.power.draw_w`.
        leak_w_per_k: slope of the die's leakage.
        pack: whose battery pack: ``phone``, ``tablet``, ``laptop`` or ``none``.
        sources: for every field but `name` and `source`, where its value comes from.
    """

    name: str
    kind: str
    mem_bytes_per_s: float
    flops: float
    ram_bytes: int
    battery_wh: float
    peak_w: float
    sustained_w: float
    idle_w: float
    eta: float
    mu: float
    overhead_s_layer: float
    cores: int
    has_gpu: bool
    source: str
    family: str
    tier: str
    year: int
    screen_w: float
    charger_w: float
    exponent: float
    leak_w_per_k: float
    pack: str
    sources: Mapping[str, str]


def read_library(text: str) -> tuple[tuple[DeviceRow, ...], tuple[DeviceRow, ...]]:
    """Read a library from its text, CSV; return all its rows, and those marked for the inventory.

    Raises:
        ValueError: a cell is not what its column allows, or a name comes twice; names line, column, value.
    """
    lines = list(csv.DictReader(text.splitlines()))
    rows = tuple(_row(cells, f"device library line {number}") for number, cells in enumerate(lines, start=2))
    names = [row.name for row in rows]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"device library: name {twice[0]!r} comes twice; allowed: once")
    return rows, tuple(row for row, cells in zip(rows, lines, strict=True) if cells["inventory"] == "yes")


def _row(cells: dict[str, str], where: str) -> DeviceRow:
    for column, allowed in {
        "kind": tuple(KINDS), "family": FAMILIES, "tier": TIERS, "has_gpu": ("yes", "no"), "inventory": ("yes", "no"),
    }.items():  # fmt: skip
        if cells.get(column) not in allowed:
            raise ValueError(f"{where}: {column} is {cells.get(column)!r}; allowed: {', '.join(allowed)}")
    kind = KINDS[cells["kind"]]
    numbers: dict[str, float] = {"screen_w": kind.screen_w, "charger_w": kind.charger_w}
    sources = {"screen_w": OF_KIND, "charger_w": OF_KIND, "kind": BY_LIST, "family": BY_LIST, "tier": BY_LIST}
    sources |= {"pack": OF_KIND, "leak_w_per_k": BY_RULE, "has_gpu": BY_LIST, "year": SOURCES["s"]}
    for column, (field, unit) in _NUMBERS.items():
        cell = cells.get(column) or ""
        if cell == "" and field in numbers:
            continue
        value, _, letter = cell.partition(" ")
        if letter not in SOURCES:
            raise ValueError(f"{where}: {column} is {cell!r}; allowed: a number and one of {' '.join(SOURCES)}")
        try:
            number = float(value) * unit
        except ValueError:
            number = -1.0
        if not 0.0 <= number < float("inf"):
            raise ValueError(f"{where}: {column} is {cell!r}; allowed: numbers from 0 up")
        numbers[field], sources[field] = number, SOURCES[letter]
    whole = {field: int(numbers.pop(field)) for field in _WHOLE}
    return DeviceRow(
        name=cells["name"], kind=cells["kind"], family=cells["family"], tier=cells["tier"], year=int(cells["year"]),
        has_gpu=cells["has_gpu"] == "yes", source=cells["note"], sources=MappingProxyType(sources),
        leak_w_per_k=float(leak_slope_w_per_k(numbers["idle_w"], numbers["sustained_w"])),
        pack=cells["kind"] if numbers["battery_wh"] > 0.0 else NO_PACK, **whole, **numbers,  # type: ignore[arg-type]
    )  # fmt: skip


LIBRARY, DEVICES = read_library((Path(__file__).parent / "library.csv").read_text(encoding="utf-8"))
"""All devices; and the 35 among which an inventory draws uniformly within a kind. These stay as they are, in their
order, because a default day's devices are drawn from their number: fleets that want the whole library draw from a mix
(`models.devices.mixes`)."""


def by_kind(kind: str) -> tuple[DeviceRow, ...]:
    """Return the devices of a kind among which an inventory draws."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    return tuple(row for row in DEVICES if row.kind == kind)


def find(name: str) -> DeviceRow:
    """Return the device of this name.

    Raises:
        ValueError: there is none; names the nearest.
    """
    return LIBRARY[find_index(name)]


def find_index(name: str) -> int:
    """Return the number in `LIBRARY` of the device of this name, or raise as `find` does."""
    names = [row.name for row in LIBRARY]
    if name not in names:
        raise ValueError(f"device {name!r} is not in the library; nearest: {_nearest(name, names)!r}")
    return names.index(name)


def _nearest(name: str, names: list[str]) -> str:
    """Return the name that is nearest by letters; those that hold the wanted one, or all its words, come first."""
    wanted = name.lower()
    holding = [each for each in names if wanted in each.lower()]
    holding = holding or [each for each in names if all(word in each.lower() for word in wanted.split())]
    score = difflib.SequenceMatcher()
    score.set_seq2(wanted)

    def likeness(each: str) -> float:
        score.set_seq1(each.lower())
        return score.ratio()

    return max(holding or names, key=likeness)
