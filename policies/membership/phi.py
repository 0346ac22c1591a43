"""Phi accrual: how surprising is this silence? (Hayashibara, Défago, Yared and Katayama, SRDS 2004).

Every member tells every other that it is there. From the intervals seen so far the receiver takes a normal
distribution, and phi = -log10 P(a heartbeat comes later than now) grows with the silence. A member is suspected at one
phi and held dead at a higher one. Heartbeats go to all, as in the paper, so a member's load grows with the group.

Lives are numbered, so that a late heartbeat of an earlier one is told apart; one earlier by more than `JUMP_MAX` is not
late, but what was heard before it was false. Saved key: ``incarnation``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import erfc, inf, log10, sqrt
from statistics import NormalDist
from typing import Any

import msgspec

from policies.config import PhiConfig
from policies.local import Seen
from policies.membership.messages import ALIVE, DEAD, JUMP_MAX, STATUSES, SUSPECT, Heartbeat
from policies.membership.table import Table
from policies.port import NS_PER_S, Policy
from policies.wire import encode


class Intervals:
    """The last intervals between a peer's heartbeats, in nanoseconds; sums are exact, whatever was forgotten."""

    def __init__(self, config: PhiConfig) -> None:
        self.std_min_ns, self.pause_ns = config.std_min_s * NS_PER_S, config.pause_s * NS_PER_S
        first = int(config.heartbeat_s * NS_PER_S)
        # Akka's start: the period itself, give or take a quarter, until there are real ones.
        self.seen: deque[int] = deque((first - first // 4, first + first // 4), maxlen=config.window)
        self.sum, self.squares = sum(self.seen), sum(x * x for x in self.seen)

    def add(self, interval_ns: int) -> None:
        """Learn an interval, and forget the oldest if the window is full."""
        if len(self.seen) == self.seen.maxlen:
            self.sum -= self.seen[0]
            self.squares -= self.seen[0] ** 2
        self.seen.append(interval_ns)
        self.sum += interval_ns
        self.squares += interval_ns**2

    def mean_std(self) -> tuple[float, float]:
        """Return the mean with the acceptable pause, and the standard deviation with its floor (ns)."""
        n = len(self.seen)
        variance = (n * self.squares - self.sum**2) / n**2
        return self.sum / n + self.pause_ns, max(sqrt(variance), self.std_min_ns)

    def phi(self, silence_ns: float) -> float:
        """Return -log10 of the chance that a heartbeat comes later than this; infinite beyond what a float holds."""
        mean, std = self.mean_std()
        later = 0.5 * erfc((silence_ns - mean) / (std * sqrt(2)))
        return -log10(later) if later > 0 else inf

    def silence_ns(self, phi: float) -> int:
        """Return the silence at which ``phi`` is reached."""
        mean, std = self.mean_std()
        return max(0, int(mean - NormalDist().inv_cdf(10.0**-phi) * std))


class PhiAccrual(Policy):
    """One member of a group.

    Args:
        config: its parameters.
        members: who is expected, this member included or not.
        watchers: paths of this node that are told who is seen how (`Seen`).

    Raises:
        ValueError: a member would be held dead before it is suspected.
    """

    messages = (Heartbeat,)

    def __init__(self, config: PhiConfig, members: tuple[str, ...], watchers: tuple[str, ...] = ()) -> None:
        if config.dead_phi < config.suspect_phi:
            raise ValueError(f"dead_phi={config.dead_phi}: expected >= suspect_phi={config.suspect_phi}")
        self.config, self.members, self.watchers = config, members, watchers
        self.period_ns = int(config.heartbeat_s * NS_PER_S)
        self.table = Table(members, config.members_max)
        self.incarnation = 0
        self.last: dict[str, int] = {}  # when a peer was heard last
        self.intervals: dict[str, Intervals] = {}

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        if "incarnation" in saved:
            self.incarnation = msgspec.msgpack.decode(saved["incarnation"], type=int)
        self._live_as(self.incarnation + 1)
        self.table.entries.pop(self.port.me, None)
        for name in self.table.of(ALIVE):
            self._expect(name)
        self.port.set_timer("beat", 1 + self.port.rng.below(self.period_ns))  # members do not fall into step

    def _live_as(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.port.save("incarnation", encode(incarnation))

    def alive(self) -> tuple[str, ...]:
        """Return who is not held dead, this member included, sorted."""
        return tuple(sorted((self.port.me, *self.table.of(ALIVE, SUSPECT))))

    def phi(self, peer: str) -> float:
        """Return how surprising the silence of a peer is by now."""
        return self.intervals[peer].phi(self.port.now - self.last[peer])

    def on_timer(self, name: str) -> None:
        if name == "beat":
            self.port.set_timer("beat", self.period_ns)
            for peer, (life, _) in self.table.entries.items():  # the dead, too: it may be this member that was cut off
                self.port.send(peer, Heartbeat(self.incarnation, life))
            return
        peer = name.removeprefix("silence ")
        life, status = self.table.entries[peer]
        self._see(peer, life, SUSPECT if status == ALIVE else DEAD)

    def on_message(self, sender: str, message: Any) -> None:
        if self.incarnation < message.known <= self.incarnation + JUMP_MAX:  # its disk is a new one
            self._live_as(message.known + 1)
        life, status = self.table.entries.get(sender, (0, ALIVE))
        late = message.incarnation < life <= message.incarnation + JUMP_MAX
        if late or (sender not in self.table.entries and self._full()):
            return
        if message.incarnation == life and status != DEAD:  # else it is no interval between two heartbeats of one life
            self.intervals[sender].add(self.port.now - self.last[sender])
        self._expect(sender)
        if (life, status) != (message.incarnation, ALIVE):
            self._see(sender, message.incarnation, ALIVE)

    def _full(self) -> bool:
        return len(self.table.entries) >= self.config.members_max

    def _expect(self, peer: str) -> None:
        """The peer is heard now, or expected from now on; wake up when its silence becomes suspicious."""
        self.last[peer] = self.port.now
        own = self.intervals.setdefault(peer, Intervals(self.config))
        self.port.set_timer(f"silence {peer}", own.silence_ns(self.config.suspect_phi))

    def _see(self, peer: str, life: int, status: int) -> None:
        self.table.entries[peer] = (life, status)
        if status == SUSPECT:
            due = self.last[peer] + self.intervals[peer].silence_ns(self.config.dead_phi)
            self.port.set_timer(f"silence {peer}", max(0, due - self.port.now))
        seen = Seen(peer, STATUSES[status], life)
        self.port.decide("seen", seen)
        for path in self.watchers:
            self.port.tell(path, seen)
