"""The distribution's promises: the lock, the names of our packages, and who may import whom."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
FLOORS = ["models", "policies", "scenarios", "sim", "real_backends", "experiments"]
LOCKED_EXTRAS = sorted(set(EXTRAS) - {"torch", "all"})
WANTED = [Requirement(line) for line in PROJECT["dependencies"]] + [
    Requirement(line) for extra in LOCKED_EXTRAS for line in EXTRAS[extra]
]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_lock_satisfies_pyproject(python: str, system: str) -> None:
    """On every supported Python and system each requirement has exactly one pin, inside its range."""
    place = {
        "python_version": python,
        "python_full_version": f"{python}.7",
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        "os_name": "nt" if system == "win32" else "posix",
        "platform_machine": "arm64" if system == "darwin" else "x86_64",
    }
    pins = [pin for pin in LOCK if pin.marker is None or pin.marker.evaluate(place)]
    for wanted in WANTED:
        found = [str(pin.specifier) for pin in pins if canonicalize_name(pin.name) == wanted.name]
        assert len(found) == 1, f"{wanted} has the pins {found}"
        assert wanted.specifier.contains(found[0].removeprefix("==")), f"{wanted} is pinned {found[0]}"


def test_torch_is_exact_and_outside_the_lock() -> None:
    """Each machine takes its own build of one torch version, so the lock names neither it nor its wheels."""
    assert EXTRAS["torch"] == ["torch==2.13.0"]
    assert not [pin.name for pin in LOCK if pin.name in {"torch", "triton"} or pin.name.startswith("nvidia-")]


@pytest.mark.parametrize("name", FLOORS)
def test_package_name_is_ours_alone(name: str) -> None:
    """Our general names shadow, and are shadowed by, no other installed distribution."""
    assert set(packages_distributions().get(name, ())) <= {"villagetwin"}


@pytest.mark.parametrize("name", FLOORS)
def test_package_is_typed_and_shipped(name: str) -> None:
    """Every floor is a typed package and part of the wheel."""
    assert (ROOT / name / "__init__.py").exists()
    assert (ROOT / name / "py.typed").exists()
    assert name in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_no_script_hides_a_package() -> None:
    """A script's folder comes first on sys.path, so nothing in it may be called like a floor."""
    scripts = [*ROOT.glob("notebooks/*"), *ROOT.glob("experiments/*")]

    assert not [path.name for path in scripts if path.stem in FLOORS]


def test_launcher_and_pyproject_agree() -> None:
    """The launcher cannot read pyproject.toml on its fast path; what it repeats must be the same."""
    launcher = runpy.run_path(str(ROOT / "twin"))
    (everything,) = EXTRAS["all"]
    (_, oldest), (_, newest) = launcher["OLDEST"], launcher["NEWEST"]

    assert Requirement(everything).extras == launcher["ALL"]
    assert PROJECT["requires-python"] == f">=3.{oldest},<3.{newest + 1}"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no executable bit")
@pytest.mark.parametrize("script", ["twin", ".ci/run"])
def test_script_is_executable(script: str) -> None:
    """The two files that people and machines start can be started."""
    assert os.access(ROOT / script, os.X_OK)


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the import contracts of the tree in a folder."""
    environ = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache", "--config", str(folder / "pyproject.toml")]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)


def test_tree_keeps_its_import_contracts() -> None:
    """A folder imports only what stands below it, and policies stay pure."""
    done = lint_imports(ROOT)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("importer", "line", "broken"),
    [
        ("models/heat.py", "import policies", "A folder imports only what stands below it"),
        ("policies/port.py", "import scenarios", "A folder imports only what stands below it"),
        ("sim/world.py", "import real_backends", "A folder imports only what stands below it"),
        ("policies/port.py", "import time", "A policy reaches no clock"),
        ("policies/port.py", "import models.clock", "A policy reaches no clock"),
        ("policies/port.py", "def late():\n    import torch", "A policy opens no file"),
        ("policies/harvest/solar.py", "import policies.consensus.vote", "Families of policies do not know"),
        ("policies/wire.py", "import policies.harvest.solar", "In policies only the village"),
        ("policies/consensus/vote.py", "import policies.village", "Families of policies do not know"),
    ],
)
def test_broken_contract_is_seen(importer: str, line: str, broken: str, tmp_path: Path) -> None:
    """Each contract really refuses what it is there to refuse."""
    families = PYPROJECT["tool"]["importlinter"]["contracts"][-1]["protected_modules"]
    for package in [*FLOORS, *(family.replace(".", "/") for family in families)]:
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").touch()
    for module in ["policies/village.py", "policies/harvest/solar.py", "policies/consensus/vote.py"]:
        (tmp_path / module).touch()
    (tmp_path / "models" / "clock.py").write_text("import time\n")
    (tmp_path / importer).write_text(line + "\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    done = lint_imports(tmp_path)
    verdicts = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]

    assert done.returncode == 1, done.stdout + done.stderr
    assert [text for text in verdicts if text.startswith(broken)], done.stdout
