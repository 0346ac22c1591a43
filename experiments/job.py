"""From words to a finished Run: everything that can be refused is refused before anything is written."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from experiments.compose import RunOptions, UsageError, build, compose
from experiments.folders import check_place, is_run, named_files, project_root, run_folder, run_key, show_path
from experiments.progress import Progress, say
from experiments.results import Run
from scenarios.extras import why_lacking
from scenarios.raised import line_of

if TYPE_CHECKING:
    from scenarios.fleet import FleetScenario
    from scenarios.record import Record
    from scenarios.schema import Scenario

REAL_MAX_S = 600.0  # a longer real run needs --really: it takes as long as it says


@dataclass(frozen=True)
class Job:
    """A run that may start.

    Attributes:
        scenario: what to run.
        options: how.
        key: digest of all that decides the result but the seed.
        folder: where the Run goes.
        command: the line that repeats it.
    """

    scenario: Scenario | FleetScenario
    options: RunOptions
    key: str
    folder: Path
    command: str

    @property
    def finished(self) -> bool:
        """Whether this very simulated run is there already."""
        same = _identity(self.folder) == (self.key, self.scenario.seed)
        return same and self.scenario.world == "sim" and not self.options.fresh


def prepare(words: Sequence[str]) -> Job:
    """Turn a command line's words into a job, or refuse.

    Raises:
        UsageError, scenarios.schema.ScenarioError: one line for the user.
        experiments.promote.GateRefused: ``policy.alias`` names other policies than these.
    """
    import msgspec

    from scenarios.fleet import FleetScenario
    from scenarios.hosts import AUTO

    plain, options = compose(words)
    scenario = build(plain)
    if isinstance(scenario, FleetScenario):
        _check_fleet(scenario, options)
    automatic = getattr(scenario, "profile", "") == AUTO
    if automatic:
        scenario = msgspec.structs.replace(scenario, profile="")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,63}", scenario.name):
        raise UsageError(f"name={scenario.name!r}: names a folder; letters, digits, '_', '-' and '.' are allowed")
    for word, file in named_files(scenario, options.policy_file).items():
        if not file.is_file():
            raise UsageError(f"{word}={file}: no such file")
    if scenario.world == "local":
        _check_real(scenario, options)
    if options.policy_alias:
        from experiments.promote import require_alias

        require_alias(options.policy_alias)
    if automatic:  # last, as it may measure for a while: what can be refused was
        from experiments.calibration.executor import auto_profile

        if options.out:
            check_place(options.out.absolute(), f"out={show_path(options.out.absolute())}")
        scenario = msgspec.structs.replace(scenario, profile=auto_profile(scenario, quiet=options.quiet))
    key = run_key(scenario, options.policy_file)
    folder = (options.out or run_folder(scenario, key)).absolute()
    _check_folder(folder, (key, scenario.seed), options)
    command = shlex.join(["twin", "run", *(word for word in words if word not in ("-q", "--quiet", "--json"))])
    return Job(scenario, options, key, folder, command)


def perform(job: Job, progress: Progress) -> Run:
    """Run the job, write its Run with the report, and log it."""
    begun = time.monotonic()
    policy = load_policy(job.options.policy_file) if job.options.policy_file else None
    try:
        record = _in_world(job, policy, progress)
    except Exception as error:
        path = job.options.policy_file.partition(":")[0]
        if path and (line := line_of(error, path)):  # what the user's own policy raised is no fault of ours
            raise UsageError(f"-p {path}:{line}: {type(error).__name__}: {error}") from None
        # Asked only now: to ask loads it, two seconds, and a fleet's workers fail of it before their first window.
        if getattr(job.scenario, "backend", "") == "jax" and (absent := why_lacking(["jax"])):
            raise UsageError(f"backend=jax needs {absent}") from None
        raise
    if job.options.policy_alias:
        from experiments.promote import require_alias

        require_alias(job.options.policy_alias, record.manifest.get("policies", {}))
    progress(1.0, "report")
    run = keep(record, job.folder, job.key, job.command, time.monotonic() - begun, job.options.policy_alias)
    shutil.rmtree(checkpoint_folder(job.folder), ignore_errors=True)
    if job.options.track == "mlflow":
        progress(1.0, "mlflow.db")  # its import and, at first, its tables take seconds
        track(run)
    return run


def keep(record: Record, folder: Path, key: str, command: str, wall_s: float, policy_alias: str = "") -> Run:
    """Write a record as a Run with its report; ``key`` and ``command`` as in `Job`."""
    from experiments.report import write_report
    from scenarios.record import write

    record.manifest["run"] = {
        "key": key,
        "command": command,
        "wall_s": round(wall_s, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "policy_alias": policy_alias,
    }
    write(record, folder)
    run = Run(record, folder)
    write_report(run, folder / "report.html")
    return run


def track(run: Run, *, parent: str = "") -> str:
    """Log a finished Run to MLflow; without MLflow, or if it fails, say so and go on."""
    if absent := why_lacking(["mlflow"]):
        say(f"tracking needs {absent}, or track=none; going on without it")
        return ""
    from experiments.track import log_run

    try:
        return log_run(run, parent=parent)
    except Exception as error:  # a tracker's failure must not cost a finished run
        first = (str(error) or "failed").splitlines()[0]
        say(f"mlflow: {type(error).__name__}: {first}; the Run itself is complete")
        return ""


def load_policy(name: str) -> Any:
    """Load the user's policy, ``FILE.py`` or ``FILE.py:Class``; without a name, the file's only Policy.

    Raises:
        UsageError: the file is no Python or breaks as it is loaded, or names no policy; one line for the user.
    """
    from policies.port import Policy

    path, _, wanted = name.partition(":")
    spec = importlib.util.spec_from_file_location(f"outside_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"-p {path}: is not a Python file")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where its digest finds its text
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a stranger's file may do
        where = f"{path}:{line}" if (line := line_of(error, path)) else path
        raise UsageError(f"-p {where}: cannot be loaded: {type(error).__name__}: {error}") from None
    own = {
        key: value for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Policy) and value.__module__ == module.__name__
    }  # fmt: skip
    if wanted and wanted not in vars(module):
        raise UsageError(f"-p {name}: no such class; the file defines {', '.join(own) or 'no policy'}")
    if not wanted and len(own) != 1:
        raise UsageError(f"-p {path}: defines {len(own)} policies; name one, e.g. -p {path}:{next(iter(own), 'Class')}")
    found = getattr(module, wanted) if wanted else next(iter(own.values()))
    if not isinstance(found, FunctionType) and not (isinstance(found, type) and issubclass(found, Policy)):
        raise UsageError(f"-p {name}: is no policy; allowed: a subclass of policies.port.Policy, or a function")
    return found


def _in_world(job: Job, policy: Any, progress: Progress) -> Record:
    from scenarios.fleet import FleetScenario

    if isinstance(job.scenario, FleetScenario):
        from sim.fleet.record import simulate_fleet

        return simulate_fleet(job.scenario, checkpoint_folder(job.folder), progress)
    if job.scenario.world == "sim":
        from sim.village import simulate

        return simulate(job.scenario, progress=progress, policy=policy)
    from real_backends.local import run_local
    from real_backends.node import POLICY_RAISED
    from real_backends.processes import NodeFailed

    work = job.folder.with_name(f".{job.folder.name}.{os.getpid()}.work")
    work.mkdir(parents=True)
    try:
        return run_local(job.scenario, work, policy=policy, progress=progress)
    except NodeFailed as error:
        if error.code == POLICY_RAISED:
            path = job.options.policy_file.partition(":")[0]
            raise UsageError(f"-p {path}:{error.said}") from None
        raise OSError(f"world=local: {error}") from None  # one line: the trace would be of the launcher
    finally:
        shutil.rmtree(work, ignore_errors=True)


def checkpoint_folder(folder: Path) -> Path:
    """Return where a fleet's run keeps its state until it is finished."""
    return folder.with_name(f".{folder.name}.state")


def _check_fleet(scenario: FleetScenario, options: RunOptions) -> None:
    for given, word in ((options.policy_file, "-p"), (options.policy_alias, "policy.alias")):
        if given:
            raise UsageError(f"{word}: is for villages with nodes; a fleet's policy is a choice of policy/harvest")


def _check_real(scenario: Scenario, options: RunOptions) -> None:
    computing = dict.fromkeys(scenario.backends) if scenario.executor == "model" else ()
    if absent := why_lacking((*computing, "cryptography")):
        raise UsageError(f"world=local needs {absent}")
    if scenario.duration_s > REAL_MAX_S and not options.really:
        raise UsageError(
            f"duration_s={scenario.duration_s:g}: world=local takes that long for real; "
            f"at most {REAL_MAX_S:g} s without --really"
        )


def _check_folder(folder: Path, identity: tuple[str, int], options: RunOptions) -> None:
    where = f"out={show_path(folder)}" if options.out else show_path(folder)
    check_place(folder, where)
    if folder == project_root().absolute():
        raise UsageError(f"{where}: is the project's own folder; choose one for the run")
    if folder.exists() and not is_run(folder) and any(folder.iterdir()):
        raise UsageError(f"{where}: holds something other than a run; choose another folder")
    if options.out and is_run(folder) and not options.fresh and _identity(folder) != identity:
        raise UsageError(f"{where}: holds another run; --fresh replaces it")


def _identity(folder: Path) -> tuple[str, int]:
    """Return the key and the seed of the Run in ``folder``; nobody's if there is none, or a damaged one."""
    if not is_run(folder):
        return "", -1
    try:
        run = Run(folder=folder)
        return str(dict(run.manifest.get("run", {})).get("key", "")), run.seed
    except (TypeError, ValueError):  # it is told to be run again, so that must not be refused
        return "", -1
