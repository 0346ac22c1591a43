"""The circuit breaker as data: what it lets pass, and what a result makes of it.

Closed, it lets everything pass and counts failures in a row. Open, it lets nothing pass until its pause is over.
Half-open, it lets a few calls through: enough successes in a row close it, one failure opens it again. (Nygard,
"Release it!", 2007, chapter 5; the numbers are the village's.)
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.config import BusConfig
from policies.port import NS_PER_S

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


@dataclass(frozen=True)
class Breaker:
    """One breaker's state; each change returns another.

    Attributes:
        state: `CLOSED`, `OPEN` or `HALF_OPEN`.
        count: failures in a row while closed, successes in a row while half-open.
        under_way: calls that were let through while half-open and have no result yet.
        since_ns: when it opened.
    """

    state: str = CLOSED
    count: int = 0
    under_way: int = 0
    since_ns: int = 0

    def at(self, now_ns: int, config: BusConfig) -> Breaker:
        """Return it as time makes it: open becomes half-open when the pause is over."""
        if self.state == OPEN and now_ns - self.since_ns >= int(config.open_s * NS_PER_S):
            return Breaker(HALF_OPEN)
        return self

    def allows(self, config: BusConfig) -> bool:
        """Whether a call may pass."""
        return self.state == CLOSED or (self.state == HALF_OPEN and self.under_way < config.probes)

    def called(self) -> Breaker:
        """Return it after a call that it allowed."""
        if self.state == HALF_OPEN:
            return Breaker(HALF_OPEN, self.count, self.under_way + 1)
        return self

    def dropped(self) -> Breaker:
        """Return it after a call whose result nobody waits for any longer."""
        return Breaker(self.state, self.count, max(0, self.under_way - 1), self.since_ns)

    def heard(self, ok: bool, now_ns: int, config: BusConfig) -> Breaker:
        """Return it after a result; anything but success is failure. What comes late, while open, changes nothing."""
        if self.state == OPEN:
            return self
        if self.state == CLOSED:
            failures = 0 if ok else self.count + 1
            return Breaker(OPEN, since_ns=now_ns) if failures >= config.failures else Breaker(CLOSED, failures)
        if not ok:
            return Breaker(OPEN, since_ns=now_ns)
        if self.count + 1 >= config.successes:
            return Breaker(CLOSED)
        return Breaker(HALF_OPEN, self.count + 1, max(0, self.under_way - 1))
