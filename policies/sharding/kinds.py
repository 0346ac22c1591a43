"""Kinds of device: those that stand for one another in every pipeline, so that only their number matters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import msgspec
import numpy as np

from models.arrays import FloatArray
from policies.problem import Problem, Worker
from policies.sharding.cost import Terms


class Kind(NamedTuple):
    """Numbers of devices that cost and link alike."""

    members: tuple[int, ...]


def states(kinds: Sequence[Kind]) -> int:
    """Return in how many ways so many of each kind can be taken."""
    return prod(len(kind.members) + 1 for kind in kinds)


def kinds_of(problem: Problem, devices: Sequence[Worker], cost: Terms) -> list[Kind]:
    """Return the kinds of these devices, by their first members.

    Devices that are described alike are one kind if every way between two of them, and between one of them and
    any other device, costs what it costs its equals; else they are told apart.
    """
    groups: dict[Worker, list[int]] = {}
    for number, device in enumerate(devices):
        own = device.node if device.node == problem.source else ""
        groups.setdefault(msgspec.structs.replace(device, node=own), []).append(number)
    kinds = [Kind(tuple(members)) for members in groups.values()]
    while (odd := _odd(kinds, cost)) is not None:
        kinds.remove(odd)
        kinds += [Kind((number,)) for number in odd.members]
    return sorted(kinds)


def _odd(kinds: Sequence[Kind], cost: Terms) -> Kind | None:
    """Return a kind whose members differ in a way to some kind, preferring the larger one; None if all agree."""
    for one, other in product(kinds, kinds):
        if len(one.members) >= len(other.members) and len(one.members) > 1:
            a, b = np.array(one.members), np.array(other.members)
            pairs = [cost.hop_s[np.ix_(a, b)], cost.hop_s[np.ix_(b, a)].T, cost.ends_s[np.ix_(a, b)]]
            pairs += [cost.ends_s[np.ix_(b, a)].T]
            if not all(_same(values, a[:, None] != b) for values in pairs):
                return one
            if one is other and np.ptp(np.diagonal(cost.ends_s)[a]) > 0:
                return one
    return None


def _same(values: FloatArray, counted: FloatArray) -> bool:
    chosen = values[counted]
    return chosen.size == 0 or float(np.ptp(chosen)) <= 0.0
