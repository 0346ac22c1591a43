"""Membership changes: the law that makes them safe, tried over all quorums, and the laws of each function."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policies.consensus.changes import Change, Membership, between, enter_joint, leave_joint, simple
from policies.consensus.quorum import Voters, vote_result
from policies.wire import encode
from tests.policies.consensus.transcripts import FOLDER, play

NAMES = ("a", "b", "c", "d", "e")
CHANGES = st.lists(
    st.builds(Change, st.sampled_from(("add_voter", "add_learner", "remove", "update")), st.sampled_from(NAMES)),
    max_size=6,
)
SPLIT = st.permutations(NAMES).flatmap(
    lambda names: st.tuples(st.integers(1, 4), st.integers(0, 2)).map(
        lambda cut: (tuple(names[: cut[0]]), tuple(names[cut[0] : cut[0] + cut[1]]))
    )
)
STABLE = SPLIT.map(lambda split: Membership(Voters(split[0]), split[1]))


def quorums(membership: Membership) -> list[set[str]]:
    """Return every set of members that may decide alone."""
    everybody = membership.everybody
    sets = (set(some) for size in range(len(everybody) + 1) for some in combinations(everybody, size))
    return [some for some in sets if vote_result(membership.voters, dict.fromkeys(some, True)) == "won"]


def attempt(how: Callable[..., Membership], before: Membership, changes: list[Change]) -> Membership | None:
    """Return the membership after, None where it is refused."""
    try:
        return how(before, changes)
    except ValueError:
        return None


def meet(one: Membership, other: Membership) -> bool:
    """Say whether no two quorums of the two can decide apart."""
    return all(a & b for a in quorums(one) for b in quorums(other))


@given(STABLE, CHANGES)
def test_old_and_new_quorums_always_meet(before: Membership, changes: list[Change]) -> None:
    """Whatever is asked: each step, simple or into or out of a joint configuration, leaves no room for two leaders."""
    if (joint := attempt(enter_joint, before, changes)) is not None:
        assert meet(before, joint)
        assert meet(joint, leave_joint(joint))

    if (direct := attempt(simple, before, changes)) is not None:
        assert meet(before, direct)


def test_without_a_joint_configuration_two_quorums_may_miss_each_other() -> None:
    """The paper's figure 10: three members become five at once, and old and new majorities are disjoint."""
    assert not meet(Membership(Voters(("a", "b", "c"))), Membership(Voters(("a", "b", "c", "d", "e"))))


@given(STABLE, CHANGES)
def test_a_change_by_way_of_a_joint_configuration_ends_where_a_simple_one_does(
    before: Membership, changes: list[Change]
) -> None:
    """Where both are allowed they agree on who votes and who listens."""
    direct = attempt(simple, before, changes)
    assume(direct is not None)
    assert direct is not None
    after = leave_joint(enter_joint(before, changes))

    assert set(after.voters.incoming) == set(direct.voters.incoming)
    assert set(after.learners) == set(direct.learners)


@given(STABLE, SPLIT)
def test_the_changes_between_two_memberships_lead_from_one_to_the_other(
    before: Membership, goal: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """They end exactly there, and there is nothing to do where nothing differs."""
    after = leave_joint(enter_joint(before, between(before, *goal), auto_leave=True))

    assert (set(after.voters.incoming), set(after.learners)) == (set(goal[0]), set(goal[1]))
    assert between(after, *goal) == ()


@given(STABLE)
def test_what_is_already_so_changes_nothing(before: Membership) -> None:
    """Not even the order: members keep the places in which they joined."""
    for name in before.voters.incoming:
        assert simple(before, [Change("add_voter", name)]) == before
    for name in before.learners:
        assert simple(before, [Change("add_learner", name)]) == before


@given(STABLE, CHANGES)
def test_a_membership_survives_the_wire(before: Membership, changes: list[Change]) -> None:
    """It reads back as it was written, joint or not."""
    membership = attempt(enter_joint, before, changes) or before

    assert msgspec.msgpack.decode(encode(membership), type=Membership) == membership


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (lambda: Membership(Voters((), ("a",))), r"voters\.incoming: empty"),
        (lambda: Membership(Voters(("a",)), ("b", "b")), "learners: .*twice"),
        (lambda: Membership(Voters(("a",)), ("a",)), "learners: .*'a'.* are voters"),
        (lambda: Membership(Voters(("a",), ("b",)), ("b",)), "learners: .*'b'.* are voters"),
        (lambda: Membership(Voters(("a",)), (), ("b",)), "learners_next: .*only outgoing"),
        (lambda: Membership(Voters(("a",), ("a",)), (), ("a",)), "learners_next: .*only outgoing"),
        (lambda: Membership(Voters(("a",)), auto_leave=True), "auto_leave"),
        (lambda: between(Membership(Voters(("a",), ("a",))), ("b",)), "members: .*joint"),
        (lambda: between(Membership(Voters(("a",))), ()), "members: empty"),
        (lambda: between(Membership(Voters(("a",))), ("b", "b")), r"voters\.incoming.*twice"),
        (lambda: between(Membership(Voters(("a",))), ("b",), ("b",)), "learners: .*are voters"),
    ],
)
def test_what_is_no_membership_is_refused_in_one_line(what: object, says: str) -> None:
    """Each invariant names the field that breaks it."""
    assert callable(what)
    with pytest.raises(ValueError, match=says) as refusal:
        what()
    assert "\n" not in str(refusal.value)


# -- transcripts -------------------------------------------------------------------------------------

WORDS = {"voter": "add_voter", "learner": "add_learner", "remove": "remove", "update": "update"}


class Told:
    """The membership of a transcript; a change that is refused leaves it as it was."""

    def __init__(self) -> None:
        self.membership = Membership(Voters(()))

    def simple(self, *changes: str) -> str:
        """Directive: change at most one voter."""
        return self._become(lambda: simple(self.membership, parsed(changes)))

    def enter_joint(self, *changes: str, auto_leave: str = "no") -> str:
        """Directive: change any."""
        return self._become(lambda: enter_joint(self.membership, parsed(changes), auto_leave == "yes"))

    def leave_joint(self) -> str:
        """Directive: let the outgoing voters go."""
        return self._become(lambda: leave_joint(self.membership))

    def _become(self, how: Callable[[], Membership]) -> str:
        try:
            self.membership = how()
        except ValueError as refusal:
            return f"refused: {refusal}"
        return shown(self.membership)


def parsed(changes: tuple[str, ...]) -> list[Change]:
    """Return what words like ``voter:a`` ask for."""
    pairs = (change.split(":") for change in changes)
    return [msgspec.convert((WORDS[word], member), Change) for word, member in pairs]


def shown(membership: Membership) -> str:
    """Return a line a group that is not empty, names in order."""
    groups = {
        "voters": membership.voters.incoming,
        "outgoing": membership.voters.outgoing,
        "learners": membership.learners,
        "learners_next": membership.learners_next,
    }
    lines = [f"{group} {' '.join(sorted(held))}" for group, held in groups.items() if held]
    return "\n".join(lines + ["auto_leave"] * membership.auto_leave)


@pytest.mark.parametrize("path", sorted((FOLDER / "changes").glob("*.txt")), ids=lambda path: path.stem)
def test_the_published_changes_lead_where_published(path: Path) -> None:
    """What is done and what is refused in the nine stories of etcd-io/raft's membership changes."""
    told = Told()
    play(path, {"simple": told.simple, "enter-joint": told.enter_joint, "leave-joint": told.leave_joint})
