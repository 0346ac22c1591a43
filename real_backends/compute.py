"""One worker thread for a node's model, held to a share of its time.

A share below 1 is kept by duty cycle: after each piece of work the thread rests in proportion. Share 0 pauses
before the next piece.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

REST_MAX_S = 2.0  # assumption: a very small share must not look like a dead device


class Compute:
    """Runs functions one after another in one thread, so that the event loop stays responsive."""

    def __init__(self) -> None:
        self.share = 1.0
        self.busy_s = 0.0  # time spent working, without rests
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._may_run = asyncio.Event()
        self._may_run.set()
        self._closed = threading.Event()  # ends a rest at once

    def limit(self, share: float) -> None:
        """Hold the thread to ``share`` of its time, 0 to 1.

        Raises:
            ValueError: the share is outside.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"compute share={share}: allowed are 0 to 1")
        self.share = share
        (self._may_run.set if share > 0 else self._may_run.clear)()

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run ``function(*arguments)`` in the thread and return its result, before the rest it costs."""
        await self._may_run.wait()
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        self._pool.submit(self._work, loop, result, function, arguments)
        return await result

    def beside(self, function: Callable[[], None]) -> None:
        """Have the thread run what gives something back, whatever its share."""
        self._pool.submit(function)

    def _work(
        self,
        loop: asyncio.AbstractEventLoop,
        result: asyncio.Future[T],
        function: Callable[..., T],
        arguments: tuple[Any, ...],
    ) -> None:
        begun = time.perf_counter()
        value, failure = None, None
        try:
            value = function(*arguments)
        except BaseException as error:
            failure = error
        worked_s = time.perf_counter() - begun  # before the event loop hears of it and takes the interpreter
        self.busy_s += worked_s
        _hand_over(loop, result, value, failure)
        share = max(self.share, 1e-3)
        if share < 1:
            self._closed.wait(min(worked_s * (1 / share - 1), REST_MAX_S))

    def close(self) -> None:
        """Forget queued work and end the thread after the piece it is at."""
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _hand_over(
    loop: asyncio.AbstractEventLoop, result: asyncio.Future[Any], value: Any, error: BaseException | None
) -> None:
    def settle() -> None:
        if result.done():
            return  # its job was given up
        if error is None:
            result.set_result(value)
        else:
            result.set_exception(error)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
