"""The event engine of the simulated world: SimPy's environment with a fast lane for plain calls.

Here live the queue, the clock and the one conversion from script seconds to world nanoseconds. What the calls
mean (messages, timers, faults) belongs to the modules that schedule them.

Theory of operation. SimPy keeps a heap of (time, priority, sequence, event). The engine keeps one heap of
(time, priority, sequence, function, argument): a call has a function, an event has None there and itself as
the argument. Both take their sequence number from one counter and no two entries share one, so the order is
total, is decided by the first three fields, and never compares functions or events. A call that is scheduled
with `call_at` stands exactly where a SimPy timeout created at the same moment would stand.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from decimal import Context, Decimal
from heapq import heappop, heappush
from typing import Any

import simpy
from simpy.core import BoundClass, EmptySchedule, SimTime, StopSimulation
from simpy.events import NORMAL, URGENT, Event, EventPriority, Timeout

NS_PER_S = 10**9  # SI: nano is 1e-9.
# An IEEE 754 double needs at most 17 significant digits and three of exponent; the ambient decimal context is
# anyone's to change, and the conversion may not depend on it.
_DOUBLE = Context(prec=17, Emin=-999, Emax=999)

# SimPy's priority for the callbacks that a stop left over: before everything else of that time.
_LEFT_OVER = EventPriority(-1)

# Time, priority, sequence, and what to do: a function and its argument, or None and a SimPy event.
Entry = tuple[SimTime, EventPriority, int, Callable[[Any], object] | None, Any]


def seconds_to_ns(seconds: float) -> int:
    """Convert a duration or a time of a script to the world's int nanoseconds.

    The number is taken as it is written (0.1 is a tenth, not its binary neighbour), and what is finer than a
    nanosecond rounds up, so that an event computed for a crossing never fires before the crossing.

    Args:
        seconds: Duration or time since the start, in s; finite and at least 0.

    Returns:
        The same in ns, the smallest integer that is not before it.

    Raises:
        ValueError: If `seconds` is negative, infinite or not a number.

    Example:
        >>> seconds_to_ns(0.1), seconds_to_ns(2), seconds_to_ns(1e-10)
        (100000000, 2000000000, 1)
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds ({seconds}) must be finite and at least 0")
    if isinstance(seconds, int):
        return seconds * NS_PER_S
    return math.ceil(_DOUBLE.scaleb(Decimal(repr(float(seconds))), 9))


class Engine(simpy.Environment):
    """A SimPy environment with a lane for calls that need neither an event nor a generator.

    Everything SimPy documents for `simpy.Environment` holds. A world uses the engine with int nanoseconds
    (`initial_time=0` and int times throughout); the engine itself works in any unit that SimPy does.

    `run` does not go through `step`: a subclass that overrides `step` must override `run` as well.

    Example:
        >>> engine = Engine()
        >>> engine.call_at(5, print, "message")
        >>> engine.run(until=10)
        message
    """

    __slots__ = ("_now",)

    def __init__(self, initial_time: SimTime = 0) -> None:
        """Start an empty queue.

        Args:
            initial_time: The first value of `now`; 0 in worlds, which count ns.
        """
        super().__init__(initial_time)
        self._queue: list[Entry] = []  # type: ignore[assignment]
        self._next_sequence = self._eid.__next__
        # SimPy binds its event classes early, for speed, but only those of the instance's own class.
        for name, member in vars(simpy.Environment).items():
            if isinstance(member, BoundClass):
                setattr(self, name, getattr(self, name))

    def call_at(self, time: SimTime, function: Callable[[Any], object], argument: Any) -> None:
        """Call `function(argument)` when the clock reads `time`.

        Calls and events at one time happen in the order in which they were scheduled. What the function
        raises leaves `run` or `step`; the call is spent, the rest of the queue is untouched.

        Args:
            time: When, on the engine's clock (ns in worlds); now or later.
            function: Called with the argument alone; what it returns is dropped.
            argument: Handed over as it is.

        Raises:
            ValueError: If `time` is before `now`, or not a number.
        """
        # Written so that NaN, which would break the order of the heap, is refused too.
        if not time >= self._now:
            raise ValueError(f"time ({time}) must be at or after the current simulation time ({self._now})")
        heappush(self._queue, (time, NORMAL, self._next_sequence(), function, argument))

    def timeout_s(self, seconds: float, value: Any = None) -> Timeout:
        """Return SimPy's timeout, `seconds` from now, in a world that counts ns.

        Args:
            seconds: Delay in s, converted by `seconds_to_ns`.
            value: What the timeout yields to a process that waits for it.
        """
        return self.timeout(seconds_to_ns(seconds), value)

    def schedule(self, event: Event, priority: EventPriority = NORMAL, delay: SimTime = 0) -> None:
        """Schedule an event `delay` from now, as SimPy does."""
        heappush(self._queue, (self._now + delay, priority, self._next_sequence(), None, event))

    def step(self) -> None:
        """Do the next call or process the next event.

        Raises:
            EmptySchedule: If the queue is empty.
        """
        if not self._queue:
            raise EmptySchedule
        self._work(once=True)

    def run(self, until: SimTime | Event | None = None) -> Any:
        """Work through the queue until it is empty, or until a time or an event.

        Args:
            until: A time stops the run before the calls and the normal events of that time; an event stops it
                when that event is processed; None runs the queue empty.

        Returns:
            The value of the event `until`, else None.

        Raises:
            ValueError: If the time `until` is not after `now`.
            RuntimeError: If the queue ran empty and the event `until` was never triggered.
        """
        stop = self._stop_event(until)
        if stop is not None:
            if stop.callbacks is None:
                return stop.value
            stop.callbacks.append(StopSimulation.callback)
        try:
            self._work(once=False)
        except StopSimulation as stopped:
            return stopped.args[0]
        except EmptySchedule:
            # A callback that stepped past the end: SimPy ends the run here, as when the queue is empty.
            pass
        if stop is not None:
            raise RuntimeError(f'No scheduled events left but "until" event was not triggered: {stop}')
        return None

    def _stop_event(self, until: SimTime | Event | None) -> Event | None:
        """Return the event that ends a run; a time becomes an urgent event, ahead of its normal ones."""
        if until is None or isinstance(until, Event):
            return until
        try:
            time: SimTime = operator.index(until)  # type: ignore[arg-type]  # any integer, NumPy's too, stays exact
        except TypeError:
            time = float(until)
        if not time > self._now:
            raise ValueError(f"until ({time}) must be greater than the current simulation time ({self._now})")
        stop = Event(self)
        stop._ok, stop._value = True, None
        # The sum with `now` is SimPy's own: a float run stops at the very float where SimPy would.
        self.schedule(stop, URGENT, time - self._now)
        return stop

    def _work(self, once: bool) -> None:
        """Work through the queue until it is empty or something is raised, or do its first entry only.

        The one loop of the engine. The callbacks of events are run in place: a method of their own would cost
        processes a tenth of their speed.
        """
        queue, pop = self._queue, heappop
        while queue:
            self._now, _, _, function, argument = pop(queue)
            if function is not None:
                function(argument)
            else:
                event: Event = argument
                callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
                try:
                    for callback in callbacks:
                        callback(event)
                except StopSimulation:
                    # The callbacks behind the one that stopped the run are due first when it is resumed.
                    event.callbacks = callbacks[callbacks.index(callback) + 1 :]
                    self.schedule(event, _LEFT_OVER)
                    raise
                if not event._ok and not event.defused:
                    # A copy, so that the traceback of the original stays that of its origin.
                    failure = type(event._value)(*event._value.args)
                    failure.__cause__ = event._value
                    raise failure
            if once:
                return


# Every message reads the clock. SimPy's `now` is a Python function behind a property; here it is the slot
# itself, which makes the lane a tenth faster. It is for reading all the same: only the queue moves the clock.
Engine.now = Engine._now  # type: ignore[misc, method-assign, assignment]
