"""The command `twin`: verbs, help, and what each failure says and returns. Nothing heavy is imported here.

stdout is the result, stderr the progress. Exit codes: 0 done, 1 our fault, 2 the user's input, 3 finished
with failed points, 4 a gate refused, 130 interrupted with what was finished saved.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from experiments.opened import tell_at_exit

VERBS: dict[str, tuple[str, str]] = {
    "run": ("run a scenario, write its Run and report", "twin run scenario=four_desks world=local seed=7"),
    "sweep": (
        "run a grid of points, resumable",
        "twin sweep seed=1..8 policy/harvest=documented,generous jobs=2",
    ),
    "compare": (
        "compare Runs in pairs, with intervals; one real Run with the twin's prediction",
        "twin compare runs/first_village/A runs/first_village/B",
    ),
    "gap": (
        "measure how far the twin is off local clusters here, in rounds, resumable",
        "twin gap --full --page docs/gap.md",
    ),
    "hunt": (
        "try many seeds of faults against promises, and shrink what breaks",
        "twin hunt raft policy=half_is_a_quorum seeds=200 jobs=2",
    ),
    "replay": (
        "step fresh nodes through a Run's journals, or run a hunted trial again and show it",
        "twin replay runs/four_desks/KEY-1",
    ),
    "promote": ("register a Run's policies if its gates are green", "twin promote runs/four_desks/KEY-1"),
    "calibrate": (
        "fit laws or prices to measurements (battery, links ...), or measure an executor",
        "twin calibrate battery --hppc pulses.csv --ocv ocv.csv --params cell.json",
    ),
    "validate": (
        "hold a law against measurements, or all against references (physics, inference)",
        "twin validate battery run.csv --cell fitted.json --measured m.csv",
    ),
    "predict": (
        "predict published rows of inference (CSV), with errors by regime",
        "twin predict rows.csv --out predicted.csv",
    ),
    "committee": (
        "how large a committee must be, given the fleet's share of faulty devices",
        "twin committee --fleet 500 --faulty 0.05,0.1,0.2 --check 2000",
    ),
    "requests": (
        "replay an engine's requests through the batcher, and predict each",
        "twin requests served.jsonl.gz --kernels profiles/RTX4090 --layers 32 --kv-tokens 41408",
    ),
    "checkpoint": (
        "write a seeded model of ours as a standard checkpoint",
        "twin checkpoint tiny models/tiny --seed 1",
    ),
    "shard": (
        "score every planner on a testbed file",
        "twin shard ../shared/data/testbeds/edgeshard.json --model 7b",
    ),
    "serve": ("serve a local village over HTTP, in OpenAI's form", "twin serve --workers 3 --port 8000"),
    "show": ("show a finished Run", "twin show runs/first_village/KEY-1"),
    "ls": ("list Runs", "twin ls first_village"),
    "info": ("versions, backends, groups of conf/", "twin info"),
    "test": ("the project's own checks", "twin test nightly"),
    "bench": ("print the speed and determinism bars", "twin bench raft"),
}
"""Verb to what it does and an example."""

OK, OUR_FAULT, USER_INPUT, FAILED_POINTS, REFUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

RUN_HELP = """\
Words are key=value: a field of the scenario (fleet.phones=100, seed=7, duration_s=3600) or a choice
in a group of conf/ (scenario=four_desks, policy/harvest=generous; all: `twin info`). Besides:
  out=FOLDER           where the Run goes, instead of runs/SCENARIO/KEY-SEED
  track=mlflow|none    log the finished Run to mlflow.db (default), or not
  policy.alias=NAME    refuse any policies but those registered under NAME
  -p FILE.py[:Class]   a policy of your own
  --fresh              repeat a finished simulated run
  --really             allow a real run of more than ten minutes
  -m                   comma lists make a small grid, run one after another
  --json, -q           the result as JSON; no progress
"""


HUNT_HELP = """\
Words are key=value; the first word is the arena (`twin hunt` alone lists arenas and defects):
  policy=correct       or a defect's name
  seeds=1000           that many, from 1; or a range, 200..399
  jobs=1               worker processes
  failures=1           stop when so many seeds have broken a promise
  kinds=crash,loss     draw only these kinds of fault
  nodes=, requests=, storm_s=, calm_s=   the trial's shape, where it should not be the arena's
  double=0.05          share of the seeds that run twice, in another process
  out=FOLDER           where findings go (runs/hunts/ARENA-POLICY-KEY); run again, it goes on
  --json, -q           the result as JSON; no progress
`twin hunt defects [arena=NAME] [jobs=2] [out=FILE.md]` hunts every known defect and shows how
soon each is found. A finding is shrunk, written as FOLDER/CHECK-SEED.yaml, and printed with the
line that replays it: twin replay LINE.
Exit codes: 0 nothing broke, 3 a promise broke, a digest differed, the canary was not found or
something never happened.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    try:
        code = _answer(words)
        sys.stdout.flush()  # here, where a reader that went away can still be seen
        return code
    except KeyboardInterrupt:
        return _complain("interrupted; what was finished is saved, nothing is half-written", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away
        _let_stdout_go()
        return OK
    except OSError as error:
        _let_stdout_go()
        return _complain(str(error), OUR_FAULT)


def _answer(words: list[str]) -> int:
    """Give help, refuse what is no verb, or run one."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text())
        return OK
    verb, rest = words[0], words[1:]
    if strange := [word for word in words if any("\ud800" <= letter <= "\udfff" for letter in word)]:
        return _complain(f"{os.fsencode(strange[0])!r}: allowed: words in UTF-8, as records are", USER_INPUT)
    if verb not in VERBS:
        import difflib

        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return _complain(f"{verb}: no such verb; {hint}allowed: {', '.join(VERBS)}", USER_INPUT)
    if verb != "test" and ("-h" in rest or "--help" in rest):
        print(verb_help(verb, rest))
        return OK
    return _guarded(verb, rest)


def help_text() -> str:
    """Return the help of `twin`, with an example for each verb."""
    lines = [
        "twin: a village of ordinary devices serving AI inference, and its twin",
        "",
        "usage: twin VERB [words]",
        "",
    ]
    for verb, (what, example) in VERBS.items():
        lines += [f"  {verb:10} {what}", f"{'':13}{example}"]
    lines += ["", "twin VERB --help says more. Every verb takes --json and -q."]
    lines += ["Exit codes: 0 done, 1 our fault, 2 your input, 3 failed points, 4 a gate refused, 130 interrupted."]
    return "\n".join(lines)


def verb_help(verb: str, rest: Sequence[str] = ()) -> str:
    """Return the help of one verb; ``rest`` are the words beside it, which may name a subject."""
    what, example = VERBS[verb]
    head = f"twin {verb}: {what}\nexample: {example}"
    if verb in ("run", "sweep"):
        extra = (
            ""
            if verb == "run"
            else "\nLists (a,b,c) and ranges (1..8) are the axes of the grid; jobs=N worker processes.\n"
        )
        return f"{head}\n{extra}\n{RUN_HELP.rstrip()}"
    if verb == "hunt":
        return f"{head}\n\n{HUNT_HELP.rstrip()}"
    if verb == "test":
        return f"{head}\n\ntwin test [nightly] [pytest arguments]; with arguments pytest runs alone."
    from experiments.verbs import SUBJECTS, parser, subject_parser

    if verb in SUBJECTS:
        named = [subject for subject in SUBJECTS[verb] if subject in rest]
        if named:
            about = f"twin {verb} {named[0]}: {SUBJECTS[verb][named[0]]}"  # the verb's example is another subject's
            return f"{about}\n\n{subject_parser(verb, named[0]).format_help().rstrip()}"
        lines = [f"  {subject:10} {text}" for subject, text in SUBJECTS[verb].items()]
        return "\n".join([head, "", *lines, "", f"twin {verb} WHAT --help says more."])
    return f"{head}\n\n{parser(verb).format_help().rstrip()}"


def _guarded(verb: str, rest: list[str]) -> int:
    """Run a verb; turn each family of errors into its line and exit code."""
    from experiments.compose import UsageError
    from experiments.promote import GateRefused
    from scenarios.schema import ScenarioError

    try:
        from experiments import verbs

        return verbs.run_verb(verb, rest)
    except (UsageError, ScenarioError) as error:
        return _complain(str(error), USER_INPUT)
    except GateRefused as error:
        return _complain(str(error), REFUSED)
    except OSError:
        raise
    except Exception as error:  # the last line must name the failure; what is above it is for us
        import traceback

        from scenarios.extras import not_loaded

        if isinstance(error, ImportError) and (said := not_loaded(error)):
            return _complain(f"{verb}: {said}", USER_INPUT)
        traceback.print_exc()
        return _complain(f"our fault: {type(error).__name__}: {error}", OUR_FAULT)


def _open_streams() -> None:
    """Let streams bear whatever is written: a closed one is nowhere, a character that a terminal lacks is escaped."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _let_stdout_go() -> None:
    """Drop what a pipe without a reader or a full disk did not take: Python would try again at its end, and fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str, code: int) -> int:
    print(f"twin: {' '.join(text.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    tell_at_exit(sources=False)
    sys.exit(main())
