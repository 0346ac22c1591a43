"""Attach: the one way in which both worlds, replays and tests put adversaries around a Cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from policies.port import NS_PER_S, Keys
from scenarios.adversaries import behaviours as b
from scenarios.adversaries.clocks import SkewedCell
from scenarios.adversaries.collusion import ColludingCell
from scenarios.adversaries.content import (
    CorruptingCell,
    DoubleVotingCell,
    OverclaimingCell,
    ReceiptForgingCell,
    SplittingCell,
)
from scenarios.adversaries.identity import CertificateForgingCell, ImpersonatingCell, SybilCell, WrongKeyCell
from scenarios.adversaries.office import MeddlingCell, UsurpingCell
from scenarios.adversaries.omission import SilentCell, WithholdingCell
from scenarios.adversaries.timing import DelayingCell, FloodingCell, ReorderingCell, ReplayingCell
from scenarios.adversaries.twins import OldStateCell, TwinCells
from scenarios.adversaries.work import FreeRidingCell, LazyCell, ShirkingCell, WrongResultsCell
from scenarios.adversaries.wrapped import Coalition, OwnedKeys, Place, Steps, Wrapped

WRAPPERS: dict[type[b.Behaves], type[Wrapped[Any]]] = {
    b.Silent: SilentCell, b.Withhold: WithholdingCell, b.Delay: DelayingCell, b.Reorder: ReorderingCell,
    b.Replay: ReplayingCell, b.Flood: FloodingCell, b.Corrupt: CorruptingCell, b.Split: SplittingCell,
    b.DoubleVote: DoubleVotingCell, b.Twins: TwinCells, b.OldState: OldStateCell, b.WrongKey: WrongKeyCell,
    b.Impersonate: ImpersonatingCell, b.ForgeCertificate: CertificateForgingCell, b.Sybil: SybilCell,
    b.Collude: ColludingCell, b.SkewedClock: SkewedCell, b.WrongResults: WrongResultsCell, b.Shirk: ShirkingCell,
    b.Lazy: LazyCell, b.Overclaim: OverclaimingCell, b.FreeRide: FreeRidingCell, b.ForgeReceipts: ReceiptForgingCell,
    b.Usurp: UsurpingCell, b.Meddle: MeddlingCell,
}  # fmt: skip


def attach(
    make: Callable[[Keys], Steps],
    behaviours: Sequence[b.Behaves],
    *,
    me: str,
    peers: Sequence[str],
    seed: int,
    keys: Keys,
    coalition: Coalition | None = None,
    begun_ns: int = 0,
) -> Any:
    """Return a Cell with wrappers around it, the first behaviour next to it; the Cell alone if there are none.

    Args:
        make: makes the node's Cell of a key handle; a second time for twins.
        behaviours: what the node does. Two of one kind may stand together.
        me, peers: the node, and those it can speak to.
        seed: the run's seed, of every draw.
        keys: the node's own handle.
        coalition: whom it colludes with.
        begun_ns: the node's clock at the start of the run.

    Raises:
        ValueError: a behaviour needs a coalition, and there is none with ``me`` in it.
    """
    if not behaviours:
        return make(keys)
    lonely = next((x for x in behaviours if b.needs_coalition(x)), None)
    if lonely is not None and (coalition is None or me not in coalition.members):
        raise ValueError(f"{b.kind_of(lonely)}: needs a coalition, and {me} is in none")
    owned = OwnedKeys(keys)
    turn_s = next((x.turn_s for x in behaviours if isinstance(x, b.Collude)), 0.0)
    place = Place(
        me, tuple(peers), seed, begun_ns, owned, coalition, lambda: make(owned), turn_ns=int(turn_s * NS_PER_S)
    )
    cell: Steps = make(owned)
    for index, behaviour in enumerate(behaviours):
        cell = WRAPPERS[type(behaviour)](cell, behaviour, place, index)
    return cell
