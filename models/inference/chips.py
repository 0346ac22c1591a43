"""Accelerators by name: `chips.csv`, what a data sheet says of the chip that holds the model.

Bandwidth and FP16 peak (dense; with FP16 sums where a GeForce has them at twice the rate, `bf16_tflops` with FP32
sums), second-level cache, memory, board or package watts under load and idle. Data sheets, from memory; Apple's peak is
that of its cores (128 lanes, two operations, the published clock) in half precision, M5's with its matrix units four
times M4's (Apple's statement). Intel's is that of its vector units, which Vulkan reaches. A virtual machine's bandwidth
is its share of the sockets'. Devices of the library (`models.devices`) that are not here come with the library's
numbers.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

from models.devices.rows import LIBRARY, DeviceRow
from models.inference.names import unknown

GB = 1e9
BOARD_HOST = 3.0
"""A core of a single-board computer beside a desktop's (Geekbench 6, one core: about 800 and 2,600; from memory)."""
# NVIDIA's Ada, Hopper and Blackwell, AMD's CDNA 3 (data sheets).
_FP8 = (
    "L4", "L20", "RTX 40", "RTX 50", "RTX PRO", "H100", "H200", "H800", "H20", "GH200", "B200", "GB200", "DGX Spark",
    "Jetson AGX Thor", "MI300", "MI325",
)  # fmt: skip
_NUMBERS = ("mem_gb_s", "tflops", "bf16_tflops", "l2_mib", "ram_gib", "peak_w", "idle_w")
_NOISE = frozenset(
    (
        "nvidia",
        "geforce",
        "apple",
        "amd",
        "intel",
        "gpu",
        "gpus",
        "phone",
        "soc",
        "chip",
        "with",
        "cpu",
        "npu",
    )
)


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        name: as in the table, or as it was given.
        kind: class of its factors: ``apple``, ``gddr``, ``hbm``, ``phone``, ``board`` ...
        mem_bytes_per_s: bandwidth of the memory that holds the model.
        flops: dense FP16 peak, operations/s.
        flops_fp32_sum: the same, with sums in FP32.
        cache_bytes: second-level cache.
        memory_bytes: what a model can live in.
        peak_w, idle_w: draw under load and idle.
        known: False where only a bandwidth was given and the rest is its class's.
        host: how much longer its host takes to launch a kernel than a desktop's processor.
    """

    name: str
    kind: str
    mem_bytes_per_s: float
    flops: float
    flops_fp32_sum: float
    cache_bytes: float
    memory_bytes: float
    peak_w: float
    idle_w: float
    known: bool = True
    host: float = 1.0

    @property
    def integer_share(self) -> float:
        """Return how much faster its integers are beside its peak than others': Pascal's has no FP16 but DP4A."""
        return 2.0 if self.name.startswith(("GTX 10", "Tesla P4", "Titan Xp", "Quadro P")) else 1.0

    @property
    def has_fp8(self) -> bool:
        """Tell whether its tensor cores multiply 8-bit floating point at twice the rate of 16 bits."""
        return self.name.startswith(_FP8) or " Ada" in self.name


def _read(text: str) -> tuple[dict[str, Chip], list[tuple[frozenset[str], str]]]:
    chips: dict[str, Chip] = {}
    spellings: list[tuple[frozenset[str], str]] = []
    for row in csv.DictReader(text.splitlines()):
        number = {field: float(row[field]) for field in _NUMBERS}
        chips[row["name"]] = Chip(
            row["name"], row["class"], number["mem_gb_s"] * GB, number["tflops"] * 1e12, number["bf16_tflops"] * 1e12,
            number["l2_mib"] * 2**20, number["ram_gib"] * 2**30, number["peak_w"], number["idle_w"],
        )  # fmt: skip
        names = (row["name"], *filter(None, row["aliases"].split(";")))
        spellings += [(_tokens(spelling), row["name"]) for spelling in names]
    return chips, spellings


def _tokens(name: str) -> frozenset[str]:
    """Split a chip's name; `M2` and `A100` stay whole, `RTX4090`, `1080Ti`, `Pi4` and `SXM5` do not."""
    bare = re.sub(r"\b(macbook|ipad)\s+(pro|air)\b|\bmac\s+(studio|mini|pro)\b", "", name.lower())
    apart = re.sub(r"\b(rtx|gtx|rx|pro|r?pi|sxm)(?=\d|a\d|pro)", r"\1 ", bare)
    apart = re.sub(r"(\d)(ti|super)(?![a-rt-z])", r"\1 \2 ", apart)
    return frozenset(word for word in re.findall(r"[a-z0-9.]+", apart) if word not in _NOISE)


CHIPS, _SPELLINGS = _read((Path(__file__).parent / "chips.csv").read_text(encoding="utf-8"))
"""Name to chip; and every spelling as its set of words."""

_DISCRETE = ("gddr", "gddr-old", "gddr-server", "hbm", "hbm-amd", "amd", "intel")
_HOSTS = ("board", "cpu")
_BY_BANDWIDTH = {"apple": ("apple", "m1"), "phone": ("phone", "snapdragon"), "board": ("pi", "board"), "gddr": ("rtx",)}


def find_chip(name: str, mem_bytes_per_s: float = 0.0) -> Chip:
    """Return the chip of this name: the one whose every word is in the name, the most words first.

    A graphics card goes before the machine that it is in: ``Ryzen 9 7950X (RTX 4080)``, ``Pi 5 (RX 7600)``.

    Args:
        name: e.g. ``Apple M2 Ultra (76-core GPU)``, ``4090 24GB``, ``A100-80gb``.
        mem_bytes_per_s: its bandwidth if it is known; replaces the table's, and lets a stranger in.

    Raises:
        UnknownName: no chip, no device of the library, and no bandwidth; names the nearest.
    """
    given = _tokens(name)
    found = [
        # A chip's own name goes before what else it is called.
        (CHIPS[chip].kind in _DISCRETE, len(spelling), spelling == _tokens(chip), -number)
        for number, (spelling, chip) in enumerate(_SPELLINGS)
        if spelling <= given
    ]
    if found:
        chip = CHIPS[_SPELLINGS[-max(found)[3]][1]]
        boarded = chip.kind in _DISCRETE and any(CHIPS[_SPELLINGS[-one[3]][1]].kind == "board" for one in found)
        host = BOARD_HOST if boarded else 1.0
        return replace(chip, mem_bytes_per_s=mem_bytes_per_s or chip.mem_bytes_per_s, host=host)
    held = next((row for row in LIBRARY if _tokens(row.name) == given), None)
    if held:
        return _of_library(held)
    if mem_bytes_per_s > 0.0:
        return _stranger(name, given, mem_bytes_per_s)
    raise unknown("devices", name, [*CHIPS, *(row.name for row in LIBRARY)])


def _of_library(row: DeviceRow) -> Chip:
    """Return a device of the fleet's library as a chip; its class by where it stands there."""
    kind = {"phone": "phone", "tablet": "phone", "gpu_box": "gddr"}.get(row.kind, "cpu")
    kind = "board" if row.family == "board" else kind
    return Chip(
        row.name, kind, row.mem_bytes_per_s, row.flops, row.flops, 0.0, float(row.ram_bytes), row.peak_w, row.idle_w
    )


def _stranger(name: str, given: frozenset[str], mem_bytes_per_s: float) -> Chip:
    """Return a chip of which only the bandwidth is known: the rest in proportion to a typical one of its class.

    Operations a byte: 80 of a graphics card (RTX 3060 to 4070), 52 of Apple's chips, 70 of a phone's GPU, 15 of a
    single-board computer; 20 (assumption) of anything else.
    """
    kind = next((kind for kind, hints in _BY_BANDWIDTH.items() if given & set(hints)), "cpu")
    kind = "apple" if any(re.fullmatch(r"m\d", word) for word in given) else kind
    flops = mem_bytes_per_s * {"gddr": 80.0, "apple": 52.0, "phone": 70.0, "board": 15.0}.get(kind, 20.0)
    return Chip(name, kind, mem_bytes_per_s, flops, flops, 0.0, 0.0, 50.0, 5.0, known=False)


def find_devices(name: str, count: int = 1, mem_bytes_per_s: float = 0.0) -> tuple[Chip, ...]:
    """Return the chips of a cell like ``4090 24GB * 2``, ``4 x Raspberry Pi 4``, ``RTX 3090 + RTX 4090``, ``l4x2``.

    Args:
        name: the cell.
        count: how many in all where the cell does not say.
        mem_bytes_per_s: of each, if known.

    Raises:
        UnknownName: one of them is not known.
        ValueError: there are none of one.
    """
    chips: list[Chip] = []
    name = re.sub(r"^[^:]*:\s*(?=\d)", "", name)  # `test bed: 2x ...`
    plain = re.sub(r"(?<=\w)\+(?=[\s,)]|$)", "", name)  # the plus of `Galaxy S24+` joins nothing
    # What stands in brackets describes a device: a comma in there joins nothing.
    for part in re.split(r"\s*(?:\+|,|&|;|\band\b)(?![^(]*\))\s*", plain):
        before = re.match(r"\s*(\d{1,2})\s*[x×*]\s*(.*)", part, re.IGNORECASE)
        after = re.match(r"(.*?)(?:\s[x×]|(?<=[\d)])[x×]|\s*\*)\s*(\d{1,2})\s*$", part, re.IGNORECASE)
        if before:
            times, bare = int(before[1]), before[2]
        elif after:
            times, bare = int(after[2]), after[1]
        else:
            times, bare = 1, part
        if not times:
            raise ValueError(f"devices is {name!r}; allowed: from 1 to 99 of a device")
        chips += [find_chip(bare, mem_bytes_per_s)] * times
    if any(chip.kind in _DISCRETE for chip in chips):  # `Raspberry Pi 5 + RX 6700 XT`: the card computes
        host = BOARD_HOST if any(chip.kind == "board" for chip in chips) else 1.0
        chips = [replace(chip, host=max(host, chip.host)) for chip in chips if chip.kind not in _HOSTS]
    if len(chips) == 1:
        return tuple(chips * max(count, 1))
    return tuple(chips)
