"""`twin test`: the project's own checks, linters to notebooks (tests/notebooks); `twin test nightly`: the long ones.

The nightly run does one pytest process a test and writes tests/nightly.json after each, so that it can be
interrupted: what passed at the same commit is not repeated. Figures are what tests hand to pytest's
``record_property``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.progress import say

CHECKOUT = Path(__file__).resolve().parent.parent
NIGHTLY = CHECKOUT / "tests" / "nightly.json"
NO_TESTS = 5  # pytest's exit code when it collected nothing


def test(arguments: Sequence[str]) -> int:
    """Run ``ruff, mypy, lint-imports, pytest`` and the notebooks; with arguments, pytest alone takes them."""
    if not (CHECKOUT / "pyproject.toml").exists():
        say("test: needs a checkout of the project; this is an installed package")
        return 2
    if list(arguments[:1]) == ["nightly"]:
        return _nightly(list(arguments[1:]))
    steps = [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["importlinter.cli"]]
    steps += [["pytest", "-m", "not nightly", "tests"]]
    if arguments:
        steps = [["pytest", *arguments]]
    failed = [step[0] for step in steps if _step(step) != 0]
    if not arguments:
        say(f"test: nightly suites: {nightly_status()}")
    say(f"test: failed: {', '.join(failed)}" if failed else "test: everything passed")
    return 1 if failed else 0


def nightly_status() -> str:
    """Tell whether tests/nightly.json still speaks for the code: only a result newer than what it covers counts."""
    if not NIGHTLY.exists():
        return "never run here (twin test nightly)"
    content = json.loads(NIGHTLY.read_text())
    commit = str(content["commit"])
    failed = sorted(name for name, result in content["tests"].items() if result["status"] == "failed")
    covered = ["models", "policies", "scenarios", "sim", "real_backends", "experiments", "conf"]
    diff = subprocess.run(["git", "diff", "--quiet", commit, "--", *covered], cwd=CHECKOUT, capture_output=True)
    if commit.endswith("+changes") or diff.returncode:
        return f"run at {commit[:10]}, older than the code: they count no longer"
    return f"failed: {', '.join(failed)}" if failed else f"{len(content['tests'])} passed or skipped at {commit[:10]}"


def _step(words: list[str]) -> int:
    begun = time.monotonic()
    if words[0] == "importlinter.cli":
        command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]
    else:
        command = [sys.executable, "-m", *words]
    code = subprocess.run(command, cwd=CHECKOUT).returncode
    say(f"test: {words[0]}: {f'exit code {code}' if code else 'passed'}, {time.monotonic() - begun:.1f} s")
    return code


def _nightly(arguments: list[str]) -> int:
    commit = _git("rev-parse", "HEAD") + (
        "+changes" if _git("status", "--porcelain", "--", ".", ":!tests/nightly.json") else ""
    )
    results: dict[str, Any] = json.loads(NIGHTLY.read_text())["tests"] if NIGHTLY.exists() else {}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "nightly", *arguments]
    listing = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if listing.returncode not in (0, NO_TESTS):
        say(f"test nightly: collection failed\n{listing.stdout[-2000:]}")
        return 1
    names = [line for line in listing.stdout.splitlines() if "::" in line]
    for number, name in enumerate(names, 1):
        earlier = results.get(name, {})
        if earlier.get("commit") == commit and earlier.get("status") == "passed" and not commit.endswith("+changes"):
            continue
        say(f"test nightly: {number} of {len(names)}: {name}")
        results[name] = {"commit": commit, **_one_nightly(name)}
        _write({"commit": commit, "tests": {key: results[key] for key in sorted(results)}})
    failed = [name for name in names if results[name]["status"] == "failed"]
    for name in failed:
        say(f"test nightly: failed: {name}")
    return 1 if failed else 0


def _one_nightly(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        xml = Path(folder) / "result.xml"
        begun = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", name, f"--junitxml={xml}", "-o", "timeout=0"]
        code = subprocess.run(command, cwd=CHECKOUT, stdout=sys.stderr).returncode
        root = ElementTree.parse(xml).getroot() if xml.exists() else ElementTree.Element("testsuites")
    figures = {item.get("name", ""): _value(item.get("value", "")) for item in root.iter("property")}
    status = "failed" if code else "skipped" if root.find(".//skipped") is not None else "passed"
    return {
        "status": status,
        "wall_s": round(time.monotonic() - begun, 1),
        "seeds": figures.pop("seeds", None),
        "figures": figures,
    }


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _write(content: dict[str, Any]) -> None:
    part = NIGHTLY.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(NIGHTLY)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
