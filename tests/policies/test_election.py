"""Election: at most one leader a term under any faults, and a leader once they end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.cell import Cell
from policies.election import AskVote, Election
from policies.port import MESSAGE, NS_PER_S, START, TIMER
from policies.wire import encode
from scenarios.schema import Network
from sim.cluster import Cluster
from sim.keys import KeyRing

FAULTS = st.lists(
    st.tuples(st.sampled_from(["crash", "restart", "partition", "heal"]), st.integers(0, 4), st.floats(0.01, 1.5)),
    max_size=14,
)


def leaders_by_term(cluster: Cluster) -> dict[int, set[str]]:
    """Return who announced to lead which term."""
    found: dict[int, set[str]] = {}
    for decision in cluster.decisions:
        found.setdefault(decision.value.term, set()).add(decision.node)
    return found


@settings(max_examples=40, deadline=None)
@given(FAULTS, st.integers(1, 1000), st.integers(1, 5), st.floats(0.0, 0.4), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_never_two_leaders_and_in_the_end_one(
    faults: list[tuple[str, int, float]], seed: int, n: int, loss: float, duplicate: float, torn: float
) -> None:
    """Whatever crashes, parts, is lost or doubled, a term has one leader; when all is well again, somebody leads."""
    cluster = Cluster(Election, n, seed, Network(loss=loss, duplicate=duplicate))
    down: set[str] = set()
    for what, number, seconds in faults:
        name = cluster.names[number % n]
        if what == "crash" and name not in down:
            cluster.crash(name, torn)
            down.add(name)
        elif what == "restart" and name in down:
            cluster.restart(name)
            down.discard(name)
        elif what == "partition":
            cluster.partition([name])
        elif what == "heal":
            cluster.heal()
        cluster.run(seconds)
    for name in sorted(down):
        cluster.restart(name)
    cluster.heal()
    cluster.world.network.config = Network(loss=0.0, duplicate=0.0)
    cluster.run(15)

    assert all(len(names) == 1 for names in leaders_by_term(cluster).values())
    terms = {cluster.policy(name).term for name in cluster.names}
    assert len(terms) == 1
    leader = leaders_by_term(cluster)[terms.pop()]
    late_ns = (cluster.now_s - 1) * NS_PER_S
    heard = {event.given[2] for event in cluster.events if event.given[0] == MESSAGE and event.now_ns > late_ns}
    assert heard == (leader if n > 1 else set())  # in the last second only the leader has spoken


def test_followers_are_quiet_under_a_leader() -> None:
    """On a good network the first leader stays: no campaign is needed as long as it is heard."""
    cluster = Cluster(Election, 5, 1, Network(loss=0.0, duplicate=0.0))
    cluster.run(60)

    assert len(cluster.decisions) == 1


def test_a_term_from_which_nobody_could_count_on_is_none() -> None:
    """The last one that is taken in can be followed by the next; what is beyond it never reaches the policy."""
    policy = Election()
    cell = Cell(policy, "a", ("b",), seed=1, keys=KeyRing(1).handle("a"))
    cell.step(0, 0, (START, "", {}, 0))
    for term in (2**64 - 1, 2**63, 2**62 + 1, -1):
        cell.step(0, 0, (MESSAGE, "", "b", encode(["ask_vote", term])))
    assert (cell.malformed, policy.term) == (4, 0)

    effects = cell.step(0, 0, (MESSAGE, "", "b", encode(AskVote(2**62))))
    timers = [e for e in effects if e[0] == 1 and e[2] == "campaign"]
    cell.step(0, 0, (TIMER, "", "campaign", timers[-1][4]))
    assert policy.term == 2**62 + 1
