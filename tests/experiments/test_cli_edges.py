"""What surrounds `twin`: words that are no text, homes, streams that close or fill, libraries that are not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from experiments import cli
from scenarios.record import Record, write

ROOT = Path(__file__).resolve().parents[2]


def twin(*words: str, **given: object) -> subprocess.CompletedProcess[str]:
    """Run `twin` in a process of its own, as a shell does."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **given.pop("environ", {})}  # type: ignore[dict-item]
    command = [sys.executable, "-m", "experiments.cli", *words]
    streams: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given}
    return subprocess.run(command, env=environ, text=True, check=False, **streams)  # type: ignore[call-overload,no-any-return]


def test_words_that_are_no_text_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is not UTF-8 cannot stand in a manifest, so it is refused before anything is written."""
    assert cli.main(["run", os.fsdecode(b"out=a\xff"), "track=none"]) == 2
    assert capsys.readouterr().err == "twin: b'out=a\\xff': allowed: words in UTF-8, as records are\n"
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    "words", ["run out=~nobody-of-ours/x", "show ~nobody-of-ours", "serve --model ~nobody-of-ours"]
)
def test_a_home_that_nobody_has_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``~name`` of an unknown user is one line, wherever a path is given."""
    assert cli.main(words.split()) == 2
    assert "no such user's home" in capsys.readouterr().err


def test_an_interrupt_while_something_is_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the first second, before the verb runs, shows no traceback."""

    def pressed(name: str) -> None:
        raise KeyboardInterrupt

    module = ModuleType("experiments.promote")
    module.__getattr__ = pressed  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "experiments.promote", module)
    assert cli.main(["ls"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--help", "ls"])
def test_a_reader_that_goes_away_is_no_failure(words: str) -> None:
    """`twin --help | true` says nothing and ends well."""
    reader, writer = os.pipe()
    os.close(reader)
    done = twin(words, stdout=writer)
    os.close(writer)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_result_that_finds_no_room_is_one_line() -> None:
    """stdout on a full disk: one line, exit code 1, and none of Python's own at its end."""
    with open("/dev/full", "w") as full:
        done = twin("ls", stdout=full)

    assert done.returncode == 1
    assert done.stderr == "twin: [Errno 28] No space left on device\n"


def test_a_terminal_without_a_character_gets_it_escaped() -> None:
    """A result with a dash or an interpunct can be shown where only ASCII can."""
    code = "import experiments.cli as c; c.help_text = lambda: 'four_desks \\u00b7 \\u2013'; c.main(['--help'])"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("four_desks \\xb7 \\u2013\n", "")


@pytest.mark.parametrize(
    ("library", "words", "brings"),
    [
        ("mlflow", "promote made_up", "'villagetwin[track]'"),
        ("matplotlib", "show made_up", "villagetwin"),
    ],
)
def test_a_library_that_does_not_load_is_one_line(
    library: str, words: str, brings: str, home: Path, capsys: pytest.CaptureFixture[str], made_up_run: Path
) -> None:
    """One that is installed and broken, or absent, is named with what brings it; nothing else is printed."""
    broken = home / "broken" / library
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libof.so: cannot open shared object file')\n")
    (made_up_run / "report.html").unlink(missing_ok=True)
    done = twin(*words.split(), environ={"PYTHONPATH": f"{home / 'broken'}:{ROOT}"})

    assert done.returncode == 2
    said = f"{library} cannot be loaded (libof.so: cannot open shared object file): pip install {brings}\n"
    assert done.stderr == f"twin: {words.split()[0]}: {said}"


def test_a_registry_that_is_no_database_is_one_line(
    home: Path, made_up_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged mlflow.db is named, and stays what it is."""
    (home / "mlflow.db").write_text("not a database, but long enough to be taken for one" * 9)

    assert cli.main(["promote", "made_up"]) == 2
    assert capsys.readouterr().err == (
        "twin: mlflow.db: cannot be used: file is not a database; moved away, it is made anew\n"
    )
    assert "long enough" in (home / "mlflow.db").read_text()


@pytest.fixture
def made_up_run(home: Path, synthetic_record: Callable[..., Record]) -> Path:
    """Keep a Run of a made-up world under ``made_up``."""
    return write(synthetic_record(3, requests=20, devices=2), home / "made_up")
