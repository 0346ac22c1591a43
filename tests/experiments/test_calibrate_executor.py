"""Automatic profiles: measured once, found again, and every refusal in one line before anything is measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import cli, job
from experiments.calibration import executor as calibrate
from experiments.compose import UsageError
from experiments.results import load
from scenarios.hosts import UNMEASURED, read_profile


@pytest.fixture
def measured(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the measurement; return the backends it was asked for."""
    asked: list[str] = []

    def measure(backend: str, seconds: float, out: Path, **options: Any) -> dict[str, Any]:
        asked.append(backend)
        profile = {**UNMEASURED, "hop_s": 7e-4, "hash": "measured"}
        out.write_text(json.dumps(profile))
        return profile

    monkeypatch.setattr(calibrate, "calibrate_executor", measure)
    monkeypatch.setattr(calibrate, "lacking", lambda backend: [])
    monkeypatch.setattr(calibrate, "profile_path", lambda backend: home / "runs" / "profiles" / f"{backend}-x.json")
    return asked


def test_a_profile_is_measured_once_for_both_worlds(home: Path, measured: list[str]) -> None:
    """The second run finds the first one's file; a backend of another kind has its own; deleting it measures anew."""
    first = calibrate.auto_profile(load("four_desks"))
    assert calibrate.auto_profile(load("four_desks", world="local")) == first
    assert measured == ["torch"]
    assert read_profile(first)["hop_s"] == 7e-4
    assert Path(first).parent == Path("runs/profiles")
    assert calibrate.auto_profile(load("four_desks", backends=["jax"])) != first
    Path(first).unlink()
    calibrate.auto_profile(load("four_desks"))
    assert measured == ["torch", "jax", "torch"]


def test_a_run_names_its_profile_by_hash(home: Path, measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`profile: auto` ends as a file in the config and as its hash in the manifest, which `compare` reads."""
    words = ["run", "scenario=four_desks", "duration_s=6", "workload.requests=3", "track=none", "-q"]
    assert cli.main([*words, "out=auto"]) == 0
    assert cli.main([*words, "profile=''", "out=assumed"]) == 0
    manifests = [json.loads((home / name / "manifest.json").read_text()) for name in ("auto", "assumed")]

    assert [m["profile"] for m in manifests] == ["measured", "assumed"]
    assert manifests[0]["config"]["profile"].startswith("runs/profiles/torch-")
    capsys.readouterr()
    assert cli.main(["compare", "auto", "assumed"]) == 0
    assert "different profiles: A measured, B assumed" in capsys.readouterr().out


def test_without_the_backend_the_twin_says_that_it_assumes(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr, and assumed numbers."""
    monkeypatch.setitem(sys.modules, "torch", None)

    assert calibrate.auto_profile(load("four_desks")) == ""
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "profile=auto needs torch: import of torch halted" in line
    assert "until then the twin runs at assumed numbers" in line


def test_a_folder_that_cannot_be_used_is_one_line(home: Path, measured: list[str]) -> None:
    """A file where runs/profiles should be is named, and nothing is measured."""
    (home / "runs").mkdir()
    (home / "runs" / "profiles").write_text("")

    with pytest.raises(UsageError, match=r"^profile=auto: runs/profiles cannot be used: .*$"):
        calibrate.auto_profile(load("four_desks"))
    assert measured == []


def test_what_is_refused_is_refused_before_measuring(home: Path, measured: list[str]) -> None:
    """Nobody waits for a measurement to hear that the output cannot be written."""
    (home / "file").write_text("")

    with pytest.raises(UsageError, match="cannot be written"):
        job.prepare(["scenario=four_desks", "track=none", "out=file/run"])
    assert measured == []


def test_a_node_that_fails_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port in use ends `twin run` with exit code 1 and one line, without a trace."""
    from real_backends import local
    from real_backends.processes import NodeFailed

    def fail(*arguments: Any, **options: Any) -> None:
        raise NodeFailed("desk-0 ended with exit code 2: port 9 on 127.0.0.1 cannot be used by desk-0: in use")

    pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")
    monkeypatch.setattr(local, "run_local", fail)

    assert cli.main(["run", "scenario=four_desks", "world=local", "profile=''", "track=none", "-q"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "twin: world=local: desk-0 ended with exit code 2: port 9 on 127.0.0.1 cannot be used by desk-0: in use"
    ]


def test_a_profile_is_named_by_what_would_make_it_stale(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor or another version of the framework is another file."""
    from real_backends.executors import calibration

    monkeypatch.setattr(calibrate.importlib.metadata, "version", lambda name: "1")
    names = [calibrate.profile_path("torch")]
    monkeypatch.setattr(calibrate.importlib.metadata, "version", lambda name: "2")
    names.append(calibrate.profile_path("torch"))
    monkeypatch.setattr(calibration, "cpu_model", lambda: "another")
    names.append(calibrate.profile_path("torch"))

    assert len({*names, calibrate.profile_path("jax")}) == 4
    assert names[0].parent == home / "runs" / "profiles"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threads", "0"], "--threads 0: allowed: 1 to 256"),
        (["--threads", "100000"], "--threads 100000: allowed: 1 to 256"),
        (["--seconds", "nan"], "--seconds nan: allowed: above 0, to 3600"),
        (["--seconds", "inf"], "--seconds inf: allowed: above 0, to 3600"),
        (["--backend", "cuda"], "--backend cuda: no such backend; allowed: torch, jax, paced"),
        (["--out", "nowhere/p.json"], "--out nowhere/p.json: must be a file in a folder that exists"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_is_measured(
    words: list[str], said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the option, the value and what is allowed, and does not say that it is measuring."""
    assert cli.main(["calibrate", "executor", "--backend", "paced", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list(home.iterdir())
