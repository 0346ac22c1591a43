"""What no single field of a scenario's adversaries shows to be wrong: who they are, how many, and whom they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from policies.consensus.quorum import faults
from scenarios.adversaries.behaviours import OF_WORK, Behaves, Impersonate, Split, kind_of, needs_coalition

if TYPE_CHECKING:
    from scenarios.schema import Adversary, Fleet

FIELDS = {
    "desktop": "desktops", "gpu_box": "gpu_boxes", "phone": "phones", "tablet": "tablets", "laptop": "laptops",
}  # fmt: skip
"""Kind of device to its field of a fleet; those on the mains first, from which the committee is taken."""


def check(adversaries: Sequence[Adversary], budget: int | None, fleet: Fleet, *, bears: bool) -> None:
    """Refuse adversaries that the fleet does not have, and more liars on the committee than its protocol bears.

    Args:
        adversaries: of a scenario.
        budget: how many it may have in all, None for any number.
        fleet: whom they are of.
        bears: the committee's protocol promises something although f of 3f + 1 members lie, and the scenario wants that
            promise. Who does wrong in its work alone lies to clients, not to the committee.

    Raises:
        ValueError: one line that names the item and what is allowed.
    """
    total = sum(a.size for a in adversaries)
    if budget is not None and total > budget:
        raise ValueError(f"adversaries: {total} of them; allowed: up to adversaries_max={budget}")
    kinds = _kinds(fleet)
    committee = list(kinds)[: fleet.committee]
    named, lying = set[str](), set[str]()
    for i, adversary in enumerate(adversaries):
        where = f"adversaries[{i}]"
        _check_one(where, adversary, kinds, committee)
        names = (*adversary.names, *(committee[k] for k in adversary.committee))
        for name in names:
            if name in named:
                raise ValueError(f"{where}: {name} is named twice; one entry holds all that a node does")
            named.add(name)
        if bears and any(not isinstance(one, OF_WORK) for one in adversary.does):
            lying.update(names)
    liars, f = len(lying.intersection(committee)), faults(len(committee))
    if liars > f:
        raise ValueError(
            f"adversaries: {liars} members of a committee of {len(committee)} lie; allowed: up to f={f}, as "
            "n >= 3f + 1; or adversaries_beyond_f=true, an experiment that no promise covers"
        )
    _check_counts(adversaries, {n: kind for n, kind in kinds.items() if n not in committee}, named)


def _kinds(fleet: Fleet) -> dict[str, str]:
    """Return name to kind of every device, the committee first."""
    fields = {field: kind for kind, field in FIELDS.items()}
    names = {"desk": "desktops", "gpu-box": "gpu_boxes", **{kind: field for kind, field in FIELDS.items()}}
    counts = sorted(fleet.names.items(), key=lambda item: list(fields).index(names[item[0]]))
    return {f"{name}-{k}": fields[names[name]] for name, count in counts for k in range(count)}


def _check_one(where: str, adversary: Adversary, kinds: dict[str, str], committee: list[str]) -> None:
    if not adversary.does:
        raise ValueError(f"{where}.behaviours=[]: expected at least one, or behaviour=silent or wrong_results")
    for k, index in enumerate(adversary.committee):
        if index >= len(committee):
            raise ValueError(f"{where}.committee[{k}]={index}: committee has members 0..{len(committee) - 1}")
    whom = [(f"{where}.names", name) for name in adversary.names]
    for k, behaviour in enumerate(adversary.behaviours):
        at = f"{where}.behaviours[{k}]"
        whom += [(at, name) for name in nodes_of(behaviour)]
        if needs_coalition(behaviour) and not adversary.coalition:
            raise ValueError(f"{at}: {kind_of(behaviour)} needs a coalition; give {where}.coalition a name")
    for at, name in whom:
        if name not in kinds:
            raise ValueError(f"{at}: {name!r} is no device of the fleet; allowed: {', '.join(_spans(kinds))}")


def nodes_of(behaviour: Behaves) -> Iterator[str]:
    """Yield the nodes that a behaviour names."""
    if isinstance(behaviour, Split):
        yield from (name for group in behaviour.groups for name in group)
    elif isinstance(behaviour, Impersonate):
        yield behaviour.victim
    else:
        yield from getattr(behaviour, "peers", ())


def _spans(kinds: dict[str, str]) -> Iterator[str]:
    heads = [name.rpartition("-")[0] for name in kinds]
    yield from (f"{head}-0..{heads.count(head) - 1}" for head in dict.fromkeys(heads))


def _check_counts(adversaries: Sequence[Adversary], workers: dict[str, str], named: set[str]) -> None:
    """Refuse more than there are, of a kind or in all; whoever is named is not drawn."""
    free = [kind for name, kind in workers.items() if name not in named]
    drawn = [a for a in adversaries if not a.names and not a.committee]
    total, beside = sum(a.count for a in drawn), " beside those named" if named else ""
    if total > len(free):
        raise ValueError(
            f"adversaries: {total} of them; allowed: up to {len(free)}, the devices on no committee{beside}"
        )
    for kind in FIELDS:
        wanted, there = sum(a.count for a in drawn if a.kind == kind), free.count(kind)
        if wanted > there:
            raise ValueError(
                f"adversaries: {wanted} of kind {kind}; the fleet has {there} outside the committee{beside}"
            )
