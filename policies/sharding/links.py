"""Ways between places: seconds of a hop, by a pair's own link where there is one, else by two access links."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models.arrays import FloatArray
from policies.problem import Problem, Worker

TOKEN_BYTES = 4.0
"""What travels to the first stage and back from the last: one token as int32, the session's format."""


def access_s(sender: Worker, receiver: Worker, size_bytes: float) -> float:
    """Return the seconds from one worker to another over their access links, 0 to itself."""
    if sender.node == receiver.node:
        return 0.0
    together = sender.site != "" and sender.site == receiver.site
    backbone_s = 0.0 if together else sender.backbone_s + receiver.backbone_s
    rate = min(sender.bytes_per_s, receiver.bytes_per_s)
    return sender.one_way_s + receiver.one_way_s + backbone_s + size_bytes / rate


class Network:
    """The ways of one problem, its links found by their two ends."""

    def __init__(self, problem: Problem) -> None:
        self.source = problem.source
        self.source_worker = next((w for w in problem.workers if w.node == problem.source), None)
        self.links = {(link.sender, link.receiver): link for link in problem.links}

    def hop_s(self, sender: Worker, receiver: Worker, size_bytes: float) -> float:
        """Return the seconds of ``size_bytes`` from one worker to another, 0 to itself."""
        link = self.links.get((sender.node, receiver.node)) if self.links else None
        if link is None or sender.node == receiver.node:
            return access_s(sender, receiver, size_bytes)
        return link.one_way_s + size_bytes / link.bytes_per_s

    def to_source_s(self, worker: Worker, size_bytes: float) -> float:
        """Return the seconds from a worker to a source that is not the pipeline's own first stage."""
        if self.source_worker is not None:
            return self.hop_s(worker, self.source_worker, size_bytes)
        return self._outside_s(worker, (worker.node, self.source), size_bytes)

    def from_source_s(self, worker: Worker, size_bytes: float) -> float:
        """Return the seconds from such a source to a worker."""
        if self.source_worker is not None:
            return self.hop_s(self.source_worker, worker, size_bytes)
        return self._outside_s(worker, (self.source, worker.node), size_bytes)

    def _outside_s(self, worker: Worker, ends: tuple[str, str], size_bytes: float) -> float:
        link = self.links.get(ends)
        if link is None:
            return worker.one_way_s + worker.backbone_s + size_bytes / worker.bytes_per_s
        return link.one_way_s + size_bytes / link.bytes_per_s

    def bytes_per_s(self, sender: Worker, receiver: Worker) -> float:
        """Return the rate from one worker to another."""
        link = self.links.get((sender.node, receiver.node))
        return link.bytes_per_s if link is not None else min(sender.bytes_per_s, receiver.bytes_per_s)

    def source_bytes_per_s(self, worker: Worker, *, to_source: bool) -> float:
        """Return the rate between a worker and the source, infinite where the worker is the source."""
        if worker.node == self.source or not self.source:
            return math.inf
        link = self.links.get((worker.node, self.source) if to_source else (self.source, worker.node))
        if link is not None:
            return link.bytes_per_s
        other = self.source_worker.bytes_per_s if self.source_worker is not None else math.inf
        return min(worker.bytes_per_s, other)

    def around_s(self, first: Worker, last: Worker, prompt_tokens: int = 1) -> float:
        """Return the seconds of a token from ``last`` back to the source, and of what it then sends to ``first``.

        A source that is the first stage itself needs to send nothing.
        """
        if not self.source:
            return self.hop_s(last, first, TOKEN_BYTES)
        return self.to_source_s(last, TOKEN_BYTES) + self.from_source_s(first, TOKEN_BYTES * prompt_tokens)

    def hops_s(self, workers: Sequence[Worker], size_bytes: float) -> FloatArray:
        """Return [sender, receiver]: `hop_s` of every pair, to the bit."""
        one_way, backbone, rate = (
            np.array([getattr(w, name) for w in workers], dtype=np.float64)
            for name in ("one_way_s", "backbone_s", "bytes_per_s")
        )
        names = {site: number for number, site in enumerate(sorted({w.site for w in workers}))}
        site = np.array([names[w.site] if w.site else -1 - i for i, w in enumerate(workers)])
        through = np.where(site[:, None] == site, 0.0, backbone[:, None] + backbone)
        hops = one_way[:, None] + one_way + through + size_bytes / np.minimum(rate[:, None], rate)
        at = {worker.node: i for i, worker in enumerate(workers)}
        for (sender, receiver), link in self.links.items():
            if sender in at and receiver in at:
                hops[at[sender], at[receiver]] = link.one_way_s + size_bytes / link.bytes_per_s
        np.fill_diagonal(hops, 0.0)
        return hops

    def arounds_s(self, workers: Sequence[Worker], prompt_tokens: int = 1) -> FloatArray:
        """Return [first, last]: `around_s` of every pair, to the bit."""
        if not self.source:
            there: FloatArray = self.hops_s(workers, TOKEN_BYTES).T
            return there
        back = np.array([self.to_source_s(worker, TOKEN_BYTES) for worker in workers])
        into = np.array([self.from_source_s(worker, TOKEN_BYTES * prompt_tokens) for worker in workers])
        around: FloatArray = back + into[:, None]
        return around
