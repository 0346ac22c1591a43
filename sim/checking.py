"""Checks of workers in a run of the twin: who shirks, what the checks found, and what they cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from policies.port import Effect
from scenarios.adversaries.choose import Role
from scenarios.adversaries.work import cheat_of, withheld_by
from scenarios.checked import law_summary, least_found
from scenarios.checks.checking import CHECKING
from scenarios.schema import Scenario
from scenarios.summary import checking_summary
from sim.compute import Compute
from sim.proofs import Proofs
from sim.world import Node


class Checking:
    """What a run with checks has beside others; nothing in one without.

    Args:
        scenario: what happens.
        compute: does the jobs of checks from now on.
        roles: node to what it does wrong.
    """

    def __init__(self, scenario: Scenario, compute: Compute, roles: Mapping[str, Role]) -> None:
        self.scenario, self.compute, self.bytes = scenario, compute, 0
        if scenario.policy.coordination.spot_checks is not None:
            cheats = {name: cheat for name, role in roles.items() if (cheat := cheat_of(role.behaviours))}
            withholds = {name: kept for name, role in roles.items() if (kept := withheld_by(role.behaviours))}
            compute.mount_proofs(Proofs(scenario.seed, scenario.models, cheats, withholds))
            compute.world.on_send.append(self._on_send)

    def _on_send(self, now: int, node: Node, effect: Effect) -> None:
        if effect[1] in CHECKING:
            self.bytes += len(effect[3])

    @property
    def fidelity(self) -> dict[str, str]:
        """What a manifest says of it."""
        proving = self.compute.proving
        return {} if proving is None else {"verification": proving.proofs.fidelity}

    def summary(self, rows: Mapping[str, Sequence[tuple[Any, ...]]], sessions: int) -> dict[str, float]:
        """Return what was found, what it cost, and what the law says; see `checking_summary` and `law_summary`."""
        proving, rules = self.compute.proving, self.scenario.policy.coordination.spot_checks
        if proving is None or rules is None:
            return {}
        decisions = rows["decisions"]
        words = [json.loads(row[4])["word"] for row in decisions if row[3] == "checked"]
        convicted = sum(row[3] == "found_false" for row in decisions)
        found = least_found(proving.proofs.formats.values())
        return {
            **checking_summary(words, convicted, sessions, self.bytes + proving.bytes, proving.seconds),
            **law_summary(rules, self.scenario.models, found, sessions, rows["requests"], self.compute.ended),
        }
