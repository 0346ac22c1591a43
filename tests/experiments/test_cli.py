"""The command line: light help, exit codes, results on stdout, and Runs that are found again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from experiments import cli
from experiments.verbs import SUBJECTS
from scenarios.record import Record

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "cryptography", "hydra", "jax", "matplotlib", "mesa", "mlflow", "networkx", "numpy",
    "omegaconf", "pandas", "pyarrow", "rich", "scipy", "simpy", "torch",
}  # fmt: skip


@pytest.fixture(name="world")
def _world(monkeypatch: pytest.MonkeyPatch, synthetic_record: Callable[..., Record]) -> list[Any]:
    """Put a made-up world in the simulator's place; the list holds the scenarios that it ran."""
    ran: list[Any] = []

    def simulate(scenario: Any, *, progress: Any = None, policy: Any = None) -> Record:
        ran.append(scenario)
        progress(0.5, "halfway")
        if scenario.reading_s == 13.0:
            raise RuntimeError("the world broke")
        if scenario.reading_s == 14.0:
            raise KeyboardInterrupt
        return synthetic_record(scenario.seed, requests=30, devices=3)

    module = ModuleType("sim.village")
    module.simulate = simulate  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sim.village", module)
    monkeypatch.setattr("experiments.report.render", lambda run: "a report")  # drawn for real in test_results
    return ran


@pytest.mark.parametrize(
    "words", [["--help"], *([verb, "--help"] for verb in cli.VERBS if verb != "test"), ["nonsense"]]
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """Help answers at once because it loads no library that takes its time."""
    code = f"import sys, experiments.cli as c; c.main({words!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not HEAVY & {name.split(".")[0] for name in done.stderr.split()}


def test_help_has_an_example_of_every_verb() -> None:
    """No verb is announced without a line that can be pasted."""
    text = cli.help_text()

    assert all(example.startswith(f"twin {verb}") and example in text for verb, (_, example) in cli.VERBS.items())


def test_the_package_offers_its_functions_lazily() -> None:
    """`from experiments import load` works, and importing the package loads nothing heavy."""
    code = (
        "import sys, experiments; from experiments.folders import project_root\n"
        "heavy = {'pandas', 'hydra', 'matplotlib'} & set(sys.modules); assert not heavy, heavy\n"
        "from experiments import compare, load, simulate; assert all(map(callable, (compare, load, simulate)))"
    )

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, env={"PYTHONPATH": str(ROOT), "PATH": ""})


def test_a_run_leaves_a_run_and_says_so(world: list[Any], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`twin run` writes summary, manifest, tables and report, and prints a table of at most 80 columns."""
    assert cli.main(["run", "seed=3", "track=none"]) == 0
    out = capsys.readouterr().out
    (folder,) = (home / "runs" / "first_village").iterdir()

    assert {"summary.json", "manifest.json", "report.html", "requests.parquet"} <= {f.name for f in folder.iterdir()}
    assert folder.name.endswith("-3")
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert "checks passed" in out
    assert json.loads((folder / "manifest.json").read_text())["run"]["command"] == "twin run seed=3 track=none"


def test_a_finished_run_is_shown_not_repeated(world: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The same key means the same result; --fresh, another seed or another value runs again."""
    for words in ([], [], ["--fresh"], ["seed=2"], ["fleet.phones=401"]):
        assert cli.main(["run", "track=none", "-q", *words]) == 0

    assert [(s.seed, s.fleet.phones) for s in world] == [(1, 400), (1, 400), (2, 400), (1, 401)]


def test_json_is_one_object_on_stdout(world: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """With --json, stdout is JSON and nothing else."""
    cli.main(["run", "track=none", "-q", "--json"])
    shown = json.loads(capsys.readouterr().out)

    assert shown["summary"]["requests_total"] == 30
    assert all(shown["checks"].values())


def test_our_fault_and_an_interrupt_leave_nothing_behind(
    world: list[Any], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A crash of the world is exit code 1, Ctrl-C 130, each with one last line, and no half-written Run."""
    assert cli.main(["run", "track=none", "reading_s=13"]) == 1
    assert "our fault: RuntimeError: the world broke" in capsys.readouterr().err.splitlines()[-1]
    assert cli.main(["run", "track=none", "reading_s=14"]) == 130
    assert "interrupted" in capsys.readouterr().err.splitlines()[-1]
    assert not (home / "runs").exists()


def test_a_small_grid_runs_in_turn(world: list[Any]) -> None:
    """-m expands lists and ranges and runs the points one after another."""
    assert cli.main(["run", "-m", "seed=1..2", "fleet.phones=10,20", "track=none", "-q"]) == 0

    assert [(s.seed, s.fleet.phones) for s in world] == [(1, 10), (1, 20), (2, 10), (2, 20)]


def test_out_is_protected(world: list[Any], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with something else, another run's folder, or a file is never overwritten."""
    (home / "mine").mkdir()
    (home / "mine" / "thesis.txt").write_text("keep")
    (home / "file").write_text("keep")

    assert cli.main(["run", "out=mine", "track=none"]) == 2
    assert cli.main(["run", "out=file/run", "track=none"]) == 2
    assert cli.main(["run", "out=good", "track=none", "-q"]) == 0
    assert cli.main(["run", "out=good", "track=none", "seed=9"]) == 2
    assert len(world) == 1
    assert (home / "mine" / "thesis.txt").read_text() == "keep"


def test_ls_and_show_find_runs(world: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A Run is listed, and shown by the start of its name."""
    cli.main(["run", "track=none", "-q", "--json"])
    key = Path(json.loads(capsys.readouterr().out)["run"]).name

    assert cli.main(["ls"]) == 0
    assert key in capsys.readouterr().out
    assert cli.main(["show", key[:6]]) == 0
    assert "first_village" in capsys.readouterr().out
    assert cli.main(["show", "zzz"]) == 2
    assert "no run there" in capsys.readouterr().err


def test_a_damaged_run_hides_no_other(world: list[Any], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`twin ls` lists what can be read, and says which file cannot."""
    assert cli.main(["run", "scenario=four_desks", "profile=", "track=none", "-q"]) == 0
    broken = home / "runs" / "broken"
    broken.mkdir()
    for name in ("manifest.json", "summary.json"):
        (broken / name).write_text("{")
    capsys.readouterr()
    assert cli.main(["ls"]) == 0
    said = capsys.readouterr()
    assert "four_desks" in said.out
    assert "broken" not in said.out
    assert "left out: " in said.err
    assert "summary.json: this Run is damaged" in said.err


def test_a_damaged_run_is_run_again_as_it_says(
    world: list[Any], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command replaces it; in a folder that the user named, --fresh does."""
    for name, text in (("manifest.json", "{"), ("summary.json", ""), ("manifest.json", '{"run": 3, "seed": "x"}')):
        words = ["run", "scenario=four_desks", "profile=", "track=none", "-q"]
        assert cli.main(words) == 0
        assert cli.main([*words, "out=mine", "--fresh"]) == 0
        (kept,) = (home / "runs" / "four_desks").iterdir()
        for folder in (kept, home / "mine"):
            (folder / name).write_text(text)
        ran = len(world)
        capsys.readouterr()
        assert cli.main(words) == 0
        assert cli.main([*words, "out=mine"]) == 2
        assert "out=mine: holds another run; --fresh replaces it" in capsys.readouterr().err
        assert cli.main([*words, "out=mine", "--fresh"]) == 0
        assert len(world) == ran + 2
        assert cli.main(["show", str(kept)]) == 0


def test_ls_says_which_runs_there_are(world: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Runs of another scenario are named, rather than none at all."""
    assert cli.main(["ls", "council"]) == 0
    assert capsys.readouterr().out == "no runs yet; `twin run` makes one\n"
    assert cli.main(["run", "scenario=four_desks", "profile=", "track=none", "-q"]) == 0
    capsys.readouterr()
    assert cli.main(["ls", "council"]) == 0
    assert capsys.readouterr().out == "no runs of council; there are some of first_village\n"  # the made-up world's


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sweep jobs=²", "jobs=²: allowed: 1 to 256 worker processes"),
        ("hunt raft jobs=²", "hunt: jobs=²: allowed: whole numbers"),
        ("hunt raft seeds=1..²", "hunt: seeds=1..²: allowed: whole numbers"),
        ("hunt raft out=file seeds=1", "hunt: out=file: cannot be written"),
        ("hunt raft out=mine seeds=1", "hunt: out=mine: holds something other than a hunt; choose another folder"),
        ("hunt defects out=mine", "hunt: out=mine: allowed: a file in a folder that exists"),
        ("hunt defects out=nowhere/page.md", "hunt: out=nowhere/page.md: allowed: a file in a folder that exists"),
        ("run policy.alias=", "policy.alias='': a name is needed"),
    ],
)
def test_a_word_that_cannot_be_is_refused_by_name(
    words: str, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with the word and what is allowed, exit code 2, nothing written."""
    (home / "file").write_text("keep")
    (home / "mine").mkdir()
    (home / "mine" / "thesis.txt").write_text("keep")

    assert cli.main(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert sorted(path.name for path in home.rglob("*")) == ["file", "mine", "thesis.txt"]


def test_no_line_of_help_is_wider_than_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 100 columns, of every verb and subject, where the terminal has them."""
    monkeypatch.setenv("COLUMNS", "100")
    texts = [cli.help_text(), *(cli.verb_help(verb) for verb in cli.VERBS)]
    texts += [cli.verb_help(verb, [subject]) for verb, subjects in SUBJECTS.items() for subject in subjects]
    assert [line for text in texts for line in text.splitlines() if len(line) > 100] == []


def test_help_of_a_subject_is_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what the subject does, not what another one's example is."""
    assert cli.main(["calibrate", "verification", "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("twin calibrate verification: tolerances of checks on workers")
    assert "battery" not in said


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """world=local without torch says what to install, before anything starts."""
    monkeypatch.setitem(sys.modules, "torch", None)

    assert cli.main(["run", "scenario=four_desks", "world=local"]) == 2
    assert "world=local needs torch: import of torch halted" in (said := capsys.readouterr().err)
    assert said.endswith("pip install 'villagetwin[torch]'\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "name", "extra"),
    [
        (("run", "scenario=four_desks", "world=local"), "torch", "torch"),
        (("run", "scenario=four_desks", "world=local", "profile=''"), "cryptography", "local"),
        (("run", "scenario=million_day", "devices=1000", "processes=1", "backend=jax"), "jax", "jax"),
        (("serve", "--port", "0"), "torch", "torch"),
        (("serve", "--port", "0"), "uvicorn", "gateway"),
        (("calibrate", "executor", "--out", "made.json"), "torch", "torch"),
    ],
)
def test_a_library_that_does_not_load_is_one_line(
    words: tuple[str, ...], name: str, extra: str, broken: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """One that is installed and broken is as good as missing: its own words, and what to install; nothing has begun."""
    broken(name)

    assert cli.main(list(words)) == 2
    said = capsys.readouterr().err
    assert f"needs {name}: lib{name}.so is of another version: pip install 'villagetwin[{extra}]'" in said
    assert said.count("\n") == 1


def test_info_says_why_a_library_does_not_load(
    broken: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is listed as missing, with its own words."""
    broken("torch")

    assert cli.main(["info"]) == 0
    assert "missing   torch: libtorch.so is of another version" in capsys.readouterr().out
    assert cli.main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["present"]["torch"] is False


def test_a_tracker_that_does_not_load_is_said_and_survived(
    world: list[Any], broken: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that is missing: the run is complete."""
    broken("mlflow")

    assert cli.main(["run"]) == 0
    assert "tracking needs mlflow: libmlflow.so is of another version: pip install" in capsys.readouterr().err


def test_a_missing_tracker_is_said_and_survived(
    world: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without MLflow the run goes on, and says that it is not tracked."""
    monkeypatch.setitem(sys.modules, "mlflow", None)

    assert cli.main(["run"]) == 0
    assert "tracking needs mlflow: import of mlflow halted" in capsys.readouterr().err


def test_progress_without_a_terminal_is_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere than on a terminal, progress is at most one JSON object each five seconds."""
    from experiments.progress import _lines

    clock = iter([0.0, 1.0, 5.0, 6.0, 11.0])
    report = _lines("job", clock=lambda: next(clock))
    for share in (0.1, 0.2, 0.3, 0.4):
        report(share, "text")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["done"] for line in lines] == [0.2, 0.4]


def test_a_policy_file_is_loaded(tmp_path: Path) -> None:
    """-p takes a file's only policy, or the one that is named."""
    from experiments.compose import UsageError
    from experiments.job import load_policy
    from scenarios.digests import source_sha256

    file = tmp_path / "mine.py"
    file.write_text("from policies.port import Policy\nclass A(Policy): pass\nclass B(A): pass\n")

    loaded = load_policy(f"{file}:A")
    before = source_sha256(loaded)
    file.write_text(file.read_text() + "X = 1\n")
    assert loaded.__name__ == "A"
    assert source_sha256(load_policy(f"{file}:A")) != before
    with pytest.raises(UsageError, match="defines 2 policies"):
        load_policy(str(file))
    with pytest.raises(UsageError, match="no such class; the file defines A, B"):
        load_policy(f"{file}:C")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("import nosuchmodule\n", "", ":1: cannot be loaded: ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("x = 1\ndef (\n", "", ":2: cannot be loaded: SyntaxError"),
        ("x = 1\n\n1 / 0\n", "", ":3: cannot be loaded: ZeroDivisionError"),
        ("import sys\nsys.exit(0)\n", "", ":2: cannot be loaded: SystemExit"),
        ("class A: pass\n", ":A", "A: is no policy; allowed: a subclass of policies.port.Policy"),
    ],
)
def test_a_policy_file_that_breaks_is_the_users(
    text: str, name: str, said: str, world: list[Any], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is one line with the file and where in it, exit code 2, and no Run."""
    (home / "mine.py").write_text(text)

    assert cli.main(["run", "-p", f"mine.py{name}", "track=none", "-q"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("twin: -p mine.py")
    assert said in line
    assert not world
    assert not (home / "runs").exists()


def test_what_a_users_policy_raises_is_told_by_its_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in the user's file is the user's: its line and what it raised, no trace of ours, no Run."""
    (home / "mine.py").write_text(
        "from policies.port import Policy\n"
        "class Mine(Policy):\n"
        "    def on_start(self, saved):\n"
        "        return tally()\n"
        "def tally():\n"
        "    return 1 / 0\n"
    )

    assert cli.main(["run", "-p", "mine.py", "track=none", "-q"]) == 2
    assert capsys.readouterr().err == "twin: -p mine.py:6: ZeroDivisionError: division by zero\n"
    assert not (home / "runs").exists()


def test_progress_says_that_a_run_is_being_logged(world: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is long written while the tracker's tables are made, and a bar that says so looks stuck."""
    from experiments import job

    told: list[str] = []
    monkeypatch.setattr(job, "track", lambda run: told.append("tracked"))
    job.perform(job.prepare(["-q"]), lambda share, text: told.append(text))

    assert told == ["halfway", "report", "mlflow.db", "tracked"]


def test_a_trials_file_of_other_bytes_is_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no text is said to be none."""
    (home / "trial.yaml").write_bytes(b"\xff\xfe")

    assert cli.main(["replay", "trial.yaml"]) == 2
    assert capsys.readouterr().err.startswith("twin: replay: trial.yaml: not YAML in UTF-8: ")
