"""The timeline of agreement."""

from __future__ import annotations

import json

import pytest

from experiments.agreement_plot import accused, agreement, views
from experiments.council_plot import epochs
from experiments.plots import fault_spans, leader_spans
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


def test_what_comes_after_the_runs_time_is_not_drawn() -> None:
    """While a run drains there are leaders, epochs and faults as before; the figure ends with the run's time."""
    draining = an_elected_run()
    draining.manifest["config"] = {"duration_s": 3.0}
    late = a_run()
    late.manifest["config"] = {"duration_s": 1.5}

    assert [epoch.number for epoch in epochs(draining)] == [0, 1]  # the second is chosen, and sits, after that
    assert (views(draining), leader_spans(draining)) == ([], [])
    assert [(kind, end) for kind, _, end, _ in fault_spans(late)] == [("cut", 1.5)]
    for ax in (agreement(draining), agreement(late)):
        assert all(text.get_position()[0] <= ax.get_xlim()[1] for text in ax.texts)


def an_elected_run() -> Run:
    """Return a run whose founders a, b are followed by b, c, who take office a second after they were decided."""
    names = ("tag", "epoch", "command", "members", "learners", "reason", "roll", "faulty", "failure_ppb", "picks")
    first = (1, 9, ["a", "b"], ["c"], "nobody is on the roll", 0, 0, 1_000_000_000, 1, 1_000_000_000)
    second = (2, 12, ["b", "c"], ["a"], "", 3, 1, 250_000_000, 4, 1_000_000_000)
    decisions = [
        (2.0, "a", "coordination", "decision", json.dumps(dict(zip((*names[1:], "picked_ppb"), first, strict=True)))),
        (4.0, "b", "coordination", "decision", json.dumps(["decision", *second])),
        (4.5, "a", "coordination", "decision", json.dumps(["decision", *first])),  # it comes late
        (5.0, "b", "coordination", "seated", json.dumps(["configured", 13, ["c", "b"], ["a"]])),
        (5.1, "c", "consensus", "follows", json.dumps(["follows", (2 << 32) + 3, "c"])),
        (6.0, "a", "consensus", "evidence", json.dumps(["evidence", "x"])),  # who never sat has no row
        (6.5, "c", "coordination", "leader", json.dumps({})),
    ]
    manifest = {"config": {"duration_s": 10.0}, "committee": ["a", "b"]}
    return Run(Record({}, manifest, {"decisions": decisions, "faults": [], "commits": [(1, 1, 3.0, 3.1, 2)]}))


def test_an_epoch_begins_when_its_committee_takes_office_and_has_its_bound() -> None:
    """The old committee may stay, and then no lot has a bound; views count within an epoch; whoever sat has a row."""
    run = an_elected_run()
    found = [(e.number, e.start_s, e.end_s, set(e.members), e.failure) for e in epochs(run)]
    ax = agreement(run)

    assert found == [(0, 0.0, 2.0, {*"ab"}, None), (1, 2.0, 5.0, {*"ab"}, None), (2, 5.0, 10.0, {*"bc"}, 0.25)]
    assert [label.get_text() for label in ax.get_yticklabels()][:5] == ["epoch: bound", "view", "a", "b", "c"]
    assert sorted(text.get_text() for text in ax.texts) == ["0", "1", "2: 0.25", "3"]
    assert epochs(a_run()) == []
