"""Played Twins scenarios: the published attack works on the careless rule and on no correct one, and all ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.consensus.messages import Chosen
from policies.port import NS_PER_MS, Policy
from policies.wire import Message
from sim.trace import Event
from sim.twins import Generator, Outcome, Protocol, Round, Scenario, play, read
from tests.sim.twins.fast_hotstuff import CARELESS, CORRECT, PATIENCE_S, FastHotStuff, number_of

ATTACK = Path(__file__).parent / "fhs_twins.json"
ALL = ((0, 1, 2, 3, 4),)


class FewVotes(FastHotStuff):
    """Half of four is a quorum."""

    def __init__(self, members: tuple[str, ...], leader_of: Any, applier: str) -> None:
        super().__init__(members, leader_of, applier)
        self.quorum = 2


class Stubborn(FastHotStuff):
    """Gives no leader up."""

    def on_timer(self, name: str) -> None:
        self.port.set_timer("timeout", p.NS_PER_S)


def test_the_attack_on_fast_hotstuff() -> None:
    """The public file makes the rule without a direct parent commit two blocks at one place, the right one none."""
    (scenario,) = read(ATTACK.read_text())
    careless, correct = play(scenario, CARELESS), play(scenario, CORRECT)
    assert careless.broken == "committed_entries_agree"
    assert "n2 commits (6, " in careless.why  # the block of round 6, where n1 has committed that of round 4
    assert "another committed (4, " in careless.why
    assert correct.broken == ""
    assert correct.waited >= 0


def test_no_scenario_of_a_sample_breaks_the_correct_rule() -> None:
    """With at most f twins the correct protocol agrees, and decides again after the script, whatever it was."""
    outcomes = [play(one, CORRECT) for one in Generator(rounds=4, first=3).sample(150, seed=1)]
    outcomes += [play(one, CORRECT) for one in Generator(rounds=7, groups=3, first=3).sample(50, seed=2)]
    assert {one.broken for one in outcomes} == {""}


@pytest.mark.nightly
@pytest.mark.timeout(1800)  # a minute of an idle core
def test_no_scenario_at_all_breaks_the_correct_rule() -> None:
    """All 50,625 scenarios of four nodes, one twin, two groups and four rounds."""
    assert {play(one, CORRECT).broken for one in Generator(first=3)} == {""}


def test_a_sample_finds_a_quorum_that_is_too_small() -> None:
    """Where half of the members is a quorum, twins make two halves decide apart, within a sample of 100."""
    few = Protocol(FewVotes, number_of, PATIENCE_S)
    found = [
        one.broken for one in (play(s, few) for s in Generator(rounds=4, first=3).sample(100, seed=1)) if one.broken
    ]
    assert "committed_entries_agree" in found


def test_who_never_decides_after_the_script_is_found() -> None:
    """A member that gives no leader up waits for ever for one that nobody heard."""
    alone = Scenario(4, 1, 3, (Round((0, 4), ((0, 4), (1, 2, 3))),))
    assert play(alone, Protocol(Stubborn, number_of, PATIENCE_S)).broken == "decides_after_the_script"
    assert play(alone, CORRECT).broken == ""


def test_a_run_is_the_same_again() -> None:
    """The same scenario and seed give the same steps."""
    (scenario,) = read(ATTACK.read_text())
    first: list[Event] = []
    again: list[Event] = []
    assert play(scenario, CARELESS, watch=first.append) == play(scenario, CARELESS, watch=again.append)
    assert first == again != []


# -- who hears what ------------------------------------------------------------------------------------


class Word(Message, frozen=True, tag="word"):
    """A word of a round."""

    number: int


class Speaker(Policy):
    """Says a word to everybody in each round, and enters the next one after it; notes what it hears.

    What it decides it decides at the end, so that a run ends.
    """

    messages = (Word,)

    def __init__(self, members: tuple[str, ...], last: int) -> None:
        self.members, self.last, self.number = members, last, 1

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.port.set_timer("next", 10 * NS_PER_MS)
        self._speak()

    def on_timer(self, name: str) -> None:
        self.number += 1
        self.port.set_timer("next", 10 * NS_PER_MS)
        self._speak()
        if self.number > self.last:
            self.port.decide("commit", Chosen(self.number - self.last, 0, 0))

    def _speak(self) -> None:
        for name in self.members:
            self.port.send(name, Word(self.number))


def _heard(scenario: Scenario) -> tuple[set[tuple[int, str, str]], Outcome]:
    """Return who heard what: (round of the word, speaker, instance that heard it), itself left out."""
    heard = set()

    def watch(event: Event) -> None:
        if event.given[0] == p.MESSAGE and event.given[2] != event.node.partition("#")[0]:
            heard.add((msgspec.msgpack.decode(event.given[3])[1], event.given[2], event.node))

    protocol = Protocol(lambda members, leader_of, applier: Speaker(members, scenario.last), number_of, PATIENCE_S)
    return heard, play(scenario, protocol, watch=watch)


def test_a_word_goes_where_its_speaker_reaches_in_its_round() -> None:
    """In a parted round a word reaches every instance of its receivers in the group, and no other."""
    heard, _ = _heard(Scenario(4, 1, 1, (Round((0, 4), ((0, 1, 2), (3, 4))),)))
    first = {(speaker, who) for number, speaker, who in heard if number == 1}
    assert first == {
        ("n0", "n1#1"), ("n0", "n2#2"), ("n0", "n3#3"), ("n1", "n0#0"), ("n1", "n2#2"), ("n2", "n0#0"),
        ("n2", "n1#1"), ("n3", "n0#4"),
    }  # fmt: skip


def test_a_firewall_stops_one_direction() -> None:
    """Who is named behind the firewall does not hear, and is heard."""
    heard, _ = _heard(Scenario(4, 1, 1, (Round((0, 4), ALL, ((1, (2, 3)),)),)))
    first = {(speaker, who) for number, speaker, who in heard if number == 1}
    assert {who for speaker, who in first if speaker == "n1"} == {"n0#0", "n0#4"}
    assert {speaker for speaker, who in first if who == "n2#2"} == {"n0", "n3"}


def test_after_the_script_everybody_hears_everybody() -> None:
    """In the round after the last every instance hears all others of other names."""
    heard, outcome = _heard(Scenario(4, 1, 1, (Round((0, 4), ((0,), (1,), (2,), (3,), (4,))),)))
    assert not any(number == 1 for number, _, _ in heard)
    hears = {who: {speaker for number, speaker, at in heard if number == 2 and at == who} for _, _, who in heard}
    assert hears == {
        "n0#0": {"n1", "n2", "n3"}, "n0#4": {"n1", "n2", "n3"}, "n1#1": {"n0", "n2", "n3"},
        "n2#2": {"n0", "n1", "n3"}, "n3#3": {"n0", "n1", "n2"},
    }  # fmt: skip
    assert outcome.broken == ""


def test_a_round_that_nobody_can_leave_is_opened() -> None:
    """Where no group has a quorum and members leave a round together only, it is made whole, and the script goes on."""

    class Together(Speaker):
        """Enters the next round when three have spoken in this one, and says its word until then."""

        def on_start(self, saved: Mapping[str, bytes]) -> None:
            self.heard: dict[int, set[str]] = {}
            super().on_start(saved)

        def on_timer(self, name: str) -> None:
            self.port.set_timer("next", 10 * NS_PER_MS)
            self._speak()

        def on_message(self, sender: str, word: Word) -> None:
            heard = self.heard.setdefault(word.number, set())
            heard.add(sender)
            if len(heard) == 3 and word.number == self.number:
                super().on_timer("next")

    halves = Round((0, 4), ((0, 1, 4), (2, 3)))
    scenario = Scenario(4, 1, 1, (halves, halves))
    outcome = play(scenario, Protocol(lambda members, leader_of, applier: Together(members, 2), number_of, 0.1))
    assert (outcome.broken, outcome.opened) == ("", 2)


def test_a_round_is_opened_before_the_next_words_in_it() -> None:
    """Patience of 1.1 s ends between two words a second apart: the second word is heard by all, not only the third."""

    class Patient(Speaker):
        """Says its word every second, and enters the next round when three have spoken in this one."""

        def on_start(self, saved: Mapping[str, bytes]) -> None:
            self.heard: set[tuple[int, str]] = set()
            super().on_start(saved)
            self.port.set_timer("next", p.NS_PER_S)

        def on_timer(self, name: str) -> None:
            self.port.set_timer("next", p.NS_PER_S)
            self._speak()

        def on_message(self, sender: str, word: Word) -> None:
            self.heard.add((word.number, sender))
            if sum(number == self.number for number, _ in self.heard) == 3:
                super().on_timer("next")

    entered: dict[str, int] = {}

    def watch(event: Event) -> None:
        if event.given[0] == p.MESSAGE and msgspec.msgpack.decode(event.given[3])[1] == 2:
            entered.setdefault(event.node, event.now_ns)

    scenario = Scenario(4, 1, 1, (Round((0, 4), ((0, 1, 4), (2, 3))),))
    outcome = play(
        scenario, Protocol(lambda members, leader_of, applier: Patient(members, 1), number_of, 1.1), watch=watch
    )
    assert (outcome.broken, outcome.opened) == ("", 1)
    assert max(entered.values()) < 2.1 * p.NS_PER_S
