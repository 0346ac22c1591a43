"""A resumable sweep: every point of a grid, in worker processes, with a journal of one JSON line a point.

A point that fails keeps its error and the sweep goes on; run again, it does what is missing. A worker that
dies takes only its own point with it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from experiments.folders import project_root
from experiments.opened import tell_at_exit
from experiments.progress import Progress

Work = Callable[[list[str]], dict[str, Any]]  # a point's words to {"run", "key", "summary", ...}
Results = Generator[tuple[tuple[str, ...], str, dict[str, Any]], None, None]  # point, status, result
KeyOf = Callable[[list[str]], str]


@dataclass(frozen=True)
class Point:
    """One point of the grid and what became of it.

    Attributes:
        words: its overrides.
        status: ``done`` or ``failed``.
        result: what the work returned, or ``{"error": one line}``.
        fresh: whether this call did it, rather than an earlier one.
    """

    words: tuple[str, ...]
    status: str
    result: dict[str, Any]
    fresh: bool = True


def run_point(words: list[str]) -> dict[str, Any]:
    """Run one point, or find its finished Run; tracking is the sweep's own affair."""
    from experiments.job import perform, prepare
    from experiments.results import Run

    job = prepare([*words, "track=none", "-q"])
    run = Run(folder=job.folder) if job.finished else perform(job, lambda fraction, text: None)
    return {"run": str(job.folder), "key": f"{job.key}-{job.scenario.seed}", "summary": run.summary,
            "checks": all(check.passed for check in run.checks)}  # fmt: skip


def point_key(words: list[str]) -> str:
    """Return the key of a point's Run; an edited source changes it."""
    from experiments.job import prepare

    job = prepare([*words, "track=none"])
    return f"{job.key}-{job.scenario.seed}"


def sweep_folder(grid: Sequence[Sequence[str]]) -> Path:
    """Return the folder of the sweep over this grid: the same words find their journal again."""
    name = hashlib.sha256(json.dumps([list(point) for point in grid]).encode()).hexdigest()[:12]
    return project_root() / "runs" / "sweeps" / name


def sweep(
    grid: Sequence[Sequence[str]],
    folder: Path,
    *,
    jobs: int = 1,
    work: Work = run_point,
    key_of: KeyOf = point_key,
    until: Callable[[Point], bool] = lambda point: False,
    progress: Progress = lambda fraction, text: None,
) -> list[Point]:
    """Do every point of ``grid`` that the journal in ``folder`` does not hold as done under today's key.

    Args:
        grid: the points' overrides, in order.
        folder: where ``points.jsonl`` is.
        jobs: worker processes; 1 works in this process.
        work: does one point; it must be importable by name when ``jobs`` > 1.
        key_of: names a point's sources and config.
        until: called with each point, those of an earlier call first; true ends the sweep there.
        progress: called after each point.

    Returns:
        The points that are done, in the grid's order.

    Raises:
        KeyboardInterrupt: what is finished is in the journal.
    """
    keys = {tuple(point): key_of(list(point)) for point in grid}  # refuses a wrong word before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "points.jsonl"
    found = {point: earlier for point, earlier in read_journal(journal).items() if point in keys}
    points = {
        point: Point(point, "done", row["result"], fresh=False)
        for point, row in found.items()
        if row["status"] == "done" and row["key"] == keys[point]
    }
    enough = any([until(point) for point in points.values()])
    waiting = [] if enough else [point for point in keys if point not in points]
    runner = _inline(waiting, work) if jobs == 1 else _processes(waiting, work, jobs)
    with _whole_lines(journal) as file, closing(runner):  # an interruption here must end the workers, too
        for point, status, result in runner:
            points[point] = Point(point, status, result)
            row = {"point": list(point), "key": keys[point], "status": status, "result": result}
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
            enough = until(points[point])
            progress(len(points) / len(keys), " ".join(point))
            if enough:
                break
    return [points[tuple(point)] for point in grid if tuple(point) in points]


def read_journal(journal: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return each point's last row; a line cut short by a kill counts for nothing."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            rows[tuple(row["point"])] = row
    return rows


def _whole_lines(journal: Path) -> Any:
    """Open the journal for appending, after ending a line that a kill cut short."""
    torn = journal.exists() and not journal.read_bytes().endswith(b"\n") and journal.stat().st_size > 0
    file = journal.open("a", encoding="utf-8")
    if torn:
        file.write("\n")
    return file


def _one(work: Work, point: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    try:
        return "done", work(list(point))
    except Exception as error:  # a point's failure is a result of the sweep
        first = (str(error) or "no message").splitlines()[0]
        return "failed", {"error": f"{type(error).__name__}: {first}"}


def _inline(points: Sequence[tuple[str, ...]], work: Work) -> Results:
    for point in points:
        yield point, *_one(work, point)


class _Worker:
    """A spawned process that does one point after another."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=False)
        self.process.start()
        theirs.close()
        self.point: tuple[str, ...] | None = None

    def give(self, point: tuple[str, ...]) -> None:
        self.point = point
        self.pipe.send(list(point))

    def stop(self) -> None:
        self.pipe.close()  # an idle worker ends at the end of its input
        if self.point is not None:
            self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, work: Work) -> None:
    tell_at_exit(sources=False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    while True:
        try:
            point = pipe.recv()
        except EOFError:
            return
        pipe.send(_one(work, tuple(point)))


def _processes(points: Sequence[tuple[str, ...]], work: Work, jobs: int) -> Results:
    waiting = list(points)[::-1]
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.point for worker in workers):
            while waiting and len(workers) < jobs:
                workers.append(_Worker(work))
                workers[-1].give(waiting.pop())
            ready = wait([worker.pipe for worker in workers if worker.point])
            for worker in [w for w in workers if w.pipe in ready]:
                point = worker.point
                assert point is not None
                try:
                    status, result = worker.pipe.recv()
                    worker.point = None
                    if waiting:
                        worker.give(waiting.pop())
                except (EOFError, OSError):
                    worker.process.join()
                    worker.point = None
                    workers.remove(worker)
                    status, result = (
                        "failed",
                        {"error": f"worker died with exit code {worker.process.exitcode}"},
                    )
                yield point, status, result
    finally:
        for worker in workers:
            worker.stop()
