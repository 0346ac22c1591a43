"""`twin hunt`: its words, its progress, what it prints and what it leaves behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import yaml

from experiments.compose import UsageError
from experiments.folders import project_root, show_path
from experiments.hunt import campaign as c
from experiments.hunt.arena import CORRECT
from experiments.hunt.arenas import NAMES, arena
from experiments.hunt.defects import SEEDS, Row, all_defects, measure, page, table
from experiments.hunt.line import version, write_line
from experiments.hunt.shrink import RUNS_MAX, Shrinker, Shrunk
from experiments.hunt.swarm import draw
from experiments.present import show
from experiments.progress import progress, say
from experiments.whole import write_whole
from scenarios.trial import Trial, build_trial, plain

JOBS_MAX = 256
SEEDS_MAX = 10_000_000
EVENTS_MAX = 20
"""Fault events that a shrunk case may have."""
SHOWN = 3
"""Distinct broken checks that are shrunk and printed; the others are counted."""
KEYS = ("policy", "seeds", "jobs", "failures", "kinds", "nodes", "requests", "storm_s", "calm_s", "double", "out")


def hunt(words: list[str]) -> int:
    """Hunt; return the exit code."""
    as_json, quiet = "--json" in words, "-q" in words or "--quiet" in words
    rest = [word for word in words if word not in ("--json", "-q", "--quiet")]
    if not rest:
        show(_arenas(), _arenas_text(), as_json)
        return 0
    if rest[0] == "defects":
        return _defects(rest[1:], as_json=as_json, quiet=quiet)
    plan, jobs, folder = parse(rest)
    if not quiet:
        say(f"hunting in {plan.shape.arena}, policy {plan.shape.policy}, {len(plan.seeds)} seeds, {show_path(folder)}")
    with progress("hunt", quiet=quiet) as report:
        done = c.run(plan, folder, jobs=jobs, progress=report)
    with progress("shrink", quiet=quiet) as report:
        shrunk = [_shrink(plan, found, report) for found in _distinct(done.found)[:SHOWN]]
    files = [_write(one, folder) for one in shrunk]
    lines = [write_line(one.trial) for one in shrunk]
    bad = verdict(plan, done)
    plain_result = {
        "arena": plan.shape.arena, "policy": plan.shape.policy, "version": version(), "folder": str(folder),
        "seeds": done.seeds, "seeds_per_core_s": done.seeds / done.cpu_s if done.cpu_s else None,
        "steps": done.steps, "simulated_h": done.simulated_s / 3600, "checks_share": done.checks_share,
        "found": [vars(one) for one in done.found], "sometimes": dict(done.sometimes), "kinds": dict(done.kinds),
        "canary_seed": done.canary_seed, "doubled": done.doubled, "mismatches": done.mismatches,
        "guarded": done.guarded, "impure": [vars(one) for one in done.impure], "bad": bad,
        "shrunk": [
            {"trial": plain(one.trial), "check": one.outcome.check, "why": one.outcome.why, "runs": one.runs,
             "file": str(file), "line": line}
            for one, file, line in zip(shrunk, files, lines, strict=True)
        ],
    }  # fmt: skip
    write_whole(folder / "summary.json", json.dumps(plain_result, indent=2) + "\n")
    show(plain_result, text(plan, done, shrunk, files, lines, bad), as_json)
    return 3 if bad else 0


def _defects(words: list[str], *, as_json: bool, quiet: bool) -> int:
    """Hunt every known defect, or one arena's, and show the table; 3 if one was not found often enough."""
    given = dict(word.partition("=")[::2] for word in words)
    unknown = [key for key in given if key not in ("arena", "jobs", "out")]
    if unknown:
        raise UsageError(f"hunt defects: {unknown[0]!r}: no such word; allowed: arena=, jobs=, out=")
    points = all_defects(arena(given["arena"]).name if "arena" in given else "")
    jobs = _whole("jobs", given.get("jobs", "1"), 1, JOBS_MAX)
    rows: list[Row] = []
    with progress("defects", quiet=quiet) as report, ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for row in pool.map(measure, points):
            rows.append(row)
            report(len(rows) / len(points), f"{row.defect}: {row.hits} of {row.seeds} seeds")
    if given.get("out"):
        write_whole(Path(given["out"]), page(rows))
    missed = [row.defect for row in rows if row.median > SEEDS or row.events > EVENTS_MAX]
    said = f"above {SEEDS} seeds or {EVENTS_MAX} events: {', '.join(missed)}" if missed else "every defect was found"
    show({"rows": [vars(row) for row in rows], "missed": missed}, f"{table(rows)}\n\n{said}", as_json)
    return 3 if missed else 0


def parse(words: list[str]) -> tuple[c.Plan, int, Path]:
    """Turn words into a plan, the number of processes, and the folder.

    Raises:
        UsageError, scenarios.schema.ScenarioError: one line for the user.
    """
    name, given = words[0], {}
    if "=" in name:
        raise UsageError(f"hunt: {name!r}: the first word is the arena; allowed: {', '.join(NAMES)}")
    place = arena(name)
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals or key not in KEYS:
            raise UsageError(f"hunt: {word!r}: no such word; allowed: {', '.join(f'{key}=' for key in KEYS)}")
        given[key] = value
    shape = {**plain(place.shape), "policy": given.get("policy", CORRECT)}
    shape |= {key: _number(key, given[key]) for key in ("nodes", "requests", "storm_s", "calm_s") if key in given}
    trial = build_trial(shape)
    place.check(trial)
    kinds = tuple(name for name in given.get("kinds", "").split(",") if name)
    c.kinds_of(kinds, place.kinds)
    seeds = _seeds(given.get("seeds", "1000"))
    failures = _whole("failures", given.get("failures", "1"), 1, SEEDS_MAX)
    double = _number("double", given.get("double", str(c.DOUBLE_SHARE)))
    if not 0 <= double <= 1:
        raise UsageError(f"hunt: double={given['double']}: allowed: shares from 0 to 1")
    plan = c.Plan(trial, seeds, kinds, failures, double)
    what = json.dumps([plain(trial), [seeds.start, seeds.stop], kinds, failures, double, version()])
    key = hashlib.sha256(what.encode()).hexdigest()[:8]
    usual = project_root() / "runs" / "hunts" / f"{name}-{trial.policy}-{key}"
    folder = Path(given["out"]).absolute() if given.get("out") else usual
    return plan, _whole("jobs", given.get("jobs", "1"), 1, JOBS_MAX), folder


def _number(key: str, text: str) -> float | int:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        raise UsageError(f"hunt: {key}={text}: expected a number") from None


def _whole(key: str, text: str, low: int, high: int) -> int:
    if not (text.isdigit() and low <= int(text) <= high):
        raise UsageError(f"hunt: {key}={text}: allowed: whole numbers from {low} to {high}")
    return int(text)


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    if not dots:
        first, last = "1", first
    low, high = _whole("seeds", first, 0, SEEDS_MAX), _whole("seeds", last, 0, SEEDS_MAX)
    if low > high:
        raise UsageError(f"hunt: seeds={text}: expected the first seed before the last")
    return range(low, high + 1)


def _distinct(found: list[c.Found]) -> list[c.Found]:
    """Return the first seed of each broken check."""
    firsts: dict[str, c.Found] = {}
    for one in found:
        firsts.setdefault(one.check, one)
    return list(firsts.values())


def _shrink(plan: c.Plan, found: c.Found, report: Any) -> Shrunk:
    place = arena(plan.shape.arena)
    trial = draw(place, plan.shape, found.seed, c.kinds_of(plan.kinds, place.kinds))
    return Shrinker(
        place, trial, found.check,
        progress=lambda runs, faults: report(runs / RUNS_MAX, f"seed {found.seed}: {faults} faults left"),
    ).shrink()  # fmt: skip


def _write(one: Shrunk, folder: Path) -> Path:
    """Write a shrunk trial as a scenario file."""
    file = folder / f"{one.outcome.check}-{one.trial.seed}.yaml"
    head = f"# {one.outcome.check}: {one.outcome.why}\n# Again: twin replay {show_path(file)}\n"
    body = yaml.safe_dump(plain(one.trial), sort_keys=False, default_flow_style=None, width=100)
    write_whole(file, head + body)
    return file


def verdict(plan: c.Plan, done: c.Campaign) -> list[str]:
    """Return what is wrong with what a campaign came to, a line each."""
    bad = [f"{len(done.found)} seeds broke a promise"] if done.found else []
    bad += [f"seed {one.seed}: no pure function of its inputs: {one.why}" for one in done.impure]
    bad += [f"seed {seed}: another digest in another process" for seed in done.mismatches]
    if done.canary_seed is None:
        bad.append(f"the canary was not found in {c.CANARY_SEEDS} seeds: this hunt is blind")
    if done.seeds >= c.ENOUGH_SEEDS and not done.found and not done.impure:
        bad += [f"never happened in {done.seeds} seeds: {name}" for name in done.never()]
    return bad


def text(
    plan: c.Plan, done: c.Campaign, shrunk: list[Shrunk], files: list[Path], lines: list[str], bad: list[str]
) -> str:
    """Return the result for people, at most 100 columns but for the lines that replay."""
    rate = done.seeds / done.cpu_s if done.cpu_s else 0.0
    out = [
        f"{plan.shape.arena} · {plan.shape.policy} · {done.seeds} seeds · {done.simulated_s / 3600:.1f} h simulated · "
        f"{rate:.0f} seeds/s a core · checks {done.checks_share:.0%}",
        f"canary found at seed {done.canary_seed} · {done.doubled} seeds run twice, {len(done.mismatches)} differ · "
        f"{done.guarded} guarded, {len(done.impure)} impure",
        f"rare things: {_counts(done.sometimes)}",
        f"faults: {_counts(done.kinds)}",
    ]
    for one, file, line in zip(shrunk, files, lines, strict=True):
        out += ["", f"BROKEN {one.outcome.check}", f"  {one.outcome.why}"]
        out.append(f"  shrunk in {one.runs} runs to {_size(one.trial)}: {show_path(file)}")
        out += [f"    {_fault_line(fault)}" for fault in one.trial.faults]
        out += ["  again:", f"twin replay {line}"]
    out += [""] if shrunk else []
    out += [f"FAILED {why}" for why in bad] or ["nothing broke"]
    return "\n".join(out)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _size(trial: Trial) -> str:
    return f"{len(trial.faults)} fault events, {trial.nodes} nodes, {trial.requests} requests, {trial.end_s:g} s"


def _fault_line(fault: Any) -> str:
    named = msgspec.to_builtins(fault)
    kind = named.pop("kind")
    at_s = named.pop("at_s", None)
    when = f"{at_s:8.3f} s" if at_s is not None else " all long"
    return f"{when}  {kind} " + " ".join(f"{key}={value}" for key, value in named.items() if value not in ([], False))


def _arenas() -> dict[str, Any]:
    return {
        name: {"what": arena(name).what, "defects": dict(arena(name).defects), "expects": dict(arena(name).expects)}
        for name in NAMES
    }


def _arenas_text() -> str:
    lines = []
    for name in NAMES:
        place = arena(name)
        lines.append(f"{name:10} {place.what}")
        lines += [f"{'':10} policy={defect:22} {what}"[:118] for defect, what in place.defects.items()]
    return "\n".join([*lines, "", "twin hunt ARENA policy=DEFECT finds it; twin hunt --help says more."])
