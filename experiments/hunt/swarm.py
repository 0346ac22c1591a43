"""Swarms: for each seed another mix of faults, and of liars where an arena allows them.

Every kind is switched on or off by the seed (swarm testing: Groce and others, ISSTA 2012; what a run leaves out matters
as much as what it has, since one kind may hide another). Draws are keyed by the seed and the arena alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from experiments.hunt.arena import Arena, groups
from policies.rng import Rng
from scenarios import faults as f
from scenarios.adversaries.behaviours import Behaviour
from scenarios.faults import Fault
from scenarios.trial import Trial

LENGTH_MIN_SHARE = 0.02
"""Shortest spell, as a share of the storm; the longest is half of it (our choice: several fit, and some overlap)."""
NEAR_SHARE = 0.03
"""How soon after another a fault comes that comes soon, as a share of the storm (our choice)."""
LIARS_SHARE = 0.6
"""Share of the trials with liars, where an arena allows some: the others show the crash faults alone (our choice)."""


def draw(arena: Arena, shape: Trial, seed: int, kinds: Sequence[type] = ()) -> Trial:
    """Draw the trial of a seed.

    Args:
        arena: whose faults are drawn.
        shape: everything but seed, faults and, unless it names some, liars.
        kinds: draw only these; () is all the arena's.
    """
    rng = Rng(seed, arena.name, "swarm", 0)
    on = [kind for kind in (kinds or arena.kinds) if rng.random() < 0.5] or list(kinds or arena.kinds)
    count = 1 + rng.below(arena.faults_max)
    disks = list(shape.names[: arena.committee(shape)])
    # A disk may rot on a minority only: the majority's are the last good copies.
    may_rot = [disks.pop(rng.below(len(disks))) for _ in range((len(disks) - 1) // 2)]
    drawn: list[Fault | None] = []
    at_s = 0.0
    for _ in range(count):
        # Half of the faults come soon after another: what breaks a protocol is often two things at once.
        near = at_s + rng.uniform(0.0, NEAR_SHARE) * shape.storm_s
        at_s = near if drawn and rng.random() < 0.5 else rng.uniform(0.0, shape.storm_s)
        kind = on[rng.below(len(on))]
        drawn.append(_fault(rng, kind, min(at_s, 0.95 * shape.storm_s), shape, arena, may_rot))
    faults = tuple(sorted((one for one in drawn if one is not None), key=lambda one: getattr(one, "at_s", 0.0)))
    return msgspec.structs.replace(shape, seed=seed, faults=faults, liars=shape.liars or _liars(arena, shape, seed))


def _liars(arena: Arena, shape: Trial, seed: int) -> dict[str, tuple[Behaviour, ...]]:
    """Draw who lies, and how: nobody, or up to the arena's budget; from the start, or from some moment in the storm."""
    rng = Rng(seed, arena.name, "liars", 0)
    if not arena.lies or rng.random() >= LIARS_SHARE:
        return {}
    names = list(shape.names[: arena.committee(shape)])
    liars = [names.pop(rng.below(len(names))) for _ in range(1 + rng.below(arena.liars_max))]
    drawn = {}
    for name in sorted(liars):
        lies = arena.lies[rng.choice(tuple(arena.lies))]
        from_s = round(rng.uniform(0.0, shape.storm_s), 4) if rng.random() < 0.5 else 0.0
        drawn[name] = tuple(one.starting(from_s) for one in lies)
    return drawn


def _near_timeout_s(rng: Rng, arena: Arena, longest_s: float) -> float:
    """Draw a length of time: up to a bound or, in half of the cases, around one of the arena's time-outs.

    Just below a time-out a message comes too late and nobody has given up yet: there protocols break.
    """
    if arena.timeouts_s and rng.random() < 0.5:
        return round(rng.choice(arena.timeouts_s) * rng.uniform(0.05, 1.5), 5)
    return round(rng.uniform(0.02, 1.0) * longest_s, 5)


def _fault(rng: Rng, kind: Any, at_s: float, shape: Trial, arena: Arena, may_rot: list[str]) -> Fault | None:
    """Draw one fault of a kind; None where nobody may suffer it."""
    if kind is f.Rot and not may_rot:
        return None
    if kind is f.Cut and shape.nodes < 2:
        return None
    fields = kind.__struct_fields__
    given: dict[str, Any] = {"at_s": round(at_s, 4)} if "at_s" in fields else {}
    if "for_s" in fields:
        given["for_s"] = round(rng.uniform(LENGTH_MIN_SHARE, 0.5) * shape.storm_s, 4)
    if "node" in fields:
        given["node"] = rng.choice(may_rot) if kind is f.Rot else _who(rng, shape, arena)
    if kind is f.Rot:  # a coin that is drawn already, the last digit of a time: another draw would change every seed
        given["damage"] = ("bit", "misdirected")[round(given["at_s"] * 10_000) % 2]
    if kind in _DRAWS:
        given |= _DRAWS[kind](rng, shape, arena)
    return kind(**given)


def _who(rng: Rng, shape: Trial, arena: Arena) -> str:
    """Draw a victim: the leader in one of three cases, for it is where things break."""
    return "leader" if arena.committee(shape) and rng.random() < 1 / 3 else rng.choice(shape.names)


def _crash(rng: Rng, shape: Trial, arena: Arena) -> dict[str, Any]:
    writes = rng.choice(("lost", "torn", "reordered", "corrupted"))
    longest = NEAR_SHARE if rng.random() < 0.5 else 0.3  # a process that is back at once has lost only its memory
    return {"down_s": _near_timeout_s(rng, arena, longest * shape.storm_s), "writes": writes}


def _churn(rng: Rng, shape: Trial, arena: Arena) -> dict[str, Any]:
    """Draw restless nodes: each falls some times in a storm, and is back soon."""
    mean_s = rng.uniform(0.05, 0.5) * shape.storm_s
    down_s = _near_timeout_s(rng, arena, 10.0 ** rng.uniform(-3.0, -1.0) * shape.storm_s)
    return {
        "mean_hours": round(mean_s / 3600.0, 8), "down_median_s": down_s, "down_sigma": 0.5,
        "shape": round(rng.uniform(0.5, 2.0), 2),
    }  # fmt: skip


def _partition(rng: Rng, shape: Trial, arena: Arena) -> dict[str, Any]:
    names = list(shape.names)
    group = [names.pop(rng.below(len(names))) for _ in range(1 + rng.below(max(1, len(names) - 1)))]
    return {"group": tuple(sorted(group)), "one_way": rng.random() < 0.3}


def _cut(rng: Rng, shape: Trial, arena: Arena) -> dict[str, Any]:
    names = shape.names
    pairs = {(a, b) for k, a in enumerate(names) for b in names[k + 1 :] if rng.random() < 0.4}
    return {"pairs": tuple(sorted(pairs)) or ((names[0], names[1]),), "one_way": rng.random() < 0.3}


def _nodes(rng: Rng, shape: Trial) -> tuple[str, ...]:
    """Draw whose links are bad: everybody's, or some nodes'."""
    if rng.random() < 0.5:
        return ()
    return tuple(sorted({rng.choice(shape.names) for _ in range(2)}))


_DRAWS: dict[type, Callable[[Rng, Trial, Arena], dict[str, Any]]] = {
    f.Crash: _crash,
    f.Churn: _churn,
    f.Slow: lambda rng, shape, arena: {"factor": round(rng.uniform(2.0, 100.0), 2)},
    f.Clock: lambda rng, shape, arena: {
        "offset_s": round(rng.uniform(-60.0, 60.0), 3), "drift_ppm": round(rng.uniform(-500.0, 500.0), 1),
    },
    f.Cascade: lambda rng, shape, arena: {
        "group": f"group:{rng.choice(sorted(groups(shape)))}", "chance": round(rng.uniform(0.0, 0.3), 3),
        "step_s": shape.storm_s / 20, "down_s": round(rng.uniform(0.05, 0.3) * shape.storm_s, 4),
    },
    f.Partition: _partition,
    f.Cut: _cut,
    f.Loss: lambda rng, shape, arena: {"share": round(rng.uniform(0.0, 0.5), 3), "nodes": _nodes(rng, shape)},
    f.Delay: lambda rng, shape, arena: {
        "by_s": _near_timeout_s(rng, arena, 0.05 * shape.storm_s), "nodes": _nodes(rng, shape),
    },
    f.Duplicate: lambda rng, shape, arena: {"share": round(rng.uniform(0.0, 0.5), 3), "nodes": _nodes(rng, shape)},
    f.Reorder: lambda rng, shape, arena: {
        "share": round(rng.uniform(0.0, 1.0), 3), "by_s": _near_timeout_s(rng, arena, 0.05 * shape.storm_s),
        "nodes": _nodes(rng, shape),
    },
    f.SlowDisk: lambda rng, shape, arena: {"by_s": _near_timeout_s(rng, arena, 0.05 * shape.storm_s)},
    f.FailingDisk: lambda rng, shape, arena: {"writes": rng.choice(("lost", "torn", "reordered", "corrupted"))},
    f.HeatWave: lambda rng, shape, arena: {"by_c": round(rng.uniform(5.0, 25.0), 1), "nodes": _nodes(rng, shape)},
    f.PowerCut: lambda rng, shape, arena: {"nodes": _nodes(rng, shape)},
    f.NetworkSwitch: lambda rng, shape, arena: {"to": rng.choice(("mobile", "none"))},
}  # fmt: skip
"""What else a kind needs, beyond its time, its length and its victim."""
