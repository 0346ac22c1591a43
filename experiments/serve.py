"""`twin serve`: a local village of processes behind an OpenAI-compatible endpoint; at its end it leaves a Run."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import shlex
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.compose import UsageError, build, compose_plain
from experiments.folders import run_folder, run_key, show_path
from experiments.present import plain, show, summary

if TYPE_CHECKING:
    from experiments.results import Run
    from scenarios.schema import Scenario

NEEDED = {"starlette": "gateway", "uvicorn": "gateway", "cryptography": "local", "torch": "torch"}
"""What serving imports, and the extra that brings it."""
NAMES = ("desk-tiny",)
WORKERS_MAX = 32  # as many processes as world=local runs
SESSIONS = 32  # at once through a pipeline
SESSIONS_OF_CHECKPOINT = 8  # assumption: caches of larger models, and their steps, are larger
CONTEXT_DEFAULT = 2048  # of `real_backends.executors.llama_layout`, said without importing it
ROOM = 1.001  # what is lent is rounded
COMMITTEE = 3  # the fewest members of which one may fail


def add_arguments(made: argparse.ArgumentParser) -> None:
    """Add the options of `twin serve`."""
    made.epilog = "Ctrl-C writes a Run of what was served; `twin compare RUN` then says what the twin predicts of it"
    made.add_argument("--workers", type=int, default=3, metavar="N", help="worker processes (default 3)")
    made.add_argument("--port", type=int, default=8000, metavar="PORT", help="of 127.0.0.1; 0 takes a free one")
    text = "what to serve: a checkpoint's folder, or desk-tiny (the default)"
    made.add_argument("--model", default="desk-tiny", metavar="DIR", help=text)
    text = "parts that a checkpoint is cut into; a worker has room for the largest (default 2)"
    made.add_argument("--shards", type=int, metavar="N", help=text)
    text = f"tokens of a checkpoint's longest session (default its own, at most {CONTEXT_DEFAULT})"
    made.add_argument("--context", type=int, metavar="N", help=text)


def scenario_of(workers: int, model: str) -> Scenario:
    """Return the village that serves a seeded model: desks on one host, as in four_desks, that lend themselves all day.

    Each works, and the first three, or the only one of fewer, are the committee as well.
    """
    # Sessions as long as the model's context, and so many that a worker has room for 6 of its 8 layers: two of
    # three hold it, and one may fail. A worker alone takes half as many, and all layers.
    made: Scenario = build({**_plain(workers, 256, SESSIONS if workers > 1 else SESSIONS // 2), "model": model})
    return made


def scenario_of_checkpoint(workers: int, folder: Path, shards: int, context: int | None) -> Scenario:
    """Return the village that serves a checkpoint, whose workers offer room for one of so many shards each.

    Raises:
        UsageError: this machine has less memory than that.
        scenarios.schema.ScenarioError: the checkpoint cannot be served, or not in so many shards.
    """
    import msgspec
    import psutil

    from policies import village
    from real_backends.executors import cut_evenly
    from real_backends.gateway.own_tokenizer import tokenizer_of
    from real_backends.models import check_checkpoint, shape_of
    from scenarios.schema import ScenarioError, to_plain

    spec = check_checkpoint(folder, context)
    tokenizer_of(folder, spec.vocab)
    try:
        layers = max(last - first for first, last in cut_evenly(spec, shards))
    except ValueError as error:
        raise ScenarioError(f"--{error}") from None
    plain = _plain(workers, spec.context, SESSIONS_OF_CHECKPOINT)
    plain |= {"model": spec.name, "checkpoint": str(folder.absolute()), "shape": msgspec.to_builtins(shape_of(spec))}
    scenario: Scenario = build(plain)
    card = village.card(scenario.served, scenario.policy)
    room_bytes = layers * (card.layer_bytes + card.kv_bytes_layer) + card.head_bytes * (2 if shards == 1 else 1)
    free_bytes = float(psutil.virtual_memory().available)
    if room_bytes * workers > free_bytes:
        raise UsageError(
            f"--model {folder}: {workers} workers with room for {layers} of {spec.layers} layers and "
            f"{SESSIONS_OF_CHECKPOINT} sessions of {spec.context} tokens need {room_bytes * workers / 2**30:.1f} GiB; "
            f"this machine has {free_bytes / 2**30:.1f} GiB free"
        )
    lent = to_plain(scenario)["policy"]["harvest"]["max_memory"]  # of what a worker has
    shaped = {name: {"memory_bytes": ROOM * room_bytes / lent} for name in _names(workers)}
    fleet = {**plain["fleet"], "shaped": shaped}
    made: Scenario = build({**plain, "fleet": fleet})
    return made


def _names(workers: int) -> list[str]:
    return [f"desk-{number}" for number in range(workers)]


def _plain(workers: int, context: int, sessions: int) -> dict[str, Any]:
    return compose_plain([
        "scenario=four_desks", "world=local", "name=serve", f"fleet.desktops={workers}",
        f"fleet.committee={COMMITTEE if workers >= COMMITTEE else 1}", "profile=''", "workload.requests=0",
        "workload.retry_s=1.0", "policy/membership=swim",
        "policy.gateway.requests_per_min=60000", "policy.gateway.burst=1000",  # all clients count as one
        f"policy.sharding.context_tokens={context}", f"policy.sharding.slots={sessions}",
        "policy.coordination.report_every=1", "policy.coordination.stream=true",
    ])  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code.

    Raises:
        UsageError: an option is out of range, an extra is not installed, or the port cannot be had.
        scenarios.schema.ScenarioError: the model cannot be served.
    """
    if not 1 <= options.workers <= WORKERS_MAX:
        raise UsageError(f"--workers {options.workers}: allowed: 1 to {WORKERS_MAX}")
    if not 0 <= options.port <= 65_535:
        raise UsageError(f"--port {options.port}: allowed: 0 to 65535")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({NEEDED[name] for name in missing}))
        raise UsageError(f"serve: {', '.join(missing)} not installed: pip install 'villagetwin[{extras}]'")
    from experiments.job import check_place, keep
    from experiments.progress import say
    from real_backends.gateway.errors import ApiError
    from real_backends.gateway.server import listen, serve

    scenario, begun_s = _scenario(options), time.monotonic()
    key = run_key(scenario)
    place = run_folder(scenario, key)
    check_place(place, show_path(place))
    try:
        listener = listen(options.port)
    except OSError as error:
        raise UsageError(str(error)) from None
    folder = Path(tempfile.mkdtemp(prefix="twin-serve-"))
    try:
        with listener:
            url = f"http://{listener.getsockname()[0]}:{listener.getsockname()[1]}"

            def ready(processes: dict[str, int]) -> None:
                plain = {"url": url, "model": scenario.model, "processes": processes}
                print(json.dumps(plain) if options.json else welcome(url, scenario.model, processes), flush=True)

            record = asyncio.run(
                serve(scenario, folder, listener, ready, (lambda text: None) if options.quiet else say)
            )
        if record is not None and record.tables["requests"]:
            place = run_folder(scenario, key)  # others may have begun, and ended, meanwhile
            words = ["--workers", str(options.workers), "--model", options.model]
            words += ["--shards", str(options.shards)] if options.shards is not None else []
            words += ["--context", str(options.context)] if options.context is not None else []
            command = shlex.join(["twin", "serve", *words])
            kept = keep(record, place, key, command, time.monotonic() - begun_s)
            show(plain(kept), farewell(kept), options.json)
    except ApiError as error:
        raise OSError(f"the village gave no first answer: {error.message}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _scenario(options: argparse.Namespace) -> Scenario:
    folder = Path(options.model).expanduser()
    if folder.is_dir():
        shards = options.shards if options.shards is not None else min(2, options.workers)
        if not 1 <= shards <= options.workers:
            raise UsageError(f"--shards {shards}: allowed: 1 to {options.workers}, the number of workers")
        return scenario_of_checkpoint(options.workers, folder, shards, options.context)
    if options.model not in NAMES:
        raise UsageError(f"--model {options.model}: no such folder; allowed: a checkpoint's, or {', '.join(NAMES)}")
    for name in ("shards", "context"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"--{name} {getattr(options, name)}: is for a checkpoint's folder; {options.model} has its own"
            )
    return scenario_of(options.workers, options.model)


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
