"""Delay between any two places of the backbone from coordinates: six numbers a node, never a matrix.

Vivaldi's space with heights (Dabek, Cox, Kaashoek and Morris, "Vivaldi: a decentralized network coordinate system",
SIGCOMM 2004, section 5.4): the delay of a pair is the distance of their points plus both heights. Fitted here in one
batch rather than by gossip. It cannot break the triangle inequality, which some 4 % of measured triples do by more than
2 %: where overlays that exploit this are studied, a matrix is needed.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np

from models import draws
from models.arrays import FloatArray, IntArray
from models.links.access import FILE

Array = Any

MS = 1e-3
DIMENSIONS = 5  # and a height: 3 do worse by half a per cent of the median error, more do no better
SOFT = 0.05  # relative errors above this count less and less: some pairs take detours that no space holds
STEPS = 100  # of the optimiser for one node; the error does not fall after that
STARTS = 4  # nearest landmarks from which a node's place is sought


class Places(NamedTuple):
    """Where nodes are: ``points`` (n, dimensions) and ``heights`` (n,), in the unit of the delays."""

    points: Array
    heights: Array

    def at(self, nodes: Any) -> Places:
        """Return the places of these nodes, by number."""
        return Places(self.points[nodes], self.heights[nodes])


def delay(a: Places, b: Places, xp: Any = np) -> Array:
    """Return the delay between places, elementwise, in their unit; NumPy and jax.numpy."""
    gap = a.points - b.points
    return xp.sqrt((gap * gap).sum(axis=-1)) + a.heights + b.heights


def _read() -> Places:
    numbers = np.array(json.loads(FILE.read_text()).get("backbone", {}).get("wondernetwork", {}).get("places", []))
    numbers = numbers.reshape(-1, DIMENSIONS + 1) * MS
    return Places(numbers[:, :-1], numbers[:, -1])


CITIES = _read()
"""Places of the WonderNetwork's data centres, in seconds of one-way delay; `twin calibrate links` made them. A device
adds its own access delay."""


def draw_nodes(seed: int, entity: Any, count: int, xp: Any = np) -> Array:
    """Return which of ``count`` nodes each device is near: each as likely (an assumption)."""
    return draws.integers(seed, "backbone node", entity, 0, count, xp)


def fit_places(delays: FloatArray, *, dimensions: int = DIMENSIONS, iterations: int = 300) -> Places:
    """Place nodes so that relative errors of all pairs are small (pseudo-Huber loss, L-BFGS from classical scaling).

    Args:
        delays: (n, n), symmetric or not (both ways count); nan or 0 where unknown.
    """
    from scipy.optimize import minimize

    both = _symmetric(delays)
    i, j = np.nonzero(np.triu(both > 0.0, 1))
    measured = both[i, j]
    count = len(both)
    start = _classical(both, dimensions)
    height = np.full(count, 0.1 * np.sqrt(np.median(measured)))

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        points, root = x[:-count].reshape(count, dimensions), x[-count:]
        value, slope, toward = _errors(points[i] - points[j], root[i] ** 2 + root[j] ** 2, measured)
        gradient = np.zeros((count, dimensions))
        np.add.at(gradient, i, toward)
        np.add.at(gradient, j, -toward)
        up = np.bincount(i, slope, count) + np.bincount(j, slope, count)
        return value, np.concatenate([gradient.ravel(), up * 2.0 * root])

    found = minimize(
        loss, np.concatenate([start.ravel(), height]), jac=True, method="L-BFGS-B",
        options={"maxiter": iterations, "maxfun": 2 * iterations},
    ).x  # fmt: skip
    return Places(found[:-count].reshape(count, dimensions), found[-count:] ** 2)


def place(landmarks: Places, delays: FloatArray) -> Places:
    """Place one new node by its delays to landmarks that stay where they are.

    Args:
        landmarks: (k, ...) places.
        delays: (k,), above 0.
    """
    from scipy.optimize import minimize

    points, heights = np.asarray(landmarks.points), np.asarray(landmarks.heights)

    def loss(x: FloatArray) -> tuple[float, FloatArray]:
        value, slope, toward = _errors(x[:-1] - points, heights + x[-1] ** 2, delays)
        return value, np.concatenate([toward.sum(axis=0), [slope.sum() * 2.0 * x[-1]]])

    nearest = np.argsort(delays)[:STARTS]
    begins = [np.append(points[k] + 1e-3 * delays[k], np.sqrt(0.1 * delays[k])) for k in nearest]
    options = {"maxiter": STEPS}
    found = [minimize(loss, begin, jac=True, method="L-BFGS-B", options=options) for begin in begins]
    best = min(found, key=lambda one: one.fun)
    return Places(best.x[:-1], np.asarray(best.x[-1] ** 2))


def held_out_errors(delays: FloatArray, out: IntArray, landmarks: int, *, dimensions: int = DIMENSIONS) -> FloatArray:
    """Return relative errors of all pairs of nodes that were not in the fit.

    The other nodes are fitted; each node in ``out`` is placed by ``landmarks`` of these, spread by farthest-first.
    """
    both = _symmetric(delays)
    kept = np.setdiff1d(np.arange(len(both)), out)
    places = fit_places(both[np.ix_(kept, kept)], dimensions=dimensions)
    found = []
    for node in out:
        known = np.flatnonzero(both[node, kept] > 0.0)
        chosen = known[_far_apart(places.at(known), landmarks)]
        found.append(place(places.at(chosen), both[node, kept[chosen]]))
    where = Places(np.array([one.points for one in found]), np.array([one.heights for one in found]))
    i, j = np.nonzero(np.triu(both[np.ix_(out, out)] > 0.0, 1))
    measured = both[out[i], out[j]]
    return np.asarray(delay(where.at(i), where.at(j)) / measured - 1.0)


def _errors(gap: FloatArray, heights: FloatArray, measured: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Return the loss, its slope by the pair's delay, and by the first one's point."""
    length = np.sqrt((gap * gap).sum(axis=1) + 1e-12)
    relative = (length + heights) / measured - 1.0
    soft = np.sqrt(SOFT**2 + relative**2)
    slope = relative / soft / measured
    return float((soft - SOFT).sum()), slope, (slope / length)[:, None] * gap


def _symmetric(delays: FloatArray) -> FloatArray:
    """Return the mean of both ways, the one that is known, or 0."""
    known = np.where(np.isfinite(delays) & (delays > 0.0), delays, 0.0)
    ways = (known > 0.0).astype(float) + (known > 0.0).T
    both = np.divide(known + known.T, ways, out=np.zeros_like(known), where=ways > 0.0)
    np.fill_diagonal(both, 0.0)
    return np.asarray(both)


def _classical(both: FloatArray, dimensions: int) -> FloatArray:
    """Return the points of classical scaling (Torgerson 1952), unknown pairs at the median."""
    filled = np.where(both > 0.0, both, np.median(both[both > 0.0]))
    np.fill_diagonal(filled, 0.0)
    square = filled**2
    centred = -0.5 * (square - square.mean(axis=0) - square.mean(axis=1)[:, None] + square.mean())
    values, vectors = np.linalg.eigh(centred)
    return np.asarray(vectors[:, -dimensions:] * np.sqrt(np.maximum(values[-dimensions:], 1e-9)))


def _far_apart(places: Places, count: int) -> IntArray:
    """Return numbers of nodes that are far from one another (farthest-first traversal from the first)."""
    points = np.asarray(places.points)
    chosen = [0]
    nearest = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)
