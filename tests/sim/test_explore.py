"""Exploration: against counts made by hand and by a naive twin, and against protocols with a known defect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from policies.config import RaftConfig
from policies.consensus import Raft
from policies.election import AskVote, Election, Vote
from policies.jobs import LoadJob
from policies.local import Propose
from policies.port import NS_PER_S, Policy
from policies.wire import Message
from sim.explore import Decision, Request, Result, Safety, ScopeError, explore
from tests.sim import live_cells
from tests.sim.live_cells import Budgets

# -- protocols small enough to count by hand ---------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """The one message."""


class Greeter(Policy):
    """Greets its only peer once."""

    messages = (Hello,)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.heard = 0
        self.port.set_timer("greet", NS_PER_S)

    def on_timer(self, name: str) -> None:
        self.port.broadcast(Hello())

    def on_message(self, sender: str, message: Hello) -> None:
        self.heard += 1


class Counter(Policy):
    """Counts its lives in which a timer fired, durably."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.value = int(saved.get("value", b"0"))
        self.port.set_timer("count", NS_PER_S)

    def on_timer(self, name: str) -> None:
        self.value += 1
        self.port.save("value", b"%d" % self.value)


def test_two_nodes_that_greet_once_have_nine_states() -> None:
    """Each way is silent, on its way or heard, independently: 3 x 3 states, and 2 x 3 + 3 x 2 transitions."""
    result = explore(Greeter, n=2)

    assert (result.states, result.transitions, result.depth, result.complete) == (9, 12, 4, True)


def test_one_drop_adds_the_states_in_which_a_greeting_is_lost() -> None:
    """With the drop spent, one way is lost (1) and the other silent, on its way or heard (3): 9 + 2 x 3 states."""
    result = explore(Greeter, n=2, drops=1)

    assert (result.states, result.complete) == (15, True)


def test_one_duplicate_adds_the_states_in_which_a_greeting_comes_twice() -> None:
    """With the duplicate spent, one way has two, one or none of the two on its way, the other is silent, on its way
    or heard once; no two of these are alike, because ``heard`` tells them apart: 9 + 2 x 3 x 3 states."""
    result = explore(Greeter, n=2, duplicates=1)

    assert (result.states, result.complete) == (27, True)


def test_a_crash_keeps_any_prefix_of_what_was_not_durable() -> None:
    """Before the crash: armed, saving, saved. Down: with nothing or a 1 on disk. Again up: armed, saving, saved, from
    either. Of the 12 transitions 4 are crashes: one from armed and from saved each, two from saving."""
    result = explore(Counter, n=1, crashes=1)

    assert (result.states, result.transitions, result.complete) == (3 + 2 + 6, 12, True)


class Listener(Policy):
    """Keeps the order in which it is told things, by clients and by itself."""

    messages = requests = (Hello,)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.told: list[str] = []

    def on_request(self, client: str, op_id: str, operation: Hello) -> None:
        self.told.append(op_id)
        self.port.send(self.port.me, Hello())

    def on_message(self, sender: str, message: Hello) -> None:
        self.told.append(sender)


def test_each_request_comes_once_in_any_order() -> None:
    """What the node tells itself after each is heard at any later time, and no network loses or repeats it. The
    histories that begin with a are listed; as many begin with b, and one is empty."""
    requests = [Request("n0", Hello(), op_id=op_id) for op_id in "ab"]
    result = explore(Listener, n=1, requests=requests, drops=1, duplicates=1)

    histories = {"", "a", "an", "ab", "anb", "abn", "abnn", "anbn"}
    assert result.states == 2 * len(histories) - 1
    assert result.complete


class Third(Policy):
    """Saves the same again and again, and waits for its third save."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.reached = False
        self.port.set_timer("save", NS_PER_S)

    def on_timer(self, name: str) -> None:
        self.port.save("key", b"")

    def on_durable(self, token: int) -> None:
        self.reached = token >= 3
        self.port.set_timer("save", NS_PER_S)


def test_states_of_a_policy_that_listens_to_tokens_differ_by_them() -> None:
    """Two states in which all else is alike are not taken for one: the third save is reached, by six choices."""
    reached = Safety(lambda nodes, _: "third" if nodes["n0"].reached else "")

    assert len(explore(Third, n=1, safety=[reached]).counterexample) == 6


# -- against the naive twin --------------------------------------------------------------------------


def seen(node: Any) -> object:
    """Return what tells an Election apart from another."""
    return node.term, node.voted_for, frozenset(node.votes)


@pytest.mark.parametrize(
    ("n", "budgets"),
    [(2, Budgets(2, crashes=1)), (2, Budgets(1, crashes=1, drops=1, duplicates=1)), (3, Budgets(1))],
)
def test_the_counts_are_those_of_a_naive_enumeration(n: int, budgets: Budgets) -> None:
    """Cells that are never copied, with real random streams and time, reach as many states by as many transitions."""
    result = explore(Election, n=n, **budgets._asdict())

    assert (result.states, result.transitions) == live_cells.count(Election, n, budgets, seen)
    assert result.complete


def test_a_depth_that_cuts_is_said() -> None:
    """A search cut off by depth or by the number of states is not complete, and tells how far it came."""
    whole = explore(Election, n=2, fires=2)
    by_depth = explore(Election, n=2, fires=2, depth=3)
    by_states = explore(Election, n=2, fires=2, states=50)

    assert whole.complete
    assert (by_depth.complete, by_depth.depth) == (False, 3)
    assert (by_states.complete, by_states.states) == (False, 50)
    assert by_states.depth < whole.depth
    assert by_depth.states < whole.states


# -- properties --------------------------------------------------------------------------------------


def add_leader(leaders: frozenset[tuple[int, str]], decision: Decision) -> frozenset[tuple[int, str]]:
    """Remember who led which term; Raft does not declare what it decides, so that it comes as a list."""
    if decision.kind != "leader":
        return leaders
    value = decision.value
    return leaders | {(value[1] if isinstance(value, list) else value.term, decision.node)}


def two_leaders(nodes: Mapping[str, Any], leaders: frozenset[tuple[int, str]]) -> str:
    """Return the first term that has two leaders."""
    terms = sorted(term for term, _ in leaders)
    return next((f"term {a} has two leaders" for a, b in pairwise(terms) if a == b), "")


def add_commit(commits: frozenset[tuple[int, ...]], decision: Decision) -> frozenset[tuple[int, ...]]:
    """Remember (index, term, checksum) of what was ever committed, by whomever."""
    return commits | {tuple(decision.value[1:])} if decision.kind == "commit" else commits


def commits_disagree(nodes: Mapping[str, Any], commits: frozenset[tuple[int, ...]]) -> str:
    """Return the first index at which two entries were committed."""
    indices = sorted(index for index, *_ in commits)
    return next((f"two commits at {a}" for a, b in pairwise(indices) if a == b), "")


def commit_lacked(nodes: Mapping[str, Any], commits: frozenset[tuple[int, ...]]) -> str:
    """Return which leader lacks an entry that was committed in an earlier term."""
    for name, node in nodes.items():
        for index, term, checksum in sorted(commits):
            if node.role != "leader" or node.term <= term:
                continue
            if [(t, crc32(command)) for t, command in node.log.entries[index - 1 : index]] != [(term, checksum)]:
                return f"{name} leads term {node.term} and lacks {index}"
    return ""


ONE_LEADER_A_TERM = Safety(two_leaders, add_leader, frozenset())
COMMITS_AGREE = Safety(commits_disagree, add_commit, frozenset())
LEADERS_KNOW = Safety(commit_lacked, add_commit, frozenset())


def test_elections_of_three_have_one_leader_a_term() -> None:
    """Whatever the order of messages, syncs, two time-outs and a crash at any point: all 78 thousand states."""
    result = explore(Election, n=3, fires=2, crashes=1, safety=[ONE_LEADER_A_TERM])

    assert result.complete
    assert result.broken == ""
    assert result.states > 50_000


class Forgetful(Election):
    """Does not save its vote."""

    def vote(self, term: int, candidate: str) -> None:
        self.term, self.voted_for, self.votes = term, candidate, set()
        self.port.cancel_timer("lead")
        self.wait()


class Hasty(Election):
    """Answers before its vote is durable."""

    def on_message(self, sender: str, message: Any) -> None:
        asked = isinstance(message, AskVote) and message.term > self.term
        super().on_message(sender, message)
        if asked:
            self.port.send(sender, Vote(self.term), early=True)


class HalfIsEnough(Election):
    """Takes half of three, rounded down, for a majority."""

    def count(self, voter: str) -> None:
        if len(self.votes) < (len(self.port.peers) + 1) // 2:
            self.votes.add(voter)
            self.port.decide("leader", AskVote(self.term))


@pytest.mark.parametrize(("defect", "crashes", "length"), [(Forgetful, 1, 8), (Hasty, 1, 10), (HalfIsEnough, 0, 4)])
def test_a_defect_is_found_and_its_counterexample_replays(defect: type[Election], crashes: int, length: int) -> None:
    """The choices, made one by one with Cells that know nothing of the search, break the property at the last one."""
    result = explore(defect, n=3, fires=2, crashes=crashes, safety=[ONE_LEADER_A_TERM])

    assert len(result.counterexample) == length
    assert str(result).count("\n") == length
    leaders: list[tuple[str, bytes]] = []
    live = live_cells.after(defect, 3, ())
    for choice in result.counterexample:
        assert len(leaders) < 2
        live.take(choice)
        leaders = [(name, payload) for name, kind, payload in live.decided if kind == "leader"]
    (one, first), (other, second) = leaders
    assert one != other
    assert first == second  # the same term


# -- Raft --------------------------------------------------------------------------------------------

# Without PreVote, which takes more steps than the scope has, and without CheckQuorum, which reads the clock.
CONFIG = RaftConfig(heartbeat_s=0.1, election_min_s=1.0, election_max_s=2.0, pre_vote=False, check_quorum=False)


class Member(Raft):
    """One of three, whose clients propose directly."""

    requests = (Propose,)

    def __init__(self) -> None:
        super().__init__(CONFIG, ("n0", "n1", "n2"))

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        self.on_local(client, operation)


def test_raft_holds_at_a_small_scope() -> None:
    """One leader a term, one entry an index, and leaders that know every commit, in every state within ten choices."""
    request = Request("n0", Propose(b"a"))
    safety = [ONE_LEADER_A_TERM, COMMITS_AGREE, LEADERS_KNOW]
    result = explore(Member, n=3, fires=2, crashes=1, depth=10, requests=[request], safety=safety)

    assert result.broken == ""
    assert result.depth == 10


class Blind(Member):
    """Votes for a candidate whatever is in its log."""

    def _up_to_date(self, last_term: int, last_index: int) -> bool:
        return True


class Whole(Member):
    """One of three, with PreVote and CheckQuorum."""

    def __init__(self) -> None:
        Raft.__init__(self, msgspec.structs.replace(CONFIG, pre_vote=True, check_quorum=True), ("n0", "n1", "n2"))


def test_raft_with_pre_vote_and_check_quorum_holds_at_a_small_scope() -> None:
    """The same three properties in all hundred thousand states within eleven choices, in some of which one leads."""
    safety = [ONE_LEADER_A_TERM, COMMITS_AGREE, LEADERS_KNOW]
    result = explore(Whole, n=3, fires=2, crashes=1, depth=11, clock=True, safety=safety)
    led = Safety(lambda nodes, _: "led" if any(node.role == "leader" for node in nodes.values()) else "")

    assert (result.broken, result.depth) == ("", 11)
    assert explore(Whole, n=3, fires=2, depth=11, clock=True, safety=[led]).broken == "led"


def test_a_vote_that_ignores_the_log_elects_a_leader_who_lacks_a_commit() -> None:
    """Section 5.4.1 of Ongaro and Ousterhout (2014): without its comparison leader completeness breaks, and the
    counterexample breaks it with other Cells, too."""
    result = explore(Blind, n=3, fires=2, safety=[LEADERS_KNOW])

    assert "lacks" in result.broken
    live = live_cells.after(Blind, 3, result.counterexample)
    commits: frozenset[tuple[int, ...]] = frozenset()
    for name, kind, payload in live.decided:
        commits = add_commit(commits, Decision(name, "", kind, msgspec.msgpack.decode(payload)))
    assert commit_lacked(live.policies(), commits) == result.broken


def test_raft_commits_within_the_scope() -> None:
    """The scope is not too small to matter: a command is committed in some state of it."""
    committed = Safety(lambda nodes, _: "committed" if any(node.commit == 2 for node in nodes.values()) else "")
    result = explore(Member, n=3, fires=1, requests=[Request("n0", Propose(b"a"))], safety=[committed])

    assert result.broken == "committed"
    live = live_cells.after(Member, 3, result.counterexample)
    assert any(node.commit == 2 for node in live.policies().values())


# -- what is not explored is said --------------------------------------------------------------------


class Patient(Policy):
    """Reads its clock when a timer fires."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.done = False
        self.since = self.port.now
        self.port.set_timer("late", 10 * NS_PER_S)

    def on_timer(self, name: str) -> None:
        self.done = self.port.now - self.since >= 10 * NS_PER_S


def test_a_policy_that_reads_time_is_refused_without_a_clock() -> None:
    """With one, a timer finds its deadline passed."""
    with pytest.raises(ScopeError, match=r"port\.now: allowed with clock=True"):
        explore(Patient, n=1)

    done = Safety(lambda nodes, _: "done" if nodes["n0"].done else "")
    assert explore(Patient, n=1, clock=True, safety=[done]).broken == "done"


class Worker(Policy):
    """Submits a job."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.port.submit(LoadJob("model", 0, 1))


class Slotted(Policy):
    """Hides its state."""

    __slots__ = ("value",)


class Opaque(Policy):
    """Holds what cannot be copied."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.ask = lambda: 1


@pytest.mark.parametrize(
    ("policy", "scope", "line"),
    [
        (Worker, {}, "submits a job: allowed are messages, timers and saves"),
        (Slotted, {}, "Slotted has __slots__: allowed are"),
        (Opaque, {}, "allowed are attributes that can be pickled"),
        (Greeter, {"n": 0}, "n=0: allowed are 1 to"),
        (Greeter, {"drops": -1}, "drops=-1: allowed are 0 to"),
        (Greeter, {"fires": -1}, "fires=-1: allowed are 0 to"),
        (Greeter, {"requests": [Request("n0", Hello())] * 33}, "requests=33 of them: allowed are at most 32"),
        (Greeter, {"requests": [Request("n7", Hello())]}, r"requests to \['n7'\]: allowed are n0 to n1"),
    ],
)
def test_a_scope_that_cannot_be_explored_is_refused_in_one_line(
    policy: type[Policy], scope: dict[str, Any], line: str
) -> None:
    """The line names what was given and what is allowed."""
    with pytest.raises(ScopeError, match=line):
        explore(policy, **{"n": 2, **scope})


class Fragile(Greeter):
    """Does not bear a second greeting."""

    def on_message(self, sender: str, message: Hello) -> None:
        super().on_message(sender, message)
        if self.heard > 1:
            raise RuntimeError("twice")


def test_an_exception_in_a_handler_is_a_counterexample() -> None:
    """The way to it is a shortest one: greet, come twice, hear, hear."""
    result = explore(Fragile, n=2, duplicates=1)

    assert result.broken.endswith("raised RuntimeError: twice")
    assert [choice.kind for choice in result.counterexample] == ["fire", "duplicate", "deliver", "deliver"]
    assert str(result.counterexample[1]) == "-- duplicate hello() from n0 to n1"


def test_progress_is_told() -> None:
    """Every ten thousand states the result so far is told."""
    told: list[Result] = []
    explore(Election, n=3, fires=2, crashes=1, states=20_000, progress=told.append)

    assert [result.states for result in told] == [10_000, 20_000]


# -- determinism -------------------------------------------------------------------------------------

SCRIPT = """
from tests.sim.test_explore import *
print(explore(Election, n=3, fires=2, safety=[ONE_LEADER_A_TERM]))
print(explore(Hasty, n=3, fires=2, crashes=1, safety=[ONE_LEADER_A_TERM]))
print(explore(Member, n=3, fires=1, depth=9, safety=[COMMITS_AGREE]))
"""


def test_a_result_does_not_depend_on_the_hash_seed() -> None:
    """Two processes with different PYTHONHASHSEED count alike and find the same counterexample."""
    root = Path(__file__).parents[2]
    printed = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
        printed.append(done.stdout)
        assert done.returncode == 0, done.stderr

    assert printed[0] == printed[1]
    assert "two leaders" in printed[0]
