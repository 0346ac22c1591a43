"""`twin shard`: every planner on testbed files, as a table, as JSON, or as the page docs/planners.md."""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path
from time import process_time

import msgspec

from experiments.compose import UsageError
from experiments.present import show
from experiments.progress import progress
from experiments.shard import goodput, goodput_page
from experiments.shard.score import Row, planned, ratio, row
from experiments.shard.testbeds import Bed, models_of, read
from experiments.whole import check_file, write_whole
from policies.sharding import PLANNERS

PAGE = """\
# Planners on published testbeds

Made by `{command}`; every number below comes from that run. The rule and the source of each planner stand at the top
of its module in `policies/sharding/`. Baselines get their own ideal inputs: true free memory, true seconds and links.

- On the edge testbed: end-to-end seconds over the generated tokens of one request (prompt 32, generate 96), every
  token back at the source. `exact` is proven optimal there: 15 devices are 4 kinds, and all their pipelines are in its
  programme.
- On the GPU clusters: prompt and new tokens a second of the maximum flow, with and without the bound that caches set,
  and the seconds a token of one request alone on the plan's best pipeline. Absolute rates are those of our own reading
  of the stored layer times (largest batch whose cache fits), not those of the authors' simulator.

Maximum flow knows no queues: it may rank placements otherwise than a simulation does (docs/goodput.md).
"""
KEPT = "<!-- kept when this page is made again -->\n"
"""What stands below it was measured otherwise, and is left as it is."""
PLANNERS_SERVED = ("simulated", "placement", "helix", "petals", "swarm", "exo_ring", "memory_ring")
"""What --goodput serves unless told otherwise; ``simulated`` is chosen by it."""
LOAD_MAX, SECONDS_MAX = 10.0, 86_400.0
"""Of --goodput: ten times what is served is a queue that only grows; a day, as much as one sits through."""
UNITS = {
    "seconds_a_token": ("ms/token", 1e3),
    "tokens_per_s": ("tokens/s", 1.0),
    "tokens_per_s_cached": ("with caches", 1.0),
}
"""How scores are shown: title and factor."""


def main(options: argparse.Namespace) -> int:
    """Plan, score and show; return the exit code.

    Raises:
        UsageError: one line on a file, model or planner that does not exist.
    """
    _check(options)
    before = _page(options.out)
    if options.goodput:
        return _goodput(options, before)
    beds = [bed for path in options.testbed for bed in _beds(path, options.model)]
    names = options.planner or sorted(PLANNERS)
    rows: list[Row] = []
    with progress("shard", quiet=options.quiet) as report:
        for number, (bed, name) in enumerate((bed, name) for bed in beds for name in names):
            report(number / (len(beds) * len(names)), f"{bed.name} {bed.model} {name}")
            rows.append(row(bed, name, options.budget))
    if options.out:
        _, mark, kept = before.partition(KEPT)
        below = f"\n{mark}{kept}" if mark else ""
        made = PAGE.format(command=command(options, "docs/planners.md")) + _markdown(rows)
        write_whole(Path(options.out), made + below)
    plain = [vars(one) | {"ratio": ratio(rows, one)} for one in rows]
    show({"rows": plain}, _text(rows), options.json)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse an option that would break, or be left over, after minutes of planning."""
    if options.budget < 0:
        raise UsageError(f"--budget {options.budget}: allowed: from 0, where 0 is the testbed's own")
    if not 0 < options.load <= LOAD_MAX:
        raise UsageError(f"--load {options.load:g}: allowed: above 0, to {LOAD_MAX:g}")
    if not 1 <= options.seconds <= SECONDS_MAX:
        raise UsageError(f"--seconds {options.seconds:g}: allowed: 1 to {SECONDS_MAX:g}")
    check_file("--out", Path(options.out) if options.out else None)


def _page(out: str | None) -> str:
    """Return what stands in a page that is made again; nothing where there is none yet."""
    try:
        return Path(out).read_text(encoding="utf-8") if out and Path(out).is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--out {out}: not a page in UTF-8: {error}") from None


def _goodput(options: argparse.Namespace, before: str) -> int:
    """Serve requests over each plan, and show; the plan that simulation chooses is one of them."""
    shown: list[goodput.Shown] = []
    cpu_s: dict[tuple[str, str], float] = {}
    names = options.planner or PLANNERS_SERVED
    with progress("shard", quiet=options.quiet) as report:
        for path in options.testbed:
            traces = path.parent.parent / "traces"
            for bed in _beds(path, options.model):
                if not bed.layers:
                    raise UsageError(f"--goodput: {bed.name} says nothing of batches; allowed: helix_*.json.gz")
                plans = {}
                for name in names:
                    report(0.0, f"{bed.name} {bed.model} {name}")
                    budget = options.budget or len(bed.problem.workers)
                    begun_s = process_time()
                    if name == "simulated":
                        plans[name] = goodput.chosen(bed, budget, goodput.lengths(traces))
                        cpu_s[bed.name, bed.model] = process_time() - begun_s
                    else:
                        plans[name] = planned(bed, name, options.budget)
                report(0.5, f"{bed.name} {bed.model}")
                shown += goodput.compare(bed, plans, traces, options.load, options.seconds)
    if options.out:
        words = f"runs of {options.seconds:g} virtual seconds, by time at {options.load:g} times the best"
        made = f"`{command(options, 'docs/goodput.md')}`: {words}"
        write_whole(Path(options.out), goodput_page.page(before, shown, made, cpu_s))
    show({"rows": [msgspec.to_builtins(one) for one in shown]}, goodput_page.text(shown), options.json)
    return 0


def command(options: argparse.Namespace, out: str) -> str:
    """Return the command that makes a page again, with all that decides what stands there."""
    words = ["twin shard", *(path.name for path in options.testbed)]
    words += [f"--model {options.model}"] if options.model else []
    words += [f"--planner {name}" for name in options.planner or ()]
    words += [f"--budget {options.budget}"] if options.budget else []
    if options.goodput:
        words += ["--goodput", f"--load {options.load:g}", f"--seconds {options.seconds:g}"]
    return " ".join([*words, f"--out {out}"])


def _beds(path: Path, model: str) -> list[Bed]:
    return [read(path, name) for name in ([model] if model else models_of(path))]


def _tables(rows: list[Row]) -> list[tuple[str, list[list[str]]]]:
    """Return (title, rows of words, the head first), best plans first, those that found none last."""
    tables = []
    for (bed, model), group in groupby(rows, key=lambda one: (one.testbed, one.model)):
        own = list(group)
        scores = next((list(one.scores) for one in own if one.scores), [])
        head = ["planner", *(UNITS[name][0] for name in scores), "times the best", "pipelines", "stages"]
        body = []
        for one in sorted(own, key=lambda one: (not one.scores, ratio(own, one) or 0.0, one.planner)):
            if one.scores:
                values = [f"{one.scores[name] * UNITS[name][1]:.1f}" for name in scores]
                body.append([one.planner, *values, f"{ratio(own, one):.2f}", str(one.pipelines), str(one.stages)])
            else:
                body.append([one.planner, one.infeasible])
        tables.append((f"{bed}, {model}", [head, *body]))
    return tables


def _text(rows: list[Row]) -> str:
    lines = []
    for title, table in _tables(rows):
        wide = max(len(words[0]) for words in table)
        lines += [title, ""]
        for words in table:
            rest = words[1] if len(words) == 2 else "".join(f"{word:>16}" for word in words[1:])
            lines.append(f"{words[0]:{wide}}  {rest}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _markdown(rows: list[Row]) -> str:
    lines = []
    for title, (head, *body) in _tables(rows):
        lines += ["", f"## {title}", "", f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
        lines += [f"| {' | '.join(words)} |" for words in body if len(words) == len(head)]
        none = [words for words in body if len(words) != len(head)]
        lines += ["", "No plan:", "", *(f"- {name}: {why}." for name, why in none)] if none else []
    return "\n".join(lines) + "\n"
