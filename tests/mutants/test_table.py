"""The table of the museum is what the code says, and every bug of the catalogue is in it."""

from __future__ import annotations

from experiments.hunt.arenas import raft
from tests.mutants.hunted import hunt, mounted, results
from tests.mutants.hunts import ARENA, UNMET
from tests.mutants.museum import ABSENT, CATALOGUE, MUTANTS
from tests.mutants.table import PAGE, page


def test_the_page_is_what_the_code_says() -> None:
    """``python -m tests.mutants.table`` would write the same file."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.mutants.table"


def test_every_bug_of_the_catalogue_is_shown_or_explained() -> None:
    """Each id has a mutant, or a reason why it has none."""
    assert {mutant.id for mutant in MUTANTS} | {absent.id for absent in ABSENT} == set(CATALOGUE)


def test_measurements_are_of_mutants_that_are_there() -> None:
    """Names are unique, and no count is left of a mutant that was renamed or removed."""
    keys = [mutant.key for mutant in MUTANTS]
    assert len(keys) == len(set(keys))
    assert ARENA.keys() <= set(keys)
    assert results().keys() <= ARENA.keys()


def test_what_no_hunt_met_has_its_reason() -> None:
    """A mutant has a reason exactly if no hunt met it, be it that none was tried."""
    met = {key for key, found in results().items() if found.hits}
    assert UNMET.keys() == {mutant.key for mutant in MUTANTS} - met


def test_a_mutant_is_mounted_for_a_while_and_taken_away_again() -> None:
    """Where nodes look up what they are made of stands the mutant, and then what stood there before."""
    mutant = next(mutant for mutant in MUTANTS if mutant.key == "R7: a follower's commit index goes back")
    before = raft.Raft
    with mounted(mutant):
        assert raft.Raft is mutant.wrong
    assert raft.Raft is before


def test_a_hunt_meets_what_a_quorum_of_one_breaks() -> None:
    """The measurement is what its file says, in a few seeds."""
    mutant = next(mutant for mutant in MUTANTS if mutant.id == "G05")
    assert hunt(mutant, 2).check == results()[mutant.key].check
