"""`twin validate physics`: every law beside a reference that was not written here, as a table.

Nothing is computed here. The tests that compare a law with a reference say by how much it is off (the fixture `physics`
of tests/conftest.py); this runs them and collects what they said. A comparison whose data or library is not there is
listed as such, and one whose test fails as FAILED.

twin validate physics --out docs/physics.md
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from experiments.calibration import Outcome
from experiments.compose import UsageError
from experiments.progress import Progress, progress, say
from experiments.validation.physics_table import places, rewritten, summary, text
from experiments.whole import check_file, write_whole

CHECKOUT = Path(__file__).resolve().parents[2]
NO_TESTS = 5  # pytest's exit code when nothing was chosen
BROKEN = (3, 4)  # an internal error, a wrong option
SKIPPED = {"no data": "no data", "": "skipped"}  # how a reason begins, and the verdict


@dataclass
class Row:
    """One line of the table: a law and a reference, over all cases in which they were compared.

    Attributes:
        law: subject and what is compared.
        reference: who says so; of a comparison that was not made, why not.
        unit, bar: what the error is in, and what it may be.
        typical, worst: mean over cases of the error, and the largest; None where nothing was compared.
        cases: how many.
        verdict: ``met`` also in the worst case, ``met (mean)`` by the error that the bar is for but not in the worst
            case, ``MISSED``, ``FAILED`` (the test is red), ``no data`` or ``skipped``.
        notes: of the tests.
        tests: where to read on.
    """

    law: str
    reference: str
    unit: str = ""
    bar: float | None = None
    typical: float | None = None
    worst: float | None = None
    cases: int = 0
    verdict: str = "skipped"
    notes: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--out", type=Path, default=None, metavar="FILE.md",
                        help="write the table as Markdown; a page with places for it keeps its words")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="leave out what takes long (tests marked slow, nightly)")


def run(options: argparse.Namespace) -> Outcome:
    """Run the tests, make the table.

    Raises:
        UsageError: no tests beside this package, or no place for the table; one line.
    """
    out: Path | None = options.out
    if out is not None:
        _before(out)
    begun = perf_counter()
    rows = measure(CHECKOUT, quick=options.quick, quiet=getattr(options, "quiet", False))
    head = summary(rows, perf_counter() - begun, quick=options.quick)
    if out is not None:
        after, homeless = rewritten(_before(out), rows, head)  # read again: its words may have changed meanwhile
        write_whole(out, after)
        if homeless:
            say(f"{out} has no place for: {', '.join(homeless)}")
    plain = {"rows": [asdict(row) for row in rows], "quick": options.quick, "summary": head}
    failed = any(row.verdict == "FAILED" for row in rows)
    return Outcome(plain, "\n".join([text(rows), "", *textwrap.wrap(head, 100)]), failed)


def measure(checkout: Path, *, quick: bool = False, quiet: bool = False) -> list[Row]:
    """Run the tests of a checkout that compare with a reference; return the rows that they make.

    Raises:
        UsageError: there are no tests, or pytest could not run; one line.
    """
    if not (checkout / "tests").is_dir():
        raise UsageError(
            "validate physics: needs a checkout of the project, for its tests; this is an installed package"
        )
    chosen = "physics and not slow and not nightly" if quick else "physics"
    with tempfile.TemporaryDirectory() as folder, progress("validate physics", quiet=quiet) as report:
        xml = Path(folder) / "found.xml"
        command = [
            sys.executable, "-m", "pytest", "-v", "-m", chosen, "-p", "no:cacheprovider", "-o", "timeout=0",
            "-o", "console_output_style=count", "-o", "junit_family=xunit1", "--hypothesis-seed=0",
            "--continue-on-collection-errors", f"--junitxml={xml}", "tests",
        ]  # fmt: skip
        code, last = _watched(command, checkout, report)
        if code == NO_TESTS:
            raise UsageError(f"validate physics: no test of {checkout / 'tests'} compares a law with a reference")
        if code in BROKEN or not xml.exists():
            raise UsageError(f"validate physics: pytest could not run: {last}")
        return merged(_cases(ElementTree.parse(xml).getroot()))


def merged(cases: Iterator[tuple[str, str, str, list[dict[str, Any]]]]) -> list[Row]:
    """Return one row for all cases of the same law, reference, unit and bar.

    Args:
        cases: of each test its name, what became of it (passed, failed, skipped), why, and what it said.
    """
    found: dict[tuple[Any, ...], Row] = {}
    for name, fate, reason, said in cases:
        function = name.split("::")[-1].split("[")[0]
        if not said and fate == "passed":
            continue
        if not said:
            verdict = "FAILED" if fate == "failed" else next(v for k, v in SKIPPED.items() if reason.startswith(k))
            row = found.setdefault((function, verdict), Row(_words(function), reason, verdict=verdict))
            row.tests.append(name)
        for one in said:
            key = (one["law"], one["reference"], one["unit"], one["bar"])
            row = found.setdefault(key, Row(*key, typical=0.0, worst=0.0, verdict="met"))
            assert row.typical is not None
            assert row.worst is not None
            error, worst = one["error"], max(one["error"], one["worst"] if one["worst"] is not None else one["error"])
            row.typical += (error - row.typical) / (row.cases + 1)
            row.worst, row.cases = max(row.worst, worst), row.cases + 1
            row.verdict = _worse(row.verdict, "FAILED" if fate == "failed" else _verdict(error, worst, one["bar"]))
            row.notes += [one["note"]] if one["note"] and one["note"] not in row.notes else []
            row.tests += [name] if name not in row.tests else []
    return list(found.values())


def _before(out: Path) -> str | None:
    """Return what stands in the file; None if it is new."""
    check_file("--out", out)
    if not out.exists():
        return None
    try:
        before = out.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--out {out}: cannot be read: {error}") from None
    if not places(before):
        raise UsageError(f"--out {out}: has no place for a table; allowed: a new file, or one with <!-- physics -->")
    return before


def _watched(command: list[str], checkout: Path, report: Progress) -> tuple[int, str]:
    """Run pytest and show how far it is; return its exit code and the last that it said."""
    last = ""
    with subprocess.Popen(
        command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "COLUMNS": "400"},  # or long names push the count off the line
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last = line.strip() or last
                if count := re.search(r"\[\s*(\d+)/(\d+)\]\s*$", line):
                    report(int(count[1]) / int(count[2]), _words(line.split("::")[-1].split(" ")[0].split("[")[0]))
        except BaseException:
            process.terminate()
            raise
    return process.returncode, last


def _cases(root: ElementTree.Element) -> Iterator[tuple[str, str, str, list[dict[str, Any]]]]:
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        said = [json.loads(p.get("value", "")) for p in case.iter("property") if p.get("name") == "physics"]
        red = next((part for kind in ("failure", "error") if (part := case.find(kind)) is not None), None)
        skipped = case.find("skipped")
        message = (red if red is not None else skipped if skipped is not None else case).get("message", "")
        fate = "failed" if red is not None else "skipped" if skipped is not None else "passed"
        yield name, fate, message.strip().split("\n")[0].removeprefix("Skipped: "), said


def _verdict(error: float, worst: float, bar: float) -> str:
    return "met" if worst <= bar else "met (mean)" if error <= bar else "MISSED"


def _worse(one: str, other: str) -> str:
    return max(one, other, key=("met", "met (mean)", "MISSED", "FAILED").index)


def _words(function: str) -> str:
    return function.removeprefix("test_").replace("_", " ")
