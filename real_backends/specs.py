"""Which policies each process of a local run mounts: the village's node specs for machines of one host.

All processes share one host, so all state the same capability, but for what the scenario shapes; they differ in their
name and in being on the committee.
"""

from __future__ import annotations

from policies import village
from policies.port import NS_PER_S
from policies.village import NodeSpec
from scenarios import hosts
from scenarios.adversaries.choose import Role, choose
from scenarios.council import electorate
from scenarios.schema import Scenario, Shaped

KINDS = {
    "desktops": "desktop", "gpu_boxes": "gpu_box", "laptops": "laptop", "tablets": "tablet",
    "phones": "phone",
}  # fmt: skip
"""Fields of `scenarios.schema.Fleet` to kinds of device; those on the mains first."""


def node_kinds(scenario: Scenario) -> dict[str, str]:
    """Return name to kind of every device, those on the mains first: the committee is taken from the front."""
    fleet = scenario.fleet
    only_desks = fleet.size == fleet.desktops
    return {
        f"{'desk' if only_desks else kind.replace('_', '-')}-{number}": kind
        for field, kind in KINDS.items()
        for number in range(getattr(fleet, field))
    }


def roles(scenario: Scenario, begun_ns: int = 0) -> dict[str, Role]:
    """Return what each adversary of the scenario does, by name of its node."""
    kinds = node_kinds(scenario)
    return choose(scenario.adversaries, kinds, tuple(kinds)[: scenario.fleet.committee], scenario.seed, begun_ns)


def node_spec(scenario: Scenario, name: str) -> NodeSpec:
    """Return what makes the policies of node ``name``.

    Raises:
        ScenarioError: the scenario's profile cannot be read.
    """
    who = electorate(scenario, node_kinds(scenario))
    names = tuple(node_kinds(scenario))
    profile, shaped = hosts.read_profile(scenario.profile), scenario.fleet.shaped.get(name, Shaped())
    mains = names[: scenario.fleet.desktops + scenario.fleet.gpu_boxes]
    return NodeSpec(
        me=name,
        peers=tuple(member for member in who.keepers if member != name),
        committee=who.founders,
        seed=scenario.seed,
        config=scenario.policy,
        capability=hosts.capability(profile, shaped),
        card=village.card(scenario.served, scenario.policy),
        smaller=tuple(village.card(one.served, scenario.policy) for one in scenario.smaller),
        reading_ns=int(scenario.reading_s * NS_PER_S),
        dedicated=name in mains[len(mains) - scenario.fleet.dedicated :],
        has_battery=name not in mains,
        flops=hosts.flops(profile, shaped),
        edge=scenario.edge,
        candidates=who.candidates,
        facts=who.facts.get(name),
    )
