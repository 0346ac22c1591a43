"""The table of the museum is what the code says, and every bug of the catalogue is in it."""

from __future__ import annotations

from tests.mutants.hunted import results
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
    assert results().keys() <= {mutant.key for mutant in MUTANTS if mutant.arena}
