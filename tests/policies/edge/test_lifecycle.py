"""The lifecycle's table: closed, reachable, and nothing outside it moves."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from policies.edge import lifecycle as life
from policies.edge.lifecycle import EVENTS, STATES, TRANSITIONS, Lifecycle, table, wanted


def test_the_table_speaks_only_its_own_words() -> None:
    """Every state has rows; states, events and effects are the declared ones, and each of them is used."""
    moves = [(event, move) for rows in TRANSITIONS.values() for event, move in rows.items()]

    assert set(TRANSITIONS) == set(STATES)
    assert {event for event, _ in moves} == set(EVENTS)
    assert {move.to for _, move in moves} == set(STATES)
    assert {effect for _, move in moves for effect in move.effects} == set(life.EFFECTS)


def test_every_state_is_reached_and_left() -> None:
    """From offline every state can be reached, and from every state offline can: no device is stuck for ever."""
    graph = nx.DiGraph((state, move.to) for state, rows in TRANSITIONS.items() for move in rows.values())

    assert nx.is_strongly_connected(graph)


def test_nothing_is_brought_onto_a_device_that_is_not_leased() -> None:
    """``fetch`` has a row in the leased states and in no other."""
    assert {state for state, rows in TRANSITIONS.items() if life.FETCH in rows} == {
        life.ONLINE, life.DEPLOYING, life.RUNNING,
    }  # fmt: skip


def test_whoever_holds_something_gives_it_back_on_the_way_to_rest() -> None:
    """Each way out of deploying and running into a state that holds nothing carries an effect that frees the room."""
    frees = {life.DROP, life.HAND_BACK}
    holding = (life.DEPLOYING, life.RUNNING, life.DRAINING)
    for state in holding:
        for event, move in TRANSITIONS[state].items():
            if move.to not in holding and event != life.EMPTY:
                assert frees & set(move.effects), (state, event)
            if move.to == life.DRAINING != state:
                assert {life.HAND_BACK, life.EASE_OUT} & set(move.effects), (state, event)


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_only_legal_transitions_are_taken_and_the_others_counted(events: list[str]) -> None:
    """Against the table read naively: a row is followed, anything else changes nothing and is counted once."""
    device, state, refused = Lifecycle(), life.OFFLINE, 0
    for event in events:
        effects = device.feed(event)
        if event in TRANSITIONS[state]:
            assert effects == TRANSITIONS[state][event].effects
            state = TRANSITIONS[state][event].to
        else:
            assert effects is None
            refused += 1
        assert device.state == state
        assert sum(device.refused.values()) == refused


def test_what_is_wanted_of_a_device_at_rest() -> None:
    """Maintenance goes before lending, and nothing is wanted of a device that is busy."""
    assert wanted(life.OFFLINE, lent=True, maintenance=True) == life.MAINTAIN
    assert wanted(life.OFFLINE, lent=True, maintenance=False) == life.LEND
    assert wanted(life.OFFLINE, lent=False, maintenance=False) is None
    assert wanted(life.RUNNING, lent=True, maintenance=True) is None


def test_the_documented_table_is_made_from_the_automaton() -> None:
    """One line a row, so that the documentation cannot drift."""
    lines = table().splitlines()

    assert len(lines) == 2 + sum(len(rows) for rows in TRANSITIONS.values())
    assert "| running | take | draining | hand_back |" in lines


def test_the_page_holds_the_table() -> None:
    """docs/edge.md is written from the automaton: paste `table()` between its marks where this fails."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "edge.md").read_text()

    assert page.split("<!-- table -->\n")[1].split("\n<!-- end -->")[0] == table()
