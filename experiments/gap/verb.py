"""`twin gap`: measure the gap between the two worlds on this machine, or go on where it was stopped."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("words", nargs="*", metavar="WORD", help="further words of every run, as workload.requests=60")
    text = "paced: workers only hold their time (default); model: they compute"
    parser.add_argument("--executor", choices=("paced", "model"), default="paced", help=text)
    parser.add_argument("--full", action="store_true", help="six policies on five scenarios: hours on a quiet machine")
    parser.add_argument("--scenarios", default="", metavar="A,B", help="of equal, slow, tight, far, bursts")
    parser.add_argument("--policies", default="", metavar="A,B", help="as latency_dp-4: planner and slots")
    parser.add_argument("--rounds", type=int, default=7, help="that count (default 7); void ones are repeated")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the study is kept, instead of runs/gap/NAME")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="write the page, with its figure beside it")
    parser.add_argument("--show", action="store_true", help="run nothing: show what is there")


def main(options: argparse.Namespace) -> int:
    """Run what is missing, predict, judge and show; exit code 3 if a bar was missed, or no round counts.

    Raises:
        UsageError: one line on a word that is not allowed, or a folder that holds another study.
    """
    from experiments.compose import UsageError
    from experiments.folders import project_root, show_path
    from experiments.gap.page import errors_table, order_lines, verdict_lines, write
    from experiments.gap.rounds import POLICIES, SCENARIOS, STUDY, Cell, Plan, check_plan, read_round, run_rounds
    from experiments.gap.study import analyse
    from experiments.gap.verdict import MISSED
    from experiments.present import show
    from experiments.progress import progress, say

    if options.rounds < 1:
        raise UsageError(f"--rounds {options.rounds}: allowed: from 1")
    if options.page and (options.page.suffix != ".md" or not options.page.absolute().parent.is_dir()):
        raise UsageError(f"--page {options.page}: allowed: a file .md in a folder that exists")
    scenarios = _chosen("--scenarios", options.scenarios, SCENARIOS, list(SCENARIOS) if options.full else ["equal"])
    policies = _chosen("--policies", options.policies, POLICIES, list(POLICIES) if options.full else ["latency_dp-4"])
    cells = tuple(Cell(scenario, policy) for scenario in scenarios for policy in policies)
    name = f"{options.executor}-{len(scenarios)}x{len(policies)}"
    folder = options.out or project_root() / "runs" / "gap" / name
    plan = Plan(folder.absolute(), options.executor, cells, options.rounds, 2 * options.rounds, tuple(options.words))
    if not options.show:
        check_plan(plan)
    elif not (plan.folder / STUDY).is_file():
        raise UsageError(f"--show: {show_path(plan.folder)} holds no study; without --show one is begun")
    with progress("gap", quiet=options.quiet) as report:
        if options.show:
            there = [read_round(plan, number) for number in range(plan.attempts)]
            rounds = [one for one in there if one is not None]
        else:
            rounds = run_rounds(plan, report)
        if not any(not one.void for one in rounds):
            why = ", ".join(one.void for one in rounds) or "none is finished"
            show({"folder": str(plan.folder), "void": [one.void for one in rounds]},
                 f"no round counts ({why}); {show_path(plan.folder)}", options.json)  # fmt: skip
            return 3
        found = analyse(plan, rounds, report)
    if options.page:
        write(found, options.page, _command(options))
        say(f"page: {show_path(options.page)}")
    void = [one for one in rounds if one.void]
    lines = [f"{len(found.counted)} rounds count, {len(void)} void{_why(one.void for one in void)}", ""]
    lines += [errors_table(found), verdict_lines(found), order_lines(found), show_path(plan.folder)]
    words = [verdict.word for verdict in found.verdicts.values()]
    words += [found.order.verdict.word, found.order.choice.word] if found.order else []
    plain = {
        "folder": str(plan.folder),
        "rounds": [{"number": r.number, "drift": r.drift, "foreign": r.foreign, "void": r.void} for r in rounds],
        "verdicts": {name: list(verdict) for name, verdict in found.verdicts.items()},
        "errors": {n: {"bias": e.bias, "median": e.size(0.5), "p95": e.size(0.95), "p99": e.size(0.99)}
                   for n, e in found.errors.items()},
        "h": {name: one.h for name, one in found.noise.items()},
        "order": found.order._asdict() if found.order else None,
    }  # fmt: skip
    show(plain, "\n".join(lines), options.json)
    return 3 if MISSED in words else 0


def _chosen(option: str, given: str, known: Iterable[str], default: list[str]) -> list[str]:
    from experiments.compose import UsageError

    names = given.split(",") if given else default
    if unknown := [word for word in names if word not in known]:
        raise UsageError(f"{option} {unknown[0] or given}: allowed: {', '.join(known)}")
    return list(dict.fromkeys(names))


def _command(options: argparse.Namespace) -> str:
    """Return the line that makes the study again."""
    words = ["twin", "gap", "--executor", options.executor, "--rounds", str(options.rounds)]
    words += ["--full"] if options.full else []
    for option in ("scenarios", "policies"):
        words += [f"--{option}", getattr(options, option)] if getattr(options, option) else []
    return shlex.join([*words, *options.words, "--page", "docs/gap.md"])


def _why(reasons: Iterable[str]) -> str:
    said = ", ".join(reasons)
    return f" ({said})" if said else ""
