"""HotStuff under Twins: no scenario breaks either commit rule, and rules that are bent are caught at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from policies import port as p
from policies.consensus.hotstuff import certificates
from policies.consensus.hotstuff.safety import Safety
from sim.trace import Event
from sim.twins import Generator, Scenario, play, read
from sim.twins.hotstuff import hotstuff
from tests.sim.twins.promises import promises


def broken(scenarios: list[Scenario], chain: Literal[2, 3] = 2) -> Counter[str]:
    """Count what scenarios break, "" for nothing."""
    return Counter(play(one, hotstuff(chain), promises(chain)).broken for one in scenarios)


@pytest.mark.parametrize("chain", [2, 3])
def test_a_sample_breaks_nothing(chain: Literal[2, 3]) -> None:
    """With one twin of four, all promises hold in every scenario of a sample, and all decide again after it."""
    assert set(broken(Generator(rounds=4).sample(60, seed=1), chain)) == {""}


def test_nothing_is_said_twice_but_that_a_leader_is_given_up() -> None:
    """A proposal that the script parts from its listener is not repeated, nor is a command told to all, as members do
    where words may be lost: in lock-step that is work without another outcome."""
    proposed, given_up, to_all = Counter[Any](), Counter[Any](), 0
    for k, one in enumerate(Generator(rounds=4).sample(10, seed=1)):
        told: list[Event] = []
        play(one, hotstuff(2), watch=told.append)
        said = [(e.node, *effect[2:]) for e in told for effect in e.effects if effect[0] == p.SEND]
        for node, to, data in said:
            word = msgspec.msgpack.decode(data)
            proposed[k, node, to, data] += word[0] == "proposal"
            given_up[k, node, to, data] += word[0] == "time_out"
            to_all += word[0] == "forward" and word[2]

    assert max(given_up.values()) > 1
    assert max(proposed.values()) == 1
    assert to_all == 0


def test_equivocation_is_seen() -> None:
    """In a sample some twin signs two blocks in one view, and evidence of it names the twin's identity."""
    seen = Counter[str]()
    for one in Generator(rounds=4).sample(30, seed=2):
        checks = promises(2)
        play(one, hotstuff(2), checks)
        seen.update(check.name for check in checks if getattr(check, "happened", False))
    assert seen["an_equivocation_was_seen"] > 0
    assert seen["a_view_change"] > 0


@pytest.mark.parametrize("chain", [2, 3])
def test_the_attack_on_fast_hotstuff_fails(chain: Literal[2, 3]) -> None:
    """The public file of the attack breaks nothing here."""
    (scenario,) = read((Path(__file__).parent / "fhs_twins.json").read_text())
    assert play(scenario, hotstuff(chain)).broken == ""


def test_a_quorum_that_is_too_small_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two of four certify, certificates break their promise, and agreement breaks."""
    monkeypatch.setattr(certificates, "byzantine_quorum", lambda n: 2)
    found = broken(Generator(rounds=4).sample(10, seed=1))
    assert found["certificates_have_quorums"] > 0
    only_agreement = [play(one, hotstuff(2)).broken for one in Generator(rounds=4).sample(40, seed=1)]
    assert "committed_entries_agree" in only_agreement


def test_a_second_vote_in_a_view_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who forgets that it has voted in a view votes for both blocks of a twin."""
    right = Safety.may_vote

    def forgets(self: Safety, *args: object) -> bool:
        voted, self.voted = self.voted, -1
        may = right(self, *args)  # type: ignore[arg-type]
        self.voted = voted
        return may

    def vote(self: Safety, view: int, block: bytes) -> None:
        self.voted, self.voted_block = max(view, self.voted), block

    monkeypatch.setattr(Safety, "may_vote", forgets)
    monkeypatch.setattr(Safety, "vote", vote)
    assert broken(Generator(rounds=4).sample(10, seed=1))["no_double_vote"] > 0


@pytest.mark.nightly
@pytest.mark.timeout(7200)  # ten minutes of an idle core
@pytest.mark.parametrize("chain", [2, 3])
def test_no_scenario_at_all_breaks_anything(chain: Literal[2, 3]) -> None:
    """All 50,625 scenarios of four nodes, one twin, two groups and four rounds."""
    assert set(broken(list(Generator(rounds=4)), chain)) == {""}
