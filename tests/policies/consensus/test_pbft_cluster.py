"""PBFT in the simulated world: crashes, partitions, losses, and one liar of four with each way of lying."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from policies.config import PbftConfig
from scenarios.adversaries import behaviours as b
from scenarios.checks import Checks, consensus
from scenarios.schema import Network
from sim.guard import Guards
from tests.policies.consensus.pbft_cluster import CONFIG, Committee

ROUGH = Network(backbone_s=0.005, jitter_sigma=1.0, loss=0.1, duplicate=0.1)


def test_a_command_takes_four_hops_and_four_syncs() -> None:
    """Request, pre-prepare, prepare and commit of 4 ms each; who sends one of the last three saves first, 2 ms each,
    and a decision is told when it is durable. What is left is the time of steps and signatures."""
    calm = Network(backbone_s=0.002, jitter_sigma=0.0, loss=0.0, duplicate=0.0)
    committee = Committee(4, network=calm, config=PbftConfig())
    committee.run(0.5)
    begun = committee.cluster.now_s
    committee.put("n1")
    committee.run(0.2)

    took = [d.time_s - begun for d in committee.cluster.decisions if d.kind == "commit"]
    assert len(took) == 4
    assert all(0.024 <= s < 0.026 for s in took)


def test_members_are_pure_functions_of_what_they_hear() -> None:
    """Every fourth step is taken by a copy, too, with the same effects and the same state after it."""
    committee = Committee(4, snapshot_every=5, guards=Guards(copy_every=4))
    committee.put("n1", 12, every_s=0.05)
    committee.crash("n0")
    committee.require_live()


@pytest.mark.parametrize("n", [4, 7])
def test_commands_proposed_anywhere_are_committed_everywhere_in_one_order(n: int) -> None:
    """Each command is told once, at the same index, to every member; nobody leaves view 0 while nothing fails."""
    committee = Committee(n)
    proposed = [c for i in range(40) for c in committee.put(f"n{i % n}", every_s=0.01)]
    committee.run(2)

    orders = {tuple(committee.commands(name)) for name in committee.honest}
    assert len(orders) == 1
    assert Counter(orders.pop()) == Counter(proposed)
    assert set(committee.views) == {0}
    committee.require_agreement()


def test_the_first_primary_leads_its_view_and_says_so() -> None:
    """A member decides that it leads when its view begins, and no two lead one view."""
    committee = Committee(4)
    committee.run(0.1)
    committee.crash("n0")
    committee.require_live()

    leads = [(d.value[1], d.node) for d in committee.cluster.decisions if d.kind == "leader"]
    assert leads == [(0, "n0"), (1, "n1")]
    assert {committee.pbft(name).leader for name in ("n1", "n2", "n3")} == {"n1"}
    assert committee.pbft("n1").role == "leader"


@pytest.mark.parametrize(("n", "down"), [(4, 1), (7, 2)])
def test_crashes_of_f_primaries_in_a_row_cost_time_and_no_command(n: int, down: int) -> None:
    """With f members down, the others go on in a view whose primary is up."""
    committee = Committee(n)
    committee.put("n3", 10, every_s=0.01)
    for i in range(down):
        committee.crash(f"n{i}")
    committee.require_live(30)

    assert set(committee.views) == {down}
    for i in range(down):
        committee.restart(f"n{i}")
    committee.require_live()


def test_with_more_than_f_down_nothing_is_committed_and_all_goes_on_when_they_are_back() -> None:
    """Two of four cannot decide; their views do not run away while they wait for a quorum."""
    committee = Committee(4)
    committee.crash("n0")
    committee.crash("n1")
    committee.put("n2", 5)
    committee.run(20)

    assert committee.commands("n2") == []
    assert max(committee.views) <= 1
    committee.restart("n0")
    committee.restart("n1")
    committee.require_live()


def test_a_primary_that_crashes_while_nothing_is_asked_is_followed_by_the_next() -> None:
    """Its watchers need somebody who leads, so its silence is enough."""
    committee = Committee(4)
    committee.run(1)
    committee.crash("n0")
    committee.run(3)

    assert {committee.pbft(name).leader for name in ("n1", "n2", "n3")} == {"n1"}


def test_requests_that_keep_coming_do_not_calm_those_who_wait() -> None:
    """Each time-out is of the oldest request, so that a dead primary is left however many follow."""
    committee = Committee(4)
    committee.crash("n0")
    wanted = [c for _ in range(20) for name in ("n1", "n2", "n3") for c in committee.put(name, every_s=0.08)]

    assert set(wanted[:20]) <= set(committee.commands("n1"))


def test_a_member_that_was_cut_off_catches_up_by_decided_batches() -> None:
    """More was decided than a window holds; batches with their proofs bring a member back, and its views converge."""
    committee = Committee(4)
    committee.cluster.partition(["n3"])
    for _ in range(30):
        committee.put("n0", 1, every_s=0.05)
    assert committee.commands("n3") == []
    committee.cluster.heal()
    committee.require_live()

    assert committee.commands("n3") == committee.commands("n0")
    assert committee.cluster.policy("n3", "app").restored == 0
    assert set(committee.views) == {0}


def test_a_member_behind_the_snapshot_gets_the_state() -> None:
    """Batches below a shared snapshot are dropped; a member behind it is given the state a quorum vouches for."""
    committee = Committee(4, snapshot_every=8)
    committee.cluster.partition(["n3"])
    for _ in range(41):
        committee.put("n1", 1, every_s=0.05)
    assert min(committee.pbft("n0").execution.decided) > 35
    committee.cluster.heal()
    committee.require_live()
    committee.run(1)  # what n3 asked before it had the state it asks again

    assert committee.cluster.policy("n3", "app").restored >= 1
    assert committee.commands("n3") == committee.commands("n0")


def test_who_takes_over_a_state_waits_for_nothing_that_is_in_it() -> None:
    """What a member asked may have been ordered in a batch that it never got; all its reads end, and it goes on."""
    starved = [b.Silent(peers=("n2",), path="consensus")]
    committee = Committee(4, snapshot_every=2, adversaries={"n0": starved})
    for token in range(60):
        committee.put(f"n{token % 2 + 1}")
        committee.ask("n2", token)
        committee.run(0.05)
    committee.run(5)

    assert committee.cluster.policy("n2", "app").restored >= 1
    assert len({reply.op_id for reply in committee.cluster.replies}) == 60
    assert committee.pbft("n2").pool.waiting == {}
    committee.require_live()


def test_what_a_member_announces_has_no_gap_although_it_took_over_a_state() -> None:
    """A state that was given by others, or by an earlier life, is announced in place of the commands in it."""
    committee = Committee(4, snapshot_every=8)
    order = Checks(consensus.commits_in_order())
    committee.cluster.world.on_decide.append(
        lambda now, node, e: order.decided(now, node.name, e[1], e[2], e[3])  # type: ignore[arg-type, return-value]
    )
    committee.cluster.partition(["n3"])
    for _ in range(41):
        committee.put("n1", 1, every_s=0.05)
    committee.cluster.heal()
    committee.require_live()
    assert committee.cluster.policy("n3", "app").restored >= 1
    committee.crash("n3")
    order.restarted("n3")
    committee.restart("n3")
    committee.require_live()

    assert order.checks[0].events > 100
    assert order.checks[0].broken == ""


def test_a_restarted_member_is_told_all_again_from_its_snapshot_on() -> None:
    """A state machine starts empty in every life: first the snapshot, then each later command, then what is new."""
    committee = Committee(4, snapshot_every=8)
    committee.put("n1", 20, every_s=0.05)
    committee.run(1)
    before = committee.commands("n2")
    committee.crash("n2")
    committee.restart("n2")

    assert committee.commands("n2") == before
    assert committee.cluster.policy("n2", "app").restored == 1
    committee.require_live()


def test_all_crash_at_once_and_nothing_committed_is_lost() -> None:
    """Every promise is durable before it leaves, so a power cut of everybody forgets nothing that was told."""
    committee = Committee(4, network=ROUGH)
    for round_ in range(5):
        committee.put(f"n{round_ % 4}", 10, every_s=0.01)
        for name in committee.honest:
            committee.crash(name, torn=0.5)
        for name in committee.honest:
            committee.restart(name)
    committee.require_live(20)


def test_a_read_sees_every_write_that_ended_before_it_began() -> None:
    """A read's index covers all that any member had committed when it came, whichever member is asked."""
    committee = Committee(4, network=ROUGH)
    floor = {}
    for token in range(20):
        committee.put(f"n{token % 4}")
        committee.run(0.2)
        floor[token] = max(len(committee.commands(name)) for name in committee.honest)
        committee.ask(f"n{(token + 1) % 4}", token)
    committee.run(3)

    answers = committee.answers()
    assert answers.keys() == floor.keys()
    assert all(answers[token] >= floor[token] for token in floor)


def test_memory_does_not_grow_with_the_length_of_a_run() -> None:
    """With snapshots a member holds a window of places and the batches since, however many there were."""
    committee = Committee(4, snapshot_every=8)
    sizes = []
    for _ in range(3):
        committee.put("n1", 60, every_s=0.03)
        committee.run(1)
        pbft = committee.pbft("n2")
        sizes.append((len(pbft.voter.slots), len(pbft.execution.decided), len(pbft.execution.points)))

    assert max(max(size) for size in sizes) <= 2 * CONFIG.checkpoint_every + 8
    assert committee.pbft("n2").pool.waiting == {}


LIARS: dict[str, b.Behaves] = {
    "silent": b.Silent(),
    "deaf": b.Silent(side="receive"),
    "silent to one": b.Silent(peers=("n2",)),
    "falls silent": b.Silent(from_s=1.0),
    "half silent": b.Silent(share=0.5),
    "withholds proposals": b.Withhold(tags=("pre_prepare",)),
    "withholds commits": b.Withhold(tags=("commit",)),
    "withholds the newest": b.Withhold(tags=("pre_prepare", "new_view"), lag=2),
    "delays": b.Delay(bound_s=0.4),
    "delays one": b.Delay(bound_s=0.3, exactly=True, peers=("n2",)),
    "delays just below the time-out": b.Delay(bound_s=0.45, exactly=True),
    "reorders": b.Reorder(),
    "replays": b.Replay(every_s=0.05, age_s=0.5, burst=5),
    "replays in the same view": b.Replay(every_s=0.02, age_s=0.0, burst=5, heard=True),
    "replays what it heard": b.Replay(every_s=0.05, age_s=0.5, burst=5, heard=True),
    "floods views": b.Flood(tags=("prepare", "commit", "status", "view_change"), every_s=0.01, by=7),
    "floods places": b.Flood(tags=("pre_prepare", "prepare", "commit"), field=(1,), every_s=0.01),
    "jumps views": b.Corrupt(tags=("pre_prepare", "prepare", "commit", "status"), field=(0,), by=1000, resign=True),
    "earlier views": b.Corrupt(tags=("prepare", "commit", "status"), field=(0,), by=-1, resign=True),
    "next views, unsigned": b.Corrupt(tags=("prepare", "commit"), field=(0,)),
    "places + 1": b.Corrupt(tags=("pre_prepare",), field=(1,), by=1, resign=True),
    "other digests": b.Corrupt(tags=("prepare", "commit"), field=(2,), change="digest", resign=True),
    "old digests": b.Corrupt(tags=("prepare", "commit"), field=(2,), change="old", resign=True),
    "checkpoint lies": b.Corrupt(tags=("checkpoint",), field=(0, 2), change="digest", resign=True),
    "checkpoint jumps": b.Corrupt(tags=("checkpoint",), field=(0, 0), by=1000, resign=True),
    "false states": b.Corrupt(tags=("chunk",), field=(2,), change="flip"),
    "status lies": b.Corrupt(tags=("status",), field=(3,), change="set", to=-5),
    "always impatient": b.Corrupt(tags=("status",), field=(2,), change="set", to=True),
    "garbage": b.Corrupt(tags=("pre_prepare", "commit", "status"), field=(1,), change="set", to="x"),
    "splits places": b.Split(tags=("pre_prepare",), field=(1,), resign=True),
    "splits votes": b.Split(tags=("prepare", "commit"), field=(2,), resign=True),
    "splits checkpoints": b.Split(tags=("checkpoint",), field=(0, 2), resign=True),
    "double votes": b.DoubleVote(tags=("prepare", "commit"), field=(2,), resign=True),
    "double proposals": b.DoubleVote(tags=("pre_prepare",), field=(1,), resign=True),
    "twins": b.Twins(peers=("n1",)),
    "forgets all": b.OldState(nothing=True),
    "wrong key": b.WrongKey(),
    "impersonates": b.Impersonate(victim="n2", forward=True),
    "duplicate signers": b.ForgeCertificate(tags=("decided",), field=(3,)),
    "half a quorum": b.ForgeCertificate(tags=("decided",), field=(3,), how="below_quorum"),
    "view of duplicates": b.ForgeCertificate(tags=("new_view",), field=(1,)),
    "sybil": b.Sybil(),
    "old state": b.OldState(from_s=0.3),
    "clock": b.SkewedClock(shape="linear", ppm=500_000, monotonic=True),
    "swinging clock": b.SkewedClock(shape="periodic", amount_s=0.3, period_s=2.0, monotonic=True),
    "stepped clock": b.SkewedClock(),
}


@pytest.mark.parametrize("liar", ["n0", "n1"])
@pytest.mark.parametrize("lie", LIARS)
def test_one_liar_of_four_can_neither_split_the_others_nor_stop_them(lie: str, liar: str) -> None:
    """Whatever one member does, first as the primary or next in turn, the three others agree and go on."""
    committee = Committee(4, adversaries={liar: [LIARS[lie]]})
    for i in range(8):
        committee.put(f"n{i % 4}", 3)
        committee.run(0.2)
        if isinstance(LIARS[lie], b.OldState) and i == 3:
            committee.crash(liar)
            committee.restart(liar)
    other = "n1" if liar == "n0" else "n0"
    committee.cluster.partition([other])
    committee.run(0.5)
    committee.cluster.heal()

    committee.require_live(20)
    assert max(committee.views) <= 6
    assert all(p.pool.held.get(liar, 0) <= CONFIG.pool_max for p in map(committee.pbft, committee.honest))


def test_wrong_signatures_are_counted_and_noted_once() -> None:
    """A member without its key changes nothing; each of the others says so once, and nothing is said of the honest."""
    committee = Committee(4, adversaries={"n3": [b.WrongKey()]})
    honest = Committee(4)
    for one in (committee, honest):
        one.put("n1", 20, every_s=0.05)
        one.require_live()

    noted = [(note.node, note.fields) for note in committee.cluster.notes if note.name == "dropped"]
    assert noted.count(("n1", {"reason": "signature"})) == 1
    assert all(committee.pbft(name).committee.false > 10 for name in committee.honest)
    assert not [note for note in honest.cluster.notes if note.name == "dropped"]


def test_a_primary_that_starves_one_member_is_left() -> None:
    """All others' requests are ordered in time, one member's never: it asks everybody, and they see to it."""
    starves = b.Silent(side="receive", tags=("request",), peers=("n3",), path="consensus")
    committee = Committee(4, adversaries={"n0": [starves]})
    wanted = committee.put("n3")
    for _ in range(60):
        committee.put("n1", 1, every_s=0.1)

    assert wanted[0] in committee.commands("n1")
    committee.require_agreement()


def _storm(committee: Committee, plan: list[tuple[str, int]]) -> None:
    """Play a plan of small faults, at most one member down or cut off at a time."""
    for what, who in plan:
        name = f"n{who}"
        if what == "put":
            committee.put(name, 3)
        elif what == "crash" and len(committee.up) == 4:
            committee.crash(name, torn=0.5)
        elif what == "restart":
            for down in sorted(set(committee.honest) - committee.up):
                committee.restart(down)
        elif what == "cut":
            committee.cluster.partition([name])
        elif what == "halve":
            committee.cluster.partition([name, f"n{(who + 1) % 4}"])
        elif what == "heal":
            committee.cluster.heal()
        committee.run(0.15 if what == "put" else 0.6)
        committee.require_agreement()


STEPS = st.tuples(st.sampled_from(["put", "put", "crash", "restart", "cut", "halve", "heal"]), st.integers(0, 3))


@settings(
    max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(plan=st.lists(STEPS, min_size=5, max_size=25), seed=st.integers(0, 2**16), snapshots=st.sampled_from([0, 5]))
def test_any_schedule_of_crashes_and_cuts_leaves_one_order_and_a_committee_that_goes_on(
    plan: list[tuple[str, int]], seed: int, snapshots: int
) -> None:
    """After every step honest members agree; once it is calm again they all go on."""
    committee = Committee(4, seed, snapshot_every=snapshots, network=ROUGH)
    _storm(committee, plan)
    committee.cluster.heal()
    for down in sorted(set(committee.honest) - committee.up):
        committee.restart(down)
    committee.require_live(30)


def test_the_same_seed_gives_the_same_run() -> None:
    """Nothing outside the seed reaches a member."""

    def digest() -> Any:
        committee = Committee(4, 5, network=ROUGH)
        committee.put("n2", 10, every_s=0.02)
        committee.crash("n0")
        committee.require_live()
        return committee.cluster.digest

    assert digest() == digest()
