"""What breaks a mutant outside the hunt: ``python -m tests.mutants.tried`` writes ``tried.json``, for the table.

Three layers: every mutant's own frozen scenario; of Raft's mutants, the machine that Hypothesis drives; of HotStuff's,
Twins schedules. It takes minutes, so it is run when a mutant or one of these layers is new; with words, for the mutants
whose names begin with one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import msgspec
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from policies.consensus import HotStuff, Raft
from policies.consensus.hotstuff.safety import Safety
from sim.twins import Generator, Protocol, Scenario, play, read
from sim.twins.hotstuff import Scripted, hotstuff
from sim.twins.play import safety
from tests.mutants.hotstuff_rules import ATTACK
from tests.mutants.hunted import RAISED
from tests.mutants.hunts import ARENA
from tests.mutants.mounted import mounted
from tests.mutants.museum import MUTANTS
from tests.mutants.record import Mutant
from tests.policies.hand_cluster import Asked
from tests.policies.raft_machine import RaftMachine
from tests.policies.raft_watch import Broken
from tests.sim.twins.promises import promises

SCENARIO, HYPOTHESIS, TWINS = "scenario", "Hypothesis", "Twins"
PROGRAMS, STEPS = 400, 40
"""Programs of so many steps that a mutant of Raft has to stand; the steps are those of the machine's test."""
SCHEDULES, ROUNDS = 300, 7
"""Schedules that a mutant of HotStuff has to stand: the published attack on Fast-HotStuff, and a sample of those of
four members, one twin, two groups and so many rounds, one of each that differ in names only."""
RESULTS = Path(__file__).with_name("tried.json")
SETTINGS = settings(
    max_examples=PROGRAMS, stateful_step_count=STEPS, phases=[Phase.generate], database=None, deadline=None,
    report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
)  # fmt: skip


class Tried(msgspec.Struct):
    """What came of a mutant in a layer: ``broke`` in the last of ``ran`` programs or schedules; "" if in none."""

    ran: int
    broke: str


Layers = dict[str, dict[str, Tried]]


def results() -> Layers:
    """Return the measurements by layer and mutant."""
    return msgspec.json.decode(RESULTS.read_bytes(), type=Layers) if RESULTS.exists() else {}


def words(error: BaseException) -> str:
    """Return what an error says broke: `Broken` names the property, and any other is a policy's or a machine's own."""
    return str(error).partition(":")[0] if isinstance(error, Broken) else RAISED


# -- the frozen scenario ---------------------------------------------------------------------------------------------


def scenario(mutant: Mutant) -> Tried:
    """Play the mutant's own scenario, patched where it says so and nowhere else."""
    undo = [(where, name, getattr(where, name)) for where, name, _ in mutant.patches]
    for patch in mutant.patches:
        setattr(*patch)
    try:
        mutant.scenario(mutant.wrong)
    except Broken as error:
        return Tried(1, words(error))
    finally:
        for patch in undo:
            setattr(*patch)
    return Tried(1, "")


# -- Hypothesis ------------------------------------------------------------------------------------------------------


def is_of_raft(mutant: Mutant) -> bool:
    """Whether the bug is a Raft member's."""
    return _is(mutant, Raft)


def _is(mutant: Mutant, *kinds: type) -> bool:
    return isinstance(mutant.wrong, type) and issubclass(mutant.wrong, kinds)


def programs(mutant: Mutant) -> Tried:
    """Let Hypothesis look for a program that the mutant does not stand, from one seed."""
    wrong = mutant.wrong if _is(mutant, Asked) else type("Asked", (Asked, mutant.wrong), {})
    stood = [0]

    @seed(1)
    class Mounted(RaftMachine):
        kind = wrong

        def teardown(self) -> None:
            whole = sys.exc_info()[0] is None  # else a step has failed already
            super().teardown()
            stood[0] += whole

    with mounted(mutant):
        try:
            run_state_machine_as_test(Mounted, settings=SETTINGS)
        except Exception as error:
            return Tried(stood[0] + 1, words(error))
    return Tried(stood[0], "")


# -- Twins -----------------------------------------------------------------------------------------------------------


def is_of_hotstuff(mutant: Mutant) -> bool:
    """Whether the bug is a HotStuff member's, in one of its parts, or of the small Fast-HotStuff."""
    its = isinstance(mutant.wrong, Protocol) or _is(mutant, HotStuff, Safety)
    return its or any(_module(where).startswith("policies.consensus.hotstuff") for where, _, _ in mutant.patches)


def _module(where: Any) -> str:
    return str(where.__name__ if isinstance(where, ModuleType) else where.__module__)


def _sample() -> list[Scenario]:
    return [*read(ATTACK.read_text()), *Generator(rounds=ROUNDS).sample(SCHEDULES - 1, seed=1)]


def schedules(mutant: Mutant) -> Tried:
    """Play schedules with the mutant, until one breaks something."""
    sample = _sample()
    with mounted(mutant):
        for ran, one in enumerate(sample, 1):
            try:
                broke = _play(mutant, one)
            except Exception as error:
                broke = words(error)
            if broke:
                return Tried(ran, broke)
    return Tried(len(sample), "")


def _play(mutant: Mutant, one: Scenario) -> str:
    wrong = mutant.wrong
    if isinstance(wrong, Protocol):
        return play(one, wrong, safety()).broken
    chain: Literal[2, 3] = 3 if ARENA.get(mutant.key) == "hotstuff3" else 2
    member = type("Mounted", (Scripted, wrong), {}) if issubclass(wrong, HotStuff) else Scripted
    return play(one, hotstuff(chain, member), promises(chain)).broken


LAYERS: dict[str, tuple[Callable[[Mutant], bool], Callable[[Mutant], Tried]]] = {
    SCENARIO: (lambda mutant: True, scenario),
    HYPOTHESIS: (is_of_raft, programs),
    TWINS: (is_of_hotstuff, schedules),
}
"""Layer to whose mutants it takes, and what it does with one."""


def main(names: Sequence[str]) -> None:
    """Try them all, or those that begin with one of ``names``, and save what is known of those that are there."""
    known, layers = results(), Layers()
    for layer, (takes, tries) in LAYERS.items():
        of = layers[layer] = {}
        for mutant in filter(takes, MUTANTS):
            before = known.get(layer, {}).get(mutant.key)
            if before is not None and names and not mutant.key.startswith(tuple(names)):
                of[mutant.key] = before
                continue
            of[mutant.key] = tries(mutant)
            print(layer, mutant.key, of[mutant.key], file=sys.stderr)
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(layers), indent=1) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
