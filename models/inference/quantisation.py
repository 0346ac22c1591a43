"""Formats of weights by name: `quantisation.csv`, bytes a weight with its scales."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from models.inference.names import unknown, words


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        bytes_per_weight: scales and zeros counted, mean over a model's tensors.
        packing: ``none`` of floating point; ``plain`` integers with a scale a block; ``k`` ggml's, whose scales are
            packed as well and cost more to unpack.
    """

    name: str
    bytes_per_weight: float
    packing: str
    source: str


def _read(text: str) -> tuple[dict[str, Format], dict[str, Format]]:
    formats: dict[str, Format] = {}
    by_key: dict[str, Format] = {}
    for row in csv.DictReader(text.splitlines()):
        made = Format(row["name"], float(row["bytes_per_weight"]), row["packing"], row["source"])
        formats[made.name] = made
        by_key |= dict.fromkeys((_plain(row["name"]), *filter(None, row["aliases"].split(";"))), made)
    return formats, by_key


def _plain(text: str) -> str:
    return "".join(words(text))


FORMATS, _BY_KEY = map(
    MappingProxyType, _read((Path(__file__).parent / "quantisation.csv").read_text(encoding="utf-8"))
)
"""Name to format; and every spelling of it to the same."""


def find_format(name: str) -> Format:
    """Return the format of this name, however it is spelt: `Q4_K_M`, `q4_k - medium`, `FP16`, `4-bit`, `INT4 (AWQ)`.

    The whole name is tried, then runs of its words, the longest and first of them before the others. ``EXL2 4.25 bpw``
    says itself how many bits a weight has.

    Raises:
        UnknownName: none of it is a format; names the nearest.
    """
    told = re.search(r"(\d{1,2}(?:\.\d+)?)\s*(?:bpw|bits? per weight)", name.lower())
    if told and 1.0 <= float(told[1]) <= 16.0:
        return Format(f"{told[1]}bpw", float(told[1]) / 8.0, "plain", "bits a weight as given")
    parts = words(name)
    for length in range(len(parts), 0, -1):
        for start in range(len(parts) - length + 1):
            found = _BY_KEY.get("".join(parts[start : start + length]))
            if found:
                return found
    raise unknown("quant", name, FORMATS)
