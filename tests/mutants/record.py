"""A mutant: one published bug put into a policy of ours, a frozen scenario, and the property that must fail there.

The scenario is a function of what runs in it. With the correct policy it passes; with the mutant it raises `Broken`,
whose first words name the property. All other errors are failures of the museum itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.policies.raft_watch import Broken

Patch = tuple[Any, str, Any]
"""Object, attribute, what stands there in the mutant."""


@dataclass(frozen=True)
class Mutant:
    """One bug.

    Attributes:
        id: of the bug in the catalogue; several mutants may share one.
        what: the bug, in one line.
        source: where it was met.
        property: what must fail, with the catalogue's name of it (S1 to S19, L1 to L7) where there is one.
        scenario: the frozen scenario, a function of what runs.
        correct: what runs as it should.
        wrong: what runs with the bug.
        broken: a pattern of what `Broken` says.
        patches: what is replaced while ``wrong`` runs, for a bug in a function.
    """

    id: str
    what: str
    source: str
    property: str
    scenario: Callable[[Any], None]
    correct: Any
    wrong: Any
    broken: str
    patches: tuple[Patch, ...] = ()

    @property
    def key(self) -> str:
        """What it is called in tests and measurements."""
        return f"{self.id}: {self.what}"


@dataclass(frozen=True)
class Absent:
    """A published bug that has no place in our protocols, and why."""

    id: str
    what: str
    source: str
    why: str


def require(holds: bool, what: str) -> None:
    """Raise `Broken` with ``what`` unless it holds."""
    if not holds:
        raise Broken(what)
