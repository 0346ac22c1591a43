"""The council's part of the state: who stands, who attends, when an epoch ends, and how often its committee fails."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import combinations

import msgspec
import pytest
from scipy.stats import binomtest

from policies.commands import Attend, Convict, Facts, Stand, unsigned
from policies.committee.bound import failure_probability
from policies.committee.electoral import Electoral, failure_ppb
from policies.config import CommitteeConfig
from policies.rng import Rng
from policies.state import SnapshotError, VillageState
from policies.state.council import CERTAIN, EPOCHS, Council, commitment_of, trust
from policies.wire import encode
from sim.keys import KeyRing

RING = KeyRing(1)
FOUNDERS = tuple(f"n{k}" for k in range(4))
ANYBODY = CommitteeConfig(
    size=4, min_trust=0.0, min_stability=0.0, min_networks=1, min_vendors=1, min_regions=1, min_countries=1,
    site_max=100, within_faults=(),
)  # fmt: skip
CONFIDENCE = 0.999


def verify(identity: str, data: bytes, signature: bytes) -> bool:
    """Everybody's signature."""
    return RING.handle(identity).verify(identity, data, signature)


def secret(node: str, number: int, fleet: int = 0) -> bytes:
    """A device's secret of a number."""
    return blake2b(f"{node} {number} {fleet}".encode(), digest_size=32).digest()


def stand(node: str, fleet: int = 0, k: int = 0) -> Stand:
    """A device stands."""
    facts = Facts("tee", f"as{k % 6}", f"v{k % 3}", f"r{k % 4}", f"c{k % 2}")
    said = Stand(node, facts, commitment_of(secret(node, 0, fleet)), b"")
    return msgspec.structs.replace(said, signature=RING.signature(node, unsigned(said)))


def attend(council: Council, node: str, heard: tuple[str, ...], fleet: int = 0) -> Attend:
    """A member's roll call for the present epoch."""
    number = council.candidates[node].number
    said = Attend(
        node, council.epoch, heard, secret(node, number, fleet), commitment_of(secret(node, council.epoch + 1, fleet)),
        b"",
    )  # fmt: skip
    return msgspec.structs.replace(said, signature=RING.signature(node, unsigned(said)))


def village(devices: int = 9, seats: CommitteeConfig | None = None, share: float = 0.2) -> Council:
    """A council of which everybody stands, and whose roll is empty."""
    convicts: Callable[..., str] = lambda data, verify: data.decode()  # noqa: E731
    council = Council(FOUNDERS, Electoral(seats or CommitteeConfig(), share), convicts)
    for k in range(devices):
        assert council.stand(stand(f"n{k}", k=k), verify)
    return council


def end_epoch(council: Council, heard: tuple[str, ...] = (), fleet: int = 0, of: tuple[str, ...] = ()) -> None:
    """Let a quorum attend."""
    for node in of or council.sitting[: council.quorum]:
        assert council.attend(attend(council, node, heard or tuple(council.candidates), fleet), verify, {}, 1)


def test_an_epoch_ends_with_the_quorum_and_not_before() -> None:
    """Two of four roll calls change nothing, the third decides; a fourth comes too late and is of an old epoch."""
    council = village()
    calls = [attend(council, node, ()) for node in FOUNDERS]
    done = [council.attend(call, verify, {}, 10 + k) for k, call in enumerate(calls)]

    assert done == [True, True, True, False]
    assert (council.epoch, council.last.command) == (1, 12)
    assert council.last.reason == "committee=4: the fleet has 0 devices that may sit on it"
    assert council.last.failure_ppb == CERTAIN
    assert [elector.node for elector in council.roll] == [f"n{k}" for k in range(9)]


def test_the_next_choice_is_from_the_roll_fixed_when_the_epoch_began() -> None:
    """Who stands during an epoch is not chosen at its end, however the lots fall, but may be one epoch later."""
    council = village(5, ANYBODY)
    end_epoch(council)
    for k in range(5, 20):
        assert council.stand(stand(f"n{k}", k=k), verify)
    end_epoch(council)
    first, roll = set(council.last.members), council.last.roll
    for _ in range(6):
        end_epoch(council)

    assert roll == 5
    assert first <= {f"n{k}" for k in range(5)}
    assert not set(council.last.members) <= {f"n{k}" for k in range(5)}


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 3}, {"secret": bytes(32)}, {"commitment": b"short"}, {"node": "n7"}, {"node": "stranger"},
        {"heard": ("n5",)},
    ],
)  # fmt: skip
def test_a_roll_call_that_is_not_right_counts_for_nothing(change: dict[str, object]) -> None:
    """Another epoch, a secret that was not committed to, no member, or not what was signed."""
    council = village()
    said = msgspec.structs.replace(attend(council, "n0", ()), **change)
    if "heard" not in change:
        said = msgspec.structs.replace(said, signature=RING.signature(said.node, unsigned(said)))
    before = council.saved()

    assert not council.attend(said, verify, {}, 1)
    assert council.saved() == before


def test_nobody_stands_in_anothers_name_or_twice() -> None:
    """A device's facts are its own words, once for ever: other facts for the same name change nothing."""
    council = village(4)
    forged = msgspec.structs.replace(stand("n8"), signature=RING.signature("n7", unsigned(stand("n8"))))

    assert not council.stand(forged, verify)
    assert not council.stand(stand("n0", k=5), verify)
    assert not Council().stand(stand("n0"), verify)  # a village whose committee stays has no council


def test_stability_is_what_f_plus_one_members_heard() -> None:
    """One member's silence puts nobody down, and one member's word holds nobody up; the last 8 epochs count."""
    council = village()
    everybody = tuple(council.candidates)
    end_epoch(council, everybody)
    for _ in range(EPOCHS + 2):
        liar, *others = council.sitting
        calls = {liar: ("n8",), **dict.fromkeys(others, tuple(n for n in everybody if n != "n8"))}
        for node in council.sitting[: council.quorum]:
            council.attend(attend(council, node, calls[node]), verify, {}, 1)

    stability = {node: c.stability for node, c in council.candidates.items()}
    assert stability["n8"] == 100 * 1 // (EPOCHS + 2)
    assert min(value for node, value in stability.items() if node != "n8") == 100 * (EPOCHS + 1) // (EPOCHS + 2)
    assert "n8" not in council.sitting


def test_who_is_convicted_is_struck_off_at_once_and_cannot_end_an_epoch() -> None:
    """Its roll call is void, even one that was counted; it is neither chosen nor stands by; a stranger is nobody."""
    council = village(9, ANYBODY)
    end_epoch(council)
    liar = council.sitting[0]
    assert council.attend(attend(council, liar, ()), verify, {}, 1)
    assert council.convict(Convict(liar.encode()), verify)
    assert not council.convict(Convict(liar.encode()), verify)
    assert not council.convict(Convict(b"stranger"), verify)
    assert not council.attend(attend(council, liar, ()), verify, {}, 1)
    for _ in range(12):
        end_epoch(council, of=tuple(n for n in council.sitting if n != liar)[: council.quorum])
        assert liar not in council.last.members + council.last.learners


def test_a_founder_that_never_stood_and_sits_no_more_is_convicted_all_the_same() -> None:
    """Evidence often comes when its culprit has left: it would be carried to the log for ever were it refused."""
    council = village(9, ANYBODY)
    del council.candidates["n0"]
    for _ in range(2):
        end_epoch(council, of=FOUNDERS[1:])

    assert "n0" not in council.sitting
    assert council.convict(Convict(b"n0"), verify)
    assert "n0" in council.barred


def test_trust_is_attestation_and_what_work_earned() -> None:
    """The documented bases; twenty hundredths more for a credit; no work makes self-attested what may sit."""
    facts = {kind: Facts(kind, "", "", "", "") for kind in ("self", "mobile", "tpm", "tee")}  # type: ignore[arg-type]

    assert [trust(facts[kind], 0) for kind in facts] == [30, 50, 70, 90]
    assert [trust(facts[kind], 2**20) for kind in facts] == [50, 70, 90, 100]
    assert trust(facts["self"], 10**15) == 50
    assert trust(facts["mobile"], 1000) == 60


def test_the_bound_in_integers_is_the_hypergeometric_tail_rounded_up() -> None:
    """Against SciPy's law, for every fleet up to 40 in steps; never below it, nor a billionth above."""
    for fleet in range(4, 41, 3):
        for faulty in range(0, fleet + 1, 2):
            for n in (4, 7, 10):
                if n <= fleet:
                    exact = failure_probability(fleet, faulty, n)
                    assert -1e-12 <= failure_ppb(fleet, faulty, n) / CERTAIN - exact <= 1e-9 + 1e-12


def test_a_committee_that_stays_with_somebody_guilty_is_no_safer_than_that() -> None:
    """Nobody can be chosen, so the convicted one keeps its seat: one liar more among the other three is too many."""
    nobody = msgspec.structs.replace(ANYBODY, min_vendors=4)
    council = village(9, nobody)
    end_epoch(council)
    before = council.last
    assert council.convict(Convict(b"n0"), verify)
    end_epoch(council, of=FOUNDERS[1:])

    assert (before.failure_ppb, council.last.members, council.last.roll) == (CERTAIN, FOUNDERS, 8)
    assert council.last.faulty == 2
    # Of the 8 on the roll 2 lie: 1 - C(6, 3) / C(8, 3) that one of them is among the three.
    assert council.last.failure_ppb == 642_857_143
    assert [failure_ppb(8, 2, 4, strangers) for strangers in (0, 1, 2)] == [214_285_715, 642_857_143, CERTAIN]


@pytest.mark.parametrize("seats", [ANYBODY, CommitteeConfig()], ids=["anybody", "diverse"])
def test_committees_fail_as_often_as_was_decided(seats: CommitteeConfig) -> None:
    """400 fleets of 12, three of them faulty by lot, six epochs through the state: the bound is in the interval.

    It holds with rules of diversity, lots and members that stay, as none of them knows who is faulty. The committees of
    one fleet depend on one another, so of each fleet the last counts, and one interval is of that.
    """
    bad = fleets = 0
    for fleet in range(400):
        council = Council(FOUNDERS, Electoral(seats, 0.25), None)
        for k in range(12):
            council.stand(stand(f"n{k}", fleet, k), lambda *signed: True)
        rng, names = Rng(fleet, "fleet", "faulty", 0), [f"n{k}" for k in range(12)]
        faulty = {names.pop(rng.below(len(names))) for _ in range(3)}
        for _ in range(6):
            for node in council.sitting[: council.quorum]:
                council.attend(attend(council, node, tuple(council.candidates), fleet), lambda *signed: True, {}, 1)
        assert council.last.reason == ""
        bad, fleets = bad + (len(faulty.intersection(council.sitting)) > 1), fleets + 1

    interval = binomtest(bad, fleets).proportion_ci(CONFIDENCE)
    assert council.last.faulty == 3
    assert interval.low <= council.last.failure_ppb / CERTAIN <= interval.high


def test_a_leader_that_picks_the_roll_calls_gains_no_more_than_was_decided() -> None:
    """It tries each quorum of roll calls and takes a committee that fails, if one does: above the plain bound, and
    within what was decided for its four picks."""
    bad, fleets = 0, 400
    for fleet in range(fleets):
        council = Council(FOUNDERS, Electoral(ANYBODY, 0.17), None)
        for k in range(12):
            council.stand(stand(f"n{k}", fleet, k), lambda *signed: True)
        rng, names = Rng(fleet, "fleet", "faulty", 0), [f"n{k}" for k in range(12)]
        faulty = {names.pop(rng.below(len(names))) for _ in range(3)}
        for _ in range(5):
            for node in council.sitting[: council.quorum]:
                council.attend(attend(council, node, (), fleet), lambda *signed: True, {}, 1)
        worst = 0
        for quorum in combinations(council.sitting, council.quorum):
            tried = Council(FOUNDERS, Electoral(ANYBODY, 0.25), None)
            tried.load(council.saved())
            for node in quorum:
                tried.attend(attend(tried, node, (), fleet), lambda *signed: True, {}, 1)
            worst = max(worst, len(faulty.intersection(tried.sitting)))
        bad += worst > 1

    interval = binomtest(bad, fleets).proportion_ci(CONFIDENCE)
    assert (tried.last.faulty, tried.last.picks) == (3, 4)
    assert tried.last.failure_ppb / CERTAIN < interval.low  # the bias is real
    assert interval.low <= tried.last.picked_ppb / CERTAIN


def test_a_snapshot_in_the_midst_of_an_epoch_holds_the_council() -> None:
    """Restored, the last roll call leads to the same decision and the same digest."""
    states = [VillageState(Council(FOUNDERS, Electoral(ANYBODY, 0.2), None)) for _ in range(2)]
    first, second = states
    for k in range(6):
        first.apply(stand(f"n{k}", k=k), verify)
    for _ in range(2):
        for node in first.council.sitting[:3]:
            first.apply(attend(first.council, node, tuple(first.council.candidates)), verify)
    for node in first.council.sitting[:2]:
        first.apply(attend(first.council, node, ()), verify)
    second = VillageState.restore(first.snapshot(), Council(FOUNDERS, Electoral(ANYBODY, 0.2), None))
    assert second.digest() == first.digest()
    last = attend(first.council, first.council.sitting[2], ())
    for state in (first, second):
        assert state.apply_encoded(encode(last), verify)[1]

    assert first.council.epoch == 3
    assert second.council.last == first.council.last
    assert second.digest() == first.digest()


def test_a_snapshot_whose_epoch_should_have_ended_is_refused() -> None:
    """As many roll calls as end an epoch never stand in a state."""
    state = VillageState(Council(FOUNDERS, Electoral(ANYBODY, 0.2), None))
    state.council.attended = {node: ((), bytes(32)) for node in FOUNDERS}
    with pytest.raises(SnapshotError, match="council: 4 members attended, and the epoch has not ended"):
        VillageState.restore(state.snapshot(), Council(FOUNDERS, Electoral(ANYBODY, 0.2), None))
