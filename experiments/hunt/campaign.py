"""A campaign: many seeds in worker processes, resumable, stopped by what it finds.

Seeds are done in chunks, each one point of a `experiments.sweep`: its journal is what a campaign resumes from. Beside
the seeds run those of the arena's canary, a defect that must be found: a hunt that does not find it is blind. A share
of the seeds is run once more in a fresh process with another hash seed, and must give the same digest. A smaller share
runs with the purity nets of `sim.guard` under every step, which change no digest.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

import msgspec

from experiments.hunt.arenas import arena
from experiments.hunt.line import version
from experiments.hunt.swarm import draw
from experiments.progress import Progress
from experiments.sweep import Point, sweep
from policies.rng import Rng
from scenarios import faults as f
from scenarios.schema import ScenarioError
from scenarios.trial import Trial, build_trial, plain
from sim.guard import Guards
from sim.poison import PurityError
from sim.world import few_collections

CHUNK = 25
"""Seeds a worker does between two reports: half a second of work."""
CANARY_SEEDS = 200
"""Seeds in which the canary must be found."""
DOUBLE_SHARE = 0.05
"""Share of seeds that run twice: FoundationDB's ratio."""
GUARDED_SHARE = 0.01
"""Share of seeds that run guarded, so that all of them together cost less than one per cent."""
GUARDS = Guards(copy_every=256, lines_max=0)
"""Their nets. Copies are rare and lines are not counted: both are dear, and a step that does not end is seen anyway."""
ENOUGH_SEEDS = 200
"""From here on what never happened counts against a campaign."""


@dataclass(frozen=True)
class Plan:
    """What a campaign does.

    Attributes:
        shape: every trial but for seed and faults.
        seeds: which.
        kinds: names of the only kinds of fault; () is all of the arena's.
        failures: stop when so many seeds have broken a promise.
        double: share of the seeds that run twice.
        guarded: share of the seeds that run with purity nets.
    """

    shape: Trial
    seeds: range
    kinds: tuple[str, ...] = ()
    failures: int = 1
    double: float = DOUBLE_SHARE
    guarded: float = GUARDED_SHARE


@dataclass
class Found:
    """A seed that broke a promise."""

    seed: int
    check: str
    why: str
    at_s: float


@dataclass
class Impure:
    """A guarded seed in which a policy was no pure function of its inputs."""

    seed: int
    why: str


@dataclass
class Campaign:
    """What a campaign came to.

    Attributes:
        seeds: how many ran.
        cpu_s, steps, simulated_s: their sums.
        checks_share: mean share of a run's time that asking took.
        found: seeds that broke a promise, in order.
        sometimes: how many seeds saw each interesting thing.
        kinds: how many seeds met each kind of fault.
        canary_seed: the first seed that found the canary, None if none did.
        doubled: seeds that ran twice, and those whose digests differed.
        guarded: seeds that ran with purity nets, and those that ended in one.
    """

    seeds: int = 0
    cpu_s: float = 0.0
    steps: int = 0
    simulated_s: float = 0.0
    checks_s: float = 0.0
    found: list[Found] = field(default_factory=list)
    sometimes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    canary_seed: int | None = None
    doubled: int = 0
    mismatches: list[str] = field(default_factory=list)
    guarded: int = 0
    impure: list[Impure] = field(default_factory=list)

    @property
    def checks_share(self) -> float:
        """Share of the runs' time that asking the checks took."""
        return self.checks_s / self.cpu_s if self.cpu_s else 0.0

    def add(self, result: dict[str, Any]) -> None:
        """Take in a chunk's result."""
        self.seeds += result["seeds"]
        self.cpu_s += result["cpu_s"]
        self.steps += result["steps"]
        self.simulated_s += result["simulated_s"]
        self.checks_s += result["checks_s"]
        self.found += [Found(**row) for row in result["found"]]
        self.found.sort(key=lambda one: one.seed)
        self.guarded += result["guarded"]
        self.impure += [Impure(**row) for row in result["impure"]]
        self.impure.sort(key=lambda one: one.seed)
        self.sometimes.update({name: 0 for name in result["sometimes"]})
        self.sometimes.update(result["sometimes"])
        self.kinds.update(result["kinds"])

    def never(self) -> list[str]:
        """Return what is interesting and never happened."""
        return sorted(name for name, count in self.sometimes.items() if not count)


def kinds_of(names: Sequence[str], allowed: Sequence[type]) -> tuple[type, ...]:
    """Return kinds of fault by name.

    Raises:
        ScenarioError: the arena has none of that name.
    """
    by_name = {f.kind_of(kind): kind for kind in allowed}
    for name in names:
        if name not in by_name:
            raise ScenarioError(f"kinds={name!r}: not in this arena; allowed: {', '.join(sorted(by_name))}")
    return tuple(by_name[name] for name in names)


def run_chunk(point: list[str]) -> dict[str, Any]:
    """Run the seeds of one chunk.

    A point is its shape, its kinds, its first and last seed, and the shares that are doubled and guarded.
    """
    shape, kinds, first, last, double, guarded = build_trial(json.loads(point[1])), point[2], *point[3:7]
    place = arena(shape.arena)
    only = kinds_of([name for name in kinds.split(",") if name], place.kinds)
    begun = process_time()
    steps, simulated_s, checks_s = 0, 0.0, 0.0
    sometimes: Counter[str] = Counter()
    struck: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    digests: dict[str, str] = {}
    nets, impure = 0, []
    with few_collections():
        for seed in range(int(first), int(last) + 1):
            before_s = process_time()
            guards = GUARDS if Rng(seed, shape.arena, "guarded", 0).random() < float(guarded) else None
            nets += guards is not None
            try:
                outcome = place.run(draw(place, shape, seed, only), guards=guards)
            except PurityError as error:
                impure.append({"seed": seed, "why": str(error)})
                continue
            checks_s += outcome.checks_share * (process_time() - before_s)
            steps, simulated_s = steps + outcome.steps, simulated_s + outcome.simulated_s
            sometimes.update({name: int(happened) for name, happened in outcome.sometimes.items()})
            struck.update(outcome.kinds)
            if outcome.broken:
                found.append({"seed": seed, "check": outcome.check, "why": outcome.why, "at_s": outcome.at_s})
            if Rng(seed, shape.arena, "double", 0).random() < float(double):
                digests[str(seed)] = outcome.digest
            gc.collect(0)  # a world is a web of cycles; let go while it is still in the processor's cache
    return {
        "seeds": int(last) - int(first) + 1, "cpu_s": process_time() - begun, "steps": steps,
        "simulated_s": simulated_s, "checks_s": checks_s, "found": found, "sometimes": dict(sometimes),
        "kinds": dict(struck), "digests": digests, "guarded": nets, "impure": impure,
    }  # fmt: skip


def run(plan: Plan, folder: Path, *, jobs: int, progress: Progress) -> Campaign:
    """Run a campaign, or what is missing of it.

    Raises:
        KeyboardInterrupt: what is finished is in the folder's journal.
        RuntimeError: a chunk could not be run: our fault, or a worker was killed.
    """
    place = arena(plan.shape.arena)
    place.check(plan.shape)
    kinds_of(plan.kinds, place.kinds)
    hunted, canaries = list(_chunks("seeds", plan)), list(_chunks("canary", _canary(plan, place.canary)))
    state = Campaign()

    def seen(point: Point) -> bool:
        """Take in a chunk; tell whether the campaign may end."""
        if point.status == "failed":
            raise RuntimeError(f"{' '.join(point.words[:1])}: {point.result['error']}")
        if point.words[0] == "canary":
            caught = [row["seed"] for row in point.result["found"]]
            state.canary_seed = min(caught) if caught else None
            return False
        state.add(point.result)
        return bool(state.impure) or len(state.found) >= plan.failures

    def report(share: float, text: str) -> None:
        rate = state.seeds / state.cpu_s if state.cpu_s else 0.0
        seen_things = sum(map(bool, state.sometimes.values()))
        progress(
            share,
            f"{state.seeds} seeds, {rate:.0f}/s a core, {state.simulated_s / 3600:.1f} h simulated, "
            f"{len(state.found)} broken, {len(state.impure)} of {state.guarded} guarded impure, "
            f"{len(state.kinds)}/{len(place.kinds)} kinds, "
            f"{seen_things}/{len(state.sometimes)} rare things seen",
        )

    for canary in canaries:  # as many as it takes
        sweep([canary], folder, work=run_chunk, key_of=_key, until=seen)
        if state.canary_seed is not None:
            break
    points = sweep(hunted, folder, jobs=jobs, work=run_chunk, key_of=_key, progress=report, until=seen)
    digests = {seed: digest for point in points for seed, digest in point.result["digests"].items()}
    _double(plan, digests, state)
    return state


def _key(words: list[str]) -> str:
    return version()


def _canary(plan: Plan, defect: str) -> Plan:
    shape = msgspec.structs.replace(plan.shape, policy=defect)
    return Plan(shape, range(1, CANARY_SEEDS + 1), double=0.0, guarded=0.0)


def _chunks(what: str, plan: Plan) -> Iterator[list[str]]:
    shape, kinds = json.dumps(plain(plan.shape)), ",".join(plan.kinds)
    for first in range(plan.seeds.start, plan.seeds.stop, CHUNK):
        last = min(first + CHUNK, plan.seeds.stop) - 1
        yield [what, shape, kinds, str(first), str(last), str(plan.double), str(plan.guarded)]


def _double(plan: Plan, digests: dict[str, str], state: Campaign) -> None:
    """Run the chosen seeds again, in a fresh process with another hash seed, and compare."""
    if not digests:
        return
    asked = {"shape": plain(plan.shape), "kinds": plan.kinds, "seeds": sorted(map(int, digests))}
    hash_seed = "271828" if os.environ.get("PYTHONHASHSEED") != "271828" else "314159"
    done = subprocess.run(
        [sys.executable, "-m", "experiments.hunt.again"], input=json.dumps(asked), capture_output=True, text=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed}, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the second process failed: {done.stderr.strip().splitlines()[-1:]}")
    again: dict[str, str] = json.loads(done.stdout)
    state.doubled = len(digests)
    state.mismatches = [seed for seed, digest in digests.items() if again[seed] != digest]
