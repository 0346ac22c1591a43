"""world=local: a scenario for real. One process a device on this machine, TLS links, disks and executors."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from policies import village
from policies.port import Policy
from real_backends import specs
from real_backends.clients import GATEWAY, Clients
from real_backends.fault_script import FaultScript, check_faults
from real_backends.gather import gather, last_leader
from real_backends.models import spec_of
from real_backends.namespaces import Namespaces, NotPermitted
from real_backends.node import load_policy, make_sensors
from real_backends.processes import Processes
from real_backends.victims import Victims
from scenarios.council import electorate
from scenarios.faults import FaultError
from scenarios.groups import fleet_names, groups_of
from scenarios.record import Record
from scenarios.schema import Scenario, ScenarioError
from scenarios.workload import Request, requests

NODES_MAX = 32  # assumption: one host runs this many Python processes without swapping
GRACE_S = 30.0  # assumption: after the run's end, time for requests that are still on their way
LOOK_EVERY_S = 0.2

Progress = Callable[[float, str], None]


def run_local(scenario: Scenario, folder: Path, *, policy: Any = None, progress: Progress | None = None) -> Record:
    """Run a scenario for real.

    Args:
        scenario: what happens; it takes ``duration_s`` of real time.
        folder: where the nodes' files go while it runs; the caller removes it.
        policy: what every node runs instead of the village: a Policy class that runs alone, a function
            (NodeSpec) -> {path: Policy}, or ``file.py:Name`` of either. Both must stand in a file.
        progress: called now and then with (share done, text).

    Raises:
        ScenarioError: the scenario cannot be run on one machine.
        NodeFailed: a node's process ended by itself.
    """
    _check(scenario)
    _check_sensors(scenario)
    where = _policy_name(policy)
    spec = specs.node_spec(scenario, next(iter(specs.node_kinds(scenario))))
    mounted = (load_policy(where) if where else village.node)(spec)
    work = _requests(scenario) if GATEWAY in mounted else []  # a policy that runs alone serves no clients
    with _network(scenario) as network:
        run = _run(scenario, folder, where, mounted, work, progress or (lambda share, text: None), network)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(run)
        with ThreadPoolExecutor(1) as pool:  # a notebook has a loop of its own
            return pool.submit(asyncio.run, run).result()


def _network(scenario: Scenario) -> AbstractContextManager[Namespaces | None]:
    """Return the namespaces that the scenario asks for, or nothing: then cuts are made above TLS.

    Raises:
        ScenarioError: it insists on them, and they are not permitted here.
    """
    if scenario.cuts == "tls":
        return contextlib.nullcontext()
    try:
        return Namespaces(tuple(specs.node_kinds(scenario)))
    except NotPermitted as error:
        if scenario.cuts == "auto":
            return contextlib.nullcontext()
        raise ScenarioError(f"cuts='namespace': not permitted here ({error}); allowed: tls, auto") from None


def _check(scenario: Scenario) -> None:
    """Refuse what one machine cannot run."""
    size = scenario.fleet.size
    if not 1 <= size <= NODES_MAX:
        raise ScenarioError(f"fleet has {size} devices: world=local runs 1 to {NODES_MAX} processes")
    for model in scenario.models:
        spec_of(scenario, model)
    if scenario.pinned and not hasattr(os, "sched_setaffinity"):
        raise ScenarioError("pinned=True: this system cannot keep a process to a core; allowed: false")
    try:
        check_faults(scenario.faults)
    except FaultError as error:
        raise ScenarioError(str(error)) from None


def _check_sensors(scenario: Scenario) -> None:
    """Open the sensors once, as every node will, so that one that is not there is said before any node starts."""
    try:
        make_sensors(scenario)
    except (ValueError, OSError) as error:
        raise ScenarioError(str(error)) from None


def _requests(scenario: Scenario) -> list[Request]:
    """Return the requests, unless one is too long for the model."""
    found = requests(scenario)
    longest = max((r.prompt_tokens + r.new_tokens for r in found), default=0)
    spec = min((spec_of(scenario, model) for model in scenario.models), key=lambda spec: spec.context)
    if longest > spec.context:
        raise ScenarioError(f"workload: a request has {longest} tokens; {spec.name} takes {spec.context}")
    return found


def _policy_name(policy: Any) -> str:
    """Return ``file.py:Name`` of a policy, which the nodes' processes must be able to read."""
    if policy is None or isinstance(policy, str):
        return policy or ""
    file = inspect.getsourcefile(policy)
    if file is None or not Path(file).is_file():
        raise ScenarioError(f"policy={policy.__name__}: world=local needs it in a file, FILE.py:Name")
    return f"{Path(file).resolve()}:{policy.__name__}"


async def _run(
    scenario: Scenario,
    folder: Path,
    policy: str,
    mounted: Mapping[str, Policy],
    work: list[Request],
    progress: Progress,
    network: Namespaces | None,
) -> Record:
    kinds = specs.node_kinds(scenario)
    who = electorate(scenario, kinds)
    committee = who.founders
    clients = Clients(
        who.keepers, scenario.model, spec_of(scenario).vocab, scenario.workload.retry_s, scenario.seed,
        scenario.workload.shared_tokens,
    )  # fmt: skip
    processes = Processes(scenario, tuple(kinds), folder, policy, clients.on_frame, network)
    tasks: list[asyncio.Task[None]] = []
    try:
        progress(0.0, f"starting {len(kinds)} processes")
        await processes.start_all()
        begun_s, begun_ns = time.monotonic(), time.monotonic_ns()
        victims = Victims(
            processes, committee, [name for name in fleet_names(scenario) if name not in committee],
            groups_of(scenario), lambda: last_leader(folder, who.keepers), scenario.seed,
        )  # fmt: skip
        faults = FaultScript(processes, victims, seed=scenario.seed, duration_s=scenario.duration_s, begun_s=begun_s)
        asking = asyncio.ensure_future(clients.run(work, processes.owner, begun_s))
        tasks = [asking, asyncio.ensure_future(faults.run(scenario.faults))]
        while (elapsed_s := time.monotonic() - begun_s) < scenario.duration_s + GRACE_S:
            if elapsed_s >= scenario.duration_s and asking.done():
                break
            processes.check()
            for task in tasks:
                if task.done():
                    task.result()
            share = min(1.0, elapsed_s / scenario.duration_s)
            progress(share, f"{len(clients.asked) - clients.open} requests ended, {clients.open} open")
            await asyncio.sleep(LOOK_EVERY_S)
        progress(1.0, "asking every gateway again")
        retries = await clients.ask_again(processes.owner, scenario.policy.gateway.requests_per_min)
        states = await processes.last_states()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await processes.stop_all()
    progress(1.0, "comparing the answers with one process alone")
    record = gather(
        scenario, folder, kinds, mounted, clients.asked, faults.rows, faults.restarts, states, begun_ns, retries,
        in_namespaces=network is not None,
    )  # fmt: skip
    record.manifest["ready_s"] = processes.ready_s
    return record
