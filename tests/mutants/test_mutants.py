"""The museum: each bug fails its property in its scenario, and the policy as it is passes the same scenario."""

from __future__ import annotations

import pytest

from tests.mutants.museum import MUTANTS
from tests.mutants.record import Mutant
from tests.policies.raft_watch import Broken


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.key)
def test_a_mutant_is_killed_and_the_correct_policy_lives(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario raises nothing with the correct policy, and names the broken property with the mutant."""
    mutant.scenario(mutant.correct)
    for patch in mutant.patches:
        monkeypatch.setattr(*patch)

    with pytest.raises(Broken, match=mutant.broken):
        mutant.scenario(mutant.wrong)
