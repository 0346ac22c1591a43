"""Naughty policies: each breaks one promise, in a way that is easy to miss. `test_purity` says which nets catch it."""

from __future__ import annotations

import datetime as dates
import functools
import os
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime as dt
from time import monotonic as m
from typing import Any

import numpy as np

from policies.port import NS_PER_S, Policy

KEPT_CLOCK = functools.partial(time.perf_counter)
SAY = print
TALLY = {"steps": 0}


def tick_of(read: Callable[[], Any]) -> Any:
    """Return a handler of its own for a helper: what a closure keeps is no node's."""
    seen = [0]

    def on_timer(self: Policy, name: str) -> None:
        seen[0] += 1
        self.port.note("seen", value=str(read()) + str(seen[0]))
        self.port.set_timer("tick", NS_PER_S // 4)

    return on_timer


class Naughty(Policy):
    """Says, at every tick, what it should not know."""

    def on_start(self, saved: Any) -> None:
        """Begin."""
        self.port.set_timer("tick", NS_PER_S // 4)

    def on_timer(self, name: str) -> None:
        """Say it."""
        self.port.note("read", value=str(self.read()))
        self.port.set_timer("tick", NS_PER_S // 4)

    def read(self) -> Any:
        """Break the promise."""
        return 0


class Clock(Naughty):
    def read(self) -> Any:
        return time.time()


class ClockUnderAnAlias(Naughty):
    def read(self) -> Any:
        return m()


class ClockByName(Naughty):
    def read(self) -> Any:
        return getattr(time, "monotonic" + "_ns")()


class ClockInAPartial(Naughty):
    def read(self) -> Any:
        return KEPT_CLOCK()


class ClockSwallowed(Naughty):
    def read(self) -> Any:
        try:
            return time.perf_counter()
        except Exception:
            return 0


class Calendar(Naughty):
    def read(self) -> Any:
        return dt.now()


class CalendarOfTheModule(Naughty):
    def read(self) -> Any:
        return dates.datetime.utcnow()


class Chance(Naughty):
    def read(self) -> Any:
        return random.random()


class ChanceOfItsOwn(Naughty):
    def read(self) -> Any:
        return random.Random().random()


class Entropy(Naughty):
    def read(self) -> Any:
        return os.urandom(8).hex()


class Secret(Naughty):
    def read(self) -> Any:
        return secrets.token_hex()


class Unique(Naughty):
    def read(self) -> Any:
        return uuid.uuid4()


class Array(Naughty):
    def read(self) -> Any:
        return np.random.rand()


class Generator(Naughty):
    def read(self) -> Any:
        return np.random.default_rng().random()


class ByName(Naughty):
    def read(self) -> Any:
        return getattr(np, "random").rand()  # noqa: B009


class Address(Naughty):
    def read(self) -> Any:
        return float(id(self))


class Hash(Naughty):
    def read(self) -> Any:
        return hash("x")


class Unordered(Naughty):
    def read(self) -> Any:
        waiting = {"a", "b", "c"}
        return [name for name in waiting]


class SetPop(Naughty):
    def read(self) -> Any:
        waiting = {"a", "b", "c"}
        return waiting.pop()


class Says(Naughty):
    def read(self) -> Any:
        SAY("hello")


class Reads(Naughty):
    def read(self) -> Any:
        with open(os.devnull) as file:
            return file.read()


class Threads(Naughty):
    def read(self) -> Any:
        threading.Thread(target=int).start()


class InTheClass(Naughty):
    count = 0

    def read(self) -> Any:
        type(self).count += 1
        return self.count


class InTheModule(Naughty):
    def read(self) -> Any:
        tally = TALLY
        tally["steps"] += 1


class InAClosure(Naughty):
    on_timer = tick_of(lambda: 0)


class InADefault(Naughty):
    def read(self, seen: list[int] = []) -> Any:  # noqa: B006
        seen.append(1)


class Uncopyable(Naughty):
    def read(self) -> Any:
        self.later = map(lambda n: n, (1, 2))
        return 0


class Endless(Naughty):
    def read(self) -> Any:
        while True:
            pass


class EndlessInAHelper(Naughty):
    def read(self) -> Any:
        return spin()


class Wordy(Naughty):
    def read(self) -> Any:
        return "x" * 70_000_000


def spin() -> int:
    """Never return."""
    n = 0
    while n >= 0:
        n += 1
    return n
