"""Where Runs lie and what names them: a key that finds a result again only while nothing has changed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.compose import UsageError, in_home

if TYPE_CHECKING:
    from scenarios.fleet import FleetScenario
    from scenarios.schema import Scenario

CODE = Path(__file__).resolve().parent.parent
SOURCES = ("models", "policies", "scenarios")
WORLD_SOURCES = {"sim": "sim", "local": "real_backends"}
KEY_CHARS = 12  # 48 bits: two of a million different keys meet with a chance of 0.2 %


def project_root() -> Path:
    """Return the folder of ``runs`` and ``mlflow.db``: the checkout, or where an installed `twin` is called.

    The variable VILLAGETWIN_HOME overrides both.
    """
    if home := os.environ.get("VILLAGETWIN_HOME"):
        return Path(home)
    return CODE if (CODE / "pyproject.toml").exists() else Path.cwd()


def run_key(scenario: Scenario | FleetScenario, policy_file: str = "") -> str:
    """Return the digest of all that decides a result but the seed: scenario, sources, lock, named files."""
    from scenarios.digests import tree_sha256
    from scenarios.fleet import SPEED_ONLY, FleetScenario
    from scenarios.schema import to_plain

    speed_only = SPEED_ONLY if isinstance(scenario, FleetScenario) else ()
    config = {key: value for key, value in to_plain(scenario).items() if key != "seed" and key not in speed_only}
    parts = [json.dumps(config, sort_keys=True)]
    parts.append(tree_sha256(CODE / name for name in (*SOURCES, WORLD_SOURCES[scenario.world])))
    files = (CODE / "requirements.lock", *named_files(scenario, policy_file).values())
    parts += [hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:KEY_CHARS]


def named_files(scenario: Scenario | FleetScenario, policy_file: str = "") -> dict[str, Path]:
    """Return the files that a scenario reads by the words that name them: traces, executor profile, user's policy."""
    from scenarios.sensors import TRACE

    trace, sensors = getattr(getattr(scenario, "workload", None), "path", ""), getattr(scenario, "sensors", "")
    recording = sensors.removeprefix(TRACE) if str(sensors).startswith(TRACE) else ""
    names = {
        "workload.path": trace, "sensors": recording, "profile": getattr(scenario, "profile", ""),
        "-p": policy_file.partition(":")[0],
    }  # fmt: skip
    return {word: Path(name) for word, name in names.items() if name}


def run_folder(scenario: Scenario | FleetScenario, key: str) -> Path:
    """Return where a Run belongs; a real run always takes a new number."""
    folder = project_root() / "runs" / scenario.name / f"{key}-{scenario.seed}"
    if scenario.world == "sim":
        return folder
    number = 1
    while folder.with_name(f"{folder.name}-{number}").exists():
        number += 1
    return folder.with_name(f"{folder.name}-{number}")


def check_place(folder: Path, where: str) -> None:
    """Refuse a folder that cannot be written; ``where`` is what the user knows it by.

    Raises:
        UsageError: with the reason.
    """
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    if not standing.is_dir():
        raise UsageError(f"{where}: cannot be written ({standing} is a file)")
    try:  # only trying tells: permissions say nothing of read-only and special file systems
        os.rmdir(tempfile.mkdtemp(prefix=".twin-", dir=standing))
    except OSError as error:
        raise UsageError(f"{where}: cannot be written ({standing}: {error.strerror})") from None


def is_run(folder: Path) -> bool:
    """Tell whether ``folder`` holds a finished Run."""
    return (folder / "manifest.json").is_file() and (folder / "summary.json").is_file()


def all_runs(under: Path | None = None) -> list[Path]:
    """Return every finished Run under a folder (default: runs), oldest first."""
    top = under or project_root() / "runs"
    found = [file.parent for file in top.rglob("manifest.json") if not _is_hidden(file, top)]
    return sorted((f for f in found if is_run(f)), key=lambda f: ((f / "manifest.json").stat().st_mtime, str(f)))


def find_run(text: str) -> Path:
    """Return the Run that a user means: its folder, or the start of its name under runs.

    Raises:
        UsageError: none, or several.
    """
    found = find_runs(text)
    if len(found) > 1:
        raise UsageError(f"{text}: {len(found)} runs match; name one of {', '.join(show_path(f) for f in found[:4])}")
    return found[0]


def find_runs(text: str) -> list[Path]:
    """Return the Runs that a user means: a folder, one that holds several, or the start of their names.

    Raises:
        UsageError: there is none.
    """
    path = in_home(text)
    if is_run(path):
        return [path]
    found = all_runs(path) if path.is_dir() else []
    if not found and path.name:
        parents = [path.parent] if path.parent != Path(".") else [project_root() / "runs"]
        found = [f for top in parents if top.is_dir() for f in all_runs(top) if f.name.startswith(path.name)]
    if not found:
        known = ", ".join(show_path(f) for f in all_runs()[-3:]) or "none yet; `twin run` makes one"
        raise UsageError(f"{text}: no run there; the latest are: {known}")
    return found


def show_path(path: Path) -> str:
    """Return ``path`` as short as it can be pasted: relative to the current folder if below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _is_hidden(file: Path, top: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(top).parts)
