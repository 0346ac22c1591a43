"""What a policy does when it runs: the dynamic part of `check_policy`.

Three simulated nodes run it for a few virtual seconds over a network with loss and duplicates; one of them crashes and
comes back; clients ask whatever may be asked. Twice, and both runs must be the same, step by step.
"""

from __future__ import annotations

import ast
import copy
import traceback
from collections.abc import Iterator
from typing import Any

from experiments.policy_shape import sample
from experiments.policy_source import MUTABLE
from experiments.policy_units import PolicyError, short, units
from policies.port import Policy
from sim.cluster import Cluster, Factory
from sim.guard import Guards, name_of
from sim.poison import PurityError
from sim.trace import FAULT, Event

NODES = 3
SEED = 1
SLICES = 30  # clients ask and budgets are looked at this often; the crash lasts a third of the run
COPY_EVERY = 3
"""Every third step of a node is taken by a copy of its state as well: no divisor of the rhythm of any usual policy."""
STEPS_MAX_PER_S = 5_000
"""Steps of all nodes in a virtual second (assumption: fifty times a busy protocol of three nodes)."""


def try_out(policy: Factory, kinds: list[type[Policy]], seconds: float) -> None:
    """Run the policy twice.

    Args:
        policy: makes a node's policies.
        kinds: their classes.
        seconds: virtual time of each run.

    Raises:
        PolicyError: an exception in a handler, a step or a run without end, messages nobody takes, state that
            nodes share, two runs that differ, or what `sim.guard` finds.
    """
    files = {unit.file for kind in kinds for unit in units(kind)}
    before = {name: copy.deepcopy(value) for name, value in _shared(kinds)}
    runs = [_Trial(policy, files, seconds) for _ in range(2)]
    for name, value in _shared(kinds):
        if value != before[name]:
            raise PolicyError(f"{name}: changed while the nodes ran; it is shared by all of them, keep state on self")
    for one, other in zip(runs[0].events, runs[1].events, strict=False):
        if one != other:
            raise PolicyError(
                f"{one.node}: two runs with the same seed differ from {one.now_ns / 1e9:.4f} s on, in "
                f"{_input_name(one)}; nothing but the port may decide"
            )


class _Trial:
    """One run, with budgets.

    Attributes:
        events: all that happened.
    """

    def __init__(self, policy: Factory, files: set[str], seconds: float) -> None:
        self.events: list[Event] = []
        self._files = files
        try:
            cluster = Cluster(policy, NODES, SEED, watch=self.events.append, guards=Guards(copy_every=COPY_EVERY))
            self._drive(cluster, seconds)
        except PolicyError:
            raise
        except PurityError as error:
            raise PolicyError(_shortened(str(error))) from None
        except Exception as error:
            raise PolicyError(self._blame(error)) from error
        for name in cluster.names:
            if count := cluster.cell(name).malformed:
                raise PolicyError(f"{name}: dropped {count} messages whose class is not in its policy's messages")

    def _drive(self, cluster: Cluster, seconds: float) -> None:
        asked = 0
        for part in range(SLICES):
            if part == SLICES // 3:
                cluster.crash("n1", torn=0.5)
            elif part == 2 * SLICES // 3:
                cluster.restart("n1")
            for name in cluster.names:
                for path in cluster.cell(name).paths:
                    for kind in cluster.policy(name, path).requests:
                        asked += 1
                        cluster.request(name, "client", f"op-{asked}", sample(kind), path)
            cluster.run(seconds / SLICES)
            if cluster.steps > STEPS_MAX_PER_S * seconds:
                last = self.events[-1]
                raise PolicyError(
                    f"{last.node}: {cluster.steps:,} steps within {cluster.now_s:.1f} s, the last by "
                    f"{_input_name(last)}; timers and answers need a pause"
                )

    def _blame(self, error: Exception) -> str:
        """Return one line: the policy's innermost line, and what went wrong there."""
        message = (str(error) or "no message").splitlines()[0]
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in self._files]
        if not frames:
            return f"{type(error).__name__}: {message}"
        inner, outer = frames[-1], frames[0]
        return f"{short(inner.filename)}:{inner.lineno}: in {outer.name}: {type(error).__name__}: {message}"


def _shared(kinds: list[type[Policy]]) -> Iterator[tuple[str, Any]]:
    """Yield the mutable things that all nodes see: attributes of the classes, and globals these use."""
    for kind in kinds:
        for base in kind.__mro__:
            if base is not Policy and issubclass(base, Policy):
                own = {k: v for k, v in vars(base).items() if not k.startswith("__")}  # those are Python's
                yield from ((f"{base.__qualname__}.{k}", v) for k, v in own.items() if isinstance(v, MUTABLE))
        for unit in units(kind):
            used = {node.id for node in ast.walk(unit.node) if isinstance(node, ast.Name)}
            yield from ((name, unit.names[name]) for name in sorted(used) if isinstance(unit.names.get(name), MUTABLE))


def _input_name(event: Event) -> str:
    return str(event.given[1]) if event.given[0] == FAULT else name_of(event.given)


def _shortened(line: str) -> str:
    """Return an offence with its file, if it begins with one, as the user knows it."""
    file, colon, rest = line.partition(":")
    return short(file) + colon + rest
