"""Twins scenarios as data, in the JSON form of asonnino/twins-simulator.

Instances are numbered: 0 to ``num_of_nodes`` - 1 are the members, and those after them are twins, of member 0, 1 and so
on. ``round_leaders`` lists the instances that lead a round, ``round_partitions`` groups of instances that reach one
another (groups may overlap), ``firewall`` whom an instance does not reach all the same. Rounds are keys in text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


class Round(msgspec.Struct, frozen=True):
    """One round of the script.

    Attributes:
        leaders: instances that lead, all of one identity; none is nobody.
        groups: instances that reach one another.
        firewall: (sender, receivers that it does not reach).
    """

    leaders: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    firewall: tuple[tuple[int, tuple[int, ...]], ...] = ()


class Scenario(msgspec.Struct, frozen=True):
    """A script.

    Attributes:
        nodes: identities.
        twins: how many of the first of them have a second instance.
        first: number of the first round.
        rounds: round after round.
    """

    nodes: int
    twins: int
    first: int
    rounds: tuple[Round, ...]

    def __post_init__(self) -> None:
        """Check the script.

        Raises:
            ValueError: one line that names the field, the value and what is allowed.
        """
        if self.nodes < 1:
            raise ValueError(f"num_of_nodes={self.nodes}: allowed are 1 or more")
        if not 0 <= self.twins <= self.nodes:
            raise ValueError(f"num_of_twins={self.twins}: allowed are 0 to {self.nodes}, one a node")
        for number, script in enumerate(self.rounds, self.first):
            named = [*script.leaders, *(one for group in script.groups for one in group)]
            named += [one for sender, receivers in script.firewall for one in (sender, *receivers)]
            strangers = [one for one in named if not 0 <= one < self.instances]
            if strangers:
                raise ValueError(f"round {number}: instance {strangers[0]}: allowed are 0 to {self.instances - 1}")
            if len({self.identity(one) for one in script.leaders}) > 1:
                raise ValueError(f"round {number}: leaders {script.leaders}: allowed is one identity")

    @property
    def instances(self) -> int:
        """Running copies of the protocol."""
        return self.nodes + self.twins

    @property
    def last(self) -> int:
        """Number of the last round of the script."""
        return self.first + len(self.rounds) - 1

    def identity(self, instance: int) -> int:
        """Return whose keys an instance has."""
        return instance if instance < self.nodes else instance - self.nodes

    def leader(self, number: int) -> int | None:
        """Return the identity that leads a round; beyond the script in turn, in it None for nobody."""
        if not self.first <= number <= self.last:
            return number % self.nodes
        leaders = self.rounds[number - self.first].leaders
        return self.identity(leaders[0]) if leaders else None

    def reach(self) -> list[list[tuple[int, ...]]]:
        """Return for each round of the script and each instance the instances that it reaches, itself left out."""
        return [[self._reached(script, one) for one in range(self.instances)] for script in self.rounds]

    def _reached(self, script: Round, sender: int) -> tuple[int, ...]:
        reached = {one for group in script.groups if sender in group for one in group} - {sender}
        for blocked, receivers in script.firewall:
            if blocked == sender:
                reached -= set(receivers)
        return tuple(sorted(reached))


def read(text: str) -> list[Scenario]:
    """Return the scenarios of a file.

    Raises:
        ValueError: the text is not of that form, or a script names a stranger.
    """
    try:
        data = json.loads(text)
        nodes, twins, scripts = data["num_of_nodes"], data["num_of_twins"], data["scenarios"]
        return [_scenario(nodes, twins, script) for script in scripts]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"twins file: {type(error).__name__} {error}; see asonnino/twins-simulator") from None


def _scenario(nodes: int, twins: int, script: Mapping[str, Any]) -> Scenario:
    leaders, groups, firewall = script["round_leaders"], script["round_partitions"], script.get("firewall", {})
    numbers = sorted(map(int, groups))
    if not numbers or numbers != list(range(numbers[0], numbers[-1] + 1)) or sorted(map(int, leaders)) != numbers:
        raise ValueError(f"round_partitions of rounds {numbers}: allowed are rounds in a row, those of round_leaders")
    rounds = tuple(
        Round(
            tuple(leaders[str(number)]),
            tuple(tuple(group) for group in groups[str(number)]),
            tuple((int(one), tuple(of)) for one, of in firewall.get(str(number), {}).items()),
        )
        for number in numbers
    )
    return Scenario(nodes, twins, numbers[0], rounds)


def write(scenarios: Iterable[Scenario]) -> str:
    """Return the text that `read` reads; all scenarios have the same nodes and twins.

    Raises:
        ValueError: they have not, or there is none.
    """
    scripts = list(scenarios)
    sizes = {(one.nodes, one.twins) for one in scripts}
    if len(sizes) != 1:
        raise ValueError(f"scenarios of {sorted(sizes)} nodes and twins: allowed is one size in a file")
    ((nodes, twins),) = sizes
    return json.dumps({"num_of_nodes": nodes, "num_of_twins": twins, "scenarios": [_plain(one) for one in scripts]})


def _plain(scenario: Scenario) -> dict[str, Any]:
    numbered = [(str(number), script) for number, script in enumerate(scenario.rounds, scenario.first)]
    plain: dict[str, Any] = {
        "round_leaders": {number: list(script.leaders) for number, script in numbered},
        "round_partitions": {number: [list(group) for group in script.groups] for number, script in numbered},
    }
    firewall = {
        number: {str(one): list(of) for one, of in script.firewall} for number, script in numbered if script.firewall
    }
    return {**plain, "firewall": firewall} if firewall else plain
