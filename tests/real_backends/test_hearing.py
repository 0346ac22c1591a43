"""Messages in the journals of a local run reach the checks of messages."""

from __future__ import annotations

from policies import port as p
from policies.wire import encode
from real_backends.gather import _hear
from scenarios.checks import VillageChecks
from scenarios.journal import Header, Journal

MEMBERS = ("a", "b", "c", "d")


def journal(name: str, *heard: tuple[str, bytes]) -> bytes:
    """Return the journal of a member that heard votes for blocks in view 7."""
    made = Journal(Header(name, MEMBERS, 1, "local", policies={}, config={}))
    for number, (sender, block) in enumerate(heard):
        payload = encode(["vote", 0, 7, block, b""])
        made.add(number, number, (p.MESSAGE, "consensus", sender, payload), ())
    return made.take()


def test_a_member_that_tells_two_others_different_votes_is_found_in_their_journals() -> None:
    """No one journal shows it; what a known liar said is not counted."""
    journals = {"b": journal("b", ("a", b"one"), ("d", b"one")), "c": journal("c", ("a", b"two"), ("d", b"two"))}
    liars_apart = VillageChecks(members=MEMBERS, faulty=("d",), protocol="hotstuff")
    _hear(liars_apart, {**journals, "a": journal("a")})
    nobody_lies = VillageChecks(members=MEMBERS, protocol="hotstuff")
    _hear(nobody_lies, {"b": journal("b", ("a", b"one")), "c": journal("c", ("a", b"one")), "a": journal("a")})

    assert liars_apart.first_broken is not None
    assert liars_apart.first_broken.broken.startswith("t=0ns: a votes for ")
    assert nobody_lies.first_broken is None
    assert [check.events for check in nobody_lies.all if check.name == "no_double_vote"] == [2]
