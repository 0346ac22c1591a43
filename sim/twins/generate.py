"""Every Twins scenario of a size, by number; one of each that differ in names only; or a keyed sample of those.

A round is a way to part the instances into groups, and the identity that leads. With one leader there are as many as
Stirling's number of the second kind, S(instances, groups): S(5, 2) = 15 at n=4 with one twin, and 15 to the power of
the rounds scenarios (Bano et al., OPODIS 2021, section 4).

Members that are neither twins nor leaders may change names, and so may the two instances of a twin: scenarios that
differ in no more are one. This is exact for a protocol that treats them alike during the script.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

from policies.rng import Rng
from sim.twins.scenario import Round, Scenario

Choices = tuple[int, ...]
"""One choice a round, a number below `Generator.choices`."""


class Generator:
    """The scenarios of one size.

    Args:
        nodes: identities.
        twins: how many of the first have a second instance.
        groups: into how many groups a round parts the instances.
        rounds: of the script.
        leaders: identities that may lead a round; default the twins, or member 0 if there is none.
        first: number of the first round.

    Raises:
        ValueError: a size is out of range.
    """

    def __init__(
        self, nodes: int = 4, twins: int = 1, groups: int = 2, rounds: int = 4, leaders: tuple[int, ...] = (),
        first: int = 1,
    ) -> None:  # fmt: skip
        if not 1 <= groups <= nodes + twins:
            raise ValueError(f"groups={groups}: allowed are 1 to {nodes + twins}, the instances")
        if rounds < 1:
            raise ValueError(f"rounds={rounds}: allowed are 1 or more")
        self.nodes, self.twins, self.rounds, self.first = nodes, twins, rounds, first
        led = leaders or tuple(range(max(twins, 1)))
        self._instances = nodes + twins
        self._scripts = [
            Round(tuple(one for one in range(self._instances) if self._identity(one) == leader), parted)
            for leader in led
            for parted in _parted(self._instances, groups)
        ]
        self._scenario((0,) * rounds)  # says what is wrong with the sizes
        self._renamed = self._renamings(led)

    def _identity(self, instance: int) -> int:
        return instance if instance < self.nodes else instance - self.nodes

    @property
    def choices(self) -> int:
        """Scripts of one round."""
        return len(self._scripts)

    def __len__(self) -> int:
        """Return the number of scenarios."""
        return int(self.choices**self.rounds)

    def __iter__(self) -> Iterator[Scenario]:
        """Yield every scenario, in the order of their choices."""
        return map(self._scenario, product(range(self.choices), repeat=self.rounds))

    def _scenario(self, choices: Choices) -> Scenario:
        return Scenario(self.nodes, self.twins, self.first, tuple(self._scripts[one] for one in choices))

    # -- up to names ---------------------------------------------------------------------------------

    def _renamings(self, led: tuple[int, ...]) -> list[Choices]:
        """Return what each renaming makes of each script; the first changes nothing."""
        twins = range(self.twins)
        free = [one for one in range(self.twins, self.nodes) if one not in led]
        number = {script: k for k, script in enumerate(self._scripts)}
        renamings = []
        for order in permutations(free):
            for swapped in product((False, True), repeat=self.twins):
                name = list(range(self._instances))
                for one, other in zip(free, order, strict=True):
                    name[one] = other
                for one in twins:
                    if swapped[one]:
                        name[one], name[one + self.nodes] = one + self.nodes, one
                renamings.append(tuple(number[_renamed(script, name)] for script in self._scripts))
        return renamings

    @property
    def distinct(self) -> int:
        """Scenarios that do not differ in names only, counted by Burnside's lemma."""
        fixed = [sum(k == then for k, then in enumerate(renaming)) for renaming in self._renamed]
        return int(sum(count**self.rounds for count in fixed)) // len(self._renamed)

    def _is_first(self, choices: Choices) -> bool:
        """Whether no renaming makes an earlier scenario of this one."""
        return all(tuple(renaming[one] for one in choices) >= choices for renaming in self._renamed)

    def representatives(self) -> Iterator[Scenario]:
        """Yield one scenario of each that differ in names only; `distinct` in all."""
        every = product(range(self.choices), repeat=self.rounds)
        return (self._scenario(choices) for choices in every if self._is_first(choices))

    def sample(self, count: int, seed: int) -> list[Scenario]:
        """Return ``count`` of the `representatives`, drawn uniformly without replacement.

        Raises:
            ValueError: there are not so many.
        """
        if count > self.distinct:
            raise ValueError(f"count={count}: allowed are up to {self.distinct}, all that differ not in names only")
        rng = Rng(seed, "twins", "sample", 0)
        drawn: dict[Choices, None] = {}
        while len(drawn) < count:  # each representative is as likely as any other, since others are passed over
            choices = tuple(rng.below(self.choices) for _ in range(self.rounds))
            if choices not in drawn and self._is_first(choices):
                drawn[choices] = None
        return [self._scenario(choices) for choices in drawn]


def _parted(instances: int, groups: int) -> list[tuple[tuple[int, ...], ...]]:
    """Return every way to part the instances into that many groups, by restricted growth (Knuth 7.2.1.5)."""
    strings: list[tuple[int, ...]] = [(0,)]
    for _ in range(instances - 1):
        strings = [(*string, group) for string in strings for group in range(min(max(string) + 2, groups))]
    return [
        tuple(tuple(one for one in range(instances) if string[one] == group) for group in range(groups))
        for string in strings
        if max(string) + 1 == groups
    ]


def _renamed(script: Round, name: list[int]) -> Round:
    groups = sorted(tuple(sorted(name[one] for one in group)) for group in script.groups)
    return Round(script.leaders, tuple(groups))
