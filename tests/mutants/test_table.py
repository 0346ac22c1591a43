"""The table of the museum is what the code says, and every bug of the catalogue is in it."""

from __future__ import annotations

from experiments.hunt.arenas import raft
from tests.mutants import hunted, tried
from tests.mutants.hunted import Met, hunt
from tests.mutants.hunts import ARENA, UNMET
from tests.mutants.mounted import mounted
from tests.mutants.museum import ABSENT, CATALOGUE, MUTANTS
from tests.mutants.record import Mutant
from tests.mutants.table import NEVER, PAGE, page, seeds
from tests.mutants.tried import HYPOTHESIS, LAYERS, TWINS, Tried, programs, schedules


def of(key: str) -> Mutant:
    """Return a mutant by its name."""
    return next(mutant for mutant in MUTANTS if mutant.key == key)


def test_the_page_is_what_the_code_says() -> None:
    """``python -m tests.mutants.table`` would write the same file."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.mutants.table"


def test_every_bug_of_the_catalogue_is_shown_or_explained() -> None:
    """Each id has a mutant, or a reason why it has none."""
    assert {mutant.id for mutant in MUTANTS} | {absent.id for absent in ABSENT} == set(CATALOGUE)


def test_every_mutant_was_tried_in_each_layer_that_has_a_place_for_it() -> None:
    """Names are unique; no measurement is missing, and none is left of a mutant that was renamed or removed."""
    keys = [mutant.key for mutant in MUTANTS]
    assert len(keys) == len(set(keys))
    assert ARENA.keys() <= set(keys)
    assert hunted.results().keys() == ARENA.keys()
    takes = {layer: {m.key for m in MUTANTS if takes(m)} for layer, (takes, _) in LAYERS.items()}
    assert {layer: set(found) for layer, found in tried.results().items()} == takes


def test_what_no_hunt_met_has_its_reason() -> None:
    """A mutant has a reason exactly if no hunt met it, be it that none was tried."""
    met = {key for key, found in hunted.results().items() if found.hits}
    assert UNMET.keys() == {mutant.key for mutant in MUTANTS} - met


def test_a_mutant_is_mounted_for_a_while_and_taken_away_again() -> None:
    """Where nodes look up what they are made of stands the mutant, and then what stood there before."""
    mutant = of("R7: a follower's commit index goes back")
    before = raft.Raft
    with mounted(mutant):
        assert raft.Raft is mutant.wrong
    assert raft.Raft is before


def test_a_hunt_meets_what_a_quorum_of_one_breaks() -> None:
    """The measurement is what its file says, in a few seeds."""
    mutant = of("G05: agreement that always says yes: one voice is a quorum")
    assert hunt(mutant, 2).check == hunted.results()[mutant.key].check


def test_hypothesis_meets_a_commit_index_that_goes_back() -> None:
    """The measurement is what its file says, in a few programs."""
    mutant = of("R7: a follower's commit index goes back")
    assert programs(mutant).broke == tried.results()[HYPOTHESIS][mutant.key].broke


def test_twins_meet_commits_across_gaps() -> None:
    """The measurement is what its file says, in a few schedules."""
    mutant = of("B1: two certificates commit although views lie between them (Fast-HotStuff)")
    assert schedules(mutant).broke == tried.results()[TWINS][mutant.key].broke


def test_a_median_counts_what_was_never_met_as_without_end() -> None:
    """The fewest of what a mutant's layers took, and nothing better than endless where one met nothing."""
    found, nothing = Tried(7, "monotone"), Tried(400, "")
    layers = {HYPOTHESIS: {"a": found, "b": nothing}, TWINS: {"a": nothing}}
    met = {"b": Met(0, 200, 0.0, ""), "c": Met(2, 200, 90.0, "monotone")}
    assert {key: seeds(key, layers, met) for key in "abcd"} == {
        "a": {HYPOTHESIS: 7.0, TWINS: NEVER},
        "b": {HYPOTHESIS: NEVER, "the hunt": NEVER},
        "c": {"the hunt": 90.0},
        "d": {},
    }
