"""Background work: tasks that are supervised, threads that never hold up the event loop, and outages that are logged.

No task dies unseen. One that ends with an exception is logged and counted; one that repeats is started again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_BACKOFF: Final = 1.0
"""Seconds before a step that failed is tried again; each further failure doubles it."""
LONGEST_BACKOFF: Final = 60.0
"""Seconds."""
_END: Final = 5.0  # seconds that the end of a task is awaited
_REPEAT: Final = 60.0  # seconds after which a failure that goes on is logged again


class Background:
    """All background tasks of this process.

    Args:
        sleep: waits for that many seconds.
        jitter: a number between two others. Replicas that failed together do not all try again together.
    """

    def __init__(
        self,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.sleep = sleep
        self.jitter = jitter
        self.errors: Counter[str] = Counter()
        """Exceptions that no task expected, by the name of the task."""
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself holds tasks weakly

    def once(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run ``work`` in a task. An exception is logged and counted under ``name``."""
        self.errors[name] += 0  # an alert on increase() does not see a counter that comes into being at 1
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(name, ended))
        return task

    def repeat(self, name: str, step: Callable[[], Awaitable[float]]) -> asyncio.Task[None]:
        """Run ``step`` again and again, in a task that ends only when it is cancelled.

        Args:
            step: does one round. Returns after how many seconds to do the next one.
        """
        return self.once(name, self._repeat(name, step))

    async def stop(self, *tasks: asyncio.Task[None] | None) -> None:
        """Cancel tasks, and wait until they have ended, 5 seconds at the most."""
        running = [task for task in tasks if task is not None and not task.done()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_END)

    async def _repeat(self, name: str, step: Callable[[], Awaitable[float]]) -> None:
        backoff = FIRST_BACKOFF
        while True:
            try:
                pause = await step()
                backoff = FIRST_BACKOFF
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise  # it is this task that was cancelled, and not one that the step awaited
                pause = backoff * self.jitter(0.5, 1.0)
                backoff = min(2 * backoff, LONGEST_BACKOFF)
                self._failed(name, error, f"it is tried again in {pause:.1f} seconds")
            await self.sleep(pause)

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(name, error, "it has ended")

    def _failed(self, name: str, error: BaseException, consequence: str) -> None:
        self.errors[name] += 1
        logger.error(f"the background task {name} failed, {consequence}", exc_info=error)


async def in_thread(function: Callable[[], T], name: str) -> T:
    """Call ``function`` in a thread that, unlike an executor's, does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Callable[[], T]) -> None:
        if not future.done():
            try:
                future.set_result(result())
            except Exception as error:
                future.set_exception(error)

    def work() -> None:
        try:
            value = function()
        except Exception as caught:
            error = caught

            def result() -> T:
                raise error
        else:

            def result() -> T:
                return value

        with suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


class OneThread:
    """Calls functions in threads, one after the other: one that hangs does not pile up others behind it.

    A caller that gives up, as after a timeout, leaves its thread behind. The next call waits until that has ended.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: asyncio.Future[None] | None = None

    async def call(self, function: Callable[[], T]) -> T:
        """As :func:`in_thread`."""
        while self._last is not None and not self._last.done():
            await asyncio.wait([self._last])
        loop = asyncio.get_running_loop()
        ended = self._last = loop.create_future()

        def work() -> T:
            try:
                return function()
            finally:
                with suppress(RuntimeError):  # the loop has closed meanwhile
                    loop.call_soon_threadsafe(ended.set_result, None)

        return await in_thread(work, self._name)


class Outage:
    """Whether something in the background works: counts failures, and logs when that changes, not each time."""

    def __init__(self, logger: logging.Logger, consequence: str) -> None:
        self.failures = 0
        self.reason: str | None = None
        """Why the last attempt failed; None after one that did not."""
        self._logger = logger
        self._consequence = consequence
        self._logged = 0.0

    def failed(self, reason: str) -> None:
        """One more failure."""
        self.failures += 1
        now = time.monotonic()
        if reason != self.reason or now - self._logged >= _REPEAT:
            self._logged = now
            self._logger.warning(f"{reason}; {self._consequence}")
        self.reason = reason

    def succeeded(self, message: str) -> None:
        """It works, which is worth ``message`` if it did not before."""
        if self.reason is not None:
            self._logger.info(message)
        self.reason = None
