"""No step of a view change is long: signatures are verified and made a few at a time (0.12 ms each, `StepCost`)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.cell import Cell
from policies.config import PbftConfig
from policies.consensus.pbft import Pbft
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.proofs import GENESIS, Committee, again
from policies.consensus.pbft.vetting import SIGNATURES_MAX
from policies.wire import encode
from sim.keys import KeyRing
from sim.world import StepCost
from tests.policies.consensus.pbft_hand import Keys

STEP_NS = 5_000_000
RING = KeyRing(1)
BATCH: m.Batch = (("n0", 1, b"a"),)


class Village:
    """``n`` members' keys, and one of them driven by hand with its steps' operations counted."""

    def __init__(self, n: int, me: str) -> None:
        self.names = tuple(f"n{k}" for k in range(n))
        self.committees = {name: Committee(self.names) for name in self.names}
        for name, committee in self.committees.items():
            committee.begin(Keys(name), 64)  # type: ignore[arg-type]
        self.quorum = self.committees[me].quorum
        others = tuple(name for name in self.names if name != me)
        self.pbft = Pbft(PbftConfig(), self.names)
        self.cell = Cell(self.pbft, me, others, seed=1, keys=RING.handle(me))
        self.ops: list[int] = []
        self.timers: dict[str, int] = {}
        self.give((p.START, "", {}, 0))

    def give(self, given: p.Input) -> None:
        """Take a step, and those in which saves become durable and timers of no length fire."""
        queue: list[Any] = [given]
        while queue:
            self.cell.crypto_ops = 0
            effects = self.cell.step(0, 0, queue.pop(0))
            self.ops.append(self.cell.crypto_ops)
            for effect in effects:
                if effect[0] == p.SAVE:
                    queue.append((p.DURABLE, "", effect[2]))
                elif effect[0] == p.SET_TIMER and effect[2] in ("vet", "vote", "ask"):
                    queue.append((p.TIMER, "", effect[2], effect[4]))

    def hear(self, sender: str, message: Any) -> None:
        self.give((p.MESSAGE, "", sender, encode(message)))

    def sign(self, name: str, kind: str, *fields: object) -> bytes:
        return self.committees[name].sign(kind, *fields)

    def changes(self, view: int, places: int) -> tuple[m.ViewChange, ...]:
        """Return view changes of a quorum, each with a certificate of every place, by different backups."""
        made = []
        for k, name in enumerate(self.names[1 : 1 + self.quorum]):
            certificates = tuple(self._prepared(seq, k) for seq in range(1, places + 1))
            said = m.digest_of((GENESIS, certificates))
            made.append(m.ViewChange(name, view, GENESIS, certificates, self.sign(name, "view-change", view, said)))
        return tuple(made)

    def _prepared(self, seq: int, turn: int) -> m.Prepared:
        place, backups = (0, seq, m.digest_of(BATCH)), self.names[1:]
        votes = [backups[(turn + k) % len(backups)] for k in range(self.quorum - 1)]
        prepares = tuple((name, self.sign(name, "prepare", *place)) for name in votes)
        return m.Prepared(*place, self.sign("n0", "pre-prepare", *place), prepares)

    def new_view(self, changes: tuple[m.ViewChange, ...]) -> m.NewView:
        made = tuple(self.sign("n1", "pre-prepare", 1, seq, digest) for seq, digest in again(changes)[1])
        return m.NewView(1, changes, made, self.sign("n1", "new-view", 1, m.digest_of((changes, made))))


def longest_ns(village: Village) -> int:
    """Return what the longest step takes."""
    cost = StepCost()
    return cost.base_ns + max(cost.sign_ns, cost.verify_ns) * max(village.ops)


@pytest.mark.parametrize(("n", "places"), [(7, 40), (16, 40), (16, 64)])
def test_a_backup_enters_a_view_of_many_open_places_in_short_steps(n: int, places: int) -> None:
    """Hundreds of signatures, none of them twice; the view is entered once the last is right."""
    village = Village(n, "n2")
    village.ops.clear()
    new = village.new_view(village.changes(1, places))
    for seq in range(1, places + 1):  # it holds the batches, so it votes at once
        village.pbft.voter._slot(seq).bodies[m.digest_of(BATCH)] = BATCH
    village.hear("n1", new)

    assert (village.pbft.term, village.pbft.leader) == (1, "n1")
    total = sum(village.ops)
    assert total >= places * (1 + 1 + n - 1)  # new and old pre-prepares, and every backup's prepare
    assert total <= places * (3 + n) + village.quorum + 8
    assert longest_ns(village) < STEP_NS
    assert village.pbft.vetting.waiting == {}


@pytest.mark.parametrize("n", [7, 16])
def test_the_new_primary_makes_a_view_of_many_open_places_in_short_steps(n: int) -> None:
    """It verifies what a quorum holds prepared, signs what follows, and tells it once."""
    village = Village(n, "n1")
    changes = village.changes(1, 40)
    village.ops.clear()
    for name, change in zip(village.names[2 : 2 + village.quorum], changes[1:], strict=False):
        village.hear(name, change)
    last = village.names[1 + village.quorum]
    said = m.digest_of((GENESIS, ()))
    village.hear(last, m.ViewChange(last, 1, GENESIS, (), village.sign(last, "view-change", 1, said)))

    assert (village.pbft.term, village.pbft.role) == (1, "leader")
    assert longest_ns(village) < STEP_NS


def test_one_wrong_signature_ends_it_and_a_flood_of_such_views_waits_in_one_place() -> None:
    """Nothing is entered; of each sender only the newest message waits; what waits is gone when it is refuted."""
    village = Village(7, "n2")
    changes = village.changes(1, 40)
    held = changes[-1].prepared
    wrong = (*held[:-1], msgspec.structs.replace(held[-1], prepares=((held[-1].prepares[0][0], bytes(64)),) * 4))
    said = m.digest_of((GENESIS, wrong))
    name = changes[-1].member
    forged = m.ViewChange(name, 1, GENESIS, wrong, village.sign(name, "view-change", 1, said))
    village.ops.clear()
    for _ in range(5):
        village.hear("n1", village.new_view((*changes[:-1], forged)))

    assert (village.pbft.term, village.pbft.vetting.waiting) == (0, {})
    assert max(village.ops) <= SIGNATURES_MAX + 1
    assert sum(village.ops[len(village.ops) // 2 :]) < sum(village.ops) // 2  # what is known is not verified again


def test_who_asks_much_signs_it_in_short_steps() -> None:
    """A hundred requests that the primary ignored are signed and told to all, in more than one step."""
    village = Village(7, "n2")
    for k in range(100):
        village.pbft.pool.add(m.Request("n2", k, b"x"), 0)
    village.ops.clear()
    village.give((p.TIMER, "", "patience", village.cell._timers["", "patience"]))

    assert sum(village.ops) >= 100
    assert longest_ns(village) < STEP_NS
