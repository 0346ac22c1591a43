"""What each verb of `twin` does: read its words, call the module that does the work, show the result."""

from __future__ import annotations

import argparse
import difflib
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from experiments.compose import UsageError
from experiments.folders import all_runs, check_place, find_run, project_root, show_path
from experiments.present import plain as plain_run
from experiments.present import show, summary
from experiments.progress import say
from experiments.results import number
from experiments.run_verbs import run, sweep
from experiments.whole import whole

FIGURES = (".svg", ".png", ".pdf")
SUBJECTS = {
    "calibrate": {
        "inference": "prices by engine and regime, from published token rates and profiles",
        "verification": "tolerances of checks on workers, from honest runs of seeded models",
        "executor": "measure this machine's torch or JAX executor, as a profile for the twin",
        "battery": "a cell's circuit from pulses and a slow discharge",
        "thermal": "a phone's heat network from logged runs",
        "power": "core currents or radio power from tables",
        "links": "rates, delays, jitter and outages by technology, from measured sets",
        "failures": "lifetimes, downtimes and bursts from failure logs",
    },
    "validate": {
        "battery": "a calibrated cell on a profile of steps, beside a measurement if there is one",
        "thermal": "a phone's battery zone, predicted from its loads",
        "physics": "every law beside its reference, as the table of docs/physics.md",
        "inference": "the cost model on published rows that it was not fitted to",
    },
}
"""What `calibrate` fits and `validate` tests: a module each in experiments.calibration and experiments.validation."""


class _Parser(argparse.ArgumentParser):
    """argparse that complains in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.removeprefix('twin ')}: {message}")


def run_verb(verb: str, words: list[str]) -> int:
    """Run one verb and return its exit code."""
    return _VERBS[verb](words)


def parser(verb: str) -> argparse.ArgumentParser:
    """Return the parser of a verb that takes options instead of overrides."""
    made = _Parser(prog=f"twin {verb}", add_help=False)
    if verb == "compare":
        made.add_argument("a", metavar="A", help="a Run, a folder that holds repeats, or the start of their names")
        text = "the same; differences are B - A. Without it the twin predicts what A, of world=local, measured"
        made.add_argument("b", metavar="B", nargs="?", default="", help=text)
        made.add_argument(
            "--profile", default="", metavar="FILE", help="without B: predict at this profile, not at A's own"
        )
        made.add_argument(
            "--out", type=Path, metavar="FILE", help="write the figure of A and B here (.svg, .png or .pdf)"
        )
    elif verb in ("replay", "promote", "show"):
        made.add_argument("run", metavar="RUN", help="a Run's folder, or the start of its name")
        if verb == "replay":
            made.add_argument("--any-version", action="store_true", help="try the line of a hunt by other sources")
        if verb == "promote":
            made.add_argument("--against", default="", metavar="RUN", help="compare with this Run, not the candidate's")
    elif verb in SUBJECTS:
        made.add_argument("what", choices=SUBJECTS[verb], help=f"its own words: twin {verb} WHAT --help")
    elif verb == "committee":
        made.add_argument("--fleet", type=int, default=500, metavar="N", help="devices that may sit (default 500)")
        made.add_argument("--faulty", default="0.05,0.1,0.2", metavar="SHARES", help="shares of them, with commas")
        text = "tickets of a faulty device for each of an honest one: 1 is trust that tells nothing (default)"
        made.add_argument("--odds", default="1", metavar="A/B", help=text)
        made.add_argument("--check", type=int, default=0, metavar="EPOCHS", help="draw so many committees of each size")
        made.add_argument("--seed", type=int, default=1, help="of these draws")
    elif verb == "requests":
        made.add_argument("file", type=Path, metavar="FILE", help="requests: .jsonl or .csv, .gz or not")
        made.add_argument(
            "--kernels", type=Path, metavar="PREFIX", help="measured tables: PREFIX_dense.csv.gz and so on"
        )
        made.add_argument("--layers", type=int, help="layers of the model that the tables are of")
        made.add_argument("--device", metavar="NAME", help="without tables: a device of the library")
        made.add_argument("--model", metavar="NAME", help="without tables: a model, as llama-3.1-8b")
        made.add_argument(
            "--overhead-us", type=float, default=0.0, help="of an iteration beside its kernels (default 0)"
        )
        made.add_argument("--kv-tokens", type=int, required=True, help="tokens that the cache holds")
        made.add_argument("--tokens-max", type=int, default=2048, help="tokens of one iteration (default 2048)")
        made.add_argument("--requests-max", type=int, default=256, help="requests that run at a time (default 256)")
        made.add_argument("--no-sharing", action="store_true", help="equal beginnings share no blocks")
        text = "iterations: one by one (default); leaps: the same in fewer events; fluid: nearly the same in the fewest"
        made.add_argument("--fidelity", choices=("iterations", "leaps", "fluid"), default="iterations", help=text)
        made.add_argument("--out", type=Path, metavar="FILE", help="a prediction per request, as JSON lines")
    elif verb == "predict":
        text = "published rows, columns as in the calibration files (.csv or .csv.gz)"
        made.add_argument("file", type=Path, metavar="FILE.csv", help=text)
        made.add_argument("--out", type=Path, metavar="FILE.csv", help="the rows with predicted, error and regime")
    elif verb == "checkpoint":
        from experiments.checkpoint import add_arguments

        add_arguments(made)
    elif verb == "shard":
        made.add_argument("testbed", metavar="TESTBED", type=Path, nargs="+", help="edgeshard.json, helix_*.json.gz")
        made.add_argument("--planner", action="append", metavar="NAME", help="only this one; may be repeated")
        made.add_argument("--model", default="", help="7b, 13b, 30b or 70b; otherwise all that the file has")
        made.add_argument("--budget", type=int, default=0, metavar="N", help="iterations (default: by testbed)")
        made.add_argument("--goodput", action="store_true", help="serve requests over the plans, in virtual time")
        made.add_argument(
            "--load",
            type=float,
            default=0.75,
            help="of what the best serves, where requests come by time (default 0.75)",
        )
        made.add_argument(
            "--seconds", type=float, default=600.0, metavar="S", help="of each run of --goodput (default 600)"
        )
        made.add_argument("--out", metavar="FILE", help="write the tables as a page (.md)")
    elif verb == "serve":
        importlib.import_module("experiments.serve").add_arguments(made)
    elif verb == "gap":
        importlib.import_module("experiments.gap.verb").add_arguments(made)
    elif verb == "bench":
        names = ", ".join(importlib.import_module("experiments.bench").NAMES)
        made.add_argument("names", nargs="*", metavar="NAME", help=f"of {names}; all without a name, quick ones first")
    elif verb == "ls":
        made.add_argument("scenario", nargs="?", default="", help="only Runs of this scenario")
    return _common(made)


def _common(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    made.add_argument("--json", action="store_true", help="the result as JSON")
    made.add_argument("-q", "--quiet", action="store_true", help="no progress")
    return made


def subject_parser(verb: str, subject: str) -> argparse.ArgumentParser:
    """Return the parser of one subject of `calibrate` or `validate`."""
    made = _Parser(prog=f"twin {verb} {subject}", add_help=False)
    _subject(verb, subject).add_arguments(made)
    return _common(made)


def _subject(verb: str, subject: str) -> Any:
    folder = {"calibrate": "calibration", "validate": "validation"}[verb]
    return importlib.import_module(f"experiments.{folder}.{subject}")


def _compare(words: list[str]) -> int:
    from experiments.comparison import compare

    options = parser("compare").parse_args(words)
    if options.out and (options.out.suffix not in FIGURES or not options.out.absolute().parent.is_dir()):
        raise UsageError(f"--out {options.out}: allowed: {', '.join(FIGURES)}, in a folder that exists")
    if options.out and not options.b:
        raise UsageError(f"--out {options.out}: the figure is of two sides; name B, or see `twin gap --page`")
    if options.profile and options.b:
        raise UsageError(f"--profile {options.profile}: is for the twin's prediction of one Run; leave B away")
    if not options.b:
        from experiments.gap.table import gap_of

        gap = gap_of(options.a, options.profile)
        show(gap.plain(), gap.text(), options.json)
        return 0
    found = compare(options.a, options.b)
    if options.out:
        figure = found.plot().get_figure(root=True)
        assert figure is not None
        with whole(options.out) as part:
            figure.savefig(part, dpi=150)
        if not options.quiet:
            say(f"figure: {show_path(options.out)}")
    show(found.plain(), found.text(), options.json)
    return 0


def _replay(words: list[str]) -> int:
    from experiments.hunt.show import is_trial, replay_trial
    from experiments.replay import replay
    from experiments.results import Run

    options = parser("replay").parse_args(words)
    if is_trial(options.run):
        try:
            return replay_trial(options.run, as_json=options.json, any_version=options.any_version)
        except UnicodeDecodeError as error:
            raise UsageError(f"replay: {options.run}: not YAML in UTF-8: {error}") from None
    found = replay(Run(folder=find_run(options.run)).journals)
    lines = [f"{node:20} {steps:>10,} steps equal" for node, steps in found.steps.items()]
    lines += [f"policies changed since: {', '.join(found.changed)}"] if found.changed else []
    lines += [f"diverges: {divergence}" for divergence in found.divergences]
    lines.append("replay: every step equal" if found.passed else "replay: the effects are not those of the journals")
    plain = {"passed": found.passed, "steps": found.steps, "changed": list(found.changed),
             "divergences": [vars(d) for d in found.divergences]}  # fmt: skip
    show(plain, "\n".join(lines), options.json)
    return 0 if found.passed else 1


def _hunt(words: list[str]) -> int:
    from experiments.hunt.verb import hunt

    for word in words:
        key, _, value = word.partition("=")
        if key in ("seeds", "jobs", "failures") and not value.isascii():
            raise UsageError(f"hunt: {word}: allowed: whole numbers")
        if key == "out" and value:
            _check_hunt_folder(Path(value).absolute(), word, defects="defects" in words)
    return hunt(words)


def _check_hunt_folder(place: Path, word: str, *, defects: bool) -> None:
    """Refuse, before hours of hunting, a place that cannot be written or that holds something else than a hunt."""
    if defects:  # a page
        if place.is_dir() or not place.parent.is_dir():
            raise UsageError(f"hunt: {word}: allowed: a file in a folder that exists")
        return
    check_place(place, f"hunt: {word}")
    if place.is_dir() and any(place.iterdir()) and not (place / "points.jsonl").is_file():
        raise UsageError(f"hunt: {word}: holds something other than a hunt; choose another folder")


def _promote(words: list[str]) -> int:
    from experiments.promote import promote
    from experiments.results import Run

    options = parser("promote").parse_args(words)
    found = promote(Run(folder=find_run(options.run)), options.against)
    lines = [f"{gate['name']:8} green: {gate['detail']}" for gate in found["gates"]]
    lines.append(f"{found['alias']} is version {found['version']}: policies {found['digest'][:16]}")
    show(found, "\n".join(lines), options.json)
    return 0


def _on_subject(verb: str, words: list[str]) -> int:
    """`calibrate` and `validate`: the first word says what, the rest belongs to its module."""
    given = next((word for word in words if not word.startswith("-")), "")
    if given not in SUBJECTS[verb]:
        near = difflib.get_close_matches(given, SUBJECTS[verb], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"{verb} {given}".strip() + f": {hint}allowed: {', '.join(SUBJECTS[verb])}")
    rest = [word for i, word in enumerate(words) if i != words.index(given)]
    options = subject_parser(verb, given).parse_args(rest)
    found = _subject(verb, given).run(options)
    show(found.plain, found.text, options.json)
    return 3 if found.failed else 0


def _show(words: list[str]) -> int:
    from experiments.report import write_report
    from experiments.results import Run

    options = parser("show").parse_args(words)
    found = Run(folder=find_run(options.run))
    assert found.folder is not None
    if not (found.folder / "report.html").exists():
        write_report(found, found.folder / "report.html")
    show(plain_run(found), summary(found), options.json)
    return 0


def _ls(words: list[str]) -> int:
    from experiments.results import Run

    options = parser("ls").parse_args(words)
    there = []
    for folder in all_runs():
        try:
            there.append(Run(folder=folder))
        except UsageError as error:  # one that is damaged hides no other
            say(f"left out: {error}")
    runs = [run for run in there if options.scenario in ("", run.name)]
    plain = [
        {
            "folder": str(r.folder),
            "scenario": r.name,
            "seed": r.seed,
            "world": r.world,
            "digest": r.digest,
            "requests_answered": r.summary.get("requests_answered"),
            "lent_device_h": r.summary.get("lent_device_h"),
        }
        for r in runs
    ]
    lines = [
        f"{show_path(Path(str(p['folder']))):45} {p['world']:6} seed {p['seed']:<6} {_what(p)}  {str(p['digest'])[:10]}"
        for p in plain
    ]
    others = ", ".join(sorted({run.name for run in there}))
    nothing = (
        f"no runs of {options.scenario}; there are some of {others}" if others else "no runs yet; `twin run` makes one"
    )
    show(plain, "\n".join(lines) or nothing, options.json)
    return 0


def _what(row: dict[str, Any]) -> str:
    if row["lent_device_h"] is not None:
        return f"{number(row['lent_device_h']):>8} h lent  "
    return f"{number(row['requests_answered']):>8} answered"


def _info(words: list[str]) -> int:
    from experiments.compose import groups
    from scenarios.digests import versions
    from scenarios.extras import why_absent

    options = parser("info").parse_args(words)
    absent = {name: why_absent(name) for name in ("torch", "jax", "mlflow", "cryptography")}
    present = {name: not why for name, why in absent.items()}
    plain = {"home": str(project_root()), "versions": versions(), "present": present, "groups": groups()}
    lines = [f"home      {project_root()}"]
    lines.append("versions  " + ", ".join(f"{name} {text}" for name, text in versions().items()))
    lines.append("missing   " + ("; ".join(filter(None, absent.values())) or "nothing"))
    lines += [f"  {group}={'|'.join(names)}" for group, names in groups().items()]
    show(plain, "\n".join(lines), options.json)
    return 0


def _shard(words: list[str]) -> int:
    from experiments.shard.verb import main

    return main(parser("shard").parse_args(words))


def _committee(words: list[str]) -> int:
    from experiments.committee import main
    from policies.committee import CommitteeError

    try:
        return main(parser("committee").parse_args(words))
    except CommitteeError as error:
        raise UsageError(str(error)) from None


def _requests(words: list[str]) -> int:
    options = parser("requests").parse_args(words)
    from experiments.requests import main

    return main(options)


def _predict(words: list[str]) -> int:
    from experiments import predict

    options = parser("predict").parse_args(words)
    found, text = predict.run(options)
    show(found, text, options.json)
    return 0


def _checkpoint(words: list[str]) -> int:
    from experiments.checkpoint import write

    return write(parser("checkpoint").parse_args(words))


def _serve(words: list[str]) -> int:
    from experiments.serve import run as serve

    return serve(parser("serve").parse_args(words))


def _gap(words: list[str]) -> int:
    from experiments.gap.verb import main

    return main(parser("gap").parse_args(words))


def _test(words: list[str]) -> int:
    from experiments.selftest import test

    return test(words)


def _bench(words: list[str]) -> int:
    options = parser("bench").parse_args(words)
    from experiments.bench import main

    try:
        return main(options.names, as_json=options.json)
    except ValueError as error:
        raise UsageError(str(error)) from None


_VERBS: dict[str, Callable[[list[str]], int]] = {
    "run": run, "sweep": sweep, "compare": _compare, "replay": _replay, "promote": _promote,
    "calibrate": partial(_on_subject, "calibrate"), "validate": partial(_on_subject, "validate"),
    "show": _show, "ls": _ls, "info": _info, "committee": _committee, "test": _test, "bench": _bench, "hunt": _hunt,
    "predict": _predict, "requests": _requests, "checkpoint": _checkpoint, "shard": _shard, "serve": _serve,
    "gap": _gap,
}  # fmt: skip
