"""`twin serve`: a local village of processes behind an OpenAI-compatible endpoint; at its end it leaves a Run."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.compose import UsageError, in_home
from experiments.folders import check_place, run_folder, run_key, show_path
from experiments.present import plain, show, summary
from experiments.serve_village import profile_of, scenario_of, scenario_of_checkpoint
from scenarios.extras import why_lacking

if TYPE_CHECKING:
    from experiments.results import Run
    from scenarios.schema import Scenario

NEEDED = ("starlette", "uvicorn", "cryptography", "torch")
"""What serving imports."""
NAMES = ("desk-tiny",)
SMALLER = ("desk-mini",)
SERVING = ("one_by_one", "batched")  # of conf/policy/serving
NODE_REFUSED = 2  # exit code of a node for what it was given, as of `twin`
WORKERS_MAX = 32  # as many processes as world=local runs
CONTEXT_DEFAULT = 2048  # of `real_backends.executors.llama_layout`, said without importing it
CONTEXT_MIN = 16  # of policy.sharding.context_tokens


def add_arguments(made: argparse.ArgumentParser) -> None:
    """Add the options of `twin serve`."""
    made.epilog = "Ctrl-C writes a Run of what was served; `twin compare RUN` then says what the twin predicts of it"
    made.add_argument("--workers", type=int, default=3, metavar="N", help="worker processes (default 3)")
    made.add_argument("--port", type=int, default=8000, metavar="PORT", help="of 127.0.0.1; 0 takes a free one")
    text = "what to serve: a checkpoint's folder, or desk-tiny (the default)"
    made.add_argument("--model", default="desk-tiny", metavar="DIR", help=text)
    text = "what serves where workers are too few for that: a checkpoint's folder, or desk-mini (default: nothing)"
    made.add_argument("--smaller", default="", metavar="DIR", help=text)
    text = "parts that a checkpoint is cut into; a worker has room for the largest (default 2)"
    made.add_argument("--shards", type=int, metavar="N", help=text)
    text = f"tokens of a checkpoint's longest session (default its own, at most {CONTEXT_DEFAULT})"
    made.add_argument("--context", type=int, metavar="N", help=text)
    text = "how a worker takes its sessions: one step at a time, or all in a batch (default one_by_one)"
    made.add_argument("--serving", choices=SERVING, default=SERVING[0], help=text)
    text = "executor profile; auto measures this machine once, '' takes assumed numbers (default auto)"
    made.add_argument("--profile", default="auto", metavar="FILE", help=text)


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code.

    Raises:
        UsageError: an option is out of range, a library cannot be imported, or the port cannot be had.
        scenarios.schema.ScenarioError: the model cannot be served.
    """
    if not 1 <= options.workers <= WORKERS_MAX:
        raise UsageError(f"--workers {options.workers}: allowed: 1 to {WORKERS_MAX}")
    if not 0 <= options.port <= 65_535:
        raise UsageError(f"--port {options.port}: allowed: 0 to 65535")
    if absent := why_lacking(NEEDED):
        raise UsageError(f"serve needs {absent}")
    import msgspec

    from experiments.job import keep
    from experiments.progress import say
    from real_backends.gateway.errors import ApiError
    from real_backends.gateway.server import listen, serve
    from real_backends.processes import NodeFailed
    from scenarios.hosts import AUTO

    scenario, begun_s = _scenario(options), time.monotonic()
    place = run_folder(scenario, "")
    check_place(place, show_path(place.parent))
    try:
        listener = listen(options.port)
    except OSError as error:
        raise UsageError(str(error)) from None
    folder = Path(tempfile.mkdtemp(prefix="twin-serve-"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with listener:
            if options.profile == AUTO:  # last, as it may measure for a while: what can be refused was
                scenario = msgspec.structs.replace(scenario, profile=profile_of(scenario, quiet=options.quiet))
            url = f"http://{listener.getsockname()[0]}:{listener.getsockname()[1]}"

            def ready(processes: dict[str, int]) -> None:
                plain = {"url": url, "model": scenario.model, "processes": processes}
                print(json.dumps(plain) if options.json else welcome(url, scenario.model, processes), flush=True)

            record = asyncio.run(
                serve(scenario, folder, listener, ready, (lambda text: None) if options.quiet else say)
            )
        if record is not None and record.tables["requests"]:
            key = run_key(scenario)
            place = run_folder(scenario, key)
            words = ["--workers", str(options.workers), "--model", options.model]
            words += ["--smaller", options.smaller] if options.smaller else []
            words += ["--shards", str(options.shards)] if options.shards is not None else []
            words += ["--context", str(options.context)] if options.context is not None else []
            words += ["--serving", options.serving] if options.serving != SERVING[0] else []
            words += ["--profile", options.profile] if options.profile != AUTO else []
            command = shlex.join(["twin", "serve", *words])
            kept = keep(record, place, key, command, time.monotonic() - begun_s)
            show(plain(kept), farewell(kept), options.json)
    except ApiError as error:
        raise OSError(f"the village gave no first answer: {error.message}") from None
    except NodeFailed as error:  # one line: the trace would be of the launcher
        if error.code == NODE_REFUSED:  # a checkpoint's values are read by nodes alone
            raise UsageError(str(error)) from None
        raise OSError(str(error)) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _scenario(options: argparse.Namespace) -> Scenario:
    import msgspec

    from scenarios.hosts import AUTO, read_profile

    read_profile(options.profile)
    given = "" if options.profile == AUTO else options.profile
    return msgspec.structs.replace(_village(options), profile=given)


def _village(options: argparse.Namespace) -> Scenario:
    folder = in_home(options.model)
    if options.smaller and not in_home(options.smaller).is_dir() and options.smaller not in SMALLER:
        allowed = f"a checkpoint's, or {', '.join(SMALLER)}"
        raise UsageError(f"--smaller {options.smaller}: no such folder; allowed: {allowed}")
    if options.context is not None and options.context < CONTEXT_MIN:
        raise UsageError(f"--context {options.context}: allowed: from {CONTEXT_MIN}, to what the checkpoint takes")
    if options.model and folder.is_dir():
        shards = options.shards if options.shards is not None else min(2, options.workers)
        if not 1 <= shards <= options.workers:
            raise UsageError(f"--shards {shards}: allowed: 1 to {options.workers}, the number of workers")
        return scenario_of_checkpoint(
            options.workers, folder, shards, options.context, options.smaller, options.serving
        )
    if options.model not in NAMES:
        raise UsageError(
            f"--model {options.model or repr('')}: no such folder; allowed: a checkpoint's, or {', '.join(NAMES)}"
        )
    for name in ("shards", "context"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name} {getattr(options, name)}: is for a checkpoint's folder; {options.model} has its own"
            )
    return scenario_of(options.workers, options.model, options.smaller, options.serving)


def welcome(url: str, model: str, processes: dict[str, int]) -> str:
    """Return what is printed once the village answers: where it is and how to talk to it."""
    nodes = ", ".join(f"{name} (process {pid})" for name, pid in processes.items())
    return f"""\
serving {model} at {url}/v1 from {nodes}

  curl {url}/v1/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "prompt": "Hello, village.", "max_tokens": 32, "stream": true}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="none")

also: {url}/healthz, {url}/metrics; Ctrl-C stops the village and writes down what it served"""


def farewell(run: Run) -> str:
    """Return what is printed at the end: what was measured, and how to see what the twin says of it."""
    assert run.folder is not None
    where = show_path(run.folder)
    return f"""\
{summary(run)}

  twin show {where}
  twin compare {where}    # what the twin predicts of these requests, beside what was measured"""
