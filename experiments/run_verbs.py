"""The verbs that run something: `run` (one, or a small grid) and `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.compose import RunOptions, UsageError, points, split
from experiments.folders import show_path
from experiments.present import plain, show, summary
from experiments.progress import progress, say
from scenarios.extras import why_absent

JOBS_MAX = 256  # far above any machine's cores: a slip of the finger


def run(words: list[str]) -> int:
    """`twin run`: one run, or with ``-m`` each point of a small grid in turn."""
    if "-m" not in words:
        return _run_one(words)
    overrides, options = split([word for word in words if word != "-m"])
    if options.out:
        raise UsageError("out: several runs cannot share one folder; leave it out with -m")
    for point in points(overrides):
        _run_one([*point, *_words_of(options)])
    return 0


def sweep(words: list[str]) -> int:
    """`twin sweep`: every point of a grid, resumable; exit code 3 if points failed."""
    from experiments.sweep import sweep as sweep_points
    from experiments.sweep import sweep_folder

    jobs, rest = _jobs(words)
    overrides, options = split([word for word in rest if word != "-m"])
    if options.out:
        raise UsageError("out: several runs cannot share one folder; leave it out of a sweep")
    shared = [word for word in _words_of(options) if word not in ("--json", "-q", f"track={options.track}")]
    grid = [[*point, *shared] for point in points(overrides)]
    folder = sweep_folder(grid)
    with progress("sweep", quiet=options.quiet) as report:
        done = sweep_points(grid, folder, jobs=jobs, progress=report)
    if options.track == "mlflow":
        _track(done, overrides)
    failed = [point for point in done if point.status == "failed"]
    rows = [{"point": list(p.words), "status": p.status, "fresh": p.fresh, **p.result} for p in done]
    lines = []
    for point in done:
        end = point.result.get("error") or show_path(Path(point.result["run"]))
        lines.append(f"{point.status:7} {' '.join(point.words)}  {end}")
    now = sum(point.fresh for point in done)
    lines.append(f"{len(done)} points, {now} run now, {len(failed)} failed; {show_path(folder)}")
    show({"folder": str(folder), "points": rows}, "\n".join(lines), options.json)
    return 3 if failed else 0


def _run_one(words: list[str]) -> int:
    from experiments.job import perform, prepare
    from experiments.results import Run

    job = prepare(words)
    if job.finished:
        finished = Run(folder=job.folder)
        if not job.options.quiet:
            say(f"finished before, nothing has changed: {show_path(job.folder)} (--fresh repeats it)")
    else:
        with progress(job.scenario.name, quiet=job.options.quiet) as report:
            finished = perform(job, report)
    show(plain(finished), summary(finished), job.options.json)
    return 0


def _words_of(options: RunOptions) -> list[str]:
    """Return the words that say these options again; ``out`` is for one run alone."""
    words = [f"track={options.track}"]
    words += [f"policy.alias={options.policy_alias}"] if options.policy_alias else []
    words += ["-p", options.policy_file] if options.policy_file else []
    flags = {
        "--fresh": options.fresh,
        "--really": options.really,
        "--json": options.json,
        "-q": options.quiet,
    }
    return words + [flag for flag, given in flags.items() if given]


def _jobs(words: list[str]) -> tuple[int, list[str]]:
    given = [word.partition("=")[2] for word in words if word.startswith("jobs=")]
    if given and not (given[-1].isdecimal() and 1 <= int(given[-1]) <= JOBS_MAX):
        raise UsageError(f"jobs={given[-1]}: allowed: 1 to {JOBS_MAX} worker processes")
    return int(given[-1]) if given else 1, [word for word in words if not word.startswith("jobs=")]


def _track(done: list[Any], overrides: list[str]) -> None:
    """Log the points that ran now as children of one parent; one process writes."""
    from experiments.job import track
    from experiments.results import Run

    fresh = [Run(folder=Path(p.result["run"])) for p in done if p.fresh and p.status == "done"]
    parent, client = "", None
    if fresh and not why_absent("mlflow"):
        from experiments.track import open_client, open_parent

        try:
            client = open_client()
            parent = open_parent(client, fresh[0].name, "sweep", overrides)
        except Exception as error:  # a tracker's failure must not cost a finished sweep
            first = (str(error) or "failed").splitlines()[0]
            say(f"mlflow: {type(error).__name__}: {first}; the Runs themselves are complete")
            return
    for finished in fresh:
        track(finished, parent=parent)
    if client:
        client.set_terminated(parent)
