"""An iteration as the sum of an engine's kernels, from tables of their measured times.

The tables are those that LLMServingSim's profiler writes of a vLLM engine (casys-kaist/LLMServingSim, profiler/perf),
three files of one prefix, times in microseconds:

- ``dense``: layer, tokens: every kernel that sees only how many tokens there are;
- ``attention``: prefill_chunk, kv_prefill, n_decode, kv_decode: one kernel for a chunk of a prompt behind
  ``kv_prefill`` cached tokens together with ``n_decode`` decodes of ``kv_decode`` cached tokens each;
- ``per_sequence``: layer, sequences: head and sampler.

Between measured points times are linear in each column in turn; beyond the last one they go on with its slope. Decodes
of unlike contexts count as that many of their mean, since what they read adds up. Of several chunks the one with most
pairs of tokens shares its kernel with the decodes, the others cost what they cost alone but for the launch.
"""

from __future__ import annotations

import csv
import gzip
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

Point = tuple[float, ...]
_TWICE = "layernorm"  # before attention and before the feed-forward block
_ONCE = ("embedding", "final_layernorm")  # not in every layer
_ATTENTION = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")


class TableError(ValueError):
    """A table is missing, or not what it should be; the message names file, line and column."""


class Interpolated:
    """Values at points of any grid, linear in each coordinate in turn; the grid may differ from branch to branch.

    Args:
        values: point to value; all points have equally many coordinates, at least one.
    """

    def __init__(self, values: dict[Point, float]) -> None:
        branches: dict[float, dict[Point, float]] = defaultdict(dict)
        for point, value in values.items():
            branches[point[0]][point[1:]] = value
        self._at = sorted(branches)
        ends = len(next(iter(values))) == 1
        self._leaves = [branches[x][()] for x in self._at] if ends else []
        self._inner = [] if ends else [Interpolated(branches[x]) for x in self._at]

    def __call__(self, *point: float) -> float:
        """Return the value at a point."""
        at, x = self._at, point[0]
        if len(at) == 1:
            return self._value(0, point)
        place = min(max(bisect_right(at, x) - 1, 0), len(at) - 2)
        share = (x - at[place]) / (at[place + 1] - at[place])
        if share == 0.0:
            return self._value(place, point)
        low, high = self._value(place, point), self._value(place + 1, point)
        return low + share * (high - low)

    def _value(self, place: int, point: Sequence[float]) -> float:
        return self._inner[place](*point[1:]) if self._inner else self._leaves[place]


class KernelTables:
    """An engine on one device, or on several of tensor parallelism as one.

    Args:
        prefix: path of the three files up to ``_dense.csv.gz`` (or ``.csv``), ``_attention`` and ``_per_sequence``.
        layers: of the model.
        overhead_s: of an iteration, beside the kernels: scheduling that they do not hide.

    Raises:
        TableError: a file is missing, or a row of it is not as above.
        ValueError: ``layers`` is below 1, or the overhead negative.
    """

    def __init__(self, prefix: Path, layers: int, overhead_s: float = 0.0) -> None:
        if layers < 1:
            raise ValueError(f"layers is {layers}; allowed: from 1")
        if not 0.0 <= overhead_s < float("inf"):
            raise ValueError(f"overhead_s is {overhead_s}; allowed: from 0")
        self.layers, self.overhead_s = layers, overhead_s
        every, once = defaultdict[Point, float](float), defaultdict[Point, float](float)
        for layer, (tokens, us) in _rows(prefix, "dense", "layer", ("tokens",)):
            (once if layer in _ONCE else every)[(tokens,)] += us * (2.0 if layer == _TWICE else 1.0)
        head = defaultdict[Point, float](float)
        for _, (sequences, us) in _rows(prefix, "per_sequence", "layer", ("sequences",)):
            head[(sequences,)] += us
        decode: dict[Point, float] = {}
        chunk: dict[Point, float] = {}
        mixed: dict[Point, float] = {}
        for _, (new, before, decodes, context, us) in _rows(prefix, "attention", "", _ATTENTION):
            if not new:
                decode[(decodes, context)] = us
            elif not decodes:
                chunk[(new, before)] = us
            else:
                mixed[(new, before, decodes, context)] = us
        for name, table in (("decodes alone", decode), ("a chunk alone", chunk), ("both", mixed)):
            if not table:
                raise TableError(f"{_path(prefix, 'attention')}: no rows of {name}")
        self._every, self._once, self._head = Interpolated(every), Interpolated(once), Interpolated(head)
        self._decode, self._chunk, self._mixed = Interpolated(decode), Interpolated(chunk), Interpolated(mixed)
        self._launch_us = min(chunk.values())

    def iteration_s(
        self, chunks: Sequence[tuple[float, float]], decodes: float, context: float, speaks: float
    ) -> float:
        """Return the seconds of one iteration (`models.engines.Law`)."""
        tokens = decodes + sum(new for new, _ in chunks)
        us = self.layers * (self._every(tokens) + self._attention_us(chunks, decodes, context))
        return (us + self._once(tokens) + (self._head(speaks) if speaks else 0.0)) * 1e-6 + self.overhead_s

    def _attention_us(self, chunks: Sequence[tuple[float, float]], decodes: float, context: float) -> float:
        if not chunks:
            return self._decode(decodes, context / decodes)
        largest = max(range(len(chunks)), key=lambda k: chunks[k][0] * (chunks[k][0] + chunks[k][1]))
        new, before = chunks[largest]
        us = self._mixed(new, before, decodes, context / decodes) if decodes else self._chunk(new, before)
        for number, (new, before) in enumerate(chunks):
            if number != largest:
                us += max(0.0, self._chunk(new, before) - self._launch_us)
        return us


def _path(prefix: Path, table: str) -> Path:
    for ending in (".csv.gz", ".csv"):
        path = prefix.with_name(f"{prefix.name}_{table}{ending}")
        if path.exists():
            return path
    raise TableError(f"{prefix.with_name(f'{prefix.name}_{table}.csv.gz')}: no such file (nor without .gz)")


def _rows(prefix: Path, table: str, label: str, columns: Sequence[str]) -> Iterator[tuple[str, list[float]]]:
    """Yield a row's label and its numbers, the time in microseconds last."""
    path = _path(prefix, table)
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        reader = csv.DictReader(file)
        wanted = [*([label] if label else []), *columns, "time_us"]
        if missing := [name for name in wanted if name not in (reader.fieldnames or ())]:
            raise TableError(f"{path}: no column {missing[0]!r}; needed are {', '.join(wanted)}")
        found = False
        for row in reader:
            numbers = []
            for name in (*columns, "time_us"):
                try:
                    number = float(row[name])
                except (TypeError, ValueError):
                    number = -1.0
                if not 0.0 <= number < float("inf"):
                    raise TableError(
                        f"{path}, line {reader.line_num}: {name} is {row[name]!r}; allowed: numbers from 0"
                    )
                numbers.append(number)
            found = True
            yield row[label] if label else "", numbers
        if not found:
            raise TableError(f"{path}: no rows")
