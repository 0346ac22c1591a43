"""What comes of it: adversaries in small clusters of real policies, and the outcome that theory asks for.

Raft and the election tolerate crashes, not lies: where they are unsafe against a behaviour, a test shows it, so that
the table of expected outcomes is not a hope.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from policies.config import RaftConfig
from policies.consensus.raft import Raft
from policies.election import Election
from policies.local import Propose
from policies.port import Policy
from scenarios.adversaries import behaviours as b
from scenarios.checks import VillageChecks
from scenarios.journal import effects_checksum, read
from sim.cluster import Cluster

NAMES = tuple(f"n{k}" for k in range(5))
CONFIG = RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.3)


class Proposer(Policy):
    """Proposes a command each 50 ms; the member that leads takes it."""

    def on_start(self, saved: Any) -> None:
        self.count = 0
        self.port.set_timer("propose", 50_000_000)

    def on_timer(self, name: str) -> None:
        self.count += 1
        self.port.tell("consensus", Propose(f"{self.port.me}/{self.count}".encode()))
        self.port.set_timer("propose", 50_000_000)


def all_of(names: Sequence[str], *behaviours: b.Behaves) -> dict[str, Sequence[b.Behaves]]:
    """Return the same behaviours for several nodes."""
    return {name: behaviours for name in names}


def committee(adversaries: dict[str, Sequence[b.Behaves]], seed: int = 1, **more: Any) -> tuple[Cluster, VillageChecks]:
    """Run five Raft members for five seconds; the checks hear only honest ones."""
    cluster = Cluster(
        lambda: {"consensus": Raft(CONFIG, NAMES), "client": Proposer()}, seed=seed, adversaries=adversaries, **more
    )
    checks, honest = VillageChecks(), set(NAMES) - set(adversaries)

    def decided(now: int, node: Any, effect: Any) -> None:
        if node.name in honest:
            checks.decided(now, node.name, effect[1], effect[2], effect[3])

    cluster.world.on_decide.append(decided)
    cluster.run(5)
    return cluster, checks


def safe(checks: VillageChecks) -> bool:
    """Whether honest members kept Raft's promises."""
    return checks.one_leader.holds and checks.agreement.holds and checks.in_order.holds


LEADER = ("append",)
MINORITY_LIVE: dict[str, Sequence[b.Behaves]] = {
    "silent": [b.Silent()],
    "deaf": [b.Silent(side="receive", from_s=1.0, until_s=3.0)],
    "withhold": [b.Withhold(tags=("vote", "appended"))],
    "delay": [b.Delay(bound_s=0.1)],
    "reorder": [b.Reorder()],
    "replay": [b.Replay(every_s=0.05, age_s=1.0, heard=True)],
    "skewed wall": [b.SkewedClock(amount_s=-1e6)],
    "slow clock": [b.SkewedClock(shape="linear", ppm=-200_000, monotonic=True)],
    "swinging clock": [b.SkewedClock(shape="periodic", amount_s=0.2, period_s=2.0, monotonic=True)],
    "impersonate": [b.Impersonate(victim="n0", forward=True)],
    "sybil": [b.Sybil(tags=("vote", "appended"))],
    "all at once": [b.Delay(bound_s=0.05), b.Replay(every_s=0.1), b.Silent(share=0.3), b.Reorder()],
}


@pytest.mark.parametrize("name", MINORITY_LIVE)
def test_two_of_five_that_do_not_lie_about_the_log_stop_nothing(name: str) -> None:
    """Omission, timing, replays and wrong clocks of a minority leave Raft safe, and it goes on committing."""
    liars = all_of(("n3", "n4"), *MINORITY_LIVE[name])
    for seed in (1, 2):
        _, checks = committee(liars, seed)

        assert safe(checks), [v.broken for v in checks.all]
        assert checks.commits > 15


def test_a_majority_that_is_silent_stops_commits_and_breaks_nothing() -> None:
    """With three of five silent from 2 s on nothing is committed after, and promises hold."""
    cluster, checks = committee(all_of(("n2", "n3", "n4"), b.Silent(from_s=2.0)))
    last_s = max(d.time_s for d in cluster.decisions if d.kind == "commit" and d.node in ("n0", "n1"))

    assert safe(checks)
    assert 1.0 < last_s < 2.5


def test_a_sybil_of_five_has_one_vote() -> None:
    """A node that says every vote five times over elects nobody: three silent, two cannot make a majority of five."""
    cluster, _ = committee({**all_of(("n2", "n3", "n4"), b.Silent()), "n1": [b.Sybil(identities=5)]})

    assert [d for d in cluster.decisions if d.kind == "leader"] == []


def test_a_flood_of_terms_and_a_jump_are_safe_and_bounded() -> None:
    """Crash-fault Raft follows every higher term: leaders fall, promises hold, and memory does not grow by terms."""
    flood = b.Flood(tags=("append", "request_vote"), from_s=1.0)
    jump = b.Corrupt(tags=("appended",), field=(0,), by=1000, from_s=1.0, until_s=2.0)
    for behaviour in (flood, jump):
        _, calm = committee({})
        cluster, checks = committee({"n4": [behaviour]})

        assert safe(checks)
        assert max(cluster.policy(n, "consensus").term for n in NAMES) > calm.leaders[-1][2] + 10
        assert max(cluster.policy(n, "consensus").log.last for n in NAMES) < 400


def test_bytes_of_another_form_are_refused_by_the_codec() -> None:
    """A text where a number belongs is counted as malformed and changes nothing."""
    corrupt = b.Corrupt(tags=("append", "request_vote", "vote", "appended"), field=(0,), change="set", to="x")
    cluster, checks = committee({"n4": [corrupt]})

    assert safe(checks)
    assert checks.commits > 15
    assert sum(cluster.cell(n).malformed for n in NAMES[:4]) > 0


def broken(behaviour: b.Behaves, among: Sequence[str], seeds: range) -> bool:
    """Whether some seed gives two honest leaders in one term of an election."""
    for seed in seeds:
        cluster = Cluster(Election, 5, seed, adversaries=all_of(among, behaviour))
        cluster.run(2)
        leaders: dict[int, set[str]] = {}
        for d in cluster.decisions:
            if d.kind == "leader" and d.node not in among:
                leaders.setdefault(d.value.term, set()).add(d.node)
        if any(len(names) > 1 for names in leaders.values()):
            return True
    return False


def test_twins_vote_twice_and_a_crash_fault_election_does_not_survive_it() -> None:
    """Two twins of five give two honest leaders in one term under some seed; without them the seeds give none."""
    assert broken(b.Twins(peers=("n0",)), ("n3", "n4"), range(300))
    assert not broken(b.Twins(peers=("n0",), from_s=100.0), ("n3", "n4"), range(300))


def test_a_changed_entry_is_unsafe_for_crash_fault_raft() -> None:
    """A leader that tells followers different entries makes honest members commit different ones: no BFT is claimed."""
    split = b.Split(tags=LEADER, field=(4, 0, 1), groups=(("n0", "n1"), ("n2", "n3")))
    verdicts = [committee({"n4": [split]}, seed)[1] for seed in range(8)]

    assert any(not checks.agreement.holds for checks in verdicts)


def test_colluders_stay_silent_together_and_a_minority_of_them_is_harmless() -> None:
    """Two colluders that lie in turns whisper over the network, and the honest go on."""
    liars = all_of(("n3", "n4"), b.Silent(), b.Collude(turn_s=1.0))
    cluster, checks = committee(liars, coalition=("n3", "n4"))
    whispers = [e for event in cluster.events for e in event.effects if e[1] == "~~coalition"]

    assert safe(checks)
    assert checks.commits > 15
    assert whispers


def test_a_restart_with_an_old_state_forgets_a_vote() -> None:
    """Who forgets is back at the term it had at ``from_s``, although its disk knows better."""
    cluster = Cluster(Election, 3, adversaries={"n2": [b.OldState(nothing=True)]})
    cluster.run(3)
    term = cluster.policy("n2").term
    cluster.crash("n2")
    cluster.partition(["n2"])
    cluster.restart("n2")

    assert term >= 1
    assert cluster.policy("n2").term == 0


def test_a_seed_with_adversaries_is_one_history_and_liars_replay() -> None:
    """The digest repeats, and a liar's journal through fresh wrappers gives the effects that left."""
    from policies.cell import Cell
    from scenarios.adversaries.attach import attach
    from sim.keys import KeyRing

    wrong = [b.Delay(bound_s=0.2), b.Silent(share=0.3), b.Replay(every_s=0.2), b.Twins(peers=("n0",), from_s=1.0)]
    runs = [Cluster(Election, 5, 3, adversaries={"n4": wrong}, journal=True) for _ in range(2)]
    for run in runs:
        run.run(5)
    header, rows = read(runs[0].journals()["n4"])
    cell = attach(
        lambda keys: Cell(Election(), "n4", header.peers, seed=3, keys=keys), wrong, me="n4", peers=header.peers,
        seed=3, keys=KeyRing(3).handle("n4"),
    )  # fmt: skip
    steps = 0
    for now, wall, given, checksum, _ in rows:
        assert effects_checksum(cell.step(now, wall, given)) == checksum
        steps += 1

    assert runs[0].digest == runs[1].digest
    assert steps > 50
