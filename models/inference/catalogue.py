"""Real models by name: `models.csv`, one a line with the configuration file that its numbers come from."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from models.inference.names import key, unknown
from models.inference.shapes import Shape

# Words that tell neither size nor shape: publishers, tunings, versions of the same weights' layout.
_NOISE = frozenset(
    ("meta", "facebook", "google", "microsoft", "mistralai", "openai", "huggyllama", "hf", "chat", "instruct", "it",
     "base", "coder", "gguf", "awq", "gptq", "preview", "model", "dense", "text", "v", "the", "v0.1", "0.1", "0.2",
     "0.3", "v1.0", "1.0", "2507", "thinking")
)  # fmt: skip


_COUNTS = (
    "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "experts", "top_k", "shared_ffn", "window",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One model: its shape with two bytes a number, the total its publisher states, and where the shape stands."""

    shape: Shape
    params_published: int
    source: str
    aliases: tuple[str, ...]


def _read(text: str) -> dict[str, Entry]:
    made = {}
    for row in csv.DictReader(text.splitlines()):
        count = {field: int(row[field]) for field in _COUNTS}
        shape = Shape(
            name=row["name"], layers=count["layers"], hidden=count["hidden"], heads=count["heads"],
            kv_heads=count["kv_heads"], head_dim=count["head_dim"], ffn=count["ffn"], vocab=count["vocab"],
            gated=row["gated"] == "1", tied=row["tied"] == "1", experts=count["experts"], top_k=count["top_k"],
            shared_ffn=count["shared_ffn"], window=count["window"], windowed_share=float(row["windowed_share"]),
        )  # fmt: skip
        aliases = tuple(alias for alias in row["aliases"].split(";") if alias)
        made[shape.name] = Entry(shape, int(row["params_published"]), row["source"], aliases)
    return made


CATALOGUE = MappingProxyType(_read((Path(__file__).parent / "models.csv").read_text(encoding="utf-8")))
"""Name to entry."""

_BY_KEY = {key(name): name for name in CATALOGUE}
_BY_KEY |= {key(alias): name for name, entry in CATALOGUE.items() for alias in entry.aliases}


def find_model(name: str) -> Entry:
    """Return the model of this name, however it is spelt: `LLaMA 3 70B`, `meta-llama/Llama-2-7b-chat-hf`.

    Raises:
        UnknownName: the table does not hold it; names the nearest.
    """
    bare = re.sub(r"\(.*?\)", " ", name.rsplit("/", 1)[-1]).replace(":", " ")
    for noise in ((), _NOISE):
        found = _BY_KEY.get(key(bare, noise))
        if found:
            return CATALOGUE[found]
    raise unknown("model", name, CATALOGUE)
