"""A fleet's run: windows, the signals fed back between them, worker processes, checkpoints, and what is left behind.

Each worker process owns its chunks for the whole run and is told the signals of a window at a time; what it answers is
added in integers, so that workers and chunks change nothing. A checkpoint is written every few simulated hours and at
an interruption; the same scenario goes on from it.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models import draws
from scenarios.fleet import FleetScenario, price_at
from scenarios.parts import Parts
from scenarios.schema import KINDS
from sim.fleet import stock
from sim.fleet.checkpoint import STATE, resume, save
from sim.fleet.day import COLUMNS, Report, Share, peak_rss_kib
from sim.fleet.histories import history
from sim.fleet.packs import AT_ONCE

Array = Any
Progress = Callable[[float, str], None]

XLA_FLAGS = (
    # Without the first each array that a step leaves is computed apart, from the step's start: half of the time is
    # repetition. With the second a scan of any size (bytes) is one function and not a call for each of its loops.
    "--xla_backend_extra_options=xla_cpu_use_multi_output_fusion,xla_cpu_small_while_loop_byte_threshold=1000000000000",
    "--xla_cpu_prefer_vector_width=512",  # where the CPU has it; eight double numbers at once and not four
    "--xla_cpu_multi_thread_eigen=false",
)  # fmt: skip
"""What XLA is told in a worker. It moves values by their rounding only (a test compares decisions and digests)."""

DAY_S = 86_400.0
BUSIEST_S = 20 * 3600.0  # when most work arrives, on the run's clock


@dataclass
class Desk:
    """The village's desk: work waits here until lent devices have done it, FLOP."""

    waiting: int = 0
    done: int = 0
    dropped: int = 0
    demand: float = 1.0


@dataclass
class FleetResult:
    """What a fleet's run left behind.

    Attributes:
        windows: one row a window and kind: counts, sums and worst cases.
        devices: one column a name, in the fleet's fixed order.
        histories: of the sampled devices, the table as in `scenarios.record`, on disk but for the last windows.
        sampled: their places in the fixed order.
        alone_differs: largest difference between sampled devices run alone and in their chunks, over charge (0 to 1)
            and temperatures (K).
        violations: of the harvest envelope by sampled devices, at most a hundred lines.
        receipts: of the sampled devices' sessions, rows as in `scenarios.record`.
        digest: of windows and devices, quantised.
        wall_s: time the windows took; ``setup_s`` what came before, ``compile_s`` what compilers took;
            ``rss_kib`` the peak memory of all processes together, for as long as there were workers.
    """

    scenario: FleetScenario
    windows: list[dict[str, Any]] = field(default_factory=list)
    devices: dict[str, Array] = field(default_factory=dict)
    histories: Parts = field(init=False)
    sampled: Array = None
    alone_differs: float = 0.0
    violations: list[str] = field(default_factory=list)
    receipts: list[tuple[Any, ...]] = field(default_factory=list)
    digest: str = ""
    desk: Desk = field(default_factory=Desk)
    setup_s: float = 0.0
    compile_s: float = 0.0
    rss_kib: int = 0
    wall_s: float = 0.0
    resumed_at_s: float = 0.0


def run_fleet(
    scenario: FleetScenario, folder: Path | None = None, progress: Progress = lambda share, text: None
) -> FleetResult:
    """Run a fleet.

    Args:
        scenario: what happens.
        folder: where checkpoints go, and are looked for; none writes none.
        progress: called after each window with (share done, text).

    Raises:
        KeyboardInterrupt: interrupted; the checkpoint in ``folder`` is where it was.
    """
    begun = time.perf_counter()
    roster = stock.roster(scenario)
    result = FleetResult(scenario, sampled=sample(scenario))
    alone = msgspec.structs.replace(scenario, backend="numpy")
    watched = Share(alone, [result.sampled] if result.sampled.size else [], roster, watched=True)
    count = round(scenario.duration_s / scenario.window_s)
    every = max(1, round(scenario.record.checkpoint_h * 3600.0 / scenario.window_s))
    with Workers(scenario, roster) as workers, _at_interruption() as interrupted:
        result.compile_s = max(workers.ask("warm_up"))
        first = resume(folder, scenario, workers, watched, result)
        result.setup_s = time.perf_counter() - begun - result.compile_s
        begun = time.perf_counter()
        for number in range(first, count):
            demand = result.desk.demand
            workers.tell("advance", number, demand)
            for trace in watched.histories(number, demand):
                result.histories.add(history(scenario, roster.entity[result.sampled], number, trace))
            text = _add(result, number, workers.hear())
            progress((number + 1) / count, text)
            last = number + 1 == count
            stop = interrupted()  # asked once: a signal between saving and leaving would leave nothing behind
            if folder is not None and not last and (stop or (number + 1) % every == 0):
                save(folder, scenario, workers, watched, result, number + 1)
            if stop and not last:
                raise KeyboardInterrupt
        result.wall_s += time.perf_counter() - begun
        result.devices = {name: _in_order(workers.ask("column", name), workers.assigned) for name in COLUMNS}
        result.rss_kib = peak_rss_kib() + (sum(workers.ask("rss_kib")) if workers.processes else 0)
    if watched.lots:
        result.violations, result.receipts = watched.violations[:100], watched.receipts
        result.alone_differs = _difference(result.devices, watched, result.sampled)
    result.digest = _digest(result)
    if folder is not None:
        shutil.rmtree(folder / STATE, ignore_errors=True)
    return result


def deal(roster: stock.Roster, size: int, workers: int, few: int = 0) -> list[list[Array]]:
    """Cut the fleet's order into chunks of at most ``size``, and return those of each worker; at most ``workers``.

    Kinds cost unequally, so that each worker has the same share of every kind: at the end of a window it waits for the
    others. There are no more workers than there would be chunks for one. No chunk spans two kinds, whose constants are
    one number each, but where a worker has fewer than ``few`` rows of a kind left: those are put together, since what
    is done once a chunk would cost more than its rows.
    """
    kinds = [rows for _, rows in stock.kind_slices(roster.kind)]
    count = min(workers, sum(-(-(rows.stop - rows.start) // size) for rows in kinds))
    dealt: list[list[Array]] = [[] for _ in range(count)]
    for rows in kinds:
        edges = np.linspace(rows.start, rows.stop, count + 1).astype(np.int64).tolist()
        for mine, begin, end in zip(dealt, edges[:-1], edges[1:], strict=True):
            mine += [np.arange(first, min(first + size, end)) for first in range(begin, end, size)]
    return [_with_few_together(mine, size, few) for mine in dealt if mine]


def _with_few_together(chunks: list[Array], size: int, few: int) -> list[Array]:
    small = [chunk for chunk in chunks if chunk.size < few]
    together = np.concatenate([np.arange(0), *small])
    mixed = [together[first : first + size] for first in range(0, together.size, size)]
    return [chunk for chunk in chunks if chunk.size >= few] + mixed


def sample(scenario: FleetScenario) -> Array:
    """Return the places of the devices whose histories are kept: keyed draws, without repetition, rising."""
    wanted = min(scenario.record.histories, scenario.devices)
    if wanted == scenario.devices:
        return np.arange(wanted)
    drawn = draws.integers(scenario.seed, "histories", np.arange(8 * wanted + 8), 0, scenario.devices)
    _, first = np.unique(drawn, return_index=True)
    return np.sort(drawn[np.sort(first)[:wanted]])


class Workers:
    """Processes that own the chunks; with one process, this one.

    Attributes:
        assigned: the chunks of each worker.
        processes: the workers', none if this process is the worker.
    """

    def __init__(self, scenario: FleetScenario, roster: stock.Roster) -> None:
        few = AT_ONCE if scenario.backend == "numpy" else 0  # JAX compiles for chunks of one kind
        self.assigned = deal(roster, scenario.chunk, scenario.processes or os.cpu_count() or 1, few)
        self._own = Share(scenario, self.assigned[0], roster) if len(self.assigned) == 1 else None
        self._answer: list[Any] = []
        self._pipes: list[Connection] = []
        self.processes: list[Any] = []
        if self._own is None:
            context = multiprocessing.get_context("spawn")
            with _one_blas_thread():
                for i, mine in enumerate(self.assigned):
                    pipe, theirs = context.Pipe()
                    process = context.Process(target=_serve, args=(theirs, scenario, mine, i), daemon=True)
                    process.start()
                    theirs.close()
                    self._pipes.append(pipe)
                    self.processes.append(process)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._pipes:
            pipe.close()  # a worker ends at the end of its input
        for process in self.processes:
            if error[0] is not None:
                process.terminate()
            process.join()

    def tell(self, what: str, *words: Any) -> None:
        """Ask every worker for the same; `hear` waits for the answers."""
        if self._own is not None:
            self._answer = [getattr(self._own, what)(*words)]
        for pipe in self._pipes:
            pipe.send((what, words))

    def hear(self) -> list[Any]:
        """Return every worker's answer, in their order."""
        if self._own is not None:
            return self._answer
        answers = []
        for pipe, process in zip(self._pipes, self.processes, strict=True):
            try:
                good, value = pipe.recv()
            except (EOFError, OSError):
                process.join()
                raise RuntimeError(f"a fleet worker died with exit code {process.exitcode}") from None
            if not good:
                raise RuntimeError(f"a fleet worker failed: {value}")
            answers.append(value)
        return answers

    def ask(self, what: str, *words: Any) -> list[Any]:
        """Ask, and wait for the answers."""
        self.tell(what, *words)
        return self.hear()


def _serve(pipe: Connection, scenario: FleetScenario, chunks: list[Array], number: int) -> None:
    """Own some chunks and answer until the pipe is closed; a failure is an answer as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then asks for the state
    one_thread()
    try:
        share = Share(scenario, chunks, stock.roster(scenario), number)
        while True:
            what, words = pipe.recv()
            pipe.send((True, getattr(share, what)(*words)))
    except EOFError:
        return
    except Exception as error:
        import traceback

        pipe.send((False, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Let the processes that are started have one BLAS thread each: more wait for one another on small matrices.

    BLAS reads its environment when it is loaded, so that a worker could no longer say so itself.
    """
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def one_thread() -> None:
    """Set this process up as one worker a core: what it calls starts no threads of its own, and keeps its memory."""
    os.environ |= {"XLA_FLAGS": " ".join(XLA_FLAGS), "NPROC": "1"}  # NPROC: the threads that XLA's runtime starts
    _keep_heap()


def _keep_heap() -> None:
    """Keep freed arrays in the process: glibc gives back the heap's top at each turn, and doubles a chunk's time."""
    import ctypes

    with suppress(OSError, AttributeError):  # other C libraries do without
        libc = ctypes.CDLL(None)
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
        for option, size in ((trim_threshold, 1 << 28), (top_pad, 1 << 26), (mmap_threshold, 1 << 28)):
            libc.mallopt(option, size)


@contextmanager
def _at_interruption() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C into a flag that is looked at between windows, where the state is whole."""
    seen = False

    def note(*_: object) -> None:
        nonlocal seen
        seen = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


def _add(result: FleetResult, number: int, reports: list[Report]) -> str:
    """Add the workers' reports to the result, settle the desk's work, and set the next window's demand."""
    scenario, desk = result.scenario, result.desk
    at_s = (number + 1) * scenario.window_s
    mflop = lent = total = 0
    price = price_at(scenario, number)
    priced = {} if price is None else {"price_per_kwh": price}
    for kind in (name for name in KINDS if any(name in report.sums for report in reports)):
        sums: Counter[str] = Counter()
        peaks = {"skin_c_max": -np.inf, "die_c_max": -np.inf, "soc_min": np.inf}
        for report in reports:
            sums.update(report.sums.get(kind, {}))
            for name, value in report.peaks.get(kind, {}).items():
                peaks[name] = min(peaks[name], value) if name == "soc_min" else max(peaks[name], value)
        result.windows.append({"time_s": at_s, "kind": kind, "demand": desk.demand, **priced, **sums, **peaks})
        mflop, lent, total = mflop + sums["mflop"], lent + sums["contributing"], total + sums["devices"]
    _settle(scenario, desk, at_s, mflop)
    return f"{at_s / 3600:.1f} h, {lent:,} of {total:,} lent, demand {desk.demand:.2f}"


def _settle(scenario: FleetScenario, desk: Desk, at_s: float, mflop: int) -> None:
    """Take what was done off what waits; demand is what waits over what the lent devices could have done."""
    desk.done += mflop
    rate = scenario.work.tflop_per_s
    if rate is None:
        return
    capacity = mflop / desk.demand if desk.demand > 0.0 else 0.0
    wave = 1.0 + scenario.work.swing * math.cos(2.0 * math.pi * (at_s - BUSIEST_S) / DAY_S)
    waiting = max(0, desk.waiting - mflop) + round(rate * 1e6 * wave * scenario.window_s)
    limit = round(rate * 1e6 * 3600.0 * scenario.work.queue_h)
    desk.dropped += max(0, waiting - limit)
    desk.waiting = min(waiting, limit)
    desk.demand = min(1.0, desk.waiting / capacity) if capacity > 0.0 else 1.0


def _in_order(parts: list[Array], assigned: list[list[Array]]) -> Array:
    """Put the workers' parts of a column into the fleet's fixed order."""
    column = np.empty(sum(part.size for part in parts), dtype=parts[0].dtype)
    for part, chunks in zip(parts, assigned, strict=True):
        column[np.concatenate(chunks)] = part
    return column


def _difference(batch: dict[str, Array], alone: Share, rows: Array) -> float:
    names = ("soc", "die_c", "board_c", "skin_c")
    return max(float(np.max(np.abs(batch[name][rows] - alone.column(name)), initial=0.0)) for name in names)


def _digest(result: FleetResult) -> str:
    """Digest the windows' integers and the devices' decisions and quantised states."""
    digest = hashlib.blake2b(digest_size=32)
    for row in result.windows:
        whole = {name: value for name, value in row.items() if isinstance(value, int | str)}
        digest.update(json.dumps(whole, sort_keys=True).encode())
    columns = result.devices
    for name in ("device", "sessions", "interrupted", "times_low", "lent_s", "hot_s"):
        digest.update(np.rint(columns[name]).astype("<i8").tobytes())
    for name, unit in (("soc", 1e-6), ("die_c", 1e-3), ("board_c", 1e-3), ("skin_c", 1e-3), ("total_j", 1e-3)):
        digest.update(np.rint(columns[name] / unit).astype("<i8").tobytes())
    return digest.hexdigest()
