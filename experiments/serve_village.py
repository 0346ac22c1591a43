"""The villages that `twin serve` serves with: of a seeded model, or of a checkpoint's folder; and their profile."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.compose import UsageError, build, compose_plain, in_home

if TYPE_CHECKING:
    from scenarios.schema import Scenario

SESSIONS = 32  # at once through a pipeline
SESSIONS_OF_CHECKPOINT = 8  # assumption: caches of larger models, and their steps, are larger
ROOM = 1.001  # what is lent is rounded
COMMITTEE = 3  # the fewest members of which one may fail


def scenario_of(workers: int, model: str, smaller: str = "", serving: str = "one_by_one") -> Scenario:
    """Return the village that serves a seeded model: desks on one host, as in four_desks, that lend themselves all day.

    Each works, and the first three, or the only one of fewer, are the committee as well.
    """
    # Sessions as long as the model's context, and so many that a worker has room for 6 of its 8 layers: two of
    # three hold it, and one may fail. A worker alone takes half as many, and all layers.
    plain = _plain(workers, 256, SESSIONS if workers > 1 else SESSIONS // 2, serving)
    made: Scenario = build({**plain, "model": model, "smaller": _smaller(smaller, 256)})
    return made


def scenario_of_checkpoint(
    workers: int, folder: Path, shards: int, context: int | None, smaller: str = "", serving: str = "one_by_one"
) -> Scenario:
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
    plain = _plain(workers, spec.context, SESSIONS_OF_CHECKPOINT, serving)
    plain |= {"model": spec.name, "checkpoint": str(folder.absolute()), "shape": msgspec.to_builtins(shape_of(spec))}
    plain |= {"smaller": _smaller(smaller, spec.context)}
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


def _smaller(model: str, context: int) -> list[dict[str, Any]]:
    """Return the model that serves where the first cannot, a seeded one or a checkpoint's folder, as plain data."""
    import msgspec

    from real_backends.models import check_checkpoint, shape_of

    folder = in_home(model)
    if not model or not folder.is_dir():
        return [{"model": model}] if model else []
    spec = check_checkpoint(folder, context)
    shape = msgspec.to_builtins(shape_of(spec))
    return [{"model": spec.name, "checkpoint": str(folder.absolute()), "shape": shape}]


def _names(workers: int) -> list[str]:
    return [f"desk-{number}" for number in range(workers)]


def _plain(workers: int, context: int, sessions: int, serving: str) -> dict[str, Any]:
    return compose_plain([
        "scenario=four_desks", "world=local", f"policy/serving={serving}", "name=serve", f"fleet.desktops={workers}",
        f"fleet.committee={COMMITTEE if workers >= COMMITTEE else 1}", "profile=''", "workload.requests=0",
        "workload.retry_s=1.0", "policy/membership=swim",
        "policy.gateway.requests_per_min=60000", "policy.gateway.burst=1000",  # all clients count as one
        f"policy.sharding.context_tokens={context}", f"policy.sharding.slots={sessions}",
        "policy.coordination.report_every=1", "policy.coordination.stream=true",
        "policy.coordination.degrade.services=[standard]",  # the class of all that the endpoint asks
    ])  # fmt: skip


def profile_of(scenario: Scenario, *, quiet: bool) -> str:
    """Return the path of this machine's profile for a village; what is not there yet is measured, once.

    A checkpoint's is the machine's with the layers' times of its own shape.

    Raises:
        UsageError: runs/profiles cannot be written.
    """
    from experiments.calibration.executor import EXECUTOR_SHARE, SECONDS, auto_profile, keep_profile
    from experiments.folders import show_path
    from experiments.progress import say
    from real_backends.executors import calibrate, make_shard
    from real_backends.models import open_model
    from scenarios.hosts import read_profile

    machine = auto_profile(scenario, quiet=quiet)
    if not scenario.checkpoint or not machine:
        return machine
    spec, weights = open_model(scenario)
    shape = hashlib.sha256(json.dumps(spec.as_dict(), sort_keys=True).encode()).hexdigest()[:12]
    path = Path(machine).with_name(f"{Path(machine).stem}-{shape}.json")
    if not path.exists():
        if not quiet:
            say(
                f"measuring the layers of {spec.name} for about {SECONDS * EXECUTOR_SHARE:g} s, once: {show_path(path)}"
            )
        law = calibrate(
            lambda first, last: make_shard(scenario.backends[0], spec, weights, first, last),
            spec, SECONDS * EXECUTOR_SHARE,
        )  # fmt: skip
        keep_profile({**read_profile(machine), **law}, path)
    return show_path(path)
