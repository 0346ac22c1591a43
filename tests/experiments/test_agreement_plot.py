"""The timeline of agreement."""

from __future__ import annotations

import json

import pytest

from experiments.agreement_plot import accused, agreement, views
from experiments.results import Run
from scenarios.record import Record


def a_run() -> Run:
    """Return a run of two members; one leads view 1 in the twin's words, the other view 4 in a real node's."""
    decisions = [
        (2.0, "desk-0", "consensus", "follows", json.dumps({"term": 1, "leader": "desk-0"})),
        (6.0, "desk-1", "consensus", "follows", json.dumps(["follows", 4, "desk-1"])),
        (6.5, "desk-0", "consensus", "follows", json.dumps(["follows", 1, "desk-0"])),
        (7.0, "desk-1", "one", "follows", json.dumps({"term": 9, "leader": "desk-1"})),
        (8.0, "desk-0", "consensus", "evidence", json.dumps({"culprit": "desk-1"})),
    ]
    faults = [
        (5.0, "crash", "desk-0", "start", "model", ""), (8.0, "crash", "desk-0", "end", "model", ""),
        (1.0, "cut", "desk-1-desk-3", "start", "transport", ""), (2.0, "full_disk", "desk-10", "start", "kernel", ""),
    ]  # fmt: skip
    commits = [(1, 1, 3.0, 3.1, 2), (2, 4, 7.0, 7.0, 2)]
    manifest = {"config": {"duration_s": 10.0}, "committee": ["desk-0", "desk-1"], "adversaries": {"desk-1": []}}
    return Run(Record({}, manifest, {"decisions": decisions, "faults": faults, "commits": commits}))


def test_a_view_lasts_from_the_first_word_of_it_to_the_next_ones() -> None:
    """Views are read in both worlds' words, of consensus alone; late words count for nothing."""
    assert accused(a_run()) == [(8.0, "desk-1")]
    assert views(a_run()) == [(2.0, 6.0, "desk-0", 1), (6.0, 10.0, "desk-1", 4)]


def test_the_timeline_marks_liars_and_what_befell_members_alone() -> None:
    """Rows are named after members, liars marked; a fault of a node whose name merely begins alike is not drawn."""
    ax = agreement(a_run())

    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "view", "desk-0", "desk-1 (liar)", "commits\n(to 12/s)",
    ]  # fmt: skip
    assert sorted(text.get_text() for text in ax.texts) == ["1", "4", "crash", "cut"]
    assert ax.get_xlim() == pytest.approx((0.0, 10.0))
