"""Who lies: a scenario's adversaries become behaviours by node, the same in both worlds and in every process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from models import draws
from policies.port import Keys
from scenarios.adversaries.attach import attach
from scenarios.adversaries.behaviours import Behaviour
from scenarios.adversaries.wrapped import Coalition, Steps

if TYPE_CHECKING:
    from scenarios.schema import Adversary


class Role(msgspec.Struct, frozen=True):
    """What one node does wrong, as plain data that a journal's header can hold.

    Attributes:
        behaviours: the first is next to the Cell.
        coalition: its name, or "".
        members: of the coalition, in the order of the fleet.
        begun_ns: the node's clock at the start of the run.
    """

    behaviours: tuple[Behaviour, ...]
    coalition: str = ""
    members: tuple[str, ...] = ()
    begun_ns: int = 0


def choose(
    adversaries: Sequence[Adversary], kinds: Mapping[str, str], committee: Sequence[str], seed: int, begun_ns: int = 0
) -> dict[str, Role]:
    """Return node to role.

    Args:
        adversaries: of a scenario that has been checked.
        kinds: name to kind of every device, in the order of the fleet.
        committee: its members, in order.
        seed: names the draws: workers on no committee, each node once.
        begun_ns: as in `Role`.
    """
    workers = [(i, name) for i, name in enumerate(kinds) if name not in committee]
    drawn = [name for i, name in sorted(workers, key=lambda w: float(draws.uniform(seed, "adversary", w[0], 0)))]
    named = {name for adversary in adversaries for name in _named(adversary, committee)}
    chosen: dict[str, Adversary] = {}
    for adversary in adversaries:
        names = list(_named(adversary, committee))
        if not names:
            fitting = [name for name in drawn if adversary.kind in ("any", kinds[name]) and name not in named]
            names = [name for name in fitting if name not in chosen][: adversary.count]
        chosen.update(dict.fromkeys(names, adversary))
    parties: dict[str, list[str]] = {}
    for name in kinds:
        if name in chosen and chosen[name].coalition:
            parties.setdefault(chosen[name].coalition, []).append(name)
    return {
        name: Role(adversary.does, adversary.coalition, tuple(parties.get(adversary.coalition, ())), begun_ns)
        for name, adversary in chosen.items()
    }


def _named(adversary: Adversary, committee: Sequence[str]) -> Iterator[str]:
    yield from adversary.names
    yield from (committee[index] for index in adversary.committee)


def play(
    role: Role | None,
    make: Callable[[Keys], Steps],
    *,
    me: str,
    peers: Sequence[str],
    seed: int,
    key_of: Callable[[str], Keys],
) -> Any:
    """Return a node's Cell, with its role's adversaries around it.

    Args:
        role: what it does wrong; None for an honest node.
        make: makes the Cell of a key handle.
        me, peers, seed: as in `attach`.
        key_of: returns the handle of this node or of a member of its coalition.
    """
    if role is None:
        return make(key_of(me))
    coalition = None
    if role.coalition:
        coalition = Coalition(role.coalition, role.members, {name: key_of(name) for name in role.members})
    return attach(
        make, role.behaviours, me=me, peers=peers, seed=seed, keys=key_of(me), coalition=coalition,
        begun_ns=role.begun_ns,
    )  # fmt: skip


ROLE = "adversary"
"""Key of a liar's role in the plain configuration of its journal's header."""


def with_role(config: dict[str, Any], role: Role | None) -> dict[str, Any]:
    """Return a header's configuration with the node's role in it, so that a replay puts the same wrappers on."""
    return config if role is None else {**config, ROLE: msgspec.to_builtins(role)}


def role_in(config: Mapping[str, Any]) -> Role | None:
    """Return the role that `with_role` wrote."""
    return msgspec.convert(config[ROLE], Role) if ROLE in config else None
