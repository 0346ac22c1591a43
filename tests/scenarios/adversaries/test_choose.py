"""Who lies: scenarios in the short form and the typed one, the budget f, and one line for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scenarios.adversaries import behaviours as b
from scenarios.adversaries.choose import Role, choose, role_in, with_role
from scenarios.adversaries.table import table
from scenarios.schema import ScenarioError, build, to_plain

DOCS = Path(__file__).resolve().parents[3] / "docs"
FLEET = {"phones": 3, "tablets": 0, "laptops": 2, "desktops": 3, "gpu_boxes": 1, "dedicated": 1, "committee": 3}
KINDS = {
    "phone-0": "phone", "phone-1": "phone", "phone-2": "phone", "laptop-0": "laptop", "laptop-1": "laptop",
    "desktop-0": "desktop", "desktop-1": "desktop", "desktop-2": "desktop", "gpu-box-0": "gpu_box",
}  # fmt: skip
COMMITTEE = ("desktop-0", "desktop-1", "desktop-2")


def scenario(*adversaries: dict[str, Any], **more: Any) -> Any:
    """Build a scenario of a small fleet."""
    return build({"name": "t", "adversaries": list(adversaries), **{"fleet": FLEET, **more}})


def roles(*adversaries: dict[str, Any], seed: int = 1) -> dict[str, Role]:
    """Return who does what."""
    return choose(scenario(*adversaries).adversaries, KINDS, COMMITTEE, seed)


def test_the_short_form_is_the_typed_one_in_a_word() -> None:
    """``behaviour: silent`` draws workers as ever, and does what the struct of that name does."""
    short, typed = (
        roles({"kind": "phone", "count": 2, **what})
        for what in ({"behaviour": "silent", "from_s": 5}, {"behaviours": [{"kind": "silent", "from_s": 5.0}]})
    )

    assert short == typed
    assert len(short) == 2
    assert all(KINDS[name] == "phone" for name in short)
    assert {role.behaviours for role in short.values()} == {(b.Silent(from_s=5.0),)}


def test_members_and_names_are_taken_as_they_stand_and_never_drawn_again() -> None:
    """Indices mean the committee, names anybody; draws take others, whatever the seed."""
    lies = {"behaviours": [{"kind": "silent"}]}
    for seed in range(20):
        found = roles(
            {"kind": "laptop", **lies}, {"names": ["laptop-1"], **lies}, {"committee": [2, 0], **lies}, seed=seed
        )
        assert set(found) == {"laptop-0", "laptop-1", "desktop-0", "desktop-2"}


def test_a_coalition_spans_entries_in_the_order_of_the_fleet() -> None:
    """All of its members are told of one another, and nobody else."""
    found = roles(
        {"committee": [1], "behaviours": [{"kind": "collude"}], "coalition": "ring"},
        {"names": ["phone-2"], "behaviour": "silent", "coalition": "ring"},
        {"names": ["phone-0"], "behaviour": "silent"},
    )

    assert found["desktop-1"].members == found["phone-2"].members == ("phone-2", "desktop-1")
    assert (found["phone-0"].coalition, found["phone-0"].members) == ("", ())


def test_an_entry_begins_no_behaviour_before_its_own_time() -> None:
    """``from_s`` of the entry is a floor for each of its behaviours."""
    behaviours = [{"kind": "silent", "from_s": 5.0}, {"kind": "delay", "bound_s": 1.0, "from_s": 50.0}]
    (role,) = roles({"names": ["phone-0"], "from_s": 20.0, "behaviours": behaviours}).values()

    assert [behaviour.from_s for behaviour in role.behaviours] == [20.0, 50.0]


def test_a_role_survives_a_journals_header() -> None:
    """A header's plain configuration holds the role, and none for an honest node."""
    (role,) = roles(
        {"committee": [1], "behaviours": [{"kind": "collude"}, {"kind": "twins"}], "coalition": "x"}
    ).values()

    assert role_in(with_role({"me": "n0"}, role)) == role
    assert with_role({"me": "n0"}, None) == {"me": "n0"}
    assert role_in({"me": "n0"}) is None


def test_scenarios_with_behaviours_survive_their_own_plain_form() -> None:
    """What was built is equal after a trip through plain data."""
    built = scenario(
        {"committee": [0], "behaviours": [{"kind": "corrupt", "tags": ["append"], "field": [0], "by": 1000}]},
        {"behaviour": "wrong_results", "count": 2}, adversaries_max=3,
    )  # fmt: skip

    assert build(to_plain(built)) == built


SILENT = {"behaviours": [{"kind": "silent"}]}


@pytest.mark.parametrize(
    ("adversaries", "more", "says"),
    [
        ([{**SILENT, "count": 2}, {**SILENT, "committee": [0]}], {"adversaries_max": 2},
         "adversaries: 3 of them; allowed: up to adversaries_max=2"),
        ([SILENT], {"adversaries_max": 0}, "adversaries: 1 of them; allowed: up to adversaries_max=0"),
        ([{"count": 1}], {}, "adversaries[0].behaviours=[]: expected at least one"),
        ([{**SILENT, "committee": [3]}], {}, "adversaries[0].committee[0]=3: committee has members 0..2"),
        ([{**SILENT, "names": ["phone-3"]}], {},
         "adversaries[0].names: 'phone-3' is no device of the fleet; allowed: desktop-0..2, gpu-box-0..0, phone-0..2"),
        ([{**SILENT, "names": ["desktop-0"]}, {**SILENT, "committee": [0]}], {},
         "adversaries[1]: desktop-0 is named twice"),
        ([{"behaviours": [{"kind": "silent", "peers": ["n1"]}]}], {}, "behaviours[0]: 'n1' is no device"),
        ([{"behaviours": [{"kind": "impersonate", "victim": "bob"}]}], {}, "behaviours[0]: 'bob' is no device"),
        ([{"behaviours": [{"kind": "collude"}]}], {},
         "adversaries[0].behaviours[0]: collude needs a coalition; give adversaries[0].coalition a name"),
        ([{**SILENT, "kind": "laptop", "count": 2}, {**SILENT, "names": ["laptop-0"]}], {},
         "adversaries: 2 of kind laptop; the fleet has 1 outside the committee beside those named"),
        ([{"behaviours": [{"kind": "rude"}]}], {}, "behaviours[0].kind='rude': expected one of silent, "),
        ([{"behaviours": [{"kind": "silent", "shre": 1}]}], {}, "adversaries[0].behaviours[0].shre: no such field"),
        ([{"behaviours": [{"kind": "silent", "from_s": 9, "until_s": 3}]}], {}, "until_s=3.0: expected > from_s=9.0"),
        ([{"from_s": 9, "behaviours": [{"kind": "silent", "until_s": 3}]}], {}, "until_s=3.0: expected > from_s=9.0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(adversaries: list[dict[str, Any]], more: dict[str, Any], says: str) -> None:
    """The line names the item and what is allowed."""
    with pytest.raises(ScenarioError) as refused:
        scenario(*adversaries, **more)

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


LIARS = [{**SILENT, "committee": [1]}, {**SILENT, "names": ["desktop-2"]}]
"""Two of the committee, one by its index and one by its name."""


def committee(adversaries: list[dict[str, Any]], protocol: str, **more: Any) -> Any:
    """Build a scenario with a committee of four."""
    fleet = {**FLEET, "committee": 4}
    return scenario(*adversaries, fleet=fleet, policy={"consensus": {"protocol": protocol}}, **more)


@pytest.mark.parametrize("protocol", ["hotstuff", "pbft"])
@pytest.mark.parametrize("more", [{}, {"adversaries_max": 2}])
def test_more_lying_members_than_the_protocol_bears_are_refused(protocol: str, more: dict[str, Any]) -> None:
    """Whatever the budget of all adversaries is; and one of four is fine, with any number of workers beside it."""
    with pytest.raises(ScenarioError, match=r"^adversaries: 2 members of a committee of 4 lie; allowed: up to f=1"):
        committee(LIARS, protocol, **more)

    assert committee([LIARS[0], {**SILENT, "count": 3}], protocol)


@pytest.mark.parametrize(
    ("adversaries", "protocol", "more"),
    [
        (LIARS, "hotstuff", {"adversaries_beyond_f": True}),
        (LIARS, "raft", {}),  # it bears none: a scenario with one shows that
        ([LIARS[0], {"names": ["desktop-2"], "behaviours": [{"kind": "wrong_results"}]}], "pbft", {}),
    ],
)
def test_liars_that_break_no_bound_or_are_meant_to_are_accepted(
    adversaries: list[dict[str, Any]], protocol: str, more: dict[str, Any]
) -> None:
    """An experiment beyond f says so; Raft has no f; who does its work wrong may agree rightly."""
    assert len(committee(adversaries, protocol, **more).adversaries) == 2


def test_the_page_is_made_of_the_docstrings() -> None:
    """``docs/adversaries.md`` is what the generator prints, and every row has all its cells."""
    page = table()

    assert (DOCS / "adversaries.md").read_text() == page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert all(all(cell.strip() for cell in line.split(" | ")[:2] + line.split(" | ")[3:]) for line in rows)
