"""Background work: supervised tasks and threads.

A task that fails is logged and counted; a repeating task is retried.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_BACKOFF: Final = 1.0
"""Seconds before a failed step is retried; each further failure doubles it."""
LONGEST_BACKOFF: Final = 60.0
"""Seconds."""
_END: Final = 5.0  # seconds to wait for cancelled tasks


class Background:
    """All background tasks of this process.

    Args:
        sleep: waits for that many seconds.
        jitter: returns a number between two others, so that replicas that failed together do not retry together.
    """

    def __init__(
        self,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.sleep = sleep
        self.jitter = jitter
        self.errors: Counter[str] = Counter()
        """Unexpected exceptions, by the name of the task."""
        self.last: dict[str, tuple[float, str]] = {}
        """When a task last failed (Unix time), and how, without the exception's text, which may have a secret."""
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop only holds weak references

    async def close(self) -> None:
        """Stop all tasks."""
        await self.stop(*self._tasks)

    def once(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run ``work`` in a task. An exception is logged and counted under ``name``."""
        self.errors[name] += 0  # increase() misses a counter that starts at 1
        # Not loop.create_task: in mitmproxy's programs that runs the work at once, up to its first pause.
        task = asyncio.Task(work, loop=asyncio.get_running_loop())
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(name, ended))
        return task

    def repeat(self, name: str, step: Callable[[], Awaitable[float]]) -> asyncio.Task[None]:
        """Run ``step`` in a loop until the task is cancelled. ``step`` returns the seconds until its next call."""
        return self.once(name, self._repeat(name, step))

    async def stop(self, *tasks: asyncio.Task[None] | None) -> None:
        """Cancel tasks, and wait up to 5 seconds until they have ended."""
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
                    raise  # this task was cancelled, not one that the step awaits
                pause = backoff * self.jitter(0.5, 1.0)
                backoff = min(2 * backoff, LONGEST_BACKOFF)
                self._failed(name, error, f"retrying in {pause:.1f} seconds")
            await self.sleep(pause)

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(name, error, "not retrying")

    def _failed(self, name: str, error: BaseException, consequence: str) -> None:
        self.errors[name] += 1
        self.last[name] = time.time(), _where(error)
        logger.error(f"background task {name} failed, {consequence}", exc_info=error)


def _where(error: BaseException) -> str:
    """Return the type of an exception, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


async def in_thread(function: Callable[[], T], name: str) -> T:
    """Call ``function`` in a daemon thread: unlike an executor's, it does not delay the end of the process."""
    loop = asyncio.get_running_loop()
    called: Future[T] = Future()
    ended = loop.create_future()

    def end() -> None:
        if not ended.done():  # the caller may have given up
            ended.set_result(None)

    def work() -> None:
        try:
            called.set_result(function())
        except Exception as error:
            called.set_exception(error)
        with suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(end)

    threading.Thread(target=work, name=name, daemon=True).start()
    await ended
    return called.result()


class OneThread:
    """Calls functions in threads, one at a time: a call that hangs does not pile up threads.

    A caller that gives up (a timeout) leaves its thread running. The next call waits until that thread has ended.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: asyncio.Future[None] | None = None

    async def call(self, function: Callable[[], T]) -> T:
        """Like :func:`in_thread`, after the previous call has ended."""
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
