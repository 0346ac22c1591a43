"""The launcher `twin`, on a tiny project with an installer of ours: no network, no real environment."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TWIN = Path(__file__).parents[2] / "twin"
TRACK = frozenset({"track"})


def load_launcher() -> ModuleType:
    """Import the script `twin`, which has no suffix."""
    loader = importlib.machinery.SourceFileLoader("twin_launcher", str(TWIN))
    spec = importlib.util.spec_from_loader("twin_launcher", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


launcher = load_launcher()


class FakeInstaller:
    """Makes an environment of three lines and counts what it was asked for."""

    def __init__(self) -> None:
        self.made = 0
        self.installed: list[frozenset[str]] = []
        self.fail_with: BaseException | None = None

    def make_venv(self, environment: object) -> None:
        python = Path(environment.python)  # type: ignore[attr-defined]
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text("#!/bin/sh\nexit 0\n")
        python.chmod(0o755)
        self.made += 1

    def install(self, environment: object, extras: frozenset[str]) -> str:
        if self.fail_with is not None:
            raise self.fail_with
        self.installed.append(extras)
        return "fake"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'tiny'\n")
    (tmp_path / "requirements.lock").write_text("tiny==1\n")
    return tmp_path


@pytest.fixture
def fake() -> FakeInstaller:
    return FakeInstaller()


@pytest.fixture
def prepare(project: Path, fake: FakeInstaller) -> Callable[..., object]:
    def go(*extras: str) -> object:
        return launcher.prepare(str(project), TRACK | set(extras), fake.make_venv, fake.install)

    return go


def test_second_start_installs_nothing(prepare: Callable[..., object], fake: FakeInstaller) -> None:
    """A finished set-up is used as it is."""
    prepare()
    prepare()

    assert (fake.made, fake.installed) == (1, [TRACK])


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_changed_file_installs_again(
    name: str, project: Path, prepare: Callable[..., object], fake: FakeInstaller
) -> None:
    """A change of either file is installed into the environment that is there."""
    prepare()
    (project / name).write_text("# changed\n")
    prepare()

    assert (fake.made, len(fake.installed)) == (1, 2)


def test_more_extras_keep_the_earlier_ones(prepare: Callable[..., object], fake: FakeInstaller) -> None:
    """Extras add up, and a later start that wants fewer installs nothing."""
    prepare("torch")
    prepare("jax")
    prepare()

    assert fake.installed == [TRACK | {"torch"}, TRACK | {"torch", "jax"}]


def test_interrupted_setup_starts_clean(prepare: Callable[..., object], fake: FakeInstaller) -> None:
    """Half an installation is never trusted: the next start makes a new environment."""
    fake.fail_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        prepare()
    fake.fail_with = None
    prepare()
    prepare()

    assert (fake.made, fake.installed) == (2, [TRACK])


def test_interrupted_addition_forgets_only_the_addition(prepare: Callable[..., object], fake: FakeInstaller) -> None:
    """After an interrupted addition the earlier extras come back and the addition is not forced on anyone."""
    prepare("jax")
    fake.fail_with = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        prepare("torch")
    fake.fail_with = None
    prepare()

    assert (fake.made, fake.installed) == (2, [TRACK | {"jax"}] * 2)


def test_failed_addition_leaves_the_environment_in_force(prepare: Callable[..., object], fake: FakeInstaller) -> None:
    """Where an extra cannot be had, what worked before still starts at once."""
    prepare()
    fake.fail_with = launcher.SetupError("no network")
    with pytest.raises(launcher.SetupError, match="no network"):
        prepare("torch")
    prepare()

    assert (fake.made, fake.installed) == (1, [TRACK])


def test_lost_python_is_made_again(prepare: Callable[..., object], fake: FakeInstaller) -> None:
    """An environment whose Python has gone is replaced, though its stamp is current."""
    environment = prepare()
    os.remove(environment.python)  # type: ignore[attr-defined]
    prepare()

    assert fake.made == 2


def test_copied_project_does_not_run_the_original(
    project: Path, prepare: Callable[..., object], fake: FakeInstaller
) -> None:
    """A stamp is valid only where it was made: an editable install points at the folder it came from."""
    prepare()
    moved = project.with_name("moved")
    project.rename(moved)
    launcher.prepare(str(moved), TRACK, fake.make_venv, fake.install)

    assert len(fake.installed) == 2


PARALLEL = """
import pathlib, runpy, sys
root = pathlib.Path({root!r})
def make_venv(environment):
    python = pathlib.Path(environment.python)
    python.parent.mkdir(parents=True, exist_ok=True)
    python.touch(0o755)
def install(environment, extras):
    with open(root / "installed", "a") as log:
        log.write("begin\\n")
    print("installing", flush=True)
    sys.stdin.readline()  # goes on when the other one has been seen to wait
    with open(root / "installed", "a") as log:
        log.write("end\\n")
    return "fake"
runpy.run_path({twin!r})["prepare"](str(root), frozenset({{"track"}}), make_venv, install)
"""


@pytest.mark.skipif(os.name == "nt", reason="watches the POSIX form of the lock")
def test_parallel_setups_make_one(project: Path) -> None:
    """Of two starts at the same time one installs; the other waits and uses it."""
    command = [sys.executable, "-c", PARALLEL.format(twin=str(TWIN), root=str(project))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first, subprocess.Popen(command, **pipes) as second:  # type: ignore[call-overload]
        waiting: subprocess.Popen[str]
        for waiting, working in ((first, second), (second, first)):
            lines = [waiting.stderr.readline()]
            if "setting up" in lines[0]:
                continue
            assert "waiting" in lines[0]
            assert working.stdout.readline() == "installing\n"
            working.stdin.write("\n")
            working.stdin.flush()
            break
        assert (first.wait(), second.wait()) == (0, 0)

    assert (project / "installed").read_text() == "begin\nend\n"


def test_orphaned_installer_goes_on_holding_the_lock(project: Path) -> None:
    """If the launcher dies while its installer lives, nobody else sets up over it."""
    fcntl = pytest.importorskip("fcntl")
    lock = launcher.hold(str(project / ".venv.lock"))
    orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    os.close(lock)
    other = os.open(project / ".venv.lock", os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        orphan.communicate(b"\n")
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_wrong_python_gets_one_sentence(version: tuple[int, int]) -> None:
    """A Python that is too old or too new is named, with those that fit."""
    complaint = launcher.version_complaint(version)

    assert "3.11, 3.12 or 3.13" in complaint
    assert f"this is {version[0]}.{version[1]};" in complaint
    assert "\n" not in complaint


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_right_python_gets_none(version: tuple[int, int]) -> None:
    """The three supported Pythons start without a word."""
    assert launcher.version_complaint(version) == ""


def test_old_python_can_read_the_launcher() -> None:
    """The file parses on Python 3.7, or the sentence above would be a SyntaxError."""
    ast.parse(TWIN.read_text(), feature_version=(3, 7))


@pytest.mark.parametrize(
    ("line", "extras"),
    [
        ("", {"track"}),
        ("--help", {"track"}),
        ("run", {"track"}),
        ("run seed=7", {"track"}),
        ("run world=local", {"track", "torch", "jax", "local"}),
        ("sweep +world=local", {"track", "torch", "jax", "local"}),
        ("run fleet.backend=jax", {"track", "jax"}),
        ("serve --port 0", {"track", "torch", "jax", "local", "gateway"}),
        ("serve --model models/mine", {"track", "torch", "jax", "local", "gateway", "tokenizer"}),
        ("checkpoint tiny models/tiny", {"track", "torch"}),
        ("calibrate executor", {"track", "torch", "jax", "local"}),
        ("calibrate verification", {"track", "torch", "jax", "local"}),
        ("bench overhead", {"track", "torch", "jax", "local"}),
        ("gap --full", {"track", "torch", "jax", "local", "gateway"}),
        ("validate physics --out p.md", {"track", "torch", "jax", "local", "gateway", "tokenizer", "dev"}),
        ("validate battery run.csv", {"track"}),
        ("test nightly", {"track", "torch", "jax", "local", "gateway", "tokenizer", "dev"}),
        ("test --help", {"track"}),
    ],
)
def test_extras_follow_the_command_line(line: str, extras: set[str]) -> None:
    """A command installs what it needs and no more."""
    assert launcher.wanted_extras(line.split()) == extras


PIP_CONFIG = """\
:env:.find-links='/mine'
global.cert='/certs.pem'
global.extra-index-url='file:///disk https://b.example/simple'
global.find-links='/theirs'
global.index-url='https://a.example/simple'
"""


def pip_config(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 0, stdout=text)
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_options: done)


def test_uv_obeys_pips_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """uv looks where pip looks; the environment wins over files, and only web indexes are handed on."""
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    pip_config(PIP_CONFIG, monkeypatch)

    assert launcher.uv_settings("python") == {
        "PATH": "/bin",
        "SSL_CERT_FILE": "/certs.pem",
        "UV_DEFAULT_INDEX": "https://a.example/simple",
        "UV_FIND_LINKS": "/mine",
        "UV_INDEX": "https://b.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_uvs_own_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who configured uv itself is not overruled."""
    monkeypatch.setattr(os, "environ", {"UV_FIND_LINKS": "/uv"})
    pip_config(PIP_CONFIG, monkeypatch)

    assert launcher.uv_settings("python")["UV_FIND_LINKS"] == "/uv"


def commands(monkeypatch: pytest.MonkeyPatch, fails: Callable[[list[str]], bool]) -> list[list[str]]:
    """Record the installer's commands instead of running them; some fail."""
    seen: list[list[str]] = []

    def run(command: list[str], environ: dict[str, str] | None = None) -> int:
        seen.append(command)
        return int(fails(command))

    monkeypatch.setattr(launcher, "run", run)
    monkeypatch.setattr(launcher, "uv_settings", lambda _python: {})
    return seen


def test_installs_with_uv_under_the_lock(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project goes in editable, with its extras, under the lock."""
    seen = commands(monkeypatch, lambda _command: False)
    environment = launcher.Environment(str(project))

    assert launcher.install(environment, frozenset({"track", "jax"})) == "uv"
    assert seen[-1][:3] == [environment.python, "-m", "uv"]
    assert seen[-1][-4:] == ["-c", str(project / "requirements.lock"), "-e", f"{project}[jax,track]"]


def test_falls_back_to_pip(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any error of uv leads to the same installation by pip."""
    seen = commands(monkeypatch, lambda command: command[2] == "uv")
    environment = launcher.Environment(str(project))

    assert launcher.install(environment, TRACK) == "pip"
    assert seen[-1][:4] == [environment.python, "-m", "pip", "install"]
    assert seen[-1][-4:] == seen[-2][-4:]


def test_says_when_nothing_installs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If pip fails as well the user gets one line of what to check."""
    commands(monkeypatch, lambda _command: True)

    with pytest.raises(launcher.SetupError, match="check the network or pip's settings"):
        launcher.install(launcher.Environment(str(project)), TRACK)
