"""How exact the executors are, as the tables of docs/executors.md: `python -m experiments.exactness` prints them.

`tiny` of seed 1 is run in every way that a village may run it, on the same random tokens; see
`real_backends.executors.agreement`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from experiments.progress import say
from real_backends import executors as ex
from real_backends.executors import seeded
from real_backends.executors.agreement import Agreement, compare, draw_streams, force

SPEC = seeded.RECIPES["tiny"].spec
SESSIONS, LENGTH, TOGETHER = 32, 64, 8
FRAMEWORKS = ("torch", "jax")

Logits = npt.NDArray[np.float32]


class Hop:
    """A shard whose activations pass a frame in some coding before the next shard sees them."""

    def __init__(self, shard: ex.Shard, coding: str) -> None:
        self.inner, self.coding, self.errors = shard, coding, list[float]()
        self.spec, self.first, self.last, self.dtype = shard.spec, shard.first, shard.last, shard.dtype
        self.backend, self.device, self.threads = shard.backend, shard.device, shard.threads
        self.warm_up, self.drop, self.sessions, self.forward = shard.warm_up, shard.drop, shard.sessions, shard.forward
        self.cached = shard.cached

    def step(self, parts: Sequence[ex.Part]) -> list[Logits]:
        """See `Shard.step`."""
        results = self.inner.step(parts)
        if self.last == self.spec.layers:
            return results
        self.errors += [ex.coding_error(result, self.coding) for result in results]
        return [ex.unpack_activation(ex.pack_activation(result, self.coding)) for result in results]


class Ways:
    """Runs the model in one way after another, on the same streams."""

    def __init__(self) -> None:
        self._weights = ex.make_checkpoint(SPEC, 1, seeded.HEAD_GAIN)
        self._streams = draw_streams(SPEC.vocab, SESSIONS, LENGTH, 1)

    def shards(self, backend: str, workers: int, dtype: str = "fp32") -> list[ex.Shard]:
        """The model on so many workers."""
        cuts = ex.cut_evenly(SPEC, workers)
        return [ex.make_shard(backend, SPEC, self._weights, a, b, device="cpu", dtype=dtype) for a, b in cuts]

    def logits(self, shards: Sequence[ex.Shard], together: int = TOGETHER, rebuild_every: int = 0) -> Logits:
        """Logits after every token of the streams."""
        say(f"{'+'.join(s.backend for s in shards)} {shards[0].dtype}, {together} together, rebuilt {rebuild_every}")
        return force(ex.Pipeline(shards), self._streams, together=together, rebuild_every=rebuild_every)


def _row(cells: Iterable[Any]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)])


def _cells(found: Agreement) -> list[str]:
    share = f"{found.differing} ({found.differing / found.positions:.2%})"
    return [f"{found.positions:,}", str(found.close), share, str(found.wrong), f"{found.worst:.1e}"]


FOUND = ("positions", "leads up to 1e-3", "other token", "of them with a larger lead", "worst logit")


def cuts(ways: Ways) -> str:
    """Whether logits stay equal bit for bit with 1 to 4 workers."""
    rows = []
    for backend in FRAMEWORKS:
        for dtype in ex.DTYPES:
            found = [ways.logits(ways.shards(backend, workers, dtype)) for workers in (1, 2, 3, 4)]
            equal = all(np.array_equal(found[0], other) for other in found[1:])
            rows.append((backend, dtype, "1, 2, 3, 4", f"{found[0].size:,}", "yes" if equal else "NO"))
    return _table(("framework", "format", "workers", "logits", "equal bit for bit"), rows)


def ways_of_running(ways: Ways, base: Logits) -> str:
    """Other batches, caches and frameworks against torch with 8 sessions a step."""
    mixed = [*ways.shards("torch", 4)[:2], *ways.shards("jax", 4)[2:]]
    others = {
        "torch, one session a step": ways.logits(ways.shards("torch", 2), 1),
        "torch, cache rebuilt every 16 positions": ways.logits(ways.shards("torch", 2), TOGETHER, 16),
        "JAX": ways.logits(ways.shards("jax", 2)),
        "JAX, one session a step": ways.logits(ways.shards("jax", 2), 1),
        "JAX, cache rebuilt every 16 positions": ways.logits(ways.shards("jax", 1), TOGETHER, 16),
        "torch and JAX, two workers each": ways.logits(mixed),
    }
    return _table(("way", *FOUND), ([name, *_cells(compare(base, logits))] for name, logits in others.items()))


def formats(ways: Ways, base: Logits) -> str:
    """Narrow formats against float32, and the two frameworks in one format against each other."""
    rows = []
    for dtype in ex.DTYPES[1:]:
        ours, theirs = (ways.logits(ways.shards(backend, 2, dtype)) for backend in FRAMEWORKS)
        rows.append([f"{dtype}, torch against float32", *_cells(compare(base, ours))])
        rows.append([f"{dtype}, JAX against torch", *_cells(compare(ours, theirs))])
    return _table(("format", *FOUND), rows)


def codings(ways: Ways, base: Logits) -> str:
    """Compressed activations over three hops: bytes, their error, and the tokens it changes."""
    rows = []
    for coding in ex.CODINGS[1:]:
        hops = [Hop(shard, coding) for shard in ways.shards("torch", 4)]
        found = compare(base, ways.logits(hops))
        frame = ex.pack_activation(np.ones((1, SPEC.hidden), np.float32), coding)
        sent = f"{(frame.values.nbytes + frame.scales.nbytes) / (4 * SPEC.hidden):.0%}"
        errors = [error for hop in hops for error in hop.errors]
        rows.append([coding, sent, f"{np.mean(errors):.1e}", f"{np.max(errors):.1e}", *_cells(found)])
    return _table(("coding", "bytes", "error, mean", "error, worst", *FOUND), rows)


def main() -> int:
    """Print the tables."""
    ways = Ways()
    base = ways.logits(ways.shards("torch", 1))
    for name, text in {
        "cuts": cuts(ways),
        "ways": ways_of_running(ways, base),
        "formats": formats(ways, base),
        "codings": codings(ways, base),
    }.items():
        print(f"<!-- {name} -->\n\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
