"""The museum: each bug fails its property in its scenario, and the policy as it is passes the same scenario."""

from __future__ import annotations

import pytest

from tests.mutants.museum import MUTANTS
from tests.mutants.record import Mutant
from tests.mutants.tried import SCENARIO, results, words
from tests.policies.raft_watch import Broken


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.key)
def test_a_mutant_is_killed_and_the_correct_policy_lives(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario raises nothing with the correct policy; with the mutant it names the property, as on record."""
    mutant.scenario(mutant.correct)
    for patch in mutant.patches:
        monkeypatch.setattr(*patch)

    with pytest.raises(Broken, match=mutant.broken) as caught:
        mutant.scenario(mutant.wrong)
    assert words(caught.value) == results()[SCENARIO][mutant.key].broke, "run: python -m tests.mutants.tried"
