"""``twin calibrate verification``: tolerances of checks, from honest runs of seeded models, and what cheats they find.

Every executor (framework and format) works in every way and is recomputed by every other. Errors are pooled over the
frameworks of a pair of formats, since another machine's build of one may round as another one does. Of the pooled
checks of each model and stage the upper 99 % confidence bound is taken on the value that 1.25e-6 of them exceed: half
of the allowed failures for each of the two errors, and a pair of executors is a quarter of its pool, so that the bound
is the pair's own even if nobody else in the pool ever fails. The tail is taken for a power law
(`models.distributions.tail`). The largest bound of all models and stages is the tolerance. A second set of runs, of
other weights and tokens, counts how many honest checks fail and cheats are found.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibration import Outcome
from experiments.compose import UsageError
from experiments.folders import show_path
from experiments.present import markdown
from experiments.whole import check_file, write_whole

CONFIDENCE, RESAMPLES = 0.99, 400
MODELS = ("tiny", "small")
KINDS = ("outputs", "cache")
PAIR_SHARE = 0.25  # of a pool of formats, at least, is one pair of executors
EQUAL = 1e-12  # stands for no difference, which no power law has


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--model", action="append", choices=MODELS, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="of weights and tokens; the next one's are held out")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="the table of tolerances")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="the same for people")


def run(options: argparse.Namespace) -> Outcome:
    """Run everything, fit, and write the table.

    Raises:
        UsageError: a file cannot be written, or the seed is negative.
    """
    from experiments.calibration.verification_runs import FITTED, HELD_OUT, measure
    from experiments.progress import say
    from scenarios.digests import versions

    for option, file in (("--out", options.out), ("--table", options.table)):
        check_file(option, file)
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: must be at least 0")
    models = tuple(options.model or MODELS)
    tell: Callable[[str], None] = (lambda text: None) if options.quiet else say
    fitted, held_out = (
        {name: measure(name, seed, sizes[name], tell) for name in models}
        for seed, sizes in ((options.seed, FITTED), (options.seed + 1, HELD_OUT))
    )
    found = {
        "made_by": f"twin calibrate verification --seed {options.seed}" + "".join(f" --model {m}" for m in models),
        "fitted": {name: FITTED[name]._asdict() for name in models},
        "held_out": {name: HELD_OUT[name]._asdict() for name in models},
        "confidence": CONFIDENCE,
        "versions": {k: v for k, v in versions().items() if k in ("python", "machine", "numpy", "torch", "jax")},
        "pairs": tolerances(fitted, options.seed),
    }
    score(found["pairs"], held_out)
    write_whole(options.out, json.dumps(found, indent=1, sort_keys=True) + "\n")
    text = table(found["pairs"])
    if options.table:
        write_whole(options.table, text + "\n")
    return Outcome(found, f"{text}\n{show_path(options.out)}")


def formats(worker: str, verifier: str) -> str:
    """Return the pair of formats of two executors, in alphabetical order."""
    return " | ".join(sorted((worker.split()[1], verifier.split()[1])))


def tolerances(measured: dict[str, Any], seed: int) -> dict[str, dict[str, Any]]:
    """Return the tolerance of every pair of executors, with what it rests on."""
    from models.distributions.tail import tail_bound
    from models.inference.tolerances import FALSE_ACCUSATIONS, pair_of

    pools: dict[tuple[str, str, str], list[Any]] = defaultdict(list)  # formats, model, stage
    pairs: dict[str, dict[str, Any]] = {}
    for model, found in measured.items():
        for (worker, verifier), stages in found.honest.items():
            row = pairs.setdefault(pair_of(worker, verifier), {"checks": 0, "worst_outputs": 0.0, "worst_cache": 0.0})
            for stage, ways in stages.items():
                pools[formats(worker, verifier), model, stage] += ways
                row["checks"] += sum(way.outputs.size for way in ways)
                for kind in KINDS:
                    worst = max(float(getattr(way, kind).max()) for way in ways)
                    row[f"worst_{kind}"] = max(row[f"worst_{kind}"], worst)
    bounds: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(KINDS, 0.0))
    for (key, _, _), ways in sorted(pools.items()):
        for kind in KINDS:
            groups = _by_session([np.maximum(getattr(way, kind), EQUAL) for way in ways])
            exceeded = FALSE_ACCUSATIONS / len(KINDS) * PAIR_SHARE
            bound = tail_bound(groups, exceeded, confidence=CONFIDENCE, resamples=RESAMPLES, seed=seed)
            bounds[key][kind] = max(bounds[key][kind], bound)
    for pair, row in pairs.items():
        row.update(bounds[formats(*pair.split(" | "))])
    return pairs


def _by_session(ways: list[Any]) -> list[Any]:
    """Gather what belongs to the same tokens: the ways are not independent of one another there."""
    return [
        np.concatenate([way[session].ravel() for way in ways if session < len(way)])
        for session in range(max(map(len, ways)))
    ]


def score(pairs: dict[str, dict[str, Any]], measured: dict[str, Any]) -> None:
    """Add to each pair what the tolerances do on other runs: honest checks that fail, cheats that are found."""
    from models.inference.tolerances import pair_of

    for row in pairs.values():
        row.update(held_out_checks=0, held_out_failed=0, found={})
    for found in measured.values():
        for (worker, verifier), stages in found.honest.items():
            row = pairs[pair_of(worker, verifier)]
            failed, checks = _caught(row, (way for ways in stages.values() for way in ways))
            row["held_out_checks"] += checks
            row["held_out_failed"] += failed
    for found in measured.values():
        for (worker, verifier), cheating in found.cheating.items():
            row = pairs[pair_of(worker, verifier)]
            for cheat, stages in cheating.items():
                caught, checks = _caught(row, stages)
                share = caught / checks
                # The worst of the models and of the two directions stands.
                row["found"][cheat] = min(row["found"].get(cheat, 1.0), share)


def _caught(row: dict[str, Any], stages: Iterable[Any]) -> tuple[int, int]:
    caught = checks = 0
    for outputs, cache in stages:
        seen = (outputs[:, :, None] > row["outputs"]) | (cache > row["cache"])
        caught, checks = caught + int(seen.sum()), checks + seen.size
    return caught, checks


def table(pairs: dict[str, dict[str, Any]]) -> str:
    """Return what was found by pair of formats, as the table of docs/verification.md."""
    from experiments.calibration.verification_runs import CHEATS

    merged: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pair, row in pairs.items():
        merged[formats(*pair.split(" | "))].append(row)
    head = [
        "formats",
        "checks",
        "worst honest",
        "tolerance",
        "cache: worst",
        "tolerance",
        "held out: checks",
        "failed",
        *CHEATS,
    ]
    lines = []
    for key, rows in sorted(merged.items()):
        total = [sum(row[name] for row in rows) for name in ("checks", "held_out_checks", "held_out_failed")]
        worst = [max(row[name] for row in rows) for name in ("worst_outputs", "worst_cache")]
        shares = [min(row["found"][cheat] for row in rows) for cheat in CHEATS]
        names = key.replace(" | ", ", ")
        lines.append([
            names, f"{total[0]:,}", f"{worst[0]:.1e}", f"{rows[0]['outputs']:.1e}", f"{worst[1]:.1e}",
            f"{rows[0]['cache']:.1e}", f"{total[1]:,}", str(total[2]), *(f"{share:.2%}" for share in shares),
        ])  # fmt: skip
    return markdown(head, lines).rstrip("\n")
